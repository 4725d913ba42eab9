//! Adaptive loss scaling for burn: a scale per layer, chosen while training runs.
//!
//! A model that computes in binary16 or bfloat16 marks its layers, and calls [`Scaler::step`] where it
//! called `loss.backward()`.  A mark is the identity.  It cuts burn's graph into segments, one per layer,
//! so that each segment can go backward at a scale of its own:
//!
//! ```text
//!            w0 (f32)          w1 (f32)          w2 (f32)
//!            v                 v                 v
//! forward    x -> layer 0 -> | -> layer 1 -> | -> layer 2 -> | -> f32 -> loss
//!                          mark 0          mark 1          output
//!
//! backward   burn <--------- | <- burn <---- | <- burn <---- | <--------- burn
//!            at 2^a0   16 bits at 2^a0  16 bits at 2^a1  16 bits at 2^k  f32, unscaled
//!            v                 v                 v
//!            dw0 2^-a0         dw1 2^-a1         dw2 2^-k    unscaled in f32
//! ```
//!
//! What arrives at a mark is narrowed by [`adaloss_core`], through the cell of that mark: the scale `a1` is
//! known before burn multiplies anything of layer 1 by it.  Where several branches arrive,
//! each with its own scale, they are joined in f32.  Every weight of the module that a segment reaches is
//! unscaled with the segment's scale.
//!
//! # The whole way
//!
//! ```
//! use adaloss_burn::{Backward, Scaler};
//! use adaloss_core::{format::Format, policy::Config};
//! use burn::{
//!     module::Param,
//!     tensor::{DType, Device, Tensor},
//! };
//!
//! let device = Device::flex().autodiff();
//! let input = Tensor::<2>::from_floats([[1.0, 2.0]], &device).cast(DType::F16);
//! // The master, in f32.  A single parameter is a module as well.
//! let weight = Param::from_tensor(Tensor::<2>::from_floats([[0.5, -2.0], [0.25, 1.0]], &device));
//!
//! let scaler = Scaler::new(Config::for_format(Format::BINARY16), 1)?;
//! let ended = scaler.step(&weight, || {
//!     let hidden = scaler.layer(0, input.clone().matmul(weight.val().cast(DType::F16)));
//!     let output = scaler.output(hidden.square()); // f32 from here on
//!     // Much too small for binary16, whose smallest number is 6.0e-8.
//!     output.sum() * 1.0e-9
//! })?;
//! match ended {
//!     Backward::Apply(gradients) => {
//!         let gradient = gradients.get::<2>(weight.id).expect("the loss depends on the weight");
//!         let seen = gradient.try_into_vec_as::<f32>()?[0];
//!         assert!((seen - 2.0e-9).abs() < 1.0e-12, "{seen:?}");
//!     }
//!     Backward::Skip { layer, cause } => println!("step skipped: {cause} in {layer}"),
//!     Backward::Stop { layer, cause, .. } => println!("training cannot go on: {cause} in {layer}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Micro-batches
//!
//! [`Scaler::begin`] begins a step of several micro-batches, [`Step::accumulate`] takes each of them forward and backward,
//! and [`Step::finish`] hands out the sum of their gradients or the mean: see the example of [`Step`].
//!
//! # What is promised
//!
//! Between two marks burn computes in the type that the model asks for, and rounds there as it likes.
//! What a segment loses inside is not seen; that its result is not finite is, and then the step is run
//! again, with this segment at a lower scale.  No other backward pass goes past a mark: a `loss.backward()` within a step
//! is an error, since it would find no weight before the marks.  Where a mark stands behind f32 arithmetic ([`Scaler::layer`]
//! says how), nothing is narrowed but by core, and every element that underflows or overflows is counted.
//!
//! # Features
//!
//! `flex`, on by default, is burn's backend for the CPU.  The library itself knows no backend: a program
//! that has another one turns the feature off.

#![forbid(unsafe_code)]

mod checkpoint;
mod dtype;
mod error;
mod scaler;
mod step;
mod tape;
mod walk;
mod weights;

pub use adaloss_plug::Reduction;
pub use error::ScalerError;
pub use scaler::Scaler;
pub use step::{Backward, Step};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
