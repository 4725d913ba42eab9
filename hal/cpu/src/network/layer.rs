//! Layer normalisation: mean and variance of every row, over its columns.
//!
//! A row is a token, and its columns are features: moments belong to the row, gains and offsets to
//! the columns.  Forward and backward pass are those of batch normalisation with rows and columns exchanged
//! in the means; see `batch` for the formulas.
//!
//! Sums along a row run in 64 lanes (`lanes`), whatever the vectors are, so that their order is the same
//! on every machine.  Gradients of gains and offsets are sums over the rows, column by column, as for
//! a tile of one row (`tile`): 64 rows in f32, then in f64.
//!
//! # Example
//!
//! A row of 130 columns: lanes 0 and 1 add three elements each (0, 64, 128 and 1, 65, 129), the other
//! lanes two; then the upper 32 lanes are added to the lower 32, and so on down to one.  A chunk has
//! 4096 / 130 = 31 rows.

use std::vec::Vec;

use adaloss_core::format::Element;

use super::{CHUNK, Cpu, Scratch, Sink, lanes, tile::Tile, vectors, widen};
use adaloss_hal::network::Normalisation;

/// Computes means and variances of the rows; of a normalisation that is not centred, zeros and the means of the squares.
pub(super) fn moments<W: Element>(
    cpu: &Cpu,
    shape: Normalisation,
    input: &[W],
    means: &mut [f32],
    variances: &mut [f32],
) {
    let Normalisation { columns, centred, .. } = shape;
    if columns == 0 {
        means.fill(0.0);
        variances.fill(0.0);
        return;
    }
    let rows = rows(columns);
    let parts: Vec<_> = means.chunks_mut(rows).zip(variances.chunks_mut(rows)).collect();
    cpu.each(parts, |nth, (means, variances)| {
        let input = &input[nth * rows * columns..][..means.len() * columns];
        let mut values = Scratch::any(input.len());
        widen(input, &mut values);
        vectors(
            #[inline(always)]
            || {
                let moments = means.iter_mut().zip(&mut *variances);
                for ((to_mean, variance), row) in moments.zip(values.chunks_exact(columns)) {
                    let mean = if centred { lanes::sum(row) / columns as f32 } else { 0.0 };
                    let squares = lanes::sum_of([row], |[x]| (x - mean) * (x - mean));
                    (*to_mean, *variance) = (mean, squares / columns as f32);
                }
            },
        );
    });
}

/// Returns the rows of a chunk: about [`CHUNK`] elements, so that a chunk stays in the first-level cache between the loops
/// over its rows and the epilogue.
fn rows(columns: usize) -> usize {
    (CHUNK / columns.max(1)).max(1)
}

/// The moments of rows.
pub(super) struct Layer<'a> {
    shape: Normalisation,
    means: &'a [f32],
    variances: &'a [f32],
}

impl<'a> Layer<'a> {
    /// Takes the means, then the variances.
    pub(super) fn new(shape: Normalisation, moments: &'a [f32]) -> Self {
        let (means, variances) = moments.split_at(shape.rows);
        Self { shape, means, variances }
    }

    /// Normalises, with the gains and then the offsets.
    pub(super) fn normalise<W: Element>(
        &self,
        cpu: &Cpu,
        input: &[W],
        affine: &[f32],
        to: &mut [W],
        sink: &Sink<'_, W>,
    ) {
        let columns = self.shape.columns;
        self.each(
            cpu,
            to,
            sink,
            #[inline(always)]
            |row, results| {
                normalise(&input[row * columns..], self.moments(row), affine, results);
            },
        );
    }

