//! The device is core, bit for bit, with either PTX.

use adaloss_on_device::conformance;

use crate::open;

/// Checks the GPU of a number; each takes other steps, since the grid runs the same source for both.
fn conforms(ordinal: usize) {
    let mut device = open(ordinal).expect("two devices are new enough");
    assert_eq!(device.name().expect("a name"), "simulated grid");
    for (part, result) in conformance::run(&mut device) {
        result.unwrap_or_else(|failure| panic!("device {ordinal}, {part}: {failure}"));
    }
    for seed in (0..28).filter(|seed| seed / 4 % 2 == ordinal as u32) {
        let agreed = conformance::steps(&mut device, 8, seed);
        agreed.unwrap_or_else(|what| panic!("device {ordinal}, seed {seed}: {what}"));
    }
}

#[test]
fn a_simulated_gpu_conforms() {
    conforms(0);
}

#[test]
fn another_simulated_gpu_conforms() {
    conforms(1);
}
