//! `amax` against a plain queue of maxima.

use adaloss_core::{
    format::Format,
    policy::{Amax, Config, Policy, note},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::{
    guesses::{Window, placed},
    inputs::SplitMix64,
};

use crate::visit::{ceiling, step, with};

fn config(format: Format, window: u16, margin: u8) -> Config {
    with(Config::for_format(format), Policy::Amax(Amax { window, margin }))
}

/// Runs steps over maxima that are mostly alike, with a spike now and then that the window has to remember.
fn run(format: Format, window: u16, margin: u8, steps: usize) {
    let config = config(format, window, margin);
    let mut generator = SplitMix64(u64::from(window));
    let (mut cell, mut queue) = (config.cell(), Window::new(window.into(), margin.into()));
    for nth in 0..steps {
        let incoming = Scale::saturating(generator.below(20) as i32 - 10);
        let height = if generator.below(40) == 0 { 30 } else { 2 };
        let max_abs = generator.between_binades(0, height).abs();
        let ceiling = ceiling(&config, max_abs, incoming);
        if nth == 0 {
            queue.finish(ceiling);
        }
        let (least, most) = queue.bounds();
        let bounds = placed(format.encoding, least)..=placed(format.encoding, most);
        let visited = step(&config, &mut cell, &[max_abs, -max_abs / 3.0], incoming);
        if nth > 0 {
            queue.finish(ceiling);
        }
        // What overflows is replayed at its own ceiling, exactly.
        let was_replayed = visited.again && nth > 0;
        assert!(was_replayed || bounds.contains(&visited.scale), "window {window}, step {nth}");
        assert!(!was_replayed || visited.scale == ceiling && ceiling < *bounds.end());
        assert_eq!(visited.outcome.overflow, 0);
    }
}

#[test]
fn short_windows_are_exact() {
    for format in [Format::E4M3, Format::E5M2, Format::BINARY16.flushing(), Format::BFLOAT16] {
        for window in 1..=12 {
            for margin in [0, 1, 3] {
                run(format, window, margin, 400);
            }
        }
    }
}

/// Longer windows are kept in slots: no maximum is forgotten before its window is over, and none is
/// remembered for more than two slots beyond it.
#[test]
fn long_windows_forget_late_and_never_early() {
    for window in [13_u16, 14, 16, 23, 24, 25, 100, 1020, 1024] {
        run(Format::E5M2, window, 0, 4 * usize::from(window) + 50);
    }
}

/// A tensor with non-finite elements enters no window, an all-zero one neither.
#[test]
fn non_finite_and_empty_visits_are_not_remembered() {
    let config = config(Format::E4M3, 3, 0);
    let mut cell = config.cell();
    step(&config, &mut cell, &[1.0], Scale::ONE);
    let scale = cell.scale();
    for values in [&[f32::INFINITY, 1.0e9][..], &[0.0; 2], &[]] {
        for _ in 0..5 {
            step(&config, &mut cell, values, Scale::ONE);
            assert_eq!(cell.scale(), scale);
        }
    }
    let bad = Outcome { elements: 2, nonfinite: 1, overflow: 1, ..Outcome::EMPTY };
    assert_eq!(note(&config, &bad, Scale::ONE, &mut cell), None, "no scale cures that");
}