    /// Returns, per column, the sums of `gradient x̂` and those of `gradient`.
    pub(super) fn sums<W: Element, G: Element>(
        &self,
        cpu: &Cpu,
        gradient: &[G],
        input: &[W],
    ) -> Vec<f64> {
        let columns = self.shape.columns;
        Tile::row(columns).sums(cpu, input.len(), 2, |chunk, sums| {
            let (of_gains, of_offsets) = sums.split_at_mut(columns);
            let rows = chunk.start / columns..chunk.end / columns;
            vectors(
                #[inline(always)]
                || {
                    for row in rows.clone() {
                        let (gradient, input) =
                            (&gradient[row * columns..], &input[row * columns..]);
                        add_gradients(gradient, input, self.moments(row), of_gains, of_offsets);
                    }
                },
            );
        })
    }

    /// Computes the gradient of the input.
    pub(super) fn input<W: Element, G: Element>(
        &self,
        cpu: &Cpu,
        affine: &[f32],
        gradient: &[G],
        input: &[W],
        to: &mut [G],
        sink: &Sink<'_, G>,
    ) {
        let columns = self.shape.columns;
        let gains = &affine[..columns];
        self.each(
            cpu,
            to,
            sink,
            #[inline(always)]
            |row, results| {
                let (gradient, input) = (&gradient[row * columns..], &input[row * columns..]);
                back(gradient, input, self.moments(row), gains, self.shape.centred, results);
            },
        );
    }

    /// Returns mean and deviation of a row.
    #[inline(always)]
    fn moments(&self, row: usize) -> [f32; 2] {
        [self.means[row], (self.variances[row] + self.shape.epsilon).sqrt()]
    }

    /// Calls `work`, in vector code, with each row's number and its results.
    fn each<F: Element>(
        &self,
        cpu: &Cpu,
        to: &mut [F],
        sink: &Sink<'_, F>,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let columns = self.shape.columns;
        let rows = rows(columns);
        cpu.each_chunk(to, rows * columns, |nth, to| {
            let mut results = Scratch::any(to.len());
            vectors(
                #[inline(always)]
                || {
                    let results = results.chunks_exact_mut(columns);
                    for (results, row) in results.zip(nth * rows..) {
                        work(row, results);
                    }
                },
            );
            sink.put(nth * rows * columns, &results, to);
        });
    }
}

#[inline(always)]
fn normalise<W: Element>(input: &[W], [mean, deviation]: [f32; 2], affine: &[f32], to: &mut [f32]) {
    let (gains, offsets) = affine.split_at(to.len());
    let affine = gains.iter().zip(offsets);
    for ((to, x), (gain, offset)) in to.iter_mut().zip(input).zip(affine) {
        *to = gain * ((x.widen() - mean) / deviation) + offset;
    }
}

#[inline(always)]
fn add_gradients<W: Element, G: Element>(
    gradient: &[G],
    input: &[W],
    [mean, deviation]: [f32; 2],
    of_gains: &mut [f32],
    of_offsets: &mut [f32],
) {
    let sums = of_gains.iter_mut().zip(of_offsets);
    for ((of_gain, of_offset), (g, x)) in sums.zip(gradient.iter().zip(input)) {
        let g = g.widen();
        *of_gain += g * ((x.widen() - mean) / deviation);
        *of_offset += g;
    }
}

#[inline(always)]
fn back<W: Element, G: Element>(
    gradient: &[G],
    input: &[W],
    [mean, deviation]: [f32; 2],
    gains: &[f32],
    centred: bool,
    to: &mut [f32],
) {
    let mut hats = Scratch::any(to.len());
    for (hat, x) in hats.iter_mut().zip(input) {
        *hat = (x.widen() - mean) / deviation;
    }
    for (h, (gain, g)) in to.iter_mut().zip(gains.iter().zip(gradient)) {
        *h = gain * g.widen();
    }
    let columns = to.len() as f32;
    let alone = if centred { lanes::sum(to) / columns } else { 0.0 };
    let with_hat = lanes::sum_of([to, &hats], |[h, hat]| h * hat) / columns;
    for (h, hat) in to.iter_mut().zip(&*hats) {
        *h = (*h - alone - hat * with_hat) / deviation;
    }
}
