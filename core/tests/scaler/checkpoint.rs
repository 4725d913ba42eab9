//! A resumed run is the uninterrupted one, and nothing else is taken for a checkpoint.

use adaloss_core::{
    format::Format,
    policy::{Cell, Config},
    scaler::{CheckpointError, LossScaler},
    unscale::{Place, Verdict},
};
use adaloss_oracle::inputs::{SplitMix64, cases};
use proptest::prelude::*;

use super::{Bits, Scaler, Tensors, configs, layer, loss, walk};

fn saved(scaler: &Scaler) -> Vec<u8> {
    let mut bytes = vec![0; Scaler::CHECKPOINT_BYTES];
    scaler.save(&mut bytes).unwrap();
    bytes
}

/// One step over a stream of tensors; returns everything that leaves it.
fn train(scaler: &mut Scaler, tensors: &mut Tensors) -> (Vec<Bits>, Vec<i32>, Verdict) {
    let mut values = tensors.next(30);
    if tensors.word().is_multiple_of(11) {
        values[3] = f32::NAN;
    }
    let mut step = scaler.begin();
    let mut gradient = loss(&mut step, &values).unwrap();
    let (mut bits, mut scales) = (Vec::new(), Vec::new());
    for (id, weight) in [(0, 1.0e2), (3, 1.0e-5), (1, 7.0)] {
        gradient = layer(&mut step, id, &gradient, weight).unwrap();
        scales.push(gradient.scale().log2());
        gradient.unscale(|g, _| bits.push(g.clone()));
    }
    (bits, scales, step.finish())
}

#[test]
fn a_resumed_scaler_goes_on_bit_for_bit() {
    for format in [Format::BINARY16, Format::E5M2, Format::E4M3.flushing()] {
        for config in configs(format) {
            let mut whole = Scaler::new(config);
            let mut tensors = Tensors(42);
            for step in 0..60 {
                let bytes = saved(&whole);
                let mut resumed = Scaler::restore(config, &bytes).unwrap();
                assert_eq!(resumed.digest(), whole.digest());
                assert_eq!(saved(&resumed), bytes);
                let mut same = Tensors(tensors.0);
                // The resumed scaler lives on for three steps beside the uninterrupted one.
                let mut ahead = whole.clone();
                for _ in 0..3 {
                    let mut again = Tensors(same.0);
                    let expected = train(&mut ahead, &mut same);
                    assert_eq!(train(&mut resumed, &mut again), expected, "step {step}");
                }
                assert_eq!(saved(&resumed), saved(&ahead));
                let _ = train(&mut whole, &mut tensors);
            }
        }
    }
}

#[test]
fn every_damaged_byte_is_noticed() {
    let config = Config::for_format(Format::BINARY16);
    let mut scaler = Scaler::new(config);
    let _ = train(&mut scaler, &mut Tensors(1));
    let good = saved(&scaler);
    for place in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[place] ^= 1 << bit;
            assert!(Scaler::restore(config, &bytes).is_err(), "byte {place}, bit {bit}");
        }
    }
    for length in 0..good.len() {
        assert!(Scaler::restore(config, &good[..length]).is_err(), "{length} bytes");
    }
    assert!(Scaler::restore(config, &[&good[..], &[0]].concat()).is_err());
}

#[test]
fn errors_say_what_is_wrong() {
    let config = Config::for_format(Format::BINARY16);
    let good = saved(&Scaler::new(config));
    let error = |bytes: &[u8]| Scaler::restore(config, bytes).unwrap_err();
    assert_eq!(error(b"PK\x03\x04 a zip file"), CheckpointError::Foreign);
    assert_eq!(error(&[]), CheckpointError::Foreign);
    let expected = Scaler::CHECKPOINT_BYTES;
    let length = expected - 1;
    assert_eq!(error(&good[..length]), CheckpointError::Length { expected, length });

    let mut newer = good.clone();
    newer[8] = 9;
    assert_eq!(error(&newer), CheckpointError::Version { version: 9 });
    assert!(error(&newer).to_string().contains("version 9"));
    let mut older = good.clone();
    older[8] = 1;
    assert_eq!(
        error(&older).to_string(),
        "a checkpoint of version 1 cannot be read, only version 2 can: begin with a new scaler, which \
         finds its scales within a few steps"
    );

    let mut damaged = good.clone();
    damaged[100] ^= 1;
    assert_eq!(error(&damaged), CheckpointError::Damaged);

    let other = config.with_period(11).unwrap();
    assert_eq!(Scaler::restore(other, &good).unwrap_err(), CheckpointError::OtherConfig);
    let capacity = LossScaler::<9>::restore(config, &good).unwrap_err();
    assert_eq!(capacity, CheckpointError::Capacity { capacity: 8, expected: 9 });

    let mut short = [0; 10];
    let refused = Scaler::new(config).save(&mut short).unwrap_err();
    assert_eq!(refused, CheckpointError::Length { expected, length: 10 });
    assert_eq!(short, [0; 10]);
}

