//! Checkpoints: whatever the bytes, an error or a scaler that those bytes describe.

use adaloss_core::{
    format::Format,
    policy::{Config, Operands},
    scaler::{CheckpointError, LossScaler},
    statistics::Statistics,
    unscale::Verdict,
};
use adaloss_hal::Capabilities;
use arbitrary::{Result, Unstructured};

use crate::{config::config, damage::damage, input};

type Scaler = LossScaler<3>;

const BYTES: usize = Scaler::CHECKPOINT_BYTES;

/// Checks foreign bytes, damaged checkpoints, and forged ones whose checksum is right.
pub fn check(bytes: &[u8]) {
    let recommended = Config::for_format(Format::BINARY16);
    check_restored(recommended, bytes);
    input::run(bytes, |u| {
        let config = config(u, Capabilities::ALL)?;
        let scaler = with_a_past(u, config)?;
        let mut saved = [0; BYTES];
        scaler.save(&mut saved).expect("it fits");
        let restored = Scaler::restore(config, &saved).expect("it was just saved");
        assert_eq!(restored.digest(), scaler.digest());
        check_restored(config, &saved);

        let other = self::config(u, Capabilities::ALL)?;
        if other != config {
            let refused = Scaler::restore(other, &saved).map(|scaler| scaler.digest());
            assert_eq!(refused, Err(CheckpointError::OtherConfig), "{config:?} {other:?}");
        }
        let damaged = damage(u, &saved)?;
        match Scaler::restore(config, &damaged) {
            Ok(_) => assert_eq!(damaged, saved, "damage was not noticed"),
            Err(_) => assert_ne!(damaged, saved),
        }
        let forged = forge(damaged);
        check_restored(config, &forged);
        Ok(())
    });
}

/// A scaler that was restored is saved as the same bytes, and can go on.
fn check_restored(config: Config, bytes: &[u8]) {
    let Ok(mut scaler) = Scaler::restore(config, bytes) else { return };
    let mut again = [0; BYTES];
    scaler.save(&mut again).expect("it fits");
    assert_eq!(again, bytes, "restoring lost something");
    for value in [1.0e-6, 3.0e38, 0.0] {
        go_on(&mut scaler, &[value, -value / 3.0]);
    }
}

/// Makes one step with a tensor, whatever the format: what is stored is looked at elsewhere.
fn go_on(scaler: &mut Scaler, values: &[f32]) {
    let mut step = scaler.begin();
    let mut visit = step.loss();
    if visit.wants_operands() {
        visit.describe(&Operands::Cast(Statistics::of(values)));
    }
    while let Some(mut pass) = visit.next_pass() {
        let (incoming, shift, narrowing) = (pass.incoming(), pass.shift(), pass.narrowing());
        let stores = pass.stores();
        let (outcome, histogram) = pass.counters();
        if let Some(histogram) = histogram {
            histogram.observe(values, incoming);
        }
        for &x in values.iter().filter(|_| stores) {
            outcome.record(x, narrowing.narrow(x, shift.log2(), 0).fate);
        }
    }
    let left = visit.finish(()).expect("there are no more passes");
    let verdict = step.finish();
    let last = (left.scale(), verdict == Verdict::Apply);
    assert!(last.0.factor().is_normal());
}

/// A scaler after a few steps.
fn with_a_past(u: &mut Unstructured<'_>, config: Config) -> Result<Scaler> {
    let mut scaler = Scaler::new(config);
    for _ in 0..u.int_in_range(0..=4)? {
        let values = [input::value(u, config.narrowing().format)?, 1.0e-3];
        go_on(&mut scaler, &values);
    }
    Ok(scaler)
}

/// Gives bytes the checksum that they ought to have.
fn forge(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some((body, checksum)) = bytes.split_last_chunk_mut::<4>() {
        *checksum = crc32(body).to_le_bytes();
    }
    bytes
}

/// CRC-32 of ISO 3309, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
