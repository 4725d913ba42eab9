//! Batch normalisation: mean and variance of every column, over the rows.
//!
//! A row is a pixel or a sample, a column a channel.  Rows may have as few as one column, so that all
//! loops run over tiles of rows (`tile`), with what there is per column repeated for a whole tile.
//!
//! With `x̂ = (x - mean) / sqrt(variance + epsilon)`, the forward pass is `gain x̂ + offset`.  With
//! `h = gain g` for a gradient `g` of the result, and means over the rows, the gradient of the input is
//! `(h - mean(h) - x̂ mean(h x̂)) / sqrt(variance + epsilon)`.  The two means are those of the gradients
//! of offset and gain, times the gain: `sums` computes these once for both.  Where the normalisation is not centred, means
//! are 0, that of `h` too.
//!
//! # Example
//!
//! Rows (1, 10), (3, 10), (5, 20), (7, 20): the means are 4 and 15, the variances 5 and 25.  With two
//! columns a tile has 128 rows, so that `means` is repeated to `4 15 4 15 ...`, 256 values, and these four rows are
//! the first eight elements of the only tile.

use std::{vec, vec::Vec};

use adaloss_core::format::Element;

use super::{CHUNK, Cpu, Scratch, Sink, tile::Tile, vectors};
use adaloss_hal::network::Normalisation;

/// Computes the means of the columns, and then their variances in a second pass; of a normalisation that is not centred, zeros and the
/// means of the squares.
///
/// The second pass sums squares of distances from the mean.  The mean of the squares less the square
/// of the mean would take one pass, and cancels where a mean is large beside its deviation.
pub(super) fn moments<W: Element>(
    cpu: &Cpu,
    shape: Normalisation,
    input: &[W],
    means: &mut [f32],
    variances: &mut [f32],
) {
    let tile = Tile::of(shape.columns);
    let mean = |sum: f64| if shape.rows == 0 { 0.0 } else { (sum / shape.rows as f64) as f32 };
    if shape.centred {
        let sums = tile.sums(cpu, input.len(), 1, |chunk, sums| {
            vectors(
                #[inline(always)]
                || add(&input[chunk.clone()], sums),
            );
        });
        means.iter_mut().zip(sums).for_each(|(to, sum)| *to = mean(sum));
    } else {
        means.fill(0.0);
    }
    let centres = tile.repeat(means);
    let sums = tile.sums(cpu, input.len(), 1, |chunk, sums| {
        vectors(
            #[inline(always)]
            || add_squares(&input[chunk.clone()], &centres, sums),
        );
    });
    variances.iter_mut().zip(sums).for_each(|(to, sum)| *to = mean(sum));
}

/// The moments of a batch, repeated for a tile.
pub(super) struct Batch {
    shape: Normalisation,
    tile: Tile,
    means: Vec<f32>,
    /// `sqrt(variance + epsilon)`.
    deviations: Vec<f32>,
}

