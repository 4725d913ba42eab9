//! The two loops that all products and convolutions are made of.
//!
//! Both keep a tile of sums in registers: some rows, and columns in lines of [`LANES`], which is one
//! to sixteen vectors.  A term takes one element of the left operand for each row, broadcast, and a
//! line of the right operand.  They differ in how the left operand lies: [`Streams`] reads a stream
//! of its own for each row, as a product or a convolution does, and [`Outer`] reads the elements of
//! all rows next to one another, as a sum of outer products does.
//!
//! A sum adds its terms in their order with fused multiplications, whatever the width of the
//! vectors and the size of the tile.

use core::{array, ops::Range};

use pulp::{Arch, Simd, WithSimd};

/// Columns of a line.
pub(super) const LANES: usize = 16;

/// Rows that a tile has at most; what [`Outer`] reads from the left operand is a multiple of these.
pub(super) const ROWS: usize = 8;

/// Returns the lines that hold some columns.
pub(super) const fn lines(columns: usize) -> usize {
    columns.div_ceil(LANES)
}

/// Where the stream of one row begins and where its sums are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A part of every stream that lies in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its place from the beginning of the stream.
    pub(super) from: usize,
    /// The first of its terms in the panels.
    pub(super) term: usize,
    pub(super) length: usize,
}

/// `to[row][column] += sum over terms of left[row][term] * panel[term][column]`.
pub(super) struct Streams<'a> {
    pub(super) left: &'a [f32],
    pub(super) rows: &'a [Row],
    pub(super) segments: &'a [Segment],
    /// One panel of `terms` lines for each line of columns.
    pub(super) panels: &'a [f32],
    pub(super) terms: usize,
    pub(super) to: &'a mut [f32],
}

impl Streams<'_> {
    /// Adds all terms.
    pub(super) fn add(self) {
        if self.terms > 0 {
            Arch::new().dispatch(self);
        }
    }

    /// Adds to the sums in tiles of `R` rows and `L` lines of `V` vectors, as far as lines go.
    #[inline(always)]
    fn tiles<S: Simd, const V: usize, const L: usize, const R: usize>(
        &mut self,
        simd: S,
        lines: Range<usize>,
    ) -> usize {
        let panel = self.terms * LANES;
        let whole = lines.len() / L * L;
        for line in lines.clone().take(whole).step_by(L) {
            let panels: [&[[f32; LANES]]; L] =
                array::from_fn(|l| self.panels[(line + l) * panel..][..panel].as_chunks().0);
            for rows in self.rows.chunks(R) {
                // The last tile computes its last row several times and keeps it once.
                let rows_of_tile: [Row; R] = array::from_fn(|r| rows[r.min(rows.len() - 1)]);
                let sums = self.tile::<S, V, L, R>(simd, rows_of_tile, line * LANES, panels);
                for (row, sums) in rows.iter().zip(&sums) {
                    store::<S, V, L>(&mut self.to[row.to + line * LANES..], sums);
                }
            }
        }
        lines.start + whole
    }

    /// Computes the sums of one tile.
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const L: usize, const R: usize>(
        &self,
        simd: S,
        rows: [Row; R],
        column: usize,
        panels: [&[[f32; LANES]]; L],
    ) -> [[[S::f32s; V]; L]; R] {
        let mut sums: [[[S::f32s; V]; L]; R] =
            array::from_fn(|r| load::<S, V, L>(&self.to[rows[r].to + column..], LANES));
        for segment in self.segments {
            let left: [&[f32]; R] =
                array::from_fn(|r| &self.left[rows[r].from + segment.from..][..segment.length]);
            let right: [&[[f32; LANES]]; L] =
                array::from_fn(|l| &panels[l][segment.term..][..segment.length]);
            for term in 0..segment.length {
                let right: [[S::f32s; V]; L] = array::from_fn(|l| line::<S, V>(&right[l][term]));
                for (sums, left) in sums.iter_mut().zip(&left) {
                    add_term(simd, sums, left[term], &right);
                }
            }
        }
        sums
    }
}

impl WithSimd for Streams<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lines = 0..self.panels.len() / (self.terms * LANES);
        match S::F32_LANES {
            16 => {
                let rest = self.tiles::<S, 1, 2, 8>(simd, lines.clone());
                self.tiles::<S, 1, 1, 8>(simd, rest..lines.end);
            }
            8 => drop(self.tiles::<S, 2, 1, 4>(simd, lines)),
            4 => drop(self.tiles::<S, 4, 1, 4>(simd, lines)),
            _ => drop(self.tiles::<S, 16, 1, 1>(simd, lines)),
        }
    }
}

