//! What a model can get wrong, and the sentence that it is answered with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use adaloss_burn::{Backward, Scaler, ScalerError};
use adaloss_core::{
    format::Format,
    policy::{Config, Preset},
};
use burn::{
    module::Param,
    tensor::{DType, Tensor},
};

use crate::{Weight, gradients, of, scaler, tensor};

fn weight() -> Weight {
    Param::from_tensor(tensor(vec![1.0, 2.0], [1, 2]))
}

/// Does a step that is a mistake, from a weight in binary16 to a loss.
#[track_caller]
fn assert_says<const D: usize>(
    scaler: &Scaler,
    expected: &str,
    loss: impl Fn(Tensor<2>) -> Tensor<D>,
) {
    let weight = weight();
    let error = scaler
        .step(&weight, || loss(weight.val().cast(DType::F16)))
        .expect_err("this is a mistake");
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(scaler.totals().steps, 0);
}

#[test]
fn a_layer_that_is_not_there() {
    let scaler = scaler(2);
    let expected = "layer 2 was marked and the scaler was made for 2";
    assert_says(&scaler, expected, |x| scaler.output(scaler.layer(2, x)).sum());
}

#[test]
fn a_layer_that_is_marked_twice() {
    let scaler = scaler(2);
    assert_says(&scaler, "layer 1 was marked twice in one step", |x| {
        scaler.output(scaler.layer(1, scaler.layer(1, x))).sum()
    });
    assert_says(&scaler, "the network's output was marked twice in one step", |x| {
        scaler.output(scaler.output(x)).sum()
    });
}

#[test]
fn of_two_mistakes_the_first_is_told() {
    let scaler = scaler(1);
    assert_says(&scaler, "layer 7 was marked", |x| {
        scaler.output(scaler.output(scaler.layer(7, x))).sum()
    });
}

#[test]
fn a_type_that_cannot_hold_the_gradients() {
    let scaler = scaler(1);
    let expected = "layer 0: tensors of type bf16 cannot hold gradients in Binary16";
    assert_says(&scaler, expected, |x| {
        scaler.output(scaler.layer(0, x.cast(DType::BF16)).cast(DType::F32)).sum()
    });
    assert_says(&scaler, "the loss gradient: tensors of type bf16", |x| {
        scaler.output(x.cast(DType::BF16)).sum()
    });
}

#[test]
fn a_policy_that_wants_operands() {
    let config = Config::preset(Preset::Paper, Format::BINARY16);
    let error = Scaler::new(config, 1).unwrap_err();
    assert!(error.to_string().contains("the policy normal decides from the operands"), "{error}");
}

#[test]
fn two_steps_at_once() {
    let (scaler, weight) = (scaler(1), weight());
    let seen = gradients(&scaler, &weight, || {
        let second = scaler.step(&weight, || weight.val().sum()).unwrap_err();
        assert_eq!(second, ScalerError::UnderWay);
        assert!(second.to_string().contains("a step was begun while another one is under way"));
        // The first one still is.
        scaler.output(weight.val()).sum()
    });
    assert_eq!(of(&seen, &weight), [1.0, 1.0]);
}

#[test]
fn a_loss_of_several_numbers() {
    let scaler = scaler(0);
    assert_says(&scaler, "a loss is one number, and this one has 2 elements", |x| scaler.output(x));
}

#[test]
fn a_loss_that_depends_on_no_mark() {
    let scaler = scaler(1);
    assert_says(&scaler, "the loss depends on none of the 1 marks", |x| {
        let _forgotten = scaler.layer(0, x.clone());
        x.cast(DType::F32).sum()
    });
    assert_says(&scaler, "the loss depends on none of the 0 marks", |x| x.detach().sum());
}

#[test]
fn a_loss_without_an_output() {
    let scaler = scaler(1);
    let expected =
        "computed from layer 0 in f16: pass the network's output through Scaler::output first";
    assert_says(&scaler, expected, |x| scaler.layer(0, x).cast(DType::F32).sum());
}

#[test]
fn a_weight_without_a_master() {
    let weight = Param::from_tensor(tensor(vec![1.0, 2.0], [2]).cast(DType::F16));
    let scaler = scaler(1);
    let error = scaler.step(&weight, || scaler.output(weight.val() * 2.0).sum()).unwrap_err();
    let expected = "a weight of shape [2] in the loss gradient is kept in f16";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_module_that_has_no_part_in_the_loss() {
    let (scaler, weight, other) = (scaler(1), weight(), weight());
    let error = scaler.step(&other, || scaler.output(weight.val()).sum()).unwrap_err();
    assert_eq!(error, ScalerError::NoWeight);
    assert!(error.to_string().contains("the loss depends on no weight of the module"), "{error}");
}

#[test]
fn after_a_mistake_and_after_a_panic_all_is_well() {
    let (scaler, weight) = (scaler(1), weight());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _ = scaler.step(&weight, || -> Tensor<1> {
            let _ = scaler.layer(0, weight.val());
            panic!("the model gave up")
        });
    }));
    assert!(panic.is_err());
    assert!(scaler.step(&weight, || weight.val().sum()).is_err());
    let ended = scaler
        .step(&weight, || scaler.output(scaler.layer(0, weight.val().cast(DType::F16))).sum());
    let Ok(Backward::Apply(gradients)) = ended else { panic!("this step is usable") };
    assert_eq!(of(&gradients, &weight), [1.0, 1.0]);
    assert_eq!(scaler.totals().steps, 1);
}

#[test]
fn two_segments_that_share_a_cast_or_what_a_mark_was_given() {
    let (scaler, weight) = (scaler(1), weight());
    let before = scaler.save().unwrap();
    let expected =
        "use what a mark returned and not what it was given, and cast a weight in each layer";
    let error = scaler.step(&weight, || {
        let cast = weight.val().cast(DType::F16);
        scaler.output(scaler.layer(0, cast.clone() * 2.0) * cast).sum()
    });
    let error = error.unwrap_err();
    assert_eq!(error, ScalerError::Consumed);
    assert!(error.to_string().contains(expected), "{error}");
    assert_says(&scaler, expected, |x| {
        let given = x * 2.0;
        scaler.output(scaler.layer(0, given.clone()) * given).sum()
    });
    assert_eq!(scaler.save().unwrap(), before);
}

#[test]
fn a_mistake_leaves_the_scales_as_they_were() {
    let (scaler, weight) = (scaler(1), weight());
    let before = scaler.save().unwrap();
    // The output is visited, and decides, before the weight in binary16 is met.
    let half = Param::from_tensor(tensor(vec![1.0, 2.0], [1, 2]).cast(DType::F16));
    let both = vec![weight.clone(), half.clone()];
    let error = scaler.step(&both, || {
        let x = scaler.layer(0, weight.val().cast(DType::F16) * half.val());
        scaler.output(x).sum()
    });
    assert!(matches!(error, Err(ScalerError::Weight { .. })));
    assert_eq!(scaler.visits().len(), 2);
    assert_eq!(scaler.save().unwrap(), before);
}
