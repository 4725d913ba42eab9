//! Burn's optimizers clip gradients: after they were unscaled.

use burn::{grad_clipping::GradientClippingConfig, module::Param, optim::SgdConfig, tensor::DType};

use crate::{bits, by_burn, gradients, of, scaler, tensor, values};

/// So small that the scale is far from 1.
const SIZE: f32 = 1.0 / 4096.0;

/// Between the gradients of the weight, which are `SIZE` times 0.5, 1 and 8.
const THRESHOLD: f32 = 2.0 * SIZE;

/// Returns the weight after a step; every number on the way is exact in binary16, but for the norm.
fn updated(clipping: GradientClippingConfig, marks: bool) -> Vec<f32> {
    let weight = Param::from_tensor(tensor(vec![1.0, -2.0, 4.0], [1, 3]));
    let slopes = tensor(vec![0.5, 1.0, 8.0], [1, 3]);
    let gradient = if marks {
        let scaler = scaler(1);
        let gradient = gradients(&scaler, &weight, || {
            let x = scaler.layer(0, weight.val().cast(DType::F16));
            scaler.output(x * slopes.clone().cast(DType::F16)).sum() * SIZE
        });
        assert!(scaler.visits().iter().all(|visit| visit.outgoing.log2() > 4));
        gradient
    } else {
        by_burn(&weight, &((weight.val() * slopes).sum() * SIZE))
    };
    assert_eq!(of(&gradient, &weight), [0.5, 1.0, 8.0].map(|x| x * SIZE));
    let mut optimizer = SgdConfig::new().with_gradient_clipping(Some(clipping)).init();
    values(optimizer.step(f64::from(1.0 / SIZE), weight, gradient).val())
}

#[test]
fn clipping_by_value_sees_unscaled_gradients() {
    let clip = || GradientClippingConfig::Value(THRESHOLD);
    assert_eq!(updated(clip(), true), [0.5, -3.0, 2.0]);
    assert_eq!(updated(clip(), true), updated(clip(), false));
}

#[test]
fn clipping_by_norm_sees_unscaled_gradients() {
    let clip = || GradientClippingConfig::Norm(THRESHOLD);
    assert_eq!(bits(&updated(clip(), true)), bits(&updated(clip(), false)));
    assert_ne!(updated(clip(), true), updated(GradientClippingConfig::Norm(1.0e9), true));
}
