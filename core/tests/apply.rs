//! Narrowing tensors: parts, passes, and what is refused.

use adaloss_core::{
    apply::{Apply, ApplyError, Counts, Pass},
    format::{E4M3, E5M2, Element, Encoding, Format, Narrowing, Noise, Rounding, bf16, f16},
    scale::{Scale, Shift},
    statistics::{Histogram, Outcome},
};

/// Values on every side of everything that can happen in binary16.
const VALUES: [f32; 12] = [
    0.0,
    -0.0,
    1.0,
    -65504.0,
    65520.0,
    2.0e-8,
    3.0e-8,
    -6.0e-5,
    1.0e-40,
    f32::NAN,
    f32::NEG_INFINITY,
    3.0e38,
];

fn scale(log2: i32) -> Scale {
    Scale::new(log2).unwrap()
}

fn apply(narrowing: Narrowing, log2: i32) -> Apply {
    Apply { narrowing, shift: scale(log2) / Scale::ONE, noise: Noise { seed: 7, stream: 9 } }
}

/// A slice is narrowed as its elements are, and counted as they are, in any partition.
#[test]
fn a_slice_is_its_elements() {
    for rounding in [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic] {
        for format in [Format::BINARY16, Format::BINARY16.flushing()] {
            let apply = apply(Narrowing::to(format).with_rounding(rounding), 3);
            let mut alone = Outcome::EMPTY;
            let expected: Vec<u32> =
                (0..).zip(VALUES).map(|(i, x)| apply.element(x, i, &mut alone)).collect();
            for parts in 1..=VALUES.len() {
                let mut narrowed = [f16::ZERO; VALUES.len()];
                let mut outcome = Outcome::EMPTY;
                let chunks = VALUES.chunks(parts).zip(narrowed.chunks_mut(parts));
                for (nth, (from, to)) in chunks.enumerate() {
                    apply.slice(from, to, (nth * parts) as u64, &mut outcome).unwrap();
                }
                assert!(narrowed.iter().map(|x| Element::to_bits(*x)).eq(expected.iter().copied()));
                assert_eq!(outcome, alone);
            }
        }
    }
}

/// Places of a tensor run on beyond 2^32, with words of their own: none of them is that of a place 2^32 before.
#[test]
fn a_tensor_may_have_more_than_2_to_the_32_elements() {
    let apply = apply(Narrowing::to(Format::E5M2).with_rounding(Rounding::Stochastic), 0);
    // Halfway between two numbers: a word decides.
    let values = [1.125; 600];
    let narrow = |first: u64| {
        let mut narrowed = [E5M2::ZERO; 600];
        let mut outcome = Outcome::EMPTY;
        apply.slice(&values, &mut narrowed, first, &mut outcome).unwrap();
        narrowed.map(|x| x.0)
    };
    let bits = |noise: Noise, places: std::ops::RangeInclusive<u32>| {
        places.map(move |place| if noise.word(place) < 1 << 31 { 0x3d } else { 0x3c })
    };
    let beyond = Noise { seed: 7 ^ 0x85eb_ca6b, stream: 9 };
    let across = bits(apply.noise, u32::MAX - 299..=u32::MAX).chain(bits(beyond, 0..=299));
    assert!(narrow((1 << 32) - 300).into_iter().eq(across));
    let mut outcome = Outcome::EMPTY;
    for (place, found) in ((1 << 32) - 300..).zip(narrow((1 << 32) - 300)) {
        assert_eq!(apply.element(1.125, place, &mut outcome), found.into());
    }
    let far = [0, 1 << 32, 1 << 33, 1 << 62, u64::MAX - 599].map(narrow);
    for (nth, one) in far.iter().enumerate() {
        assert!(far[..nth].iter().all(|other| {
            (240..360).contains(&one.iter().zip(other).filter(|(a, b)| a == b).count())
        }));
    }
    // Where the count of places ends, it goes on from zero.
    assert_eq!(narrow(u64::MAX - 299)[300..], narrow(0)[..300]);
}

