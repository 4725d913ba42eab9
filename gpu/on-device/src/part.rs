//! The parts: in which order, how long each may take, and what each does in its process.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use adaloss_gpu::Cuda;
use adaloss_on_device::entries::{self, Sizes};
use anyhow::Context;
use clap::ValueEnum;
use cudarc::driver::{CudaContext, sys};
use serde_json::{Value, json};

use crate::{
    Options, decisions, lists, network, products,
    rows::Rows,
    streams::{self, Pass, Streams},
    suites,
    supervise::Limits,
};

/// A part, in the order in which they are run: first what is short and says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The device, how long the driver loads and compiles, and every entry point once on one block
    Load,
    /// How long it takes in a process that finds the driver's copy of what was compiled
    Reload,
    /// Every entry point under compute-sanitizer: memory
    Memcheck,
    /// Every entry point under compute-sanitizer: barriers
    Synccheck,
    /// Every entry point under compute-sanitizer: races in shared memory
    Racecheck,
    /// The conformance suite, and a thousand visits
    Conformance,
    /// Kernels that stream through memory
    Streams,
    /// Layers that decide
    Decisions,
    /// All tensors of a model in one launch
    Lists,
    /// Products on tensor cores
    Products,
    /// Convolutions in three directions, attention, and products tile by tile
    Network,
    /// What PyTorch and cuBLAS take
    Peers,
    /// Six kernels under ncu
    Profile,
    /// A million visits of scalers
    Layers,
    /// Whether a tool can work with this GPU
    #[value(hide = true)]
    Probe,
    /// The six kernels that are profiled
    #[value(hide = true)]
    Kernels,
}

impl Part {
    pub(crate) const ALL: &[Self] = &[
        Self::Load,
        Self::Reload,
        Self::Memcheck,
        Self::Synccheck,
        Self::Racecheck,
        Self::Conformance,
        Self::Streams,
        Self::Decisions,
        Self::Lists,
        Self::Products,
        Self::Network,
        Self::Peers,
        Self::Profile,
        Self::Layers,
    ];

    /// The name in the results.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Seconds after which a row is given up: while the part prepares itself, and behind that; and all of them.
    ///
    /// They are several times what an H200 should take, and yet leave room for some rows that hang. What all parts take
    /// together is bounded by `--minutes`.
    const fn seconds(self) -> [u64; 3] {
        match self {
            // The driver compiles two megabytes of text.
            Self::Load => [40, 5, 90],
            Self::Reload => [40, 5, 40],
            Self::Memcheck | Self::Synccheck | Self::Racecheck => [60, 10, 80],
            Self::Conformance => [20, 15, 80],
            Self::Streams => [20, 10, 70],
            Self::Decisions | Self::Lists => [15, 5, 25],
            Self::Products | Self::Network => [20, 5, 50],
            // To import PyTorch alone may take half a minute.
            Self::Peers => [40, 10, 80],
            Self::Profile => [40, 30, 80],
            Self::Layers => [20, 20, 120],
            Self::Probe | Self::Kernels => [30, 10, 30],
        }
    }

    /// Rows at the beginning of a part that prepare the others: to open the device, and to load the kernels.
    const fn preparing_rows(self) -> usize {
        match self {
            Self::Load | Self::Reload | Self::Memcheck | Self::Synccheck | Self::Racecheck => 3,
            _ => 0,
        }
    }

    /// What the part may take.
    pub(crate) fn limits(self, options: &Options) -> Limits {
        let [preparation, row, part] = self.seconds().map(Duration::from_secs);
        let row = options.row_seconds.map_or(row, Duration::from_secs);
        Limits { preparation, preparing_rows: self.preparing_rows(), row, part: part.max(row) }
    }

