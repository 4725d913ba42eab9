//! Gradients that are summed over the ranks while others are computed.
//!
//! They are put into buckets in the order in which the backward pass completes them.  A full bucket is summed at once, on the
//! thread that has the group; behind the backward pass the sums are waited for, and written back.

use std::{
    fmt, mem,
    ops::Range,
    str::FromStr,
    time::{Duration, Instant},
};

use adaloss_core::{
    format::{Format, Narrowing},
    policy::{Cell, Config, finish, note},
    scale::Scale,
    statistics::Outcome,
    with_element,
};
use adaloss_hal::{
    Memory,
    group::{AgreeError, Largest, largest, room_bytes, room_values, sum, sum_scale},
};
use anyhow::{Context, Error, Result, bail, ensure};

use super::{Carrier, Failure, Pending, Team};
use crate::{
    layer::{GradientSink, Total, Vector},
    method::FormatName,
};

/// How gradients are summed over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// The format that they are sent in.
    pub format: Format,
    /// How the scale of a bucket in it is found.
    pub scaling: Scaling,
}

/// How the scale of a bucket is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// The ranks agree on the largest magnitude first, by one small message more: no sum can overflow.
    Agreed,
    /// The scale follows the steps before, as those of gradient tensors do; a bucket that overflows all the same is summed again
    /// in f32.
    Measured,
    /// It is always this one; what overflows skips the step.
    Fixed(Scale),
}

impl Default for Reduction {
    /// f32, in which nothing is scaled.
    fn default() -> Self {
        Self { format: Format::BINARY32, scaling: Scaling::Fixed(Scale::ONE) }
    }
}

impl FromStr for Reduction {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, scaling) = text.split_once(':').unwrap_or((text, "agreed"));
        let format: FormatName = name.parse()?;
        ensure!(
            format.0 == Format::from(format.0.encoding),
            "sums over ranks have subnormal numbers: {name} is no format for them"
        );
        if format.0 == Format::BINARY32 {
            ensure!(name == text, "f32 is summed without a scale: give \"{name}\"");
            return Ok(Self::default());
        }
        let scaling = match scaling.split_once(':') {
            None if scaling == "agreed" => Scaling::Agreed,
            None if scaling == "measured" => Scaling::Measured,
            Some(("fixed", log2)) => {
                let log2 = log2.parse().ok().and_then(|log2| Scale::new(log2).ok());
                Scaling::Fixed(
                    log2.context("a fixed scale is 2^K, with a whole K from -126 to 126")?,
                )
            }
            _ => bail!(
                "unknown scale \"{scaling}\": one of agreed, measured, fixed:K, as in {name}:measured"
            ),
        };
        Ok(Self { format: format.0, scaling })
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FormatName(self.format);
        match self.scaling {
            _ if self.format == Format::BINARY32 => write!(f, "{name}"),
            Scaling::Agreed => write!(f, "{name}:agreed"),
            Scaling::Measured => write!(f, "{name}:measured"),
            Scaling::Fixed(scale) => write!(f, "{name}:fixed:{}", scale.log2()),
        }
    }
}

/// What was counted of sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Buckets that were summed.
    pub buckets: u64,
    /// Those that overflowed and were summed again in f32.
    pub again: u64,
    /// Bytes that this rank sent for them.
    pub bytes: u64,
    /// How long they took, waiting for other ranks included.
    pub took: Duration,
    /// How long they were waited for behind the backward pass; the rest went on beside it.
    pub waited: Duration,
}

/// How far the sums of a step were from those in f32: the norm of the difference over that of the sum in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SumError {
    /// Of all gradients together.
    pub all: f64,
    /// Of the gradient that is furthest off, among those that are not zero.
    pub worst: f64,
}

/// Sums gradients over ranks, bucket by bucket.
pub struct Reducer {
    reduction: Reduction,
    /// Values of a bucket that is full.
    length: usize,
    /// The bucket that is filled.
    filling: Bucket,
    /// Those that are summed, in their order.
    pending: Vec<(Vec<Part>, PendingSum)>,
    /// The cells of buckets whose scales follow the steps before.
    cells: Vec<Cell>,
    counts: Counts,
    /// Of each step, where sums are compared with those in f32.
    errors: Option<Vec<SumError>>,
}

/// Where values of a bucket belong.
struct Part {
    /// The number of the gradient.
    index: usize,
    /// Its values in the bucket.
    range: Range<usize>,
}

#[derive(Default)]
struct Bucket {
    values: Vec<f32>,
    parts: Vec<Part>,
}

type PendingSum = Pending<Result<Summed, AgreeError<Failure>>>;