/// Slices in which nothing is beyond the format, for which there is a shorter way: every number of the
/// format with its neighbours in f32, at several scales.
fn within<F: Element>() {
    for log2 in [-3, 0, 9] {
        let apply = apply(Narrowing::to(F::ENCODING.into()), log2);
        let patterns = (0..1 << F::ENCODING.bits()).map(|bits| F::from_bits(bits).widen());
        let numbers = patterns.map(|x| x * 2.0_f32.powi(-log2)).filter(|x| x.is_finite());
        let values: Vec<f32> = numbers
            .flat_map(|x| [x.next_down(), x, x.next_up()])
            .filter(|&x| {
                let mut one = Outcome::EMPTY;
                apply.element(x, 0, &mut one);
                one.overflow == 0
            })
            .collect();
        let (mut narrowed, mut outcome) = (vec![F::from_bits(0); values.len()], Outcome::EMPTY);
        apply.slice(&values, &mut narrowed, 0, &mut outcome).unwrap();
        let mut alone = Outcome::EMPTY;
        for (&x, narrowed) in values.iter().zip(&narrowed) {
            assert_eq!(narrowed.to_bits(), apply.element(x, 0, &mut alone), "{x:e} by {apply:?}");
        }
        assert_eq!(outcome, alone, "{apply:?}");
        assert!(outcome.overflow == 0 && outcome.subnormal > 0 && outcome.underflow > 0);
    }
}

#[test]
fn a_slice_within_its_format_is_its_elements() {
    within::<f16>();
    within::<E5M2>();
    within::<E4M3>();
}

/// A few values in straight-line code are each of them, or refused: exactly where one is not finite or
/// does not stay within what is rounded here, which begins at `least` and ends before `beyond`.
fn fast<F: Element>(least: f32, beyond: f32) {
    for log2 in [-20, 0, 9] {
        let apply = apply(Narrowing::to(F::ENCODING.into()), log2);
        let fast = apply.fast_narrowing::<F>().unwrap();
        let factor = 2.0_f32.powi(log2);
        let numbers = (0..1 << F::ENCODING.bits()).map(|bits| F::from_bits(bits).widen() / factor);
        let edges = [least, beyond, f32::MIN_POSITIVE, f32::MAX].map(|x| x / factor);
        let values = numbers.chain(edges).flat_map(|x| [x.next_down(), x, x.next_up()]);
        let mut last = 0.0;
        for x in values {
            let mut alone = Outcome::EMPTY;
            let bits = [last, x].map(|x| apply.element(x, 0, &mut alone));
            let is_refused = |x: f32| {
                let product = x.abs() * factor;
                let rounded = F::from_bits(apply.element(x, 0, &mut Outcome::default())).widen();
                !rounded.is_finite() || rounded.abs() >= beyond || x != 0.0 && product < least
            };
            match fast.narrow([last, x]) {
                Some((narrowed, outcome)) => {
                    assert!(!is_refused(x), "{x:e} by {apply:?}");
                    assert_eq!((narrowed.map(Element::to_bits), outcome), (bits, alone));
                    assert_eq!(fast.round(x).to_bits(), bits[1]);
                    last = x;
                }
                None => assert!(is_refused(x), "{x:e} by {apply:?}"),
            }
        }
    }
}

#[test]
fn a_few_values_in_straight_line_code_are_each_of_them() {
    fast::<f16>(0.0, 65520.0);
    fast::<E5M2>(0.0, 61440.0);
    fast::<E4M3>(0.0, 464.0);
    fast::<bf16>(f32::MIN_POSITIVE, 2.0_f32.powi(111));
}

