//! wip
#![no_std]
#![forbid(unsafe_code)]
pub mod format;
pub mod policy;
pub mod scale;
pub mod statistics;
