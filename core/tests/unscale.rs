//! Back to f32: exact where it can be, counted where it is not.

use adaloss_core::{
    apply::{Apply, ApplyError},
    format::{Element, Format, Narrowing, Noise, bf16, f16},
    propagate::Scaled,
    scale::Scale,
    statistics::Outcome,
    unscale::{Cause, Place, Unscaled, unscale},
};
use adaloss_oracle::inputs::{SplitMix64, cases};
use proptest::prelude::*;

/// Every binary16 number at every legal scale: the unscaled value is the exact quotient rounded once,
/// exact where it is a normal f32, and counted where it is not, in a slice, one by one, and where it is narrowed into f32.
#[test]
fn every_binary16_number_at_every_scale() {
    let all: Vec<f16> = (0..=0xffff).map(Element::from_bits).collect();
    let mut gradient = vec![0.0; all.len()];
    for log2 in -126..=126 {
        let scale = Scale::new(log2).unwrap();
        let met = unscale(Format::BINARY16, Scaled::new(&all[..], scale), &mut gradient).unwrap();
        let mut expected = Unscaled { elements: 0x10000, ..Unscaled::default() };
        let mut one_by_one = Unscaled::default();
        for (x, unscaled) in all.iter().zip(&gradient) {
            one_by_one.record(x.widen(), *unscaled);
            expected.nonfinite += u64::from(!unscaled.is_finite());
            if !x.is_finite() {
                assert!(!unscaled.is_finite());
                continue;
            }
            let exact = f64::from(x.widen()) * 2.0_f64.powi(-log2);
            assert_eq!(unscaled.to_bits(), (exact as f32).to_bits());
            let tiny = exact != 0.0 && exact.abs() < f64::from(f32::MIN_POSITIVE);
            expected.tiny += u64::from(tiny);
            assert!(tiny || exact.abs() >= 2.0_f64.powi(128) || f64::from(*unscaled) == exact);
        }
        assert_eq!((met, one_by_one), (expected, expected));

        let (narrowing, noise) = (Narrowing::to(Format::BINARY32), Noise::default());
        let apply = Apply { narrowing, shift: Scale::ONE / scale, noise };
        let mut outcome = Outcome::EMPTY;
        for (index, x) in all.iter().enumerate() {
            apply.element(x.widen(), index as u64, &mut outcome);
        }
        assert_eq!(Unscaled::from_outcome(&outcome), expected);
    }
}

/// An f32 has more bits than the subnormals it becomes: a quotient below 2^-126 may be rounded up to it,
/// and is counted with those that stay below.
#[test]
fn what_is_rounded_up_to_the_smallest_normal_number_is_counted() {
    for log2 in -126..=126 {
        let scale = Scale::new(log2).unwrap();
        let edge = (f64::from(f32::MIN_POSITIVE) * f64::from(scale.factor())) as f32;
        let around = [edge.next_down(), edge, edge.next_up(), f32::from_bits(1), f32::MIN_POSITIVE];
        for x in around.into_iter().flat_map(|x| [x, -x]) {
            let exact = f64::from(x) * 2.0_f64.powi(-log2);
            let tiny = u64::from(x != 0.0 && exact.abs() < f64::from(f32::MIN_POSITIVE));
            let mut gradient = [0.0];
            let met = unscale(Format::BINARY32, Scaled::new([x], scale), &mut gradient).unwrap();
            assert_eq!(gradient[0].to_bits(), (exact as f32).to_bits());
            assert_eq!(met.tiny, tiny, "{x:e} at {scale}");
            assert!(tiny == 1 || met.nonfinite == 1 || f64::from(gradient[0]) == exact);
            let mut one = Unscaled::default();
            one.record(x, gradient[0]);
            assert_eq!(one, met, "{x:e} at {scale}");
        }
    }
}

/// A finite gradient that leaves f32 when it is unscaled does not pass unseen.
#[test]
fn what_leaves_f32_is_counted() {
    let mut gradient = [0.0; 2];
    let large = Scaled::new([f16::MAX, f16::ONE], Scale::MIN);
    let met = unscale(Format::BINARY16, large, &mut gradient).unwrap();
    assert_eq!(gradient, [f32::INFINITY, Scale::MAX.factor()]);
    assert_eq!(met, Unscaled { elements: 2, nonfinite: 1, tiny: 0 });
}

