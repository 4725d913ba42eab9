//! A cell is 32 bytes that come back as they went, or not at all.

use adaloss_core::{
    format::Format,
    policy::{Amax, Backoff, Cell, Config, Policy, Preset, Trigger, decide, note, step},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::{
    inputs::{SplitMix64, cases},
    search::Tensor,
};
use proptest::prelude::*;

use crate::tensor::Observe;

/// Every policy in one format.
fn configs(format: Format) -> Vec<Config> {
    let config = Config::for_format(format);
    let amax = |window| Policy::Amax(Amax { window, margin: 0 });
    let policies = [
        Policy::Fixed(Scale::saturating(-126)),
        Policy::Backoff(Backoff::GRAD_SCALER),
        Policy::Backoff(Backoff::chainer(7).expect("legal")),
        amax(1),
        amax(12),
        amax(u16::MAX),
    ];
    let mut configs: Vec<Config> =
        policies.into_iter().map(|policy| config.with_policy(policy).expect("legal")).collect();
    configs.extend([config, Config::preset(Preset::Paper, format)]);
    configs
}

fn round_trips(cell: &Cell) {
    let bytes = cell.to_bytes();
    let read = Cell::from_bytes(&bytes).expect("the bytes of a cell");
    assert_eq!(&read, cell);
    assert_eq!(read.to_bytes(), bytes);
}

#[test]
fn cells_that_live_come_back_as_they_went() {
    let mut generator = SplitMix64(121);
    for format in [Format::BINARY16, Format::E4M3, Format::BFLOAT16] {
        for config in configs(format) {
            let mut cell = config.cell();
            round_trips(&cell);
            for _ in 0..200 {
                let tensor = Tensor::draw(&mut generator);
                match generator.below(4) {
                    0 => {
                        decide(&config, &tensor.histogram(config.narrowing()), &mut cell);
                    }
                    1 => step(&config, generator.below(3) > 0, &mut cell),
                    _ => {
                        let elements = 100 + tensor.values.len() as u64;
                        let outcome = Outcome {
                            elements,
                            overflow: generator.below(2) as u64,
                            underflow: generator.below(60) as u64,
                            max_bits: generator.finite().abs().to_bits(),
                            ..Outcome::EMPTY
                        };
                        note(&config, &outcome, tensor.incoming, &mut cell);
                    }
                }
                round_trips(&cell);
            }
        }
    }
}

/// The layout of a checkpoint, little endian: this test is what a change of it has to break.
#[test]
fn the_bytes_of_a_new_cell() {
    let bytes = Cell::at(Scale::saturating(-3)).to_bytes();
    assert_eq!(bytes.len(), 32);
    assert_eq!(bytes[0..8], 1.0_f64.to_le_bytes());
    assert_eq!(bytes[8..12], [0; 4], "age");
    assert_eq!(bytes[12..14], [0xfd, 0xff], "scale");
    assert_eq!(bytes[14..16], [Trigger::First as u8, 0], "trigger and flags");
    assert_eq!(bytes[16..28], [127; 12], "no maxima");
    assert_eq!(bytes[28..32], [0; 4], "slot, reserved, visits in the slot");
}

#[test]
fn bytes_that_no_cell_has_are_refused() {
    let good = Cell::new().to_bytes();
    let refused = |at: usize, with: &[u8]| {
        let mut bytes = good;
        bytes[at..at + with.len()].copy_from_slice(with);
        assert_eq!(Cell::from_bytes(&bytes), None, "{with:?} at {at}");
    };
    for real in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0] {
        refused(0, &real.to_le_bytes());
    }
    for scale in [127_i16, -127, 254, i16::MAX, i16::MIN] {
        refused(12, &scale.to_le_bytes());
    }
    for trigger in 6..=255 {
        refused(14, &[trigger]);
    }
    for flags in 4..=255 {
        refused(15, &[flags]);
    }
    for slot in 12..=255 {
        refused(28, &[slot]);
    }
    for reserved in 1..=255 {
        refused(29, &[reserved]);
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    /// Whatever bytes are read: either they are refused, or they are written back as they were and
    /// the cell can be used.
    #[test]
    fn any_bytes_are_refused_or_come_back(
        mut bytes: [u8; Cell::BYTES],
        legal in any::<bool>(),
        fields: (f64, i32, u8, u8, u8, u16),
    ) {
        if legal {
            let (real, scale, trigger, flags, slot, in_slot) = fields;
            bytes[0..8].copy_from_slice(&real.abs().to_le_bytes());
            bytes[12..14].copy_from_slice(&((scale % 127) as i16).to_le_bytes());
            bytes[14..16].copy_from_slice(&[trigger % 6, flags % 4]);
            bytes[28..30].copy_from_slice(&[slot % 12, 0]);
            bytes[30..32].copy_from_slice(&in_slot.to_le_bytes());
            let is_number = real.is_finite() && real != 0.0;
            prop_assert_eq!(Cell::from_bytes(&bytes).is_some(), is_number);
        }
        if let Some(mut cell) = Cell::from_bytes(&bytes) {
            prop_assert_eq!(cell.to_bytes(), bytes);
            for config in configs(Format::E5M2) {
                let tensor = Tensor { values: vec![1.0, 3.0e-4], incoming: Scale::ONE };
                decide(&config, &tensor.histogram(config.narrowing()), &mut cell);
                let max_bits = 1.0_f32.to_bits();
                let seen = Outcome { elements: 2, overflow: 1, max_bits, ..Outcome::EMPTY };
                note(&config, &seen, Scale::MAX, &mut cell);
            }
        }
    }
}
