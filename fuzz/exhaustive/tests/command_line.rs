//! The program as a user runs it, and what it prints of mistakes.

use std::process::{Command, Output};

use adaloss_core::{format::Format, propagate::shifted, scale::Shift};
use adaloss_exhaustive::{Core, Job, References, Slice, Subject, jobs, run};
use indicatif::ProgressBar;

fn exhaustive(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_adaloss-exhaustive");
    Command::new(program).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn every_job_is_listed() {
    let output = exhaustive(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    let references = References::new();
    let jobs = jobs(&Core, &references);
    assert!(text(&output.stdout).lines().eq(jobs.iter().map(Job::name)));
}

#[test]
fn a_slice_of_chosen_jobs_prints_a_line_each() {
    let output = exhaustive(&["--slice", "7/9", "--jobs", "E4M3 unscaled,E5M2 shifted"]);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "slice 7/9"));
    // 28 of 253 scales, 256 patterns and one count, gradual and flushed; 56 of 505 shifts.
    let unscaled = 28 * 257 * 2;
    let shifted = 56 * 256;
    for (line, name, cases) in [
        (lines[1], "E5M2 shifted by every shift", shifted),
        (lines[2], "E4M3 unscaled from every scale", unscaled),
        (lines[3], "all", shifted + unscaled),
    ] {
        let expected = format!("{name}: {cases} cases, 0 mismatches, ");
        assert!(line.starts_with(&expected) && line.ends_with(" s"), "{line}");
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    for (arguments, message) in [
        (["--slice", "0/3"], "a slice is two numbers I/N with I from 1 to N"),
        (["--jobs", "widened,binary17"], "no job has \"binary17\" in its name"),
    ] {
        let output = exhaustive(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

/// Reads -0 as 0, and shifts by one binade too many.
struct Wrong;

impl Subject for Wrong {
    fn widen(&self, format: Format, bits: u32) -> f32 {
        format.widen(bits) + 0.0
    }

    fn shifted(&self, x: f32, shift: Shift) -> f32 {
        2.0 * shifted(x, shift)
    }
}

#[test]
fn mismatches_are_printed_as_patterns_with_their_meaning() {
    let references = References::new();
    let jobs: Vec<_> = jobs(&Wrong, &references)
        .into_iter()
        .filter(|job| job.name().starts_with("E4M3 widened") || job.name().contains("E5M2 shifted"))
        .collect();
    let mut printed = Vec::new();
    let tally = run(&jobs, Slice::WHOLE, &ProgressBar::hidden(), &mut printed).expect("memory");
    assert!(tally.mismatches > 1000);
    let printed = text(&printed);
    let lines: Vec<&str> = printed.lines().collect();
    // The job of many mismatches shows the first five.
    assert!(lines[1].starts_with("E5M2 shifted by every shift: 129280 cases, "), "{printed}");
    let first = "    2^-165 * 0x47200000 (4.096e4) in f32 is 0x00000002 (2.802596928649634e-45) \
                 instead of 0x00000001 (1.401298464324817e-45)";
    assert_eq!(lines[2], first);
    assert!(lines[7].starts_with("E4M3 widened: 512 cases, 9 mismatches, "), "{printed}");
    let gradual = "    Format { encoding: E4M3, subnormals: Gradual }: \
                   0x80 (-0e0) widened to 0x00000000 (0e0) instead of 0x80000000 (-0e0)";
    assert_eq!(lines[8], gradual);
}