/// A checksum that fits does not make illegal cells legal.
#[test]
fn an_illegal_cell_is_refused() {
    let loss = Scaler::CHECKPOINT_BYTES - 4 - 9 * Cell::BYTES;
    let exponent_of_the_loss = |bytes: &mut [u8]| bytes[loss + 20] = 127;
    assert_eq!(refused_when(exponent_of_the_loss), Some(CheckpointError::Cell { index: 0 }));
    // Legal as bytes, and nothing that `measured` remembers.
    let memory_of_the_loss = |bytes: &mut [u8]| bytes[loss] = 1;
    assert_eq!(refused_when(memory_of_the_loss), Some(CheckpointError::Cell { index: 0 }));
    // The third of eight cells, none of which is in use.
    let unused = |bytes: &mut [u8]| bytes[loss + 3 * Cell::BYTES + 9] = 0x80;
    assert_eq!(refused_when(unused), Some(CheckpointError::Cell { index: 3 }));
}

/// Nor does it make more skipped steps possible than the configuration allows in a row, or than there
/// were steps.
#[test]
fn impossible_counts_are_refused() {
    let (steps, skipped, in_row) = (24, 32, 64);
    let counted = |counts: [u8; 3]| {
        refused_when(|bytes| {
            (bytes[steps], bytes[skipped], bytes[in_row]) = (counts[0], counts[1], counts[2]);
        })
    };
    let most = Config::for_format(Format::BINARY16).max_skips() as u8;
    for possible in [[0, 0, 0], [9, 9, 9], [most, most, most - 1], [100, 99, 0]] {
        assert_eq!(counted(possible), None, "{possible:?}");
    }
    for impossible in [[100, 100, most], [100, 9, 10], [9, 10, 0], [0, 0, 1]] {
        assert_eq!(counted(impossible), Some(CheckpointError::Counts), "{impossible:?}");
    }
}

/// The longest run that a checkpoint can tell of goes on all the same.
#[test]
fn counters_at_their_end_stay_there() {
    let mut scaler = restored_when(|bytes| bytes[24..64].fill(0xff)).unwrap();
    let _ = train(&mut scaler, &mut Tensors(1));
    assert_eq!(scaler.totals().steps, u64::MAX);
}

/// Returns why a forged checkpoint is refused, if it is.
fn refused_when(forge: impl Fn(&mut [u8])) -> Option<CheckpointError> {
    restored_when(forge).err()
}

/// Forges the checkpoint of a new scaler, checksum and all, and restores it.
fn restored_when(forge: impl Fn(&mut [u8])) -> Result<Scaler, CheckpointError> {
    let config = Config::for_format(Format::BINARY16);
    let mut bytes = saved(&Scaler::new(config));
    let body = bytes.len() - 4;
    forge(&mut bytes[..body]);
    let checksum = crc32(&bytes[..body]);
    bytes[body..].copy_from_slice(&checksum.to_le_bytes());
    Scaler::restore(config, &bytes)
}

/// The checksum of zlib, from its definition.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A scaler with a random past.
fn lived(config: Config, generator: &mut SplitMix64) -> Scaler {
    let mut scaler = Scaler::new(config);
    for _ in 0..generator.below(20) {
        walk::step(&mut scaler, generator);
    }
    scaler
}

/// Damages a checkpoint in one of the ways of storage: bits flip, bytes are overwritten, are missing,
/// are too many, change places, or come from another file.
fn damage(good: &[u8], other: &[u8], generator: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let (at, by) = (generator.below(bytes.len()), 1 + generator.below(40));
    match generator.below(6) {
        0 => (0..by).for_each(|_| bytes[generator.below(good.len())] ^= 1 << generator.below(8)),
        1 => bytes.iter_mut().skip(at).take(by).for_each(|byte| *byte = generator.word() as u8),
        2 => bytes.truncate(at),
        3 => bytes.extend((0..by).map(|_| generator.below(2) as u8)),
        4 => bytes.rotate_left(by),
        _ => bytes[at..].copy_from_slice(&other[at..]),
    }
    bytes
}

proptest! {
    #![proptest_config(cases(300))]

    /// Whatever the configuration and the past: what is restored is what was saved, and so is all
    /// that it does from then on.
    #[test]
    fn any_past_comes_back(seed: u64) {
        let mut generator = SplitMix64(seed);
        let config = walk::config(&mut generator);
        let mut scaler = lived(config, &mut generator);
        let bytes = saved(&scaler);
        let mut restored = Scaler::restore(config, &bytes).expect("a checkpoint");
        prop_assert_eq!(saved(&restored), bytes);
        prop_assert_eq!(restored.totals(), scaler.totals());
        for place in (0..8).map(Place::Layer).chain([Place::Loss]) {
            prop_assert_eq!(restored.cell(place), scaler.cell(place));
        }
        let future = generator.word();
        let run = |scaler: &mut Scaler| {
            let mut generator = SplitMix64(future);
            let steps = (0..8).map(|_| walk::step(scaler, &mut generator));
            (steps.collect::<Vec<_>>(), saved(scaler))
        };
        prop_assert_eq!(run(&mut restored), run(&mut scaler));
    }

    /// No damage is taken for a checkpoint, and none for that of another configuration.
    #[test]
    fn no_damage_passes(seed: u64) {
        let mut generator = SplitMix64(seed);
        let config = walk::config(&mut generator);
        let [good, other] = [0; 2].map(|_| saved(&lived(config, &mut generator)));
        for _ in 0..60 {
            let damaged = damage(&good, &other, &mut generator);
            if damaged != good && damaged != other {
                prop_assert!(Scaler::restore(config, &damaged).is_err());
            }
        }
        let stranger = walk::config(&mut generator);
        prop_assert!(stranger == config || Scaler::restore(stranger, &good).is_err());
    }
}
