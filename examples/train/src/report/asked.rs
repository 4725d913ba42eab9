//! How much each layer was asked to let underflow at most, and how much did.

use maud::{Markup, html};

use crate::results::CellReport;

use super::{
    group::{Comparison, Group, OURS, distinct, mean, plain},
    number::counted,
    palette::Look,
    strip::{Row, Strip},
    svg,
};

/// The methods that are set side by side: ours and the paper's.
const CALIBRATED: [&str; 2] = [OURS, "normal"];

/// The layers of one format, and in how many of them each method lost more than twice what was
/// asked for.
pub(super) struct Asked {
    methods: Vec<(String, Look)>,
    beyond: Vec<usize>,
    rows: Vec<Row>,
}

impl Asked {
    pub(super) fn of(comparison: &Comparison<'_>, format: &str) -> Self {
        let groups = comparison.rivals_in(format);
        let groups: Vec<_> =
            groups.filter(|(group, _)| CALIBRATED.contains(&plain(&group.method))).collect();
        let cells = groups.iter().flat_map(|(group, _)| group.cells());
        let names = distinct(cells.map(|cell| cell.name.as_str()));
        let (mut rows, mut beyond) = (Vec::new(), vec![0; groups.len()]);
        for name in names {
            let mut row = Row { name: name.into(), asked: 0.0, marks: Vec::new() };
            for ((group, look), beyond) in groups.iter().zip(&mut beyond) {
                let Some((asked, real)) = shares(group, name) else { continue };
                row.asked = row.asked.max(asked);
                *beyond += usize::from(real > 2.0 * asked);
                row.marks.push((group.method.clone(), *look, real));
            }
            rows.push(row);
        }
        let methods = groups.iter().map(|(group, look)| (group.method.clone(), *look)).collect();
        Self { methods, beyond, rows }
    }

    pub(super) fn draw(&self, comparison: &Comparison<'_>, format: &str) -> Markup {
        if self.rows.is_empty() {
            return html! { p.faint { "Neither measured nor normal was looked at." } };
        }
        let task = &comparison.task.name;
        let label = format!("Asked and real underflow by layer of {task} in {format}");
        html! {
            (Strip { label, rows: &self.rows }.draw())
            (svg::legend(self.methods.iter().map(|(method, look)| (method.as_str(), *look))))
        }
    }

    pub(super) fn caption(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let found = self.methods.iter().zip(&self.beyond);
        let found = found.map(|((method, _), beyond)| format!("{method} in {beyond}"));
        format!(
            "On the right, look for marks beyond the grey area, which ends at twice the share \
             asked for: of {}, {}. The mean includes steps at which no scale could have kept what \
             was asked; marks at 0 lost nothing, and those below 1e-6 are drawn there.",
            counted(self.rows.len(), "layer"),
            found.collect::<Vec<_>>().join(", ")
        )
    }
}

/// Returns the share that was asked for in a layer, and the mean share that underflowed.
fn shares(group: &Group<'_>, name: &str) -> Option<(f64, f64)> {
    let cells = group.cells().filter(|cell| cell.name == name && cell.visits > 0);
    let cells: Vec<&CellReport> = cells.collect();
    let real = mean(cells.iter().map(|cell| cell.underflow_real))?;
    Some((cells.first()?.underflow_asked, real))
}
