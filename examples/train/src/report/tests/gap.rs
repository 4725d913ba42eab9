//! Accuracy over a number at the end of tasks' names.

use crate::{
    report::{gap::alone, group::Comparison, write},
    results::{Results, RunReport, TaskReport},
};

/// Two methods at so many gaps; one of them loses from 2^20 on.
fn results(gaps: &[u32]) -> Results {
    let name = |gap: &u32| format!("digits-units-{gap}");
    let task =
        |gap| TaskReport { name: name(gap), metric: "accuracy".into(), ..Default::default() };
    let run = |gap: &u32, method: &str, seed, metric| RunReport {
        task: name(gap),
        format: if method == "f32" { "f32".into() } else { "e4m3".into() },
        method: method.into(),
        seed,
        metric,
        ..Default::default()
    };
    let runs = gaps.iter().flat_map(|gap| {
        (0..3).flat_map(move |seed| {
            let lost = if *gap < 20 { 0.9 } else { 0.5 };
            [
                run(gap, "f32", seed, 0.92),
                run(gap, "backoff", seed, lost),
                run(gap, "measured", seed, 0.92),
            ]
        })
    });
    Results {
        version: Results::VERSION,
        tasks: gaps.iter().map(task).collect(),
        runs: runs.collect(),
        ..Default::default()
    }
}

#[test]
fn three_gaps_make_a_picture_and_two_do_not() {
    let few = results(&[0, 20]);
    assert!(alone(&Comparison::all(&few)).is_empty());
    // In whatever order they were run.
    let results = results(&[40, 0, 20, 10]);
    let comparisons = Comparison::all(&results);
    let [(name, picture)] = &alone(&comparisons)[..] else { panic!("one family") };
    assert_eq!(name, "digits-units");
    assert!(picture.starts_with("<svg xmlns="), "it stands alone");
    let curve = "backoff: 2^0: 90.0, 2^10: 90.0, 2^20: 50.0, 2^40: 50.0";
    assert!(picture.contains(curve), "{picture}");
    assert!(picture.contains("measured: 2^0: 92.0, 2^10: 92.0, 2^20: 92.0, 2^40: 92.0"));
}

#[test]
fn a_report_has_the_picture_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &results(&[0, 10, 20])).unwrap();
    let picture = std::fs::read_to_string(folder.path().join("digits-units.svg")).unwrap();
    assert!(picture.contains("binades"));
    let page = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(page.contains("How far apart two losses may lie: digits-units"));
}
