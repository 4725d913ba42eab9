//! The room `format`: one value, one narrowing, one shift; against the definition and LLVM.

use adaloss_core::{
    format::{Element, Encoding, Fate, Format, Narrowing, Rounding, Shifts, Subnormals, dot},
    with_element,
};
use adaloss_hal::Capabilities;
use adaloss_oracle::{
    Grid, Limits,
    apfloat::{self, Round},
    is_same, product,
};
use arbitrary::{Result, Unstructured};

use crate::input;

/// A shift beyond this moves every f32 beyond every format; an f64 holds the product up to here.
const FAR: i32 = 800;

/// Checks conversions, and what the shifts of a value promise.
pub fn check(bytes: &[u8]) {
    input::run(bytes, |u| {
        let encoding = input::encoding(u)?;
        let narrowing = input::narrowing(u, encoding, Capabilities::ALL)?;
        let x = input::value(u, narrowing.format)?;
        let shift: i32 = if u.arbitrary()? { u.int_in_range(-300..=300)? } else { u.arbitrary()? };
        check_narrow(u, narrowing, x, shift)?;
        check_shifts(narrowing, x);
        check_widen(narrowing.format, u.arbitrary()?);
        with_element!(encoding, F => check_arithmetic::<F>(u))
    });
}

/// Narrows with any word, and with the words at which stochastic rounding turns.
fn check_narrow(u: &mut Unstructured<'_>, narrowing: Narrowing, x: f32, shift: i32) -> Result<()> {
    let grid = Grid::of(narrowing.format.encoding);
    let near = shift.clamp(-FAR, FAR);
    let mut words = vec![u.arbitrary()?];
    let v = if x.is_finite() { product(x.abs(), near) } else { f64::INFINITY };
    if narrowing.rounding == Rounding::Stochastic && v < grid.limits.beyond {
        let (fraction, _) = grid.fraction(v);
        words.extend([fraction.saturating_sub(1), fraction, fraction.saturating_add(1)]);
    }
    for word in words {
        let found = narrowing.narrow(x, shift, word);
        let context = || format!("{narrowing:?} 2^{shift} * {x:e} ({:#010x}), {word}", x.to_bits());
        assert_eq!(found, grid.narrow(narrowing, x, near, word), "{}", context());
        let round = match (narrowing.rounding, narrowing.format.subnormals) {
            (Rounding::NearestEven, Subnormals::Gradual) => Round::NearestTiesToEven,
            (Rounding::TowardZero, Subnormals::Gradual) => Round::TowardZero,
            _ => continue,
        };
        if matches!(found.fate, Fate::Normal | Fate::Subnormal | Fate::Underflow) {
            let llvm = apfloat::round_product(narrowing.format.encoding, x, near, round);
            assert_eq!(found.bits, llvm, "LLVM, {}", context());
        }
    }
    Ok(())
}

/// A value lives between its shifts and nowhere else.
fn check_shifts(narrowing: Narrowing, x: f32) {
    let Some(Shifts { least, greatest }) = narrowing.shifts(x) else {
        assert!(x == 0.0 || !x.is_finite(), "{x:e} has no shifts");
        return;
    };
    assert!(x != 0.0 && x.is_finite(), "{x:e} has shifts");
    let limits = Limits::of(narrowing.format.encoding);
    let at = |k: i32| product(x.abs(), k);
    let context = || format!("{narrowing:?} {x:e} ({:#010x})", x.to_bits());
    assert!(!limits.underflows(narrowing, at(least)), "{}", context());
    assert!(limits.underflows(narrowing, at(least - 1)), "{}", context());
    assert!(!limits.overflows(narrowing, at(greatest)), "{}", context());
    assert!(limits.overflows(narrowing, at(greatest + 1)), "{}", context());
}

/// Widening is exact; a flushing format reads a subnormal as zero.
fn check_widen(format: Format, bits: u32) {
    let limits = Limits::of(format.encoding);
    let bits = bits & (limits.sign_bit() | (limits.sign_bit() - 1));
    let (expected, found) = (apfloat::read(format, bits), f64::from(format.widen(bits)));
    assert!(
        found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
        "{format:?} {bits:#x}: {found:e} instead of {expected:e}"
    );
}

/// Products and sums are those of f32, in the order of the index.
fn check_arithmetic<F: Element>(u: &mut Unstructured<'_>) -> Result<()> {
    let length = u.int_in_range(0..=6)?;
    let (a, b) = (input::elements::<F>(u, length)?, input::elements::<F>(u, length)?);
    let mut sum = 0.0;
    for (&a, &b) in a.iter().zip(&b) {
        assert_eq!(F::from_bits(a.to_bits()).to_bits(), a.to_bits());
        let (x, y) = (a.widen(), b.widen());
        let (before, found) = (sum, a.mul_add(b, sum));
        sum = apfloat::unfused(x, y, before);
        assert!(is_same(found, sum), "{x:e} * {y:e} + {before:e}: {found:e} instead of {sum:e}");
        // A normal product of 16- or 8-bit numbers is exact: fused or not, the sum is rounded once.
        let exact = f64::from(x) * f64::from(y);
        let is_normal = exact.abs() >= f64::from(f32::MIN_POSITIVE);
        if F::ENCODING != Encoding::Binary32 && is_normal && f64::from(exact as f32) == exact {
            let fused = apfloat::fused(x, y, before);
            assert!(is_same(found, fused), "fused, {x:e} * {y:e} + {before:e}: {fused:e}");
        }
    }
    assert!(is_same(dot(&a, &b), sum), "{a:?} {b:?}: {:e} instead of {sum:e}", dot(&a, &b));
    Ok(())
}
