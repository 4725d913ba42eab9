//! A cell as words say what it does: when it is due, what pulls a trigger, where an overflow leads.

use std::collections::VecDeque;

use adaloss_core::{
    policy::{
        Amax, Cell, Certificate, Config, Measured, Policy, Recovery, Rule, Trigger, due, recover,
    },
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::search::{self, Decision, counts};

use super::Visit;

/// What a cell has to remember, in words instead of bytes.
pub(super) struct Simulated {
    scale: i32,
    is_calibrated: bool,
    promised: bool,
    visits: u32,
    pulled: Trigger,
    /// The ceilings of the visits so far, the latest last.
    ceilings: VecDeque<i32>,
}

impl Simulated {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            scale: config.cell().scale().log2(),
            is_calibrated: false,
            promised: false,
            visits: 0,
            pulled: Trigger::First,
            ceilings: VecDeque::new(),
        }
    }

    pub(super) fn due(&self, config: &Config) -> Option<Trigger> {
        match (config.policy(), self.pulled) {
            (Policy::Fixed(_) | Policy::Backoff(_), _) => None,
            (_, Trigger::None) => (self.visits >= config.period()).then_some(Trigger::Period),
            (_, pulled) => Some(pulled),
        }
    }

    pub(super) fn decides(
        &mut self,
        config: &Config,
        visit: &Visit,
        found: &Certificate,
        cell: &Cell,
    ) {
        assert_eq!(found.trigger, self.due(config).unwrap_or_default());
        assert_eq!(found.before.log2(), self.scale);
        let rule = if visit.nonfinite > 0 {
            Some(Rule::NonFinite)
        } else if visit.nonzero() == 0 {
            self.pulled = Trigger::Empty;
            Some(Rule::Empty)
        } else if !config.policy().wants_histogram() {
            Some(Rule::Kept)
        } else {
            None
        };
        if let Some(rule) = rule {
            assert_eq!((found.rule, found.scale.log2()), (rule, self.scale), "{config:?}");
            assert_eq!(cell.scale().log2(), self.scale);
            return;
        }
        match config.policy() {
            Policy::Measured(measured) => self.check_measured(measured, config, visit, found),
            Policy::Amax(amax) => {
                self.check_amax(amax, visit.ceiling(config), found.scale.log2());
            }
            _ => unreachable!("no histogram decides"),
        }
        check_certificate(config, visit, found);
        assert_eq!(cell.scale(), found.scale);
        (self.scale, self.promised) = (found.scale.log2(), found.promised);
        (self.is_calibrated, self.visits, self.pulled) = (true, 0, Trigger::None);
    }

    fn check_measured(
        &self,
        measured: &Measured,
        config: &Config,
        visit: &Visit,
        found: &Certificate,
    ) {
        let before = self.is_calibrated.then_some(self.scale);
        let (narrowing, tensor) = (config.narrowing(), &visit.tensor);
        if let Some(expected) = search::decide(measured, narrowing, tensor, before, self.scale) {
            assert_eq!(Decision::of(found), expected, "{config:?} {tensor:?} {before:?}");
        }
    }

    /// A window of up to twelve visits is exact; a longer one forgets late and never early.
    fn check_amax(&self, amax: &Amax, now: i32, found: i32) {
        let margin = i32::from(amax.margin);
        let least = |back: usize| {
            let remembered = self.ceilings.iter().rev().take(back).copied();
            (remembered.fold(now, i32::min) - margin).max(-126)
        };
        let window = usize::from(amax.window);
        let late = if window <= 12 { 0 } else { 2 * window.div_ceil(12) };
        let (most, least) = (least(window), least(window + late));
        assert!((least..=most).contains(&found), "{found} is not in {least}..={most}, {amax:?}");
    }

    pub(super) fn notes(&mut self, config: &Config, visit: &Visit, cell: &Cell) {
        if config.policy().is_whole_model() {
            assert_eq!((cell.scale(), due(config, cell)), (config.cell().scale(), None));
            return;
        }
        self.visits += 1;
        let outcome = visit.outcome(config, Scale::saturating(self.scale));
        if visit.nonfinite == 0 {
            if visit.nonzero() > 0 {
                self.ceilings.push_back(visit.ceiling(config));
            }
            if config.recovery() == Recovery::Replay {
                self.recovers(config, visit, &outcome, cell);
            }
        }
        assert_eq!(cell.scale().log2(), self.scale, "{config:?} {:?}", visit.tensor);
        assert_eq!((cell.age(), cell.trigger()), (self.visits, self.pulled), "{config:?}");
    }

    fn recovers(&mut self, config: &Config, visit: &Visit, outcome: &Outcome, cell: &Cell) {
        if outcome.overflow > 0 {
            self.pulled = Trigger::Overflow;
            let ceiling = visit.ceiling(config);
            let moved = recover(config, outcome, visit.tensor.incoming);
            assert_eq!(moved.is_some(), ceiling > -127, "{config:?} {:?}", visit.tensor);
            if let Some(moved) = moved {
                // One move is enough, and leaves what the policy wants to leave.
                let headroom = match config.policy() {
                    Policy::Measured(measured) => measured.headroom,
                    Policy::Amax(amax) => amax.margin,
                    _ => 1,
                };
                assert_eq!(moved.log2(), (ceiling - i32::from(headroom)).max(-126));
                (self.scale, self.promised) = (moved.log2(), false);
                assert_eq!(cell.scale(), moved);
            }
        } else if let Policy::Measured(measured) = config.policy() {
            let share = u128::from(measured.tolerance.bits());
            let twice = (u128::from(2 * visit.nonzero()) * share) >> 32;
            if self.promised && u128::from(outcome.underflow) > twice {
                self.pulled = Trigger::Underflow;
            }
        }
    }
}

/// A certificate tells the truth of its scale and of the two beside it.
fn check_certificate(config: &Config, visit: &Visit, found: &Certificate) {
    // Nothing overflows at a decided scale if it can be helped.
    let [below, at, above] = found.expected;
    for (expected, step) in [(below, -1), (at, 0), (above, 1)] {
        let k = (found.scale.log2() + step).clamp(-126, 126);
        let counted = counts(config.narrowing(), &visit.tensor, k);
        assert_eq!((expected.underflow, expected.overflow), counted, "{config:?} at 2^{k}");
    }
    assert!(at.overflow == 0 || visit.ceiling(config) == -127, "{config:?} {found}");
}
