//! What each method loses over the passes that it takes.

use roxmltree::Document;

use crate::{
    report::{document, group::Comparison, price::alone, write},
    results::{Gone, Results, RunReport, TaskReport, WeightReport},
};

fn run(method: &str, extra_passes: u64, lost_mass: f64, error: f64) -> RunReport {
    RunReport {
        task: "digits-mlp".into(),
        format: if method == "f32" { "f32".into() } else { "e4m3".into() },
        method: method.into(),
        metric: 0.9,
        steps: 10,
        visits: 1000,
        extra_passes,
        gone: Some(Gone { visits: 50, underflow: lost_mass, lost_mass, clipped_mass: 0.0 }),
        weights: vec![WeightReport {
            name: "head".into(),
            cosine: vec![Some(1.0)],
            relative_l2: vec![Some(error)],
        }],
        ..RunReport::default()
    }
}

fn results(runs: Vec<RunReport>) -> Results {
    let task = TaskReport {
        name: "digits-mlp".into(),
        metric: "accuracy".into(),
        ..TaskReport::default()
    };
    let runs = [vec![run("f32", 0, 0.0, 0.0)], runs].concat();
    Results { version: Results::VERSION, tasks: vec![task], runs, ..Results::default() }
}

/// Where the marks of the panel with this heading begin, by the title that each has.
fn marks(picture: &str, heading: &str) -> Vec<(String, f64, f64)> {
    let document = Document::parse(picture).unwrap();
    let label = format!("{heading} over extra passes");
    let panel = document.descendants().find(|node| node.attribute("aria-label") == Some(&label));
    let spots = panel.unwrap().descendants().filter(|node| node.attribute("class") == Some("spot"));
    let found = spots.map(|spot| {
        let title = spot.parent().unwrap().descendants().find(|node| node.has_tag_name("title"));
        let from = &spot.attribute("d").unwrap()[1..];
        let mut numbers = from.split([' ', 'L', 'a']).map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        (title.unwrap().text().unwrap().to_owned(), next(), next())
    });
    found.collect()
}

#[test]
fn a_method_that_loses_less_for_more_passes_lies_further_down_and_to_the_right() {
    let results = results(vec![
        run("none", 0, 0.5, 0.9),
        run("amax", 5, 1e-4, 0.05),
        run("measured", 20, 1e-6, 0.04),
        run("mx", 0, 0.0, 0.03),
    ]);
    let picture = alone(&Comparison::all(&results)).unwrap();
    for heading in ["digits-mlp in e4m3: gradient error", "digits-mlp in e4m3: mass lost"] {
        let marks = marks(&picture, heading);
        let [none, amax, measured, mx] = &marks[..] else { panic!("{marks:?}") };
        assert!(none.1 < amax.1 && amax.1 < measured.1, "{marks:?}");
        assert!(none.2 < amax.2 && amax.2 < measured.2 && measured.2 < mx.2, "{marks:?}");
        assert!((none.1 - mx.1).abs() < 8.0, "both take no pass: {marks:?}");
    }
    let error = &marks(&picture, "digits-mlp in e4m3: gradient error")[2].0;
    assert_eq!(error, "measured: 4.00 % at 20.0 extra passes");
    let lost = &marks(&picture, "digits-mlp in e4m3: mass lost")[3].0;
    assert_eq!(lost, "mx: none at 0 extra passes");
}

#[test]
fn where_no_pass_was_counted_there_is_no_picture() {
    let mut old = results(vec![run("measured", 3, 0.1, 0.1)]);
    old.runs.iter_mut().for_each(|run| (run.visits, run.extra_passes) = (0, 0));
    assert!(alone(&Comparison::all(&old)).is_none());
    assert!(!document::page(&old).into_string().contains("id=\"price\""));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &old).unwrap();
    assert!(!folder.path().join("price.svg").exists());
}
