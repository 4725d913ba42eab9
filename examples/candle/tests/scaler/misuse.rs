//! What a model can get wrong, and the sentence that it is answered with.

use adaloss_candle::{Backward, Scaler};
use adaloss_core::{
    format::Format,
    policy::{Config, Preset},
};
use candle_core::{DType, Device, Error, Result, Tensor, Var};

use crate::{assert_says, scaler};

fn weight(dtype: DType) -> Result<Var> {
    Var::from_tensor(&Tensor::new(&[1.0_f32, 2.0], &Device::Cpu)?.to_dtype(dtype)?)
}

fn half() -> Result<Tensor> {
    weight(DType::F32)?.to_dtype(DType::F16)
}

#[test]
fn a_layer_that_is_not_there() -> Result<()> {
    assert_says(scaler(2).layer(2, &half()?), "layer 2 was marked and the scaler was made for 2");
    Ok(())
}

#[test]
fn a_layer_that_is_marked_twice() -> Result<()> {
    let scaler = scaler(2);
    let _step = scaler.begin()?;
    let x = scaler.layer(1, &half()?)?;
    assert_says(scaler.layer(1, &x), "layer 1 was marked twice in one step");
    let x = scaler.output(&x)?;
    assert_says(scaler.output(&x), "the network's output was marked twice in one step");
    Ok(())
}

#[test]
fn a_type_that_cannot_hold_the_gradients() -> Result<()> {
    let scaler = scaler(1);
    let _step = scaler.begin()?;
    let x = weight(DType::F32)?.to_dtype(DType::BF16)?;
    let expected = "layer 0: tensors of type bf16 cannot hold gradients in Binary16";
    assert_says(scaler.layer(0, &x), expected);
    assert_says(scaler.output(&x), "the loss gradient: tensors of type bf16");
    Ok(())
}

#[test]
fn a_policy_that_wants_operands() {
    let config = Config::preset(Preset::Paper, Format::BINARY16);
    let error = Scaler::new(config, 1).unwrap_err();
    assert!(error.to_string().contains("the policy normal decides from the operands"), "{error}");
}

#[test]
fn two_steps_at_once() -> Result<()> {
    let scaler = scaler(1);
    let _step = scaler.begin()?;
    let second = scaler.begin().map_err(Error::from);
    assert_says(second, "a step was begun while another one is under way");
    Ok(())
}

#[test]
fn a_loss_of_several_numbers() -> Result<()> {
    let scaler = scaler(0);
    let step = scaler.begin()?;
    let output = scaler.output(&half()?)?;
    assert_says(step.backward(&output), "a loss is one number, and this one has 2 elements");
    Ok(())
}

#[test]
fn a_loss_that_depends_on_no_mark() -> Result<()> {
    let scaler = scaler(1);
    let step = scaler.begin()?;
    let x = half()?;
    let _forgotten = scaler.layer(0, &x)?;
    let loss = x.to_dtype(DType::F32)?.sum_all()?;
    assert_says(step.backward(&loss), "the loss depends on none of the 1 marks");
    Ok(())
}

#[test]
fn a_loss_without_an_output() -> Result<()> {
    let scaler = scaler(1);
    let step = scaler.begin()?;
    let x = scaler.layer(0, &half()?)?;
    let loss = x.to_dtype(DType::F32)?.sum_all()?;
    let expected =
        "computed from layer 0 in f16: pass the network's output through Scaler::output first";
    assert_says(step.backward(&loss), expected);
    Ok(())
}

#[test]
fn a_weight_without_a_master() -> Result<()> {
    let scaler = scaler(1);
    let step = scaler.begin()?;
    let weight = weight(DType::F16)?;
    let loss = scaler.output(&(weight.as_tensor() * 2.0)?)?.sum_all()?;
    assert_says(step.backward(&loss), "a weight of shape [2] in the loss gradient is kept in f16");
    Ok(())
}

#[test]
fn a_mistake_leaves_the_scales_as_they_were() -> Result<()> {
    let scaler = scaler(1);
    let before = scaler.save()?;
    // The output is visited before the weight in binary16 is met.
    let (master, half) = (weight(DType::F32)?, weight(DType::F16)?);
    let step = scaler.begin()?;
    let x = scaler.layer(0, &(master.to_dtype(DType::F16)? * half.as_tensor())?)?;
    assert!(step.backward(&scaler.output(&x)?.sum_all()?).is_err());
    assert_eq!(scaler.visits().len(), 2);
    assert_eq!(scaler.save()?, before);
    Ok(())
}

#[test]
fn after_a_mistake_and_after_a_step_that_was_dropped_all_is_well() -> Result<()> {
    let scaler = scaler(1);
    let step = scaler.begin()?;
    let _ = scaler.layer(0, &half()?)?;
    drop(step);
    let step = scaler.begin()?;
    assert!(step.backward(&half()?.sum_all()?).is_err());
    let weight = weight(DType::F32)?;
    let step = scaler.begin()?;
    let x = scaler.layer(0, &weight.to_dtype(DType::F16)?)?;
    let Backward::Apply(gradients) = step.backward(&scaler.output(&x)?.sum_all()?)? else {
        panic!("this step is usable")
    };
    assert_eq!(gradients.get(&weight).unwrap().to_vec1::<f32>()?, [1.0, 1.0]);
    assert_eq!(scaler.totals().steps, 1);
    Ok(())
}
