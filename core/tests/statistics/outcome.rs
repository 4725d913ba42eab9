//! Outcomes: each element is in one category, and the maximum is over the finite ones.

use adaloss_core::{
    apply::Apply,
    format::{Fate, Narrowing, Noise},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::{
    Grid, in_parallel,
    inputs::{SplitMix64, adversarial},
    narrowings,
};

use crate::narrowed;

/// Counts with the reference's fates, category by category.
fn reference(
    grid: &Grid,
    narrowing: Narrowing,
    values: &[f32],
    shift: i32,
    noise: Noise,
) -> Outcome {
    let fates: Vec<Fate> = (0..)
        .zip(values)
        .map(|(index, &x)| grid.narrow(narrowing, x, shift, noise.word(index)).fate)
        .collect();
    let count = |fate| fates.iter().filter(|&&f| f == fate).count() as u64;
    let finite = values.iter().filter(|x| x.is_finite()).map(|x| x.abs());
    Outcome {
        elements: values.len() as u64,
        nonfinite: count(Fate::NonFinite),
        zero: count(Fate::Zero),
        underflow: count(Fate::Underflow),
        subnormal: count(Fate::Subnormal),
        overflow: count(Fate::Overflow),
        max_bits: finite.max_by(f32::total_cmp).unwrap_or(0.0).to_bits(),
        reserved: 0,
    }
}

#[test]
fn categories_are_those_of_the_reference() {
    let checked = in_parallel(&narrowings(), |&narrowing| {
        let grid = Grid::new(narrowing.format.encoding);
        let mut generator = SplitMix64(81);
        let mut values = adversarial(narrowing.format, 500, 82);
        values.extend([0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let mut checked = 0;
        for _ in 0..12 {
            let [k, incoming] =
                [0, 0].map(|_| Scale::saturating(generator.below(253) as i32 - 126));
            generator.shuffle(&mut values);
            let noise = Noise { seed: generator.half_word(), stream: generator.half_word() };
            let apply = Apply { narrowing, shift: k / incoming, noise };
            let (mut by_element, mut by_slice) = (Outcome::EMPTY, Outcome::EMPTY);
            // In two parts, as a tensor may come.
            let cut = generator.below(values.len());
            let mut bits = narrowed::slice(&apply, &values[..cut], 0, &mut by_slice);
            bits.extend(narrowed::slice(&apply, &values[cut..], cut as u64, &mut by_slice));
            for ((index, &x), bits) in (0..).zip(&values).zip(bits) {
                let word = noise.word_at(index);
                let expected = grid.narrow(narrowing, x, apply.shift.log2(), word).bits;
                let by_element = apply.element(x, index, &mut by_element);
                let context = || format!("{narrowing:?} {:#010x}", x.to_bits());
                assert_eq!((bits, by_element), (expected, expected), "{}", context());
            }
            let expected = reference(&grid, narrowing, &values, apply.shift.log2(), noise);
            assert_eq!((by_element, by_slice), (expected, expected), "{narrowing:?}");
            checked += values.len() as u64;
        }
        checked
    });
    println!("outcomes: {checked} elements in their categories");
}

#[test]
fn the_maximum_knows_no_overflow_and_no_nan() {
    let mut outcome = Outcome::EMPTY;
    assert_eq!((outcome.max_abs(), outcome.underflow_fraction()), (0.0, 0.0));
    outcome.record(f32::NAN, Fate::NonFinite);
    outcome.record(f32::NEG_INFINITY, Fate::NonFinite);
    assert_eq!((outcome.max_abs(), outcome.nonzero()), (0.0, 0));
    outcome.record(-70_000.0, Fate::Overflow);
    outcome.record(-0.0, Fate::Zero);
    outcome.record(1.0e-30, Fate::Underflow);
    outcome.record(f32::NAN, Fate::NonFinite);
    assert_eq!(outcome.max_abs(), 70_000.0);
    assert_eq!((outcome.nonzero(), outcome.underflow_fraction()), (2, 0.5));
    assert_eq!(outcome.elements, 6);
    assert_eq!(outcome, Outcome { nonfinite: 3, zero: 1, underflow: 1, overflow: 1, ..outcome });
}
