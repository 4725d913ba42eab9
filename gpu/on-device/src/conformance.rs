//! The suite of the HAL for a GPU, part by part.

use adaloss_core::format::{E4M3, E5M2, bf16, f16};
use adaloss_gpu::Cuda;
use adaloss_hal::conformance::{self, Failure, Report};
use serde_json::{Value, json};

/// A part of the suite, and what came of it.
pub type Part = (&'static str, Result<Report, Failure>);

/// Runs every part, whatever becomes of the others, the last ones with so many steps of 16 random layers.
pub fn run(device: &mut Cuda, steps: u32) -> Vec<Part> {
    vec![
        ("memory", conformance::memory(device)),
        ("narrow binary16", conformance::narrow::<f16, _>(device)),
        ("narrow bfloat16", conformance::narrow::<bf16, _>(device)),
        ("narrow E5M2", conformance::narrow::<E5M2, _>(device)),
        ("narrow E4M3", conformance::narrow::<E4M3, _>(device)),
        ("narrow binary32", conformance::narrow::<f32, _>(device)),
        ("matmul binary16", conformance::matmul::<f16, f16, f16, _>(device)),
        ("matmul binary16 to binary32", conformance::matmul::<f16, f16, f32, _>(device)),
        ("matmul bfloat16", conformance::matmul::<bf16, bf16, bf16, _>(device)),
        ("matmul bfloat16 to binary32", conformance::matmul::<bf16, bf16, f32, _>(device)),
        ("decide", conformance::decide(device)),
        ("layers binary16", conformance::layers::<f16, _>(device, steps, 1)),
        ("layers E4M3", conformance::layers::<E4M3, _>(device, steps, 2)),
    ]
}

/// Runs what takes no time: for a trial of the program.
pub fn trial(device: &mut Cuda) -> Vec<Part> {
    vec![
        ("memory", conformance::memory(device)),
        ("layers binary16", conformance::layers::<f16, _>(device, 4, 1)),
    ]
}

/// Writes what agreed, or the first difference.
pub fn report(parts: &[Part]) -> Value {
    let of = |(part, result): &Part| match result {
        Ok(Report { operations, refusals, elements, .. }) => json!({
            "part": part, "operations": operations, "refusals": refusals, "elements": elements,
        }),
        Err(failure) => json!({ "part": part, "difference": failure.to_string() }),
    };
    parts.iter().map(of).collect()
}
