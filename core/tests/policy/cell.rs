//! A cell is 28 bytes that come back as they went, or not at all.

use adaloss_core::{
    format::Format,
    policy::{
        Amax, Backoff, Cell, Config, Policy, Preset, Range, Seen, Trigger, certify, finish, note,
        step,
    },
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
        Policy::Range(Range::new(format)),
    ];
    let mut configs: Vec<Config> =
        policies.into_iter().map(|policy| config.with_policy(policy).expect("legal")).collect();
    configs.extend([config, Config::preset(Preset::Paper, format)]);
    configs
}

fn round_trips(config: &Config, cell: &Cell) {
    assert!(cell.is_possible(config), "{cell:?} of {config:?}");
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
            round_trips(&config, &cell);
            for _ in 0..200 {
                let tensor = Tensor::draw(&mut generator);
                match generator.below(5) {
                    0 => {
                        let histogram = tensor.histogram(config.narrowing());
                        certify(&config, &histogram, cell.scale(), &mut cell);
                    }
                    1 => {
                        finish(&config, &mut cell);
                    }
                    2 => step(&config, generator.below(3) > 0, &mut cell),
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
                round_trips(&config, &cell);
            }
        }
    }
}

/// The layout of a checkpoint, little endian: this test is what a change of it has to break.
#[test]
fn the_bytes_of_a_new_cell() {
    let bytes = Cell::at(Scale::saturating(-3)).to_bytes();
    assert_eq!(bytes.len(), 28);
    assert_eq!(bytes[0..8], 1.0_f64.to_le_bytes());
    assert_eq!(bytes[8..16], [0; 8], "the rest of the memory");
    assert_eq!(bytes[16..20], [0; 4], "age");
    assert_eq!(bytes[20..22], [0xfd, 0xff], "scale");
    assert_eq!(bytes[22..24], (126_i16 * 128).to_le_bytes(), "no limit");
    assert_eq!(bytes[24..26], [Trigger::First as u8, 0], "trigger and flags");
    assert_eq!(bytes[26..28], [127, 0], "nothing seen, no limit tried");
}

/// What `measured` remembers: eleven bytes.
#[test]
fn the_memory_of_measured() {
    let config = Config::for_format(Format::BINARY16);
    let mut cell = config.cell();
    for ceiling in [10, 9, 10, 10, 8, 10] {
        let seen = Seen { ceiling, overflowed: ceiling == 8, visited: true, ..Seen::NOTHING };
        cell.set_seen(seen);
        finish(&config, &mut cell);
    }
    let bytes = cell.to_bytes();
    assert_eq!(bytes[0..4], [8, 10, 10, 10], "the last four ceilings");
    assert_eq!(bytes[4..6], (8_i16 * 128 + 2).to_le_bytes(), "the least of late");
    assert_eq!(bytes[6..8], 128_u16.to_le_bytes(), "headroom of the usual guess");
    assert_eq!(bytes[8..10], 63_u16.to_le_bytes(), "headroom of the least guess");
    assert_eq!(bytes[10], 2 | 1 << 7, "the next place in the ring; the usual guess is in use");
    assert_eq!(bytes[11..16], [0; 5]);
}

#[test]
fn bytes_that_no_cell_has_are_refused() {
    let good = Cell::new().to_bytes();
    let refused = |at: usize, with: &[u8]| {
        let mut bytes = good;
        bytes[at..at + with.len()].copy_from_slice(with);
        assert_eq!(Cell::from_bytes(&bytes), None, "{with:?} at {at}");
    };
    for scale in [127_i16, -127, 254, i16::MAX, i16::MIN] {
        refused(20, &scale.to_le_bytes());
    }
    for limit in [126_i16 * 128 + 1, -126 * 128 - 1, i16::MAX, i16::MIN] {
        refused(22, &limit.to_le_bytes());
    }
    for trigger in 4..=255 {
        refused(24, &[trigger]);
    }
    for flags in 64..=255 {
        refused(25, &[flags]);
    }
    // Falls in a row, climbs in a row after them, and whether the limit is known.
    let tried = |falls: u8, climbs: u8| [falls | climbs << 3, falls | climbs << 3 | 64];
    let legal: Vec<u8> = (0..=4).flat_map(|n| [tried(n, 0), tried(0, n)]).flatten().collect();
    for trial in (0..=255).filter(|trial| !legal.contains(trial)) {
        refused(27, &[trial]);
    }
}

