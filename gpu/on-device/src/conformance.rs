//! The suite of the HAL for a GPU, part by part, and random steps of scalers.

use adaloss_conformance as conformance;
use adaloss_conformance::{self, Failure, Report};
use adaloss_core::{
    format::{E4M3, E5M2, Element, bf16, f16},
    policy::Config,
};
use adaloss_gpu::Cuda;
use adaloss_hal::{HasMatmul, HasNarrow, Plain, portable::Portable};

use crate::steps::{self, Model};

/// A part of the suite, by its name.
pub type Suite = (&'static str, fn(&mut Cuda) -> Result<Report, Failure>);

/// All parts.
pub const SUITES: [Suite; 27] = [
    ("memory", |device| conformance::memory(device)),
    ("narrow binary16", |device| conformance::narrow::<f16, _>(device)),
    ("narrow bfloat16", |device| conformance::narrow::<bf16, _>(device)),
    ("narrow E5M2", |device| conformance::narrow::<E5M2, _>(device)),
    ("narrow E4M3", |device| conformance::narrow::<E4M3, _>(device)),
    ("narrow binary32", |device| conformance::narrow::<f32, _>(device)),
    ("matmul binary16", |device| conformance::matmul::<f16, f16, f16, _>(device)),
    ("matmul binary16 to binary32", |device| conformance::matmul::<f16, f16, f32, _>(device)),
    ("matmul bfloat16", |device| conformance::matmul::<bf16, bf16, bf16, _>(device)),
    ("matmul bfloat16 to binary32", |device| conformance::matmul::<bf16, bf16, f32, _>(device)),
    ("matmul binary32", |device| conformance::matmul::<f32, f32, f32, _>(device)),
    ("matmul binary32, binary16", |device| conformance::matmul::<f32, f16, f32, _>(device)),
    ("matmul E5M2, binary16", |device| conformance::matmul::<E5M2, f16, E5M2, _>(device)),
    ("matmul E4M3, bfloat16 to binary32", |device| {
        conformance::matmul::<E4M3, bf16, f32, _>(device)
    }),
    ("scaler binary16", |device| conformance::scaler::<f16, _>(device)),
    ("scaler E4M3", |device| conformance::scaler::<E4M3, _>(device)),
    ("described binary16", |device| conformance::described::<f16, _>(device)),
    ("pointwise E4M3, E5M2", |device| conformance::pointwise::<E4M3, E5M2, _>(device)),
    ("accumulate", |device| conformance::accumulate(device)),
    ("loss", |device| conformance::loss(device)),
    ("update", |device| conformance::update(device)),
    ("network binary16", |device| conformance::network::<f16, f16, _>(device)),
    ("network bfloat16", |device| conformance::network::<bf16, bf16, _>(device)),
    ("network binary16, E5M2", |device| conformance::network::<f16, E5M2, _>(device)),
    ("network E4M3, E5M2", |device| conformance::network::<E4M3, E5M2, _>(device)),
    ("network binary32", |device| conformance::network::<f32, f32, _>(device)),
    ("embed binary16", |device| conformance::embed::<f16, f16, _>(device)),
];

/// Runs every part, whatever becomes of the others.
pub fn run(device: &mut Cuda) -> impl Iterator<Item = (&'static str, Result<Report, Failure>)> {
    SUITES.into_iter().map(move |(name, suite)| (name, suite(device)))
}

/// Takes so many steps of six visits, of which another seed gives others: one after the other binary16, E4M3, bfloat16 and E5M2,
/// under one policy after the other.  Returns how many visits agreed with the portable device's.
///
/// # Errors
///
/// The first difference.
pub fn steps(device: &mut Cuda, steps: u32, seed: u32) -> Result<u64, String> {
    match seed % 4 {
        0 => multiplying::<f16>(device, steps, seed),
        1 => narrowing::<E4M3>(device, steps, seed),
        2 => multiplying::<bf16>(device, steps, seed),
        _ => narrowing::<E5M2>(device, steps, seed),
    }
}

/// Returns the configuration of a seed.
fn config<F: Element>(seed: u32) -> Result<Config, String> {
    let all = steps::configurations(F::ENCODING.into()).map_err(|error| error.to_string())?;
    Ok(all[(seed / 4) as usize % all.len()])
}

fn multiplying<F: Element + Plain>(device: &mut Cuda, steps: u32, seed: u32) -> Result<u64, String>
where
    Cuda: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
    Portable: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
{
    let config = config::<F>(seed)?;
    let found = Model::with_products(device, config, seed).map_err(|error| error.to_string())?;
    let expected = Model::with_products(&mut Portable, config, seed);
    steps::agree::<F, _>(device, found, expected.map_err(|error| error.to_string())?, steps)
}

fn narrowing<F: Element + Plain>(device: &mut Cuda, steps: u32, seed: u32) -> Result<u64, String>
where
    Portable: HasNarrow<F>,
{
    let config = config::<F>(seed)?;
    let found = Model::new(device, config, seed).map_err(|error| error.to_string())?;
    let expected = Model::new(&mut Portable, config, seed);
    steps::agree::<F, _>(device, found, expected.map_err(|error| error.to_string())?, steps)
}
