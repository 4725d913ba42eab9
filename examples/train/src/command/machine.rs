//! Which device computes, and with which element types: chosen at run time.

use std::{fmt, str::FromStr};

use adaloss_core::{
    format::{Element, Encoding, bf16, f16},
    with_8_bit_element,
};
use adaloss_cpu::Cpu;
#[cfg(feature = "cuda")]
use adaloss_gpu::Cuda;
use adaloss_hal::{Plain, portable::Portable};
use adaloss_train::{layer::Machine, trainer::Settings};
use anyhow::{Context, Result, bail, ensure};

/// The most threads, or runs at a time, that can be asked for.
pub(crate) const MOST_THREADS: usize = 1024;

/// A device by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceName {
    /// The fast one: vector instructions and threads.
    #[default]
    Cpu,
    /// The readable reference: slow, and sums in the order of their index.
    Portable,
    /// A GPU by its number, which is the first where none is named.
    Cuda(usize),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Portable => f.pad("portable"),
            Self::Cuda(0) => f.pad("cuda"),
            Self::Cuda(number) => f.pad(&format!("cuda:{number}")),
        }
    }
}

impl FromStr for DeviceName {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "portable" => Ok(Self::Portable),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                let cuda = number.map(Self::Cuda);
                cuda.with_context(|| {
                    format!("unknown device \"{name}\": one of cpu, portable, cuda, cuda:1")
                })
            }
        }
    }
}

/// Something to do with a device and element types that are known only at run time.
pub(crate) trait Job {
    /// What it returns.
    type Output;

    /// Does it; `device` may be copied for a second network beside the first.
    fn run<D, W, G>(self, device: D) -> Result<Self::Output>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G> + Machine<W, f32> + Clone + Send + Sync;
}

/// Checks what [`dispatch`] would refuse, before anything is opened for it.
///
/// # Errors
///
/// As [`dispatch`].
pub(crate) fn check(device: DeviceName, threads: usize, settings: &Settings) -> Result<()> {
    struct Nothing;
    impl Job for Nothing {
        type Output = ();

        fn run<D, W, G>(self, _: D) -> Result<()>
        where
            W: Element + Plain,
            G: Element + Plain,
            D: Machine<W, G> + Machine<W, f32> + Clone + Send + Sync,
        {
            Ok(())
        }
    }
    dispatch(device, threads, settings, Nothing)
}

/// Does a job on a device that has every format, with the element types that a run holds its tensors in.
macro_rules! in_any_format {
    ($device:expr, $type:ty, $held:expr, $job:expr) => {{
        let (device, held, job) = ($device, $held, $job);
        let [forward, gradient] = held;
        let done = match held {
            [Encoding::Binary16, Encoding::Binary16] => Some(job.run::<$type, f16, f16>(device)),
            [Encoding::BFloat16, Encoding::BFloat16] => Some(job.run::<$type, bf16, bf16>(device)),
            [Encoding::Binary32, Encoding::Binary32] => Some(job.run::<$type, f32, f32>(device)),
            // Blocks of 8 bits, simulated.
            [Encoding::Binary16, Encoding::Binary32] => Some(job.run::<$type, f16, f32>(device)),
            [Encoding::Binary16, _] => {
                with_8_bit_element!(gradient, G => job.run::<$type, f16, G>(device))
            }
            _ => None,
        };
        done.unwrap_or_else(|| {
            bail!(
                "no network is compiled with activations in {forward:?} and gradients in {gradient:?}"
            )
        })
    }};
}

/// Does a job on a device with the element types that a run holds its tensors in.
///
/// # Errors
///
/// The device cannot be had, no network computes in these formats, or what the job returned.
pub(crate) fn dispatch<J: Job>(
    device: DeviceName,
    threads: usize,
    settings: &Settings,
    job: J,
) -> Result<J::Output> {
    ensure!(threads <= MOST_THREADS, "{threads} threads are more than {MOST_THREADS}");
    match device {
        DeviceName::Cpu => in_any_format!(Cpu::new(threads)?, Cpu, settings.held(), job),
        DeviceName::Cuda(number) => on_cuda(number, settings.held(), job),
        DeviceName::Portable => on_portable(settings, job),
    }
}

/// Does a job on the portable device, which is here to compare with: in the formats that say most.
fn on_portable<J: Job>(settings: &Settings, job: J) -> Result<J::Output> {
    let format = settings.format;
    match settings.held() {
        [Encoding::Binary16, Encoding::Binary16] => job.run::<Portable, f16, f16>(Portable),
        [Encoding::Binary32, Encoding::Binary32] => job.run::<Portable, f32, f32>(Portable),
        _ => bail!(
            "the portable device trains in binary16 and f32, not in {format}: use --device cpu"
        ),
    }
}

/// Without the feature there is no GPU to compute on.
#[cfg(not(feature = "cuda"))]
fn on_cuda<J: Job>(_: usize, _: [Encoding; 2], _: J) -> Result<J::Output> {
    bail!(
        "this program was built without CUDA: cargo build --release -p adaloss-train --features cuda builds it with \
         NVIDIA's GPUs"
    )
}

#[cfg(feature = "cuda")]
fn on_cuda<J: Job>(number: usize, held: [Encoding; 2], job: J) -> Result<J::Output> {
    let cuda = Cuda::new(number).with_context(|| format!("GPU {number}"))?;
    in_any_format!(cuda, Cuda, held, job)
}
