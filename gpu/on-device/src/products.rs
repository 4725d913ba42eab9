//! Times of products on tensor cores, and how far they are from exact ones.

use adaloss_core::format::{Element, Noise, f16};
use adaloss_gpu::{Buffer, Cuda, GpuSpace};
use adaloss_hal::{AddressSpace, Device, Epilogue, HasMatmul, Matmul, Memory, Plain, Product, Run};
use anyhow::Context;
use serde_json::{Value, json};

use crate::{rows::Rows, setup::End, timing::time};

/// Rows, terms and columns: cubes, and the layers of a ResNet-50 with 32 images.
const SHAPES: [[usize; 3]; 14] = [
    [1024, 1024, 1024],
    [4096, 4096, 4096],
    [8192, 8192, 8192],
    [401_408, 147, 64],
    [100_352, 64, 64],
    [100_352, 576, 64],
    [100_352, 64, 256],
    [25_088, 1152, 128],
    [25_088, 128, 512],
    [6272, 2304, 256],
    [6272, 256, 1024],
    [1568, 4608, 512],
    [1568, 512, 2048],
    [32, 2048, 1000],
];

/// How operands are stored: as they are, or transposed.
const STORED: [&str; 4] = ["nn", "nt", "tn", "tt"];

/// The cube whose operands are stored in every way, too.
const TURNED: [usize; 3] = SHAPES[1];

/// Sums that are compared with exact ones.
const SAMPLES: u32 = 500;

/// Operands, each larger than any cache: shapes that need less take another part at each launch.
struct Operands {
    a: Buffer<f16>,
    b: Buffer<f16>,
    elements: usize,
}

/// Which element of the operands: a number in -1..1.
fn element(stream: u32, index: usize) -> f16 {
    let word = Noise { seed: 1912, stream }.word(index as u32);
    f16::from_f32(word as i32 as f32 / 2.0_f32.powi(31))
}

impl Operands {
    fn new(device: &mut Cuda, elements: usize) -> anyhow::Result<Self> {
        let mut operand = |stream| -> anyhow::Result<Buffer<f16>> {
            let values: Vec<_> = (0..elements).map(|index| element(stream, index)).collect();
            let mut buffer = device.zeroed(elements)?;
            device.write(&values, buffer.view_mut())?;
            Ok(buffer)
        };
        Ok(Self { a: operand(1)?, b: operand(2)?, elements })
    }

    /// Multiplies the parts of a launch.
    fn multiply<F: Element + Plain>(
        &self,
        device: &mut Cuda,
        product: Product,
        launch: usize,
        to: &mut Buffer<F>,
        mut epilogue: Epilogue<'_, GpuSpace>,
    ) -> anyhow::Result<()>
    where
        Cuda: HasMatmul<f16, f16, F>,
    {
        let [left, right, result] = product.lengths();
        // At multiples of 256 bytes, as an allocation has them.
        let part = |count: usize| {
            let first = launch * count.next_multiple_of(128) % (self.elements - count + 1);
            first / 128 * 128..first / 128 * 128 + count
        };
        let a = GpuSpace::part(self.a.view(), part(left)).expect("operands for every shape");
        let b = GpuSpace::part(self.b.view(), part(right)).expect("operands for every shape");
        let to = GpuSpace::part_mut(to.view_mut(), 0..result).expect("room for every shape");
        Ok(device.run(Matmul { product, a, b, bias: None, to, epilogue: epilogue.reborrow() })?)
    }

