//! Memory for tests: allocations with addresses far from one another, and launches on it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use adaloss_interpreter::{Counts, Fault, GlobalMemory, Launch, Module, Refused, Schedule};

/// Addresses between the beginnings of two allocations.
const STRIDE: u64 = 1 << 28;

/// The address of the first allocation.
const FIRST: u64 = 0x7f00_0000_0000;

/// Allocations.
#[derive(Clone, Default)]
pub(crate) struct Device {
    pub(crate) allocations: Vec<Vec<u8>>,
}

impl Device {
    /// Adds an allocation; returns its address.
    pub(crate) fn allocate(&mut self, bytes: Vec<u8>) -> u64 {
        self.allocations.push(bytes);
        FIRST + STRIDE * (self.allocations.len() as u64 - 1)
    }

    /// Adds an allocation of words.
    pub(crate) fn words(&mut self, words: &[u32]) -> u64 {
        self.allocate(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    /// Returns the bytes of an allocation.
    pub(crate) fn bytes(&self, address: u64) -> &[u8] {
        &self.allocations[((address - FIRST) / STRIDE) as usize]
    }

    /// Returns the words of an allocation.
    pub(crate) fn read_words(&self, address: u64) -> Vec<u32> {
        let (words, _) = self.bytes(address).as_chunks();
        words.iter().map(|&word| u32::from_le_bytes(word)).collect()
    }

    fn place(&self, address: u64, bytes: usize) -> Option<(usize, usize)> {
        let address = address.checked_sub(FIRST)?;
        let (nth, at) = ((address / STRIDE) as usize, (address % STRIDE) as usize);
        (at + bytes <= self.allocations.get(nth)?.len()).then_some((nth, at))
    }
}

impl GlobalMemory for Device {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Refused> {
        let (nth, at) = self.place(address, to.len()).ok_or(Refused::NOWHERE)?;
        to.copy_from_slice(&self.allocations[nth][at..at + to.len()]);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Refused> {
        let (nth, at) = self.place(address, from.len()).ok_or(Refused::NOWHERE)?;
        self.allocations[nth][at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

/// The schedules that results must not depend on.
pub(crate) fn schedules() -> Vec<Schedule> {
    let mut all = vec![Schedule::default(), Schedule { seed: 7, ..Schedule::default() }];
    all.extend((1..4).map(Schedule::adverse));
    all
}

/// A launch of one block in the plain order.
pub(crate) fn block(threads: u32, parameters: &[u8]) -> Launch<'_> {
    Launch {
        blocks: 1,
        threads,
        dynamic_shared_bytes: 0,
        parameters,
        schedule: Schedule::default(),
        most_instructions: Some(1 << 32),
    }
}

/// Returns a text with one entry of these instructions, named `kernel`, which takes an address `to`.
///
/// There are 16 registers of each width, 16 predicates, and `%rd15` is the address.  The first of the instructions
/// is in line 12.
pub(crate) fn kernel(variables: &str, instructions: &str) -> String {
    format!(
        "{variables}
.visible .entry kernel(
.param .u64 to
)
{{
.reg .pred %p<16>;
.reg .b16 %rs<16>;
.reg .b32 %r<16>;
.reg .b64 %rd<16>;
ld.param.b64 %rd15, [to];
mov.u32 %r15, %tid.x;
{}
ret;
}}
",
        instructions.trim()
    )
}

/// Launches a kernel of instructions with an allocation of zeros, once for each schedule; returns what the last one
/// made of it, where all are the same.
pub(crate) fn run(
    variables: &str,
    instructions: &str,
    threads: u32,
) -> Result<(Vec<u32>, Counts), Fault> {
    let module = Module::parse(&kernel(variables, instructions)).expect("PTX");
    let entry = module.entry("kernel").expect("the entry");
    let mut last = None;
    for schedule in schedules() {
        let mut device = Device::default();
        let to = device.words(&vec![0; 1024]);
        let parameters = to.to_le_bytes();
        let launch =
            Launch { schedule, most_instructions: Some(100_000), ..block(threads, &parameters) };
        let counts = entry.launch(&mut device, &launch)?;
        let words = device.read_words(to);
        if let Some((before, _)) = &last {
            assert_eq!(before, &words, "{schedule:?}");
        }
        last = last.or(Some((words, counts)));
    }
    Ok(last.expect("a schedule"))
}

/// Executes instructions on each row of numbers: `%a`, `%b` and `%c` become `%d`.
///
/// `bits` are those of the registers, `%d` first; there are `%p` and `%q` for predicates, too.
pub(crate) fn apply(bits: [u8; 4], instructions: &str, rows: &[[u64; 3]]) -> Vec<u64> {
    let mut text = String::from(".visible .entry kernel(.param .u64 from, .param .u64 to)\n{\n");
    text += ".reg .pred %p, %q;\n.reg .b32 %r<4>;\n.reg .b64 %rd<8>;\n";
    for (name, bits) in ["d", "a", "b", "c"].iter().zip(bits) {
        text += &format!(".reg .b{bits} %{name};\n");
    }
    text += "mov.u32 %r0, %tid.x;\nmov.u32 %r1, %ctaid.x;\nmad.lo.s32 %r2, %r1, 128, %r0;\n";
    text += "ld.param.b64 %rd0, [from];\nmad.wide.u32 %rd1, %r2, 24, %rd0;\n";
    for (name, bits, at) in [("a", bits[1], 0), ("b", bits[2], 8), ("c", bits[3], 16)] {
        text += &format!("ld.global.b{bits} %{name}, [%rd1+{at}];\n");
    }
    text += instructions;
    text += "\nld.param.b64 %rd2, [to];\nmad.wide.u32 %rd3, %r2, 8, %rd2;\n";
    text += &format!("st.global.b{} [%rd3], %d;\nret;\n}}\n", bits[0]);
    let module = Module::parse(&text).expect("PTX");
    let mut device = Device::default();
    let count = rows.len().next_multiple_of(128);
    let mut from: Vec<u8> = rows.iter().flatten().flat_map(|of| of.to_le_bytes()).collect();
    from.resize(24 * count, 0);
    let from = device.allocate(from);
    let to = device.allocate(vec![0; 8 * count]);
    let parameters: Vec<u8> = [from, to].iter().flat_map(|of| of.to_le_bytes()).collect();
    let launch = Launch { blocks: (count / 128) as u32, ..block(128, &parameters) };
    let entry = module.entry("kernel").expect("the entry");
    entry.launch(&mut device, &launch).unwrap_or_else(|fault| panic!("{fault}: {instructions}"));
    let (results, _) = device.bytes(to).as_chunks();
    results[..rows.len()].iter().map(|&of| u64::from_le_bytes(of)).collect()
}

/// Numbers that follow from nothing but their order.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// Returns all rows of three of some numbers, and random ones of so many bits.
pub(crate) fn rows(special: &[u64], bits: u8, random: usize) -> Vec<[u64; 3]> {
    let mut rows = Vec::new();
    for &a in special {
        for &b in special {
            rows.extend(special.iter().map(|&c| [a, b, c]));
        }
    }
    let mut numbers = Random(u64::from(bits));
    rows.extend((0..random).map(|_| [(); 3].map(|()| numbers.bits() >> (64 - bits))));
    rows
}

/// Returns all rows of two of some numbers, and random ones of so many bits.
pub(crate) fn pairs(special: &[u64], bits: u8, random: usize) -> Vec<[u64; 3]> {
    let mut pairs = Vec::new();
    for &a in special {
        pairs.extend(special.iter().map(|&b| [a, b, 0]));
    }
    let mut numbers = Random(u64::from(bits));
    pairs.extend((0..random).map(|_| {
        let [a, b] = [(); 2].map(|()| numbers.bits() >> (64 - bits));
        [a, b, 0]
    }));
    pairs
}
