//! The product: one tile of sums at a time, terms in the order of their index.

use adaloss_core::format::Element;

use super::{Portable, PortableError, narrow::Sink, same_length};
use crate::{Epilogue, Matmul, Plain, Product};

/// Sums that are kept at a time; the result does not depend on these.
const ROWS: usize = 32;
const COLUMNS: usize = 32;

impl<A, B, F> Matmul<A, B, F> for Portable
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn matmul(
        &mut self,
        product: Product,
        a: &[A],
        b: &[B],
        to: &mut [F],
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), PortableError> {
        let Product { rows, columns, .. } = product;
        let [left, right, result] = product.lengths();
        same_length("the left operand of a product", left, a.len())?;
        same_length("the right operand of a product", right, b.len())?;
        same_length("the result of a product", result, to.len())?;
        let mut sink = Sink::<F>::open(epilogue)?;
        for row in (0..rows).step_by(ROWS) {
            for column in (0..columns).step_by(COLUMNS) {
                let sums = tile(product, a, b, row, column);
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

/// Computes the sums of one tile; those beyond the edge of the matrix stay zero.
fn tile<A: Element, B: Element>(
    product: Product,
    a: &[A],
    b: &[B],
    row: usize,
    column: usize,
) -> [[f32; COLUMNS]; ROWS] {
    let Product { rows, inner, columns, transpose_a, transpose_b } = product;
    let (a_row, a_inner) = if transpose_a { (1, rows) } else { (inner, 1) };
    let (b_inner, b_column) = if transpose_b { (1, inner) } else { (columns, 1) };
    let (height, width) = (ROWS.min(rows - row), COLUMNS.min(columns - column));
    let mut sums = [[0.0; COLUMNS]; ROWS];
    for k in 0..inner {
        let mut right = [0.0; COLUMNS];
        for (j, right) in right[..width].iter_mut().enumerate() {
            *right = b[k * b_inner + (column + j) * b_column].widen();
        }
        for (i, sums) in sums[..height].iter_mut().enumerate() {
            let left = a[(row + i) * a_row + k * a_inner].widen();
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += left * right;
            }
        }
    }
    sums
}
