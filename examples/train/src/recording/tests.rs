//! A recording by hand: two cells, five steps, every figure worked out on paper.
//!
//! In E4M3 the magnitude `2^-m` overflows from `K = m + 9` on, and underflows below `K = m - 9`.

use adaloss_core::{
    format::{Format, Narrowing},
    scale::Scale,
};

use adaloss_cpu::Cpu;
use anyhow::ensure;

use super::{
    Kind, Measure, Place, Recording, Row, Rule, Standing, Tally, Visited, csv, draw, print, record,
    walk, walk::best_scale,
};
use crate::{data::Source, method::FormatName, task::Task};

/// Returns the exact power of two.
fn two_to(exponent: i32) -> f32 {
    2.0_f32.powi(exponent)
}

/// Each tensor has a large element and a small one that underflows below the large one's usual ceiling: 15 in the first
/// cell, 17 in the second.  In the third step the first cell's large one is 8 times as large, and its ceiling 12.
fn by_hand() -> Recording {
    let visit = |cell, large, small| Visited {
        cell,
        tally: Tally::of(Narrowing::to(Format::E4M3), &[two_to(large), -two_to(small), 0.0]),
    };
    let step = |nth| {
        let large = if nth == 2 { -4 } else { -7 };
        vec![visit(0, large, -24), visit(1, -9, -26)]
    };
    Recording { format: FormatName(Format::E4M3), cells: 2, steps: (0..5).map(step).collect() }
}

/// The mass of the small element: in the third step of the first cell, and otherwise.
const LOUD: f64 = 1.0 / (1024.0 * 1024.0 + 1.0);
const USUAL: f64 = 1.0 / (128.0 * 1024.0 + 1.0);

fn row(name: &str) -> Row {
    let rules = Rule::all(Format::E4M3).unwrap();
    let rule = rules.iter().find(|rule| rule.name == name).unwrap_or_else(|| panic!("{name}"));
    walk("by hand", &by_hand(), rule)
}

/// Checks a row: underflow of all visits together, lost and clipped mass, visits kept, measuring, replays.
#[track_caller]
fn check(row: &Row, underflow: f64, masses: [f64; 2], kept: u32, passes: [u32; 2]) {
    assert_eq!((row.steps, row.visits, row.window_share), (5, 10, 0.9), "{row:?}");
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
    assert!(near(row.underflow_mean.unwrap(), underflow), "{row:?}");
    assert!(near(row.lost_mass, masses[0] / 10.0), "{row:?}");
    assert!(near(row.clipped_mass, masses[1] / 10.0), "{row:?}");
    assert!(near(row.kept.unwrap(), f64::from(kept) / 9.0), "{row:?}");
    let found = [row.measuring_per_1000, row.replays_per_1000];
    assert_eq!(found, passes.map(|count| 100.0 * f64::from(count)), "{row:?}");
    assert_eq!(row.extra_passes_per_1000, found[0] + found[1]);
}

/// The first cell leaves at 14, 15, 12 (from 15, replayed), 12 and 14; the second at 16 and then at 17.
#[test]
fn measured_by_hand() {
    let lost = 3.0 * USUAL + LOUD + USUAL;
    let measured = row("measured");
    // Halves of 4 visits and of 1.
    check(&measured, 2.5 / 10.0, [lost, 0.0], 5, [2, 1]);
    assert_eq!((measured.underflow_p95, measured.clipped_visits_per_1000), (Some(0.5), 0.0));
    assert!(!measured.clips_or_skips());
}

/// One binade below the least of late: 14, 14, 14 (clips), 11 and 11; 16 in the second cell.
#[test]
fn measured_that_saturates_by_hand() {
    let saturating = row("measured, saturating");
    let clipped = (0.0625 - 448.0 / 16384.0) / (0.0625 + 2.0_f64.powi(-24));
    check(&saturating, 0.5, [4.0 * USUAL + LOUD + 5.0 * USUAL, clipped], 0, [2, 0]);
    assert_eq!(saturating.clipped_visits_per_1000, 100.0);
}

/// 15, 15, 12 (replayed), 12 and 12; 17 in the second cell.  With a margin a binade lower, and it is replayed all the same.
#[test]
fn amax_by_hand() {
    for window in [16, 1024] {
        let amax = row(&format!("amax {window}, margin 0"));
        check(&amax, 1.5 / 10.0, [2.0 * USUAL + LOUD, 0.0], 7, [2, 1]);
        let lower = row(&format!("amax {window}, margin 1"));
        check(&lower, 0.5, [9.0 * USUAL + LOUD, 0.0], 0, [2, 1]);
        // 15 in the third step, too, where 2^-4 becomes 448 / 2^15.
        let clipped = (0.0625 - 448.0 / 32768.0) / (0.0625 + 2.0_f64.powi(-24));
        let saturating = row(&format!("amax {window}, margin 0, saturating"));
        check(&saturating, 1.0 / 10.0, [2.0 * USUAL, clipped], 7, [2, 0]);
    }
    // What was loud is forgotten after a step: 15, 15, 12 (replayed), 12 and 15.
    check(&row("most recent, margin 0"), 1.0 / 10.0, [USUAL + LOUD, 0.0], 8, [2, 1]);
}

