//! Made-up results that have everything a report must cope with.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::results::{CellReport, Gone, Point, Results, RunReport, TaskReport, WeightReport};

pub(super) const FORMATS: [&str; 4] = ["binary16", "binary16-flushing", "e5m2", "e4m3"];
const METHODS: [&str; 8] =
    ["none", "fixed:4", "fixed:12", "fixed:20", "backoff", "amax", "normal", "measured"];
const STEPS: u64 = 2000;

/// Returns two tasks in every format by every method: 99 runs a task.
pub(super) fn results() -> Results {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let tasks =
        [task("digits-deep", "accuracy", 0.94, 24), task("shapes-unet", "mean IoU", 0.7, 14)];
    let mut runs = Vec::new();
    for (task, blocks) in &tasks {
        runs.extend(
            (0..3).map(|seed| Maker { task, blocks: *blocks }.run("f32", "f32", seed, &mut random)),
        );
        for method in METHODS {
            for format in FORMATS {
                let maker = Maker { task, blocks: *blocks };
                runs.extend((0..3).map(|seed| maker.run(method, format, seed, &mut random)));
            }
        }
    }
    Results {
        version: Results::VERSION,
        adaloss: "0.1.0".into(),
        target: "x86_64-linux".into(),
        command: "adaloss-train compare --tasks digits-deep,shapes-unet".into(),
        threads: 2,
        seconds: 1234.5,
        done_before: 0,
        peak_memory_bytes: Some(123 << 20),
        tasks: tasks.into_iter().map(|(task, _)| task).collect(),
        runs,
    }
}

/// Returns how many points fixed:20 ended below f32 in e4m3, where it stopped, with one decimal.
pub(super) fn lost(results: &Results, task: &str) -> String {
    let f32 = results.runs.iter().filter(|run| run.task == task && run.method == "f32");
    let mean = f32.map(|run| run.metric).sum::<f64>() / 3.0;
    format!("{:.1}", 100.0 * (mean - 0.112))
}

fn task(name: &str, metric: &str, target: f64, blocks: usize) -> (TaskReport, usize) {
    let task = TaskReport {
        name: name.into(),
        network: format!("a residual network of {blocks} blocks"),
        parameters: 123_456,
        data: "1797 handwritten digits of 8x8".into(),
        metric: metric.into(),
        target,
        schedule: "2000 steps of 64 samples, SGD with momentum 0.9".into(),
    };
    (task, blocks)
}

struct Maker<'a> {
    task: &'a TaskReport,
    blocks: usize,
}

