//! `amax` against a plain queue of maxima.

use std::collections::VecDeque;

use adaloss_core::{
    format::Format,
    policy::{Amax, Cell, Config, Policy, Rule, decide, note},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_oracle::{
    Limits,
    inputs::SplitMix64,
    product,
    search::{Tensor, counts},
};

use crate::tensor::Observe;

fn config(format: Format, window: u16, margin: u8) -> Config {
    let amax = Policy::Amax(Amax { window, margin });
    let config = Config::for_format(format).with_policy(amax).expect("legal");
    config.with_period(1).expect("legal")
}

/// Returns the greatest legal scale at which a magnitude does not overflow, or -127.
fn ceiling(config: &Config, max_abs: f32, incoming: Scale) -> i32 {
    let narrowing = config.narrowing();
    let limits = Limits::of(narrowing.format.encoding);
    let overflows = |k: i32| limits.overflows(narrowing, product(max_abs, k - incoming.log2()));
    (-126..=126).rev().find(|&k| !overflows(k)).unwrap_or(-127)
}

fn decide_on(config: &Config, max_abs: f32, incoming: Scale, cell: &mut Cell) -> i32 {
    let mut histogram = Histogram::new(config.narrowing());
    histogram.observe(&[max_abs, -max_abs / 3.0], incoming);
    let certificate = decide(config, &histogram, cell);
    assert_eq!((certificate.rule, certificate.scale), (Rule::Amax, cell.scale()));
    cell.scale().log2()
}

fn note_maximum(config: &Config, max_abs: f32, incoming: Scale, cell: &mut Cell) {
    let max_bits = max_abs.to_bits();
    let outcome = Outcome { elements: 2, max_bits, ..Outcome::EMPTY };
    note(config, &outcome, incoming, cell);
}

/// Runs `visits` visits and hands `check` the scale decided and all ceilings so far, oldest first,
/// the tensor at hand last.
fn run(config: &Config, visits: usize, seed: u64, mut check: impl FnMut(i32, &VecDeque<i32>)) {
    let mut generator = SplitMix64(seed);
    let (mut cell, mut ceilings) = (config.cell(), VecDeque::new());
    for _ in 0..visits {
        let incoming = Scale::saturating(generator.below(20) as i32 - 10);
        // Mostly alike, now and then a spike that the window has to remember.
        let height = if generator.below(40) == 0 { 30 } else { 2 };
        let max_abs = generator.between_binades(0, height).abs();
        let scale = decide_on(config, max_abs, incoming, &mut cell);
        ceilings.push_back(ceiling(config, max_abs, incoming));
        check(scale, &ceilings);
        note_maximum(config, max_abs, incoming, &mut cell);
    }
}

/// The least ceiling of the tensor at hand and of the `back` visits before it.
fn least_ceiling(ceilings: &VecDeque<i32>, back: usize) -> i32 {
    ceilings.iter().rev().take(back + 1).copied().min().expect("the tensor at hand")
}

/// Windows of up to twelve visits are exact.
#[test]
fn short_windows_are_exact() {
    for format in [Format::E4M3, Format::E5M2, Format::BINARY16.flushing()] {
        for window in 1..=12 {
            for margin in [0, 1, 3] {
                let config = config(format, window, margin);
                run(&config, 400, u64::from(window), |scale, ceilings| {
                    let expected = least_ceiling(ceilings, window.into()) - i32::from(margin);
                    assert_eq!(scale, expected.max(-126), "window {window}");
                });
            }
        }
    }
}

/// Longer windows are kept in slots: no maximum is forgotten before its window is over, and none is
/// remembered for more than two slots beyond it, the one that is being filled and the one that is
/// rounded up to.
#[test]
fn long_windows_forget_late_and_never_early() {
    for window in [13_u16, 14, 23, 24, 25, 100, 1020, 1024] {
        let config = config(Format::E5M2, window, 0);
        let slot = usize::from(window.div_ceil(12));
        run(&config, 4 * usize::from(window) + 50, 7, |scale, ceilings| {
            let (most, least) = (
                least_ceiling(ceilings, window.into()),
                least_ceiling(ceilings, usize::from(window) + 2 * slot),
            );
            assert!(scale <= most, "window {window}: a maximum was forgotten early");
            assert!(scale >= least, "window {window}: a maximum was remembered for too long");
        });
    }
}

/// The first decision knows the tensor at hand and nothing else.
#[test]
fn the_first_decision_is_that_of_the_tensor() {
    let mut generator = SplitMix64(101);
    for format in [Format::E4M3, Format::BINARY16, Format::BFLOAT16] {
        let config = config(format, 1020, 0);
        for _ in 0..100 {
            let tensor = Tensor::draw(&mut generator);
            let histogram = tensor.histogram(config.narrowing());
            let mut cell = config.cell();
            let certificate = decide(&config, &histogram, &mut cell);
            let overflow = |k| counts(config.narrowing(), &tensor, k).1;
            let search = (-126..=126).rev().find(|&k| overflow(k) == 0).unwrap_or(-126);
            assert_eq!(certificate.scale.log2(), search);
        }
    }
}

/// A tensor with non-finite elements enters no window, an all-zero one neither.
#[test]
fn non_finite_and_empty_visits_are_not_remembered() {
    let config = config(Format::E4M3, 3, 0);
    let mut cell = config.cell();
    decide_on(&config, 1.0, Scale::ONE, &mut cell);
    note_maximum(&config, 1.0, Scale::ONE, &mut cell);
    let scale = cell.scale();
    let bad =
        Outcome { elements: 2, nonfinite: 1, max_bits: 1.0e9_f32.to_bits(), ..Outcome::EMPTY };
    note(&config, &bad, Scale::ONE, &mut cell);
    note(&config, &Outcome { elements: 2, zero: 2, ..Outcome::EMPTY }, Scale::ONE, &mut cell);
    decide_on(&config, 0.5, Scale::ONE, &mut cell);
    assert_eq!(cell.scale(), scale, "1.0 is still in the window, 1e9 never was");
}