/// f32 itself: every exponent, with significands that end in ties where the result is subnormal.
#[test]
fn a_few_values_of_f32_in_straight_line_code_are_each_of_them() {
    for log2 in [-126, -40, -2, -1, 0, 1, 30, 126] {
        let apply = apply(Narrowing::to(Format::BINARY32), log2);
        let fast = apply.fast_narrowing::<f32>().unwrap();
        let significands = [0, 1, 2, 3, 6, 0x3f_ffff, 0x40_0000, 0x40_0001, 0x7f_fffe, 0x7f_ffff];
        let bits = (0..1 << 9).flat_map(|top| significands.map(|low| top << 23 | low));
        for x in bits.map(f32::from_bits) {
            let mut alone = Outcome::EMPTY;
            let bits = [1.0, x].map(|x| apply.element(x, 0, &mut alone));
            match fast.narrow([1.0, x]) {
                Some((narrowed, outcome)) => {
                    assert_eq!((narrowed.map(Element::to_bits), outcome), (bits, alone), "{x:e}");
                }
                None => assert!(alone.nonfinite + alone.overflow > 0, "{x:e} by {apply:?}"),
            }
        }
    }
}

#[test]
fn what_has_no_straight_line_code() {
    let to = |narrowing| apply(narrowing, 0);
    let nearest = Narrowing::to(Format::BINARY16);
    assert!(to(nearest).fast_narrowing::<f16>().is_some());
    assert!(to(nearest).fast_narrowing::<bf16>().is_none());
    assert!(to(nearest.with_rounding(Rounding::Stochastic)).fast_narrowing::<f16>().is_none());
    assert!(to(nearest.with_rounding(Rounding::TowardZero)).fast_narrowing::<f16>().is_none());
    assert!(to(Narrowing::to(Format::BINARY16.flushing())).fast_narrowing::<f16>().is_none());
    assert!(to(Narrowing::to(Format::BINARY32.flushing())).fast_narrowing::<f32>().is_none());
    let far = Apply { shift: scale(126) / scale(-126), ..to(nearest) };
    assert!(far.fast_narrowing::<f16>().is_none());
}

#[test]
fn outcomes_count_each_element_once() {
    let mut narrowed = [f16::ZERO; VALUES.len()];
    let mut outcome = Outcome::EMPTY;
    let narrowing = Narrowing::to(Format::BINARY16);
    apply(narrowing, 0).slice(&VALUES, &mut narrowed, 0, &mut outcome).unwrap();
    assert_eq!(
        outcome,
        Outcome {
            elements: 12,
            nonfinite: 2,
            zero: 2,
            underflow: 2, // 2.0e-8 is below half of 2^-24, 1.0e-40 is an f32 subnormal
            subnormal: 2, // 3.0e-8 rounds up to 2^-24, -6.0e-5 is below 2^-14
            overflow: 2,  // 65520 is the tie with infinity, 3.0e38
            max_bits: 3.0e38_f32.to_bits(),
            reserved: 0,
        }
    );
    assert_eq!(outcome.nonzero(), 8);
    assert_eq!(outcome.underflow_fraction(), 0.25);
}

/// Nothing is written or counted when a call is refused.
#[test]
fn mismatches_change_nothing() {
    let apply = apply(Narrowing::to(Format::BINARY16), 0);
    let mut outcome = Outcome::EMPTY;
    let mut short = [f16::ONE; 3];
    let error = apply.slice(&VALUES, &mut short, 0, &mut outcome).unwrap_err();
    assert_eq!(error, ApplyError::Length { from: 12, to: 3 });
    assert_eq!(error.to_string(), "12 values cannot be narrowed into room for 3");
    let mut other = [bf16::ONE; VALUES.len()];
    let error = apply.slice(&VALUES, &mut other, 0, &mut outcome).unwrap_err();
    let expected = ApplyError::Encoding { asked: Encoding::Binary16, given: Encoding::BFloat16 };
    assert_eq!(error, expected);
    let text = "gradients are configured as Binary16 and cannot be stored as BFloat16";
    assert_eq!(error.to_string(), text);
    assert_eq!((short, other), ([f16::ONE; 3], [bf16::ONE; VALUES.len()]));
    assert_eq!(outcome, Outcome::EMPTY);

    let (mut counts, mut histogram) = (Counts::NONE, Histogram::new(Narrowing::to(Format::E5M2)));
    let mut pass =
        Pass::measuring(Narrowing::to(Format::E5M2), Scale::ONE, &mut counts, &mut histogram);
    assert!(pass.apply(&VALUES, &mut short).is_err());
    assert!(pass.apply(&VALUES, &mut [f16::ONE; VALUES.len()]).is_err());
    assert_eq!(histogram, Histogram::new(Narrowing::to(Format::E5M2)));
}

