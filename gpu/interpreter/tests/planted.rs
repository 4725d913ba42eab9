//! What an optimiser once made of a kernel, and what the interpreter cannot say about it.

mod device;

use adaloss_interpreter::{Launch, Module};
use device::{Device, block, schedules};

/// The first lane of each warp asks whether there is a histogram, is led around the question that all ask next, and so
/// comes to the last barrier on a way of its own.
///
/// That is no fault here: it does come, and waits there for the others, as each thread may that is scheduled for
/// itself.  An assembler may have made code of it in which it waits elsewhere, so that a GPU hangs; that such a way is
/// there at all is what `adaloss-audit` finds in the text.
#[test]
fn an_early_return_in_front_of_a_barrier_is_for_the_audit() {
    let text = include_str!("../../audit/tests/early_return.ptx");
    // What stands in front of all entries is not in that file: the tables are those of today's.
    let table = |number: &str, values: &str| {
        let name = format!("switch_$_table_$_adaloss_apply_f16{number}");
        format!(".global .align 4 .b8 {name}[12] = {{{values}}};\n")
    };
    let thrice = "0, 16, 0, 255, 0, 0, 0, 255, 255, 31, 0, 255";
    let mut tables = String::from(".shared .align 16 .b8 adaloss_shared[16384];\n");
    ["", "873", "874"].iter().for_each(|number| tables += &table(number, thrice));
    tables += &table("875", "0, 240, 127, 0, 0, 0, 128, 0, 1, 224, 127");
    let text = format!("{tables}{text}");
    let module = Module::parse(&text).expect("PTX");
    module.decode().expect("operands that fit");
    for (schedule, counts) in schedules().into_iter().zip([true, false].into_iter().cycle()) {
        let mut device = Device::default();
        let values = device.words(&[0x3f80_0000; 1000]);
        let to = device.allocate(vec![0; 2000]);
        let (cell, outcome) = (device.words(&[0; 16]), device.words(&[0; 64]));
        let histogram = if counts { device.words(&[0; 2048]) } else { 0 };
        let mut parameters = Vec::new();
        for value in [values, 1000, to, cell, cell, 0, 1 << 32, outcome, histogram] {
            parameters.extend(value.to_le_bytes());
        }
        let launch = Launch { blocks: 1, schedule, ..block(256, &parameters) };
        let entry = module.entry("adaloss_apply_f16").expect("the entry");
        let found = entry.launch(&mut device, &launch).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(found.barriers, if counts { 2 } else { 0 });
        // What is stored is 1 in binary16, a thousand times.
        assert!(device.bytes(to).chunks(2).all(|of| of == [0x00, 0x3c]));
    }
}
