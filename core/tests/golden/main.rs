//! Golden vectors: what the authors' code, PyTorch and Chainer returned, against this crate.
//!
//! `ADALOSS_VECTORS=DIR cargo test -p adaloss-core --test golden` checks every file below `DIR`;
//! without it, those in `vectors/`, whose README says where they come from.  Each file is a test;
//! the table that is printed at the end counts its records, those that passed, and those that were
//! excepted with the reason.  A record passes when every comparison holds: scales and bits exactly,
//! real numbers within the tolerances of `adaloss_oracle`.  The reasons for exceptions are those of `exceptions.rs`.

mod exceptions;
mod files;
mod harness;
mod json;
mod report;
mod tensor;

mod approximate;
mod cast;
mod chainer;
mod extremes;
mod join;
mod methods;
mod network;
mod period;
mod readings;
mod resnet;
mod scalar;
mod torch;
mod torch_misc;

fn main() -> std::process::ExitCode {
    harness::main()
}
