//! Batch and layer normalisation, centred or not: the same formulas over columns or rows.
//!
//! Moments and sums are added up in f64 and rounded once.  Those of columns are [`columns`](super::columns)'s; those of a row
//! are a warp's, whose thread `t` adds up the elements `i` with `i / 4 % 32 = t` in their order, before the threads are added
//! in pairs.  A variance takes one pass: with the first element `k` of its column or row, it is
//! `(sum (x - k)^2 - (sum (x - k))^2 / n) / n`.  Since `(mean - k)^2` is at most `n` variances, the difference makes the error of its
//! terms no more than `n + 1` times what it is of them.

use core::array;

use adaloss_core::format::Element;

use super::{
    columns::{Columns, FOUR, Terms, sum_columns, sum_parts_of_columns},
    operand::Operand,
    sliding::split,
    warps::{Row, each_row},
};
use crate::{
    Block,
    block::{Share, WARP, sum_warp_float},
    epilogue::{Epilogue, Sink, Tally},
    memory::{CHUNK, Out, has_chunks, read_chunk},
};

/// What is normalised: rows and columns, and over which of them means are taken.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Normalisation {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Whether a mean is that of a column, over the rows; otherwise it is that of a row.
    pub over_rows: bool,
    /// Whether distances are taken from the mean; otherwise from zero.
    pub centred: bool,
    /// What is added to variances.
    pub epsilon: f32,
    /// The elements.
    pub input: Operand,
}

impl Normalisation {
    /// Returns how many means there are.
    const fn groups(self) -> usize {
        if self.over_rows { self.columns } else { self.rows }
    }

    /// Returns the extents.
    const fn extents(self) -> Columns {
        Columns { rows: self.rows, columns: self.columns }
    }

    /// Returns what distances are taken from for the moments of a group: its first element, or zero where there is none that is
    /// finite or the normalisation is not centred.
    ///
    /// # Safety
    ///
    /// The input is there, and there is such a group.
    #[inline(always)]
    unsafe fn first(self, group: usize) -> f32 {
        let place = if self.over_rows { group } else { group * self.columns };
        let is_there = self.centred && self.rows > 0 && self.columns > 0;
        // SAFETY: the caller's promise.
        let x = if is_there { unsafe { self.input.read(place) } } else { 0.0 };
        if x.is_finite() { x } else { 0.0 }
    }

    /// Returns mean and variance of a group from the sums of distances from its first element and of their squares; 0 of
    /// nothing.
    ///
    /// # Safety
    ///
    /// As for [`first`](Self::first).
    #[inline(always)]
    unsafe fn moments_of(self, group: usize, [sum, squares]: [f64; 2]) -> [f32; 2] {
        let count = if self.over_rows { self.rows } else { self.columns };
        if count == 0 {
            return [0.0; 2];
        }
        let count = f64::from(count as u32);
        if !self.centred {
            return [0.0, (squares / count) as f32];
        }
        // SAFETY: the caller's promise.
        let first = f64::from(unsafe { self.first(group) });
        let variance = (squares - sum * sum / count) / count;
        // What is below zero was rounded to it; a NaN stays one.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        [(first + sum / count) as f32, variance as f32]
    }
}

/// Distances from the first element of a group, and their squares.
#[derive(Clone, Copy)]
struct Distances(Normalisation);

impl Terms for Distances {
    type Own = f64;

    #[inline(always)]
    fn of_column<B: Block>(self, column: usize) -> f64 {
        // SAFETY: who adds up has promised that the elements are there.
        f64::from(unsafe { self.0.first(column) })
    }

    #[inline(always)]
    fn of_row<B: Block>(self, _: usize) -> Option<f64> {
        None
    }

    #[inline(always)]
    unsafe fn one(self, place: usize) -> [f32; 2] {
        // SAFETY: the caller's promise.
        [unsafe { self.0.input.read(place) }, 0.0]
    }

    #[inline(always)]
    unsafe fn fours<const N: usize>(self, places: [usize; N]) -> [[[f32; FOUR]; 2]; N] {
        // SAFETY: the caller's promise.
        unsafe { self.0.input.read_chunks(places) }.map(|four| [four, [0.0; FOUR]])
    }

    #[inline(always)]
    fn terms(self, first: f64, [x, _]: [f32; 2]) -> [f64; 2] {
        let distance = f64::from(x) - first;
        [distance, distance * distance]
    }
}

/// Tells whether elements of a row can be read by fours.
#[inline(always)]
fn by_fours(columns: usize, operands: &[Operand]) -> bool {
    columns.is_multiple_of(FOUR) && operands.iter().all(|operand| operand.has_chunks())
}

