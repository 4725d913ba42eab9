//! Backward passes that are not a step's own: candle stops with a sentence, and returns no incomplete store.

use adaloss_candle::Scaler;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Optimizer, SGD};

use crate::{assert_says, bits, gradients, scaler};

/// Two weights with a mark between them.
struct Net {
    first: Var,
    second: Var,
}

impl Net {
    fn new() -> Result<Self> {
        let device = &Device::Cpu;
        Ok(Self { first: Var::new(&[[2.0_f32]], device)?, second: Var::new(&[[3.0_f32]], device)? })
    }

    fn hidden(&self, scaler: &Scaler) -> Result<Tensor> {
        scaler.layer(0, &self.first.to_dtype(DType::F16)?)
    }

    fn loss(&self, scaler: &Scaler) -> Result<Tensor> {
        let hidden = self.hidden(scaler)?.matmul(&self.second.to_dtype(DType::F16)?)?;
        scaler.output(&hidden)?.sum_all()
    }
}

const IN_STEP: &str =
    "the mark of the network's output stops a backward pass that is not its step's";
const CALL: &str = "Call Step::backward(&loss) instead";
const ENDED: &str =
    "stops a backward pass, because the step or micro-batch that it belongs to has ended";

#[test]
fn candles_own_backward_in_a_step_is_an_error_that_names_what_to_call() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let step = scaler.begin()?;
    let loss = net.loss(&scaler)?;
    assert_says(loss.backward(), IN_STEP);
    assert_says(loss.backward(), CALL);
    // No harm was done: the step still goes backward.
    let seen = gradients(step, &loss);
    assert_eq!(seen.get(&net.first).unwrap().to_vec2::<f32>()?, [[3.0]]);
    assert_eq!(seen.get(&net.second).unwrap().to_vec2::<f32>()?, [[2.0]]);
    Ok(())
}

#[test]
fn an_optimizer_that_goes_backward_itself_moves_nothing() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let mut optimizer = SGD::new(vec![net.first.clone(), net.second.clone()], 1.0)?;
    let step = scaler.begin()?;
    assert_says(optimizer.backward_step(&net.loss(&scaler)?), CALL);
    assert_eq!(
        (bits(&net.first), bits(&net.second)),
        (vec![2.0_f32.to_bits()], vec![3.0_f32.to_bits()])
    );
    drop(step);
    assert_eq!(scaler.totals().steps, 0);
    Ok(())
}

#[test]
fn a_loss_goes_backward_once() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let step = scaler.begin()?;
    let loss = net.loss(&scaler)?;
    let _ = gradients(step, &loss);
    assert_says(loss.backward(), ENDED);
    // In another step as well, and in another micro-batch.
    let before = scaler.save().unwrap();
    assert_says(scaler.begin()?.backward(&loss), ENDED);
    let mut step = scaler.begin()?;
    let loss = net.loss(&scaler)?;
    step.accumulate(&loss)?;
    assert_says(step.accumulate(&loss), ENDED);
    drop(step);
    assert_eq!(scaler.save().unwrap(), before);
    Ok(())
}

#[test]
fn a_loss_of_a_step_that_was_dropped_has_no_gradients() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let step = scaler.begin()?;
    let loss = net.loss(&scaler)?;
    drop(step);
    assert_says(loss.backward(), ENDED);
    Ok(())
}

/// An example is the state of a recurrent network that was not detached.
#[test]
fn a_tensor_of_one_step_in_another_one_is_detached_or_an_error() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let step = scaler.begin()?;
    let state = net.hidden(&scaler)?;
    let _ = gradients(step, &scaler.output(&state)?.sum_all()?);
    let loss = |state: &Tensor| scaler.output(&(net.hidden(&scaler)? + state)?)?.sum_all();
    assert_says(scaler.begin()?.backward(&loss(&state)?), ENDED);
    let step = scaler.begin()?;
    let seen = gradients(step, &loss(&state.detach())?);
    assert_eq!(seen.get(&net.first).unwrap().to_vec2::<f32>()?, [[1.0]]);
    Ok(())
}

/// The marks of the other one would be taken for weights, and end the backward pass.
#[test]
fn a_step_of_two_scalers_is_an_error() -> Result<()> {
    let net = Net::new()?;
    let (scaler, other) = (scaler(1), scaler(1));
    let (step, _other_step) = (scaler.begin()?, other.begin()?);
    let hidden = other.layer(0, &net.first.to_dtype(DType::F16)?)?;
    let loss = scaler.output(&hidden)?.sum_all()?;
    assert_says(step.backward(&loss), "the mark of layer 0 stops a backward pass");
    Ok(())
}

#[test]
fn a_loss_beside_the_output_that_was_marked_is_an_error() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let step = scaler.begin()?;
    let hidden = net.hidden(&scaler)?;
    let _output = scaler.output(&hidden)?;
    let hidden = hidden.to_dtype(DType::F32)?;
    // A loss of 16-bit tensors is another mistake.
    assert_says(step.backward(&hidden.sum_all()?), "through Scaler::output first");
    let step = scaler.begin()?;
    let hidden = scaler.layer(0, &net.first)?;
    let _output = scaler.output(&hidden.matmul(&net.second)?)?;
    let before = scaler.save().unwrap();
    let expected = "the loss does not depend on the output that was marked";
    assert_says(step.backward(&hidden.sum_all()?), expected);
    assert_eq!(scaler.save().unwrap(), before);
    Ok(())
}

#[test]
fn a_loss_from_before_the_step_is_an_error() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let loss = net.loss(&scaler)?;
    let expected = "none of the 0 marks of this step: the forward pass comes after Scaler::begin";
    assert_says(scaler.begin()?.backward(&loss), expected);
    Ok(())
}

/// An output that is the loss itself.
#[test]
fn a_mark_may_be_the_loss() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(0));
    let step = scaler.begin()?;
    let seen = gradients(step, &scaler.output(&net.first.sqr()?.sum_all()?)?);
    assert_eq!(seen.get(&net.first).unwrap().to_vec2::<f32>()?, [[4.0]]);
    Ok(())
}

/// Beside its weights a store has nothing.
#[test]
fn gradients_are_those_of_weights_alone() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let step = scaler.begin()?;
    let seen = gradients(step, &net.loss(&scaler)?);
    let mut ids: Vec<_> = seen.get_ids().copied().collect();
    let mut expected = vec![net.first.id(), net.second.id()];
    ids.sort_by_key(|id| format!("{id:?}"));
    expected.sort_by_key(|id| format!("{id:?}"));
    assert_eq!(ids, expected);
    Ok(())
}
