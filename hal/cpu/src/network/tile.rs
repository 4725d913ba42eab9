//! Rows of few columns, taken several at a time, so that loops per column run in whole vectors.
//!
//! A matrix of `n` columns is read as tiles of `r` rows, and each tile as one long row of `r n`
//! elements.  Element `i` of a tile belongs to column `i % n`, whichever tile it is.  What there is per
//! column (means, gains) is repeated `r` times, and then meets its elements by index: no remainder is
//! computed in the loop.
//!
//! # Example
//!
//! With 3 columns a tile needs 86 rows to have [`LEAST`](Tile::LEAST) elements, and a multiple of 64 rows to be
//! whole blocks of 64: 128 rows, 384 elements.  The means of the columns are repeated to
//! `m0 m1 m2 m0 m1 m2 ...`.  A sum per column first adds tile to tile, element by element in f32, so that
//! sum `i` of the 384 is of column `i % 3`; then `fold` adds sums 0, 3, 6, ... to that of column 0, in f64, and
//! likewise for columns 1 and 2.

use core::ops::Range;
use std::{vec, vec::Vec};

use super::{Cpu, Scratch, chunk};

/// Some rows of a matrix that are treated as one: everything that is done per column is done in
/// whole vectors, however few columns there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    columns: usize,
    rows: usize,
}

impl Tile {
    /// Elements that a tile of narrow rows is a multiple of: four vectors of 16 f32, the widest that there are, which is
    /// what a loop that the compiler unrolls takes at a time.
    const VECTORS: usize = 64;

    /// Elements of a tile, at least: four blocks of 64, so that the entry and the end of a loop are a small part of it.
    const LEAST: usize = 256;

    /// Tiles that are summed in f32 before f64 takes over: an f32 sum has 64 terms at most, whose relative error is within
    /// 63 times 2^-24 of the sum of their magnitudes.  It is also the unit of work of a thread.
    const TILES: usize = 64;

    /// Returns a tile of one row.
    pub(super) const fn row(columns: usize) -> Self {
        Self { columns, rows: 1 }
    }

    /// Returns the tile for rows of some columns.
    pub(super) fn of(columns: usize) -> Self {
        let least = Self::LEAST.div_ceil(columns.max(1));
        // The least number of rows that makes `columns * rows` a multiple of 64: 64 without the factors 2 of `columns`.
        let whole = Self::VECTORS >> columns.trailing_zeros().min(6);
        let rows = match columns {
            Self::LEAST.. => 1,
            _ => least.next_multiple_of(whole),
        };
        Self { columns, rows }
    }

    /// Returns the elements of a tile.
    pub(super) fn len(self) -> usize {
        self.columns * self.rows
    }

    /// Returns the elements of as many tiles as have about `elements`.
    pub(super) fn chunk(self, elements: usize) -> usize {
        (elements / self.len().max(1)).max(1) * self.len()
    }

    /// Returns the columns' values for a whole tile.
    pub(super) fn repeat(self, values: &[f32]) -> Vec<f32> {
        values.repeat(self.rows)
    }

    /// Returns `count` sums per column over `length` elements: those of the first kind, then those of
    /// the second.
    ///
    /// `add` adds the elements of a range to `count` tiles of sums, in the same order.
    pub(super) fn sums(
        self,
        cpu: &Cpu,
        length: usize,
        count: usize,
        add: impl Fn(Range<usize>, &mut [f32]) + Send + Sync,
    ) -> Vec<f64> {
        let size = Self::TILES * self.len();
        let parts = cpu.map(length.div_ceil(size.max(1)), |nth| {
            let mut sums = Scratch::zeroed(count * self.len());
            add(chunk(nth, size, length), &mut sums);
            let of_kinds = sums.chunks_exact(self.len().max(1));
            of_kinds.flat_map(|sums| self.fold(sums)).collect::<Vec<_>>()
        });
        let mut totals = vec![0.0; count * self.columns];
        for part in parts {
            totals.iter_mut().zip(part).for_each(|(total, x)| *total += x);
        }
        totals
    }

    /// Returns what the rows of a tile add up to.
    fn fold(self, sums: &[f32]) -> Vec<f64> {
        let mut to = vec![0.0; self.columns];
        for row in sums.chunks_exact(self.columns.max(1)) {
            to.iter_mut().zip(row).for_each(|(to, &x)| *to += f64::from(x));
        }
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_whole_vectors_of_narrow_columns() {
        for (columns, expected) in [(1, 256), (3, 384), (8, 256), (10, 320), (16, 256), (64, 256)] {
            assert_eq!(Tile::of(columns).len(), expected, "{columns}");
        }
        for columns in 1..256 {
            let tile = Tile::of(columns);
            assert!(tile.len() >= 256 && tile.len().is_multiple_of(64), "{columns}: {tile:?}");
        }
        assert_eq!((Tile::of(0).len(), Tile::of(768).len()), (0, 768));
    }
}
