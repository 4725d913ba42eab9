//! All policies at one place: on one task, in one format.

use adaloss_core::policy::ConfigError;

use super::{
    Recording, Row, Rule, height, lower_left,
    walk::{best_scale, walk},
};

/// All policies on one task in one format.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The task.
    pub task: String,
    /// The format of gradients.
    pub format: String,
    /// The steps that were recorded.
    pub steps: u64,
    /// The visits of cells in them.
    pub visits: u64,
    /// A row for each policy.
    pub rows: Vec<Row>,
}

/// What is lost: what a plot shows over the passes that it takes to lose no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Elements that become zero.
    Underflow,
    /// Mass that underflows or is clipped.
    Mass,
}

/// Where a policy lies beside the hull of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// On the hull of all: the others lose more at as many passes, or none takes as few.
    On {
        /// By what part of theirs it loses less, where others take as few passes.
        below: Option<f64>,
    },
    /// It loses as little as the best of all, and takes more passes than that one.
    Level,
    /// Above it.
    Above {
        /// What it loses.
        lost: f64,
        /// What the others lose at as many passes.
        hull: f64,
    },
}

impl Measure {
    /// Both, in the order of the plots.
    pub const ALL: [Self; 2] = [Self::Underflow, Self::Mass];

    /// Returns the words for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Underflow => "underflow",
            Self::Mass => "lost and clipped mass",
        }
    }

    /// Returns how much a policy loses.
    pub fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::Underflow => row.underflow_mean,
            Self::Mass => Some(row.gone_mass()),
        }
    }

    /// Tells whether a policy is one to be held against others: what is clipped or skipped does not underflow.
    pub fn compares(self, row: &Row) -> bool {
        match self {
            Self::Underflow => !row.clips_or_skips(),
            Self::Mass => true,
        }
    }

    /// Returns a policy's point, if it is one to be held against others.
    fn point(self, row: &Row) -> Option<(f64, f64)> {
        self.of(row).filter(|_| self.compares(row)).map(|lost| (row.extra_passes_per_1000, lost))
    }
}

impl Place {
    /// Takes every policy through a recording.
    ///
    /// # Errors
    ///
    /// The library refuses a configuration of these policies.
    pub fn of(task: &str, recording: &Recording) -> Result<Self, ConfigError> {
        let mut rules = Rule::all(recording.format.0)?;
        rules.push(Rule::fixed(best_scale(recording)));
        Ok(Self {
            task: task.into(),
            format: recording.format.to_string(),
            steps: recording.steps.len() as u64,
            visits: recording.steps.iter().map(|step| step.len() as u64).sum(),
            rows: rules.iter().map(|rule| walk(task, recording, rule)).collect(),
        })
    }

    /// Returns the corners of the hull of all policies.
    pub fn hull(&self, measure: Measure) -> Vec<(f64, f64)> {
        let points: Vec<_> = self.rows.iter().filter_map(|row| measure.point(row)).collect();
        lower_left(&points)
    }

    /// Returns where the library's own policy lies beside the hull of those others that `counts` names; none where
    /// it is not to be compared.
    pub fn standing(&self, measure: Measure, counts: impl Fn(&Row) -> bool) -> Option<Standing> {
        let ours = self.rows.iter().find(|row| row.policy == Rule::OURS)?;
        let (passes, lost) = measure.point(ours)?;
        let others = self.rows.iter().filter(|row| row.policy != Rule::OURS && counts(row));
        let hull = lower_left(&others.filter_map(|row| measure.point(row)).collect::<Vec<_>>());
        let Some(height) = height(&hull, passes) else {
            return Some(Standing::On { below: None });
        };
        let is_past = hull.last().is_some_and(|&(last, _)| last < passes);
        Some(if lost > height * (1.0 + 1e-9) {
            Standing::Above { lost, hull: height }
        } else if lost >= height && is_past {
            Standing::Level
        } else {
            let below = if height > 0.0 { 1.0 - lost / height } else { 0.0 };
            Standing::On { below: Some(below.max(0.0)) }
        })
    }

    /// Says whether the library's own policy lies on the hull, and by how much it does not.
    pub fn verdict(&self, measure: Measure) -> String {
        let (ours, name) = (Rule::OURS, measure.name());
        let Some(standing) = self.standing(measure, |_| true) else {
            return format!("{name}: {ours} clips or skips, and is not compared.");
        };
        let words = format!("{name}: {ours} {}", standing.words());
        if matches!(standing, Standing::On { .. }) {
            return words + ".";
        }
        match self.standing(measure, |row| !row.is_oracle) {
            Some(without) if without != standing => {
                format!("{words}; without the oracle it {}.", without.words())
            }
            _ => words + ".",
        }
    }
}

impl Standing {
    fn words(self) -> String {
        match self {
            Self::On { below: None } => "lies on the hull: none takes as few passes".into(),
            Self::On { below: Some(below) } => {
                format!("lies on the hull, {:.0} % below that of the others", 100.0 * below)
            }
            Self::Level => "loses as little as the best, which takes fewer passes".into(),
            Self::Above { lost, hull } if hull > 0.0 => {
                let percent = 100.0 * (lost / hull - 1.0);
                format!(
                    "lies {percent:.1} % above the hull ({lost:.2e}, where that is at {hull:.2e})"
                )
            }
            Self::Above { lost, .. } => {
                format!("lies above the hull ({lost:.2e}, where that is at 0)")
            }
        }
    }
}
