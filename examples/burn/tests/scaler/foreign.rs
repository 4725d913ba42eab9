//! Backward passes that are not a step's own.

use adaloss_burn::{Scaler, ScalerError};
use burn::tensor::{DType, Tensor};

use crate::{Weight, by_burn, gradients, of, scaler, tensor};

fn weights() -> Vec<Weight> {
    [2.0, 3.0].map(|x| Weight::from_tensor(tensor(vec![x], [1, 1]))).into()
}

/// Returns a loss of two layers.
fn loss(weights: &[Weight], scaler: &Scaler) -> Tensor<1> {
    let hidden = scaler.layer(0, weights[0].val().cast(DType::F16));
    scaler.output(hidden.matmul(weights[1].val().cast(DType::F16))).sum()
}

#[track_caller]
fn assert_consumed<T>(result: Result<T, ScalerError>) {
    let error = result.err().expect("this is a mistake");
    assert_eq!(error, ScalerError::Consumed);
    let said = error.to_string();
    assert!(
        said.contains("return the loss from the closure without calling loss.backward()"),
        "{said}"
    );
}

#[test]
fn burns_own_backward_in_a_step_is_an_error_that_names_what_to_do() {
    let (weights, scaler) = (weights(), scaler(1));
    let before = scaler.save().unwrap();
    assert_consumed(scaler.step(&weights, || {
        let loss = loss(&weights, &scaler);
        // It ends at the marks, as nothing but an error could tell.
        assert!(by_burn(&weights, &loss).is_empty());
        loss
    }));
    assert_eq!(scaler.save().unwrap(), before);
    let seen = gradients(&scaler, &weights, || loss(&weights, &scaler));
    assert_eq!((of(&seen, &weights[0]), of(&seen, &weights[1])), (vec![3.0], vec![2.0]));
}

#[test]
fn a_loss_goes_backward_once() {
    let (weights, scaler) = (weights(), scaler(1));
    let mut kept = None;
    let _ = gradients(&scaler, &weights, || {
        let loss = loss(&weights, &scaler);
        kept = Some(loss.clone());
        loss
    });
    let kept = kept.unwrap();
    assert_consumed(scaler.step(&weights, || kept.clone()));
    let mut step = scaler.begin(&weights).unwrap();
    step.accumulate(|| loss(&weights, &scaler)).unwrap();
    assert_consumed(step.accumulate(|| kept.clone()));
}

/// What lies between a mark and the loss is gone with the step.
#[test]
fn what_was_computed_of_a_mark_in_one_step_is_an_error_in_another_one() {
    let (weights, scaler) = (weights(), scaler(1));
    let mut kept = None;
    let _ = gradients(&scaler, &weights, || {
        let hidden = scaler.layer(0, weights[0].val().cast(DType::F16));
        let state = hidden.matmul(weights[1].val().cast(DType::F16));
        kept = Some(state.clone());
        scaler.output(state).sum()
    });
    let state = kept.unwrap();
    assert_consumed(scaler.step(&weights, || {
        let hidden = scaler.layer(0, weights[0].val().cast(DType::F16));
        scaler.output(hidden + state.clone()).sum()
    }));
    // Detached it is a constant.
    let seen = gradients(&scaler, &weights, || {
        let hidden = scaler.layer(0, weights[0].val().cast(DType::F16));
        scaler.output(hidden + state.clone().detach()).sum()
    });
    assert_eq!(of(&seen, &weights[0]), [1.0]);
}

/// Burn has no way to tell that from a tensor of the caller's own.
#[test]
fn what_a_mark_returned_in_one_step_is_a_constant_in_another_one() {
    let (weights, scaler) = (weights(), scaler(1));
    let mut kept = None;
    let _ = gradients(&scaler, &weights, || {
        let hidden = scaler.layer(0, weights[0].val().cast(DType::F16));
        kept = Some(hidden.clone());
        scaler.output(hidden).sum()
    });
    let state = kept.unwrap();
    let seen = gradients(&scaler, &weights, || {
        let hidden = scaler.layer(0, weights[0].val().cast(DType::F16));
        scaler.output(hidden + state.clone()).sum()
    });
    assert_eq!(of(&seen, &weights[0]), [1.0]);
}

#[test]
fn a_loss_beside_the_output_that_was_marked_is_an_error() {
    let (weights, scaler) = (weights(), scaler(1));
    let error = scaler.step(&weights, || {
        let hidden = scaler.layer(0, weights[0].val());
        let _output = scaler.output(hidden.clone().matmul(weights[1].val()));
        hidden.sum()
    });
    let error = error.unwrap_err();
    assert_eq!(error, ScalerError::Aside);
    let said = error.to_string();
    assert!(said.contains("the loss does not depend on the output that was marked"), "{said}");
}

#[test]
fn a_loss_from_before_the_step_is_an_error() {
    let (weights, scaler) = (weights(), scaler(1));
    let before = loss(&weights, &scaler);
    let error = scaler.step(&weights, || before.clone()).unwrap_err();
    assert!(
        error.to_string().contains("none of the 0 marks of this step: compute it from"),
        "{error}"
    );
}
