//! Adaptive loss scaling for candle: a scale per layer, chosen while training runs.
//!
//! A model that computes in binary16 or bfloat16 marks its layers, and calls [`Step::backward`] where it
//! called `loss.backward()`.  A mark is the identity.  It cuts candle's graph into segments, one per layer,
//! so that each segment can go backward at a scale of its own:
//!
//! ```text
//!            w0 (f32)          w1 (f32)          w2 (f32)
//!            v                 v                 v
//! forward    x -> layer 0 -> | -> layer 1 -> | -> layer 2 -> | -> f32 -> loss
//!                          mark 0          mark 1          output
//!
//! backward   candle <------- | <- candle <-- | <- candle <-- | <------- candle
//!            at 2^a0   16 bits at 2^a0  16 bits at 2^a1  16 bits at 2^k  f32, unscaled
//!            v                 v                 v
//!            dw0 2^-a0         dw1 2^-a1         dw2 2^-k    unscaled in f32
//! ```
//!
//! What arrives at a mark is narrowed by [`adaloss_core`], through the cell of that mark: the scale `a1` is
//! known before candle multiplies anything of layer 1 by it.  Where several branches arrive,
//! each with its own scale, they are joined in f32.  Every weight that a segment reaches is unscaled with
//! the segment's scale, so that none can be forgotten.
//!
//! # The whole way
//!
//! ```
//! use adaloss_candle::{Backward, Scaler};
//! use adaloss_core::{format::Format, policy::Config};
//! use candle_core::{DType, Device, Tensor, Var};
//!
//! let input = Tensor::new(&[[1.0_f32, 2.0]], &Device::Cpu)?.to_dtype(DType::F16)?;
//! let weight = Var::new(&[[0.5_f32, -2.0], [0.25, 1.0]], &Device::Cpu)?; // the master, in f32
//!
//! let scaler = Scaler::new(Config::for_format(Format::BINARY16), 1)?;
//! let step = scaler.begin()?;
//! let hidden = scaler.layer(0, &input.matmul(&weight.to_dtype(DType::F16)?)?)?;
//! let output = scaler.output(&hidden.relu()?)?; // f32 from here on
//! // Much too small for binary16, whose smallest number is 6.0e-8.
//! let loss = (output.sum_all()? * 1.0e-9)?;
//! match step.backward(&loss)? {
//!     Backward::Apply(gradients) => {
//!         let gradient = gradients.get(&weight).expect("the loss depends on the weight");
//!         let [row, _] = &gradient.to_vec2::<f32>()?[..] else { unreachable!() };
//!         assert!((row[0] - 1.0e-9).abs() < 1.0e-12, "{row:?}");
//!     }
//!     Backward::Skip { layer, cause } => println!("step skipped: {cause} in {layer}"),
//!     Backward::Stop { layer, cause, .. } => println!("training cannot go on: {cause} in {layer}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Micro-batches
//!
//! [`Step::accumulate`] goes backward from the loss of one of several micro-batches, and [`Step::finish`] hands out the
//! sum of their gradients or the mean: see the example of [`Step`].
//!
//! # What is promised
//!
//! Between two marks candle computes in the dtype that the model asks for, and rounds there as it likes.
//! What a segment loses inside is not seen; that its result is not finite is, and then the segment is run
//! again at a lower scale.  No other backward pass goes past a mark: candle's own `loss.backward()` on a loss of a step
//! is an error, since its store would lack every weight before the marks.  Where a mark stands behind f32 arithmetic ([`Scaler::layer`] says how), nothing
//! is narrowed but by core, and every element that underflows or overflows is counted.

#![forbid(unsafe_code)]

mod checkpoint;
mod cut;
mod dtype;
mod error;
mod scaler;
mod segment;
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
