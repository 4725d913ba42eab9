//! The room `policy`: decisions against a search over every scale and element, triggers against a
//! simulated run, and what a cell and a configuration are as bytes.

mod amax;
mod backoff;
mod cell;
mod certificate;
mod config;
mod measured;
mod moved;
mod normal;
mod properties;
mod range;
mod recovery;
mod tensor;
mod triggers;
