//! The device is core, bit for bit, with either PTX.

use adaloss_core::format::{E4M3, E5M2, bf16, f16};
use adaloss_gpu::Cuda;
use adaloss_hal::{conformance, conformance::Failure};

use crate::open;

fn conforms(device: &mut Cuda) -> Result<(), Failure> {
    conformance::memory(device)?;
    conformance::narrow::<f16, _>(device)?;
    conformance::narrow::<bf16, _>(device)?;
    conformance::narrow::<E5M2, _>(device)?;
    conformance::narrow::<E4M3, _>(device)?;
    conformance::narrow::<f32, _>(device)?;
    conformance::matmul::<f16, f16, f16, _>(device)?;
    conformance::matmul::<f16, f16, f32, _>(device)?;
    conformance::matmul::<bf16, bf16, bf16, _>(device)?;
    conformance::matmul::<bf16, bf16, f32, _>(device)?;
    conformance::decide(device)?;
    conformance::layers::<f16, _>(device, 10, 1)?;
    Ok(())
}

#[test]
fn a_simulated_gpu_conforms() {
    for ordinal in [0, 1] {
        let mut device = open(ordinal).expect("two devices are new enough");
        assert_eq!(device.name().expect("a name"), "simulated grid");
        conforms(&mut device).unwrap_or_else(|failure| panic!("device {ordinal}: {failure}"));
    }
}