/// Computes the mean of each column or row, and then the variances; those of columns that have
/// [several parts](Columns::parts) are left to [`moments_of_parts`].
///
/// # Safety
///
/// The input is there and nobody writes it during the launch; for several parts there is the room that
/// [`columns`](super::columns) says; nobody else reads or writes parts or moments.
pub unsafe fn moments<B: Block>(
    block: &mut B,
    of: Normalisation,
    parts: *mut f64,
    to: Out<'_, f32>,
) {
    let by_fours = by_fours(of.columns, &[of.input]);
    // SAFETY: the caller's promise, here and below.
    unsafe {
        if of.over_rows {
            let finish = |column: usize, sums: [f64; 2]| of.moments_of(column, sums);
            sum_columns(block, of.extents(), Distances(of), by_fours, parts, finish, to);
            return;
        }
    }
    each_row(block, of.rows, (), |block, row, _| {
        let sums = block.map(&row, |thread, Row { row, .. }| {
            let mut sums = [0.0; 2];
            let first = Distances(of).of_column::<B>(row);
            let mut add = |x: f32| {
                let [one, other] = Distances(of).terms(first, [x, 0.0]);
                sums = [sums[0] + one, sums[1] + other];
            };
            // SAFETY: as above.
            each_four(of.columns, thread, |column, count| unsafe {
                let place = row * of.columns + column;
                if by_fours {
                    let [four]: [[f32; FOUR]; 1] = of.input.read_chunks([place]);
                    for x in &four {
                        add(*x);
                    }
                } else {
                    (place..place + count).for_each(|place| add(of.input.read(place)));
                }
            });
            sums
        });
        let sums = sum_warp_float(block, sums);
        block.zip(&row, &sums, |thread, Row { row, is_own }, sums| {
            if is_own && thread % WARP == 0 {
                // SAFETY: as above; each row is one warp's.
                unsafe {
                    let [mean, variance] = of.moments_of(row, sums);
                    to.write(row, mean);
                    to.write(of.rows + row, variance);
                }
            }
        })
    });
}

/// Computes the moments of columns from the parts that [`moments`] has left.
///
/// # Safety
///
/// As there.
pub unsafe fn moments_of_parts<B: Block>(
    block: &mut B,
    of: Normalisation,
    parts: *const f64,
    to: Out<'_, f32>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let finish = |column: usize, sums: [f64; 2]| of.moments_of(column, sums);
        sum_parts_of_columns(block, of.extents(), parts, finish, to);
    }
}

/// Calls a function with the columns that a thread of a warp has of a row: the first of four, and how many there are.
#[inline(always)]
fn each_four(columns: usize, thread: u32, mut work: impl FnMut(usize, usize)) {
    let lane = (thread % WARP) as usize;
    for nth in Share::of(lane..columns.div_ceil(FOUR), WARP as usize) {
        let column = FOUR * nth;
        work(column, if columns - column < FOUR { columns - column } else { FOUR });
    }
}

/// The forward pass: an input and its moments.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Forward {
    /// What is normalised.
    pub of: Normalisation,
    /// The first mean, and behind the means the variances.
    pub moments: *const f32,
}

/// What elements of a column or row are normalised with.
#[derive(Clone, Copy)]
struct Group {
    mean: f32,
    /// `sqrt(variance + epsilon)`.
    deviation: f32,
}

impl Group {
    /// Returns a normalised element, x̂.
    #[inline(always)]
    fn hat(self, x: f32) -> f32 {
        (x - self.mean) / self.deviation
    }
}

impl Forward {
    /// Returns what elements of a group are normalised with.
    ///
    /// # Safety
    ///
    /// The moments are there, and there is such a group.
    #[inline(always)]
    unsafe fn group<B: Block>(self, group: usize) -> Group {
        let Self { of, moments } = self;
        // SAFETY: the caller's promise.
        let (mean, variance) = unsafe { (*moments.add(group), *moments.add(of.groups() + group)) };
        Group { mean, deviation: B::root(variance + of.epsilon) }
    }

    /// Returns what an element is normalised with.
    ///
    /// # Safety
    ///
    /// The moments are there, and there is such an element.
    #[inline(always)]
    unsafe fn group_of<B: Block>(self, row: usize, column: usize) -> Group {
        // SAFETY: the caller's promise.
        unsafe { self.group::<B>(if self.of.over_rows { column } else { row }) }
    }