#[test]
fn a_measuring_pass_counts_and_stores_nothing() {
    let narrowing = Narrowing::to(Format::E5M2);
    let (mut counts, mut histogram) = (Counts::NONE, Histogram::new(narrowing));
    let mut to = [E5M2(0x55); VALUES.len()];
    let mut pass = Pass::measuring(narrowing, scale(4), &mut counts, &mut histogram);
    assert!(!pass.stores());
    assert_eq!((pass.shift(), pass.incoming(), pass.outgoing()), (Shift::NONE, scale(4), scale(4)));
    pass.apply(&VALUES, &mut to).unwrap();
    assert_eq!((to, counts.outcome), ([E5M2(0x55); VALUES.len()], Outcome::EMPTY));
    let mut expected = Histogram::new(narrowing);
    expected.observe(&VALUES, scale(4));
    assert_eq!(histogram, expected);
}

/// Parts of a pass continue the random words where the part before ended.
#[test]
fn a_storing_pass_may_come_in_parts() {
    let narrowing = Narrowing::to(Format::BINARY16).with_rounding(Rounding::Stochastic);
    let noise = Noise { seed: 1, stream: 2 };
    let values: Vec<f32> = (0..1000).map(|i| (i as f32 + 0.3) * 1.0e-3).collect();
    let store = |parts: usize| {
        let (mut counts, mut to) = (Counts::NONE, vec![f16::ZERO; values.len()]);
        let mut pass = Pass::storing(narrowing, noise, scale(2), scale(-3), &mut counts);
        assert_eq!(pass.shift().log2(), -5);
        for (from, to) in values.chunks(parts).zip(to.chunks_mut(parts)) {
            pass.apply(from, to).unwrap();
        }
        (to, counts.outcome)
    };
    let whole = store(1000);
    assert_eq!(store(1), whole);
    assert_eq!(store(333), whole);
    assert_eq!(whole.1.elements, 1000);
}

/// Every encoding, subnormals, rounding and overflow, with shifts up to the widest: long slices are
/// narrowed in straight-line code, and every pattern of exponent and of the bits that decide a tie
/// is among the values.
#[test]
fn a_long_slice_is_its_elements_in_every_narrowing() {
    fn check<F: Element>() {
        let mut values: Vec<f32> = VALUES.into();
        for high in 0..0x200_u32 {
            for low in [0, 1, 0xfff, 0x1000, 0x1001, 0x7f_ffff, 0x10_0000, 0x30_0000, 0x7f_f000] {
                values.push(f32::from_bits(high << 23 | low));
            }
        }
        for subnormals in [Format::from(F::ENCODING), Format::from(F::ENCODING).flushing()] {
            for rounding in [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic] {
                let plain = Narrowing::to(subnormals).with_rounding(rounding);
                for narrowing in [plain, plain.saturating()] {
                    for shift in (-252..=252).step_by(7).chain([-1, 0, 1, 101, 102, 109, 110]) {
                        let from = scale(-shift / 2);
                        let apply =
                            Apply { shift: scale(shift - shift / 2) / from, ..apply(narrowing, 0) };
                        let mut outcomes = [Outcome::EMPTY; 2];
                        let mut narrowed = vec![F::from_bits(0); values.len()];
                        apply.slice(&values, &mut narrowed, 5, &mut outcomes[0]).unwrap();
                        for (index, (&x, narrowed)) in (5..).zip(values.iter().zip(&narrowed)) {
                            let expected = apply.element(x, index, &mut outcomes[1]);
                            assert_eq!(narrowed.to_bits(), expected, "{x:e} {apply:?}");
                        }
                        assert_eq!(outcomes[0], outcomes[1], "{apply:?}");
                    }
                }
            }
        }
    }
    check::<f16>();
    check::<bf16>();
    check::<E5M2>();
    check::<E4M3>();
    check::<f32>();
}