#[test]
fn flushing_formats_read_subnormals_as_zero() {
    let smallest = [bf16::from_bits(0x0001), bf16::from_bits(0x8001), bf16::from_bits(0x0080)];
    let mut gradient = [9.0; 3];
    let format = Format::BFLOAT16.flushing();
    let met = unscale(format, Scaled::new(&smallest, Scale::ONE), &mut gradient).unwrap();
    assert_eq!(gradient.map(f32::to_bits), [0, 0x8000_0000, f32::MIN_POSITIVE.to_bits()]);
    assert_eq!(met, Unscaled { elements: 3, nonfinite: 0, tiny: 0 });
}

#[test]
fn a_length_mismatch_writes_nothing() {
    let mut gradient = [9.0; 2];
    let from = Scaled::new([f16::ONE; 3], Scale::ONE);
    let error = unscale(Format::BINARY16, from, &mut gradient).unwrap_err();
    assert_eq!(error, ApplyError::Length { from: 3, to: 2 });
    assert_eq!(gradient, [9.0; 2]);
}

/// Counters that only a broken device leaves behind do not wrap to a step that is usable.
#[test]
fn an_impossible_outcome_stays_bad() {
    let full = u64::MAX;
    let outcome = Outcome {
        nonfinite: full,
        overflow: 1,
        underflow: full,
        subnormal: full,
        ..Outcome::EMPTY
    };
    let met = Unscaled::from_outcome(&outcome);
    assert_eq!(met, Unscaled { elements: 0, nonfinite: full, tiny: full });
}

#[test]
fn what_was_met_merges() {
    let mut met = Unscaled { elements: 3, nonfinite: 1, tiny: 0 };
    met.merge(&Unscaled { elements: 2, nonfinite: 0, tiny: 2 });
    assert_eq!(met, Unscaled { elements: 5, nonfinite: 1, tiny: 2 });
}

#[test]
fn places_and_causes_read_as_words() {
    let places = [Place::Loss, Place::Layer(5), Place::Weight(3)];
    let words = ["the loss gradient", "layer 5", "the weight gradient of layer 3"];
    assert_eq!(places.map(|place| place.to_string()), words);
    let causes = [Cause::NonFinite, Cause::Overflow].map(|cause| cause.to_string());
    assert_eq!(causes, ["non-finite values", "overflow"]);
}

/// What unscaling a slice meets.
fn met(format: Format, elements: &[bf16], scale: Scale) -> Unscaled {
    let mut gradient = vec![0.0; elements.len()];
    unscale(format, Scaled::new(elements, scale), &mut gradient).unwrap()
}

proptest! {
    #![proptest_config(cases(300))]

    /// Any split, merged in any order, meets what the whole does; so do its elements one by one, and
    /// nothing is the identity.
    #[test]
    fn any_split_and_any_order_meet_the_same(
        bits in prop::collection::vec(any::<u16>(), 0..300),
        (log2, flushes) in (-126..=126, any::<bool>()),
        parts in 1..9_usize,
        seed: u64,
    ) {
        let format = if flushes { Format::BFLOAT16.flushing() } else { Format::BFLOAT16 };
        let scale = Scale::new(log2).unwrap();
        let mut generator = SplitMix64(seed);
        let mut elements: Vec<bf16> = bits.into_iter().map(bf16::from_bits).collect();
        let whole = met(format, &elements, scale);

        generator.shuffle(&mut elements);
        let mut cuts: Vec<usize> = (1..parts).map(|_| generator.below(elements.len() + 1)).collect();
        cuts.extend([0, elements.len()]);
        cuts.sort_unstable();
        let mut parts: Vec<Unscaled> =
            cuts.windows(2).map(|ends| met(format, &elements[ends[0]..ends[1]], scale)).collect();
        while parts.len() > 1 {
            let taken = parts.swap_remove(generator.below(parts.len()));
            let into = generator.below(parts.len());
            parts[into].merge(&taken);
        }
        prop_assert_eq!(parts[0], whole);

        let mut single = Unscaled::default();
        for x in elements {
            let scaled = format.widen(u32::from(x.to_bits()));
            single.record(scaled, scaled * scale.inverse().factor());
        }
        prop_assert_eq!(single, whole);
        let (mut left, mut right) = (Unscaled::default(), whole);
        left.merge(&whole);
        right.merge(&Unscaled::default());
        prop_assert_eq!((left, right), (whole, whole));
    }
}
