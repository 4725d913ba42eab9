//! Adaptive loss scaling for mixed precision training, for any machine.
//!
//! Activation gradients in a low-precision format underflow to zero or overflow.  Here every
//! gradient tensor carries its own loss scale, an exact power of two, chosen automatically while
//! training runs, so that nobody has to tune a loss scale.  The method is that of Zhao, Vogel and
//! Ahmed, "Adaptive Loss Scaling for Mixed Precision Training" (2019), taken further: a scale is as high as
//! the largest magnitudes of the last steps allow, by a pure function of integers, and one exponent
//! histogram gives the exact number of elements that underflow and overflow at every scale.
//!
//! This crate has no heap, no `std` and no unsafe code.  A gradient passes through its modules in one
//! order, the *corridor*, of which each module is a *room*; each imports only modules before it:
//!
//! ```text
//!         counts exponents     chooses a scale     2^K      into low precision  on to the next layer   back to f32    whole model
//! tensor -> [ statistics ] ----> [ policy ] ----> [ scale ] ---> [ apply ] -----> [ propagate ] ------> [ unscale ] -> [ scaler ]
//!            Histogram,           Config, Cell,    Scale          fills Outcome    Scaled<T>             Verdict        LossScaler,
//!            Statistics,          note, finish,                                                                         replay,
//!            Outcome              certify                                                                               checkpoint
//! below all of them, the words they share: [ format ] what a bit pattern means, how rounding goes
//! ```
//!
//! # Terms
//!
//! A [cell](policy::Cell) remembers one gradient tensor's scale and what the next one depends on; the caller
//! numbers the cells from 0, and the loss has one of its own.  A [step](scaler::Step) is one backward pass, or
//! several that are accumulated.  A [visit](scaler::OpenVisit) is what happens to one tensor at its cell: it hands out
//! [passes](apply::Pass), in each of which the caller's f32 results are narrowed and counted; one, and one more (a
//! *replay*) where they overflow.  A [place](unscale::Place) says which gradient is meant.  The *ceiling* of a tensor is the greatest
//! scale at which its largest magnitude does not overflow; *headroom* is how many binades (powers of two) a
//! policy stays below the one it expects.  A [certificate](policy::Certificate) is made now and then from a histogram:
//! it says what the scale in use loses, and promises that this stays within a tolerance.
//!
//! # A whole backward pass
//!
//! A linear layer `y = W x` goes back: the loss gradient is narrowed to binary16, the weight
//! gradient is computed in f32 and unscaled, the input gradient goes on at a scale of its own.
//!
//! ```
//! use adaloss_core::{
//!     format::{Element, Format, f16},
//!     policy::Config,
//!     scaler::LossScaler,
//!     unscale::{Unscaled, Verdict},
//! };
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let weight = [[0.5_f32, -2.0], [0.25, 1.0]];
//!     let input = [1.0_f32, 2.0];
//!     // Much too small for binary16, whose smallest number is 6.0e-8.
//!     let loss_gradient = [3.0e-9_f32, -5.0e-10];
//!     let (mut first, mut second) = ([f16::ZERO; 2], [f16::ZERO; 2]);
//!
//!     let mut scaler = LossScaler::<16>::new(Config::for_format(Format::BINARY16));
//!     let mut step = scaler.begin();
//!     let gradient = step.loss().apply(&loss_gradient, &mut first)?; // values that are kept in f32
//!
//!     let weight_gradient = step.unscale(0, &gradient, |g, inverse| {
//!         let unscaled = [g[0], g[1]].map(|g| input.map(|x| g.widen() * x * inverse));
//!         (unscaled, Unscaled::of(unscaled.as_flattened()))
//!     });
//!     assert!((weight_gradient[0][1] - 6.0e-9).abs() < 1e-11);
//!
//!     let g = gradient.scaled();
//!     let column = |j: usize| g[0].widen() * weight[0][j] + g[1].widen() * weight[1][j];
//!     let mut visit = step.layer(0, &gradient)?;
//!     while let Some(mut pass) = visit.next_pass() {
//!         pass.apply(&[column(0), column(1)], &mut second)?; // values that are computed in each pass
//!     }
//!     let input_gradient = visit.finish(second)?;
//!     let unscaled = input_gradient.unscale(|g, inverse| g.map(|g| g.widen() * inverse));
//!     assert!((unscaled[1] + 6.5e-9).abs() < 1e-11);
//!
//!     let visit = step.last().expect("a layer was visited");
//!     assert_eq!(visit.outcome.underflow, 0); // nothing was lost
//!     match step.finish() {
//!         Verdict::Apply => { /* the optimizer may use the weight gradient */ }
//!         Verdict::Skip { layer, cause } => println!("step skipped: {cause} in {layer}"),
//!         Verdict::Stop { layer, cause, .. } => println!("training cannot go on: {cause} in {layer}"),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What is deterministic
//!
//! Histograms and outcomes are pure functions of the f32 bits observed, whatever the order.
//! [`policy::note`] and [`policy::finish`] are pure integer functions under `measured` and `amax`, and a step
//! decides the same however it is split; `backoff` multiplies two f64 numbers as IEEE 754 says; `normal` and `range` use
//! f64 through `libm` only.  The bits of a product are not the same on devices that accumulate in another
//! order.
//!
//! # Features
//!
//! None.  The crate is the same everywhere.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod format;
pub mod scale;
pub mod statistics;

pub mod policy;

pub mod apply;
pub mod propagate;
pub mod unscale;

pub mod scaler;