    /// Returns the largest error among some sums, relative to the sum of their terms' magnitudes.
    fn error(
        &self,
        device: &mut Cuda,
        product: Product,
        to: &mut Buffer<f32>,
    ) -> anyhow::Result<f64> {
        let Product { rows, inner, columns, .. } = product;
        let mut end = End::new::<f32>(device, 0)?;
        self.multiply(device, product, 0, to, end.epilogue::<f32>(true, false))?;
        let picks = Noise { seed: 7, stream: 3 };
        let mut worst = 0.0_f64;
        for sample in 0..SAMPLES {
            let index = picks.word(sample) as usize % (rows * columns);
            let (row, column) = (index / columns, index % columns);
            let mut found = [0.0_f32];
            let sum = GpuSpace::part(to.view(), index..index + 1).expect("a sum");
            device.read(sum, &mut found)?;
            let (mut exact, mut magnitude) = (0.0, 0.0);
            for k in 0..inner {
                let left = if product.transpose_a { k * rows + row } else { row * inner + k };
                let right =
                    if product.transpose_b { column * inner + k } else { k * columns + column };
                let term =
                    f64::from(element(1, left).widen()) * f64::from(element(2, right).widen());
                exact += term;
                magnitude += term.abs();
            }
            worst = worst.max((f64::from(found[0]) - exact).abs() / magnitude);
        }
        Ok(worst)
    }
}

/// Times products with outcome, with histogram as well, and into f32; small ones for a trial.
pub(crate) fn run(rows: &mut Rows, device: &mut Cuda, is_trial: bool) -> anyhow::Result<()> {
    let shapes = SHAPES.map(|shape| match is_trial {
        true => shape.map(|side| side.min(20)),
        false => shape,
    });
    let lengths = shapes.map(|[rows, inner, columns]| Product::new(rows, inner, columns).lengths());
    let [operands, results] = [0..2, 2..3].map(|of| {
        lengths.iter().flat_map(|lengths| &lengths[of.clone()]).max().copied().unwrap_or(0)
    });
    let operands = Operands::new(device, operands)?;
    let mut narrowed = device.zeroed::<f16>(results)?;
    let mut unscaled = device.zeroed::<f32>(results)?;
    for (shape, whole) in shapes.into_iter().zip(SHAPES) {
        for turn in if whole == TURNED { 0..4 } else { 0..1 } {
            let [rows_of, inner, columns] = shape;
            let product = Product {
                transpose_a: turn & 2 == 2,
                transpose_b: turn & 1 == 1,
                ..Product::new(rows_of, inner, columns)
            };
            let stored = STORED[turn];
            rows.row(&format!("{rows_of} x {inner} x {columns} {stored}"), || {
                // Sums of so many terms stay within binary16.
                let mut end = End::new::<f16>(device, 0)?;
                let mut narrow = |device: &mut Cuda, measures| {
                    time(device, |device, launch| {
                        let epilogue = end.epilogue::<f16>(true, measures);
                        operands.multiply(device, product, launch, &mut narrowed, epilogue)
                    })
                };
                let (counted, measured) = (narrow(device, false)?, narrow(device, true)?);
                let mut end = End::new::<f32>(device, 0)?;
                let into_f32 = time(device, |device, launch| {
                    let epilogue = end.epilogue::<f32>(true, false);
                    operands.multiply(device, product, launch, &mut unscaled, epilogue)
                })?;
                let operations = 2.0 * rows_of as f64 * inner as f64 * columns as f64;
                let mut row = counted.json();
                row["shape"] = json!({ "rows": rows_of, "inner": inner, "columns": columns, "stored": stored });
                row["ms_with_histogram"] = measured.ms.into();
                row["ms_into_f32"] = into_f32.ms.into();
                row["tflops"] = (operations / counted.ms / 1.0e9).into();
                row["relative_error"] = operands.error(device, product, &mut unscaled)?.into();
                Ok(row)
            })?;
        }
    }
    Ok(())
}

/// Multiplies two squares once.
pub(crate) fn once(device: &mut Cuda, side: usize) -> anyhow::Result<Value> {
    let operands = Operands::new(device, side * side)?;
    let mut to = device.zeroed::<f16>(side * side)?;
    let mut end = End::new::<f16>(device, 0)?;
    let epilogue = end.epilogue::<f16>(true, false);
    operands.multiply(device, Product::new(side, side, side), 0, &mut to, epilogue)?;
    device.stream().synchronize().context("the device failed")?;
    Ok(Value::Null)
}
