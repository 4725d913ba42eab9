//! The shipped conversions, beside what core makes of the same numbers.

mod device;

use adaloss_core::format::{
    E4M3, E5M2, Element, Format, Narrowing, Noise, Overflow, Rounding, Subnormals, bf16, f16,
};
use adaloss_interpreter::{Launch, Module};
use device::{Device, Random, block, schedules};

const TEXTS: [&str; 2] =
    [include_str!("../../ptx/sm_80.ptx"), include_str!("../../ptx/sm_90a.ptx")];

/// Numbers of every size, and those that formats treat in their own ways.
fn singles() -> Vec<u32> {
    let mut random = Random(11);
    let mut all =
        vec![0, 1 << 31, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 1, 0x477f_e000, 0x477f_f000];
    all.extend((0..992).map(|_| random.bits() as u32));
    all
}

/// Launches an entry with parameters, on three blocks, by each schedule; returns the bytes at `to`.
fn launched(entry: &str, device: &Device, parameters: &[u8], to: u64) -> Vec<u8> {
    let mut results = Vec::new();
    for text in TEXTS {
        let module = Module::parse(text).expect("PTX");
        let entry = module.entry(entry).expect("the entry");
        for schedule in schedules() {
            let mut device = device.clone();
            let launch = Launch { blocks: 3, schedule, ..block(96, parameters) };
            entry.launch(&mut device, &launch).unwrap_or_else(|fault| panic!("{fault}"));
            results.push(device.bytes(to).to_vec());
        }
    }
    assert!(results.iter().all(|result| *result == results[0]));
    results.swap_remove(0)
}

fn narrows<F: Element>(name: &str) {
    let singles = singles();
    let bytes = size_of::<F>();
    for subnormals in [Subnormals::Gradual, Subnormals::Flush] {
        for rounding in [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic] {
            for overflow in [Overflow::Infinity, Overflow::Saturate] {
                let format = Format { encoding: F::ENCODING, subnormals };
                let narrowing = Narrowing { format, rounding, overflow };
                let noise = Noise { seed: 3, stream: 4 };
                let mut device = Device::default();
                let from = device.words(&singles);
                let to = device.allocate(vec![0; bytes * singles.len()]);
                let mut parameters = Vec::new();
                parameters.extend(from.to_le_bytes());
                parameters.extend((singles.len() as u64).to_le_bytes());
                parameters.extend(to.to_le_bytes());
                // As the structures lie in memory.
                parameters.extend([
                    format.encoding as u8,
                    subnormals as u8,
                    rounding as u8,
                    overflow as u8,
                ]);
                parameters
                    .extend([noise.seed, noise.stream].iter().flat_map(|of| of.to_le_bytes()));
                let found = launched(&format!("adaloss_narrow_{name}"), &device, &parameters, to);
                for (index, (&single, found)) in singles.iter().zip(found.chunks(bytes)).enumerate()
                {
                    let word = match rounding {
                        Rounding::Stochastic => noise.word(index as u32),
                        _ => 0,
                    };
                    let expected = F::narrow(f32::from_bits(single), narrowing, 0, word).to_bits();
                    assert_eq!(
                        found,
                        &expected.to_le_bytes()[..bytes],
                        "{single:#x} {narrowing:?}"
                    );
                }
            }
        }
    }
}

fn widens<F: Element>(name: &str) {
    let mut random = Random(12);
    let bytes = size_of::<F>();
    let elements: Vec<_> = (0..1000).map(|_| F::from_bits(random.bits() as u32)).collect();
    for flushes in [0_u32, 1] {
        let mut device = Device::default();
        let bits = elements.iter().map(|of| of.to_bits().to_le_bytes());
        let from = device.allocate(bits.flat_map(|of| of.into_iter().take(bytes)).collect());
        let to = device.words(&vec![0; elements.len()]);
        let mut parameters = flushes.to_le_bytes().to_vec();
        for value in [from, elements.len() as u64, to] {
            parameters.extend(value.to_le_bytes());
        }
        let found = launched(&format!("adaloss_widen_{name}"), &device, &parameters, to);
        let subnormals = if flushes == 0 { Subnormals::Gradual } else { Subnormals::Flush };
        let format = Format { encoding: F::ENCODING, subnormals };
        for (&element, found) in elements.iter().zip(found.chunks(4)) {
            let expected = format.widen(element.to_bits());
            assert_eq!(found, expected.to_bits().to_le_bytes(), "{element:?}");
        }
    }
}

#[test]
fn numbers_are_narrowed() {
    narrows::<f16>("f16");
    narrows::<bf16>("bf16");
    narrows::<E5M2>("e5m2");
    narrows::<E4M3>("e4m3");
    narrows::<f32>("f32");
}

#[test]
fn numbers_are_widened() {
    widens::<f16>("f16");
    widens::<bf16>("bf16");
    widens::<E5M2>("e5m2");
    widens::<E4M3>("e4m3");
    widens::<f32>("f32");
}
