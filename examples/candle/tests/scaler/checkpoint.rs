//! A scaler that was restored goes on as the one that was saved.

use adaloss_candle::{Scaler, ScalerError};
use adaloss_core::{format::Format, policy::Config, scaler::CheckpointError};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::{bits, gradients, scaler};

const LAYERS: usize = 2;

fn config() -> Config {
    Config::for_format(Format::BINARY16)
}

/// Does one step with a gradient of a size; the second layer overflows at the first.
fn step(scaler: &Scaler, weight: &Var, size: f64) -> Result<Vec<u32>> {
    let step = scaler.begin()?;
    let hidden = scaler.layer(0, &weight.to_dtype(DType::F16)?)?;
    let steep = Tensor::full(32768.0_f32, (2, 2048), &Device::Cpu)?.to_dtype(DType::F16)?;
    let output = scaler.layer(1, &hidden.matmul(&steep)?)?;
    let loss = (scaler.output(&output)?.sum_all()? * size)?;
    Ok(bits(gradients(step, &loss).get(weight).unwrap()))
}

#[test]
fn a_restored_scaler_goes_on_bit_for_bit() -> Result<()> {
    let weight = Var::new(&[[0.0003_f32, 0.0007]], &Device::Cpu)?;
    let scaler = scaler(LAYERS);
    for size in [1.0e-3, 2.0e-5] {
        step(&scaler, &weight, size)?;
    }
    let saved = scaler.save()?;
    let restored = Scaler::restore(config(), LAYERS, &saved)?;
    assert_eq!(restored.save()?, saved);
    for size in (0..12).map(|i| 1.0e-5 * 0.3_f64.powi(i)) {
        assert_eq!(step(&restored, &weight, size)?, step(&scaler, &weight, size)?);
        // The limit that the first step's overflow showed was restored too.
        assert_eq!((restored.replays(), scaler.replays()), (0, 0));
    }
    assert_eq!(restored.save()?, scaler.save()?);
    assert_ne!(restored.save()?, saved);
    Ok(())
}

#[test]
fn damage_is_an_error() -> Result<()> {
    let saved = scaler(LAYERS).save()?;
    let error = |bytes: &[u8]| Scaler::restore(config(), LAYERS, bytes).map(drop).unwrap_err();
    let (expected, length) = (saved.len(), saved.len() + 1);
    let longer = [&saved[..], &[0]].concat();
    assert_eq!(error(&longer), ScalerError::CheckpointLength { expected, length });
    let mut damaged = saved;
    damaged[expected - 1] ^= 0x10;
    assert_eq!(error(&damaged), ScalerError::CheckpointLimits);
    damaged[0] ^= 0x10;
    assert_eq!(error(&damaged), ScalerError::Checkpoint(CheckpointError::Foreign));
    Ok(())
}

#[test]
fn a_checkpoint_of_another_scaler_is_an_error() -> Result<()> {
    let saved = scaler(LAYERS).save()?;
    let error = |config, layers| Scaler::restore(config, layers, &saved).map(drop).unwrap_err();
    let other = ScalerError::Checkpoint(CheckpointError::OtherConfig);
    assert_eq!(error(config().with_period(3).unwrap(), LAYERS), other);
    let other = CheckpointError::Capacity { capacity: 2, expected: 3 };
    assert_eq!(error(config(), 3), ScalerError::Checkpoint(other));
    Ok(())
}
