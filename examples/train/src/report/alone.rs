//! A picture that needs no page: a legend, panels side by side, and text below.

use maud::{Markup, PreEscaped, html};

use super::{
    document::STYLE,
    palette::style,
    svg::{self, px},
};

const COLUMN: f64 = svg::WIDTH + 20.0;
const LINE: f64 = 16.0;
/// The widest letter counts for no more than this, on average.
const LETTER: f64 = 6.3;

/// What such a picture shows.
pub(super) struct Sheet {
    pub(super) label: String,
    /// Samples with their names; each legend begins a line.
    pub(super) legends: Vec<Vec<(Markup, String)>>,
    /// Each with its heading.
    pub(super) panels: Vec<(String, Markup)>,
    /// Panels side by side.
    pub(super) columns: usize,
    /// Of a panel.
    pub(super) height: f64,
    /// Paragraphs.
    pub(super) text: Vec<String>,
}

impl Sheet {
    pub(super) fn draw(&self) -> String {
        let width = self.columns as f64 * COLUMN;
        let (legend, top) = self.legend(width);
        let pitch = self.height + 30.0;
        let below = top + pitch * self.panels.len().div_ceil(self.columns) as f64 + 4.0;
        let (text, end) = self.text(width, below);
        let height = end + 8.0;
        let picture = html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", px(width), px(height)))
                role="img" aria-label=(self.label) {
                style {
                    (PreEscaped(STYLE)) (PreEscaped(style()))
                    "svg{background:var(--page);font-family:system-ui,sans-serif}"
                }
                (legend)
                @for (nth, (heading, panel)) in self.panels.iter().enumerate() {
                    @let x = (nth % self.columns) as f64 * COLUMN;
                    @let y = top + (nth / self.columns) as f64 * pitch;
                    (svg::text(x + 36.0, y + 12.0, "", heading))
                    svg x=(px(x)) y=(px(y + 16.0)) width=(px(svg::WIDTH)) height=(px(self.height)) { (panel) }
                }
                (text)
            }
        };
        picture.into_string() + "\n"
    }

    /// Draws the paragraphs from a height on, and returns where they end.
    fn text(&self, width: f64, from: f64) -> (Markup, f64) {
        let (mut lines, mut y) = (Vec::new(), from);
        for paragraph in &self.text {
            for line in wrapped(paragraph, (width / LETTER) as usize) {
                y += LINE;
                lines.push((y, line));
            }
            y += 0.5 * LINE;
        }
        let drawn = html! { @for (y, line) in lines { (svg::text(10.0, y, "", &line)) } };
        (drawn, y)
    }

    /// Draws the legends, and returns where they end.
    fn legend(&self, width: f64) -> (Markup, f64) {
        let (mut places, mut y) = (Vec::new(), 4.0);
        for legend in self.legends.iter().filter(|legend| !legend.is_empty()) {
            let mut x = 10.0;
            for (sample, name) in legend {
                let wide = 34.0 + LETTER * name.chars().count() as f64;
                if x + wide > width && x > 10.0 {
                    (x, y) = (10.0, y + LINE);
                }
                places.push((x, y, sample, name));
                x += wide + 14.0;
            }
            y += LINE;
        }
        let drawn = html! {
            @for (x, y, sample, name) in places {
                svg x=(px(x)) y=(px(y)) width="30" height="12" { (sample) }
                (svg::text(x + 34.0, y + 10.0, "tick", name))
            }
        };
        (drawn, y + 4.0)
    }
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