/// Each visit's own ceiling: only the loud one loses anything.
#[test]
fn current_scaling_by_hand() {
    let current = row("current scaling");
    check(&current, 0.5 / 10.0, [LOUD, 0.0], 9, [10, 0]);
    assert_eq!(current.underflow_p95, Some(0.5));
}

/// One scale for both cells, 2^16 at first: it overflows in the first and the third step, which are skipped and halve
/// it; 15 in the second step, 14 in the fourth and the fifth.
#[test]
fn dynamic_by_hand() {
    for name in ["dynamic", "dynamic, interval 10"] {
        let dynamic = row(name);
        // All but the first cell's in the second step lose a half; the mass of four visits is gone.
        let lost = 4.0 + 5.0 * USUAL;
        check(&dynamic, 5.0 * 0.5 / 6.0, [lost, 0.0], 1, [0, 0]);
        assert_eq!(dynamic.skipped_steps_per_1000, 400.0);
        assert!(dynamic.clips_or_skips());
    }
}

/// A window has one scale, and none of it is two binades below overflow.  So the middle is that of the window by mass: from
/// -2, where the large element lives, to 13 in the first cell, from 0 to 15 in the second.
#[test]
fn the_middle_of_the_window_by_hand() {
    let middle = row("middle of the window, every 10 visits");
    // 5 and 7: the small ones are lost, and nothing overflows.
    check(&middle, 0.5, [9.0 * USUAL + LOUD, 0.0], 0, [2, 0]);
}

/// From 12 on something is clipped, and below 15 both small ones are lost.
#[test]
fn the_best_fixed_scale_by_hand() {
    let best = best_scale(&by_hand());
    assert_eq!(best.log2(), 12);
    let fixed = walk("by hand", &by_hand(), &Rule::fixed(best));
    check(&fixed, 0.5, [9.0 * USUAL + LOUD, 0.0], 0, [0, 0]);
    let higher = walk("by hand", &by_hand(), &Rule::fixed(Scale::new(15).unwrap()));
    let clipped = (0.0625 - 448.0 / 32768.0) / (0.0625 + 2.0_f64.powi(-24));
    check(&higher, 2.5 / 10.0, [5.0 * USUAL, clipped], 4, [0, 0]);
    assert_eq!(higher.clipped_visits_per_1000, 100.0);
}

#[test]
fn what_shows_nothing_is_a_visit_and_no_more() {
    let mut recording = by_hand();
    let zeros = Tally::of(Narrowing::to(Format::E4M3), &[0.0; 3]);
    recording.steps.insert(0, vec![Visited { cell: 0, tally: zeros }]);
    for rule in Rule::all(Format::E4M3).unwrap() {
        if matches!(rule.kind, Kind::Dynamic(_)) {
            continue; // a step more is a clean step more
        }
        let (with, without) = (walk("", &recording, &rule), walk("", &by_hand(), &rule));
        assert_eq!((with.visits, with.steps), (11, 6));
        assert_eq!(with.underflow_mean, without.underflow_mean, "{}", rule.name);
        assert_eq!(with.lost_mass, without.lost_mass, "{}", rule.name);
        assert_eq!(with.kept, without.kept, "{}", rule.name);
        // Current scaling looks before it knows.
        let more = if rule.kind == Kind::Current { 1.0 } else { 0.0 };
        let passes = |row: &Row| row.extra_passes_per_1000 * row.visits as f64 / 1000.0;
        assert!((passes(&with) - passes(&without) - more).abs() < 1e-9, "{}", rule.name);
    }
}

/// Rows with only what a hull needs.
fn place(points: &[(&str, f64, f64)]) -> Place {
    let mut place = Place::of("by hand", &by_hand()).unwrap();
    let template = place.rows[0].clone();
    place.rows = points
        .iter()
        .map(|&(name, passes, lost)| Row {
            policy: name.into(),
            is_oracle: name.starts_with("fixed"),
            extra_passes_per_1000: passes,
            underflow_mean: Some(lost),
            lost_mass: lost,
            clipped_mass: 0.0,
            ..template.clone()
        })
        .collect();
    place
}