    /// Runs the part in this process.
    pub(crate) fn run(self, rows: &Path, skip: usize, options: &Options) -> anyhow::Result<()> {
        // The program that watches this one may be killed. Under a tool, which may start it from a thread that ends, the
        // signal would come at any time.
        #[cfg(target_os = "linux")]
        if options.dies_with_parent {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
                .context("cannot die with its parent")?;
        }
        let (rows, elements) = (&mut Rows::open(rows, skip)?, options.elements());
        match self {
            Self::Load => {
                let device = &mut load(rows)?;
                entries::run(device, Sizes::ONE_BLOCK, &mut |name, work| rows.row(name, work))
            }
            Self::Reload => load(rows).map(drop),
            Self::Probe => rows.row("probe", || {
                let context = CudaContext::new(0).context("the driver refused a context")?;
                let stream = context.default_stream();
                let zeros =
                    stream.alloc_zeros::<u8>(1 << 20).context("the driver refused memory")?;
                let mut read = vec![1; 1 << 20];
                stream.memcpy_dtoh(&zeros, &mut read).context("the driver refused a copy")?;
                stream.synchronize().context("the device failed")?;
                anyhow::ensure!(read.iter().all(|&byte| byte == 0), "zeros are none");
                Ok(Value::Null)
            }),
            Self::Conformance => suites::run(
                rows,
                &mut Cuda::new(0)?,
                if options.trial { 64 } else { 1000 },
                options.trial,
            ),
            Self::Streams => {
                streams::run(rows, &mut Cuda::new(0)?, elements, if options.trial { 2 } else { 10 })
            }
            Self::Decisions => decisions::run(rows, &mut Cuda::new(0)?, elements),
            Self::Lists => {
                lists::run(rows, &mut Cuda::new(0)?, lists::WIDTHS[usize::from(options.trial)])
            }
            Self::Products => products::run(rows, &mut Cuda::new(0)?, options.trial),
            Self::Network => network::run(rows, &mut Cuda::new(0)?, options.trial),
            Self::Kernels => kernels(rows, &mut Cuda::new(0)?, elements.min(1 << 26)),
            Self::Layers => {
                let (visits, per_row) = if options.trial { (64, 32) } else { (1_000_000, 20_000) };
                suites::layers(rows, &mut Cuda::new(0)?, visits, per_row)
            }
            Self::Memcheck | Self::Synccheck | Self::Racecheck | Self::Peers | Self::Profile => {
                anyhow::bail!("{} is another program's", self.name())
            }
        }
    }
}

/// Opens the device, as rows: what it is, and how long the driver takes to load the kernels, and to compile them.
fn load(rows: &mut Rows) -> anyhow::Result<Cuda> {
    let mut device = None;
    rows.row("device", || {
        // SAFETY: it looks for the library, as the first call of the driver would.
        let is_there = unsafe { sys::is_culib_present() };
        anyhow::ensure!(is_there, "the CUDA driver is not installed: no libcuda was found");
        let began = Instant::now();
        let context = CudaContext::new(0).context("the driver refused a context")?;
        let seconds = began.elapsed().as_secs_f64();
        let (major, minor) = context.compute_capability().context("its capability")?;
        let mut version = 0;
        // SAFETY: it writes a number.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().context("its version")?;
        let multiprocessors = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        Ok(json!({
            "name": context.name().context("its name")?,
            "capability": format!("{major}.{minor}"),
            "multiprocessors": context.attribute(multiprocessors).context("its multiprocessors")?,
            "memory_bytes": context.total_mem().context("its memory")?,
            "cuda": format!("{}.{}", version / 1000, version % 1000 / 10),
            "driver": driver(),
            "context_seconds": seconds,
        }))
    })?;
    rows.row("kernels", || {
        let context = CudaContext::new(0).context("the driver refused a context")?;
        let stream = context.new_stream().context("the driver refused a stream")?;
        let began = Instant::now();
        let opened = Cuda::on(stream)?;
        let seconds = began.elapsed().as_secs_f64();
        let resident: serde_json::Map<_, _> =
            opened.resident().map(|(name, blocks)| (name.to_owned(), blocks.into())).collect();
        let is_compiled = opened.is_compiled();
        device = Some(opened);
        Ok(json!({
            "load_seconds": seconds,
            "compiled_by_driver": is_compiled,
            "blocks_per_multiprocessor": resident,
        }))
    })?;
    rows.row("text", || {
        let context = CudaContext::new(0).context("the driver refused a context")?;
        let stream = context.new_stream().context("the driver refused a stream")?;
        let began = Instant::now();
        Cuda::compiled_on(stream)?;
        Ok(json!({ "compile_seconds": began.elapsed().as_secs_f64() }))
    })?;
    // Where these rows were left out, it is opened all the same.
    device.map_or_else(|| Ok(Cuda::new(0)?), Ok)
}

/// Returns the version of the driver, as its own tool or the kernel's module says it.
fn driver() -> Option<String> {
    let smi = Command::new("nvidia-smi")
        .args(["--query-gpu=driver_version", "--format=csv,noheader"])
        .output();
    let said = smi.ok().filter(|smi| smi.status.success());
    let said = said.map(|smi| {
        String::from_utf8_lossy(&smi.stdout).lines().next().unwrap_or_default().to_owned()
    });
    said.filter(|said| !said.is_empty()).or_else(|| {
        let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
        text.lines().next().map(str::to_owned)
    })
}

/// Runs the kernels that are profiled, once each.
fn kernels(rows: &mut Rows, device: &mut Cuda, elements: usize) -> anyhow::Result<()> {
    let mut streams = Streams::new(device, elements)?;
    let passes =
        [Pass::Apply, Pass::ApplyAndMeasure, Pass::Statistics, Pass::Unscale, Pass::Update];
    for pass in passes {
        rows.row(pass.name(), || {
            streams.launch(device, pass)?;
            device.stream().synchronize().context("the device failed")?;
            Ok(Value::Null)
        })?;
    }
    rows.row("product", || products::once(device, if elements < 1 << 20 { 20 } else { 4096 }))
}
