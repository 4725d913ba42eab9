//! From low precision to f32: every bit pattern.

use adaloss_core::format::{Encoding, Format};
use adaloss_oracle::{Limits, apfloat, formats};

/// All patterns of 16 and 8 bits; of binary32 a prime stride.
fn patterns(encoding: Encoding) -> impl Iterator<Item = u32> {
    let (last, stride) = match encoding.bits() {
        32 => (u32::MAX, 1021),
        bits => ((1 << bits) - 1, 1),
    };
    (0..=last).step_by(stride)
}

#[test]
fn every_pattern_widens_to_what_apfloat_decodes() {
    for format in formats() {
        let limits = Limits::of(format.encoding);
        for bits in patterns(format.encoding) {
            let expected = apfloat::decode(format.encoding, bits);
            let widened = format.encoding.widen(bits);
            if expected.is_nan() {
                let negative = bits & limits.sign_bit() != 0;
                let quiet = widened.to_bits() & 0x7fc0_0000 == 0x7fc0_0000;
                assert!(widened.is_nan(), "{format:?} {bits:#x}");
                assert_eq!(widened.is_sign_negative(), negative, "{format:?} {bits:#x}");
                // A binary32 is passed through as it is.
                assert!(quiet || format.encoding == Encoding::Binary32, "{format:?} {bits:#x}");
                assert!(format.widen(bits).is_nan());
                continue;
            }
            assert_eq!(f64::from(widened).to_bits(), expected.to_bits(), "{format:?} {bits:#x}");
            let expected = apfloat::read(format, bits);
            let widened = f64::from(format.widen(bits));
            assert_eq!(widened.to_bits(), expected.to_bits(), "{format:?} {bits:#x}");
        }
    }
}

#[test]
fn bits_above_the_width_are_ignored() {
    for format in formats().into_iter().filter(|format| format.encoding.bits() < 32) {
        for bits in patterns(format.encoding) {
            let (plain, dirty) =
                (format.widen(bits), format.widen(bits | !0 << format.encoding.bits()));
            assert_eq!(plain.to_bits(), dirty.to_bits(), "{format:?} {bits:#x}");
        }
    }
}

#[test]
fn constants_are_those_of_the_standards() {
    for format in formats() {
        let (encoding, limits) = (format.encoding, Limits::of(format.encoding));
        let decode = |bits| apfloat::decode(encoding, bits);
        assert_eq!(encoding.bits(), limits.width);
        assert_eq!(encoding.max_finite_bits(), limits.largest_bits);
        assert_eq!(encoding.overflow_bits(), limits.infinity_bits);
        assert_eq!(encoding.nan_bits(), limits.nan_bits);
        assert_eq!(encoding.sign_bit(), limits.sign_bit());
        assert_eq!(decode(encoding.max_finite_bits()), limits.largest);
        assert_eq!(decode(encoding.min_normal_bits()), limits.smallest_normal);
        assert_eq!(decode(1), limits.smallest);
        assert_eq!(f64::from(encoding.min_subnormal_log2()).exp2(), limits.smallest);
        assert_eq!(f64::from(encoding.min_normal_log2()).exp2(), limits.smallest_normal);
        assert_eq!(f64::from(encoding.max_log2()), limits.largest.log2().floor());
        assert_eq!(encoding.has_infinity(), decode(encoding.overflow_bits()).is_infinite());
        assert!(decode(encoding.nan_bits()).is_nan());
        let significands = limits.smallest_normal / limits.smallest;
        assert_eq!(significands, f64::from(encoding.precision() - 1).exp2());
        let smallest = f64::from(format.min_positive_log2()).exp2();
        assert_eq!(smallest, Limits::smallest_of(format), "{format:?}");
    }
}

/// NaN patterns that are easily mistaken: E4M3 has one per sign, a signalling NaN stays a NaN.
#[test]
fn named_patterns() {
    assert_eq!(Encoding::E4M3.widen(0x7e), 448.0);
    assert!(Encoding::E4M3.widen(0x7f).is_nan());
    assert_eq!(Encoding::E4M3.widen(0x78), 256.0, "E4M3 spends no binade on infinity");
    assert_eq!(Encoding::E5M2.widen(0xfc), f32::NEG_INFINITY);
    assert_eq!(Encoding::Binary16.widen(0x7c01).to_bits(), 0x7fc0_0000);
    assert_eq!(Encoding::Binary16.widen(0xffff).to_bits(), 0xffc0_0000);
    assert_eq!(Encoding::BFloat16.widen(0x0001), f32::from_bits(0x0001_0000));
    assert_eq!(Format::BFLOAT16.flushing().widen(0x8001).to_bits(), 0x8000_0000);
    assert_eq!(Format::BINARY16.flushing().widen(0x03ff), 0.0);
    assert_eq!(Format::BINARY16.flushing().widen(0x0400), 6.103_515_6e-5);
}
