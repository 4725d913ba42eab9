//! A device of another shape: handles instead of slices, one format, a queue instead of calls.
//!
//! It shares the traits with the portable device and nothing else, so that what fits both fits most.

#![forbid(unsafe_code)]

mod ending;
mod memory;
mod operations;
mod random;
mod sabotage;
mod scaler;

mod chain;
mod conforms;
mod faults;
mod twin;
