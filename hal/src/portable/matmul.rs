//! The product: one tile of sums at a time, terms in the order of their index.

use adaloss_core::format::Element;

use super::Portable;
use crate::host::HostError;
use crate::host::Sink;
use crate::{
    matmul::Matmul,
    plain::Plain,
    run::{Fitting, Run},
    shape::Product,
    space::HostSpace,
};

/// Sums that are kept at a time, and terms that are widened at a time; the result does not depend on
/// these.
const ROWS: usize = 32;
const COLUMNS: usize = 32;
const DEPTH: usize = 16;

impl<A, B, F> Run<Matmul<'_, '_, HostSpace, A, B, F>> for Portable
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
        let Product { rows, columns, .. } = *product;
        let mut sink = Sink::<F>::open(epilogue.reborrow())?;
        // Without columns there may be more rows than can be walked.
        if to.is_empty() {
            return Ok(());
        }
        for row in (0..rows).step_by(ROWS) {
            for column in (0..columns).step_by(COLUMNS) {
                let sums = tile(*product, (a, b), *bias, row, column);
                let width = COLUMNS.min(columns - column);
                for (row, sums) in (row..rows).zip(&sums) {
                    let first = row * columns + column;
                    sink.put(first, &sums[..width], &mut to[first..first + width])?;
                }
            }
        }
        Ok(())
    }
}

/// Computes the sums of one tile; those beyond the edge of the matrix are nobody's.
fn tile<A: Element, B: Element>(
    product: Product,
    (a, b): (&[A], &[B]),
    bias: Option<&[f32]>,
    row: usize,
    column: usize,
) -> [[f32; COLUMNS]; ROWS] {
    let Product { rows, inner, columns, transpose_a, transpose_b } = product;
    let left = Matrix { elements: a, stride: if transpose_a { (1, rows) } else { (inner, 1) } };
    let right = Matrix { elements: b, stride: if transpose_b { (1, inner) } else { (columns, 1) } };
    let (height, width) = (ROWS.min(rows - row), COLUMNS.min(columns - column));
    let mut start = [0.0; COLUMNS];
    if let Some(bias) = bias {
        start[..width].copy_from_slice(&bias[column..column + width]);
    }
    let mut sums = [start; ROWS];
    for k in (0..inner).step_by(DEPTH) {
        let depth = DEPTH.min(inner - k);
        let left = left.widen::<ROWS, DEPTH>((row, k), (height, depth));
        let right = right.widen::<DEPTH, COLUMNS>((k, column), (depth, width));
        for (k, right) in right[..depth].iter().enumerate() {
            for (sums, left) in sums[..height].iter_mut().zip(&left) {
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum += left[k] * right;
                }
            }
        }
    }
    sums
}

/// An operand as the product sees it: element (i, j) is `elements[i * stride.0 + j * stride.1]`.
struct Matrix<'a, E> {
    elements: &'a [E],
    stride: (usize, usize),
}

impl<E: Element> Matrix<'_, E> {
    /// Widens the `extent` of the block that begins at `origin`; the rest of the block is zero.
    fn widen<const R: usize, const C: usize>(
        &self,
        origin: (usize, usize),
        extent: (usize, usize),
    ) -> [[f32; C]; R] {
        let mut block = [[0.0; C]; R];
        let first = origin.0 * self.stride.0 + origin.1 * self.stride.1;
        if self.stride.1 == 1 {
            for (i, row) in block[..extent.0].iter_mut().enumerate() {
                let from = &self.elements[first + i * self.stride.0..][..extent.1];
                row.iter_mut().zip(from).for_each(|(to, x)| *to = x.widen());
            }
        } else {
            // Stored by columns: read as it lies.
            for j in 0..extent.1 {
                let from = &self.elements[first + j * self.stride.1..][..extent.0];
                block.iter_mut().zip(from).for_each(|(row, x)| row[j] = x.widen());
            }
        }
        block
    }
}
