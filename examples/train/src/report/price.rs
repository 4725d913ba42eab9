//! What each method loses, and what is wrong with the gradients that arrive, over the passes that it takes.

use maud::{Markup, html};

use super::{
    alone::Sheet,
    decades::Decades,
    group::{Comparison, Group},
    number::{share, significant, tick},
    palette::Look,
    svg,
};

const LEFT: f64 = 44.0;
const RIGHT: f64 = 292.0;
/// The width of the band that zero has, and what lies between it and the rest.
const BAND: f64 = 20.0;
const GAP: f64 = 5.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 150.0;
const HEIGHT: f64 = BOTTOM + 34.0;
const RADIUS: f64 = 4.0;

const MEANING: &str = "One mark a method, further down is better and further left is cheaper. To the right, passes beyond one a \
    visit of a gradient tensor, per 1000 visits: for first visits, certificates and replays. Above: the error of the \
    weights' gradients to those of the same way back in f32, the median over weights, probed steps and seeds. Below: the share of \
    the mass that did not arrive. Each method trained by itself, so that what it lost before moves what it meets later; the \
    same decisions from the same tensors are what the command policies compares.";

/// What is worse the more there is of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    Error,
    Mass,
}

impl Measure {
    const ALL: [Self; 2] = [Self::Error, Self::Mass];

    fn of(self, group: &Group<'_>) -> Option<f64> {
        match self {
            Self::Error => group.gradient_errors()[0],
            Self::Mass => group.gone_mass(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "gradient error",
            Self::Mass => "mass lost",
        }
    }

    fn written(self, value: f64) -> String {
        match self {
            Self::Error => format!("{} %", significant(100.0 * value)),
            Self::Mass => share(value),
        }
    }
}

/// A method in a place.
struct Spot {
    method: String,
    look: Look,
    passes: f64,
    value: f64,
}

/// The picture of a place.
struct Panel {
    heading: String,
    measure: Measure,
    spots: Vec<Spot>,
}

/// Returns two panels for each place, the one below the other where panels stand in two rows.
fn panels(comparisons: &[Comparison<'_>]) -> Vec<Panel> {
    let mut panels = Vec::new();
    for comparison in comparisons {
        for format in &comparison.formats {
            for measure in Measure::ALL {
                let spots = comparison.rivals_in(format).filter_map(|(group, look)| {
                    let passes = group.extra_passes()?;
                    let value = measure.of(group)?;
                    Some(Spot { method: group.method.clone(), look, passes, value })
                });
                let heading = format!("{} in {format}: {}", comparison.task.name, measure.name());
                panels.push(Panel { heading, measure, spots: spots.collect() });
            }
        }
    }
    panels.retain(|panel| panel.spots.iter().any(|spot| spot.value > 0.0));
    panels
}

/// Draws every place; none where nothing was counted.
pub(super) fn price(comparisons: &[Comparison<'_>]) -> Option<Markup> {
    let panels = panels(comparisons);
    let drawn = || {
        html! {
            figure {
                (svg::legend(methods(&panels).into_iter()))
                div.panels {
                    @for panel in &panels { div.panel { h3 { (panel.heading) } (panel.draw()) } }
                }
                figcaption { (MEANING) }
            }
        }
    };
    (!panels.is_empty()).then(drawn)
}

/// Returns the same as a picture that needs no page.
pub(super) fn alone(comparisons: &[Comparison<'_>]) -> Option<String> {
    let panels = panels(comparisons);
    let sheet = || {
        let legend =
            methods(&panels).into_iter().map(|(name, look)| (svg::spot(look), name.to_owned()));
        let sheet = Sheet {
            label: "What is lost over the passes that it takes".into(),
            legends: vec![legend.collect()],
            panels: panels.iter().map(|panel| (panel.heading.clone(), panel.draw())).collect(),
            columns: 2,
            height: HEIGHT,
            text: vec![MEANING.into()],
        };
        sheet.draw()
    };
    (!panels.is_empty()).then(sheet)
}

/// Returns the methods of all panels, each once.
fn methods(panels: &[Panel]) -> Vec<(&str, Look)> {
    let mut methods = Vec::<(&str, Look)>::new();
    for spot in panels.iter().flat_map(|panel| &panel.spots) {
        if methods.iter().all(|(method, _)| *method != spot.method) {
            methods.push((&spot.method, spot.look));
        }
    }
    methods
}

impl Panel {
    fn draw(&self) -> Markup {
        let x = Decades::of(
            self.spots.iter().map(|spot| spot.passes),
            LEFT + BAND / 2.0,
            (LEFT + BAND + GAP, RIGHT),
        );
        let y = Decades::of(
            self.spots.iter().map(|spot| spot.value),
            BOTTOM - BAND / 2.0,
            (BOTTOM - BAND - GAP, TOP),
        );
        let has_zero = self.spots.iter().any(|spot| spot.value <= 0.0);
        let body = html! {
            rect.zero x=(svg::px(LEFT)) y=(svg::px(TOP)) width=(svg::px(BAND)) height=(svg::px(BOTTOM - TOP)) {}
            @if has_zero {
                rect.zero x=(svg::px(LEFT)) y=(svg::px(BOTTOM - BAND)) width=(svg::px(RIGHT - LEFT))
                    height=(svg::px(BAND)) {}
                (svg::text(LEFT - 4.0, y.at(0.0) + 4.0, "tick end", "none"))
            }
            @for value in y.ticks(5) {
                (svg::line((LEFT, y.at(value)), (RIGHT, y.at(value)), "grid"))
                (svg::text(LEFT - 4.0, y.at(value) + 4.0, "tick end", &self.tick(value)))
            }
            @for passes in x.ticks(5) {
                (svg::line((x.at(passes), TOP), (x.at(passes), BOTTOM), "grid"))
                @if x.at(passes) > x.at(0.0) + 26.0 {
                    (svg::text(x.at(passes), BOTTOM + 13.0, "tick mid", &tick(passes)))
                }
            }
            (svg::text(x.at(0.0), BOTTOM + 13.0, "tick mid", "none"))
            (svg::text(RIGHT, BOTTOM + 27.0, "tick end", "extra passes per 1000 visits"))
            @for spot in &self.spots {
                g.(spot.look.class) {
                    title { (self.title(spot)) }
                    path.spot d=(spot.look.mark.path(x.at(spot.passes), y.at(spot.value), RADIUS)) {}
                }
            }
        };
        svg::picture(&format!("{} over extra passes", self.heading), HEIGHT, &body)
    }

    fn tick(&self, value: f64) -> String {
        match self.measure {
            Measure::Error => format!("{} %", tick(100.0 * value)),
            Measure::Mass => tick(value),
        }
    }

    fn title(&self, spot: &Spot) -> String {
        let value = self.measure.written(spot.value);
        format!("{}: {value} at {} extra passes", spot.method, significant(spot.passes))
    }
}
