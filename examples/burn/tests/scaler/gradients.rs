//! Gradients that binary16 cannot hold arrive.

use adaloss_burn::Scaler;
use adaloss_core::{format::Format, policy::Config, scale::Scale, unscale::Place};
use burn::{
    module::Param,
    tensor::{DType, Tensor, activation::relu, module::conv2d, ops::ConvOptions},
};

use crate::{Weight, bits, by_burn, generator, gradients, matrix, of, scaler, tensor, weight};

/// Small enough that burn's own backward pass in binary16 returns nothing but zeros.
const TINY: f64 = 1.0e-9;

fn weights() -> Vec<Weight> {
    let mut rng = generator();
    (0..3).map(|_| weight(&mut rng, 32)).collect()
}

fn samples() -> Tensor<2> {
    matrix(&mut generator(), 16, 32, 1.0)
}

/// Returns a loss of three layers; `mark` is called behind each.
fn loss(
    weights: &[Weight],
    dtype: DType,
    mark: impl Fn(usize, Tensor<2>) -> Tensor<2>,
) -> Tensor<1> {
    let mut x = samples().cast(dtype);
    for (id, weight) in weights.iter().enumerate() {
        x = mark(id, relu(x.matmul(weight.val().cast(dtype))));
    }
    x.cast(DType::F32).square().mean() * TINY
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Some ten roundings to 11 bits on the way, of which few add up.
#[track_caller]
fn assert_close(seen: &[f32], exact: &[f32]) {
    assert!(norm(exact) > 0.0, "there is nothing to compare");
    let error = seen.iter().zip(exact).map(|(a, b)| a - b).collect::<Vec<_>>();
    let relative = norm(&error) / norm(exact);
    assert!(relative < 2.0_f64.powi(-8), "{relative}");
}

#[test]
fn tiny_gradients_are_those_of_f32_up_to_rounding() {
    let (weights, scaler) = (weights(), scaler(2));
    let exact = by_burn(&weights, &loss(&weights, DType::F32, |_, x| x));
    let lost = by_burn(&weights, &loss(&weights, DType::F16, |_, x| x));
    // The second step uses the scales that the first one decided.
    for _ in 0..2 {
        let seen = gradients(&scaler, &weights, || {
            loss(&weights, DType::F16, |id, x| match id {
                2 => scaler.output(x),
                _ => scaler.layer(id, x),
            })
        });
        for weight in &weights {
            assert_eq!(norm(&of(&lost, weight)), 0.0, "there is nothing to rescue");
            assert_close(&of(&seen, weight), &of(&exact, weight));
        }
    }
    assert_eq!(scaler.totals().steps, 2);
}

#[test]
fn every_mark_reports_the_scale_that_its_gradient_left_with() {
    let (weights, scaler) = (weights(), scaler(2));
    let _ = gradients(&scaler, &weights, || {
        loss(&weights, DType::F16, |id, x| match id {
            2 => scaler.output(x),
            _ => scaler.layer(id, x),
        })
    });
    let visits = scaler.visits();
    let places = visits.iter().map(|visit| visit.place).collect::<Vec<_>>();
    assert_eq!(places, [Place::Loss, Place::Layer(1), Place::Layer(0)]);
    for visit in &visits {
        assert!(visit.outgoing > Scale::new(16).unwrap(), "{visit:?}");
        // The first scale leaves a binade free, that of the next step none.
        let next = scaler.cell(visit.place).unwrap().scale();
        assert_eq!(next.log2(), visit.outgoing.log2() + 1);
        assert_eq!((visit.outcome.underflow, visit.outcome.overflow), (0, 0));
    }
    assert_eq!(visits[1].incoming, visits[0].outgoing);
    assert_eq!(scaler.totals().certificates, 3);
}

#[test]
fn a_weight_of_several_segments_has_all_of_its_gradient() {
    let mut rng = generator();
    let shared = weight(&mut rng, 8);
    let bias = Param::from_tensor(tensor(vec![0.0; 8], [1, 8]));
    let samples = matrix(&mut rng, 4, 8, 1.0);
    let scaler = scaler(1);
    let loss = |dtype: DType, marks: bool| {
        // A cast for each segment: burn goes through none twice.
        let weight = || shared.val().cast(dtype);
        let x = samples.clone().cast(dtype).matmul(weight());
        let x = if marks { scaler.layer(0, x) } else { x };
        let x = x.matmul(weight());
        let x = if marks { scaler.output(x) } else { x.cast(DType::F32) };
        // The third use and the bias are between the output and the loss, where nothing is scaled.
        (x + bias.val()).matmul(shared.val()).square().mean()
    };
    let module = vec![shared.clone(), bias.clone()];
    let exact = by_burn(&module, &loss(DType::F32, false));
    let seen = gradients(&scaler, &module, || loss(DType::F16, true));
    for weight in [&shared, &bias] {
        assert_close(&of(&seen, weight), &of(&exact, weight));
    }
}

#[test]
fn a_model_in_bf16_has_the_gradients_of_burn_in_bf16_bit_for_bit() {
    // As wide as f32: there is nothing to rescue, and the scale stays 1.
    let weights = weights();
    let expected = by_burn(&weights, &loss(&weights, DType::BF16, |_, x| x));
    let scaler = Scaler::new(Config::for_format(Format::BFLOAT16), 2).unwrap();
    let seen = gradients(&scaler, &weights, || {
        loss(&weights, DType::BF16, |id, x| match id {
            2 => scaler.output(x),
            _ => scaler.layer(id, x),
        })
    });
    for weight in &weights {
        assert_eq!(bits(&of(&seen, weight)), bits(&of(&expected, weight)));
    }
    assert_eq!(scaler.visits().len(), 3);
}

#[test]
fn convolutions_of_a_residual_block_have_their_gradients_too() {
    let mut rng = generator();
    let mut kernel = |from: usize| {
        let bound = (3.0 / (9 * from) as f32).sqrt();
        Param::from_tensor(matrix(&mut rng, 8 * from, 9, bound).reshape([8, from, 3, 3]))
    };
    let kernels = vec![kernel(3), kernel(8), kernel(8)];
    let samples = matrix(&mut rng, 4 * 3, 64, 1.0).reshape([4, 3, 8, 8]);
    let loss = |dtype: DType, mark: &dyn Fn(usize, Tensor<4>) -> Tensor<4>| {
        let layer = |x: Tensor<4>, id: usize, stride: usize| {
            let kernel = kernels[id].val().cast(dtype);
            relu(conv2d(x, kernel, None, ConvOptions::new([stride; 2], [1; 2], [1; 2], 1)))
        };
        let stem = mark(0, layer(samples.clone().cast(dtype), 0, 2));
        let branch = mark(1, layer(stem.clone(), 1, 1));
        let sum = mark(2, layer(branch, 2, 1) + stem);
        sum.cast(DType::F32).square().mean() * TINY
    };
    let exact = by_burn(&kernels, &loss(DType::F32, &|_, x| x));
    let scaler = scaler(2);
    let seen = gradients(&scaler, &kernels, || {
        loss(DType::F16, &|id, x| match id {
            2 => scaler.output(x),
            _ => scaler.layer(id, x),
        })
    });
    for kernel in &kernels {
        assert_close(&of(&seen, kernel), &of(&exact, kernel));
    }
}