    /// Returns what four elements of a row are normalised with.
    ///
    /// # Safety
    ///
    /// As for [`group_of`](Self::group_of), of each; the moments have chunks, and their column is a multiple of four.
    #[inline(always)]
    unsafe fn groups_of<B: Block>(self, row: usize, column: usize) -> [Group; FOUR] {
        let Self { of, moments } = self;
        // SAFETY: the caller's promise.
        unsafe {
            if !of.over_rows {
                return [self.group::<B>(row); FOUR];
            }
            let means: [f32; FOUR] = read_chunk(moments.add(column));
            let variances: [f32; FOUR] = read_chunk(moments.add(of.columns + column));
            array::from_fn(|nth| Group {
                mean: means[nth],
                deviation: B::root(variances[nth] + of.epsilon),
            })
        }
    }

    /// Tells whether all that results are made of can be read by chunks.
    #[inline(always)]
    fn has_chunks(self, parameters: &[*const f32]) -> bool {
        let has_moments = !self.of.over_rows || has_chunks(self.moments);
        self.of.columns.is_multiple_of(CHUNK)
            && self.of.input.has_chunks()
            && has_moments
            && parameters.iter().all(|&first| has_chunks(first))
    }
}

/// Makes a chunk from its halves, each in a row, so that a thread has the parameters of one at a time.
#[inline(always)]
fn chunk(
    columns: usize,
    four: impl Fn(usize, usize) -> [f32; FOUR],
) -> impl Fn([usize; 2]) -> [f32; CHUNK] {
    move |[one, other]| {
        let (row, column) = split(one, columns);
        let [a, b, c, d] = four(row, column);
        let (row, column) = split(other, columns);
        let [e, f, g, h] = four(row, column);
        [a, b, c, d, e, f, g, h]
    }
}

/// Normalises: `gain x̂ + offset`, narrowed as the epilogue says.
///
/// # Safety
///
/// All that is named is there, gains and then offsets at `affine`, and nobody writes it during the launch; results and epilogue
/// are as [`apply`](crate::apply::apply) asks for.
pub unsafe fn normalise<B: Block, F: Element>(
    block: &mut B,
    forward: &Forward,
    affine: *const f32,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise, here and below.
    if unsafe { epilogue.is_off() } {
        return;
    }
    let forward = *forward;
    let Normalisation { columns, input, .. } = forward.of;
    let one = |place: usize| {
        let (row, column) = split(place, columns);
        // SAFETY: as above.
        unsafe {
            let hat = forward.group_of::<B>(row, column).hat(input.read(place));
            *affine.add(column) * hat + *affine.add(columns + column)
        }
    };
    let four = |row: usize, column: usize| {
        let first = row * columns + column;
        // SAFETY: as above.
        unsafe {
            let groups = forward.groups_of::<B>(row, column);
            let gains: [f32; FOUR] = read_chunk(affine.add(column));
            let offsets: [f32; FOUR] = read_chunk(affine.add(columns + column));
            let [x]: [[f32; FOUR]; 1] = input.read_chunks([first]);
            array::from_fn(|nth| gains[nth] * groups[nth].hat(x[nth]) + offsets[nth])
        }
    };
    // SAFETY: as above.
    unsafe {
        let sink = Sink::<F>::open_all(block, epilogue);
        sink.run(block, to, forward.has_chunks(&[affine]), one, chunk(columns, four));
    }
}

/// Gradients of gains and offsets.
#[derive(Clone, Copy)]
struct Gradients {
    forward: Forward,
    gradient: Operand,
}

impl Terms for Gradients {
    type Own = Group;

    #[inline(always)]
    fn of_column<B: Block>(self, column: usize) -> Group {
        let Forward { of, .. } = self.forward;
        // What is not of the column is not used.
        match of.over_rows {
            // SAFETY: who adds up has promised that all is there.
            true => unsafe { self.forward.group::<B>(column) },
            false => Group { mean: 0.0, deviation: 1.0 },
        }
    }

    #[inline(always)]
    fn of_row<B: Block>(self, row: usize) -> Option<Group> {
        // SAFETY: as above.
        (!self.forward.of.over_rows).then(|| unsafe { self.forward.group::<B>(row) })
    }

    #[inline(always)]
    unsafe fn one(self, place: usize) -> [f32; 2] {
        // SAFETY: the caller's promise.
        unsafe { [self.forward.of.input.read(place), self.gradient.read(place)] }
    }

    #[inline(always)]
    unsafe fn fours<const N: usize>(self, places: [usize; N]) -> [[[f32; FOUR]; 2]; N] {
        // SAFETY: the caller's promise.
        let (x, gradient): ([_; N], [_; N]) = unsafe {
            (self.forward.of.input.read_chunks(places), self.gradient.read_chunks(places))
        };
        array::from_fn(|nth| [x[nth], gradient[nth]])
    }

