//! The device is core, bit for bit, with either PTX.

use adaloss_gpu::Cuda;
use adaloss_on_device::conformance;

use crate::open;

/// Opens the GPU of a number, and lets it take steps; each takes other ones.
fn takes_steps(ordinal: usize) -> Cuda {
    let mut device = open(ordinal).expect("two devices are new enough");
    assert_eq!(device.name().expect("a name"), "simulated grid");
    for seed in (0..28).filter(|seed| seed / 4 % 2 == ordinal as u32) {
        let agreed = conformance::steps(&mut device, 8, seed);
        agreed.unwrap_or_else(|what| panic!("device {ordinal}, seed {seed}: {what}"));
    }
    device
}

#[test]
fn a_simulated_gpu_conforms() {
    let mut device = takes_steps(0);
    for (part, result) in conformance::run(&mut device) {
        result.unwrap_or_else(|failure| panic!("{part}: {failure}"));
    }
}

/// The grid runs the same source for both; the suite has nothing new to say of the second.
#[test]
fn a_simulated_gpu_with_the_other_ptx_takes_steps() {
    let _device = takes_steps(1);
}
