//! Pictures of the exponent K of each layer's loss scale over training.

use std::fmt::Write;

use maud::{Markup, html};

use crate::results::{CellReport, RunReport};

use super::{
    axis::Axis,
    group::{Comparison, OURS, distinct, plain},
    heatmap::{LEFT_END, PITCH, RIGHT_END},
    number::{self, counted, list},
    palette::SHADES,
    svg::{self, px},
};

const LEFT: f64 = 122.0;
const RIGHT: f64 = 294.0;
const TOP: f64 = 4.0;

/// The most columns; where more steps were sampled, a column is the last of its share of them.
const COLUMNS: usize = 48;

/// One method's scales in the run with the least seed.
struct Course<'a> {
    method: &'a str,
    run: &'a RunReport,
    /// The sampled steps that are drawn, by index.
    columns: Vec<usize>,
    /// Whether every layer has the same scale at each step.
    is_common: bool,
}

/// Draws the scales of `measured` and of every other method that moved them.
pub(super) fn scales(comparison: &Comparison<'_>, format: &str) -> Markup {
    let mut courses: Vec<Course<'_>> = comparison
        .rivals_in(format)
        .filter_map(|(group, _)| Some((group.method.as_str(), *group.runs.first()?)))
        .filter(|(method, run)| {
            run.cells.iter().any(|cell| !cell.scales_log2.is_empty())
                && (plain(method) == OURS || run.cells.iter().any(moves))
        })
        .map(|(method, run)| Course::of(method, run))
        .collect();
    // Ours first, and those of a single row last.
    courses.sort_by_key(|course| (course.is_common, plain(course.method) != OURS));
    let exponents = || courses.iter().flat_map(Course::exponents);
    let (Some(low), Some(high)) = (exponents().min(), exponents().max()) else {
        return html! { p.faint { "No method's scale moved." } };
    };
    let range = Range { low, high };
    html! {
        (range.legend())
        div.panels {
            @for course in &courses {
                div.panel {
                    h5 { (course.method) ", seed " (course.run.seed) }
                    (course.draw(range, &comparison.task.name, format))
                }
            }
        }
        figcaption {
            "Look for rows of different colours, which are layers that want different scales, and \
             for changes along a row, which are scales that moved. "
            @for course in &courses { (course.found()) " " }
        }
    }
}

fn moves(cell: &CellReport) -> bool {
    distinct(cell.scales_log2.iter().flatten()).len() > 1
}

/// Returns the exponents of all layers that were visited at a sampled step.
fn at(run: &RunReport, step: usize) -> impl Iterator<Item = i32> {
    run.cells.iter().filter_map(move |cell| cell.scales_log2.get(step).copied().flatten())
}

impl<'a> Course<'a> {
    fn of(method: &'a str, run: &'a RunReport) -> Self {
        let steps = run.cells.iter().map(|cell| cell.scales_log2.len()).max().unwrap_or_default();
        let shown = steps.min(COLUMNS);
        let columns = (1..=shown).map(|column| column * steps / shown - 1).collect();
        let is_common =
            run.cells.len() > 1 && (0..steps).all(|step| distinct(at(run, step)).len() <= 1);
        Self { method, run, columns, is_common }
    }

    /// Returns the names of the rows and what they show.
    fn rows(&self) -> Vec<(String, Vec<Option<i32>>)> {
        let columns = || self.columns.iter();
        if self.is_common {
            let name = format!("all {}", counted(self.run.cells.len(), "layer"));
            return vec![(name, columns().map(|&step| at(self.run, step).next()).collect())];
        }
        let shown = |cell: &CellReport| {
            columns().map(|&step| cell.scales_log2.get(step).copied().flatten()).collect()
        };
        self.run.cells.iter().map(|cell| (cell.name.clone(), shown(cell))).collect()
    }

    fn exponents(&self) -> impl Iterator<Item = i32> {
        self.run.cells.iter().flat_map(|cell| cell.scales_log2.iter().flatten().copied())
    }

