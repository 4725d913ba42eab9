//! A dot per method with its interval over seeds, beside the band of f32.

use maud::{Markup, html};

use super::{
    axis::Axis,
    palette::Look,
    svg::{self, px},
};

const PITCH: f64 = 21.0;
const LEFT: f64 = 82.0;
const RIGHT: f64 = 214.0;
const TOP: f64 = 6.0;

/// A picture of one value per method.
pub(super) struct Dots<'a> {
    pub(super) label: String,
    pub(super) axis: &'a Axis,
    /// Least, mean and greatest value of the baseline.
    pub(super) band: Option<[f64; 3]>,
    pub(super) rows: Vec<Row>,
}

/// One method.
pub(super) struct Row {
    pub(super) method: String,
    pub(super) look: Look,
    /// Least, mean and greatest value over seeds; none where there is no value at all.
    pub(super) interval: Option<[f64; 3]>,
    /// Whether there is one seed only.
    pub(super) is_single: bool,
    /// Whether the value is marked as a failure.
    pub(super) has_failed: bool,
    /// Beside the picture.
    pub(super) text: String,
    pub(super) title: String,
}

impl Dots<'_> {
    pub(super) fn draw(&self, tick: impl Fn(f64) -> String) -> Markup {
        let bottom = TOP + PITCH * self.rows.len() as f64;
        let at = |value: f64| self.axis.at(value, LEFT, RIGHT);
        let body = html! {
            @if let Some([low, mean, high]) = self.band {
                // One seed, or equal ones, are a line: it must not vanish.
                @let (left, right) = (at(low) - 0.6, at(high) + 0.6);
                rect.band x=(px(left)) y=(px(TOP)) width=(px(right - left))
                    height=(px(bottom - TOP)) {
                    title { "f32: " (tick(low)) " to " (tick(high)) }
                }
                (svg::line((at(mean), TOP), (at(mean), bottom), "reference"))
            }
            (svg::horizontal(self.axis, (LEFT, RIGHT), (TOP, bottom), &tick))
            @for (index, row) in self.rows.iter().enumerate() {
                (self.row(row, TOP + PITCH * (index as f64 + 0.5)))
            }
        };
        svg::picture(&self.label, bottom + 18.0, &body)
    }

    fn row(&self, row: &Row, y: f64) -> Markup {
        let class = if row.has_failed { "failed" } else { "" };
        html! {
            g.(row.look.class).(class) {
                title { (row.title) }
                (svg::text(0.0, y + 4.0, "name", &svg::shortened(&row.method, 12)))
                @if let Some(interval) = row.interval { (self.mark(row, interval, y)) }
                (svg::text(svg::WIDTH, y + 4.0, "value end", &row.text))
            }
        }
    }

    fn mark(&self, row: &Row, [low, mean, high]: [f64; 3], y: f64) -> Markup {
        let at = |value: f64| self.axis.at(value, LEFT, RIGHT);
        let hollow = if row.is_single { "hollow" } else { "solid" };
        html! {
            @if self.axis.is_below(mean) {
                // Far below the rest: an arrow out of the picture, at its edge.
                path.stroke d=(format!("M{} {y}h26m-26 0l6-5m-6 5l6 5", px(LEFT))) {}
            } @else if row.has_failed {
                path.stroke d=(format!("M{} {}l9 9m0-9l-9 9", px(at(mean) - 4.5), px(y - 4.5))) {}
            } @else {
                path.stroke d=(format!("M{} {y}H{}", px(at(low)), px(at(high)))) {}
                path.(hollow) d=(row.look.mark.path(at(mean), y, 4.2)) {}
            }
        }
    }
}
