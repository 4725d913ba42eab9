//! A training step of each published network at its full size, on random images: time and memory in binary16 and E5M2, what adaptive
//! scaling adds to it, and PyTorch's step in f32 in the same run if it is at hand.
//!
//! ```sh
//! cargo bench -p adaloss-train --bench full_size -- --python python3
//! ```
//!
//! Each network has a process of its own, whose greatest memory is what the operating system says; adaptive scaling and none take turns.

use std::{env, fs, ops::Range, path::PathBuf, process::Command, time::Instant};

use adaloss_core::format::{E5M2, Element, Format, f16};
use adaloss_cpu::Cpu;
use adaloss_hal::Plain;
use adaloss_train::{
    cost::cost,
    data::{Batch, Dataset, IGNORED, Input, Inputs, Judged, Object, View},
    layer::NoObserver,
    method::{FormatName, Method},
    model::Model,
    task::Task,
    trainer::{Settings, Trainer},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Networks and the samples of a step, which are the papers' where memory allows: 16 GB are to suffice.
const NETWORKS: [(&str, usize); 9] = [
    ("resnet20", 128),
    ("resnet110", 128),
    ("preresnet164:bottleneck:projected", 128),
    ("vgg16:normalised:small", 128),
    ("resnet18", 32),
    ("resnet50", 32),
    ("segnet:widths=64-64-64-64:kernel=7", 12),
    ("ssd300", 8),
    ("ssd512", 8),
];

/// Times training steps of networks of full size.
#[derive(Parser)]
struct Cli {
    /// Networks, each with its samples of a step behind an @, as resnet18@32; by default all.
    networks: Vec<String>,
    /// Threads of the device.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Steps of each variant that are timed, behind one that is not.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// A Python with torchvision, to time its step of ResNet-18 as well.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Time this network in this format in this process.
    #[arg(long, hide = true, num_args = 2)]
    one: Option<Vec<String>>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Random images of which nothing can be learnt, with labels of the kind that a network learns from.
struct Noise {
    input: Input,
    classes: usize,
    judged: Judged,
    samples: usize,
}

impl Dataset for Noise {
    fn describe(&self) -> String {
        "noise".into()
    }

    fn input(&self) -> Input {
        self.input
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn judged(&self) -> Judged {
        self.judged
    }

    fn train_samples(&self) -> usize {
        self.samples
    }

    fn test_samples(&self) -> usize {
        0
    }

    fn train(&self, chosen: &[usize], _: View) -> Result<Batch> {
        let mut generator = ChaCha8Rng::seed_from_u64(chosen[0] as u64);
        let count = chosen.len() * self.input.values();
        let images = (0..count).map(|_| generator.random_range(-2.0..2.0)).collect();
        let mut batch = Batch::of(Inputs::Images(images), chosen.len());
        if self.judged == Judged::Objects {
            let mut object = || {
                let [left, top] = [0, 1].map(|_| generator.random_range(0.0..0.5_f32));
                let size = generator.random_range(0.1..0.5);
                let class = generator.random_range(0..self.classes as u32);
                Object { class, bounds: [left, top, left + size, top + size], is_difficult: false }
            };
            batch.objects = chosen.iter().map(|_| (0..3).map(|_| object()).collect()).collect();
        } else {
            let count = chosen.len() * self.labels_per_sample();
            let label = |_| generator.random_range(0..self.classes as u32);
            batch.labels = (0..count).map(label).collect();
            debug_assert!(!batch.labels.contains(&IGNORED));
        }
        Ok(batch)
    }

    fn test(&self, _: Range<usize>) -> Result<Batch> {
        Ok(Batch::of(Inputs::Images(Vec::new()), 0))
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    ensure!(cli.steps > 0, "at least one step is needed");
    if let Some(one) = &cli.one {
        let (name, samples) = named(&one[0])?;
        return match &one[1][..] {
            "binary16" => time::<f16>(&cli, &name, samples, Format::BINARY16),
            "e5m2" => time::<E5M2>(&cli, &name, samples, Format::E5M2),
            other => bail!("{other} is no format here"),
        };
    }
    let all = NETWORKS.map(|(name, samples)| format!("{name}@{samples}"));
    let chosen = if cli.networks.is_empty() { all.to_vec() } else { cli.networks.clone() };
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "network",
        "samples",
        "gradients",
        "step s",
        "adaptive adds",
        "peak MiB",
        "of it planned MiB",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for network in &chosen {
        for format in ["binary16", "e5m2"] {
            let row =
                apart(&cli, network, format).with_context(|| format!("{network} in {format}"))?;
            eprintln!("{}", row.join("  "));
            table.add_row(row);
        }
    }
    println!("{} threads\n{table}", cli.threads);
    if let Some(python) = &cli.python {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/torch_resnet18.py");
        let [threads, steps] = [cli.threads, cli.steps].map(|n| n.to_string());
        let status = Command::new(python).args([script, &threads, "32", &steps]).status();
        let status = status.with_context(|| format!("{} cannot be run", python.display()))?;
        ensure!(status.success(), "{script} failed");
    }
    Ok(())
}

/// Reads "resnet18@32".
fn named(text: &str) -> Result<(String, usize)> {
    let (name, samples) = text
        .rsplit_once('@')
        .with_context(|| format!("\"{text}\" is no network with its samples, as resnet18@32"))?;
    let samples = samples.parse().ok().filter(|samples| *samples > 0);
    let samples = samples.with_context(|| format!("the samples of \"{text}\" are no number"))?;
    Ok((name.to_owned(), samples))
}

/// Times a network in a process of its own, and returns what it printed.
fn apart(cli: &Cli, network: &str, format: &str) -> Result<Vec<String>> {
    let [threads, steps] = [cli.threads, cli.steps].map(|n| n.to_string());
    let output = Command::new(env::current_exe()?)
        .args(["--threads", &threads, "--steps", &steps, "--one", network, format])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.trim_end().split('\t').map(str::to_owned).collect())
}

/// Times a network's steps without scaling and with adaptive scaling in turn, and prints a row.
fn time<G: Element + Plain>(cli: &Cli, name: &str, samples: usize, format: Format) -> Result<()> {
    let model: Model = name.parse()?;
    let published = model.published();
    let [height, width] = published.extent;
    let input = Input::Image { height, width, channels: 3 };
    let judged = match model {
        Model::Segnet(_) => Judged::PerPixel,
        Model::Ssd(_) => Judged::Objects,
        _ => Judged::PerSample,
    };
    let dataset = Noise { input, classes: published.classes, judged, samples: 2 * samples };
    let mut task: Task = "digits-resnet".parse()?;
    task.model = model;
    task.schedule.batch = samples;
    task.schedule.learning_rate = 1e-4;
    let planned =
        cost::<f16, G>(&model, (input, published.classes), &task.schedule.optimizer, samples)?;
    let cpu = Cpu::new(cli.threads)?;
    // One after the other, so that the greatest memory is that of one network.
    let mut medians = Vec::new();
    for method in [Method::None, Method::MEASURED, Method::None, Method::MEASURED] {
        let settings = Settings { format: FormatName(format), method, seed: 0, period: 100 };
        let mut trainer = Trainer::<Cpu, f16, G>::new(&task, &dataset, settings, cpu.clone())?;
        trainer.train_step(&mut NoObserver)?; // it allocates, and finds every cell its first scale
        let mut times = Vec::new();
        for _ in 0..cli.steps {
            let start = Instant::now();
            trainer.train_step(&mut NoObserver)?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        medians.push(times[times.len() / 2]);
    }
    let [none, measured] = [0, 1].map(|nth| (medians[nth] + medians[nth + 2]) / 2.0);
    println!(
        "{name}\t{samples}\t{}\t{measured:.2}\t{:+.1} %\t{}\t{}",
        FormatName(format),
        100.0 * (measured / none - 1.0),
        peak().map_or("unknown".into(), |kibi| (kibi >> 10).to_string()),
        planned.step_bytes >> 20,
    );
    Ok(())
}

/// Returns the most kibibytes that this process had, where the operating system says so.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
