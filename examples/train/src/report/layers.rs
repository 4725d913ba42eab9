//! Pictures of what happened within the network, one format at a time.

use maud::{Markup, html};

use crate::results::{CellReport, WeightReport};

use super::{
    asked::Asked,
    group::{Comparison, Group, OURS, distinct, mean, median, plain},
    heatmap::{HeatMap, Row, Shades},
    number::{share, significant},
    scales,
};

/// Colours of shares of elements and of mass.
const SHARES: Shades = Shades { low_log10: -6, high_log10: 0 };

/// Colours of errors of gradients, which may be larger than the gradients.
const ERRORS: Shades = Shades { low_log10: -5, high_log10: 1 };

/// Colours of 1 - cosine, which is about half the square of a small relative error.
const ANGLES: Shades = Shades { low_log10: -8, high_log10: 0 };

/// Draws everything about the layers in one format.
pub(super) fn layers(comparison: &Comparison<'_>, format: &str) -> Markup {
    html! {
        h4 { "Lost on the way back" }
        figure { (lost(comparison, format)) }
        h4 { "Error of the weights' gradients" }
        figure { (errors(comparison, format)) }
        h4 { "Loss scale over training" }
        figure { (scales::scales(comparison, format)) }
    }
}

fn lost(comparison: &Comparison<'_>, format: &str) -> Markup {
    let elements = Grid::of_cells(comparison, format, |cell| Some(cell.underflow_real));
    let mass = Grid::of_cells(comparison, format, |cell| Some(cell.lost_mass));
    let clipped = Grid::of_cells(comparison, format, |cell| cell.clipped_mass);
    let asked = Asked::of(comparison, format);
    html! {
        (SHARES.legend("Share lost"))
        div.panels {
            div.panel {
                h5 { "Elements that underflowed" }
                (elements.draw("Underflow by layer and method", SHARES))
            }
            div.panel {
                h5 { "Mass that was lost" }
                (mass.draw("Lost mass by layer and method", SHARES))
            }
            @if clipped.worst(None).is_some_and(|(worst, ..)| worst > 0.0) {
                div.panel {
                    h5 { "Mass that was clipped" }
                    (clipped.draw("Clipped mass by layer and method", SHARES))
                }
            }
            div.panel {
                h5 { "Asked against real underflow" }
                (asked.draw(comparison, format))
            }
        }
        figcaption { (loss_caption(&elements, &mass)) " " (asked.caption()) }
    }
}

fn errors(comparison: &Comparison<'_>, format: &str) -> Markup {
    let error = Grid::of_weights(comparison, format, |weight| &weight.relative_l2, |error| error);
    // Rounding may leave a cosine a little above one.
    let turn = |cosine: f64| (1.0 - cosine).max(0.0);
    let angle = Grid::of_weights(comparison, format, |weight| &weight.cosine, turn);
    html! {
        div.panels {
            div.panel {
                h5 { "Relative L2 error" }
                (ERRORS.legend("Relative L2"))
                (error.draw("Relative L2 error of gradients", ERRORS))
            }
            div.panel {
                h5 { "Turn: 1 \u{2212} cosine" }
                (ANGLES.legend("1 \u{2212} cosine"))
                (angle.draw("1 minus cosine of gradients", ANGLES))
            }
        }
        figcaption { (error_caption(&error, &angle)) }
    }
}

/// One value per layer and method.
struct Grid {
    /// The format and the task.
    place: String,
    columns: Vec<String>,
    rows: Vec<Row>,
}

