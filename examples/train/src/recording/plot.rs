//! What is lost over the passes that it takes to lose no more: two pictures of a place, in one file of its own.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::{Measure, Place, Row, height};
use crate::report::{Decades, px};

const WIDTH: f64 = 820.0;
/// Of one picture, with what is written beside it.
const PANEL: f64 = WIDTH / 2.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = PANEL - 16.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 330.0;
/// The width of the band that zero has on each axis, and what lies between it and the rest.
const BAND: f64 = 22.0;
const GAP: f64 = 6.0;
/// Where the legend begins, and how its lines and columns lie.
const LEGEND: f64 = 424.0;
const LINE: f64 = 17.0;
const COLUMNS: usize = 3;

const STYLE: &str = "
svg { --page: #fff; --ink: #1b1f24; --faint: #57606a; --grid: #e2e6ea; --zero: #eef0f2;
  --measured: #0047b3; --amax: #007a5a; --recent: #1a7f8a; --current: #b0528a; --middle: #6e5a00; --dynamic: #a34400;
  --fixed: #57606a; background: var(--page); font-family: system-ui, sans-serif; }
@media screen and (prefers-color-scheme: dark) { svg { --page: #14171b; --ink: #e6e9ed; --faint: #a3adb8; --grid: #2c333b;
  --zero: #23282f; --measured: #7aa7ff; --amax: #2fc79b; --recent: #5ac8d8; --current: #e29ac3; --middle: #d6c552;
  --dynamic: #f08a4b; --fixed: #a3adb8; } }
text { font-size: 11px; fill: var(--ink); } .title { font-size: 14px; font-weight: 600; } .faint { fill: var(--faint); }
.mid { text-anchor: middle; } .end { text-anchor: end; } .number { font-size: 9.5px; }
.grid { stroke: var(--grid); fill: none; } .zero { fill: var(--zero); }
.hull { stroke: var(--faint); stroke-width: 1.4; stroke-dasharray: 5 3; fill: none; }
.solid { fill: currentColor; } .hollow { fill: var(--page); stroke: currentColor; stroke-width: 1.6; }
.measured { color: var(--measured); } .amax { color: var(--amax); } .recent { color: var(--recent); }
.current { color: var(--current); } .middle { color: var(--middle); } .dynamic { color: var(--dynamic); }
.fixed { color: var(--fixed); }
";

/// Draws what each policy loses over its extra passes: underflow on the left, mass on the right.
pub fn draw(place: &Place) -> String {
    let label = format!("What policies lose on {} in {}", place.task, place.format);
    let lines = place.rows.len().div_ceil(COLUMNS);
    let bottom = LEGEND + LINE * (lines as f64 + 2.0);
    let body = html! {
        style { (PreEscaped(STYLE)) }
        rect width="100%" height="100%" fill="var(--page)" {}
        (text(8.0, 20.0, "title", &format!("{} in {}", place.task, place.format)))
        (text(8.0, 36.0, "faint", &format!(
            "{} visits in {} steps, recorded in f32; less is better both ways, and the hull is dashed",
            place.visits, place.steps
        )))
        @for (measure, x) in Measure::ALL.into_iter().zip([0.0, PANEL]) {
            g transform=(format!("translate({} 0)", px(x))) { (panel(place, measure)) }
        }
        (legend(&place.rows))
        (text(8.0, bottom - 8.0, "faint", "Hollow marks clip or skip: what is lost so does not underflow, and they have no part in the \
            hull on the left."))
    };
    let (width, height) = (px(WIDTH), px(bottom));
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}"))
            width=(width) height=(height) role="img" aria-label=(label) { (body) }
    };
    svg.into_string() + "\n"
}

fn panel(place: &Place, measure: Measure) -> Markup {
    let points: Vec<(usize, &Row, f64)> = place
        .rows
        .iter()
        .enumerate()
        .filter_map(|(index, row)| Some((index, row, measure.of(row)?)))
        .collect();
    let x = Decades::of(
        points.iter().map(|(_, row, _)| row.extra_passes_per_1000),
        LEFT + BAND / 2.0,
        (LEFT + BAND + GAP, RIGHT),
    );
    let y = Decades::of(
        points.iter().map(|&(.., lost)| lost),
        BOTTOM - BAND / 2.0,
        (BOTTOM - BAND - GAP, TOP),
    );
    let at = |row: &Row, lost: f64| (x.at(row.extra_passes_per_1000), y.at(lost));
    let spots: Vec<_> = points.iter().map(|(_, row, lost)| at(row, *lost)).collect();
    html! {
        (text(LEFT, TOP - 8.0, "", match measure {
            Measure::Underflow => "underflow, mean share of the nonzero elements",
            Measure::Mass => "lost and clipped, mean share of the sum of magnitudes",
        }))
        rect.zero x=(px(LEFT)) y=(px(TOP)) width=(px(BAND)) height=(px(BOTTOM - TOP)) {}
        rect.zero x=(px(LEFT)) y=(px(BOTTOM - BAND)) width=(px(RIGHT - LEFT)) height=(px(BAND)) {}
        @for tick in x.ticks(6) {
            path.grid d=(format!("M{} {}V{}", px(x.at(tick)), px(TOP), px(BOTTOM))) {}
            (text(x.at(tick), BOTTOM + 14.0, "mid faint", &power(tick)))
        }
        @for tick in y.ticks(8) {
            path.grid d=(format!("M{} {}H{}", px(LEFT), px(y.at(tick)), px(RIGHT))) {}
            (text(LEFT - 5.0, y.at(tick) + 4.0, "end faint", &power(tick)))
        }
        (text(x.at(0.0), BOTTOM + 14.0, "mid faint", "none"))
        (text(LEFT - 5.0, y.at(0.0) + 4.0, "end faint", "none"))
        (text((LEFT + RIGHT) / 2.0, BOTTOM + 28.0, "mid faint", "extra passes per 1,000 visits"))
        (hull(place, measure, &x, &y))
        @for ((index, row, lost), spot) in points.iter().zip(labels(&spots)) {
            g.(family(row)) {
                title { (index + 1) " " (row.policy) ": " (power_or_none(*lost)) " at "
                    (format!("{:.1}", row.extra_passes_per_1000)) " passes" }
                (mark(row, at(row, *lost)))
                (text(spot.0, spot.1, "mid number", &(index + 1).to_string()))
            }
        }
        @for (nth, line) in wrapped(&place.verdict(measure), 62).iter().enumerate() {
            (text(LEFT - 50.0, BOTTOM + 46.0 + 14.0 * nth as f64, "", line))
        }
    }
}

/// Draws the hull; what is straight between two policies is a curve on these axes.
fn hull(place: &Place, measure: Measure, x: &Decades, y: &Decades) -> Markup {
    let corners = place.hull(measure);
    let mut path = String::new();
    let mut go = |to: (f64, f64)| {
        let command = if path.is_empty() { 'M' } else { 'L' };
        // Writing into a string cannot fail.
        let _ = write!(path, "{command}{} {}", px(to.0), px(to.1));
    };
    if let Some(&(passes, lost)) = corners.first() {
        go((x.at(passes), TOP));
        go((x.at(passes), y.at(lost)));
    }
    for pair in corners.windows(2) {
        for passes in x.between(pair[0].0, pair[1].0) {
            if let Some(lost) = height(&corners, passes.clamp(pair[0].0, pair[1].0)) {
                go((x.at(passes), y.at(lost)));
            }
        }
    }
    if let Some(&(_, lost)) = corners.last() {
        go((RIGHT, y.at(lost)));
    }
    html! { path.hull d=(path) {} }
}

fn legend(rows: &[Row]) -> Markup {
    let lines = rows.len().div_ceil(COLUMNS);
    html! {
        @for (index, row) in rows.iter().enumerate() {
            @let x = 16.0 + (index / lines) as f64 * (WIDTH - 16.0) / COLUMNS as f64;
            @let y = LEGEND + LINE * (index % lines + 1) as f64;
            g.(family(row)) {
                (text(x + 2.0, y, "end number", &(index + 1).to_string()))
                (mark(row, (x + 11.0, y - 3.5)))
                (text(x + 20.0, y, "", &row.policy))
            }
        }
    }
}

/// Draws a policy's mark: a circle for ours, squares and diamonds for windows, triangles for others.
fn mark(row: &Row, (x, y): (f64, f64)) -> Markup {
    let corners: &[(f64, f64)] = match family(row) {
        "measured" => {
            &[(0.0, -1.25), (1.1, -0.6), (1.1, 0.6), (0.0, 1.25), (-1.1, 0.6), (-1.1, -0.6)]
        }
        "amax" => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "recent" => &[(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)],
        "current" => &[(0.0, -1.1), (1.1, 0.9), (-1.1, 0.9)],
        "middle" => &[(0.0, 1.1), (1.1, -0.9), (-1.1, -0.9)],
        "dynamic" => &[(-1.1, 0.0), (0.9, -1.1), (0.9, 1.1)],
        _ => &[(1.1, 0.0), (-0.9, -1.1), (-0.9, 1.1)],
    };
    let mut path = String::new();
    for (index, (dx, dy)) in corners.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", px(x + 4.2 * dx), px(y + 4.2 * dy));
    }
    let class = if row.clips_or_skips() { "hollow" } else { "solid" };
    html! { path.(class) d=(path + "z") {} }
}