impl Batch {
    /// Takes the means, then the variances.
    pub(super) fn new(shape: Normalisation, moments: &[f32]) -> Self {
        let tile = Tile::of(shape.columns);
        let (means, variances) = moments.split_at(shape.columns);
        let deviations: Vec<_> = variances.iter().map(|x| (x + shape.epsilon).sqrt()).collect();
        Self { shape, tile, means: tile.repeat(means), deviations: tile.repeat(&deviations) }
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
        let (gains, offsets) = affine.split_at(self.shape.columns);
        let (gains, offsets) = (self.tile.repeat(gains), self.tile.repeat(offsets));
        let columns = [&self.means, &self.deviations, &gains, &offsets].map(Vec::as_slice);
        self.each(
            cpu,
            to,
            sink,
            #[inline(always)]
            |first, results| {
                normalise(&input[first..], columns, results);
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
        let columns = [&self.means, &self.deviations].map(Vec::as_slice);
        self.tile.sums(cpu, input.len(), 2, |chunk, sums| {
            let (gradient, input) = (&gradient[chunk.clone()], &input[chunk.clone()]);
            let (of_gains, of_offsets) = sums.split_at_mut(self.tile.len());
            vectors(
                #[inline(always)]
                || add_gradients(gradient, input, columns, of_gains, of_offsets),
            );
        })
    }

    /// Computes the gradient of the input from the affine parameters and what [`sums`](Self::sums)
    /// returned.
    pub(super) fn input<W: Element, G: Element>(
        &self,
        cpu: &Cpu,
        [affine, sums]: [&[f32]; 2],
        gradient: &[G],
        input: &[W],
        to: &mut [G],
        sink: &Sink<'_, G>,
    ) {
        let gains = &affine[..self.shape.columns];
        // The means over the rows of h x̂ and of h: the gain is constant in a column.
        let (of_gains, of_offsets) = sums.split_at(self.shape.columns);
        let means = |sums: &[f32]| {
            let terms = gains.iter().zip(sums);
            let means: Vec<_> = terms.map(|(gain, x)| gain * x / self.shape.rows as f32).collect();
            self.tile.repeat(&means)
        };
        let with_hats = means(of_gains);
        let alone = match self.shape.centred {
            true => means(of_offsets),
            false => vec![0.0; with_hats.len()],
        };
        let gains = self.tile.repeat(gains);
        let columns = [&self.means, &self.deviations, &gains, &with_hats, &alone];
        let columns = columns.map(Vec::as_slice);
        self.each(
            cpu,
            to,
            sink,
            #[inline(always)]
            |first, results| {
                back(&gradient[first..], &input[first..], columns, results);
            },
        );
    }

    /// Calls `work`, in vector code, with the first element of each tile and its results.
    fn each<F: Element>(
        &self,
        cpu: &Cpu,
        to: &mut [F],
        sink: &Sink<'_, F>,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let size = self.tile.chunk(CHUNK);
        cpu.each_chunk(to, size, |nth, to| {
            let mut results = Scratch::any(to.len());
            vectors(
                #[inline(always)]
                || {
                    let tiles = results.chunks_mut(self.tile.len());
                    for (tile, results) in tiles.enumerate() {
                        work(nth * size + tile * self.tile.len(), results);
                    }
                },
            );
            sink.put(nth * size, &results, to);
        });
    }
}

#[inline(always)]
fn add<W: Element>(input: &[W], sums: &mut [f32]) {
    for row in input.chunks(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x.widen();
        }
    }
}

#[inline(always)]
fn add_squares<W: Element>(input: &[W], means: &[f32], sums: &mut [f32]) {
    for row in input.chunks(sums.len()) {
        for ((sum, mean), x) in sums.iter_mut().zip(means).zip(row) {
            let distance = x.widen() - mean;
            *sum += distance * distance;
        }
    }
}

#[inline(always)]
fn add_gradients<W: Element, G: Element>(
    gradient: &[G],
    input: &[W],
    [means, deviations]: [&[f32]; 2],
    of_gains: &mut [f32],
    of_offsets: &mut [f32],
) {
    let size = of_gains.len();
    for (gradient, input) in gradient.chunks(size).zip(input.chunks(size)) {
        let sums = of_gains.iter_mut().zip(&mut *of_offsets);
        let columns = means.iter().zip(deviations);
        let elements = gradient.iter().zip(input);
        for (((of_gain, of_offset), (mean, deviation)), (g, x)) in sums.zip(columns).zip(elements) {
            let g = g.widen();
            *of_gain += g * ((x.widen() - mean) / deviation);
            *of_offset += g;
        }
    }
}

/// Computes the results of one tile, or of a part of it.
#[inline(always)]
fn normalise<W: Element>(
    input: &[W],
    [means, deviations, gains, offsets]: [&[f32]; 4],
    to: &mut [f32],
) {
    let moments = means.iter().zip(deviations);
    let affine = gains.iter().zip(offsets);
    let elements = to.iter_mut().zip(input);
    for (((to, x), (mean, deviation)), (gain, offset)) in elements.zip(moments).zip(affine) {
        *to = gain * ((x.widen() - mean) / deviation) + offset;
    }
}

#[inline(always)]
fn back<W: Element, G: Element>(
    gradient: &[G],
    input: &[W],
    [means, deviations, gains, with_hats, alone]: [&[f32]; 5],
    to: &mut [f32],
) {
    let moments = means.iter().zip(deviations).zip(gains);
    let of_h = with_hats.iter().zip(alone);
    let elements = to.iter_mut().zip(gradient.iter().zip(input));
    for (((to, (g, x)), ((mean, deviation), gain)), (with_hat, alone)) in
        elements.zip(moments).zip(of_h)
    {
        let hat = (x.widen() - mean) / deviation;
        *to = (gain * g.widen() - alone - hat * with_hat) / deviation;
    }
}
