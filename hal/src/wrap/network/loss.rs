//! The loss, handed on.

use crate::{
    AddressSpace, Mut, OperationKind, Ref,
    network::{Loss, LossSum},
    wrap::{Call, Counted, Elements, Hook, Shape, Wrapped},
};

impl<D: Loss, H: Hook<D>> Loss for Wrapped<D, H> {
    fn softmax_cross_entropy(
        &mut self,
        classes: usize,
        logits: Ref<'_, D, f32>,
        labels: Ref<'_, D, u32>,
        weights: Ref<'_, D, f32>,
        gradient: Mut<'_, D, f32>,
        sum: Mut<'_, D, LossSum>,
    ) -> Result<(), H::Error> {
        let call = Call {
            operation: OperationKind::SoftmaxCrossEntropy,
            elements: D::Space::len(D::Space::shared(&gradient)),
            shape: Some(Shape::Classes(classes)),
        };
        let results = (Elements::<D::Space, f32>(gradient), Counted::<D::Space, LossSum>(sum));
        self.hooked(call, results, |device, (gradient, sum)| {
            let (gradient, sum) = (gradient.lend(), sum.lend());
            device.softmax_cross_entropy(classes, logits, labels, weights, gradient, sum)
        })
    }
}
