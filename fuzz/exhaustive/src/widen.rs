//! From low precision to f32: widened, unscaled, shifted.

use adaloss_core::{
    format::{Element, Encoding, Format, Subnormals},
    propagate::Scaled,
    scale::Scale,
    unscale::Unscaled,
    with_element,
};
use adaloss_oracle::{
    apfloat::{self, Round},
    is_same, product,
};

use crate::{
    Subject, Tally,
    narrow::shift,
    tally::{pattern, single},
};

/// Returns every bit pattern of an encoding of 8 or 16 bits.
pub(crate) fn patterns(encoding: Encoding) -> std::ops::Range<u32> {
    0..1 << encoding.bits()
}

/// Returns the value of a bit pattern, as the format reads it.
pub(crate) fn value(format: Format, bits: u32) -> f32 {
    apfloat::read(format, bits) as f32
}

/// Checks every pattern of an encoding, gradual and flushed.
pub(crate) fn widened<S: Subject>(subject: &S, encoding: Encoding) -> Tally {
    let mut tally = Tally::default();
    for format in formats(encoding) {
        for bits in patterns(encoding) {
            let (got, expected) = (subject.widen(format, bits), value(format, bits));
            // A NaN becomes a quiet one of the same sign.
            let quiet = 0x7fc0_0000 | if expected.is_sign_negative() { 1 << 31 } else { 0 };
            let agrees = if expected.is_nan() {
                got.to_bits() & 0xffc0_0000 == quiet
            } else {
                got.to_bits() == expected.to_bits()
            };
            tally.check(agrees, || {
                let [got, expected] = [got, expected].map(single);
                let bits = pattern(encoding, bits);
                format!("{format:?}: {bits} widened to {got} instead of {expected}")
            });
        }
    }
    tally
}

/// Checks every pattern of an encoding of 8 or 16 bits at one scale, gradual and flushed.
pub(crate) fn unscaled<S: Subject>(subject: &S, encoding: Encoding, scale: Scale) -> Tally {
    with_element!(encoding, F => unscaled_from::<S, F>(subject, scale))
}

fn unscaled_from<S: Subject, F: Element>(subject: &S, scale: Scale) -> Tally {
    let mut tally = Tally::default();
    let elements: Vec<F> = patterns(F::ENCODING).map(F::from_bits).collect();
    let mut to = vec![0.0; elements.len()];
    for format in formats(F::ENCODING) {
        let met = subject.unscale(format, Scaled::new(&elements, scale), &mut to);
        let mut expected_met = Unscaled { elements: to.len() as u64, ..Unscaled::default() };
        for (bits, &got) in (0..).zip(&to) {
            let x = value(format, bits);
            let expected = moved(x, -scale.log2());
            expected_met.nonfinite += u64::from(!expected.is_finite());
            let is_tiny = x != 0.0
                && x.is_finite()
                && product(x.abs(), -scale.log2()) < f64::from(f32::MIN_POSITIVE);
            expected_met.tiny += u64::from(is_tiny);
            tally.check(is_same(got, expected), || {
                let [got, expected] = [got, expected].map(single);
                let bits = pattern(F::ENCODING, bits);
                format!("{format:?}: {bits} unscaled from {scale} is {got} instead of {expected}")
            });
        }
        tally.check(met == expected_met, || {
            format!("{format:?} from {scale}: unscaling met {met:?} instead of {expected_met:?}")
        });
    }
    tally
}

/// Checks every pattern of an encoding, shifted by `2^d` in f32.
pub(crate) fn shifted<S: Subject>(subject: &S, encoding: Encoding, d: i32) -> Tally {
    let mut tally = Tally::default();
    for bits in patterns(encoding) {
        let x = value(encoding.into(), bits);
        let (got, expected) = (subject.shifted(x, shift(d)), moved(x, d));
        tally.check(is_same(got, expected), || {
            let [got, expected] = [got, expected].map(single);
            format!("2^{d} * {} in f32 is {got} instead of {expected}", single(x))
        });
    }
    tally
}

fn formats(encoding: Encoding) -> [Format; 2] {
    [Subnormals::Gradual, Subnormals::Flush].map(|subnormals| Format::new(encoding, subnormals))
}

/// Returns `2^d x`, rounded to f32 once.
fn moved(x: f32, d: i32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let round = Round::NearestTiesToEven;
    f32::from_bits(apfloat::round_product(Encoding::Binary32, x, d, round))
}
