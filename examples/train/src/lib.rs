//! Networks trained in real mixed precision, with every loss-scaling method side by side.
//!
//! Weights and activations are kept in one low-precision format, gradients in another; masters, sums
//! and updates are f32.  Everything goes through the public interfaces of `adaloss-core` and
//! `adaloss-hal`, on any device that has the operations.
//!
//! ```text
//! data -> network (layers, on a device) -> loss -> Backward: Step::loss, layer, join -> Verdict -> optimizer
//!                                                   |
//!                                                observe: asked against real, per tensor
//!                                                probe: gradients against f32, per weight
//!                                                   |
//!                                                results -> report: index.html, CSV, results.json
//! ```

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what cannot be said must not end a run: say!"
)]

pub mod blocks;
pub mod checkpoint;
pub mod console;
pub mod cost;
pub mod data;
pub mod detect;
mod equation;
pub mod feed;
pub mod file;
mod judge;
pub mod layer;
pub mod method;
pub mod model;
pub mod network;
pub mod observe;
pub mod optimizer;
pub mod probe;
pub mod ranks;
pub mod recipe;
pub mod recording;
pub mod report;
pub mod results;
pub mod schedule;
mod sizes;
pub mod task;
pub mod trainer;
pub mod unit;
pub mod weights;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The Rust of the guide to linking.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/linking.md")]
struct LinkingGuide;
