//! `Narrowing::shifts` against `narrow` itself, and against the definition, at every shift.

use adaloss_core::format::{Fate, Narrowing, Rounding};
use adaloss_oracle::{
    Limits, counted_narrowings, in_parallel, inputs::adversarial, narrowings, product,
};

#[test]
fn shifts_are_where_narrow_underflows_and_overflows() {
    let checked = in_parallel(&counted_narrowings(), |&narrowing| {
        let limits = Limits::of(narrowing.format.encoding);
        let mut count = 0;
        for x in adversarial(narrowing.format, 300, 2) {
            let shifts = narrowing.shifts(x).expect("a finite number that is not zero");
            for k in -320..=320 {
                let fate = narrowing.narrow(x, k, 0).fate;
                let v = product(x.abs(), k);
                let context = || format!("{narrowing:?} 2^{k} * {:#010x}", x.to_bits());
                assert_eq!(fate == Fate::Underflow, k < shifts.least, "{}", context());
                assert_eq!(fate == Fate::Overflow, k > shifts.greatest, "{}", context());
                assert_eq!(limits.underflows(narrowing, v), k < shifts.least, "{}", context());
                assert_eq!(limits.overflows(narrowing, v), k > shifts.greatest, "{}", context());
                count += 1;
            }
        }
        count
    });
    println!("shifts: {checked} pairs of element and shift");
}

/// Under stochastic rounding no word underflows at `least` or overflows at `greatest`, and some
/// word does next to them.
#[test]
fn stochastic_shifts_are_tight_bounds() {
    let stochastic: Vec<Narrowing> = counted_narrowings()
        .into_iter()
        .filter(|n| n.rounding == Rounding::TowardZero)
        .map(|n| n.with_rounding(Rounding::Stochastic))
        .collect();
    in_parallel(&stochastic, |&narrowing| {
        for x in adversarial(narrowing.format, 1000, 3) {
            let shifts = narrowing.shifts(x).expect("a finite number that is not zero");
            let fate = |k, noise| narrowing.narrow(x, k, noise).fate;
            for noise in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xdead_beef, u32::MAX - 1, u32::MAX] {
                assert_ne!(fate(shifts.least, noise), Fate::Underflow, "{narrowing:?} {x:e}");
                assert_ne!(fate(shifts.greatest, noise), Fate::Overflow, "{narrowing:?} {x:e}");
            }
            // The greatest word never rounds up; the least does wherever anything is discarded.
            assert_eq!(fate(shifts.least - 1, u32::MAX), Fate::Underflow, "{narrowing:?} {x:e}");
            assert_eq!(fate(shifts.greatest + 1, 0), Fate::Overflow, "{narrowing:?} {x:e}");
        }
        0
    });
}

#[test]
fn zero_and_non_finite_values_have_no_shifts() {
    for narrowing in narrowings() {
        for x in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert_eq!(narrowing.shifts(x), None);
        }
        let saturating = narrowing.saturating();
        assert_eq!(narrowing.shifts(1.0), saturating.shifts(-1.0), "neither sign nor overflow");
    }
}