    fn draw(&self, range: Range, task: &str, format: &str) -> Markup {
        let rows = self.rows();
        let bottom = TOP + PITCH * rows.len() as f64;
        let label = format!("Loss scale by layer and step of {} in {format}, {task}", self.method);
        let first = self.columns.first().map_or(0, |&index| self.step(index));
        let last = self.columns.last().map_or(0, |&index| self.step(index));
        let steps = Axis::between(first as f64, (last as f64).max(first as f64 + 1.0));
        let body = html! {
            @for (index, (name, scales)) in rows.iter().enumerate() {
                @let y = TOP + PITCH * index as f64;
                (svg::text(LEFT - 5.0, y + PITCH - 3.5, "layer end", &svg::shortened(name, 21)))
                @for (exponent, path) in self.bands(scales, y) {
                    @match exponent {
                        Some(exponent) => path.{ "k" (range.shade(exponent)) } d=(path) {
                            title { (name) ": K = " (exponent) }
                        },
                        None => path.missing d=(path) { title { (name) ": not visited" } }
                    }
                }
            }
            @for tick in steps.ticks(4) {
                @let x = steps.at(tick, LEFT, RIGHT);
                (svg::text(x, bottom + 13.0, "tick mid", &number::tick(tick)))
            }
            (svg::text(RIGHT, bottom + 26.0, "tick end", "step"))
        };
        svg::picture(&label, bottom + 31.0, &body)
    }

    fn step(&self, index: usize) -> u64 {
        self.run.sampled_steps.get(index).copied().unwrap_or(index as u64)
    }

    /// Returns one path per exponent of a row; neighbours with the same exponent are one rectangle.
    fn bands(&self, shown: &[Option<i32>], y: f64) -> Vec<(Option<i32>, String)> {
        let width = (RIGHT - LEFT) / self.columns.len().max(1) as f64;
        let mut paths = Vec::<(Option<i32>, String)>::new();
        let mut start = 0;
        for run in shown.chunk_by(|a, b| a == b) {
            let (left, length) = (LEFT + width * start as f64, px(width * run.len() as f64));
            start += run.len();
            let exponent = run[0];
            if paths.iter().all(|(known, _)| *known != exponent) {
                paths.push((exponent, String::new()));
            }
            for (_, path) in paths.iter_mut().filter(|(known, _)| *known == exponent) {
                // Writing into a string cannot fail.
                let _ = write!(path, "M{} {}h{length}v12.7h-{length}z", px(left), px(y));
            }
        }
        paths
    }

    /// Says in a sentence what the picture shows.
    fn found(&self) -> String {
        let (low, high) =
            (self.exponents().min().unwrap_or(0), self.exponents().max().unwrap_or(0));
        let steps = self.run.cells.iter().map(|cell| cell.scales_log2.len()).max();
        let spread = (0..steps.unwrap_or_default())
            .filter_map(|step| Some(at(self.run, step).max()? - at(self.run, step).min()?));
        let spread = spread.max().unwrap_or_default();
        let moved = self.run.cells.iter().filter(|cell| moves(cell)).count();
        let layers = self.run.cells.len();
        let ranges = list(&[low.to_string(), high.to_string()]);
        if self.is_common {
            return format!("{}: one K for all layers, between {ranges}.", self.method);
        }
        format!(
            "{}: K between {ranges}, up to {spread} apart at the same step; it moved in {moved} \
             of {}.",
            self.method,
            counted(layers, "layer")
        )
    }
}

/// The exponents that the colours stand for.
#[derive(Clone, Copy)]
struct Range {
    low: i32,
    high: i32,
}

impl Range {
    fn shade(self, exponent: i32) -> usize {
        let span = f64::from((self.high - self.low).max(1));
        let place = f64::from(exponent - self.low) / span;
        (place * (SHADES - 1) as f64).round() as usize
    }

    fn legend(self) -> Markup {
        let width = (RIGHT_END - LEFT_END) / SHADES as f64;
        let middle = i32::midpoint(self.low, self.high);
        let ends = [
            (LEFT_END, self.low),
            (f64::midpoint(LEFT_END, RIGHT_END), middle),
            (RIGHT_END, self.high),
        ];
        let body = html! {
            @for shade in 0..SHADES {
                @let x = LEFT_END + width * shade as f64;
                rect.{ "k" (shade) } x=(px(x)) y="2" width=(px(width + 0.2)) height="12" {}
            }
            @for (x, exponent) in ends {
                (svg::text(x, 27.0, "tick mid", &exponent.to_string()))
            }
        };
        html! {
            div.key {
                span { "K, the scale is 2" sup { "K" } }
                (svg::picture("Colours of K", 32.0, &body))
                span { svg.swatch viewBox="0 0 14 12" aria-hidden="true" {
                    rect.missing x="1" y="1" width="12" height="10" {}
                } " not visited" }
            }
        }
    }
}
