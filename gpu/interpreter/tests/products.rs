//! The shipped products of matrices, beside sums in the order of the simulated grid.

mod device;

use std::time::Instant;

use adaloss_core::format::f16;
use adaloss_interpreter::{Launch, Module, Sums};
use device::{Device, block, schedules};

/// What a product's block needs of shared memory.
const SHARED_BYTES: usize = 64 << 10;

fn pattern(count: usize, step: u32) -> Vec<f16> {
    let number = |nth| ((nth as u32).wrapping_mul(step) % 61) as f32 / 16.0 - 1.9;
    (0..count).map(|nth| f16::from_f32(number(nth))).collect()
}

fn bytes(of: &[f16]) -> Vec<u8> {
    of.iter().flat_map(|of| of.to_bits().to_le_bytes()).collect()
}

#[test]
fn a_product_has_the_bits_of_its_meaning() {
    let module = Module::parse(include_str!("../../ptx/sm_80.ptx")).expect("PTX");
    let entry = module.entry("adaloss_matmul_nn_f16_f32").expect("the entry");
    let (rows, inner, columns) = (150, 77, 133);
    let (a, b) = (pattern(rows * inner, 7), pattern(inner * columns, 11));
    for (nth, schedule) in schedules().into_iter().enumerate() {
        let mut device = Device::default();
        let (at_a, at_b) = (device.allocate(bytes(&a)), device.allocate(bytes(&b)));
        let to = device.words(&vec![0; rows * columns]);
        let from = device.words(&[0; 16]);
        let mut parameters = Vec::new();
        for value in [at_a, at_b, rows as u64, inner as u64, columns as u64] {
            parameters.extend(value.to_le_bytes());
        }
        parameters.extend(0_u32.to_le_bytes());
        parameters.extend(to.to_le_bytes());
        parameters.extend(from.to_le_bytes());
        parameters.extend(from.to_le_bytes());
        let mut rest = [0; 40];
        // The results are stored.
        rest[12] = 1;
        parameters.extend(rest);
        println!("{:?} {}", entry.parameters(), parameters.len());
        let begin = Instant::now();
        let launch = Launch {
            blocks: 4,
            dynamic_shared_bytes: SHARED_BYTES,
            schedule,
            ..block(256, &parameters)
        };
        let counts = entry.launch(&mut device, &launch).expect("no fault");
        let seconds = begin.elapsed().as_secs_f64();
        let total = counts.total();
        println!(
            "{nth}: {seconds:.3} s, {} M of threads/s, {total:?} {counts:?}",
            total.by_threads as f64 / seconds / 1e6
        );
        let found = device.read_words(to);
        for row in 0..rows {
            for column in 0..columns {
                let term =
                    |k: usize| (a[row * inner + k].to_f32(), b[k * columns + column].to_f32());
                let sum = (0..inner).map(term).fold(0.0_f32, |sum, (a, b)| a.mul_add(b, sum));
                assert_eq!(f32::from_bits(found[row * columns + column]), sum, "{row} {column}");
            }
        }
    }
    _ = Sums::ByHalves;
}
