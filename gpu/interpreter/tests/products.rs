//! The shipped products of matrices, beside sums in the order of the simulated grid.

mod device;

use std::time::Instant;

use adaloss_core::format::f16;
use adaloss_interpreter::{Counts, Entry, Fault, FaultKind, Launch, Module, Schedule};
use device::{Device, block, schedules};

/// What a product's block needs of shared memory.
const SHARED_BYTES: usize = 48 << 10;

fn pattern(count: usize, step: u32) -> Vec<f16> {
    let number = |nth| ((nth as u32).wrapping_mul(step) % 61) as f32 / 16.0 - 1.9;
    (0..count).map(|nth| f16::from_f32(number(nth))).collect()
}

fn bytes(of: &[f16]) -> Vec<u8> {
    of.iter().flat_map(|of| of.to_bits().to_le_bytes()).collect()
}

const SM_80: &str = include_str!("../../ptx/sm_80.ptx");

const NAME: &str = "adaloss_matmul_nn_f16_f32";

/// The shape of a product.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    inner: usize,
    columns: usize,
}

/// A product's memory and parameters: where its results are, what a launch passes, and its operands.
struct Product {
    device: Device,
    to: u64,
    parameters: Vec<u8>,
    a: Vec<f16>,
    b: Vec<f16>,
}

impl Product {
    fn new(Shape { rows, inner, columns }: Shape, counts: bool) -> Self {
        let (a, b) = (pattern(rows * inner, 7), pattern(inner * columns, 11));
        let mut device = Device::default();
        let (at_a, at_b) = (device.allocate(bytes(&a)), device.allocate(bytes(&b)));
        let to = device.words(&vec![0; rows * columns]);
        // A cell of zeros has the scale 1.
        let cell = device.words(&[0; 16]);
        let mut parameters = Vec::new();
        // Without a bias, and in one part.
        for value in [at_a, at_b, 0, rows as u64, inner as u64, columns as u64, 1] {
            parameters.extend(value.to_le_bytes());
        }
        // Nothing is added to what was there.
        parameters.extend(0_u32.to_le_bytes());
        [to, cell, cell].iter().for_each(|address| parameters.extend(address.to_le_bytes()));
        // The rest of the epilogue: the results are stored, and counted if they are to be.
        let mut rest = [0; 24];
        rest[12] = 1;
        parameters.extend(rest);
        for _ in 0..2 {
            let counts = if counts { device.words(&[0; 2048]) } else { 0 };
            parameters.extend(counts.to_le_bytes());
        }
        Self { device, to, parameters, a, b }
    }

    fn launch(&mut self, entry: &Entry, schedule: Schedule) -> Result<Counts, Fault> {
        let launch = Launch {
            blocks: 1,
            dynamic_shared_bytes: SHARED_BYTES,
            schedule,
            ..block(128, &self.parameters)
        };
        entry.launch(&mut self.device, &launch)
    }
}

#[test]
fn a_product_has_the_bits_of_its_meaning() {
    let module = Module::parse(SM_80).expect("PTX");
    let entry = module.entry(NAME).expect("the entry");
    // Rows that are copied in chunks, and rows that are not.
    for inner in [77, 200] {
        let shape = Shape { rows: 150, inner, columns: 136 };
        for schedule in schedules() {
            let mut product = Product::new(shape, false);
            let begin = Instant::now();
            let counts = product.launch(entry, schedule).expect("no fault");
            let (seconds, total) = (begin.elapsed().as_secs_f64(), counts.total());
            println!(
                "{:.0} M instructions of threads a second, {} bank conflicts",
                total.by_threads as f64 / seconds / 1e6,
                counts.bank_conflicts
            );
            assert_eq!(counts.bank_conflicts > 0, inner == 77);
            let found = product.device.read_words(product.to);
            for (at, &found) in found.iter().enumerate() {
                let (row, column) = (at / shape.columns, at % shape.columns);
                let sum = (0..inner).fold(0.0_f32, |sum, k| {
                    let b = product.b[k * shape.columns + column];
                    product.a[row * inner + k].to_f32().mul_add(b.to_f32(), sum)
                });
                assert_eq!(f32::from_bits(found), sum, "{row} {column}");
            }
        }
    }
}

/// Returns what is found when one statement of the product is another one, for each place where it stands.
fn without(word: &str, instead: &str) -> Vec<Option<Fault>> {
    let begin = SM_80.find(&format!("entry {NAME}(")).expect("the entry");
    let end = begin + SM_80[begin..].find("\n}\n").expect("its end");
    let places = SM_80[begin..end].match_indices(word).map(|(at, _)| begin + at);
    let found = places.map(|at| {
        let text = format!("{}{instead}{}", &SM_80[..at], &SM_80[at + word.len()..]);
        let module = Module::parse(&text).expect("PTX");
        let entry = module.entry(NAME).expect("the entry");
        // Four tiles of one block, of few terms and of many.
        let fault = [8, 77, 200].iter().find_map(|&inner| {
            let mut product = Product::new(Shape { rows: 150, inner, columns: 136 }, true);
            product.launch(entry, Schedule::default()).err()
        });
        println!("line {} without {word} {fault:?}", SM_80[..at].lines().count());
        fault
    });
    found.collect()
}

/// A barrier that is left out is found wherever no other one stands between the same accesses; and so are copies
/// that are not waited for.
#[test]
fn a_barrier_that_is_missing_is_found() {
    let count = |faults: &[Option<Fault>], kind| {
        faults.iter().flatten().filter(|fault| fault.kind == kind).count()
    };
    // Of three, another one stands between the same accesses: at the end of a tile, behind the zeros of the counters,
    // and in front of the counters' sums.
    let barriers = without("bar.sync \t0;", "");
    assert_eq!((barriers.len(), count(&barriers, FaultKind::Race)), (7, 4));
    let early = without("cp.async.wait_group 1;", "cp.async.wait_group 2;");
    assert_eq!((early.len(), count(&early, FaultKind::UnderWay)), (1, 1));
    let open = without("cp.async.commit_group;", "");
    assert_eq!((open.len(), count(&open, FaultKind::UnderWay)), (1, 1));
    // Behind the last terms, only groups without copies are under way.
    assert_eq!(without("cp.async.wait_group 0;", ""), [None]);
}
