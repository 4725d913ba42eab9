//! The typed side: every element type, and the single rounding of multiply and add.

use adaloss_core::{
    format::{
        E4M3, E5M2, Element, Encoding, Format, Narrowing, Overflow, Rounding, Subnormals, bf16,
        dot, f16,
    },
    with_element,
};
use adaloss_oracle::{Grid, Limits, apfloat, inputs::SplitMix64};
use num_traits::{Bounded, ToPrimitive};

/// Runs a generic check for each element type.
macro_rules! for_each_element {
    ($check:ident) => {
        for encoding in Encoding::ALL {
            with_element!(encoding, F => $check::<F>());
        }
    };
}

/// All patterns of a type, of f32 a stride of them.
fn patterns<F: Element>() -> impl Iterator<Item = u32> {
    let bits = F::ENCODING.bits();
    let stride = if bits == 32 { 65_521 } else { 1 };
    (0..1_u64 << bits).step_by(stride).map(|bits| bits as u32)
}

fn check_bits_and_widening<F: Element>() {
    for bits in patterns::<F>() {
        let element = F::from_bits(bits);
        assert_eq!(element.to_bits(), bits);
        let (widened, expected) = (element.widen(), apfloat::decode(F::ENCODING, bits));
        assert!(f64::from(widened).to_bits() == expected.to_bits() || widened.is_nan());
        assert_eq!(widened.is_nan(), expected.is_nan());
    }
}

#[test]
fn bits_survive_and_widen() {
    for_each_element!(check_bits_and_widening);
}

fn check_bounds<F: Element>() {
    let largest = Limits::of(F::ENCODING).largest;
    assert_eq!(f64::from(<F as Bounded>::max_value().widen()), largest);
    assert_eq!(f64::from(<F as Bounded>::min_value().widen()), -largest);
}

#[test]
fn bounds_are_the_largest_finite_numbers() {
    for_each_element!(check_bounds);
}

fn check_conversions<F: Element>() {
    for bits in patterns::<F>() {
        let (element, exact) = (F::from_bits(bits), apfloat::decode(F::ENCODING, bits));
        if exact.is_nan() {
            assert!(element.to_f64().is_some_and(f64::is_nan));
            assert!(element.to_f32().is_some_and(f32::is_nan));
            assert_eq!((element.to_i64(), element.to_u64()), (None, None));
            continue;
        }
        assert_eq!(element.to_f64(), Some(exact));
        assert_eq!(element.to_f32(), Some(exact as f32));
        assert_eq!(element.to_i64(), exact.to_i64(), "{element:?}");
        assert_eq!(element.to_u64(), exact.to_u64(), "{element:?}");
    }
}

#[test]
fn conversions_are_exact() {
    for_each_element!(check_conversions);
}

/// `Element::narrow` takes the encoding from the type and everything else from the narrowing.
fn check_narrow<F: Element>() {
    let grid = Grid::new(F::ENCODING);
    let mut generator = SplitMix64(31);
    for subnormals in [Subnormals::Gradual, Subnormals::Flush] {
        for rounding in [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic] {
            for overflow in [Overflow::Infinity, Overflow::Saturate] {
                let format = Format::new(F::ENCODING, subnormals);
                let narrowing = Narrowing { format, rounding, overflow };
                let mut other = narrowing;
                other.format.encoding = Encoding::E5M2;
                for _ in 0..2000 {
                    let (x, noise) = (f32::from_bits(generator.half_word()), generator.half_word());
                    let k = generator.below(505) as i32 - 252;
                    let bits = F::narrow(x, other, k, noise).to_bits();
                    assert_eq!(bits, grid.narrow(narrowing, x, k, noise).bits);
                }
            }
        }
    }
}

#[test]
fn narrow_is_that_of_the_type() {
    for_each_element!(check_narrow);
}

/// Compares with APFloat's fused operation, wherever the documentation claims a single rounding.
fn check_fused<A: Element, B: Element>() {
    let mut generator = SplitMix64(32);
    let (mut checked, mut finite) = (0, 0);
    while checked < 100_000 {
        let (a, b) = (A::from_bits(generator.half_word()), B::from_bits(generator.half_word()));
        let (x, y) = (a.widen(), b.widen());
        let product = f64::from(x) * f64::from(y);
        let normal = product.abs() >= 2.0_f64.powi(-126) && product.abs() <= f64::from(f32::MAX);
        if !(normal || product == 0.0) {
            continue;
        }
        // An accumulator of a like magnitude, so that the sum rounds.
        let nudge = f64::from(generator.between_binades(-26, 26));
        for c in [(product * nudge) as f32, -product as f32, generator.finite()] {
            let (sum, expected) = (a.mul_add(b, c), apfloat::fused(x, y, c));
            assert_eq!(sum.to_bits(), expected.to_bits(), "{x:e} * {y:e} + {c:e}");
            finite += u32::from(sum.is_finite());
        }
        checked += 1;
    }
    assert!(finite > 200_000);
}

#[test]
fn small_elements_multiply_and_add_with_one_rounding() {
    check_fused::<f16, f16>();
    check_fused::<bf16, bf16>();
    check_fused::<f16, bf16>();
    check_fused::<E4M3, E4M3>();
    check_fused::<E5M2, E4M3>();
    check_fused::<E5M2, f16>();
    check_fused::<bf16, E4M3>();
}

