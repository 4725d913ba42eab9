//! The room `statistics`: what is counted is counted exactly, in any order.

#[path = "../oracle/mod.rs"]
mod oracle;

mod counts;
mod mass;
mod merge;
mod moments;
mod narrowed;
mod outcome;
mod queries;
