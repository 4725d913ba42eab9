//! The inverse of the error function, for configuration only: never on a hot path.

use core::f64::consts::PI;

/// Returns `x` with `erf(x) = y`, for `-1 < y < 1`.
///
/// Winitzki's approximation ("A handy approximation for the error function and its inverse", 2008)
/// is good to 2e-3; Halley's method triples the digits, on the complement near the ends so that
/// nothing cancels.  Infinite at `y = -1` and `y = 1`, NaN beyond.
pub(super) fn erfinv(y: f64) -> f64 {
    if y == 0.0 || y.is_nan() || y.abs() >= 1.0 {
        return match y.abs() {
            1.0 => f64::INFINITY.copysign(y),
            0.0 => y,
            _ => f64::NAN,
        };
    }
    const A: f64 = 0.147;
    let magnitude = y.abs();
    let complement = 1.0 - magnitude;
    let log = libm::log(complement * (1.0 + magnitude));
    let half = 2.0 / (PI * A) + log / 2.0;
    let mut x = libm::sqrt(libm::sqrt(half * half - log / A) - half);
    for _ in 0..4 {
        let error =
            if magnitude < 0.5 { libm::erf(x) - magnitude } else { complement - libm::erfc(x) };
        let slope = 2.0 / libm::sqrt(PI) * libm::exp(-x * x);
        let newton = error / slope;
        x -= newton / (1.0 + x * newton);
    }
    x.copysign(y)
}

#[cfg(test)]
mod tests {
    use adaloss_oracle::tolerance::ERFINV;

    use super::erfinv;

    /// Values computed with 60 digits by mpmath's `erfinv`, rounded to f64.
    #[test]
    fn against_sixty_digits() {
        let table = [
            (1e-12, 8.86226925452758e-13),
            (1e-5, 8.862269254759594e-6),
            (1e-3, 8.862271574665521e-4),
            (0.1, 0.08885599049425769),
            (0.5, 0.4769362762044699),
            (-0.998, -2.1851242191330043),
            (-0.99998, -3.01573320140275),
            (0.9999999, 3.7665625816384707),
        ];
        for (y, expected) in table {
            let error: f64 = (erfinv(y) - expected) / expected;
            assert!(ERFINV.allows(error), "erfinv({y}) is off by {error:e}");
        }
        ERFINV.assert_needed();
        assert_eq!(erfinv(0.0), 0.0);
        assert_eq!(erfinv(1.0), f64::INFINITY);
        assert!(erfinv(1.5).is_nan());
    }
}
