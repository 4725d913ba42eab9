//! What threads exchange: shuffles, and atomic operations.

mod device;

use adaloss_interpreter::Module;
use device::{Device, Random, block, run};

/// The pseudocode of the ISA, 9.7.9.6: the lane that is read, and whether it is in range.
fn source(how: &str, lane: i32, b: i32, c: i32) -> (i32, bool) {
    let (bval, cval, mask) = (b & 0x1f, c & 0x1f, c >> 8 & 0x1f);
    let max_lane = lane & mask | cval & !mask;
    let min_lane = lane & mask;
    let (j, in_range) = match how {
        "up" => (lane - bval, lane - bval >= max_lane),
        "down" => (lane + bval, lane + bval <= max_lane),
        "bfly" => (lane ^ bval, lane ^ bval <= max_lane),
        _ => {
            let j = min_lane | bval & !mask;
            (j, j <= max_lane)
        }
    };
    if in_range { (j, true) } else { (lane, false) }
}

#[test]
fn shuffles() {
    for how in ["up", "down", "bfly", "idx"] {
        for (segment, clamp) in [(0, 31), (0, 0), (16, 31), (24, 7), (30, 1), (16, 15), (24, 0)] {
            for b in [0, 1, 2, 5, 16, 31, 33] {
                let c = segment << 8 | clamp;
                let text = format!(
                    "shfl.sync.{how}.b32 %r1|%p1, %r15, {b}, {c}, -1;
selp.b32 %r2, 100, 0, %p1;
add.s32 %r3, %r1, %r2;
mul.wide.u32 %rd1, %r15, 4;
add.s64 %rd2, %rd15, %rd1;
st.global.b32 [%rd2], %r3;"
                );
                let (words, _) = run("", &text, 32).expect("no fault");
                for lane in 0..32 {
                    let (from, in_range) = source(how, lane, b, c);
                    let expected = from + if in_range { 100 } else { 0 };
                    assert_eq!(words[lane as usize], expected as u32, "{how} {b} {c:#x}: {lane}");
                }
            }
        }
    }
}

/// Each thread changes one number: in any order, the same comes of it.
#[test]
fn atomic_operations() {
    let mut random = Random(1);
    for bits in [32_u8, 64] {
        let mask = u64::MAX >> (64 - bits);
        let above = 64 - u32::from(bits);
        let signed = |of: u64| (of << above) as i64 >> above;
        for name in ["add.u", "min.u", "max.u", "min.s", "max.s", "and.b", "or.b", "xor.b"] {
            let values: Vec<_> = (0..65).map(|_| random.bits() & mask).collect();
            let expected = values[1..].iter().fold(values[0], |one, &other| match name {
                "add.u" => one.wrapping_add(other) & mask,
                "min.u" => one.min(other),
                "max.u" => one.max(other),
                "min.s" => {
                    if signed(one) < signed(other) {
                        one
                    } else {
                        other
                    }
                }
                "max.s" => {
                    if signed(one) > signed(other) {
                        one
                    } else {
                        other
                    }
                }
                "and.b" => one & other,
                "or.b" => one | other,
                _ => one ^ other,
            });
            for operation in ["atom", "red"] {
                let value = if bits == 64 { "%rd3" } else { "%r3" };
                let result = match (operation, bits) {
                    ("red", _) => "",
                    (_, 64) => "%rd4, ",
                    _ => "%r4, ",
                };
                let text = format!(
                    ".shared .align 8 .b8 shared[8];
.visible .entry kernel(.param .u64 at)
{{
.reg .pred %p<4>;
.reg .b32 %r<8>;
.reg .b64 %rd<8>;
ld.param.b64 %rd0, [at];
mov.u32 %r0, %tid.x;
mad.wide.u32 %rd1, %r0, 8, %rd0;
ld.global.b{bits} {value}, [%rd1+8];
{operation}.global.{name}{bits} {result}[%rd0], {value};
mov.u32 %r1, shared;
setp.ne.u32 %p1, %r0, 0;
mov.b64 %rd5, {first};
@!%p1 st.shared.b64 [%r1], %rd5;
bar.sync 0;
{operation}.shared.{name}{bits} {result}[%r1], {value};
bar.sync 0;
ld.shared.b64 %rd6, [%r1];
@!%p1 st.global.b64 [%rd0+520], %rd6;
ret;
}}",
                    first = values[0]
                );
                let module = Module::parse(&text).expect("PTX");
                let mut device = Device::default();
                let mut given: Vec<u8> = values.iter().flat_map(|of| of.to_le_bytes()).collect();
                given.extend([0; 8]);
                let at = device.allocate(given);
                let parameters = at.to_le_bytes();
                let entry = module.entry("kernel").expect("it");
                entry.launch(&mut device, &block(64, &parameters)).expect("no fault");
                let read = |at: usize, bytes: &[u8]| {
                    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
                };
                let bytes = device.bytes(at);
                assert_eq!(
                    [read(0, bytes), read(520, bytes)],
                    [expected; 2],
                    "{operation}.{name}{bits}"
                );
            }
        }
    }
}

/// An atomic operation returns what was there.
#[test]
fn each_thread_has_its_number() {
    let text = "
atom.global.add.u32 %r1, [%rd15], 1;
mul.wide.u32 %rd1, %r1, 4;
add.s64 %rd2, %rd15, %rd1;
red.add.u32 [%rd2+4], 1;";
    let (words, _) = run("", text, 96).expect("no fault");
    assert_eq!((words[0], &words[1..97], words[97]), (96, &[1; 96][..], 0));
}