    #[inline(always)]
    fn terms(self, group: Group, [x, gradient]: [f32; 2]) -> [f64; 2] {
        [f64::from(gradient * group.hat(x)), f64::from(gradient)]
    }
}

/// What both sums of a column are rounded to.
#[inline(always)]
fn rounded(_: usize, sums: [f64; 2]) -> [f32; 2] {
    sums.map(|sum| sum as f32)
}

/// Sums the gradients of gains and offsets; those of columns that have [several parts](Columns::parts) are left to
/// [`sums_of_parts`].
///
/// # Safety
///
/// As for [`moments`], of all that is named.
pub unsafe fn normalise_sums<B: Block>(
    block: &mut B,
    forward: &Forward,
    gradient: Operand,
    parts: *mut f64,
    to: Out<'_, f32>,
) {
    let of = forward.of;
    let by_fours = by_fours(of.columns, &[of.input, gradient]);
    let terms = Gradients { forward: *forward, gradient };
    // SAFETY: the caller's promise.
    unsafe { sum_columns(block, of.extents(), terms, by_fours, parts, rounded, to) };
}

/// Sums columns from the parts that [`normalise_sums`] has left.
///
/// # Safety
///
/// As there.
pub unsafe fn sums_of_parts<B: Block>(
    block: &mut B,
    of: Columns,
    parts: *const f64,
    to: Out<'_, f32>,
) {
    // SAFETY: the caller's promise.
    unsafe { sum_parts_of_columns(block, of, parts, rounded, to) };
}

/// What the gradient of an element is computed from: `h`, x̂, the means of `h` and of `h x̂`, and the deviation.
#[inline(always)]
fn back(h: f32, hat: f32, [mean, with_hat]: [f32; 2], deviation: f32) -> f32 {
    (h - mean - hat * with_hat) / deviation
}

/// Computes the gradient of the input, narrowed as the epilogue says.
///
/// # Safety
///
/// As for [`normalise`]; and the sums are what [`normalise_sums`] has left.
pub unsafe fn normalise_input<B: Block, F: Element>(
    block: &mut B,
    forward: &Forward,
    gradient: &[F],
    affine: *const f32,
    sums: *const f32,
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // SAFETY: the caller's promise, here and below.
    if unsafe { epilogue.is_off() } {
        return;
    }
    let forward = *forward;
    // SAFETY: as above.
    unsafe {
        if forward.of.over_rows {
            let sink = Sink::<F>::open_all(block, epilogue);
            input_of_columns(block, forward, gradient, [affine, sums], to, sink);
        } else {
            let sink = Sink::<F>::open(block, epilogue);
            input_of_rows(block, forward, gradient, affine, to, sink);
        }
    }
}

/// Is [`normalise_input`] where means are those of columns, which the sums say.
///
/// # Safety
///
/// As there.
#[inline(always)]
unsafe fn input_of_columns<B: Block, F: Element>(
    block: &mut B,
    forward: Forward,
    gradient: &[F],
    [affine, sums]: [*const f32; 2],
    to: Out<'_, F>,
    sink: Sink<'_, F>,
) {
    let Normalisation { rows, columns, input, .. } = forward.of;
    let mean = |gain: f32, sum: f32| gain * sum / rows as f32;
    let centre = |gain: f32, sum: f32| if forward.of.centred { mean(gain, sum) } else { 0.0 };
    let one = |place: usize| {
        let (row, column) = split(place, columns);
        // SAFETY: the caller's promise, here and below.
        unsafe {
            let (group, gain) = (forward.group_of::<B>(row, column), *affine.add(column));
            let of_column =
                [centre(gain, *sums.add(columns + column)), mean(gain, *sums.add(column))];
            let h = gain * gradient.get(place).map_or(0.0, |x| x.widen());
            back(h, group.hat(input.read(place)), of_column, group.deviation)
        }
    };
    let four = |row: usize, column: usize| {
        let first = row * columns + column;
        // SAFETY: as above.
        unsafe {
            let groups = forward.groups_of::<B>(row, column);
            let gains: [f32; FOUR] = read_chunk(affine.add(column));
            let of_gains: [f32; FOUR] = read_chunk(sums.add(column));
            let of_offsets: [f32; FOUR] = read_chunk(sums.add(columns + column));
            let [x]: [[f32; FOUR]; 1] = input.read_chunks([first]);
            let gradient: [F; FOUR] = read_chunk(gradient.as_ptr().add(first));
            // Small loops: the compiler unrolls them, and keeps no array in memory.
            let gradient = gradient.map(Element::widen);
            let hats: [f32; FOUR] = array::from_fn(|nth| groups[nth].hat(x[nth]));
            let h: [f32; FOUR] = array::from_fn(|nth| gains[nth] * gradient[nth]);
            let means: [f32; FOUR] = array::from_fn(|nth| centre(gains[nth], of_offsets[nth]));
            let with_hat: [f32; FOUR] = array::from_fn(|nth| mean(gains[nth], of_gains[nth]));
            array::from_fn(|nth| {
                back(h[nth], hats[nth], [means[nth], with_hat[nth]], groups[nth].deviation)
            })
        }
    };
    let by_chunks = forward.has_chunks(&[affine, sums]) && has_chunks(gradient.as_ptr());
    // SAFETY: as above.
    unsafe { sink.run(block, to, by_chunks, one, chunk(columns, four)) };
}

