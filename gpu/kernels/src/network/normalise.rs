//! Batch and layer normalisation: the same formulas over columns or rows, and each sum in the order of its terms.

use adaloss_core::format::Element;

use super::{
    operand::Operand,
    results::{each, each_row},
    sliding::split,
};
use crate::{
    Block,
    epilogue::Epilogue,
    memory::{Out, each_place},
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

    /// Returns the mean that an element is of.
    #[inline(always)]
    fn group(self, place: usize) -> usize {
        let (row, column) = split(place, self.columns);
        if self.over_rows { column } else { row }
    }

    /// Returns the mean of a function of a group's elements, by their places; 0 of nothing.
    #[inline(always)]
    fn mean(self, group: usize, value: impl Fn(usize) -> f32) -> f32 {
        let (first, step, count) = match self.over_rows {
            true => (group, self.columns, self.rows),
            false => (group * self.columns, 1, self.columns),
        };
        let mut sum = 0.0;
        for nth in 0..count {
            sum += value(first + nth * step);
        }
        if count == 0 { 0.0 } else { sum / count as u32 as f32 }
    }
}

/// Computes the mean of each column or row, and then the variances.
///
/// # Safety
///
/// The input is there and nobody writes it during the launch; nobody else reads or writes the moments.
pub unsafe fn moments<B: Block>(block: &mut B, of: Normalisation, to: Out<'_, f32>) {
    let groups = of.groups();
    let one = |group: usize| {
        // SAFETY: the caller's promise, here and below.
        let mean = of.mean(group, |place| unsafe { of.input.read(place) });
        let variance = of.mean(group, |place| {
            // SAFETY: as above.
            let distance = unsafe { of.input.read(place) } - mean;
            distance * distance
        });
        // SAFETY: each group is handed to one thread.
        unsafe {
            to.write(group, mean);
            to.write(groups + group, variance);
        }
    };
    each_place(block, groups, false, |_| (), one);
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

impl Forward {
    /// Returns `sqrt(variance + epsilon)` of an element.
    ///
    /// # Safety
    ///
    /// The moments are there.
    #[inline(always)]
    unsafe fn deviation<B: Block>(self, place: usize) -> f32 {
        let Self { of, moments } = self;
        // SAFETY: the caller's promise.
        B::root(unsafe { *moments.add(of.groups() + of.group(place)) } + of.epsilon)
    }

    /// Returns a normalised element, x̂.
    ///
    /// # Safety
    ///
    /// Input and moments are there.
    #[inline(always)]
    unsafe fn hat<B: Block>(self, place: usize) -> f32 {
        let Self { of, moments } = self;
        // SAFETY: the caller's promise.
        unsafe {
            (of.input.read(place) - *moments.add(of.group(place))) / self.deviation::<B>(place)
        }
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
    let columns = forward.of.columns;
    let result = |place: usize| {
        let (_, column) = split(place, columns);
        // SAFETY: the caller's promise.
        unsafe { *affine.add(column) * forward.hat::<B>(place) + *affine.add(columns + column) }
    };
    // SAFETY: the caller's promise.
    unsafe { each(block, to, epilogue, result) }
}

/// Sums the gradients of gains and offsets, each column by one thread.
///
/// # Safety
///
/// All that is named is there and nobody writes it during the launch; nobody else reads or writes the sums.
pub unsafe fn normalise_sums<B: Block>(
    block: &mut B,
    forward: &Forward,
    gradient: Operand,
    to: Out<'_, f32>,
) {
    let Normalisation { rows, columns, .. } = forward.of;
    let one = |column: usize| {
        let (mut of_gain, mut of_offset) = (0.0, 0.0);
        for row in 0..rows {
            let place = row * columns + column;
            // SAFETY: the caller's promise.
            unsafe {
                let gradient = gradient.read(place);
                of_gain += gradient * forward.hat::<B>(place);
                of_offset += gradient;
            }
        }
        // SAFETY: each column is handed to one thread.
        unsafe {
            to.write(column, of_gain);
            to.write(columns + column, of_offset);
        }
    };
    each_place(block, columns, false, |_| (), one);
}

/// Computes the gradient of the input, narrowed as the epilogue says: where means are those of rows, a row by one thread.
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
    let of = forward.of;
    let Normalisation { rows, columns, over_rows, .. } = of;
    // SAFETY: the caller's promise.
    let gain = |place: usize| unsafe { *affine.add(split(place, columns).1) };
    let h = |place: usize| gain(place) * gradient.get(place).map_or(0.0, |x| x.widen());
    // SAFETY: as above.
    let with_hat = |place: usize| h(place) * unsafe { forward.hat::<B>(place) };
    // The means of h and of h x̂: of the row's own, or what the column's sums say.
    let of_row = |row: usize| match over_rows {
        true => [0.0; 2],
        false => [of.mean(row, h), of.mean(row, with_hat)],
    };
    let result = |place: usize, of_row: [f32; 2]| {
        let column = split(place, columns).1;
        // SAFETY: as above.
        unsafe {
            let [mean, with_hat] = match over_rows {
                true => [columns + column, column]
                    .map(|of| *affine.add(column) * *sums.add(of) / rows as f32),
                false => of_row,
            };
            (h(place) - mean - forward.hat::<B>(place) * with_hat) / forward.deviation::<B>(place)
        }
    };
    let width = if over_rows { 1 } else { columns };
    // SAFETY: the caller's promise.
    unsafe { each_row(block, to, epilogue, width, of_row, result) }
}
