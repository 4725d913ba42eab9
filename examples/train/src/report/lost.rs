//! Accuracy over what is lost in the backward pass: a mark for every run of every place.

use maud::{Markup, html};

use crate::results::RunReport;

use super::{
    alone::Sheet,
    group::{Comparison, Group, distinct, plain},
    number::{counted, share},
    palette::{Look, Mark},
    scatter::{Scatter, Spot},
    svg,
    tables::points,
    verdict::TOLERANCE_POINTS,
};

/// From which share on each part of the sentence counts, and its words.
const GROUPS: [(f64, &str); 3] =
    [(0.0, "less than 1 %"), (1e-2, "1 to 10 %"), (1e-1, "10 % or more")];

/// From which share on each line of the table counts, and its words.
const LINES: [(f64, &str); 8] = [
    (0.0, "none"),
    (f64::MIN_POSITIVE, "below 0.001 %"),
    (1e-5, "0.001 to 0.01 %"),
    (1e-4, "0.01 to 0.1 %"),
    (1e-3, "0.1 to 1 %"),
    (1e-2, "1 to 10 %"),
    (1e-1, "10 to 50 %"),
    (0.5, "50 % or more"),
];

/// What is lost, by one of three measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Mass,
    Tensor,
    Underflow,
}

impl Measure {
    const ALL: [Self; 3] = [Self::Mass, Self::Tensor, Self::Underflow];

    fn of(self, run: &RunReport) -> Option<f64> {
        match self {
            Self::Mass => run.gone_mass(),
            Self::Tensor => run.most_gone_mass(),
            Self::Underflow => run.underflow(),
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Mass => "Mass that was lost",
            Self::Tensor => "Mass of the tensor that lost most",
            Self::Underflow => "Elements that underflowed",
        }
    }

    fn across(self) -> &'static str {
        match self {
            Self::Mass => "share underflowed, clipped or skipped",
            Self::Tensor => "share underflowed, clipped or skipped",
            Self::Underflow => "share of the nonzero elements",
        }
    }
}

/// What the shares are, and what the marks mean.
const MEANING: &str = "Each mark is a run: to the right, what was lost; downwards, how many points of the metric the run \
    ended below that in f32 of the same seed; two scales, one near f32 and one beyond; the grey band is within 1.5 points. A \
    step that is skipped loses all of its mass; of the others it is what underflowed and what was clipped, as upper \
    bounds, at the steps that were looked at: the mean over the visits of all gradient tensors, and that of the tensor of which \
    most was lost. Elements that underflow are counted without skipped steps, and runs in which all were skipped are \
    missing there. Hollow marks lost more of their mass by skipping and clipping than to underflow. A run that \
    stopped counts with the steps and the metric that it had then.";

/// One run beside f32.
#[derive(Clone, Debug)]
pub(super) struct Loss<'a> {
    look: Look,
    method: &'a str,
    format: &'a str,
    task: &'a str,
    run: &'a RunReport,
    /// Points above that of f32 of the same seed.
    pub(super) points: f64,
}

impl Loss<'_> {
    /// Tells whether more was lost by skipping and clipping than to underflow.
    fn is_hollow(&self) -> bool {
        let lost = self.run.gone.filter(|gone| gone.visits > 0).map_or(0.0, |gone| gone.lost_mass);
        self.run.gone_mass().is_some_and(|all| all > 2.0 * lost)
    }

    fn spot(&self, measure: Measure) -> Option<Spot> {
        let lost = measure.of(self.run)?;
        let stopped = if self.run.stopped.is_some() { ", stopped" } else { "" };
        let title = format!(
            "{} in {} of {}, seed {}: {} lost, {} points{stopped}",
            self.method,
            self.format,
            self.task,
            self.run.seed,
            share(lost),
            points(self.points)
        );
        let look = Look { mark: mark(self.format), ..self.look };
        Some(Spot { look, lost, points: self.points, is_hollow: self.is_hollow(), title })
    }
}