impl Grid {
    /// Takes means over seeds, and layers in the order of the backward pass.
    fn of_cells(
        comparison: &Comparison<'_>,
        format: &str,
        of: impl Fn(&CellReport) -> Option<f64>,
    ) -> Self {
        let cells = comparison.rivals_in(format).flat_map(|(group, _)| group.cells());
        let names = distinct(cells.map(|cell| cell.name.as_str()));
        let value = |group: &Group<'_>, name: &str| {
            mean(group.cells().filter(|cell| cell.name == name && cell.visits > 0).filter_map(&of))
        };
        Self::of(comparison, format, &names, value)
    }

    /// Takes medians over steps and seeds, and the last layer first, as the backward pass does.
    fn of_weights(
        comparison: &Comparison<'_>,
        format: &str,
        steps: impl Fn(&WeightReport) -> &Vec<Option<f64>>,
        of: impl Fn(f64) -> f64,
    ) -> Self {
        let runs = comparison.rivals_in(format).flat_map(|(group, _)| &group.runs);
        let weights = runs.flat_map(|run| &run.weights);
        let mut names = distinct(weights.map(|weight| weight.name.as_str()));
        names.reverse();
        let value = |group: &Group<'_>, name: &str| {
            let weights = group.runs.iter().flat_map(|run| &run.weights);
            let weights = weights.filter(|weight| weight.name == name);
            let values = weights.flat_map(|weight| steps(weight).iter().flatten().map(|&x| of(x)));
            median(values.filter(|value| value.is_finite()).collect())
        };
        Self::of(comparison, format, &names, value)
    }

    fn of(
        comparison: &Comparison<'_>,
        format: &str,
        names: &[&str],
        value: impl Fn(&Group<'_>, &str) -> Option<f64>,
    ) -> Self {
        let groups = || comparison.rivals_in(format).map(|(group, _)| group);
        let values = |name: &str| groups().map(|group| value(group, name)).collect();
        let row = |&name: &&str| Row { name: name.into(), values: values(name) };
        Self {
            place: format!("in {format}, {}", comparison.task.name),
            columns: groups().map(|group| group.method.clone()).collect(),
            rows: names.iter().map(row).collect(),
        }
    }

    fn draw(&self, what: &str, shades: Shades) -> Markup {
        if self.rows.is_empty() {
            return html! { p.faint { "No layer was looked at." } };
        }
        let label = format!("{what} {}", self.place);
        HeatMap { label, shades, columns: &self.columns, rows: &self.rows }.draw()
    }

    /// Returns the greatest value with its layer and method, of one method or of all.
    fn worst(&self, method: Option<&str>) -> Option<(f64, &str, &str)> {
        let cells = self.rows.iter().flat_map(|row| {
            let values = row.values.iter().zip(&self.columns);
            values.filter_map(move |(value, column)| {
                Some(((*value)?, row.name.as_str(), &column[..]))
            })
        });
        let chosen = cells.filter(|(value, _, column)| {
            value.is_finite() && method.is_none_or(|method| method == plain(column))
        });
        chosen.max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

fn loss_caption(loss: &Grid, mass: &Grid) -> String {
    let mut caption = String::from(
        "Rows go the way of the gradient: the loss on top, the input at the bottom. Look for \
         columns that stand out from the background: their method let gradients vanish.",
    );
    if let Some((worst, layer, method)) = loss.worst(None) {
        caption += &format!(" Most underflowed in {layer} by {method}: {}.", share(worst));
    }
    if let Some((worst, layer, _)) = loss.worst(Some(OURS)) {
        caption += &format!(" The worst layer of measured: {layer}, {}", share(worst));
        let lost = mass.worst(Some(OURS));
        caption += &lost.map_or(".".into(), |(lost, layer, _)| {
            format!(" of its elements; of mass, at most {} ({layer}).", share(lost))
        });
    }
    caption
}

fn error_caption(error: &Grid, angle: &Grid) -> String {
    let mut caption = String::from(
        "Medians over the probed steps, against the same backward pass in f32. Look for columns \
         that stand out: there the optimizer was given something else than the gradient.",
    );
    for method in [None, Some(OURS)] {
        let Some((worst, layer, name)) = error.worst(method) else { continue };
        caption += &format!(" Largest relative error of {}: ", method.map_or("all", |_| name));
        caption += &format!("{} in {layer}", significant(worst));
        caption += &if method.is_none() { format!(" by {name}.") } else { ".".into() };
    }
    if let Some((worst, layer, method)) = angle.worst(None) {
        let cosine = 1.0 - worst;
        caption += &format!(" Least cosine: {cosine:.4} in {layer} by {method}.");
    }
    caption
}
