//! Storms: sequences of ceilings that are hard on any rule, with the bound on replays and what is lost.
//!
//! A step's *loss* is how many binades its scale lies below its ceiling; a step that overflows is replayed at
//! its ceiling and loses nothing.

use adaloss_core::{
    format::Format,
    policy::{Cell, Config, Measured, Policy, finish, note},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::{
    guesses::{Shown, TwoGuesses},
    inputs::SplitMix64,
};

use crate::visit::{ceiling, pow2, with};

/// What a storm cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    steps: u32,
    replays: u32,
    /// Steps whose ceiling lies more than the most headroom below the one that the guess in use expects.
    leaps: u32,
    /// Binades below the ceiling, summed over the steps.
    binades: i64,
}

impl Cost {
    fn per_thousand(self) -> f64 {
        1000.0 * f64::from(self.replays) / f64::from(self.steps)
    }

    fn mean_loss(self) -> f64 {
        self.binades as f64 / f64::from(self.steps)
    }
}

fn config(most_headroom: u8) -> Config {
    let format = Format::E5M2;
    with(
        Config::for_format(format),
        Policy::Measured(Measured { most_headroom, ..Measured::for_format(format) }),
    )
}

/// Takes a cell through steps; `next` is given the scale in use and says the ceiling.
fn weather(most_headroom: u8, steps: u32, mut next: impl FnMut(u32, i32) -> i32) -> Cost {
    let config = config(most_headroom);
    let unit = ceiling(&config, 1.0, Scale::ONE);
    let (mut cell, mut cost) = (config.cell(), Cost { steps, ..Cost::default() });
    let mut guesses = TwoGuesses::new(most_headroom.into());
    for step in 0..steps {
        let scale = cell.scale().log2();
        let wanted = next(step, scale).clamp(-90, 90);
        let overflowed = visit(&config, &mut cell, pow2(unit - wanted));
        finish(&config, &mut cell);
        assert!(step == 0 || scale == guesses.greatest());
        if step > 0 {
            cost.replays += u32::from(overflowed);
            cost.leaps += u32::from(wanted < guesses.expected() - i32::from(most_headroom));
            cost.binades += i64::from((wanted - scale).max(0));
        }
        guesses.finish(Shown { ceiling: wanted, overflowed });
    }
    let bound = f64::from(steps) / 128.0 + f64::from(steps) / 64.0 + 3.0 * f64::from(most_headroom);
    assert!(
        f64::from(cost.replays) <= bound + f64::from(cost.leaps),
        "{cost:?} with at most {most_headroom} binades of headroom"
    );
    cost
}

/// Visits with one value; returns whether it overflowed.
fn visit(config: &Config, cell: &mut Cell, value: f32) -> bool {
    let shift = cell.scale().log2();
    let overflow = u64::from(ceiling(config, value, Scale::ONE) < shift);
    let max_bits = value.to_bits();
    let outcome = Outcome { elements: 1, overflow, max_bits, ..Outcome::EMPTY };
    let again = note(config, &outcome, Scale::ONE, cell);
    assert_eq!(again.is_some(), overflow > 0 || shift == 0 && cell.scale().log2() != 0);
    overflow > 0
}

const STEPS: u32 = 4000;

/// Most replays per 1,000 steps and most binades lost per step, for 2 and for 16 binades of headroom.
fn holds(name: &str, most: [(f64, f64); 2], next: impl Fn(&mut SplitMix64, u32, i32) -> i32) {
    for (most_headroom, (replays, loss)) in [2, 16].into_iter().zip(most) {
        for seed in 0..3 {
            let mut generator = SplitMix64(seed);
            let cost =
                weather(most_headroom, STEPS, |step, scale| next(&mut generator, step, scale));
            println!(
                "{name}, H {most_headroom}, seed {seed}: {:.1} replays per 1,000, {:.2} binades",
                cost.per_thousand(),
                cost.mean_loss()
            );
            assert!(cost.per_thousand() <= replays, "{name}: {cost:?}");
            assert!(cost.mean_loss() <= loss, "{name}: {cost:?}");
        }
    }
}

#[test]
fn calm() {
    holds("calm", [(0.5, 0.01); 2], |_, _, _| 3);
    holds("a binade of noise", [(1.0, 0.6); 2], |g, _, _| 3 + g.below(2) as i32);
}

#[test]
fn maxima_over_ten_binades() {
    holds("uniform over ten binades", [(185.0, 3.5), (4.0, 5.0)], |g, _, _| g.below(10) as i32);
}

#[test]
fn loud_visits() {
    let loud = |g: &mut SplitMix64| if g.below(10) < 3 { -12 } else { 0 };
    holds("three in ten are 12 binades louder", [(215.0, 4.3), (5.0, 9.0)], |g, _, _| loud(g));
}

#[test]
fn three_tasks_in_turn() {
    holds("tasks 10 binades apart", [(334.0, 8.0), (4.0, 11.0)], |_, step, _| {
        [0, 10, 20][step as usize % 3]
    });
}

#[test]
fn growth() {
    holds("twofold every 4 steps", [(16.0, 1.3); 2], |_, step, _| 60 - (step as i32 / 4) % 120);
    holds("twofold a step", [(18.0, 3.2); 2], |_, step, _| 60 - step as i32 % 120);
    holds("fourfold a step", [(940.0, 6.2), (12.0, 6.2)], |_, step, _| 60 - 2 * (step as i32 % 60));
}

#[test]
fn regular_spikes() {
    holds(
        "2^8 every 20 steps",
        [(51.0, 2.1), (4.0, 8.0)],
        |_, step, _| {
            if step % 20 == 19 { -8 } else { 0 }
        },
    );
}

#[test]
fn decay() {
    holds("2^-20 over the run", [(0.5, 0.4); 2], |_, step, _| (step / 200) as i32);
    holds("2^-20 at once", [(0.5, 0.1); 2], |_, step, _| if step < 1000 { 0 } else { 20 });
}

#[test]
fn experts_that_come_and_go() {
    holds("two experts of 200 steps", [(7.0, 1.3), (7.0, 2.4)], |g, step, _| {
        [0, 7][(step / 200) as usize % 2] + g.below(2) as i32
    });
}

/// Whatever is known of the scale is used against it.
#[test]
fn an_adversary() {
    for most_headroom in [1, 2, 3, 8, 16] {
        // Just below the scale in use, always or now and then; back up for as long as it pays.
        for rest in 0..40 {
            weather(most_headroom, STEPS, |step, scale| {
                if step % (rest + 1) == 0 { scale - 1 } else { scale + 30 }
            });
            weather(most_headroom, STEPS, |step, scale| {
                if step % (rest + 1) == 0 { scale - i32::from(most_headroom) } else { scale }
            });
        }
        for seed in 0..60 {
            let mut generator = SplitMix64(seed);
            let often = 1 + generator.below(80);
            weather(most_headroom, STEPS, |_, scale| match generator.below(often) {
                0 => scale - 1 - generator.below(usize::from(most_headroom)) as i32,
                1 => generator.below(40) as i32 - 20,
                _ => scale + generator.below(12) as i32,
            });
        }
    }
}
