//! The time of one training step of ResNet-20 at CIFAR shape: f32, binary16 without scaling, adaptive
//! scaling without certificates and with one of each tensor in so many steps, and PyTorch's f32 in the same
//! run if it is at hand.
//!
//! A scale follows from what narrowing counts anyhow; what costs is a replay where a tensor overflows, and
//! a certificate, for which every result is counted once more.  Both are counted beside the times.
//!
//! ```sh
//! cargo bench -p adaloss-train --bench step -- --python python3
//! ```
//!
//! Variants take turns, so that whatever else the machine does falls on all of them.

use std::{
    ops::Range,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use adaloss_core::{
    format::{Element, Format, f16},
    policy::Config,
    scaler::Totals,
};
use adaloss_cpu::Cpu;
use adaloss_hal::Plain;
use adaloss_train::{
    data::{Batch, Dataset, Input, Inputs, Judged, View},
    layer::{Machine, NoObserver},
    method::{FormatName, Method},
    schedule::ScheduleArgs,
    task::Task,
    trainer::{Settings, Trainer},
};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Times training steps of a residual network at CIFAR shape.
#[derive(Parser)]
struct Cli {
    /// Threads of the device.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Images in a step.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Steps of each variant that are timed.
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// Steps that a variant does before it is another one's turn.
    #[arg(long, default_value_t = 10)]
    turn: usize,
    /// A Python with PyTorch, to time its step as well.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Random pixels in the shape of CIFAR-10; nothing can be learnt from them.
struct Noise {
    pixels: Vec<f32>,
    labels: Vec<u32>,
}

const PIXELS: usize = 32 * 32 * 3;

impl Noise {
    fn new(samples: usize) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(0);
        let pixels = (0..samples * PIXELS).map(|_| generator.random_range(-2.0..2.0)).collect();
        let labels = (0..samples).map(|_| generator.random_range(0..10)).collect();
        Self { pixels, labels }
    }
}

impl Dataset for Noise {
    fn describe(&self) -> String {
        "noise in the shape of CIFAR-10".into()
    }

    fn input(&self) -> Input {
        Input::Image { height: 32, width: 32, channels: 3 }
    }

    fn classes(&self) -> usize {
        10
    }

    fn judged(&self) -> Judged {
        Judged::PerSample
    }

    fn train_samples(&self) -> usize {
        self.labels.len()
    }

    fn test_samples(&self) -> usize {
        0
    }

    fn train(&self, chosen: &[usize], _: View) -> Result<Batch> {
        let pixels = chosen.iter().flat_map(|&i| &self.pixels[i * PIXELS..(i + 1) * PIXELS]);
        Ok(Batch {
            labels: chosen.iter().map(|&i| self.labels[i]).collect(),
            ..Batch::of(Inputs::Images(pixels.copied().collect()), chosen.len())
        })
    }

    fn test(&self, _: Range<usize>) -> Result<Batch> {
        Ok(Batch::of(Inputs::Images(Vec::new()), 0))
    }
}

/// A trainer whose steps are timed in turn with those of other variants.
trait TimedStep {
    fn step(&mut self) -> Result<()>;

    /// Returns what happened so far.
    fn totals(&self) -> Totals;
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> TimedStep for Trainer<'_, D, W, G> {
    fn step(&mut self) -> Result<()> {
        let stepped = self.train_step(&mut NoObserver)?;
        ensure!(stepped.loss.is_finite(), "the network diverged: nothing to time");
        Ok(())
    }

    fn totals(&self) -> Totals {
        self.totals()
    }
}

/// A variant and the times of its steps.
struct Variant<'a> {
    name: &'static str,
    trainer: Box<dyn TimedStep + 'a>,
    times: Vec<Duration>,
    /// What happened before anything was timed.
    before: Totals,
}