/// A range of terms that lie in equal steps in both operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stride {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) length: usize,
}

/// `to[row][column] += sum over terms of left[term][row] * right[term][column]`.
pub(super) struct Outer<'a> {
    pub(super) left: &'a [f32],
    pub(super) left_step: usize,
    pub(super) right: &'a [f32],
    pub(super) right_step: usize,
    /// From one line of columns to the next.
    pub(super) right_pitch: usize,
    pub(super) strides: &'a [Stride],
    pub(super) to: &'a mut [f32],
    /// From one row of sums to the next.
    pub(super) pitch: usize,
    /// A multiple of [`ROWS`].
    pub(super) rows: usize,
    pub(super) lines: usize,
}

impl Outer<'_> {
    /// Adds all terms.
    pub(super) fn add(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn tiles<S: Simd, const V: usize, const L: usize, const R: usize>(
        &mut self,
        simd: S,
        lines: Range<usize>,
    ) -> usize {
        let whole = lines.len() / L * L;
        for line in lines.clone().take(whole).step_by(L) {
            for row in (0..self.rows).step_by(R) {
                let sums = self.tile::<S, V, L, R>(simd, row, line);
                for (r, sums) in sums.iter().enumerate() {
                    store::<S, V, L>(&mut self.to[(row + r) * self.pitch + line * LANES..], sums);
                }
            }
        }
        lines.start + whole
    }

    #[inline(always)]
    fn tile<S: Simd, const V: usize, const L: usize, const R: usize>(
        &self,
        simd: S,
        row: usize,
        line: usize,
    ) -> [[[S::f32s; V]; L]; R] {
        let mut sums: [[[S::f32s; V]; L]; R] = array::from_fn(|r| {
            let to = &self.to[(row + r) * self.pitch + line * LANES..];
            load::<S, V, L>(to, LANES)
        });
        for stride in self.strides {
            let first = [stride.left + row, stride.right + line * self.right_pitch];
            for term in 0..stride.length {
                let left = &self.left[first[0] + term * self.left_step..][..R];
                let right = &self.right[first[1] + term * self.right_step..];
                let right = load::<S, V, L>(right, self.right_pitch);
                for (sums, &left) in sums.iter_mut().zip(left) {
                    add_term(simd, sums, left, &right);
                }
            }
        }
        sums
    }
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lines = 0..self.lines;
        match S::F32_LANES {
            16 => {
                let rest = self.tiles::<S, 1, 3, 8>(simd, lines.clone());
                let rest = self.tiles::<S, 1, 2, 8>(simd, rest..lines.end);
                self.tiles::<S, 1, 1, 8>(simd, rest..lines.end);
            }
            8 => drop(self.tiles::<S, 2, 1, 4>(simd, lines)),
            4 => drop(self.tiles::<S, 4, 1, 4>(simd, lines)),
            _ => drop(self.tiles::<S, 16, 1, 1>(simd, lines)),
        }
    }
}

/// Returns a line as vectors.
#[inline(always)]
fn line<S: Simd, const V: usize>(line: &[f32]) -> [S::f32s; V] {
    let (vectors, _) = S::as_simd_f32s(line);
    array::from_fn(|v| vectors[v])
}

#[inline(always)]
fn add_term<S: Simd, const V: usize, const L: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; L],
    left: f32,
    right: &[[S::f32s; V]; L],
) {
    let left = simd.splat_f32s(left);
    for (sum, right) in sums.as_flattened_mut().iter_mut().zip(right.as_flattened()) {
        *sum = simd.mul_add_f32s(left, *right, *sum);
    }
}

/// Returns lines that lie at equal distances.
#[inline(always)]
fn load<S: Simd, const V: usize, const L: usize>(from: &[f32], pitch: usize) -> [[S::f32s; V]; L] {
    array::from_fn(|l| line::<S, V>(&from[l * pitch..][..LANES]))
}

/// Writes lines one after the other.
#[inline(always)]
fn store<S: Simd, const V: usize, const L: usize>(to: &mut [f32], lines: &[[S::f32s; V]; L]) {
    let (to, _) = S::as_mut_simd_f32s(to);
    to.iter_mut().zip(lines.as_flattened()).for_each(|(to, vector)| *to = *vector);
}
