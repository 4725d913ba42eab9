//! What the accelerator computes, once its queue runs.

use adaloss_core::{
    format::{Subnormals, f16},
    statistics::Statistics,
};
use adaloss_hal::{Fitting, Matmul, Narrow, Product, Propagate, Run, Summarise, Unscale};

use crate::{
    ending::Ending,
    memory::{Accelerator, AcceleratorError, AcceleratorSpace, Handle},
    sabotage::Sabotage,
};

/// Terms that are summed before their sum is added to others.
const TERMS: usize = 16;

impl Run<Summarise<'_, '_, AcceleratorSpace, f16>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Summarise { input, to, when } = operation.into_inner();
        let (from, to, when) = (input.queued(), to.queued(), when.map(Handle::queued));
        let (sabotage, flushes) = (self.sabotage, self.flushes);
        self.enqueue_when(when, move |memory| {
            let mut odd_and_even = [Statistics::EMPTY; 2];
            for (index, x) in memory.load(from)?.into_iter().enumerate().rev() {
                odd_and_even[index % 2].observe(read(x, flushes));
            }
            let mut statistics = memory.load_one(to)?;
            let before = statistics;
            odd_and_even.iter().for_each(|part| statistics.merge(part));
            if sabotage == Sabotage::NarrowStatistics {
                statistics.zero = without_carry(before.zero, statistics.zero);
            }
            if sabotage == Sabotage::LeastIsZero && statistics.zero > 0 {
                statistics.min_bits = 0;
            }
            memory.store(&[statistics], to)
        });
        Ok(())
    }
}

impl Run<Narrow<'_, '_, AcceleratorSpace, f16>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        let ending = Ending::queued(self, epilogue);
        let (from, to) = (input.queued(), to.queued());
        self.enqueue_when(ending.when, move |memory| {
            let results = memory.load(from)?;
            ending.take(memory, &results, to)
        });
        Ok(())
    }
}

impl Run<Propagate<'_, '_, AcceleratorSpace, f16>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Propagate { branches, to, epilogue } = operation.into_inner();
        let ending = Ending::queued(self, epilogue);
        let branches: Vec<_> =
            branches.iter().map(|b| (b.gradient.queued(), b.cell.queued())).collect();
        let (to, sabotage) = (to.queued(), self.sabotage);
        self.enqueue_when(ending.when, move |memory| {
            let incoming = ending.incoming(memory)?;
            let flushes = ending.narrowing.format.subnormals == Subnormals::Flush;
            let mut sums = Vec::new();
            // Branch by branch, where portable goes element by element.
            for (gradient, cell) in branches {
                let shift = (incoming / memory.load_one(cell)?.scale()).log2();
                let shift = if sabotage == Sabotage::JoinsWithoutScales { 0 } else { shift };
                let gradient = memory.load(gradient)?;
                let terms = gradient.into_iter().map(|x| exactly(read(x, flushes), shift));
                if sums.is_empty() {
                    sums = terms.collect();
                } else {
                    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                }
            }
            ending.take(memory, &sums, to)
        });
        Ok(())
    }
}

impl Run<Unscale<'_, '_, AcceleratorSpace, f16>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, AcceleratorSpace, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Unscale { gradient, cell, to, counts } = operation.into_inner();
        let (gradient, cell) = (gradient.queued(), cell.queued());
        let (to, unscale_counts) = (to.queued(), counts.queued());
        let (sabotage, flushes) = (self.sabotage, self.flushes);
        self.enqueue(move |memory| {
            let scale = memory.load_one(cell)?.scale();
            let turn = if sabotage == Sabotage::UnscalesTheWrongWay { 1 } else { -1 };
            let mut counts = memory.load_one(unscale_counts)?;
            let before = counts;
            let gradient: Vec<f32> =
                memory.load(gradient)?.into_iter().map(|x| read(x, flushes)).collect();
            let flush = |x: f32| if flushes && x.is_subnormal() { 0.0_f32.copysign(x) } else { x };
            let unscale = |&x: &f32| flush(exactly(x, turn * scale.log2()));
            let unscaled: Vec<f32> = gradient.iter().map(unscale).collect();
            for (&scaled, &unscaled) in gradient.iter().zip(&unscaled) {
                counts.record(scaled, unscaled);
            }
            if sabotage == Sabotage::NarrowUnscaled {
                counts.tiny = without_carry(before.tiny, counts.tiny);
            }
            memory.store(&unscaled, to)?;
            memory.store(&[counts], unscale_counts)
        });
        Ok(())
    }
}

