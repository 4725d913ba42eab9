//! The suite of the HAL for a GPU, part by part.

use adaloss_conformance as conformance;
use adaloss_conformance::{self, Failure, Report};
use adaloss_core::format::{E4M3, E5M2, bf16, f16};
use adaloss_gpu::Cuda;

/// A part of the suite, by its name; given so many steps of 16 random layers, where it takes steps.
pub type Suite = (&'static str, fn(&mut Cuda, u32) -> Result<Report, Failure>);

/// All parts.
pub const SUITES: [Suite; 13] = [
    ("memory", |device, _| conformance::memory(device)),
    ("narrow binary16", |device, _| conformance::narrow::<f16, _>(device)),
    ("narrow bfloat16", |device, _| conformance::narrow::<bf16, _>(device)),
    ("narrow E5M2", |device, _| conformance::narrow::<E5M2, _>(device)),
    ("narrow E4M3", |device, _| conformance::narrow::<E4M3, _>(device)),
    ("narrow binary32", |device, _| conformance::narrow::<f32, _>(device)),
    ("matmul binary16", |device, _| conformance::matmul::<f16, f16, f16, _>(device)),
    ("matmul binary16 to binary32", |device, _| conformance::matmul::<f16, f16, f32, _>(device)),
    ("matmul bfloat16", |device, _| conformance::matmul::<bf16, bf16, bf16, _>(device)),
    ("matmul bfloat16 to binary32", |device, _| conformance::matmul::<bf16, bf16, f32, _>(device)),
    ("decide", |device, _| conformance::decide(device)),
    ("layers binary16", |device, steps| conformance::layers::<f16, _>(device, steps, 1)),
    ("layers E4M3", |device, steps| conformance::layers::<E4M3, _>(device, steps, 2)),
];

/// Runs every part, whatever becomes of the others.
pub fn run(
    device: &mut Cuda,
    steps: u32,
) -> impl Iterator<Item = (&'static str, Result<Report, Failure>)> {
    SUITES.into_iter().map(move |(name, suite)| (name, suite(device, steps)))
}

/// Runs so many steps of 16 random layers in binary16 or in E4M3; another seed gives other layers.
///
/// # Errors
///
/// The first difference.
pub fn layers(device: &mut Cuda, steps: u32, seed: u32) -> Result<Report, Failure> {
    match seed % 2 {
        0 => conformance::layers::<f16, _>(device, steps, seed),
        _ => conformance::layers::<E4M3, _>(device, steps, seed),
    }
}
