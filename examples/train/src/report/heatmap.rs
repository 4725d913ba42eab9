//! Coloured cells: one row per layer, one column per method.

use maud::{Markup, html};

use super::{
    number::{power, significant},
    palette::SHADES,
    svg::{self, px},
};

const LEFT: f64 = 122.0;
/// Right of the last column, for its slanted label.
const MARGIN: f64 = 32.0;
/// Where the rows of every picture of layers begin, so that those side by side are level.
pub(super) const TOP: f64 = 74.0;
/// The height of a row.
pub(super) const PITCH: f64 = 13.5;

/// Where the colours of a legend begin and end.
pub(super) const LEFT_END: f64 = 16.0;
pub(super) const RIGHT_END: f64 = 284.0;

/// A logarithmic range of values, and its colours.
#[derive(Clone, Copy)]
pub(super) struct Shades {
    /// The decade of the least value with a colour of its own.
    pub(super) low_log10: i32,
    /// The decade of the greatest.
    pub(super) high_log10: i32,
}

impl Shades {
    /// Returns the shade of a positive value; values beyond an end have the shade of that end.
    pub(super) fn shade(self, value: f64) -> usize {
        let span = f64::from(self.high_log10 - self.low_log10);
        let place = (value.log10() - f64::from(self.low_log10)) / span;
        // NaN converts to the first shade.
        ((place * SHADES as f64).floor().max(0.0) as usize).min(SHADES - 1)
    }

    /// Draws the colours with their values, and what else a cell can look like.
    pub(super) fn legend(self, what: &str) -> Markup {
        let width = (RIGHT_END - LEFT_END) / SHADES as f64;
        let label = format!("Colours of {what}");
        let decades: Vec<i32> = (self.low_log10..=self.high_log10).collect();
        let step = (RIGHT_END - LEFT_END) / (decades.len() - 1) as f64;
        let each = 1 + decades.len() / 8;
        let body = html! {
            @for shade in 0..SHADES {
                @let x = LEFT_END + shade as f64 * width;
                rect.{ "h" (shade) } x=(px(x)) y="2" width=(px(width + 0.2)) height="12" {}
            }
            @for (index, decade) in decades.iter().enumerate().step_by(each) {
                @let x = LEFT_END + step * index as f64;
                (svg::text(x, 27.0, "tick mid", &power(10_f64.powi(*decade))))
            }
        };
        html! {
            div.key {
                span { (what) }
                (svg::picture(&label, 32.0, &body))
                span { svg.swatch viewBox="0 0 14 12" aria-hidden="true" {
                    rect.zero x="1" y="1" width="12" height="10" {}
                } " zero" }
                span { svg.swatch viewBox="0 0 14 12" aria-hidden="true" {
                    rect.missing x="1" y="1" width="12" height="10" {}
                } " no value" }
            }
        }
    }
}

/// A picture of one value per layer and method.
pub(super) struct HeatMap<'a> {
    pub(super) label: String,
    pub(super) shades: Shades,
    pub(super) columns: &'a [String],
    pub(super) rows: &'a [Row],
}

/// One layer.
pub(super) struct Row {
    pub(super) name: String,
    /// One per column; none where there is none.
    pub(super) values: Vec<Option<f64>>,
}

impl HeatMap<'_> {
    pub(super) fn draw(&self) -> Markup {
        let width = ((svg::WIDTH - LEFT - MARGIN) / self.columns.len().max(1) as f64).min(24.0);
        let body = html! {
            @for (index, column) in self.columns.iter().enumerate() {
                @let x = LEFT + width * (index as f64 + 0.5) + 3.0;
                @let turned = format!("rotate(-60 {} {})", px(x), px(TOP - 4.0));
                text.tick x=(px(x)) y=(px(TOP - 4.0)) transform=(turned) {
                    (svg::shortened(column, 12))
                }
            }
            @for (index, row) in self.rows.iter().enumerate() {
                (self.row(row, TOP + PITCH * index as f64, width))
            }
        };
        svg::picture(&self.label, TOP + PITCH * self.rows.len() as f64 + 2.0, &body)
    }

    fn row(&self, row: &Row, y: f64, width: f64) -> Markup {
        let name = svg::shortened(&row.name, 21);
        html! {
            (svg::text(LEFT - 5.0, y + PITCH - 3.5, "layer end", &name))
            @for (index, (value, column)) in row.values.iter().zip(self.columns).enumerate() {
                @let x = LEFT + width * index as f64;
                rect.(self.class(*value)) x=(px(x)) y=(px(y)) width=(px(width - 1.0))
                    height=(PITCH - 1.0) {
                    title {
                        (row.name) ", " (column) ": "
                        (value.map_or("no value".into(), significant))
                    }
                }
            }
        }
    }

    fn class(&self, value: Option<f64>) -> String {
        match value {
            Some(0.0) => "zero".into(),
            Some(value) if value.is_finite() => format!("h{}", self.shades.shade(value)),
            _ => "missing".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_cover_their_range_and_hold_beyond_it() {
        let shades = Shades { low_log10: -6, high_log10: 0 };
        assert_eq!([1e-9, 1e-6, 1.0, 50.0].map(|value| shades.shade(value)), [0, 0, 15, 15]);
        assert!(shades.shade(1e-3) == SHADES / 2);
        assert_eq!(shades.shade(f64::NAN), 0);
    }
}