impl Run<Matmul<'_, '_, AcceleratorSpace, f16, f16, f16>> for Accelerator {
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, AcceleratorSpace, f16, f16, f16>>,
    ) -> Result<(), AcceleratorError> {
        let Matmul { product, a, b, bias, to, epilogue } = operation.into_inner();
        let ending = Ending::queued(self, epilogue);
        let (product, sabotage) = (*product, self.sabotage);
        let (a, b, to) = (a.queued(), b.queued(), to.queued());
        let bias = bias.map(Handle::queued);
        self.enqueue_when(ending.when, move |memory| {
            let bias = bias.map(|bias| memory.load(bias)).transpose()?;
            let operands = (&memory.load(a)?[..], &memory.load(b)?[..], bias.as_deref());
            let results = multiply(product, operands, sabotage);
            ending.take(memory, &results, to)
        });
        Ok(())
    }
}

/// Multiplies column by column: terms in blocks, and the sums of the blocks pairwise.
fn multiply(
    product: Product,
    (a, b, bias): (&[f16], &[f16], Option<&[f32]>),
    sabotage: Sabotage,
) -> Vec<f32> {
    let Product { rows, inner, columns, transpose_a, mut transpose_b } = product;
    if sabotage == Sabotage::IgnoresTranspose {
        transpose_b = false;
    }
    let number = |x: f16| match sabotage {
        Sabotage::FlushesNan if x.is_nan() => 0.0,
        _ => x.to_f32(),
    };
    let mut results = vec![0.0; rows * columns];
    for column in 0..columns {
        // Where a sum starts, and where its later parts do.
        let start = match bias {
            Some(bias) if sabotage != Sabotage::StartsAtZero => bias[column],
            _ => 0.0,
        };
        let starts = [start, if sabotage == Sabotage::StartsEachPart { start } else { 0.0 }];
        let right: Vec<f32> = (0..inner)
            .map(|k| b[if transpose_b { column * inner + k } else { k * columns + column }])
            .map(number)
            .collect();
        for row in 0..rows {
            let left =
                (0..inner).map(|k| a[if transpose_a { k * rows + row } else { row * inner + k }]);
            let terms: Vec<f32> = left.zip(&right).map(|(x, y)| number(x) * y).collect();
            results[row * columns + column] = match sabotage {
                Sabotage::NarrowAccumulator => {
                    let add = |sum: f16, term: &f32| f16::from_f32(sum.to_f32() + term);
                    terms.iter().fold(f16::from_f32(start), add).to_f32()
                }
                _ => pairwise(&terms, starts),
            };
        }
    }
    results
}

/// Sums blocks of terms in their order, and halves of the blocks after one another: the first block from one start, the others from
/// another.
fn pairwise(terms: &[f32], [first, later]: [f32; 2]) -> f32 {
    if terms.len() <= TERMS {
        return terms.iter().fold(first, |sum, term| sum + term);
    }
    let half = terms.len().div_ceil(2 * TERMS) * TERMS;
    pairwise(&terms[..half], [first, later]) + pairwise(&terms[half..], [later; 2])
}

/// Returns `2^shift x`, rounded to f32 once: an f64 holds every such product of a binary16.
fn exactly(x: f32, shift: i32) -> f32 {
    (f64::from(x) * f64::exp2(f64::from(shift))) as f32
}

/// Reads an operand, subnormals as zero where the format flushes.
fn read(x: f16, flushes: bool) -> f32 {
    let is_subnormal = x.to_bits() & 0x7fff < 0x0400;
    if flushes && is_subnormal { 0.0_f32.copysign(x.to_f32()) } else { x.to_f32() }
}

/// Returns what a counter of 32 bits makes of a count that carries into its upper half.
fn without_carry(before: u64, after: u64) -> u64 {
    before & !0xffff_ffff | after & 0xffff_ffff
}