/// A bucket that was summed.
struct Summed {
    values: Vec<f32>,
    cell: Cell,
    is_again: bool,
    bytes: u64,
    took: Duration,
    /// The sums in f32, where they are compared.
    right: Option<Vec<f32>>,
}

impl Reducer {
    /// Values of a bucket, unless something else is asked for: 1 MiB of f32.
    pub const BUCKET: usize = 1 << 18;

    /// Makes a reducer whose buckets have so many values; a gradient that is longer has one of its own.
    pub fn new(reduction: Reduction, bucket: usize) -> Self {
        let (filling, pending, cells) = (Bucket::default(), Vec::new(), Vec::new());
        let (length, counts) = (bucket.max(1), Counts::default());
        Self { reduction, length, filling, pending, cells, counts, errors: None }
    }

    /// Compares sums with those in f32, for which each bucket is summed once more.
    pub fn comparing(self) -> Self {
        Self { errors: Some(Vec::new()), ..self }
    }

    /// Returns how far the sums of each step were off, if they are compared.
    pub fn errors(&self) -> &[SumError] {
        self.errors.as_deref().unwrap_or_default()
    }

    /// Returns how it sums.
    pub const fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Returns what was counted.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the state that the next steps depend on.
    pub fn save(&self) -> Vec<u8> {
        self.cells.iter().flat_map(Cell::to_bytes).collect()
    }

    /// Takes back what [`save`](Self::save) returned.
    ///
    /// # Errors
    ///
    /// It is damaged.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let cells = bytes.chunks(Cell::BYTES).map(|bytes| {
            let bytes = bytes.try_into().ok();
            bytes.and_then(Cell::from_bytes).context("the scales of sums over ranks are damaged")
        });
        self.cells = cells.collect::<Result<_>>()?;
        Ok(())
    }

    /// Forgets a step that was not ended.
    pub fn begin(&mut self) {
        self.filling = Bucket::default();
        self.pending.clear();
    }

    /// Takes a gradient into a bucket, and has the bucket summed when it is full.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn put<D: Memory<Error: Send + Sync + 'static>>(
        &mut self,
        device: &mut D,
        team: &Team,
        index: usize,
        gradient: &Vector<D, f32>,
    ) -> Result<()> {
        let Bucket { values, parts } = &mut self.filling;
        let first = values.len();
        values.resize(first + gradient.len(), 0.0);
        device.read(gradient.view(), &mut values[first..])?;
        parts.push(Part { index, range: first..values.len() });
        if values.len() >= self.length {
            self.send(team, self.reduction);
        }
        Ok(())
    }

    /// Has what is in the bucket summed.
    fn send(&mut self, team: &Team, reduction: Reduction) {
        let Bucket { values, parts } = mem::take(&mut self.filling);
        if parts.is_empty() {
            return;
        }
        let nth = self.pending.len();
        let cell = self.cells.get(nth).copied().unwrap_or_default();
        let compares = self.errors.is_some();
        let sum = team.start(move |carrier| {
            let own = compares.then(|| values.clone());
            let (before, began) = (carrier.sent().bytes, Instant::now());
            let mut summed = reduction.sum(values, cell, carrier)?;
            (summed.bytes, summed.took) = (carrier.sent().bytes - before, began.elapsed());
            if let Some(mut right) = own {
                sum_in(Format::BINARY32, &mut right, Scale::ONE, carrier)?;
                summed.right = Some(right);
            }
            Ok(summed)
        });
        self.pending.push((parts, sum));
    }

    /// Sums what is left, and what is always summed in f32; waits for all sums, and writes them back to where they came from.
    ///
    /// `total` finds a gradient by its number, `in_f32` are the numbers of what is not a gradient.
    ///
    /// # Errors
    ///
    /// The group or the device failed.
    pub fn finish<D: Memory<Error: Send + Sync + 'static>>(
        &mut self,
        device: &mut D,
        team: &Team,
        in_f32: impl IntoIterator<Item = usize>,
        totals: &mut [&mut Total<D>],
    ) -> Result<()> {
        self.send(team, self.reduction);
        let gradients = self.pending.len();
        for index in in_f32 {
            let Bucket { values, parts } = &mut self.filling;
            let (first, total) = (values.len(), totals[index].value());
            values.resize(first + total.len(), 0.0);
            device.read(total.view(), &mut values[first..])?;
            parts.push(Part { index, range: first..values.len() });
        }
        self.send(team, Reduction::default());
        let (mut all, mut worst) = ([0.0; 2], 0.0_f64);
        for (nth, (parts, sum)) in self.pending.drain(..).enumerate() {
            let began = Instant::now();
            let Summed { values, cell, is_again, bytes, took, right } = sum.wait()??;
            if nth < gradients {
                self.counts.waited += began.elapsed();
                self.counts.took += took;
            }
            for Part { range, .. } in parts.iter().filter(|_| nth < gradients) {
                let Some(right) = right.as_ref().and_then(|right| right.get(range.clone())) else {
                    break;
                };
                let [error, norm] = squares(&values[range.clone()], right);
                all = [all[0] + error, all[1] + norm];
                worst = worst.max(if norm > 0.0 { (error / norm).sqrt() } else { 0.0 });
            }
            if nth < gradients {
                self.counts.bytes += bytes;
                if self.reduction.scaling == Scaling::Measured {
                    self.cells.resize(gradients, Cell::new());
                    self.cells[nth] = cell;
                }
                self.counts.buckets += 1;
                self.counts.again += u64::from(is_again);
            }
            for Part { index, range } in parts {
                device.write(&values[range], totals[index].value_mut().view_mut())?;
            }
        }
        if let Some(errors) = &mut self.errors {
            let [error, norm] = all;
            errors.push(SumError { all: (error / norm).sqrt(), worst });
        }
        Ok(())
    }
}

