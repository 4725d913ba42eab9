//! Accuracy over what is lost, run by run.

use roxmltree::Document;

use super::synthetic;
use crate::{
    report::{
        document,
        group::{Comparison, gradient_error, worst_gradient_error},
        lost::{Measure, alone, losses, sentence},
        print_place, write,
    },
    results::{CellReport, Gone, Results, RunReport, TaskReport, WeightReport},
};

/// A run that lost so much of its mass to underflow, and ended so many points from f32, which ends at 90 per cent.
fn run(method: &str, seed: u64, lost_mass: f64, points: f64) -> RunReport {
    RunReport {
        task: "digits-mlp".into(),
        format: if method == "f32" { "f32".into() } else { "e4m3".into() },
        method: method.into(),
        seed,
        metric: 0.9 + points / 100.0,
        steps: 100,
        gone: Some(Gone { visits: 50, underflow: 2.0 * lost_mass, lost_mass, clipped_mass: 0.0 }),
        cells: [0.0, 1.5 * lost_mass].map(cell).into(),
        ..RunReport::default()
    }
}

fn cell(gone_mass: f64) -> CellReport {
    CellReport { gone_mass: Some(gone_mass), ..CellReport::default() }
}

fn results(runs: Vec<RunReport>) -> Results {
    let baseline = (0..2).map(|seed| run("f32", seed, 0.0, 0.0));
    let task =
        TaskReport { name: "digits-mlp".into(), metric: "accuracy".into(), ..Default::default() };
    Results {
        version: Results::VERSION,
        tasks: vec![task],
        runs: baseline.chain(runs).collect(),
        ..Default::default()
    }
}

/// Five runs: one that loses nothing, two that lose and fall, of which one stops; one that skips, one that clips.
fn five() -> Results {
    let mut skips = run("backoff", 0, 1e-4, -1.0);
    skips.skipped_steps = 10;
    let mut clips = run("fixed:4", 0, 0.0, 2.0);
    clips.gone = clips.gone.map(|gone| Gone { clipped_mass: 0.25, ..gone });
    let mut stops = run("none", 1, 0.5, -60.0);
    stops.stopped = Some("at step 100".into());
    results(vec![run("measured", 0, 0.0, 0.2), run("none", 0, 2e-3, -2.0), stops, skips, clips])
}

#[test]
fn skipped_steps_lose_all_and_clipped_mass_counts() {
    let results = five();
    let comparisons = Comparison::all(&results);
    let losses = losses(&comparisons);
    assert_eq!(losses.len(), 5, "f32 is no run beside f32");
    let said = sentence(&losses, Measure::Mass);
    // In points 0.2 and -2 of 0 and 0.002; -60, -1 and 2 of 0.5, 0.1 + 0.9e-4 and 0.25.
    assert_eq!(
        said,
        "Mass that was lost: runs that ended more than 1.5 points below f32, and as much above. 2 runs lost less than 1 %: \
         50 % below, 0 % above; 3 runs lost 10 % or more: 33 % below, 33 % above."
    );
    let said = sentence(&losses, Measure::Tensor);
    assert!(said.contains("3 runs lost less than 1 %: 33 % below, 33 % above; 2 runs"), "{said}");
    let said = sentence(&losses, Measure::Underflow);
    assert!(said.ends_with("1 run lost 10 % or more: 100 % below, 0 % above."), "{said}");
}

#[test]
fn every_run_is_a_mark_in_both_pictures() {
    let results = five();
    let picture = alone(&Comparison::all(&results)).unwrap();
    let document = Document::parse(&picture).unwrap();
    for (label, titles) in [
        (
            "Mass that was lost",
            [
                "measured in e4m3 of digits-mlp, seed 0: none lost, +0.2 points",
                "none in e4m3 of digits-mlp, seed 0: 0.200 % lost, \u{2212}2.0 points",
                "none in e4m3 of digits-mlp, seed 1: 50.0 % lost, \u{2212}60.0 points, stopped",
                "backoff in e4m3 of digits-mlp, seed 0: 10.0 % lost, \u{2212}1.0 points",
                "fixed:4 in e4m3 of digits-mlp, seed 0: 25.0 % lost, +2.0 points",
            ],
        ),
        (
            "Elements that underflowed",
            [
                "measured in e4m3 of digits-mlp, seed 0: none lost, +0.2 points",
                "none in e4m3 of digits-mlp, seed 0: 0.400 % lost, \u{2212}2.0 points",
                "none in e4m3 of digits-mlp, seed 1: 100 % lost, \u{2212}60.0 points, stopped",
                "backoff in e4m3 of digits-mlp, seed 0: 0.0200 % lost, \u{2212}1.0 points",
                "fixed:4 in e4m3 of digits-mlp, seed 0: none lost, +2.0 points",
            ],
        ),
    ] {
        let is_picture = |node: &roxmltree::Node<'_, '_>| {
            node.attribute("aria-label").is_some_and(|found| found.starts_with(label))
        };
        let panel = document.descendants().find(is_picture).unwrap();
        let shown: Vec<_> = panel
            .descendants()
            .filter(|node| node.has_tag_name("title"))
            .map(|node| node.text().unwrap())
            .collect();
        assert_eq!(shown, titles);
        // What went otherwise than by underflow is hollow.
        let hollow = panel.descendants().filter(|node| node.attribute("class") == Some("ring"));
        assert_eq!(hollow.count(), 2, "{label}");
    }
    // All of it is within the picture.
    assert!(!picture.contains("NaN") && picture.contains("viewBox=\"0 0 960 "));
}

