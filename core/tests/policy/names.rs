//! Policies by name and by number, and the bytes of their parameters.

use adaloss_core::{
    format::Format,
    policy::{
        Amax, Backoff, Config, Factor, Fraction, Growth, Measured, Normal, Operands, Policy, Range,
        decide_from_operands, note, step,
    },
    scale::Scale,
    statistics::{Outcome, Statistics},
};
use adaloss_oracle::formats;

use crate::visit::with;

/// Every policy, at the place of its number.
fn policies() -> [Policy; Policy::NAMES.len()] {
    [
        Policy::Fixed(Scale::saturating(-3)),
        Policy::Backoff(Backoff { interval: 7, ..Backoff::GRAD_SCALER }),
        Policy::Normal(Normal::paper(Format::BINARY16)),
        Policy::Range(Range { smallest: 0.5, largest: 3.0 }),
        Policy::Amax(Amax { window: 258, margin: 3 }),
        Policy::Measured(Measured { tolerance: Fraction::PER_MILLE, most_headroom: 9 }),
    ]
}

#[test]
fn a_policy_is_at_the_place_of_its_number() {
    for (number, policy) in policies().iter().enumerate() {
        assert_eq!(usize::from(policy.number()), number);
        assert_eq!(policy.name(), Policy::NAMES[number]);
        let bases = [policy.is_whole_model(), policy.follows_maxima(), policy.wants_operands()];
        assert_eq!(bases.iter().filter(|&&is_basis| is_basis).count(), 1, "{policy:?}");
    }
}

/// A name stands for parameters that are legal in every format; `fixed` has none that are usual.
#[test]
fn names_stand_for_what_is_usual() {
    for format in formats() {
        let config = Config::for_format(format);
        for name in Policy::NAMES {
            let named = Policy::named(name, format);
            assert_eq!(named.map_or("fixed", |policy| policy.name()), name);
            assert!(named.is_none_or(|policy| config.with_policy(policy).is_ok()), "{name}");
        }
        assert_eq!(Policy::named("measured", format), Some(*config.policy()));
        let normal = Normal::new(format, 1e-3).expect("a share");
        assert_eq!(Policy::named("normal", format), Some(Policy::Normal(normal)));
    }
    for name in ["", "Amax", "amax ", "mesured"] {
        assert_eq!(Policy::named(name, Format::BINARY16), None, "{name:?}");
    }
}

/// The layout that digests of checkpoints cover: this test is what a change of it has to break.
#[test]
fn the_bytes_of_parameters() {
    let normal = Normal::paper(Format::BINARY16);
    let backoff = Backoff::GRAD_SCALER;
    let expected: [Vec<u8>; Policy::NAMES.len()] = [
        vec![0, 0xfd, 0xff, 0xff, 0xff],
        [backoff.initial, 2.0, 1.0, 0.5, backoff.floor, backoff.cap]
            .into_iter()
            .fold(vec![1], |bytes, real| [bytes, real.to_le_bytes().to_vec()].concat())
            .into_iter()
            .chain([7, 0, 0, 0])
            .collect(),
        [normal.gaussian_factor, normal.log_normal_factor]
            .iter()
            .flat_map(|real| real.to_le_bytes())
            .chain([6e-8, 65504.0, 16.0, 1024.0_f32].iter().flat_map(|real| real.to_le_bytes()))
            .fold(vec![2], |bytes, byte| [bytes, vec![byte]].concat()),
        [&[3], &0.5_f32.to_le_bytes()[..], &3.0_f32.to_le_bytes()].concat(),
        vec![4, 3, 2, 1],
        [&[5, 9], &4_294_967_u32.to_le_bytes()[..]].concat(),
    ];
    for (policy, expected) in policies().into_iter().zip(expected) {
        let bytes = with(Config::for_format(Format::BINARY16), policy).to_bytes();
        // Five bytes of enumerations, three numbers of four.
        let (parameters, rest) = bytes[17..].split_at(expected.len());
        assert_eq!(parameters, expected, "{policy:?}");
        assert!(rest.iter().all(|&byte| byte == 0), "{policy:?}");
    }
}

/// `backoff` by hand: two steps of warm-up, one that is not clean, three that are.
#[test]
fn what_backoff_sees_in_a_cell() {
    let backoff = Backoff { warm_up: 2.0, interval: 3, ..Backoff::GRAD_SCALER };
    let config = with(Config::for_format(Format::BINARY16), Policy::Backoff(backoff));
    let mut cell = config.cell();
    let mut seen = vec![Growth::of(&cell)];
    for clean in [true, true, false, true, true, true] {
        step(&config, clean, &mut cell);
        seen.push(Growth::of(&cell));
    }
    let expected = [
        (65536.0, 0, false),
        (131_072.0, 0, false),
        (262_144.0, 0, false),
        (131_072.0, 0, true),
        (131_072.0, 1, true),
        (131_072.0, 2, true),
        (262_144.0, 0, true),
    ];
    let expected = expected.map(|(real_scale, clean_steps, has_shrunk)| Growth {
        real_scale,
        clean_steps,
        has_shrunk,
    });
    assert_eq!(seen, expected);
}

/// `range` by hand: with the smallest number 1/2 and the largest 3, a gradient of 2^-10 wants a factor of 2^9.
#[test]
fn what_range_sees_in_a_cell() {
    let config = with(Config::for_format(Format::BINARY16), policies()[3]);
    let mut cell = config.cell();
    assert_eq!(Factor::of(&cell), Factor { factor: 1.0, visits: 0 });
    let operands = Operands::Cast(Statistics::of(&[2.0_f32.powi(-10)]));
    decide_from_operands(&config, &operands, Scale::ONE, &mut cell);
    assert_eq!(Factor::of(&cell), Factor { factor: 512.0, visits: 0 });
    note(&config, &Outcome::EMPTY, Scale::ONE, &mut cell);
    assert_eq!(Factor::of(&cell), Factor { factor: 512.0, visits: 1 });
}
