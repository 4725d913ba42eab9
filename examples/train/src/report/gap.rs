//! Accuracy over the gap between two losses: tasks that differ in nothing but a number at the end of their names.

use maud::{Markup, html};

use super::{
    alone::Sheet,
    axis::Axis,
    group::{Comparison, Group, distinct},
    lines::{self, Lines, Place, Series},
    number::percent,
    palette::Look,
    svg,
};

/// Places that make a curve.
const LEAST: usize = 3;

/// Tasks of one family, by the binades between their losses.
struct Family<'c, 'r> {
    name: String,
    places: Vec<(u32, &'c Comparison<'r>)>,
}

/// Draws one curve per method and format for each family of tasks; nothing where there is no family.
pub(super) fn gap(comparisons: &[Comparison<'_>]) -> Markup {
    html! {
        @for family in families(comparisons) {
            figure {
                h2 { "How far apart two losses may lie: " (family.name) }
                (svg::legend(looks(&family).iter().map(|(method, look)| (method.as_str(), *look))))
                div.panels {
                    @for (format, lines) in panels(&family) { div.panel { h3 { (format) } (lines) } }
                }
                figcaption {
                    "The metric in per cent over the binades between the two losses. Thick lines are means over seeds, \
                        thin ones single seeds; f32 is beside each method."
                }
            }
        }
    }
}

/// Returns the same pictures as one that needs no page, for each family with its name.
pub(super) fn alone(comparisons: &[Comparison<'_>]) -> Vec<(String, String)> {
    let drawn = families(comparisons).into_iter().map(|family| {
        let legend = looks(&family).into_iter().map(|(method, look)| (svg::sample(look), method));
        let sheet = Sheet {
            label: format!("Accuracy over the gap of {}", family.name),
            legends: vec![legend.collect()],
            panels: panels(&family),
            columns: 2,
            height: lines::HEIGHT,
            text: Vec::new(),
        };
        let picture = sheet.draw();
        (family.name, picture)
    });
    drawn.collect()
}

fn families<'c, 'r>(comparisons: &'c [Comparison<'r>]) -> Vec<Family<'c, 'r>> {
    let mut families = Vec::<Family<'c, 'r>>::new();
    for comparison in comparisons {
        let Some((name, gap)) = comparison.task.name.rsplit_once('-') else { continue };
        let Ok(gap) = gap.parse() else { continue };
        match families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.places.push((gap, comparison)),
            None => families.push(Family { name: name.into(), places: vec![(gap, comparison)] }),
        }
    }
    families.retain(|family| family.places.len() >= LEAST);
    for family in &mut families {
        family.places.sort_by_key(|&(gap, _)| gap);
    }
    families
}

fn looks(family: &Family<'_, '_>) -> Vec<(String, Look)> {
    let mut all = Vec::<(String, Look)>::new();
    for (_, comparison) in &family.places {
        for (method, &look) in comparison.methods.iter().zip(&comparison.looks) {
            if all.iter().all(|(known, _)| known != method) {
                all.push((method.clone(), look));
            }
        }
    }
    all
}

fn panels(family: &Family<'_, '_>) -> Vec<(String, Markup)> {
    let formats =
        distinct(family.places.iter().flat_map(|(_, place)| place.formats.iter().copied()));
    let gaps = Axis::around(family.places.iter().map(|&(gap, _)| f64::from(gap)));
    let values = Axis::between(0.0, 1.0);
    let drawn = formats.into_iter().map(|format| {
        let series = looks(family).into_iter().filter_map(|(method, look)| {
            let groups =
                family.places.iter().map(|&(gap, place)| (gap, place.group(&method, format)));
            series(&method, look, &groups.collect::<Vec<_>>())
        });
        let label = format!("Accuracy over the gap of {} in {format}, by method", family.name);
        let (across, series) = ("binades", series.collect());
        let lines = Lines { label, across, steps: &gaps, values: &values, series };
        (format.to_owned(), lines.draw(|value| format!("{:.0}", 100.0 * value)))
    });
    drawn.collect()
}

fn series(method: &str, look: Look, groups: &[(u32, Option<&Group<'_>>)]) -> Option<Series> {
    groups.iter().any(|(_, group)| group.is_some()).then_some(())?;
    let place = |&(gap, group): &(u32, Option<&Group<'_>>),
                 of: &dyn Fn(&Group<'_>) -> Option<f64>| {
        (f64::from(gap), group.and_then(of))
    };
    let mean: Vec<Place> = groups.iter().map(|at| place(at, &|group| Some(group.mean()))).collect();
    let seeds = groups.iter().filter_map(|(_, group)| Some(group.as_ref()?.runs.len())).max();
    let seeds = (0..seeds.unwrap_or(0)).map(|nth| {
        let of = |group: &Group<'_>| Some(group.runs.get(nth)?.metric);
        groups.iter().map(|at| place(at, &of)).collect()
    });
    let at = mean.iter().filter_map(|&(gap, value)| Some(format!("2^{gap}: {}", percent(value?))));
    let title = format!("{method}: {}", at.collect::<Vec<_>>().join(", "));
    Some(Series { look, mean: mean.clone(), seeds: seeds.collect(), stops: Vec::new(), title })
}
