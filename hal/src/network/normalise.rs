//! Batch and layer normalisation, and by the root mean square.

use adaloss_core::format::Element;

use crate::{
    device::Device,
    epilogue::Epilogue,
    kind::OperationKind,
    narrow::HasNarrow,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    shape::{Normalisation, Shape},
    space::AddressSpace,
};

/// Computes the means, then the biased variances, of the columns or rows.
///
/// Sums are taken about a value near the mean or in two passes, so that the variance of a column far from zero keeps its
/// digits.  Without elements both are 0.  Where the normalisation is not centred, means are 0 and variances are the means of the
/// squares.
pub struct Moments<'r, 'w, S: AddressSpace, W: Plain> {
    /// The shape.
    pub normalisation: Normalisation,
    /// The matrix.
    pub input: S::Ref<'r, W>,
    /// Means, then variances.
    pub to: S::Mut<'w, f32>,
}

impl<S: AddressSpace, W: Element + Plain> Operation for Moments<'_, '_, S, W> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Moments;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Normalisation(self.normalisation))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let shape = self.normalisation;
        visitor.input("the input", Some(shape.elements()), &mut self.input);
        visitor.output("the moments", Some(shape.moments()), &mut self.to);
    }
}

/// Normalises with given moments: those of the input, or running ones.  Means are subtracted as they are given.
pub struct Normalise<'r, 'w, S: AddressSpace, W: Plain> {
    /// The shape.
    pub normalisation: Normalisation,
    /// The matrix.
    pub input: S::Ref<'r, W>,
    /// Means, then variances.
    pub moments: S::Ref<'r, f32>,
    /// Gains, then offsets.
    pub affine: S::Ref<'r, f32>,
    /// The matrix that leaves.
    pub to: S::Mut<'w, W>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, W: Element + Plain> Operation for Normalise<'_, '_, S, W> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Normalise;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Normalisation(self.normalisation))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let shape = self.normalisation;
        visitor.input("the input", Some(shape.elements()), &mut self.input);
        visitor.input("the moments", Some(shape.moments()), &mut self.moments);
        visitor.input("the gains and offsets", Some(shape.affine()), &mut self.affine);
        visitor.output("the output", Some(shape.elements()), &mut self.to);
        visitor.epilogue::<W>(&mut self.epilogue);
    }
}

/// Computes, per column, the sum of `gradient x̂` and then of `gradient`: the gradients of gains and offsets, which carry the
/// scale of the gradient.
pub struct NormaliseSums<'r, 'w, S: AddressSpace, G: Plain, W: Plain> {
    /// The shape.
    pub normalisation: Normalisation,
    /// The gradient of the output.
    pub gradient: S::Ref<'r, G>,
    /// The matrix that arrived.
    pub input: S::Ref<'r, W>,
    /// Its moments.
    pub moments: S::Ref<'r, f32>,
    /// The gradients of the gains, then of the offsets.
    pub to: S::Mut<'w, f32>,
}

impl<S, G, W> Operation for NormaliseSums<'_, '_, S, G, W>
where
    S: AddressSpace,
    G: Element + Plain,
    W: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::NormaliseSums;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Normalisation(self.normalisation))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let shape = self.normalisation;
        visitor.input("the gradient", Some(shape.elements()), &mut self.gradient);
        visitor.input("the input", Some(shape.elements()), &mut self.input);
        visitor.input("the moments", Some(shape.moments()), &mut self.moments);
        visitor.output("the gradients of gains and offsets", Some(shape.affine()), &mut self.to);
    }
}

/// Computes the gradient of the input, where the moments were those of the input:
/// `(h - mean(h) - x̂ mean(h x̂)) / sqrt(variance + epsilon)` with `h = gain gradient` and the means over the axis; over the
/// rows they follow from the sums.  Where the normalisation is not centred, nothing is taken for `mean(h)`.
pub struct NormaliseInput<'r, 'w, S: AddressSpace, G: Plain, W: Plain> {
    /// The shape.
    pub normalisation: Normalisation,
    /// The gradient of the output.
    pub gradient: S::Ref<'r, G>,
    /// The matrix that arrived.
    pub input: S::Ref<'r, W>,
    /// Its moments.
    pub moments: S::Ref<'r, f32>,
    /// Gains, then offsets.
    pub affine: S::Ref<'r, f32>,
    /// What [`NormaliseSums`] left.
    pub sums: S::Ref<'r, f32>,
    /// The gradient of the input.
    pub to: S::Mut<'w, G>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S, G, W> Operation for NormaliseInput<'_, '_, S, G, W>
where
    S: AddressSpace,
    G: Element + Plain,
    W: Element + Plain,
{
    type Space = S;

    const KIND: OperationKind = OperationKind::NormaliseInput;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Normalisation(self.normalisation))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let shape = self.normalisation;
        visitor.input("the gradient", Some(shape.elements()), &mut self.gradient);
        visitor.input("the input", Some(shape.elements()), &mut self.input);
        visitor.input("the moments", Some(shape.moments()), &mut self.moments);
        visitor.input("the gains and offsets", Some(shape.affine()), &mut self.affine);
        visitor.input("the sums", Some(shape.affine()), &mut self.sums);
        visitor.output("the gradient of the input", Some(shape.elements()), &mut self.to);
        visitor.epilogue::<G>(&mut self.epilogue);
    }
}

has! {
    /// A device that normalises activations in `W` and takes gradients in `G` back through it.
    pub trait HasNormalise<W, G>:
        HasNarrow<W>
        + HasNarrow<G>
        + for<'r, 'w> Run<Moments<'r, 'w, <Self as Device>::Space, W>>
        + for<'r, 'w> Run<Normalise<'r, 'w, <Self as Device>::Space, W>>
        + for<'r, 'w> Run<NormaliseSums<'r, 'w, <Self as Device>::Space, G, W>>
        + for<'r, 'w> Run<NormaliseInput<'r, 'w, <Self as Device>::Space, G, W>>
}
