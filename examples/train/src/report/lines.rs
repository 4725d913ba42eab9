//! Lines over steps: a thick one for the mean over seeds, thin ones for the seeds.

use std::fmt::Write;

use maud::{Markup, html};

use super::{
    axis::Axis,
    number::count,
    palette::Look,
    svg::{self, px},
};

const LEFT: f64 = 36.0;
const RIGHT: f64 = 294.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 172.0;
/// Of the whole picture.
pub(super) const HEIGHT: f64 = BOTTOM + 31.0;

/// A step, and a value where it is finite.
pub(super) type Place = (f64, Option<f64>);

/// A picture of one quantity over steps.
pub(super) struct Lines<'a> {
    pub(super) label: String,
    /// What the horizontal axis counts.
    pub(super) across: &'static str,
    pub(super) steps: &'a Axis,
    pub(super) values: &'a Axis,
    pub(super) series: Vec<Series>,
}

/// One method.
pub(super) struct Series {
    pub(super) look: Look,
    pub(super) mean: Vec<Place>,
    pub(super) seeds: Vec<Vec<Place>>,
    /// Where runs ended before their last step: the last place with a value, and the step.
    pub(super) stops: Vec<(f64, f64, f64)>,
    pub(super) title: String,
}

impl Lines<'_> {
    pub(super) fn draw(&self, tick: impl Fn(f64) -> String) -> Markup {
        let body = html! {
            @for value in self.values.ticks(6) {
                @let y = self.values.at(value, BOTTOM, TOP);
                (svg::line((LEFT, y), (RIGHT, y), "grid"))
                (svg::text(LEFT - 4.0, y + 4.0, "tick end", &tick(value)))
            }
            (svg::horizontal(self.steps, (LEFT, RIGHT), (TOP, BOTTOM), |step| count(step as u64)))
            @for series in &self.series { (self.series(series)) }
            (svg::text(RIGHT, BOTTOM + 26.0, "tick end", self.across))
        };
        svg::picture(&self.label, HEIGHT, &body)
    }

    fn series(&self, series: &Series) -> Markup {
        let last = series.mean.iter().rev().find_map(|&(step, value)| Some((step, value?)));
        html! {
            g.(series.look.class) {
                title { (series.title) }
                @if series.seeds.len() > 1 {
                    @for seed in &series.seeds { path.thin d=(self.path(seed)) {} }
                }
                path.stroke d=(self.path(&series.mean)) stroke-dasharray=(series.look.dash) {}
                @if let Some((step, value)) = last {
                    @let (x, y) = self.at(step, value);
                    path.solid d=(series.look.mark.path(x, y, 3.6)) {}
                }
                @for &(last, value, step) in &series.stops {
                    @let ((from, _), (x, y)) = (self.at(last, value), self.at(step, value));
                    path.thin d=(format!("M{} {}H{}", px(from), px(y), px(x))) {}
                    path.stop d=(format!("M{} {}h9v9h-9z", px(x - 4.5), px(y - 4.5))) {}
                }
            }
        }
    }

    fn at(&self, step: f64, value: f64) -> (f64, f64) {
        (self.steps.at(step, LEFT, RIGHT), self.values.at(value, BOTTOM, TOP))
    }

    /// Returns the path through places; it is broken where a value is missing.
    fn path(&self, places: &[Place]) -> String {
        let (mut path, mut command) = (String::new(), 'M');
        for &(step, value) in places {
            let Some(value) = value else {
                command = 'M';
                continue;
            };
            let (x, y) = self.at(step, value);
            // Writing into a string cannot fail.
            let _ = write!(path, "{command}{} {}", px(x), px(y));
            command = 'L';
        }
        path
    }
}
