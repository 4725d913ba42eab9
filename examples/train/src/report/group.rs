//! Runs that differ in the seed only, and what became of them beside f32.

use crate::{
    method::FormatName,
    results::{CellReport, Results, RunReport, TaskReport, WeightReport},
};

use super::{
    palette::{Look, looks},
    verdict::{Difference, Verdict},
};

/// Our method.
pub(super) const OURS: &str = "measured";

/// The method that the others are measured against.
pub(super) const BASELINE: &str = "f32";

/// Training in bfloat16 without scaling, where nothing else is done in bfloat16: what the others could be replaced by
/// wherever there are 16 bits.
pub(super) const UNSCALED: &str = "bfloat16";

/// All runs of one task.
pub(super) struct Comparison<'a> {
    pub(super) task: TaskReport,
    /// The formats of gradients, without those of the baseline and of training without scaling.
    pub(super) formats: Vec<&'a str>,
    /// The methods in the order of the runs; with the period, as in "normal/10", where a method has
    /// several.
    pub(super) methods: Vec<String>,
    /// One per method.
    pub(super) looks: Vec<Look>,
    groups: Vec<Group<'a>>,
}

impl<'a> Comparison<'a> {
    /// Returns one comparison per task, those first that the results describe.
    pub(super) fn all(results: &'a Results) -> Vec<Self> {
        let mut tasks = results.tasks.clone();
        for run in &results.runs {
            if tasks.iter().all(|task| task.name != run.task) {
                let metric = "metric".into();
                tasks.push(TaskReport { name: run.task.clone(), metric, ..TaskReport::default() });
            }
        }
        tasks.into_iter().map(|task| Self::of(task, &results.runs)).collect()
    }

    fn of(task: TaskReport, runs: &'a [RunReport]) -> Self {
        let runs: Vec<&RunReport> = runs.iter().filter(|run| run.task == task.name).collect();
        let scaled = runs.iter().filter(|run| run.method != BASELINE && !is_unscaled(run));
        let scaled = distinct(scaled.map(|run| run.format.as_str()));
        // Where it is all there is, or others are in bfloat16 too, it is a method like any other.
        let is_apart =
            scaled.iter().any(|format| has_16_bits(format)) && !scaled.contains(&UNSCALED);
        let is_unscaled = |run: &RunReport| is_apart && is_unscaled(run);
        let others = runs.iter().filter(|run| run.method != BASELINE && !is_unscaled(run));
        let mut formats = distinct(others.map(|run| run.format.as_str()));
        if formats.is_empty() {
            formats = distinct(runs.iter().map(|run| run.format.as_str()));
        }
        let all = runs.clone();
        let label = |run: &RunReport| {
            let mut same = all.iter().filter(|other| other.method == run.method);
            if is_unscaled(run) {
                UNSCALED.into()
            } else if run.method == BASELINE || same.all(|other| other.period == run.period) {
                run.method.clone()
            } else {
                format!("{}/{}", run.method, run.period)
            }
        };
        let methods = distinct(runs.iter().map(|run| label(run)));
        let mut groups = Vec::<Group<'a>>::new();
        for run in runs {
            let method = label(run);
            let format = if run.method == BASELINE { "" } else { &run.format };
            match groups.iter_mut().find(|group| group.method == method && group.format == format) {
                Some(group) => group.runs.push(run),
                None => groups.push(Group { method, format, runs: vec![run] }),
            }
        }
        for group in &mut groups {
            group.runs.sort_by_key(|run| run.seed);
        }
        Self { task, formats, looks: looks(&methods), methods, groups }
    }

    /// Returns the runs of a method in a format; the baseline has one format for all, and training without scaling
    /// one for all of 16 bits.
    pub(super) fn group(&self, method: &str, format: &str) -> Option<&Group<'a>> {
        let format = match method {
            BASELINE => "",
            UNSCALED if has_16_bits(format) => UNSCALED,
            _ => format,
        };
        self.groups.iter().find(|group| group.method == method && group.format == format)
    }

    /// Returns every run.
    pub(super) fn runs(&self) -> impl Iterator<Item = &'a RunReport> {
        self.groups.iter().flat_map(|group| group.runs.iter().copied())
    }

    /// Returns the runs in f32.
    pub(super) fn baseline(&self) -> Option<&Group<'a>> {
        self.group(BASELINE, "")
    }

    /// Returns the methods other than the baseline, with their looks.
    pub(super) fn rivals(&self) -> impl Iterator<Item = (&str, Look)> + Clone {
        let looks = self.looks.iter().copied();
        self.methods.iter().map(String::as_str).zip(looks).filter(|&(method, _)| method != BASELINE)
    }

    /// Returns the groups of a format in the order of the methods, without the baseline.
    pub(super) fn rivals_in<'s>(
        &'s self,
        format: &'s str,
    ) -> impl Iterator<Item = (&'s Group<'a>, Look)> + Clone {
        self.rivals().filter_map(move |(method, look)| Some((self.group(method, format)?, look)))
    }

    /// Returns every group but that of f32 once, in the order of the runs.
    pub(super) fn groups_beside_f32(&self) -> impl Iterator<Item = (&Group<'a>, Look)> {
        self.groups.iter().filter(|group| group.method != BASELINE).filter_map(|group| {
            let place = self.methods.iter().position(|method| *method == group.method)?;
            Some((group, self.looks[place]))
        })
    }

    /// Returns the groups that a table of a format has: that of f32 and the rivals.
    pub(super) fn in_format(&self, format: &str) -> Vec<&Group<'a>> {
        self.methods.iter().filter_map(|method| self.group(method, format)).collect()
    }

    /// Returns how far a group ended from f32.
    pub(super) fn difference(&self, group: &Group<'_>) -> Option<Difference> {
        if group.method == BASELINE { None } else { group.paired(self.baseline()?) }
    }

    /// Says what became of a group; a run that stopped counts with the metric that it had then.
    pub(super) fn verdict(&self, group: &Group<'_>) -> Verdict {
        if group.method == BASELINE {
            return Verdict::Baseline;
        }
        self.difference(group).map_or(Verdict::Unknown, Difference::verdict)
    }
}

