//! The picture that the page opens with: how far each method ended from f32, in every place.

use maud::{Markup, html};

use super::{
    axis::Axis,
    group::{Comparison, Group},
    palette::Mark,
    svg::{self, px},
    tables::points,
    verdict::{Difference, TOLERANCE_POINTS, Verdict, meaning},
};

const PITCH: f64 = 20.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 202.0;
const TOP: f64 = 4.0;

/// Points beside zero that are shown at least, and at most below and above it: what lies beyond is an arrow, so that
/// it does not squeeze the rest.
const LEAST: f64 = 3.0;
const MOST_BELOW: f64 = 10.0;
const MOST_ABOVE: f64 = 5.0;

/// One method in one place.
struct Row<'a> {
    group: &'a Group<'a>,
    difference: Difference,
}

/// Draws every place that has runs in f32; nothing where none has.
pub(super) fn overview(comparisons: &[Comparison<'_>]) -> Markup {
    let mut places = Vec::new();
    for comparison in comparisons {
        for format in &comparison.formats {
            let groups = comparison.rivals_in(format);
            let rows: Vec<Row<'_>> = groups
                .filter_map(|(group, _)| {
                    Some(Row { group, difference: comparison.difference(group)? })
                })
                .collect();
            if !rows.is_empty() {
                places.push((format!("{} in {format}", comparison.task.name), rows));
            }
        }
    }
    let axis = axis(places.iter().flat_map(|(_, rows)| rows));
    html! {
        @if !places.is_empty() {
            figure #overview {
                h2 { "How far each method ended from f32" }
                div.panels {
                    @for (name, rows) in &places {
                        div.panel { h3 { (name) } (place(name, rows, &axis)) }
                    }
                }
                figcaption {
                    "Points of the metric on the test samples, to the left worse than f32: the mean over seeds, and \
                        the 95 % interval of that. The grey band is within " (TOLERANCE_POINTS) " points of f32. A \
                        dot is equal, a cross failed, a hollow diamond undecided; an arrow leads out of the picture. "
                    (meaning())
                }
            }
        }
    }
}

/// Returns an axis for all places, so that they can be compared.
fn axis<'a>(rows: impl Iterator<Item = &'a Row<'a>>) -> Axis {
    let (mut low, mut high) = (-LEAST, LEAST);
    for row in rows {
        let mean = row.difference.mean;
        let (least, greatest) = row.difference.interval().unwrap_or((mean, mean));
        low = low.min(least);
        high = high.max(greatest);
    }
    Axis::between(low.max(-MOST_BELOW) - 0.3, high.min(MOST_ABOVE) + 0.3)
}

fn place(name: &str, rows: &[Row<'_>], axis: &Axis) -> Markup {
    let bottom = TOP + PITCH * rows.len() as f64;
    let at = |value: f64| axis.at(value, LEFT, RIGHT);
    let (from, to) = (at(-TOLERANCE_POINTS), at(TOLERANCE_POINTS));
    let body = html! {
        rect.band x=(px(from)) y=(px(TOP)) width=(px(to - from)) height=(px(bottom - TOP)) {}
        (svg::horizontal(axis, (LEFT, RIGHT), (TOP, bottom), tick))
        (svg::line((at(0.0), TOP), (at(0.0), bottom), "reference"))
        @for (index, row) in rows.iter().enumerate() {
            (row.draw(axis, TOP + PITCH * (index as f64 + 0.5)))
        }
    };
    svg::picture(&format!("Points to f32 of {name}, by method"), bottom + 18.0, &body)
}

/// Writes a number of points below the axis.
fn tick(points: f64) -> String {
    format!("{points:.0}").replace("-0", "0").replace('-', "\u{2212}")
}

impl Row<'_> {
    fn draw(&self, axis: &Axis, y: f64) -> Markup {
        let verdict = self.difference.verdict();
        let mean = points(self.difference.mean);
        let interval = match self.difference.interval() {
            Some((low, high)) => format!("{} to {}", points(low), points(high)),
            None => "one seed".into(),
        };
        let title = format!("{}: {mean} ({interval}), {}", self.group.method, verdict.word());
        html! {
            g.(verdict.class()) {
                title { (title) }
                (svg::text(0.0, y + 4.0, "name", &svg::shortened(&self.group.method, 12)))
                (self.bar(axis, y))
                (self.mark(axis, verdict, y))
                (svg::text(svg::WIDTH, y + 4.0, "word end", &format!("{mean} {}", verdict.word())))
            }
        }
    }

    /// Draws the interval; an end beyond the picture has no stop.
    fn bar(&self, axis: &Axis, y: f64) -> Markup {
        let Some((low, high)) = self.difference.interval() else { return html! {} };
        let (from, to) = (axis.at(low, LEFT, RIGHT), axis.at(high, LEFT, RIGHT));
        let mut path = format!("M{} {}H{}", px(from), px(y), px(to));
        for (end, is_within) in [(from, !axis.is_below(low)), (to, axis.reaches_above(high))] {
            if is_within {
                path += &format!("M{} {}v7", px(end), px(y - 3.5));
            }
        }
        html! { path.stroke d=(path) {} }
    }

    fn mark(&self, axis: &Axis, verdict: Verdict, y: f64) -> Markup {
        let mean = self.difference.mean;
        let x = axis.at(mean, LEFT, RIGHT);
        if axis.is_below(mean) || !axis.reaches_above(mean) {
            let (back, turn) = if axis.is_below(mean) { (9, 6) } else { (-9, -6) };
            let y = px(y);
            let path = format!("M{} {y}h{back}m-{back} 0l{turn}-5m-{turn} 5l{turn} 5", px(x));
            return html! { path.stroke d=(path.replace("--", "")) {} };
        }
        match verdict {
            Verdict::Failed => {
                let path = format!("M{} {}l9 9m0-9l-9 9", px(x - 4.5), px(y - 4.5));
                html! { path.stroke d=(path) {} }
            }
            Verdict::Equal => html! { path.solid d=(Mark::Circle.path(x, y, 4.4)) {} },
            _ => html! { path.hollow d=(Mark::Diamond.path(x, y, 4.2)) {} },
        }
    }
}
