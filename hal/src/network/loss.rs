//! The loss and its gradient.

use adaloss_core::unscale::LossSum;

use crate::{
    device::Device,
    kind::OperationKind,
    operation::{Operation, Visitor},
    run::{Run, has},
    shape::Shape,
    space::AddressSpace,
};

/// Computes softmax cross entropy of logits of shape (rows, classes), and its gradient, in f32: one row per image, per
/// pixel or per token.
///
/// The gradient is that of the weighted mean over the rows; a row whose label is no class adds nothing to the mean and has
/// a gradient of +0.  Any other row with a logit that is not finite has a loss and a gradient of NaN.  What the rows add
/// up to is added to the sum in f64 and in the order of the rows or in fixed chunks of them.
pub struct SoftmaxCrossEntropy<'r, 'w, S: AddressSpace> {
    /// Classes, of which there is at least one.
    pub classes: usize,
    /// A row per label.
    pub logits: S::Ref<'r, f32>,
    /// The labels.
    pub labels: S::Ref<'r, u32>,
    /// What each class weighs; without, each weighs 1.
    pub weights: Option<S::Ref<'r, f32>>,
    /// The gradient; a row per label.
    pub gradient: S::Mut<'w, f32>,
    /// What the rows are added to; one element.
    pub sum: S::Mut<'w, LossSum>,
}

impl<S: AddressSpace> Operation for SoftmaxCrossEntropy<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::SoftmaxCrossEntropy;

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Classes(self.classes))
    }

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let rows = S::len(self.labels);
        let elements = rows.saturating_mul(self.classes);
        visitor.needs("a class", self.classes > 0);
        visitor.input("the logits", Some(elements), &mut self.logits);
        visitor.input("the labels", Some(rows), &mut self.labels);
        if let Some(weights) = &mut self.weights {
            visitor.input("the weights of the classes", Some(self.classes), weights);
        }
        visitor.output("the gradient", Some(elements), &mut self.gradient);
        visitor.readout("the sum", &mut self.sum);
    }
}

has! {
    /// A device that has [`SoftmaxCrossEntropy`].
    pub trait HasLoss: for<'r, 'w> Run<SoftmaxCrossEntropy<'r, 'w, <Self as Device>::Space>>
}