/// Returns the class of a policy's colour.
fn family(row: &Row) -> &'static str {
    let name = row.policy.as_str();
    let starts = [
        ("measured", "measured"),
        ("most recent", "recent"),
        ("amax", "amax"),
        ("current", "current"),
        ("middle", "middle"),
        ("dynamic", "dynamic"),
    ];
    let found = starts.iter().find(|(start, _)| name.starts_with(start));
    found.map_or("fixed", |(_, class)| class)
}

/// Returns places for the points' numbers, each the nearest around its point that no mark and no number covers.
fn labels(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut placed: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in points {
        let around = [11.0, 17.0, 23.0, 30.0].into_iter().flat_map(|radius| {
            (0..8).map(move |eighth| {
                let angle = f64::from(eighth) * std::f64::consts::FRAC_PI_4;
                (x + radius * angle.cos(), y + 3.5 - radius * angle.sin())
            })
        });
        // A number is some 12 wide and 8 high, above its base line.
        let is_free = |&(left, base): &(f64, f64)| {
            let middle = base - 3.5;
            points.iter().all(|(x, y)| (x - left).abs() > 9.0 || (y - middle).abs() > 8.0)
                && placed.iter().all(|(x, y)| (x - left).abs() > 11.0 || (y - base).abs() > 9.0)
                && (TOP..BOTTOM).contains(&middle)
                && (LEFT..RIGHT + 8.0).contains(&left)
        };
        let found = around.clone().find(is_free);
        placed.push(found.unwrap_or((x + 11.0, y + 3.5)));
    }
    placed
}

fn text(x: f64, y: f64, class: &str, content: &str) -> Markup {
    html! { text x=(px(x)) y=(px(y)) class=[Some(class).filter(|class| !class.is_empty())] { (content) } }
}

/// Writes a power of ten.
fn power(value: f64) -> String {
    if (1e-3..1e6).contains(&value) {
        let rounded: f64 = format!("{value:.0e}").parse().unwrap_or(value);
        format!("{rounded}")
    } else {
        format!("{value:.0e}")
    }
}

fn power_or_none(value: f64) -> String {
    if value == 0.0 { "none".into() } else { format!("{value:.2e}") }
}

/// Breaks a text into lines of at most so many characters, where words allow.
fn wrapped(content: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in content.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}
