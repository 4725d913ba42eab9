//! A device that computes layers and makes one mistake, as a check of the checks: each is found.

#![forbid(unsafe_code)]

mod attention;
mod caught;
mod device;
mod features;
mod images;
mod mistake;
mod training;
mod unruly;
