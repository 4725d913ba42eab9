//! Layers in mixed precision, on any device: f32 masters, activations and weights in `W`, gradients
//! in `G`.
//!
//! A layer keeps what its backward pass needs.  In the backward pass it fills the unscaled gradients of its
//! parameters and takes the activation gradient on, which leaves through a cell wherever results are
//! rounded ([`Backward::layer`], [`Backward::join`]) and carries its scale wherever elements are only moved.

mod attention;
mod context;
mod convolution;
mod dropout;
mod embedding;
mod generator;
mod gradient;
mod integrity;
mod jet;
mod length_norm;
mod linear;
mod map_head;
mod normalisation;
mod padding;
mod pool;
mod relu;
mod reshape;
mod residual;
mod scaler;
mod sequence;
mod sum;
mod tensor;
mod transposed;

use std::rc::Rc;

use adaloss_core::format::Element;
use adaloss_hal::{
    HasMatmul, Memory, Plain,
    network::{HasConvolve, HasNetwork},
};
use anyhow::{Context, Result};

pub use attention::SelfAttention;
pub use context::{
    Backward, DescribeProduct, EpilogueBuffers, Forward, GradientSink, HasBackward, LossPass,
    Narrowed, NoObserver, NoSink, Observer, ProductOperands, Term, statistics,
};
pub use convolution::Convolutional;
pub use dropout::Dropping;
pub use embedding::Embedding;
pub use generator::Generator;
pub use gradient::Gradient;
pub use integrity::{Checks, Diverged, complete};
pub use jet::{Jet, JetLinear, JetTanh, Stream};
pub use length_norm::LengthNorm;
pub use linear::{Head, Linear};
pub use map_head::MapHead;
pub use normalisation::Normalising;
pub use padding::Padding;
pub use pool::{Averaging, Level, Pooling};
pub use relu::Relu;
pub use reshape::Reshape;
pub use residual::Residual;
pub use scaler::{CELLS, Concluded, Halted, Scaler, Since};
pub use sequence::Sequence;
pub use sum::{MicroBatch, Total};
pub use tensor::{Parameter, Piece, Player, Role, Running, Shape, Tensor, Vector};
pub use transposed::Transposed;

/// An activation; a layer that needs it in the backward pass keeps a reference.
pub type Activation<D, W> = Rc<Tensor<D, W>>;

/// A layer, or several.
pub trait Layer<D: Memory, W: Plain, G: Plain> {
    /// Returns the name in errors.
    fn name(&self) -> &str;

    /// Takes an activation forward.
    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>>;

    /// Takes a gradient back: fills the gradients of the parameters, and returns that of the input,
    /// or none where it is not needed, as at the input of the network.
    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>>;

    /// Appends everything that training changes, in a fixed order.
    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>);
}

/// A boxed layer.
pub type AnyLayer<D, W, G> = Box<dyn Layer<D, W, G>>;

/// A device that has every operation of these layers; every such device is one.
pub trait Machine<W: Element + Plain, G: Element + Plain>:
    HasBackward
    + HasNetwork<W, G>
    + HasConvolve<W, G, f32>
    + HasMatmul<W, W, W>
    + HasMatmul<W, W, f32>
    + HasMatmul<G, W, G>
    + HasMatmul<G, W, f32>
    + 'static
{
}

impl<W, G, D> Machine<W, G> for D
where
    W: Element + Plain,
    G: Element + Plain,
    D: HasBackward
        + HasNetwork<W, G>
        + HasConvolve<W, G, f32>
        + HasMatmul<W, W, W>
        + HasMatmul<W, W, f32>
        + HasMatmul<G, W, G>
        + HasMatmul<G, W, f32>
        + 'static,
{
}

/// Takes what the forward pass kept.
fn kept<T>(slot: &mut Option<T>) -> Result<T> {
    slot.take().context(
        "the backward pass of a layer needs what its forward pass kept: run the forward pass with \
        `training` first",
    )
}

/// Returns a tensor, to be changed in place, that has no other reference.
fn own<T>(shared: Rc<T>) -> Result<T> {
    Rc::try_unwrap(shared).ok().context(
        "a layer cannot change a tensor in place while another layer refers to it: copy the tensor first",
    )
}