/// Returns every run of which it is known what it lost and what f32 of the same seed came to.
pub(super) fn losses<'c>(comparisons: &'c [Comparison<'_>]) -> Vec<Loss<'c>> {
    let mut losses = Vec::new();
    for comparison in comparisons {
        let Some(baseline) = comparison.baseline() else { continue };
        for (group, look) in comparison.groups_beside_f32() {
            losses.extend(losses_of(comparison, baseline, group, look));
        }
    }
    losses
}

fn losses_of<'c>(
    comparison: &'c Comparison<'_>,
    baseline: &'c Group<'_>,
    group: &'c Group<'_>,
    look: Look,
) -> impl Iterator<Item = Loss<'c>> {
    group.runs.iter().filter_map(move |run| {
        let twin = baseline.runs.iter().find(|twin| twin.seed == run.seed)?;
        let points = 100.0 * (run.metric - twin.metric);
        run.gone_mass().filter(|_| points.is_finite())?;
        let (method, task) = (group.method.as_str(), comparison.task.name.as_str());
        Some(Loss { look, method, format: group.format, task, run, points })
    })
}

/// Draws both pictures, with what they say; none where nothing is known.
pub(super) fn lost(comparisons: &[Comparison<'_>]) -> Option<Markup> {
    let losses = losses(comparisons);
    let drawn = || {
        html! {
            figure {
                (legend(&losses))
                div.panels {
                    @for measure in Measure::ALL {
                        div.panel { h3 { (measure.heading()) } (picture(&losses, measure)) }
                    }
                }
                figcaption { (MEANING) }
            }
            @for measure in Measure::ALL { p { (sentence(&losses, measure)) } }
            div.verdicts { @for measure in Measure::ALL { (table(&losses, measure)) } }
        }
    };
    (!losses.is_empty()).then(drawn)
}

/// Returns the same as a picture that needs no page.
pub(super) fn alone(comparisons: &[Comparison<'_>]) -> Option<String> {
    let losses = losses(comparisons);
    (!losses.is_empty()).then(|| {
        let panels =
            Measure::ALL.map(|measure| (measure.heading().to_owned(), picture(&losses, measure)));
        let methods = methods(&losses)
            .into_iter()
            .map(|(look, names)| (svg::spot(Look { mark: Mark::Circle, ..look }), names));
        let formats =
            formats(&losses).into_iter().map(|(look, name)| (svg::spot(look), name.into()));
        let mut text: Vec<String> = Measure::ALL.map(|measure| sentence(&losses, measure)).into();
        text.push(MEANING.into());
        let sheet = Sheet {
            label: "Accuracy over what is lost".into(),
            legends: vec![methods.collect(), formats.collect()],
            panels: panels.into(),
            columns: 3,
            height: super::scatter::HEIGHT,
            text,
        };
        sheet.draw()
    })
}

fn picture(losses: &[Loss<'_>], measure: Measure) -> Markup {
    let label = format!("{}: points to f32 over it, by run", measure.heading());
    let spots = losses.iter().filter_map(|loss| loss.spot(measure)).collect();
    Scatter { label, across: measure.across(), spots }.draw()
}

fn legend(losses: &[Loss<'_>]) -> Markup {
    html! {
        ul.legend aria-label="Colours by method" {
            @for (look, names) in methods(losses) {
                li { (svg::spot(Look { mark: Mark::Circle, ..look })) " " (names) }
            }
        }
        ul.legend aria-label="Shapes by format" {
            @for (look, name) in formats(losses) { li { (svg::spot(look)) " " (name) } }
        }
    }
}

/// Returns each colour with the methods that have it.
fn methods(losses: &[Loss<'_>]) -> Vec<(Look, String)> {
    let mut all: Vec<(Look, Vec<&str>)> = Vec::new();
    for loss in losses {
        let name = plain(loss.method);
        match all.iter_mut().find(|(look, _)| look.class == loss.look.class) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => all.push((loss.look, vec![name])),
        }
    }
    all.into_iter().map(|(look, names)| (look, names.join(", "))).collect()
}

/// Returns each format with its shape.
fn formats<'a>(losses: &[Loss<'a>]) -> Vec<(Look, &'a str)> {
    let look = |format| Look { class: "m-f32", dash: "", mark: mark(format) };
    distinct(losses.iter().map(|loss| loss.format))
        .into_iter()
        .map(|name| (look(name), name))
        .collect()
}

/// Returns the shape of a format.
fn mark(format: &str) -> Mark {
    match format {
        "binary16" => Mark::Circle,
        "binary16-flushing" => Mark::Diamond,
        "bfloat16" => Mark::Right,
        "bfloat16-flushing" => Mark::Left,
        "e5m2" => Mark::Up,
        "e4m3" => Mark::Square,
        _ => Mark::Hexagon,
    }
}

/// Says how many of the runs that lost little, some or much ended below f32, and above: an extreme would say how much the
/// noisiest task varies from seed to seed.
pub(super) fn sentence(losses: &[Loss<'_>], measure: Measure) -> String {
    let all: Vec<(f64, f64)> =
        losses.iter().filter_map(|loss| Some((measure.of(loss.run)?, loss.points))).collect();
    let groups = GROUPS.iter().enumerate().filter_map(|(index, &(from, words))| {
        let to = GROUPS.get(index + 1).map_or(f64::INFINITY, |group| group.0);
        let here: Vec<f64> = all
            .iter()
            .filter(|(lost, _)| (from..to).contains(lost))
            .map(|&(_, points)| points)
            .collect();
        let share = |count: usize| format!("{:.0} %", 100.0 * count as f64 / here.len() as f64);
        let below = here.iter().filter(|&&points| points < -TOLERANCE_POINTS).count();
        let above = here.iter().filter(|&&points| points > TOLERANCE_POINTS).count();
        let runs = counted(here.len(), "run");
        (!here.is_empty())
            .then(|| format!("{runs} lost {words}: {} below, {} above", share(below), share(above)))
    });
    format!(
        "{}: runs that ended more than {TOLERANCE_POINTS} points below f32, and as much above. {}.",
        measure.heading(),
        groups.collect::<Vec<_>>().join("; ")
    )
}

/// Counts the runs by what they lost.
fn table(losses: &[Loss<'_>], measure: Measure) -> Markup {
    let all: Vec<(f64, f64)> =
        losses.iter().filter_map(|loss| Some((measure.of(loss.run)?, loss.points))).collect();
    let lines = LINES.iter().enumerate().filter_map(|(index, &(from, words))| {
        let to = LINES.get(index + 1).map_or(f64::INFINITY, |line| line.0);
        let here = all.iter().filter(|(lost, _)| (from..to).contains(lost));
        let here: Vec<f64> = here.map(|&(_, points)| points).collect();
        (!here.is_empty()).then_some((words, here))
    });
    html! {
        div.scroll tabindex="0" {
            table aria-label={ "Runs by " (measure.across()) } {
                caption { strong { (measure.heading()) } ": points to f32, by run" }
                thead { tr {
                    th scope="col" { "lost" }
                    @for column in ["runs", "below", "above", "median", "worst"] {
                        th.n scope="col" { (column) }
                    }
                } }
                tbody {
                    @for (words, here) in lines {
                        tr {
                            th scope="row" { (words) }
                            @for cell in counts(&here) { td.n { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// Returns how many differences there are, how many lie below and above the tolerance, their median and the least.
fn counts(here: &[f64]) -> [String; 5] {
    let below = here.iter().filter(|&&points| points < -TOLERANCE_POINTS).count();
    let above = here.iter().filter(|&&points| points > TOLERANCE_POINTS).count();
    let median = super::group::median(here.to_vec()).map_or(String::new(), points);
    let worst = here.iter().copied().min_by(f64::total_cmp).map_or(String::new(), points);
    [here.len().to_string(), below.to_string(), above.to_string(), median, worst]
}