/// Is [`normalise_input`] where means are those of rows, of which each is a warp's.
///
/// # Safety
///
/// As there.
#[inline(always)]
unsafe fn input_of_rows<B: Block, F: Element>(
    block: &mut B,
    forward: Forward,
    gradient: &[F],
    affine: *const f32,
    to: Out<'_, F>,
    sink: Sink<'_, F>,
) {
    let Normalisation { columns, input, .. } = forward.of;
    let shared = block.shared();
    let by_fours = by_fours(columns, &[input, Operand::new(gradient.as_ptr())])
        && to.has_chunks()
        && has_chunks(affine);
    // h and x̂.
    let one = |row: usize, column: usize, group: Group| {
        let place = row * columns + column;
        // SAFETY: the caller's promise, here and below.
        unsafe {
            let gradient = gradient.get(place).map_or(0.0, |x| x.widen());
            [*affine.add(column) * gradient, group.hat(input.read(place))]
        }
    };
    let four = |row: usize, column: usize, group: Group| {
        let place = row * columns + column;
        // SAFETY: as above.
        unsafe {
            let gains: [f32; FOUR] = read_chunk(affine.add(column));
            let [x]: [[f32; FOUR]; 1] = input.read_chunks([place]);
            let gradient: [F; FOUR] = read_chunk(gradient.as_ptr().add(place));
            let both = |nth: usize| [gains[nth] * gradient[nth].widen(), group.hat(x[nth])];
            array::from_fn::<_, FOUR, _>(both)
        }
    };
    let tallies = each_row(block, forward.of.rows, Tally::EMPTY, |block, row, tallies| {
        let sums = block.map(&row, |thread, Row { row, .. }| {
            let mut sums = [0.0; 2];
            let mut add = |[h, hat]: [f32; 2]| {
                sums = [sums[0] + f64::from(h), sums[1] + f64::from(h * hat)];
            };
            // SAFETY: as above.
            let group = unsafe { forward.group::<B>(row) };
            each_four(columns, thread, |column, count| {
                if by_fours {
                    let four = four(row, column, group);
                    for both in &four {
                        add(*both);
                    }
                } else {
                    (column..column + count).for_each(|column| add(one(row, column, group)));
                }
            });
            sums
        });
        let sums = sum_warp_float(block, sums);
        let centred = forward.of.centred;
        let means = block.map(&sums, |_, [of_h, with_hat]| {
            let of_h = if centred { of_h } else { 0.0 };
            [of_h, with_hat].map(|sum| (sum / f64::from(columns as u32)) as f32)
        });
        let tallies = block.zip(&tallies, &means, |_, tally, means| (tally, means));
        block.zip(&row, &tallies, |thread, Row { row, is_own }, (mut tally, means)| {
            if is_own {
                // SAFETY: as above.
                let group = unsafe { forward.group::<B>(row) };
                let result = |[h, hat]: [f32; 2]| back(h, hat, means, group.deviation);
                let again = |place: usize| result(one(row, place - row * columns, group));
                each_four(columns, thread, |column, count| {
                    let place = row * columns + column;
                    if by_fours {
                        let four = four(row, column, group);
                        let values = array::from_fn(|nth| result(four[nth]));
                        // SAFETY: as above; each row is one warp's.
                        unsafe {
                            sink.put_chunk::<B, FOUR>(shared, &mut tally, place, values, again, to);
                        }
                        return;
                    }
                    for place in place..place + count {
                        if let Some(x) = sink.take::<B>(shared, &mut tally, place, again(place)) {
                            // SAFETY: as above.
                            unsafe { to.write(place, x) };
                        }
                    }
                });
            }
            tally
        })
    });
    sink.close(block, &tallies);
}