#[test]
fn a_verdict_says_where_measured_lies() {
    let others = [("a", 0.0, 10.0), ("b", 10.0, 0.0)];
    let standing = |passes, lost| {
        let points = [&others[..], &[("measured", passes, lost)]].concat();
        place(&points).standing(Measure::Mass, |_| true).unwrap()
    };
    assert_eq!(standing(5.0, 4.0), Standing::On { below: Some(1.0 - 4.0 / 5.0) });
    assert_eq!(standing(5.0, 5.0), Standing::On { below: Some(0.0) });
    assert_eq!(standing(5.0, 6.0), Standing::Above { lost: 6.0, hull: 5.0 });
    assert_eq!(standing(12.0, 1.0), Standing::Above { lost: 1.0, hull: 0.0 });
    assert_eq!(standing(12.0, 0.0), Standing::Level);
    assert_eq!(standing(10.0, 0.0), Standing::On { below: Some(0.0) });

    let alone = place(&[("b", 10.0, 0.0), ("measured", 2.0, 5.0)]);
    assert_eq!(alone.standing(Measure::Mass, |_| true), Some(Standing::On { below: None }));
    // The oracle is better at no passes; without it measured would be the best.
    let oracle =
        place(&[("fixed 2^3, the best", 0.0, 1.0), ("b", 10.0, 0.5), ("measured", 2.0, 5.0)]);
    let verdict = oracle.verdict(Measure::Underflow);
    assert!(verdict.contains("455.6 % above the hull"), "{verdict}");
    assert!(verdict.ends_with("without the oracle it lies on the hull: none takes as few passes."));

    // What clips is compared by mass only.
    let mut clips = place(&[("a", 0.0, 1.0), ("measured", 5.0, 2.0)]);
    clips.rows[0].clipped_visits_per_1000 = 1.0;
    let found = Measure::ALL.map(|measure| clips.standing(measure, |_| true).unwrap());
    assert_eq!(found, [Standing::On { below: None }, Standing::Above { lost: 2.0, hull: 1.0 }]);
    assert_eq!((clips.hull(Measure::Underflow).len(), clips.hull(Measure::Mass).len()), (1, 1));
}

#[test]
fn tables_and_plots_have_every_policy() {
    let place = Place::of("by hand", &by_hand()).unwrap();
    let sheet = String::from_utf8(csv(std::slice::from_ref(&place)).unwrap()).unwrap();
    assert_eq!(sheet.lines().count(), 1 + place.rows.len());
    let printed = print(std::slice::from_ref(&place));
    let svg = draw(&place);
    let document = roxmltree::Document::parse(&svg).unwrap();
    for row in &place.rows {
        assert!(printed.contains(&format!("| {} ", row.policy)), "{}", row.policy);
        assert!(sheet.contains(&row.policy), "{}", row.policy);
        let points = document.descendants().filter(|node| {
            node.has_tag_name("title") && node.text().is_some_and(|text| text.ends_with(" passes"))
        });
        // One in each picture; `dynamic` begins the name of another.
        let named = points.filter(|node| {
            node.text().is_some_and(|text| text.contains(&format!(" {}: ", row.policy)))
        });
        assert_eq!(named.count(), 2, "{}", row.policy);
    }
    for measure in Measure::ALL {
        assert!(printed.contains(&place.verdict(measure)));
    }
    let finite = |text: &str| !text.contains("NaN") && !text.contains("inf");
    assert!(finite(&svg) && finite(&sheet), "{svg}");
    // Where nothing is lost and nothing costs anything, there are still pictures.
    let nothing = self::place(&[("measured", 0.0, 0.0)]);
    assert!(finite(&draw(&nothing)));
}

/// A perceptron has three cells; an epoch has 21 steps of 64 digits.
#[test]
fn a_training_is_recorded_step_by_step() {
    let mut task: Task = "digits-mlp".parse().unwrap();
    task.schedule.epochs = 1;
    let dataset = Source::Embedded(Default::default()).open().unwrap();
    let formats = [Format::E4M3, Format::BINARY16].map(FormatName);
    let recorded = |threads| {
        let device = Cpu::new(threads).unwrap();
        record(&task, &*dataset, 1, device, &formats, |_| Ok(())).unwrap()
    };
    let recordings = recorded(1);
    assert_eq!(recordings, recorded(2));
    assert_eq!(recordings.iter().map(|recording| recording.format).collect::<Vec<_>>(), formats);
    for recording in &recordings {
        assert_eq!((recording.cells, recording.steps.len()), (3, 21));
        for step in &recording.steps {
            let visits = step.iter().map(|visit| (visit.cell, visit.tally.elements()));
            // The loss, the head's input and the hidden layer's.
            assert_eq!(visits.collect::<Vec<_>>(), [(0, 640), (1, 64 * 128), (2, 64 * 128)]);
            assert!(step.iter().all(|visit| visit.tally.tells()));
        }
    }
    let [e4m3, binary16] = &recordings[..] else { panic!("two formats") };
    let pairs = e4m3.steps.iter().flatten().zip(binary16.steps.iter().flatten());
    for (a, b) in pairs.map(|(a, b)| (&a.tally, &b.tally)) {
        assert_eq!(a.nonzero(), b.nonzero());
        // 448 and 65504 are seven binades and a half apart.
        let apart = b.ceiling().unwrap() - a.ceiling().unwrap();
        assert!((7..=8).contains(&apart), "{apart}");
    }

    let mut done = Vec::new();
    let device = Cpu::new(1).unwrap();
    let ended = record(&task, &*dataset, 1, device, &formats, |step| {
        done.push(step);
        ensure!(step < 3, "enough");
        Ok(())
    });
    assert_eq!((ended.unwrap_err().to_string(), done), ("enough".into(), vec![0, 1, 2, 3]));
}
