//! Images per second that are read for training, ImageNet's at 224x224 and Pascal VOC's as SSD sees them at 300x300, beside torchvision's in
//! the same run.
//!
//! ```sh
//! cargo bench -p adaloss-datasets --bench read -- --python python3
//! ```
//!
//! Without `--imagenet` and `--voc`, folders with the published data, images are generated: 500 by 500 pixels or a little less, in JPEG files of
//! some 100 kB, about as large as ImageNet's.  Passes take turns, so that whatever else the machine does falls on both; the first of each is not
//! counted, since it finds no file in the system's cache.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use adaloss_datasets::{
    Dataset, View, detection,
    generate::{Format, generate},
    imagenet::{self, Imagenet},
    loader::{Loader, Options, Request},
    scenes::Plan,
    voc,
};
use anyhow::{Context, Result, ensure};
use clap::Parser;

/// Times reading.
#[derive(Parser)]
struct Cli {
    /// Threads that read here, and worker processes there.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Images in a batch.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Passes that are counted, of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Images that are generated of each kind.
    #[arg(long, default_value_t = 192)]
    images: usize,
    /// A folder of ImageNet.
    #[arg(long, value_name = "DIR")]
    imagenet: Option<PathBuf>,
    /// A folder of Pascal VOC 2007 and 2012, with VOCdevkit in it.
    #[arg(long, value_name = "DIR")]
    voc: Option<PathBuf>,
    /// Images of a pass at most: those that come first in the order of the epoch, and all there.
    #[arg(long, default_value_t = 4096)]
    most: usize,
    /// A Python with torchvision, to time as well.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    ensure!(cli.rounds > 0 && cli.batch > 0, "at least one round and one image are needed");
    let generated = tempfile::tempdir()?;
    let folder = |given: &Option<PathBuf>, format: Format| {
        if let Some(given) = given {
            return Ok(given.clone());
        }
        let folder = generated.path().join(format.to_string());
        let plan = Plan { size: 500, train: cli.images, test: 1, seed: 0 };
        generate(format, &folder, plan).map(|()| folder)
    };
    let images = folder(&cli.imagenet, Format::Imagenet)?;
    let imagenet = Imagenet::open(&images, imagenet::Options::default())?;
    compare(&cli, "imagenet", &images, Arc::new(imagenet))?;
    let objects = folder(&cli.voc, Format::Voc)?;
    let voc = voc::open(&objects, detection::Options::default())?;
    compare(&cli, "voc", &objects, Arc::new(voc))
}

/// Times passes over the training images of a data set, in turns with torchvision's.
fn compare(cli: &Cli, kind: &str, folder: &Path, dataset: Arc<dyn Dataset>) -> Result<()> {
    println!("{kind}: {}", dataset.describe());
    let options = Options { threads: cli.threads, ahead: 4 };
    let loader = Loader::new(Arc::clone(&dataset), options)?;
    let mut peer = cli.python.as_ref().map(|python| Peer::start(python, kind, folder, cli));
    let mut peer = peer.take().transpose()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=cli.rounds {
        let rate = pass(cli, &loader, &*dataset, round as u64)?;
        let peer = peer.as_mut().map(Peer::pass).transpose()?;
        // The first fills the system's cache.
        if round > 0 {
            ours.push(rate);
            theirs.extend(peer);
        }
    }
    println!("  adaloss-datasets, {} threads: {}", cli.threads, rates(&ours));
    if let Some(peer) = peer {
        println!("  {}: {}", peer.name, rates(&theirs));
        let ratios: Vec<f64> =
            ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        println!("  ours over theirs, round by round: median {:.2}", median(&ratios));
    }
    Ok(())
}

/// Reads an epoch, and returns the images per second.
fn pass(cli: &Cli, loader: &Loader, dataset: &dyn Dataset, epoch: u64) -> Result<f64> {
    let view = View { seed: 0, epoch };
    let mut order = view.order(dataset.train_samples());
    order.truncate(cli.most);
    let request = |chosen: &[usize]| Request::Train { chosen: chosen.to_vec(), view };
    let requests: Vec<Request> = order.chunks(cli.batch).map(request).collect();
    let start = Instant::now();
    for (nth, request) in requests.iter().enumerate() {
        loader.take(request, requests[nth + 1..].iter().take(4).cloned())?;
    }
    Ok(order.len() as f64 / start.elapsed().as_secs_f64())
}

/// torchvision in a process of its own.
struct Peer {
    name: String,
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path, kind: &str, folder: &Path, cli: &Cli) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/torchvision_read.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(kind)
            .arg(folder)
            .args([cli.threads, cli.batch].map(|n| n.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be run", python.display()))?;
        let asks = process.stdin.take().context("no standard input")?;
        let answers = BufReader::new(process.stdout.take().context("no standard output")?);
        let mut peer = Self { name: String::new(), process, asks, answers };
        peer.name = peer.line()?;
        Ok(peer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "torchvision's process ended; what is wrong stands above");
        Ok(line.trim().to_owned())
    }

    /// Has a pass done, and returns the images per second.
    fn pass(&mut self) -> Result<f64> {
        writeln!(self.asks, "go")?;
        let line = self.line()?;
        let numbers = line.split_once(' ').context("torchvision's process said something else")?;
        let (images, seconds): (f64, f64) = (numbers.0.parse()?, numbers.1.parse()?);
        Ok(images / seconds)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn rates(rates: &[f64]) -> String {
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    format!("median {:.1} images per second, {least:.1} to {most:.1}", median(rates))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
