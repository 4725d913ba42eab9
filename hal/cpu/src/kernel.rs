//! The two loops behind all products and convolutions: register-tiled matrix products.
//!
//! Both keep a tile of sums in vector registers: some rows, times columns in lines of [`LANES`].  A
//! line is one vector of 16 f32, two of 8, four of 4, or 16 scalars.  For each term the loop
//! broadcasts one element of the left operand per row, loads one line of the right operand per line
//! of the tile, and does one fused multiply-add per row and vector.  The sums are loaded from memory
//! before the first term of a call and stored after the last.
//!
//! The loops differ in how the left operand lies.  [`Streams`] reads a stream of its own for each
//! row, as a product or a convolution does: the elements of one row are neighbours.  [`Outer`] reads
//! the elements of all rows side by side, as a sum of outer products does: the elements of one term
//! are neighbours.
//!
//! # Example
//!
//! A convolution of a 1x4x4x1 input with one 3x3 kernel, without padding, has an output of 2x2: four
//! rows of [`Streams`], one for each output pixel.  With the input row-major as `left[0..16]` a row's
//! stream begins at its window's upper left element, and the three rows of a window are three segments:
//!
//! ```text
//! left:  0  1  2  3      rows (output pixel: from)     segments (from, term, length)
//!        4  5  6  7      (0,0): 0     (0,1): 1         (0, 0, 3)  kernel row 0
//!        8  9 10 11      (1,0): 4     (1,1): 5         (4, 3, 3)  kernel row 1
//!       12 13 14 15                                    (8, 6, 3)  kernel row 2
//! ```
//!
//! Term `t` of the panel is the line of the 16 filters' weights number `t`; here one lane is used.
//! The sum of pixel (1,0) is, in this order, `left[4..7]` times terms 0 to 2, `left[8..11]` times
//! terms 3 to 5 and `left[12..15]` times terms 6 to 8.  With vectors of 8 lanes one tile holds the
//! four pixels times one line, which is 4 x 2 registers; with vectors of 16 lanes a tile has eight
//! rows, and the last four repeat pixel (1,1), whose sums are stored once.
//!
//! # Order
//!
//! A sum adds its terms one after the other, in their order, with fused multiplications.  The width
//! of the vectors and the size of the tile decide only which sums are computed at the same time, so
//! that they change no bit.
//!
//! # Tile sizes
//!
//! They are chosen for the number of vector registers, by count and not by benchmark:
//!
//! | lanes of a vector | registers | `Streams`, rows x lines | registers in use | `Outer`, rows x lines | registers in use |
//! |---|---|---|---|---|---|
//! | 16 (AVX-512) | 32 | 8 x 2, rest 8 x 1 | 16 sums, 2 right, 1 left | 8 x 3, rest 8 x 2, 8 x 1 | 24 sums, 3 right, 1 left |
//! | 8 (AVX2) | 16 | 4 x 1 | 8 sums, 2 right, 1 left | 4 x 1 | the same |
//! | 4 (NEON) | 32 | 4 x 1 | 16 sums, 4 right, 1 left | 4 x 1 | the same |
//! | 1 (no vectors) | | 1 x 1 | 16 sums | 1 x 1 | the same |
//!
//! Eight independent sums or more keep two pipelines of fused multiply-adds busy at a latency of four
//! cycles.  `Outer` reads its left operand as one piece of eight neighbours and needs no pointer per
//! row, which leaves room for a third line.

use core::{array, ops::Range};

use pulp::{Arch, Simd, WithSimd};

/// Columns of a line: the f32 values of the widest vector, AVX-512, and of a cache line of 64 bytes.
pub(super) const LANES: usize = 16;

/// Rows of the tallest tile, that of AVX-512.  [`Outer`] has a multiple of these, padded with zeros or with sums that
/// nothing reads, so that its tiles are whole.
pub(super) const ROWS: usize = 8;

/// Returns the lines that hold some columns.
pub(super) const fn lines(columns: usize) -> usize {
    columns.div_ceil(LANES)
}

/// Where in `left` the stream of one row begins, and where in `to` its sums are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A part of every stream whose elements are neighbours in memory, such as one row of a convolution's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its offset from the beginning of the stream.
    pub(super) from: usize,
    /// The number of its first term in the panels.
    pub(super) term: usize,
    pub(super) length: usize,
}

/// `to[row][column] += sum over terms of left[row][term] * panel[term][column]`.
pub(super) struct Streams<'a> {
    pub(super) left: &'a [f32],
    pub(super) rows: &'a [Row],
    pub(super) segments: &'a [Segment],
    /// One panel of `terms` lines for each line of columns: element `(line * terms + term) * LANES + lane`.
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
                // Whole tiles only, so that the loop has no branch: the last one repeats its last row and stores it once.
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