impl Variant<'_> {
    fn mean(&self) -> f64 {
        self.times.iter().sum::<Duration>().as_secs_f64() / self.times.len() as f64
    }

    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    ensure!(cli.turn > 0 && cli.steps >= cli.turn, "at least one turn is needed");
    let dataset = Noise::new(4 * cli.batch);
    let mut task: Task = "digits-resnet".parse()?;
    task.model = "resnet20".parse()?;
    let schedule =
        ScheduleArgs { batch: Some(cli.batch), learning_rate: Some(0.01), ..Default::default() };
    task.schedule = schedule.apply(task.schedule);
    println!("{}, batches of {}, {} threads", task.model, cli.batch, cli.threads);

    let mut variants = variants(&cli, &task, &dataset)?;
    for variant in &mut variants {
        variant.trainer.step()?; // the first step allocates, and finds every cell its first scale
        variant.before = variant.trainer.totals();
    }
    for _ in 0..cli.steps / cli.turn {
        for variant in &mut variants {
            for _ in 0..cli.turn {
                let start = Instant::now();
                variant.trainer.step()?;
                variant.times.push(start.elapsed());
            }
        }
    }
    print(&variants, &cli)
}

fn variants<'a>(cli: &Cli, task: &'a Task, dataset: &'a Noise) -> Result<Vec<Variant<'a>>> {
    let cpu = Cpu::new(cli.threads)?;
    let settings = |method, format, period| Settings { format, method, seed: 0, period };
    let f32_format = FormatName(Format::BINARY32);
    let baseline = settings(Method::F32, f32_format, Config::NEVER);
    let baseline = Trainer::<Cpu, f32, f32>::new(task, dataset, baseline, cpu.clone())?;
    let mut variants = vec![variant("f32", Box::new(baseline))];
    let binary16 = FormatName(Format::BINARY16);
    let mixed = [
        (Method::None, Config::NEVER, "binary16 without scaling"),
        (Method::MEASURED, Config::NEVER, "binary16 measured, no certificates"),
        (Method::MEASURED, 100, "binary16 measured, certificates every 100 steps"),
        (Method::MEASURED, 10, "binary16 measured, certificates every 10 steps"),
        (Method::MEASURED, 1, "binary16 measured, certificates in every step"),
    ];
    for (method, period, name) in mixed {
        let settings = settings(method, binary16, period);
        let trainer = Trainer::<Cpu, f16, f16>::new(task, dataset, settings, cpu.clone())?;
        variants.push(variant(name, Box::new(trainer)));
    }
    Ok(variants)
}

fn variant<'a>(name: &'static str, trainer: Box<dyn TimedStep + 'a>) -> Variant<'a> {
    Variant { name, trainer, times: Vec::new(), before: Totals::default() }
}

fn print(variants: &[Variant<'_>], cli: &Cli) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "step",
        "median s",
        "mean s",
        "mean against no scaling",
        "replayed",
        "certificates",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let unscaled = variants[1].mean();
    for variant in variants {
        let extra = 100.0 * (variant.mean() / unscaled - 1.0);
        let (before, after) = (variant.before, variant.trainer.totals());
        table.add_row([
            variant.name.to_owned(),
            format!("{:.3}", variant.median()),
            format!("{:.3}", variant.mean()),
            format!("{extra:+.1} %"),
            (after.recovered - before.recovered).to_string(),
            (after.certificates - before.certificates).to_string(),
        ]);
    }
    println!("{table}");
    if let Some(python) = &cli.python {
        let seconds = torch(python, cli)?;
        let [ours, f32_ours] = [3, 0].map(|i| variants[i].median());
        println!("PyTorch's f32 step in the same run: median {seconds:.3} s");
        println!(
            "ours over PyTorch's: {:.2} adaptive, {:.2} f32",
            ours / seconds,
            f32_ours / seconds
        );
    }
    Ok(())
}

/// Times PyTorch's step.
fn torch(python: &PathBuf, cli: &Cli) -> Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/torch_resnet20.py");
    let [threads, batch] = [cli.threads, cli.batch].map(|n| n.to_string());
    let output = Command::new(python).args([script, &threads, &batch]).output();
    let output = output.with_context(|| format!("{} cannot be run", python.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    print!("{printed}");
    let seconds = printed.lines().find_map(|line| line.strip_prefix("median "));
    seconds.and_then(|line| line.trim_end_matches(" s").parse().ok()).context("no time was printed")
}