/// Tells whether a run is without scaling in bfloat16.
fn is_unscaled(run: &RunReport) -> bool {
    run.method == "none" && run.format == UNSCALED
}

fn has_16_bits(format: &str) -> bool {
    format.parse::<FormatName>().is_ok_and(|format| format.0.encoding.bits() == 16)
}

/// The runs of one method in one gradient format of a task, by seed.
pub(super) struct Group<'a> {
    pub(super) method: String,
    /// Empty for the baseline.
    pub(super) format: &'a str,
    pub(super) runs: Vec<&'a RunReport>,
}

impl<'a> Group<'a> {
    pub(super) fn metrics(&self) -> impl Iterator<Item = f64> + Clone {
        self.runs.iter().map(|run| run.metric)
    }

    pub(super) fn mean(&self) -> f64 {
        mean(self.metrics()).unwrap_or(f64::NAN)
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.runs.iter().any(|run| run.stopped.is_some())
    }

    pub(super) fn skipped(&self) -> u64 {
        self.runs.iter().map(|run| run.skipped_steps).sum()
    }

    pub(super) fn recovered(&self) -> u64 {
        self.runs.iter().map(|run| run.recovered_steps).sum()
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &'a CellReport> {
        self.runs.iter().flat_map(|run| &run.cells)
    }

    /// Returns the wall-clock seconds of a step, counting included.
    pub(super) fn seconds_per_step(&self) -> Option<f64> {
        let steps: u64 = self.runs.iter().map(|run| run.steps).sum();
        let seconds: f64 = self.runs.iter().map(|run| run.seconds).sum();
        (steps > 0 && seconds > 0.0).then(|| seconds / steps as f64)
    }

    /// Returns visits, visits with a window, and those of them that were kept.
    pub(super) fn windows(&self) -> [u64; 3] {
        self.cells().fold([0; 3], |[visits, windows, kept], cell| {
            [visits + cell.visits, windows + cell.windows, kept + cell.kept]
        })
    }

    /// Returns passes beyond one a visit, of 1,000 visits of the whole runs; none where a run did not count them.
    pub(super) fn extra_passes(&self) -> Option<f64> {
        let sum = |of: fn(&RunReport) -> u64| self.runs.iter().map(|run| of(run)).sum::<u64>();
        let (visits, extra) = (sum(|run| run.visits), sum(|run| run.extra_passes));
        let are_counted = self.runs.iter().all(|run| run.visits > 0);
        are_counted.then(|| 1000.0 * extra as f64 / visits as f64).filter(|extra| extra.is_finite())
    }

    /// Returns the error of the weights' gradients, and that of the worst weight.
    pub(super) fn gradient_errors(&self) -> [Option<f64>; 2] {
        [gradient_error(&self.runs), worst_gradient_error(&self.runs)]
    }

    /// Returns the mean over runs of the share of the mass that did not arrive; none where it is not known of all.
    pub(super) fn gone_mass(&self) -> Option<f64> {
        let all: Option<Vec<f64>> = self.runs.iter().map(|run| run.gone_mass()).collect();
        mean(all?.into_iter())
    }

    /// Returns the difference to the runs of the same seeds in another group.
    fn paired(&self, other: &Group<'_>) -> Option<Difference> {
        let mut differences = Vec::new();
        for run in &self.runs {
            if let Some(twin) = other.runs.iter().find(|twin| twin.seed == run.seed) {
                differences.push(100.0 * (run.metric - twin.metric));
            }
        }
        Difference::of(&differences)
    }
}

/// Returns the median over runs, weights and probed steps of the relative L2 error of a weight's gradient.
///
/// A gradient without such an error, because it is not finite or that of f32 is zero, counts as worse than all others;
/// none where that is the median, or nothing was probed.
pub(super) fn gradient_error(runs: &[&RunReport]) -> Option<f64> {
    median_error(runs.iter().flat_map(|run| &run.weights)).filter(|error| error.is_finite())
}

/// Returns the greatest over weights of that median of one weight.
pub(super) fn worst_gradient_error(runs: &[&RunReport]) -> Option<f64> {
    let weights = || runs.iter().flat_map(|run| &run.weights);
    let names = distinct(weights().map(|weight| &weight.name));
    let of = |name: &String| median_error(weights().filter(|weight| weight.name == *name));
    let worst = names.into_iter().filter_map(of).max_by(f64::total_cmp);
    worst.filter(|error| error.is_finite())
}

/// Returns the median error of some weights; infinite where that is none.
fn median_error<'a>(weights: impl Iterator<Item = &'a WeightReport>) -> Option<f64> {
    let errors = weights.flat_map(|weight| &weight.relative_l2);
    median(errors.map(|error| error.unwrap_or(f64::INFINITY)).collect())
}

/// Returns the median; nothing has none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Returns a method's name without its period.
pub(super) fn plain(method: &str) -> &str {
    method.split('/').next().unwrap_or(method)
}

/// Returns the mean of the values that are there.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

/// Returns the least and the greatest finite value.
pub(super) fn extremes(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |found, value| {
        let (low, high) = found.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Returns the values in the order of their first appearance.
pub(super) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}
