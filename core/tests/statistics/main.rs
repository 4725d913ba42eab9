//! The room `statistics`: what is counted is counted exactly, in any order.

mod counts;
mod kernels;
mod mass;
mod merge;
mod moments;
mod narrowed;
mod outcome;
mod queries;