/// The documented exceptions: two f32 elements, and a product below the normal f32 numbers.
#[test]
fn two_roundings_where_documented() {
    let mut generator = SplitMix64(33);
    let mut differ = 0;
    for _ in 0..100_000 {
        let x = generator.between_binades(-60, 60);
        let y = generator.between_binades(-60, 60);
        let c =
            (f64::from(x) * f64::from(y) * f64::from(generator.between_binades(-12, 12))) as f32;
        let sum = Element::mul_add(x, y, c);
        assert_eq!(sum.to_bits(), apfloat::unfused(x, y, c).to_bits());
        differ += u32::from(sum.to_bits() != apfloat::fused(x, y, c).to_bits());
    }
    assert!(differ > 1000, "the claim would be empty");
    // 2^-100 * 1.0000001_2 * 2^-43: the product 2^-143 (1 + 2^-7) is off f32's grid of 2^-149.
    let (a, b) = (bf16::from_bits(0x0d81), bf16::from_bits(0x2a01));
    let product = f64::from(a.widen()) * f64::from(b.widen());
    assert_ne!(f64::from(product as f32), product);
    assert_eq!(a.mul_add(b, 0.0).to_bits(), apfloat::unfused(a.widen(), b.widen(), 0.0).to_bits());
}

/// A dot product is the fold of single roundings from the first element to the last.
fn check_dot<F: Element>() {
    let mut generator = SplitMix64(34);
    for length in [0, 1, 2, 7, 64, 333] {
        let one = f64::from(generator.between_binades(-3, 3).abs());
        let mut draw = || loop {
            let element = F::from_bits(generator.half_word());
            let x = f64::from(element.widen().abs());
            if x > one * 1e-3 && x < one * 1e3 {
                return element;
            }
        };
        let a: Vec<F> = (0..length).map(|_| draw()).collect();
        let b: Vec<F> = (0..length + 3).map(|_| draw()).collect();
        let pairs = a.iter().zip(&b);
        let expected = pairs.fold(0.0, |sum, (a, b)| match F::ENCODING {
            Encoding::Binary32 => apfloat::unfused(a.widen(), b.widen(), sum),
            _ => apfloat::fused(a.widen(), b.widen(), sum),
        });
        assert_eq!(dot(&a, &b).to_bits(), expected.to_bits());
        assert_eq!(dot(&b, &a).to_bits(), expected.to_bits());
    }
}

#[test]
fn dot_sums_from_the_first_element() {
    for_each_element!(check_dot);
}

#[test]
fn eight_bit_storage_compares_bits_and_prints_values() {
    assert_ne!(E4M3(0x00), E4M3(0x80));
    assert_eq!(E4M3(0x7f), E4M3(0x7f));
    assert_eq!(format!("{} {:?}", E4M3(0x7e), E5M2(0xfc)), "448 E5M2(0xfc = -inf)");
    assert_eq!((f32::from(E5M2(0x3c)), E4M3::default()), (1.0, E4M3(0)));
}

/// Numbers and names are written to files and known to C: a new encoding comes after these.
#[test]
fn encodings_are_listed_by_their_numbers_and_named() {
    assert!(Encoding::ALL.into_iter().enumerate().all(|(nth, encoding)| encoding as usize == nth));
    let listed =
        Encoding::ALL.map(|encoding| (encoding as usize, encoding.name(), encoding.short_name()));
    let expected = [
        (0, "binary16", "f16"),
        (1, "bfloat16", "bf16"),
        (2, "E5M2", "e5m2"),
        (3, "E4M3", "e4m3"),
        (4, "binary32", "f32"),
    ];
    assert_eq!(listed[..expected.len()], expected);
}

/// Rounding from f64 in one go: at each number, at each middle between two and right beside it, as far beside as f64
/// can tell.
fn check_nearest<F: Element>() {
    let encoding = F::ENCODING;
    let sign_bit = 1 << (encoding.bits() - 1);
    let largest = <F as Bounded>::max_value().to_bits();
    let overflowed = Limits::of(encoding).infinity_bits;
    let check = |x: f64, expected: u32| {
        assert_eq!(F::nearest(x).to_bits(), expected, "{x:e} to {encoding:?}");
        assert_eq!(F::nearest(-x).to_bits(), expected | sign_bit, "-{x:e} to {encoding:?}");
    };
    for bits in patterns::<F>().take_while(|&bits| bits <= largest) {
        let number = apfloat::decode(encoding, bits);
        check(number, bits);
        check(number.next_up(), bits);
        // The number that would come next, if there were one.
        let (next, above) = if bits == largest {
            (2.0 * number - apfloat::decode(encoding, bits - 1), overflowed)
        } else {
            (apfloat::decode(encoding, bits + 1), bits + 1)
        };
        let middle = (number + next) / 2.0;
        check(middle, if bits % 2 == 0 { bits } else { above });
        check(middle.next_down(), bits);
        check(middle.next_up(), above);
        check(next.next_down(), above);
    }
    check(f64::from_bits(1), 0);
    check(f64::MAX, overflowed);
    check(f64::INFINITY, overflowed);
    for nan in [f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001)] {
        let [positive, negative] = [nan.abs(), -nan.abs()].map(|nan| F::nearest(nan));
        assert!(positive.widen().is_nan());
        assert_eq!(negative.to_bits(), positive.to_bits() | sign_bit);
    }
}

#[test]
fn an_f64_is_rounded_once() {
    for_each_element!(check_nearest);
}

/// What the `half` crate makes of the same, which the documentation warns of: the lower half of an f64 is not looked at.
#[test]
fn the_storage_types_own_conversion_is_another() {
    let above_a_middle = f64::from(f32::from_bits(0x8370_8004));
    assert_eq!(bf16::nearest(above_a_middle).to_bits(), 0x8371);
    assert_eq!(bf16::from_f64(above_a_middle).to_bits(), 0x8370);
    let above_a_middle = 1.0 + 2.0_f64.powi(-11) + 2.0_f64.powi(-40);
    assert_eq!(f16::nearest(above_a_middle).to_bits(), 0x3c01);
    assert_eq!(f16::from_f64(above_a_middle).to_bits(), 0x3c00);
}
