//! Which colour, dash and mark each method has, and the colours of heat maps.
//!
//! Lines are in the colours of Okabe and Ito (2008), which the colour-blind tell apart; no two
//! methods have the same mark and dash.  Colours are CSS variables, so that dark mode can differ.

use std::fmt::Write;

use super::{group::plain, svg::px};

/// Colours of a heat map.
pub(super) const SHADES: usize = 16;

/// Dashes and marks of a method that was there before, at another period.
const AGAIN: [(&str, Mark); 3] = [("4 2", Mark::Left), ("2 3", Mark::Right), ("9 3", Mark::Bar)];

/// The appearance of a method in every picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    /// A class of the style sheet, which sets `color`.
    pub(super) class: &'static str,
    /// The value of `stroke-dasharray`.
    pub(super) dash: &'static str,
    pub(super) mark: Mark,
}

/// The shape of a method's points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mark {
    Circle,
    Square,
    Diamond,
    Up,
    Down,
    Left,
    Right,
    Bar,
    Hexagon,
}

impl Mark {
    /// Returns the path of this mark around a point.
    pub(super) fn path(self, x: f64, y: f64, radius: f64) -> String {
        let corners: &[(f64, f64)] = match self {
            Self::Circle => {
                let (left, r) = (px(x - radius), px(radius));
                let d = px(2.0 * radius);
                return format!("M{left} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z", px(y));
            }
            Self::Square => &[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
            Self::Diamond => &[(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)],
            Self::Up => &[(0.0, -1.1), (1.1, 0.9), (-1.1, 0.9)],
            Self::Down => &[(0.0, 1.1), (1.1, -0.9), (-1.1, -0.9)],
            Self::Left => &[(-1.1, 0.0), (0.9, -1.1), (0.9, 1.1)],
            Self::Right => &[(1.1, 0.0), (-0.9, -1.1), (-0.9, 1.1)],
            Self::Bar => &[(-0.4, -1.3), (0.4, -1.3), (0.4, 1.3), (-0.4, 1.3)],
            Self::Hexagon => {
                &[(-1.1, 0.0), (-0.55, -1.0), (0.55, -1.0), (1.1, 0.0), (0.55, 1.0), (-0.55, 1.0)]
            }
        };
        let mut path = String::new();
        for (index, &(dx, dy)) in corners.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            // Writing into a string cannot fail.
            let _ = write!(path, "{command}{} {}", px(x + radius * dx), px(y + radius * dy));
        }
        path + "z"
    }
}

/// Returns the look of each method.
pub(super) fn looks(methods: &[String]) -> Vec<Look> {
    let mut fixed = [("", Mark::Up), ("7 3", Mark::Left), ("2 2", Mark::Right)].into_iter().cycle();
    let mut other = [("9 2", Mark::Bar), ("1 3", Mark::Hexagon)].into_iter().cycle();
    let look = |class, dash, mark| Look { class, dash, mark };
    let mut of = |method: &str| match method {
        "f32" => look("m-f32", "", Mark::Bar),
        "none" => look("m-none", "6 2 1 2", Mark::Down),
        "bfloat16" => look("m-bfloat16", "4 1 1 1", Mark::Right),
        "backoff" => look("m-backoff", "8 2 2 2", Mark::Square),
        "backoff-per-loss" => look("m-losses", "8 2 2 2 2 2", Mark::Left),
        "mx" => look("m-mx", "1 2", Mark::Up),
        "amax" => look("m-amax", "5 2", Mark::Diamond),
        "normal" => look("m-normal", "3 2", Mark::Hexagon),
        "measured" => look("m-measured", "", Mark::Circle),
        name if name.starts_with("fixed:") => {
            let (dash, mark) = fixed.next().unwrap_or(("", Mark::Up));
            look("m-fixed", dash, mark)
        }
        _ => {
            let (dash, mark) = other.next().unwrap_or(("", Mark::Bar));
            look("m-other", dash, mark)
        }
    };
    let mut looks = Vec::<Look>::new();
    for (index, method) in methods.iter().enumerate() {
        let mut look = of(plain(method));
        // The same method at another period keeps its colour.
        let again = methods[..index].iter().filter(|other| plain(other) == plain(method)).count();
        if let Some(again) = again.checked_sub(1) {
            (look.dash, look.mark) = AGAIN[again % AGAIN.len()];
        }
        looks.push(look);
    }
    looks
}

/// Returns the style rules of the colours of heat maps.
///
/// `h0` to `h15` go from close to the background to far from it, in both modes, for what should be
/// little; `k0` to `k15` are the same in both modes, for what is neither good nor bad.
pub(super) fn style() -> String {
    // The ends of magma are the page's own colours.
    let loss = |shade: usize| colorous::MAGMA.eval_rational(2 + shade, SHADES + 2);
    let scale = |shade: usize| colorous::VIRIDIS.eval_rational(shade, SHADES);
    let (mut light, mut dark, mut rules) = (String::new(), String::new(), String::new());
    for shade in 0..SHADES {
        // Writing into a string cannot fail.
        let _ = write!(light, "--h{shade}:#{:x};", loss(SHADES - 1 - shade));
        let _ = write!(dark, "--h{shade}:#{:x};", loss(shade));
        let _ =
            write!(rules, ".h{shade}{{fill:var(--h{shade})}}.k{shade}{{fill:#{:x}}}", scale(shade));
    }
    format!(
        ":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{rules}"
    )
}
