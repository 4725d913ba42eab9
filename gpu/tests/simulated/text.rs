//! The shipped text of the kernels is core, bit for bit: executed by the interpreter, and not what it was made of.

use adaloss_on_device::conformance::{self, SUITES};

use crate::open;

/// The devices that execute text, and what it is for.
const DEVICES: [(usize, &str); 2] = [(3, "sm_90a"), (4, "sm_80")];

/// Runs parts of the suite, and random steps of some seeds.
fn conforms(
    (ordinal, target): (usize, &str),
    parts: impl Fn(&str) -> bool,
    seeds: impl IntoIterator<Item = u32>,
) {
    let mut device = open(ordinal).expect("a device that executes text");
    assert_eq!(device.name().expect("a name"), "interpreted PTX");
    for seed in seeds {
        let agreed = conformance::steps(&mut device, 8, seed);
        agreed.unwrap_or_else(|what| panic!("{target}, seed {seed}: {what}"));
    }
    for (part, suite) in SUITES.into_iter().filter(|(part, _)| parts(part)) {
        match suite(&mut device) {
            Ok(report) => println!("{target}, {part}: {report}"),
            Err(failure) => panic!("{target}, {part}: {failure}"),
        }
    }
}

#[test]
fn text_for_sm_90a_conforms() {
    let parts = ["narrow binary16", "matmul binary16", "accumulate", "loss"];
    conforms(DEVICES[0], |part| parts.contains(&part), 0..6);
}

#[test]
fn text_for_sm_80_conforms() {
    let parts = ["narrow E4M3", "matmul bfloat16", "network E4M3, E5M2"];
    conforms(DEVICES[1], |part| parts.contains(&part), 6..12);
}

#[test]
#[ignore = "minutes: ./ci.sh text runs it"]
fn all_of_both_texts_conforms() {
    DEVICES.into_iter().for_each(|device| conforms(device, |_| true, 0..28));
}
