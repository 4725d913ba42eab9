//! The loss, handed on.

use crate::{
    Operation,
    network::{Loss, LossSum},
    wrap::{Call, Counted, Elements, Hook, Shape, Wrapped},
};

impl<D: Loss, H: Hook<D>> Loss for Wrapped<D, H> {
    fn softmax_cross_entropy(
        &mut self,
        classes: usize,
        logits: D::Ref<'_, f32>,
        labels: D::Ref<'_, u32>,
        weights: D::Ref<'_, f32>,
        gradient: D::Mut<'_, f32>,
        sum: D::Mut<'_, LossSum>,
    ) -> Result<(), H::Error> {
        let call = Call {
            operation: Operation::SoftmaxCrossEntropy,
            elements: D::len(D::shared(&gradient)),
            shape: Some(Shape::Classes(classes)),
        };
        let results = (Elements::<D, f32>(gradient), Counted::<D, LossSum>(sum));
        self.run(call, results, |device, (gradient, sum)| {
            let (gradient, sum) = (gradient.lend(), sum.lend());
            device.softmax_cross_entropy(classes, logits, labels, weights, gradient, sum)
        })
    }
}
