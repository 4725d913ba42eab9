//! A mark for every run: points to f32 over a share that may be zero.

use maud::{Markup, html};

use super::{
    axis::Axis,
    decades::Decades,
    number::tick,
    palette::Look,
    svg::{self, px},
    verdict::TOLERANCE_POINTS,
};

const LEFT: f64 = 34.0;
const RIGHT: f64 = 292.0;
/// The width of the band that zero has, and what lies between it and the rest.
const BAND: f64 = 20.0;
const GAP: f64 = 5.0;
/// Near f32 there is a scale of its own, above the other.
const TOP: f64 = 8.0;
const MIDDLE: f64 = 118.0;
const BELOW: f64 = 126.0;
const BOTTOM: f64 = 206.0;
pub(super) const HEIGHT: f64 = BOTTOM + 34.0;

/// Points around f32 that the scale near it shows.
const NEAR: f64 = 4.0;
const RADIUS: f64 = 3.1;

/// A run.
pub(super) struct Spot {
    pub(super) look: Look,
    pub(super) lost: f64,
    pub(super) points: f64,
    pub(super) is_hollow: bool,
    pub(super) title: String,
}

/// A picture of runs.
pub(super) struct Scatter {
    pub(super) label: String,
    /// What the horizontal axis is.
    pub(super) across: &'static str,
    pub(super) spots: Vec<Spot>,
}

/// Two scales of points, one above the other.
struct Points {
    near: Axis,
    far: Axis,
}

impl Points {
    fn of(spots: &[Spot]) -> Self {
        let points = || spots.iter().map(|spot| spot.points);
        let high = points().fold(NEAR, f64::max).min(100.0);
        let low = points().fold(-10.0, f64::min).max(-100.0);
        Self { near: Axis::between(-NEAR, high), far: Axis::between(low - 1.0, -NEAR) }
    }

    fn at(&self, points: f64) -> f64 {
        if points < -NEAR {
            self.far.at(points, BOTTOM, BELOW)
        } else {
            self.near.at(points, MIDDLE, TOP)
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let far = self.far.ticks(4).into_iter().filter(|&points| points < -NEAR);
        self.near.ticks(6).into_iter().chain(far).collect()
    }
}

impl Scatter {
    pub(super) fn draw(&self) -> Markup {
        let x = Decades::of(
            self.spots.iter().map(|spot| spot.lost),
            LEFT + BAND / 2.0,
            (LEFT + BAND + GAP, RIGHT),
        );
        let y = Points::of(&self.spots);
        let band = [TOLERANCE_POINTS, -TOLERANCE_POINTS].map(|points| y.at(points));
        let body = html! {
            @for (top, bottom) in [(TOP, MIDDLE), (BELOW, BOTTOM)] {
                rect.zero x=(px(LEFT)) y=(px(top)) width=(px(BAND)) height=(px(bottom - top)) {}
            }
            rect.band x=(px(LEFT)) y=(px(band[0])) width=(px(RIGHT - LEFT))
                height=(px(band[1] - band[0])) {}
            @for points in y.ticks() {
                (svg::line((LEFT, y.at(points)), (RIGHT, y.at(points)), "grid"))
                (svg::text(LEFT - 4.0, y.at(points) + 4.0, "tick end", &number(points)))
            }
            @for lost in x.ticks(6) {
                (svg::line((x.at(lost), TOP), (x.at(lost), MIDDLE), "grid"))
                (svg::line((x.at(lost), BELOW), (x.at(lost), BOTTOM), "grid"))
                // Beside zero there is room for its own label only.
                @if x.at(lost) > x.at(0.0) + 26.0 {
                    (svg::text(x.at(lost), BOTTOM + 13.0, "tick mid", &tick(lost)))
                }
            }
            (svg::line((LEFT, y.at(0.0)), (RIGHT, y.at(0.0)), "reference"))
            (svg::text(x.at(0.0), BOTTOM + 13.0, "tick mid", "none"))
            (svg::text(RIGHT, BOTTOM + 27.0, "tick end", self.across))
            @for spot in &self.spots { (spot.draw(x.at(spot.lost), y.at(spot.points))) }
        };
        svg::picture(&self.label, HEIGHT, &body)
    }
}

impl Spot {
    fn draw(&self, x: f64, y: f64) -> Markup {
        let class = if self.is_hollow { "ring" } else { "spot" };
        html! {
            g.(self.look.class) {
                title { (self.title) }
                path.(class) d=(self.look.mark.path(x, y, RADIUS)) {}
            }
        }
    }
}

/// Writes a number of points.
fn number(points: f64) -> String {
    let text = format!("{points:+.0}");
    if text == "-0" || text == "+0" { "0".into() } else { text.replace('-', "\u{2212}") }
}
