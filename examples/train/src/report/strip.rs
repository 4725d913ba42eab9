//! Asked against real: a row per layer, the tolerance as a line, each method's underflow as a mark.

use maud::{Markup, html};

use super::{
    axis::Axis,
    heatmap::{PITCH, TOP},
    number::{power, significant},
    palette::Look,
    svg::{self, px},
};

const LEFT: f64 = 122.0;
/// Right of the lane for zero, which a logarithm does not have.
const START: f64 = 142.0;
const RIGHT: f64 = 290.0;

/// A picture of how much each method let underflow in each layer.
pub(super) struct Strip<'a> {
    pub(super) label: String,
    pub(super) rows: &'a [Row],
}

/// One layer.
pub(super) struct Row {
    pub(super) name: String,
    /// The share that was tolerated.
    pub(super) asked: f64,
    /// A method, its look, and the mean share that underflowed.
    pub(super) marks: Vec<(String, Look, f64)>,
}

impl Strip<'_> {
    pub(super) fn draw(&self) -> Markup {
        let axis = Axis::decades(1e-6, 1.0);
        let bottom = TOP + PITCH * self.rows.len() as f64;
        let body = html! {
            @if let Some(row) = self.rows.first() {
                (svg::text(axis.at(row.asked, START, RIGHT), TOP - 6.0, "tick end", "asked"))
                (svg::text(axis.at(2.0 * row.asked, START, RIGHT), TOP - 6.0, "tick", "twice"))
            }
            (svg::horizontal(&axis, (START, RIGHT), (TOP, bottom), power))
            (svg::text((LEFT + START) / 2.0 - 2.0, bottom + 13.0, "tick mid", "0"))
            @for (index, row) in self.rows.iter().enumerate() {
                @let y = TOP + PITCH * (index as f64 + 0.5);
                @let asked = axis.at(row.asked, START, RIGHT);
                @let kept = axis.at(2.0 * row.asked, START, RIGHT);
                rect.band x=(px(LEFT)) y=(px(y - PITCH / 2.0)) width=(px(kept - LEFT))
                    height=(PITCH) {
                    title { (row.name) ", asked: " (significant(row.asked)) }
                }
                (svg::line((asked, y - PITCH / 2.0), (asked, y + PITCH / 2.0), "reference"))
                (svg::text(LEFT - 5.0, y + 3.5, "layer end", &svg::shortened(&row.name, 21)))
                (svg::line((LEFT, y), (RIGHT, y), "grid"))
                @for (method, look, real) in &row.marks {
                    @let x = if *real > 0.0 { axis.at(*real, START, RIGHT) } else { LEFT + 8.0 };
                    path.solid.(look.class) d=(look.mark.path(x, y, 3.4)) {
                        title { (row.name) ", " (method) ": " (significant(*real)) }
                    }
                }
            }
        };
        svg::picture(&self.label, bottom + 18.0, &body)
    }
}
