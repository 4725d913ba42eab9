//! Without a driver there is a clear error; with one, the GPU is core, bit for bit.

use adaloss_gpu::{Cuda, GpuError};
use adaloss_hal::{Error, ErrorKind};
use adaloss_on_device::conformance;

#[test]
fn a_gpu_conforms_or_is_said_to_be_missing() {
    match Cuda::new(0) {
        Ok(mut device) => {
            for (part, result) in conformance::run(&mut device) {
                result.unwrap_or_else(|failure| panic!("{part}: {failure}"));
            }
            for seed in 0..28 {
                let agreed = conformance::steps(&mut device, 40, seed);
                agreed.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            }
        }
        Err(error @ (GpuError::NoDriver | GpuError::NoDevice { .. })) => {
            assert_eq!(error.kind(), ErrorKind::Hardware);
            let text = error.to_string();
            assert!(text.contains("driver"), "{text}");
        }
        Err(error) => panic!("{error}"),
    }
}
