//! What tests of the GPU have in common with the program that is run on one.

#![forbid(unsafe_code)]

pub mod conformance;
pub mod entries;
pub mod steps;
