//! Training: its parts, its runs, and the program.
//!
//! One test program for all: what they train is generic over devices and formats, and each program would compile it again.

mod baselines;
mod command_line;
mod faults;
mod gradients;
mod networks;
mod passes;
mod policies;
mod quantities;
mod ranks;
mod readme;
mod recipes;
mod resume;
mod sums;
mod units;
mod wgan;
