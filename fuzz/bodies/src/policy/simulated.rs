//! A cell as words say what it does: when it is due, what its steps show, where its scale goes.

use adaloss_core::{
    policy::{Cell, Certificate, Config, Fraction, Policy, Recovery, Rule, Trigger, recover},
    scale::Scale,
};
use adaloss_oracle::{
    guesses::{Shown, TwoGuesses, Window, kept, placed},
    search::{Evidence, counts},
};

use super::Visit;

/// What a cell has to remember, in words instead of bytes.
#[derive(Clone)]
pub(super) struct Simulated {
    scale: i32,
    is_calibrated: bool,
    promised: bool,
    age: u32,
    pulled: Trigger,
    /// The least ceiling of the step under way.
    ceiling: Option<i32>,
    overflowed: bool,
    visited: bool,
    past: Past,
    /// What certificates are signed with.
    rule: Rule,
    /// The share that a certificate lets underflow, where the policy promises one.
    tolerance: Option<Fraction>,
    /// Binades left free below the ceiling of a first visit.
    first_headroom: i32,
}

/// The steps so far, as a policy looks at them.
#[derive(Clone)]
enum Past {
    Guesses(TwoGuesses),
    Window(Window),
    None,
}

impl Simulated {
    pub(super) fn new(config: &Config) -> Self {
        let (past, rule, tolerance, first_headroom) = match *config.policy() {
            Policy::Measured(measured) => {
                let guesses = TwoGuesses::new(measured.most_headroom.into());
                (Past::Guesses(guesses), Rule::Measured, Some(measured.tolerance), 1)
            }
            Policy::Amax(amax) => {
                let margin = amax.margin.into();
                (Past::Window(Window::new(amax.window.into(), margin)), Rule::Amax, None, margin)
            }
            _ => (Past::None, Rule::Unused, None, 0),
        };
        Self {
            scale: config.cell().scale().log2(),
            is_calibrated: false,
            promised: false,
            age: 0,
            pulled: Trigger::First,
            ceiling: None,
            overflowed: false,
            visited: false,
            past,
            rule,
            tolerance,
            first_headroom,
        }
    }

    pub(super) fn due(&self, config: &Config) -> Option<Trigger> {
        let follows = !matches!(self.past, Past::None);
        match self.pulled {
            _ if config.policy().is_whole_model() => None,
            _ if follows && config.period() == Config::NEVER => None,
            Trigger::None => (self.age >= config.period()).then_some(Trigger::Period),
            pulled => Some(pulled),
        }
    }

    pub(super) fn certifies(
        &mut self,
        config: &Config,
        visit: &Visit,
        found: &Certificate,
        outgoing: Scale,
    ) {
        assert_eq!(found.trigger, self.due(config).unwrap_or_default());
        assert_eq!((found.before.log2(), found.scale), (self.scale, outgoing));
        if matches!(self.past, Past::None) {
            assert_eq!((found.rule, found.promised), (Rule::Unused, false), "{config:?}");
            return;
        }
        (self.age, self.pulled, self.promised) = (0, Trigger::None, found.promised);
        let rule = match (visit.nonfinite, visit.nonzero()) {
            (1.., _) => Rule::NonFinite,
            (0, 0) => Rule::Empty,
            _ => self.rule,
        };
        assert_eq!(found.rule, rule, "{config:?}");
        match self.tolerance {
            Some(tolerance) if rule == self.rule => {
                let (narrowing, tensor) = (config.narrowing(), &visit.tensor);
                let expected = Evidence::find(tolerance, narrowing, tensor, outgoing.log2());
                assert_eq!(Evidence::of(found), expected, "{config:?} {tensor:?}");
            }
            _ => assert!(!found.promised),
        }
        check_counts(config, visit, found);
    }

    /// Tells whether the next visit is measured.
    pub(super) fn measures(&self, config: &Config) -> bool {
        !matches!(self.past, Past::None) && self.due(config).is_some()
    }

