//! The two references say the same: neighbours in a table, and APFloat with the documented rules.

use adaloss_core::format::{Encoding, Rounding};
use adaloss_oracle::{
    Grid, Limits, Reference, in_parallel,
    inputs::{SplitMix64, adversarial},
    narrowings, product,
};

/// Values of every kind, with the two words around each threshold and a random one.
#[test]
fn both_references_narrow_alike() {
    let checked = in_parallel(&narrowings(), |&narrowing| {
        let encoding = narrowing.format.encoding;
        let (grid, reference) = (Grid::new(encoding), Reference::new(encoding));
        let mut generator = SplitMix64(91);
        let mut values = adversarial(narrowing.format, 3000, 92);
        values.extend([0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let mut checked = 0;
        for x in values {
            for k in [0, generator.below(601) as i32 - 300, generator.below(81) as i32 - 40] {
                let rounded = reference.round(narrowing.rounding, x, k);
                let fraction = rounded.fraction();
                for word in [fraction.saturating_sub(1), fraction, generator.half_word()] {
                    let expected = grid.narrow(narrowing, x, k, word);
                    let narrowed = reference.narrowed(narrowing, rounded, word);
                    assert_eq!(narrowed, expected, "{narrowing:?} 2^{k} * {x:e}, word {word:#x}");
                    checked += 1;
                }
            }
        }
        checked
    });
    println!("references: {checked} results alike");
}

/// The shifts of a value are where the definition says that it begins to underflow and to overflow.
#[test]
fn shifts_are_those_of_the_definition() {
    for narrowing in narrowings() {
        let encoding = narrowing.format.encoding;
        let (limits, reference) = (Limits::of(encoding), Reference::new(encoding));
        for x in adversarial(narrowing.format, 100, 93) {
            let shifts = reference.shifts(narrowing, x).expect("a finite number that is not zero");
            let underflows = |k| limits.underflows(narrowing, product(x.abs(), k));
            let overflows = |k| limits.overflows(narrowing, product(x.abs(), k));
            assert!(underflows(shifts.least - 1) && !underflows(shifts.least), "{narrowing:?} {x}");
            let greatest = shifts.greatest;
            assert!(overflows(greatest + 1) && !overflows(greatest), "{narrowing:?} {x}");
        }
        for x in [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(reference.shifts(narrowing, x), None);
        }
    }
}

/// Deterministic rounding draws no word.
#[test]
fn only_stochastic_rounding_has_a_fraction() {
    for encoding in Encoding::ALL {
        let reference = Reference::new(encoding);
        let fraction = |rounding, k| reference.round(rounding, 1.0 / 3.0, k).fraction();
        for k in [0, -40] {
            assert_eq!(fraction(Rounding::NearestEven, k), 0);
            assert_eq!(fraction(Rounding::TowardZero, k), 0);
        }
        // A third ends on no grid but f32's own.
        assert_eq!(fraction(Rounding::Stochastic, 0) > 0, encoding != Encoding::Binary32);
    }
}
