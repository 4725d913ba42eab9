//! The canvas that every picture is drawn on.
//!
//! All pictures are 300 units wide and scale with their column; a column is 270 to 440 pixels wide
//! on every screen, so that the text in them is as large as the text around them.

use maud::{Markup, html};

use super::{axis::Axis, palette::Look};

/// The width of every picture.
pub(super) const WIDTH: f64 = 300.0;

/// Writes a coordinate with at most one decimal.
pub(crate) fn px(coordinate: f64) -> String {
    let tenths = (10.0 * coordinate).round();
    if tenths % 10.0 == 0.0 {
        format!("{}", tenths / 10.0)
    } else {
        format!("{:.1}", tenths / 10.0)
    }
}

/// Draws a picture that screen readers announce by its label.
pub(super) fn picture(label: &str, height: f64, body: &Markup) -> Markup {
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", px(height))) role="img" aria-label=(label) { (body) }
    }
}

/// Writes text of a class at a point.
pub(super) fn text(x: f64, y: f64, class: &str, content: &str) -> Markup {
    html! { text x=(px(x)) y=(px(y)) class=(class) { (content) } }
}

/// Draws a horizontal or vertical line of a class.
pub(super) fn line(from: (f64, f64), to: (f64, f64), class: &str) -> Markup {
    let path = format!("M{} {}L{} {}", px(from.0), px(from.1), px(to.0), px(to.1));
    html! { path class=(class) d=(path) {} }
}

/// Draws the ticks of a horizontal axis: grid lines from top to bottom, and labels below.
pub(super) fn horizontal(
    axis: &Axis,
    (left, right): (f64, f64),
    (top, bottom): (f64, f64),
    label: impl Fn(f64) -> String,
) -> Markup {
    let most = ((right - left) / 42.0) as usize;
    html! {
        @for tick in axis.ticks(most) {
            @let x = axis.at(tick, left, right);
            (line((x, top), (x, bottom), "grid"))
            (text(x, bottom + 13.0, "tick mid", &label(tick)))
        }
    }
}

/// Shortens a name to some characters, in its middle, where names of layers differ least.
pub(super) fn shortened(name: &str, most: usize) -> String {
    let length = name.chars().count();
    if length <= most {
        return name.into();
    }
    let head = (most - 1) / 2;
    let tail = most - 1 - head;
    name.chars().take(head).chain(['\u{2026}']).chain(name.chars().skip(length - tail)).collect()
}

/// Draws a sample of a method's line and mark, for legends.
pub(super) fn sample(look: Look) -> Markup {
    html! {
        svg.sample.(look.class) viewBox="0 0 30 12" aria-hidden="true" {
            path.stroke d="M1 6H29" stroke-dasharray=(look.dash) {}
            path.solid d=(look.mark.path(15.0, 6.0, 3.6)) {}
        }
    }
}

/// Draws a sample of a mark alone, for legends of colours or of shapes.
pub(super) fn spot(look: Look) -> Markup {
    html! {
        svg.sample.(look.class) viewBox="0 0 30 12" aria-hidden="true" {
            path.solid d=(look.mark.path(20.0, 6.0, 4.0)) {}
        }
    }
}

/// Lists methods with their lines and marks.
pub(super) fn legend<'a>(methods: impl Iterator<Item = (&'a str, Look)>) -> Markup {
    html! {
        ul.legend aria-label="Legend" {
            @for (method, look) in methods {
                li { (sample(look)) " " (method) }
            }
        }
    }
}