    /// Takes note of a visit that was stored at a scale.
    pub(super) fn notes(&mut self, config: &Config, visit: &Visit, stored: Scale) {
        let outcome = visit.outcome(config, stored);
        if config.policy().is_whole_model() {
            assert_eq!(stored, visit.tensor.incoming, "{config:?}");
            return;
        }
        if matches!(self.past, Past::None) {
            self.age += 1;
            let recovers = config.recovery() == Recovery::Replay && visit.nonfinite == 0;
            if recovers && outcome.overflow > 0 {
                self.pulled = Trigger::Overflow;
                let ceiling = visit.ceiling(config).min(126);
                let moved = recover(config, &outcome, visit.tensor.incoming);
                assert_eq!(moved.is_some(), ceiling > -127, "{config:?} {:?}", visit.tensor);
                if let Some(moved) = moved {
                    // One move is enough, and leaves one binade.
                    assert_eq!(moved.log2(), (ceiling - 1).max(-126));
                    self.scale = moved.log2();
                }
            }
            return;
        }
        assert_eq!(stored.log2(), self.scale, "{config:?}");
        self.visited = true;
        if visit.nonfinite == 0 && visit.nonzero() > 0 {
            let encoding = config.narrowing().format.encoding;
            let ceiling = kept(encoding, visit.ceiling(config));
            self.ceiling = Some(self.ceiling.map_or(ceiling, |least| least.min(ceiling)));
            if self.is_calibrated {
                self.overflowed |= outcome.overflow > 0;
            } else {
                self.is_calibrated = true;
                self.scale = placed(encoding, ceiling - self.first_headroom);
            }
        }
    }

    pub(super) fn finishes(&mut self, config: &Config, cell: &Cell) {
        let encoding = config.narrowing().format.encoding;
        self.age += u32::from(std::mem::take(&mut self.visited));
        let overflowed = std::mem::take(&mut self.overflowed);
        if let Some(ceiling) = self.ceiling.take() {
            match &mut self.past {
                Past::Guesses(guesses) => {
                    guesses.finish(Shown { ceiling, overflowed });
                    self.scale = placed(
                        encoding,
                        match config.replays() {
                            true => guesses.greatest(),
                            false => guesses.greatest_without_replay(),
                        },
                    );
                }
                Past::Window(window) => {
                    window.finish(ceiling);
                    let (least, most) = window.bounds();
                    let bounds = placed(encoding, least)..=placed(encoding, most);
                    self.scale = cell.scale().log2();
                    assert!(bounds.contains(&self.scale), "{} is not in {bounds:?}", self.scale);
                }
                Past::None => {}
            }
        }
        self.check(config, cell);
    }

    pub(super) fn check(&self, config: &Config, cell: &Cell) {
        assert!(cell.is_possible(config), "{cell:?} of {config:?}");
        let found = (cell.scale().log2(), cell.age(), cell.trigger(), cell.is_promised());
        assert_eq!(found, (self.scale, self.age, self.pulled, self.promised), "{config:?}");
        let seen = cell.seen();
        assert_eq!((seen.visited, seen.overflowed), (self.visited, self.overflowed), "{config:?}");
        assert_eq!(seen.ceiling == i8::MAX, self.ceiling.is_none(), "{config:?}");
        assert!(matches!(self.past, Past::None) || cell.is_calibrated() == self.is_calibrated);
    }
}

/// The counts of a certificate are exact, at its scale and at the two beside it.
fn check_counts(config: &Config, visit: &Visit, found: &Certificate) {
    let [below, at, above] = found.expected;
    for (expected, step) in [(below, -1), (at, 0), (above, 1)] {
        let k = (found.scale.log2() + step).clamp(-126, 126);
        let counted = counts(config.narrowing(), &visit.tensor, k);
        assert_eq!((expected.underflow, expected.overflow), counted, "{config:?} at 2^{k}");
    }
}
