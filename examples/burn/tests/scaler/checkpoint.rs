//! A scaler that was restored goes on as the one that was saved.

use adaloss_burn::{Scaler, ScalerError};
use adaloss_core::{format::Format, policy::Config, scaler::CheckpointError};
use burn::{module::Param, tensor::DType};

use crate::{Weight, bits, gradients, of, scaler, tensor};

const LAYERS: usize = 2;

fn config() -> Config {
    Config::for_format(Format::BINARY16)
}

fn weight() -> Weight {
    Param::from_tensor(tensor(vec![0.0003, 0.0007], [1, 2]))
}

/// Does one step with a gradient of a size; the second layer overflows at the first.
fn step(scaler: &Scaler, weight: &Weight, size: f64) -> Vec<u32> {
    let seen = gradients(scaler, weight, || {
        let hidden = scaler.layer(0, weight.val().cast(DType::F16));
        let steep = tensor(vec![32768.0; 2 * 2048], [2, 2048]).cast(DType::F16);
        let output = scaler.layer(1, hidden.matmul(steep));
        scaler.output(output).sum() * size
    });
    bits(&of(&seen, weight))
}

#[test]
fn a_restored_scaler_goes_on_bit_for_bit() {
    let (weight, scaler) = (weight(), scaler(LAYERS));
    step(&scaler, &weight, 1.0e-3);
    assert!(scaler.replays() > 0);
    step(&scaler, &weight, 2.0e-5);
    let saved = scaler.save().unwrap();
    let restored = Scaler::restore(config(), LAYERS, &saved).unwrap();
    assert_eq!(restored.save().unwrap(), saved);
    for size in (0..12).map(|i| 1.0e-5 * 0.3_f64.powi(i)) {
        assert_eq!(step(&restored, &weight, size), step(&scaler, &weight, size));
        // The limit that the first step's overflow showed was restored too.
        assert_eq!((restored.replays(), scaler.replays()), (0, 0));
    }
    assert_eq!(restored.save().unwrap(), scaler.save().unwrap());
    assert_ne!(restored.save().unwrap(), saved);
}

#[test]
fn damage_is_an_error() {
    let saved = scaler(LAYERS).save().unwrap();
    let error = |bytes: &[u8]| Scaler::restore(config(), LAYERS, bytes).map(drop).unwrap_err();
    let (expected, length) = (saved.len(), saved.len() + 1);
    let longer = [&saved[..], &[0]].concat();
    assert_eq!(error(&longer), ScalerError::CheckpointLength { expected, length });
    let mut damaged = saved;
    damaged[expected - 1] ^= 0x10;
    assert_eq!(error(&damaged), ScalerError::CheckpointLimits);
    damaged[0] ^= 0x10;
    assert_eq!(error(&damaged), ScalerError::Checkpoint(CheckpointError::Foreign));
}

#[test]
fn a_checkpoint_of_another_scaler_is_an_error() {
    let saved = scaler(LAYERS).save().unwrap();
    let error = |config, layers| Scaler::restore(config, layers, &saved).map(drop).unwrap_err();
    let other = ScalerError::Checkpoint(CheckpointError::OtherConfig);
    assert_eq!(error(config().with_period(3).unwrap(), LAYERS), other);
    let other = CheckpointError::Capacity { capacity: 2, expected: 3 };
    assert_eq!(error(config(), 3), ScalerError::Checkpoint(other));
}