/// Returns the square of the norm of the difference of two vectors, and of the second.
fn squares(found: &[f32], right: &[f32]) -> [f64; 2] {
    let pairs = found.iter().zip(right).map(|(&x, &y)| [f64::from(x), f64::from(y)]);
    pairs.fold([0.0; 2], |[error, norm], [x, y]| [error + (x - y) * (x - y), norm + y * y])
}

impl Reduction {
    /// Sums a bucket over the ranks.
    fn sum(
        self,
        mut values: Vec<f32>,
        mut cell: Cell,
        carrier: &mut dyn Carrier,
    ) -> Result<Summed, AgreeError<Failure>> {
        let in_f32 = |values: &mut [f32], carrier: &mut dyn Carrier| {
            sum_in(Format::BINARY32, values, Scale::ONE, carrier)
        };
        let mut is_again = false;
        match self.scaling {
            _ if self.format == Format::BINARY32 => {
                in_f32(&mut values, carrier)?;
            }
            Scaling::Fixed(scale) => {
                sum_in(self.format, &mut values, scale, carrier)?;
            }
            Scaling::Agreed => {
                let mut bits = [u64::from(largest(&values).to_bits())];
                carrier.max_u64(&mut bits).map_err(AgreeError::Group)?;
                let largest = Largest::from_bits(bits[0] as u32);
                match sum_scale(Narrowing::to(self.format), largest, carrier.size()) {
                    Some(scale) => sum_in(self.format, &mut values, scale, carrier)?,
                    // Not finite: f32 says so to all.
                    None => in_f32(&mut values, carrier)?,
                };
            }
            Scaling::Measured => {
                let config = Config::for_format(self.format);
                let count = values.len() as u64;
                let mut outcome = Outcome { elements: count, ..Outcome::EMPTY };
                let mut found = Largest::from_bits(f32::NAN.to_bits());
                if cell.is_calibrated() {
                    let own = values.clone();
                    found = sum_in(self.format, &mut values, cell.scale(), carrier)?;
                    if !found.is_finite() {
                        values = own;
                        (is_again, outcome.overflow) = (true, 1);
                    }
                }
                if !found.is_finite() {
                    found = in_f32(&mut values, carrier)?;
                }
                outcome.max_bits = found.to_bits();
                outcome.nonfinite = u64::from(!found.is_finite());
                let _ = note(&config, &outcome, Scale::ONE, &mut cell);
                let _ = finish(&config, &mut cell);
            }
        }
        Ok(Summed { values, cell, is_again, bytes: 0, took: Duration::ZERO, right: None })
    }
}

/// Sums values over the ranks in a format.
fn sum_in(
    format: Format,
    values: &mut [f32],
    scale: Scale,
    mut carrier: &mut dyn Carrier,
) -> Result<Largest, AgreeError<Failure>> {
    with_element!(format.encoding, T => {
        let ranks = carrier.size();
        let mut room = vec![0; room_bytes::<T>(values.len(), ranks)];
        let mut rows = vec![0.0; room_values(values.len(), ranks)];
        sum::<T, _>(values, scale, &mut carrier, &mut room, &mut rows)
    })
}

/// Hands complete gradients to a reducer.
pub(crate) struct Sink<'r> {
    pub(crate) reducer: &'r mut Reducer,
    pub(crate) team: &'r Team,
}

impl<D: Memory<Error: Send + Sync + 'static>> GradientSink<D> for Sink<'_> {
    fn complete(&mut self, device: &mut D, index: usize, gradient: &Vector<D, f32>) -> Result<()> {
        self.reducer.put(device, self.team, index, gradient)
    }
}
