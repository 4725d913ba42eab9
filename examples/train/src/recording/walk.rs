//! A policy taken through a recording, and what became of the tensors.

use adaloss_core::{policy::Measured, scale::Scale};
use serde::Serialize;

use super::{Decided, Recording, Rule, Visited};

/// What a policy did to the tensors of a recording: a line of the tables.
///
/// A step that is skipped loses all of its mass and keeps nothing; its underflow is not counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The format of gradients.
    pub format: String,
    /// The policy.
    pub policy: String,
    /// Whether it knows the run before it.
    pub is_oracle: bool,
    /// Steps of the recording.
    pub steps: u64,
    /// Visits of all cells.
    pub visits: u64,
    /// Mean share of the nonzero elements that underflow, of the visits of steps that are used; none where all are
    /// skipped.
    pub underflow_mean: Option<f64>,
    /// The share that 95 % of those visits do not exceed.
    pub underflow_p95: Option<f64>,
    /// Mean share of the sum of magnitudes that underflows.
    pub lost_mass: f64,
    /// Mean share of the sum of magnitudes that saturating takes away.
    pub clipped_mass: f64,
    /// The share of the visits with a window.
    pub window_share: f64,
    /// Of those, the share whose underflow stays within twice what is tolerated; none where there is no window.
    pub kept: Option<f64>,
    /// First visits, and passes for decisions, per 1,000 visits.
    pub measuring_per_1000: f64,
    /// Replays per 1,000 visits.
    pub replays_per_1000: f64,
    /// Both.
    pub extra_passes_per_1000: f64,
    /// Visits per 1,000 at which something is clipped.
    pub clipped_visits_per_1000: f64,
    /// Skipped steps per 1,000.
    pub skipped_steps_per_1000: f64,
}

impl Row {
    /// Returns the mean share of the sum of magnitudes that does not arrive.
    pub fn gone_mass(&self) -> f64 {
        self.lost_mass + self.clipped_mass
    }

    /// Tells whether something is lost that underflow does not show.
    pub fn clips_or_skips(&self) -> bool {
        self.clipped_visits_per_1000 > 0.0 || self.skipped_steps_per_1000 > 0.0
    }
}

/// Sums over visits and steps.
#[derive(Default)]
struct Account {
    visits: u64,
    measuring: u64,
    replays: u64,
    /// Visits whose tensors tell something, and of these: with a window, and kept.
    telling: u64,
    windows: u64,
    kept: u64,
    clipped_visits: u64,
    skipped: u64,
    lost: f64,
    clipped: f64,
    underflow: Vec<f64>,
}

impl Account {
    fn visit(&mut self, measured: &Measured, visit: &Visited, decided: Decided, is_skipped: bool) {
        let Decided { scale, measuring, replays } = decided;
        self.visits += 1;
        self.measuring += u64::from(measuring);
        self.replays += u64::from(replays);
        let tally = &visit.tally;
        if !tally.tells() {
            return;
        }
        self.telling += 1;
        let has_window = tally.has_window(measured);
        self.windows += u64::from(has_window);
        if is_skipped {
            self.lost += 1.0;
            return;
        }
        self.kept += u64::from(has_window && tally.keeps(measured, scale));
        self.underflow.push(tally.underflow_share(scale));
        self.lost += tally.lost_share(scale);
        self.clipped += tally.clipped_share(scale);
        self.clipped_visits += u64::from(tally.overflow(scale) > 0);
    }

    fn row(mut self, task: &str, recording: &Recording, rule: &Rule) -> Row {
        self.underflow.sort_unstable_by(f64::total_cmp);
        let used = self.underflow.len();
        let steps = recording.steps.len() as u64;
        let per_1000 = |count: u64| share(1000.0 * count as f64, self.visits);
        // The nearest rank.
        let p95 = (95 * used).div_ceil(100).checked_sub(1).map(|rank| self.underflow[rank]);
        let mean = self.underflow.iter().sum::<f64>() / used as f64;
        Row {
            task: task.into(),
            format: recording.format.to_string(),
            policy: rule.name.clone(),
            is_oracle: rule.is_oracle(),
            steps,
            visits: self.visits,
            underflow_mean: (used > 0).then_some(mean),
            underflow_p95: p95,
            lost_mass: share(self.lost, self.telling),
            clipped_mass: share(self.clipped, self.telling),
            window_share: share(self.windows as f64, self.telling),
            kept: (self.windows > 0).then(|| share(self.kept as f64, self.windows)),
            measuring_per_1000: per_1000(self.measuring),
            replays_per_1000: per_1000(self.replays),
            extra_passes_per_1000: per_1000(self.measuring + self.replays),
            clipped_visits_per_1000: per_1000(self.clipped_visits),
            skipped_steps_per_1000: share(1000.0 * self.skipped as f64, steps),
        }
    }
}

/// Takes a policy through a recording.
pub fn walk(task: &str, recording: &Recording, rule: &Rule) -> Row {
    let measured = Measured::for_format(recording.format.0);
    let mut chooser = rule.start();
    let mut account = Account::default();
    for step in &recording.steps {
        let decided: Vec<Decided> =
            step.iter().map(|visit| chooser.visit(visit.cell, &visit.tally)).collect();
        let mut visits = step.iter().zip(&decided);
        let is_clean = visits.all(|(visit, decided)| visit.tally.overflow(decided.scale) == 0);
        chooser.finish(is_clean);
        let is_skipped = !is_clean && !rule.saturates();
        account.skipped += u64::from(is_skipped);
        for (visit, &decided) in step.iter().zip(&decided) {
            account.visit(&measured, visit, decided, is_skipped);
        }
    }
    account.row(task, recording, rule)
}

/// Returns the scale that takes least from a recording, if all cells have it all the time and what overflows is clipped:
/// the least mass, then the least underflow; the greatest of equals.
pub(super) fn best_scale(recording: &Recording) -> Scale {
    let tallies = recording.steps.iter().flatten().map(|visit| &visit.tally);
    let tallies: Vec<_> = tallies.filter(|tally| tally.tells()).collect();
    let gone = |scale: Scale| {
        tallies.iter().fold((0.0, 0.0), |(mass, underflow), tally| {
            let gone = tally.lost_share(scale) + tally.clipped_share(scale);
            (mass + gone, underflow + tally.underflow_share(scale))
        })
    };
    let scales = (Scale::MIN.log2()..=Scale::MAX.log2()).rev().map(Scale::saturating);
    let scored = scales.map(|scale| (gone(scale), scale));
    let best = scored.min_by(|((a, b), _), ((c, d), _)| a.total_cmp(c).then(b.total_cmp(d)));
    best.map_or(Scale::ONE, |(_, scale)| scale)
}

/// Returns a sum over a count; zero of none.
fn share(sum: f64, count: u64) -> f64 {
    sum / count.max(1) as f64
}