#[test]
fn the_page_counts_runs_by_what_they_lost() {
    let page = document::page(&five()).into_string();
    let section = &page[page.find("<section id=\"lost\"").unwrap()..];
    let section = &section[..section.find("</section>").unwrap()];
    let rows: Vec<String> = section
        .split("<tr>")
        .filter(|row| row.starts_with("<th scope=\"row\">"))
        .map(|row| {
            let row = row.split("</tr>").next().unwrap();
            let cells =
                row.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
            cells.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        rows,
        [
            "none 1 0 0 +0.2 +0.2",
            "0.1 to 1 % 1 1 0 \u{2212}2.0 \u{2212}2.0",
            "10 to 50 % 2 0 1 +0.5 \u{2212}1.0",
            "50 % or more 1 1 0 \u{2212}60.0 \u{2212}60.0",
            "none 2 0 1 +1.1 +0.2",
            "0.1 to 1 % 1 1 0 \u{2212}2.0 \u{2212}2.0",
            "10 to 50 % 1 0 0 \u{2212}1.0 \u{2212}1.0",
            "50 % or more 1 1 0 \u{2212}60.0 \u{2212}60.0",
            "none 2 0 1 +1.1 +0.2",
            "0.01 to 0.1 % 1 0 0 \u{2212}1.0 \u{2212}1.0",
            "0.1 to 1 % 1 1 0 \u{2212}2.0 \u{2212}2.0",
            "50 % or more 1 1 0 \u{2212}60.0 \u{2212}60.0",
        ]
    );
    assert!(section.contains("A step that is skipped loses all of its mass"));
}

#[test]
fn where_nothing_is_known_there_is_no_picture() {
    let mut unknown = five();
    unknown.runs.iter_mut().for_each(|run| run.gone = None);
    let mut alone_in_its_seed = five();
    alone_in_its_seed.runs.retain(|run| run.method != "f32");
    for results in [unknown, alone_in_its_seed] {
        assert!(alone(&Comparison::all(&results)).is_none());
        assert!(!document::page(&results).into_string().contains("id=\"lost\""));
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &results).unwrap();
        assert!(!folder.path().join("lost.svg").exists());
    }
}

/// Whatever there is to draw lies within its picture.
#[test]
fn marks_lie_within_their_picture() {
    for lost in [0.0, 1e-30, 1e-9, 1.0] {
        for points in [-100.0, -4.0, 0.0, 4.0, 60.0] {
            let results = results(vec![run("none", 0, lost, points), run("amax", 0, 1e-3, 0.0)]);
            let picture = alone(&Comparison::all(&results)).unwrap();
            let marks = picture.split("<path class=\"spot\" d=\"M").skip(1);
            let mut count = 0;
            for mark in marks {
                let (x, rest) = mark.split_once(' ').unwrap();
                let y = rest.split(['L', '"']).next().unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((30.0..296.0).contains(&x) && (3.0..212.0).contains(&y), "{x} {y}");
                count += 1;
            }
            assert_eq!(count, 6);
        }
    }
}

#[test]
fn the_error_of_gradients_is_a_median_and_none_is_the_worst() {
    let weight = |name: &str, errors: &[Option<f64>]| WeightReport {
        name: name.into(),
        relative_l2: errors.to_vec(),
        ..WeightReport::default()
    };
    let with = |errors: &[Option<f64>]| RunReport {
        weights: vec![weight("a", errors), weight("b", &[Some(0.05)])],
        ..run("none", 0, 0.0, 0.0)
    };
    let error = |errors: &[Option<f64>]| gradient_error(&[&with(errors)]);
    assert_eq!(error(&[]), Some(0.05));
    assert_eq!(error(&[Some(0.01), Some(1.0)]), Some(0.05));
    assert_eq!(error(&[Some(1.0), None]), Some(1.0));
    assert_eq!(error(&[None]), None);
    assert_eq!(error(&[None, None]), None);
    assert_eq!(gradient_error(&[&run("none", 0, 0.0, 0.0)]), None);

    let worst = |errors: &[Option<f64>]| worst_gradient_error(&[&with(errors)]);
    assert_eq!(worst(&[]), Some(0.05));
    assert_eq!(worst(&[Some(0.0), Some(1.0)]), Some(0.5));
    assert_eq!(worst(&[Some(0.01), None]), None);

    let mut results = results(vec![with(&[Some(0.02), Some(1.0)]), run("backoff", 0, 0.125, 0.0)]);
    results.runs[3].skipped_steps = 50;
    let printed = print_place(&results, "digits-mlp", "e4m3");
    let row = |method: &str| {
        let start = format!("| {method} ");
        let row = printed.lines().find(|line| line.starts_with(&start)).unwrap();
        row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(row("method")[5..7], ["error %", "lost %"]);
    assert_eq!(row("none")[5..7], ["5.0..51", "0"]);
    assert_eq!(row("backoff")[5..7], ["-", "56.2"]);
}

/// A place of the made-up results has room on a terminal.
#[test]
fn the_table_of_a_place_is_narrow() {
    let printed = print_place(&synthetic::results(), "digits-deep", "e4m3");
    let widest = printed.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 122, "{widest}\n{printed}");
}