/// A cell that no step of its policy leaves is possible in none of its runs.
#[test]
fn memories_that_a_policy_cannot_have_are_impossible() {
    const REMEMBERS: u8 = 32;
    let measured = Config::for_format(Format::E4M3);
    let with = |policy| measured.with_policy(policy).expect("legal");
    let amax = with(Policy::Amax(Amax { window: 100, margin: 0 }));
    let backoff = with(Policy::Backoff(Backoff::chainer(7).expect("legal")));
    let range = with(Policy::Range(Range::new(Format::E4M3)));
    let fixed = with(Policy::Fixed(Scale::saturating(5)));
    let forged = |config: &Config, flags: u8, at: usize, with: &[u8]| {
        let mut bytes = config.cell().to_bytes();
        bytes[25] = flags;
        bytes[at..at + with.len()].copy_from_slice(with);
        Cell::from_bytes(&bytes).expect("the bytes of a cell").is_possible(config)
    };
    for real in [f64::NAN, f64::INFINITY, 0.0, -0.0, -1.0] {
        assert!(!forged(&range, 1, 0, &real.to_le_bytes()), "{real}");
        assert!(!forged(&backoff, 1, 0, &real.to_le_bytes()), "{real}");
    }
    assert!(!forged(&backoff, 1, 0, &70_000.0_f64.to_le_bytes()), "above the cap");
    assert!(!forged(&backoff, 1, 0, &3.0_f64.to_le_bytes()), "not the scale's");
    assert!(!forged(&fixed, 0, 20, &[6, 0]), "another scale");
    assert!(!forged(&measured, 0, 0, &[1]), "nothing was remembered");
    // Ring, least, t, u, place.
    let memory = |ring: [u8; 4], t: u16, u: u16, place: u8| {
        let ([t0, t1], [u0, u1]) = (t.to_le_bytes(), u.to_le_bytes());
        let [r0, r1, r2, r3] = ring;
        forged(
            &measured,
            REMEMBERS,
            0,
            &[r0, r1, r2, r3, 0, 1, t0, t1, u0, u1, place, 0, 0, 0, 0, 0],
        )
    };
    assert!(memory([1, 2, 3, 4], 256, 319, 0x83) && memory([1, 2, 127, 127], 0, 0, 2));
    assert!(!memory([1, 2, 3, 4], 257, 0, 0) && !memory([1, 2, 3, 4], 0, 320, 0));
    assert!(!memory([1, 127, 3, 4], 0, 0, 1) && !memory([1, 2, 127, 127], 0, 0, 1));
    let slots = |slot: u8, in_slot: u8| {
        let mut bytes = [5; 16];
        (bytes[12], bytes[13], bytes[14], bytes[15]) = (slot, in_slot, 0, 0);
        forged(&amax, REMEMBERS, 0, &bytes)
    };
    assert!(slots(0, 1) && slots(11, 9));
    assert!(!slots(12, 1) && !slots(0, 0) && !slots(0, 10));
}

proptest! {
    #![proptest_config(cases(1000))]

    /// Whatever bytes are read: either they are refused, or they are written back as they were and
    /// the cell can be used.
    #[test]
    fn any_bytes_are_refused_or_come_back(
        mut bytes: [u8; Cell::BYTES],
        legal in any::<bool>(),
        fields: (i32, i32, u8, u8),
    ) {
        if legal {
            let (scale, limit, trigger, flags) = fields;
            bytes[20..22].copy_from_slice(&((scale % 127) as i16).to_le_bytes());
            bytes[22..24].copy_from_slice(&((limit % (126 * 128)) as i16).to_le_bytes());
            bytes[24..26].copy_from_slice(&[trigger % 4, flags % 64]);
            bytes[27] = 0;
            prop_assert!(Cell::from_bytes(&bytes).is_some());
        }
        if let Some(mut cell) = Cell::from_bytes(&bytes) {
            prop_assert_eq!(cell.to_bytes(), bytes);
            for config in configs(Format::E5M2) {
                let tensor = Tensor { values: vec![1.0, 3.0e-4], incoming: Scale::ONE };
                certify(&config, &tensor.histogram(config.narrowing()), Scale::ONE, &mut cell);
                let max_bits = 1.0_f32.to_bits();
                let seen = Outcome { elements: 2, overflow: 1, max_bits, ..Outcome::EMPTY };
                note(&config, &seen, Scale::MAX, &mut cell);
                step(&config, true, &mut cell);
                finish(&config, &mut cell);
            }
        }
    }
}