impl Maker<'_> {
    fn run(&self, method: &str, format: &str, seed: u64, random: &mut impl Rng) -> RunReport {
        // What a seed does to one method it does to all, nearly.
        let noise = [0.004, -0.005, 0.001][seed as usize % 3] + random.random_range(-0.001..0.001);
        let stops = method == "fixed:20" && format == "e4m3";
        let metric = match (method, format) {
            ("fixed:20", "e4m3") => 0.112,
            ("none", "e4m3") => self.task.target - 0.06 + 3.0 * noise,
            ("none", "binary16-flushing") => self.task.target - 0.02 + noise,
            ("fixed:4", "e5m2") => self.task.target - 0.012 + noise,
            _ => self.task.target + 0.02 + noise,
        };
        let steps = if stops { 620 } else { STEPS };
        let sampled: Vec<u64> = (0..100).map(|i| i * STEPS / 100).filter(|&s| s < steps).collect();
        let probed: Vec<u64> = (0..5).map(|i| i * STEPS / 5).filter(|&s| s < steps).collect();
        RunReport {
            task: self.task.name.clone(),
            format: format.into(),
            forward_format: if format.starts_with('e') { "binary16" } else { format }.into(),
            method: method.into(),
            seed,
            period: 10,
            configuration: format!("Config {{ policy: {method}, format: {format}, period: 10 }}"),
            metric,
            steps_to_target: (metric > self.task.target).then(|| 600 + random.random_range(0..500)),
            steps,
            skipped_steps: if method == "backoff" { random.random_range(1..9) } else { 0 },
            recovered_steps: if method == "measured" { random.random_range(0..5) } else { 0 },
            certificates: 20 * self.names().len() as u64,
            broken_promises: if method == "measured" { 3 } else { 0 },
            visits: steps * self.names().len() as u64,
            extra_passes: if method == "measured" { steps } else { 0 },
            seconds: random.random_range(4.0..5.0) * if method == "f32" { 1.0 } else { 1.4 },
            quantity: None,
            stopped: stops.then(|| "overflow in head at scale 2^20".into()),
            curve: curve(metric, steps, stops, random),
            gone: Some(gone(method, format)),
            cells: self.cells(method, format, &sampled, random),
            sampled_steps: sampled,
            weights: self.weights(method, format, probed.len(), random),
            probed_steps: probed,
        }
    }

    /// Returns the tensors in the backward pass: the loss first.
    fn names(&self) -> Vec<String> {
        let blocks = (0..self.blocks).rev().flat_map(|block| {
            ["conv2", "conv1"].map(|conv| format!("stage{}.block{block}.{conv}", 1 + block / 8))
        });
        ["loss", "head"].map(String::from).into_iter().chain(blocks).collect()
    }

    fn cells(
        &self,
        method: &str,
        format: &str,
        steps: &[u64],
        random: &mut impl Rng,
    ) -> Vec<CellReport> {
        if method == "f32" {
            return Vec::new();
        }
        let names = self.names();
        let layers = names.len();
        let cells = names.into_iter().enumerate().map(|(index, name)| {
            let depth = index as f64 / layers as f64;
            let real = underflow(method, format, depth) * random.random_range(0.6..1.4);
            // The ideal exponent grows in the backward pass.
            let ideal = 8 + (16.0 * depth) as i32;
            let scale = |column: usize| match method {
                "none" => 0,
                "backoff" => 16 - (column as i32 / 20) % 4,
                "amax" | "normal" => ideal - 2 + (column as i32 / 25),
                "measured" => ideal + (column as i32 / 12 + index as i32 / 3) % 4,
                fixed => fixed.trim_start_matches("fixed:").parse().unwrap_or(0),
            };
            let scales = (0..steps.len()).map(|i| (index != 5 || i > 10).then(|| scale(i)));
            CellReport {
                name,
                visits: 100,
                windows: 90,
                kept: if real < 0.002 { 88 } else { 20 },
                window_share: 0.9,
                share_kept: if real < 0.002 { 88.0 / 90.0 } else { 20.0 / 90.0 },
                underflow_asked: 0.001,
                underflow_real: real,
                lost_mass: real * real.sqrt(),
                gone_mass: Some(real * real.sqrt()),
                clipped_mass: Some(if method == "fixed:20" { 0.1 } else { 0.0 }),
                subnormal: real * 3.0,
                overflows: u64::from(method == "fixed:20"),
                extra_passes: if method == "measured" { 5 } else { 0 },
                replays: if method == "measured" { 2 } else { 0 },
                measuring_passes: if method == "measured" { 2 } else { 0 },
                scales_log2: scales.collect(),
            }
        });
        cells.collect()
    }

    fn weights(
        &self,
        method: &str,
        format: &str,
        probes: usize,
        random: &mut impl Rng,
    ) -> Vec<WeightReport> {
        if method == "f32" {
            return Vec::new();
        }
        let mut names = self.names();
        names.reverse();
        names.pop();
        let layers = names.len();
        let weights = names.into_iter().enumerate().map(|(index, name)| {
            let depth = 1.0 - index as f64 / layers as f64;
            let error =
                2e-3 + underflow(method, format, depth).sqrt() * random.random_range(0.5..1.0);
            let of =
                |value: f64| (0..probes).map(|i| (index > 0 || i > 0).then_some(value)).collect();
            WeightReport { name, cosine: of(1.0 - error * error / 2.0), relative_l2: of(error) }
        });
        weights.collect()
    }
}

fn gone(method: &str, format: &str) -> Gone {
    let underflow = if method == "f32" { 0.0 } else { underflow(method, format, 0.5) };
    let clipped_mass = if method == "fixed:20" { 0.1 } else { 0.0 };
    Gone { visits: 1000, underflow, lost_mass: underflow * underflow.sqrt(), clipped_mass }
}

fn underflow(method: &str, format: &str, depth: f64) -> f64 {
    let narrow = match format {
        "binary16" => 0.05,
        "e4m3" => 1.0,
        _ => 0.4,
    };
    match method {
        "none" => narrow * 0.5 * depth,
        "fixed:4" => narrow * 0.05 * depth * depth,
        "fixed:12" => 1e-3 * narrow * depth,
        "fixed:20" => 0.0,
        "normal" => 2e-3 * narrow * (1.0 + 10.0 * depth),
        "measured" => 6e-4 * narrow.sqrt(),
        _ => 3e-5 * narrow,
    }
}

fn curve(metric: f64, steps: u64, stops: bool, random: &mut impl Rng) -> Vec<Point> {
    let points = (0..=steps / 100).map(|index| {
        let done = index as f64 / 20.0;
        let loss = 2.3 * (-5.0 * done).exp() + 0.04 + (1.0 - metric).powi(2);
        let loss = loss * random.random_range(0.9..1.1);
        Point {
            step: index * 100,
            loss: (index > 0 && !(stops && index > 4)).then_some(loss),
            metric: metric * (1.0 - (-8.0 * done).exp()) + random.random_range(0.0..0.003),
        }
    });
    points.collect()
}
