//! Without a driver there is a clear error; with one, the GPU is core, bit for bit.

use adaloss_core::format::{E4M3, E5M2, bf16, f16};
use adaloss_gpu::{Cuda, GpuError};
use adaloss_hal::{Error, ErrorKind, conformance};

#[test]
fn a_gpu_conforms_or_is_said_to_be_missing() {
    match Cuda::new(0) {
        Ok(mut device) => {
            let conforms = |device: &mut Cuda| {
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
                conformance::decide(device)
            };
            conforms(&mut device).expect("the GPU does what core says");
        }
        Err(error @ (GpuError::NoDriver | GpuError::NoDevice { .. })) => {
            assert_eq!(error.kind(), ErrorKind::Hardware);
            let text = error.to_string();
            assert!(text.contains("driver"), "{text}");
        }
        Err(error) => panic!("{error}"),
    }
}
