//! What layers need beyond the corridor, each operation a value.
//!
//! Activations and gradients are row-major with the channels last: an image batch has the shape
//! (batch, height, width, channels), a batch of sequences (batch, tokens, features), and both are
//! matrices of rows and columns to everything that works per channel.  Activations and weights are
//! of one format, gradients of another; results are f32 and end in an [`Epilogue`](crate::Epilogue),
//! like those of a product.  What only moves elements rounds nothing and has none: it carries the
//! scale through.
//!
//! ```text
//! Convolve, Normalise, AveragePool, Attend, Dropout --> f32 results --> epilogue
//! MaxPool, Unpool, Relu, Embed -----------------------> the same elements, moved or zeroed
//! SoftmaxCrossEntropy, SgdStep, Accumulate -----------> f32 only
//! ```
//!
//! Sums of products and of gradients are f32 and start at +0, or at a bias where there is one; how far another order may move them
//! is what `adaloss_conformance::network` allows.

mod accumulate;
mod attend;
mod convolve;
mod dropout;
mod embed;
mod loss;
mod normalise;
mod pointwise;
mod pool;
mod update;

use adaloss_core::format::Element;

use crate::{plain::Plain, run::has};

pub use crate::shape::{Attention, Axis, Convolution, Normalisation, Pooling};
pub use accumulate::{Accumulate, Blend, HasAccumulate};
pub use adaloss_core::unscale::LossSum;
pub use attend::{Attend, AttendInput, HasAttend};
pub use convolve::{Convolve, ConvolveInput, ConvolveWeight, HasConvolve};
pub use dropout::{Dropout, HasDropout, Mask};
pub use embed::{Embed, EmbedTable, HasEmbed};
pub use loss::{HasLoss, SoftmaxCrossEntropy};
pub use normalise::{HasNormalise, Moments, Normalise, NormaliseInput, NormaliseSums};
pub use pointwise::{HasRelu, Relu, ReluInput};
pub use pool::{AveragePool, AveragePoolInput, HasPool, MaxPool, MaxPoolInput, Pick, Unpool};
pub use update::{AdamW, AdamWStep, HasUpdate, Sgd, SgdStep, SquareNorm};

has! {
    /// A device that has every operation of layers, with activations and weights in `W` and gradients in `G`, in the combinations
    /// that training uses.
    pub trait HasNetwork<W, G>:
        HasConvolve<W, W, W>
        + HasConvolve<G, W, G>
        + HasConvolve<G, W, f32>
        + HasConvolve<W, W, f32>
        + HasNormalise<W, G>
        + HasPool<W>
        + HasPool<G>
        + HasRelu<W, G>
        + HasDropout<W>
        + HasDropout<G>
        + HasAccumulate
        + HasEmbed<W, G>
        + HasAttend<W, G>
        + HasLoss
        + HasUpdate
}
