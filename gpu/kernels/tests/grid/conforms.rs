//! The conformance suite of the HAL, on launches of every kernel that it has an operation for.

use adaloss_conformance as conformance;
use adaloss_conformance::{self, Failure};
use adaloss_core::format::{E4M3, E5M2, bf16, f16};

use crate::device::Simulated;

#[test]
fn kernels_narrow_to_every_format() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::memory(device)?;
    conformance::narrow::<f16, _>(device)?;
    conformance::narrow::<bf16, _>(device)?;
    conformance::narrow::<E5M2, _>(device)?;
    conformance::narrow::<E4M3, _>(device)?;
    let report = conformance::narrow::<f32, _>(device)?;
    assert!(report.operations > 500, "{report}");
    Ok(())
}

#[test]
fn kernels_decide_like_the_core() -> Result<(), Failure> {
    let report = conformance::decide(&mut Simulated::default())?;
    assert!(report.operations > 10_000, "{report}");
    Ok(())
}

#[test]
fn kernels_take_steps_like_the_core() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::layers::<f16, _>(device, 20, 1)?;
    conformance::layers::<bf16, _>(device, 20, 2)?;
    conformance::layers::<E5M2, _>(device, 20, 3)?;
    let report = conformance::layers::<E4M3, _>(device, 20, 4)?;
    // Measured, narrowed, noted and certified, and finished with those of its configuration.
    assert!(report.operations > 20 * (16 * 4 + 14), "{report}");
    Ok(())
}

/// As many as are to agree on a GPU.
#[test]
#[ignore = "takes some minutes: cargo test --release -p adaloss-kernels -- --ignored"]
fn a_million_layers_are_those_of_the_core() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::layers::<f16, _>(device, 20_000, 11)?;
    conformance::layers::<bf16, _>(device, 20_000, 12)?;
    conformance::layers::<E5M2, _>(device, 11_250, 13)?;
    let report = conformance::layers::<E4M3, _>(device, 11_250, 14)?;
    println!("{report}");
    Ok(())
}

#[test]
fn products_are_sums_in_order() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::matmul::<f16, f16, f16, _>(device)?;
    conformance::matmul::<f16, f16, f32, _>(device)?;
    conformance::matmul::<bf16, bf16, bf16, _>(device)?;
    let report = conformance::matmul::<bf16, bf16, f32, _>(device)?;
    assert!(report.capabilities.sequential_sums && report.operations > 300, "{report}");
    Ok(())
}
