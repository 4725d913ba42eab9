//! Launches of one entry, one after the other: each is as if it were the first.

mod device;

use adaloss_interpreter::{Launch, Module, Schedule};
use device::{Device, block, kernel};

/// Stores what nobody wrote, or half of the threads did, with what the launch is.
const TEXT: &str = "
setp.lt.u32 %p1, %r15, 16;
@%p1 mov.u32 %r1, 7;
@%p1 setp.eq.u32 %p2, %r15, 3;
selp.b32 %r2, 1, 0, %p2;
mov.u32 %r3, %ntid.x;
mad.lo.s32 %r3, %r3, 1000, %r15;
mad.wide.u32 %rd1, %r15, 16, %rd15;
st.global.v4.b32 [%rd1], {%r1, %r2, %r3, %r4};";

#[test]
fn nothing_is_left_of_an_earlier_launch() {
    let module = Module::parse(&kernel("", TEXT)).expect("PTX");
    let stored = |module: &Module, threads, seed| {
        let mut device = Device::default();
        let to = device.words(&[0; 4 * 96]);
        let parameters = to.to_le_bytes();
        let launch = Launch { schedule: Schedule::adverse(seed), ..block(threads, &parameters) };
        module.entry("kernel").expect("it").launch(&mut device, &launch).expect("no fault");
        device.read_words(to)
    };
    for (threads, seed) in [(96, 1), (32, 2), (40, 3), (96, 1), (1, 1), (96, 4)] {
        let alone = Module::parse(&kernel("", TEXT)).expect("PTX");
        let [again, first] = [&module, &alone].map(|module| stored(module, threads, seed));
        assert_eq!(again, first, "{threads} threads, seed {seed}");
    }
}
