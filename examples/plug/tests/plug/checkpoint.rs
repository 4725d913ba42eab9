//! A memory that was restored is the one that was saved.

use adaloss_core::{
    format::{Encoding, Format},
    policy::Config,
    propagate::Scaled,
    scale::Scale,
    scaler::CheckpointError,
    unscale::{Place, Verdict},
};
use adaloss_plug::{Judgement, Memory, RestoreError};

const LAYERS: usize = 2;

fn config() -> Config {
    Config::for_format(Format::BINARY16)
}

/// Returns a memory that knows the limit of a segment.
fn experienced() -> Memory {
    let mut memory = Memory::new(config(), LAYERS);
    let mut visits = Vec::new();
    let mut walk = memory.walk(&mut visits);
    let gradient = vec![Scaled::new(vec![1.0e-3], Scale::ONE)];
    let scale = walk.visit(Place::Loss, gradient).unwrap().scale();
    let attempt = walk.attempt(Place::Loss, Encoding::Binary16, scale, 0);
    assert_eq!(walk.judge(attempt, &[f32::INFINITY]), Judgement::Lower);
    let attempt = walk.attempt(Place::Loss, Encoding::Binary16, scale, 1);
    assert_eq!(walk.judge(attempt, &[60000.0]), Judgement::Keep);
    assert_eq!(walk.finish(), Verdict::Apply);
    memory
}

#[test]
fn a_restored_memory_is_the_one_that_was_saved() {
    let mut memory = experienced();
    let saved = memory.save().unwrap();
    let mut restored = Memory::restore(config(), LAYERS, &saved).unwrap();
    assert_eq!(restored.save().unwrap(), saved);
    assert_eq!(restored.totals().steps, 1);
    let limit = |memory: &mut Memory| {
        let mut visits = Vec::new();
        let walk = memory.walk(&mut visits);
        walk.attempt(Place::Loss, Encoding::Binary16, Scale::MAX, 0).scale
    };
    assert!(limit(&mut memory) < Scale::MAX);
    assert_eq!(limit(&mut restored), limit(&mut memory));
}

#[test]
fn any_damage_is_an_error() {
    let saved = experienced().save().unwrap();
    let restore = |bytes: &[u8]| Memory::restore(config(), LAYERS, bytes).map(drop);
    for length in 0..saved.len() {
        assert!(restore(&saved[..length]).is_err(), "{length} bytes were taken for all");
    }
    for index in 0..saved.len() {
        let mut damaged = saved.clone();
        damaged[index] ^= 0x10;
        assert!(restore(&damaged).is_err(), "byte {index} may be anything");
    }
    let longer = [&saved[..], &[0]].concat();
    let (expected, length) = (saved.len(), longer.len());
    assert_eq!(restore(&longer), Err(RestoreError::Length { expected, length }));
}

#[test]
fn a_checkpoint_of_another_memory_is_an_error() {
    let saved = experienced().save().unwrap();
    let error = |config, layers| Memory::restore(config, layers, &saved).map(drop).unwrap_err();
    let other = RestoreError::State(CheckpointError::OtherConfig);
    assert_eq!(error(config().with_period(3).unwrap(), LAYERS), other);
    let other = CheckpointError::Capacity { capacity: 2, expected: 3 };
    assert_eq!(error(config(), 3), RestoreError::State(other));
}
