//! A mark changes nothing but the scale.

use adaloss_burn::{Scaler, ScalerError};
use adaloss_core::{format::Format, policy::Config};
use burn::{
    module::Param,
    tensor::{DType, Device, Tensor, activation::relu},
};

use crate::{
    bits, by_burn, device, generator, gradients, matrix, of, scaler, tensor, values, weight,
};

#[test]
fn outside_of_a_step_a_mark_is_the_tensor_itself() {
    let weight = Param::from_tensor(tensor(vec![1.0, 2.0], [1, 2]));
    let scaler = scaler(1);
    let marked = scaler.layer(0, weight.val());
    // Had the graph been cut there would be no gradient.
    let gradient = by_burn(&weight, &(marked * 3.0).sum());
    assert_eq!(of(&gradient, &weight), [3.0, 3.0]);
    let output = scaler.output(weight.val().cast(DType::F16));
    assert_eq!(output.dtype(), DType::F32);
    assert_eq!(of(&by_burn(&weight, &output.sum()), &weight), [1.0, 1.0]);
    assert_eq!(scaler.visits(), []);
}

#[test]
fn in_a_step_a_mark_has_the_same_values() {
    let numbers = vec![1.0, -0.0, 3.5, f32::INFINITY, 1.0e-7, -8.0];
    let weight = Param::from_tensor(tensor(numbers, [2, 3]));
    let scaler = scaler(1);
    for dtype in [DType::F32, DType::F16] {
        let _ = scaler.step(&weight, || {
            // Neither contiguous nor at the beginning of its storage.
            let output = weight.val().cast(dtype).transpose().narrow(0, 1, 2);
            let marked = scaler.layer(0, output.clone());
            assert_eq!((marked.dtype(), marked.dims()), (dtype, output.dims()));
            assert_eq!(bits(&values(marked.clone())), bits(&values(output)));
            scaler.output(marked).sum()
        });
    }
}

#[test]
fn what_depends_on_no_weight_is_left_alone() {
    let weight = Param::from_tensor(tensor(vec![1.0, 2.0], [1, 2]));
    let scaler = scaler(2);
    let gradient = gradients(&scaler, &weight, || {
        let samples = scaler.layer(0, tensor(vec![3.0, 4.0], [1, 2]));
        assert!(!samples.is_tracked());
        scaler.output(samples * weight.val()).sum()
    });
    assert_eq!(of(&gradient, &weight), [3.0, 4.0]);
    assert_eq!(scaler.visits().len(), 1);
}

#[test]
fn without_autodiff_marks_do_nothing() {
    let scaler = scaler(1);
    let x = Tensor::<1>::from_floats([1.0, 2.0], &Device::flex());
    let mut called = 0;
    let none = Param::from_tensor(tensor(vec![1.0], [1, 1]));
    let ended = scaler.step(&none, || {
        called += 1;
        let marked = scaler.layer(0, x.clone().cast(DType::F16));
        assert!(!marked.is_autodiff());
        scaler.output(marked).sum()
    });
    assert_eq!(ended.unwrap_err(), ScalerError::Unreached { marks: 0 });
    assert_eq!(called, 1);
}

#[test]
fn in_f32_gradients_are_those_of_burn_bit_for_bit() {
    let mut rng = generator();
    let weights = [weight(&mut rng, 16), weight(&mut rng, 16), weight(&mut rng, 16)];
    let samples = matrix(&mut rng, 8, 16, 1.0);
    let scaler = Scaler::new(Config::for_format(Format::BINARY32), 2).unwrap();
    let loss = |marks: bool| {
        let mut x = samples.clone();
        for (id, weight) in weights.iter().enumerate() {
            x = relu(x.matmul(weight.val()));
            x = match (marks, id) {
                (false, _) => x,
                (true, 2) => scaler.output(x),
                (true, _) => scaler.layer(id, x),
            };
        }
        x.square().mean()
    };
    let expected = by_burn(&weights, &loss(false));
    let seen = gradients(&scaler, &weights, || loss(true));
    assert_eq!(seen.len(), 3);
    for weight in &weights {
        assert_eq!(bits(&of(&seen, weight)), bits(&of(&expected, weight)));
    }
    assert_eq!(scaler.visits().len(), 3);
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    let mut rng = generator();
    let weights = [weight(&mut rng, 16), weight(&mut rng, 16)];
    let samples = matrix(&mut rng, 8, 16, 1.0);
    let scaler = scaler(1);
    let seen = [device(), device().gradient_checkpointing()].map(|device| {
        let weights = weights.clone().map(|weight| {
            Param::from_tensor(Tensor::<2>::from_data(weight.val().into_data(), &device))
        });
        let samples = Tensor::<2>::from_data(samples.to_data(), &device);
        let seen = gradients(&scaler, &weights, || {
            let [a, b] = weights.clone().map(|weight| weight.val().cast(DType::F16));
            let x = relu(samples.clone().cast(DType::F16).matmul(a)).tanh();
            let x = scaler.layer(0, x);
            scaler.output(x.matmul(b).tanh()).square().mean()
        });
        weights.map(|weight| of(&seen, &weight))
    });
    assert_eq!(seen[0], seen[1]);
}
