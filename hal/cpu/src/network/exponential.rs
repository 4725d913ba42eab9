//! The exponential function of what a softmax takes: differences from a maximum.

/// Returns `e^x` of a number that is not positive, within 1.5 units in the last place (of the
/// smallest normal number below it); NaN of NaN.
///
/// It has no branch, so that a loop over it becomes vectors; it fuses nothing, so that every machine
/// computes the same.  The argument is reduced to `x = n ln 2 + r`, with `ln 2` in two parts
/// (Cody and Waite 1980), and `e^r` is the polynomial of the Cephes library's `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which the lowest bits of the sum then hold.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    /// Nothing below it is above half of the smallest subnormal number; comparing keeps NaN.
    const LEAST: f32 = -104.0;
    let x = if x < LEAST { LEAST } else { x };
    let rounded = x * core::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    // The upper part has 9 bits, so that its multiples are exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + coefficient;
    }
    let p = p * (r * r) + r + 1.0;
    // 2^n in two factors, each of which is a normal number.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let half = n >> 1;
    p * power(half) * power(n.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use adaloss_oracle::tolerance::CPU_EXPONENTIAL;

    use super::*;

    #[test]
    fn is_within_one_and_a_half_units_in_the_last_place() {
        for bits in (0x8000_0000..=(-110.0_f32).to_bits()).step_by(97) {
            let x = f32::from_bits(bits);
            let expected = f64::from(x).exp();
            let unit = f64::from(f32::EPSILON) * 2.0_f64.powf(expected.log2().floor().max(-126.0));
            let error = f64::from(exp(x)) - expected;
            assert!(CPU_EXPONENTIAL.allows_of(error, unit), "{x:e}: {error:e}, {unit:e}");
        }
        CPU_EXPONENTIAL.assert_needed();
    }

    #[test]
    fn special_values() {
        assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
        assert_eq!((exp(-1.0e9), exp(f32::NEG_INFINITY)), (0.0, 0.0));
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
    }
}
