//! The product: chunks of rows, and panels of the right operand that all of them share.
//!
//! The right operand is widened once into panels: for each [`DEPTH`] terms and each line of 16 columns a
//! matrix of terms and lanes.  The rows of the result are divided into chunks, which threads take.  A
//! chunk widens its rows of the left operand, [`DEPTH`] terms at a time, and adds them with
//! `kernel::Streams`, or with `kernel::Outer` where the left operand is transposed.
//!
//! # Example
//!
//! A product of 100 x 1,000 with 1,000 x 20 has two blocks of terms, of 512 and 488, and two lines of
//! columns, 20 of whose 32 lanes are used: panel (block 1, line 1) has 488 lines.  100 / 16 rows, rounded
//! up to a multiple of the tile's eight, are chunks of eight rows: thirteen, of which the last has four.

use std::vec::Vec;

use adaloss_core::format::Element;

use super::{
    Cpu, Scratch, Sink,
    kernel::{self, LANES, Outer, ROWS, Row, Streams, Stride, lines},
    widen,
};
use adaloss_hal::{Fitting, HostError, HostSpace, Matmul, Plain, Product, Run, host::filled};

/// Rows of a chunk, at most: eight tiles of [`ROWS`] rows pass over a panel before the next is read.
const CHUNK_ROWS: usize = 64;

/// Terms that are added before the next panel is read: a panel of one line has 32 KiB, about a first-level cache, and a
/// chunk's rows 128 KiB, within a second-level one.
const DEPTH: usize = 512;

impl<A, B, F> Run<Matmul<'_, '_, HostSpace, A, B, F>> for Cpu
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let Matmul { product, a, b, bias, to, epilogue } = operation.into_inner();
        let (product, a, b, bias) = (*product, *a, *b, *bias);
        let Product { rows, columns, .. } = product;
        let sink = Sink::<F>::open(epilogue.reborrow())?;
        if to.is_empty() {
            return Ok(());
        }
        let panels = self.panels(product, b)?;
        // Small products are divided as well: into sixteen chunks, so that up to sixteen threads have work.
        let height = rows.div_ceil(16).next_multiple_of(ROWS).min(CHUNK_ROWS);
        self.each_chunk(to, height * columns, |nth, to| {
            let row = nth * height;
            let (count, width) = (to.len() / columns, lines(columns) * LANES);
            let mut sums = sums(product, a, &panels, bias, row, count);
            sink.put(row * columns, trim(&mut sums[..count * width], width, columns), to);
        });
        Ok(())
    }
}

impl Cpu {
    /// Widens the right operand into panels: for each [`DEPTH`] of terms and each line of columns a
    /// matrix of terms and lanes; lanes beyond the last column are zero.
    fn panels<B: Element>(&self, product: Product, b: &[B]) -> Result<Vec<f32>, HostError> {
        let Product { inner, columns, transpose_b, .. } = product;
        let width = lines(columns) * LANES;
        let mut panels = filled(inner * width, 0.0)?;
        self.each_chunk(&mut panels, DEPTH * width, |nth, panels| {
            let (term, depth) = (nth * DEPTH, panels.len() / width);
            if transpose_b {
                let mut terms = Scratch::any(depth);
                for column in 0..columns {
                    widen(&b[column * inner + term..][..depth], &mut terms);
                    let first = column / LANES * depth * LANES + column % LANES;
                    let to = panels[first..].iter_mut().step_by(LANES);
                    to.zip(&*terms).for_each(|(to, x)| *to = *x);
                }
            } else {
                let mut row = Scratch::zeroed(width);
                for k in 0..depth {
                    widen(&b[(term + k) * columns..][..columns], &mut row);
                    for (line, row) in row.chunks(LANES).enumerate() {
                        panels[(line * depth + k) * LANES..][..LANES].copy_from_slice(row);
                    }
                }
            }
        });
        Ok(panels)
    }
}

/// Computes the sums of some rows, each in whole lines.
fn sums<A: Element>(
    product: Product,
    a: &[A],
    panels: &[f32],
    bias: Option<&[f32]>,
    row: usize,
    height: usize,
) -> Scratch {
    let Product { rows, inner, columns, transpose_a, .. } = product;
    let width = lines(columns) * LANES;
    let padded = height.next_multiple_of(ROWS);
    let mut sums = Scratch::zeroed(padded * width);
    if let Some(bias) = bias {
        sums.chunks_mut(width.max(1)).for_each(|sums| sums[..columns].copy_from_slice(bias));
    }
    let mut left = Scratch::zeroed(padded * DEPTH.min(inner));
    for (nth, panels) in panels.chunks((DEPTH * width).max(1)).enumerate() {
        let (term, depth) = (nth * DEPTH, panels.len() / width);
        if transpose_a {
            for (k, left) in left.chunks_mut(padded).take(depth).enumerate() {
                widen(&a[(term + k) * rows + row..][..height], left);
            }
            Outer {
                left: &left,
                left_step: padded,
                right: panels,
                right_step: LANES,
                right_pitch: depth * LANES,
                strides: &[Stride { left: 0, right: 0, length: depth }],
                to: &mut sums,
                pitch: width,
                rows: padded,
                lines: lines(columns),
            }
            .add();
        } else {
            for (r, left) in left.chunks_mut(depth).take(height).enumerate() {
                widen(&a[(row + r) * inner + term..][..depth], left);
            }
            let rows: Vec<_> =
                (0..height).map(|r| Row { from: r * depth, to: r * width }).collect();
            Streams {
                left: &left,
                rows: &rows,
                segments: &[kernel::Segment { from: 0, term: 0, length: depth }],
                panels,
                terms: depth,
                to: &mut sums,
            }
            .add();
        }
    }
    sums
}

/// Moves rows of `width` together so that each has `kept` columns, and returns them all.
pub(super) fn trim(rows: &mut [f32], width: usize, kept: usize) -> &[f32] {
    if width == 0 {
        return &[];
    }
    let count = rows.len() / width;
    if kept < width {
        for row in 1..count {
            rows.copy_within(row * width..row * width + kept, row * kept);
        }
    }
    &rows[..count * kept]
}
