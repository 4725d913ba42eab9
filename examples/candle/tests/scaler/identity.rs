//! A mark changes nothing but the scale.

use adaloss_candle::Scaler;
use adaloss_core::{format::Format, policy::Config};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::{bits, generator, gradients, matrix, scaler, weight};

#[test]
fn outside_of_a_step_a_mark_is_the_tensor_itself() -> Result<()> {
    let weight = Var::new(&[[1.0_f32, 2.0]], &Device::Cpu)?;
    let output = weight.to_dtype(DType::F16)?;
    let scaler = scaler(1);
    assert_eq!(scaler.layer(0, &output)?.id(), output.id());
    assert_eq!(scaler.output(&output)?.dtype(), DType::F32);
    assert_eq!(scaler.visits(), []);
    Ok(())
}

#[test]
fn in_a_step_a_mark_has_the_same_values() -> Result<()> {
    let weight = Var::new(&[[1.0_f32, -0.0, 3.5], [f32::INFINITY, 1.0e-7, -8.0]], &Device::Cpu)?;
    let scaler = scaler(1);
    for dtype in [DType::F32, DType::F16] {
        let _step = scaler.begin()?;
        // Neither contiguous nor at the beginning of its storage.
        let output = weight.to_dtype(dtype)?.t()?.narrow(0, 1, 2)?;
        let marked = scaler.layer(0, &output)?;
        assert_eq!((marked.dtype(), marked.dims()), (dtype, output.dims()));
        assert_eq!(bits(&marked), bits(&output));
    }
    Ok(())
}

#[test]
fn what_depends_on_no_weight_is_left_alone() -> Result<()> {
    let samples = Tensor::new(&[1.0_f32, 2.0], &Device::Cpu)?;
    let scaler = scaler(1);
    let _step = scaler.begin()?;
    assert_eq!(scaler.layer(0, &samples)?.id(), samples.id());
    Ok(())
}

#[test]
fn in_f32_gradients_are_those_of_candle_bit_for_bit() -> Result<()> {
    let mut rng = generator();
    let weights = [weight(&mut rng, 16)?, weight(&mut rng, 16)?, weight(&mut rng, 16)?];
    let samples = matrix(&mut rng, 8, 16, 1.0)?;
    let scaler = Scaler::new(Config::for_format(Format::BINARY32), 2)?;
    let loss = |marks: bool| -> Result<Tensor> {
        let mut x = samples.clone();
        for (id, weight) in weights.iter().enumerate() {
            x = x.matmul(weight)?;
            x = match (marks, id) {
                (false, _) => x.relu()?,
                (true, 2) => scaler.output(&x.relu()?)?,
                (true, _) => scaler.layer(id, &x.relu()?)?,
            };
        }
        x.sqr()?.mean_all()
    };
    let expected = loss(false)?.backward()?;
    let step = scaler.begin()?;
    let seen = gradients(step, &loss(true)?);
    for weight in &weights {
        assert_eq!(bits(seen.get(weight).unwrap()), bits(expected.get(weight).unwrap()));
    }
    assert_eq!(scaler.visits().len(), 3);
    Ok(())
}
