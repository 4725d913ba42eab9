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
    unit::times,
};

/// How gradients are summed over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// The format that they are sent in.
    pub format: Format,
    /// How the scales of gradients in it are found.
    pub scaling: Scaling,
}

/// How the scales of a bucket's gradients are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// The ranks agree on the largest magnitude of each gradient first, by one small message a bucket: no sum can overflow.
    Agreed,
    /// The scale of each gradient follows the steps before, by one small message a step; a bucket that overflows all the same is
    /// summed again in f32.
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
    /// The cells of gradients whose scales follow the steps before, in the order in which they are summed.
    cells: Vec<Cell>,
    counts: Counts,
    /// Of each step, where sums are compared with those in f32.
    errors: Option<Vec<SumError>>,
}

/// Values of a bucket that belong to one gradient.
struct Part {
    /// The number of the gradient.
    index: usize,
    /// Its values in the bucket.
    range: Range<usize>,
    /// The largest magnitude among this rank's.
    largest: Largest,
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
    /// Which of its parts overflowed at their scales; then the bucket was summed again in f32.
    overflowed: Vec<bool>,
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
        self.filling.put(device, index, gradient)?;
        if self.filling.values.len() >= self.length {
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
        let before = self.pending.iter().map(|(parts, _)| parts.len()).sum::<usize>();
        let cells = self.cells.get(before..).unwrap_or_default().iter();
        let scales = cells.take(parts.len()).map(|cell| {
            // One that was summed and had no scale yet was zero.  Where it is not any more, it may be lost once.
            (cell.is_calibrated() || cell.age() > 0).then_some(cell.scale())
        });
        let scales: Vec<_> = scales.collect();
        let ranges: Vec<_> = parts.iter().map(|part| part.range.clone()).collect();
        let compares = self.errors.is_some();
        let sum = team.start(move |carrier| {
            let own = compares.then(|| values.clone());
            let (before, began) = (carrier.sent().bytes, Instant::now());
            let mut summed = reduction.sum(values, &ranges, &scales, carrier)?;
            (summed.bytes, summed.took) = (carrier.sent().bytes - before, began.elapsed());
            if let Some(mut right) = own {
                sum_in(Format::BINARY32, &mut right, carrier)?;
                summed.right = Some(right);
            }
            Ok(summed)
        });
        self.pending.push((parts, sum));
    }

    /// Sums what is left, and what is always summed in f32; waits for all sums, and writes them back to where they came from.
    ///
    /// `totals` finds a gradient by its number, `in_f32` are the numbers of what is not a gradient.
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
            self.filling.put(device, index, totals[index].value())?;
        }
        self.send(team, Reduction::default());
        let (mut found, mut all, mut worst) = (Vec::new(), [0.0; 2], 0.0_f64);
        for (nth, (parts, sum)) in self.pending.drain(..).enumerate() {
            let began = Instant::now();
            let Summed { values, overflowed, bytes, took, right } = sum.wait()?.map_err(failed)?;
            if nth < gradients {
                self.counts.buckets += 1;
                self.counts.again += u64::from(overflowed.contains(&true));
                self.counts.bytes += bytes;
                self.counts.waited += began.elapsed();
                self.counts.took += took;
            }
            for (nth_part, Part { index, range, largest: own }) in parts.into_iter().enumerate() {
                let sums = &values[range.clone()];
                if nth < gradients {
                    let overflowed = overflowed.get(nth_part).is_some_and(|&overflowed| overflowed);
                    found.push(Found {
                        elements: sums.len(),
                        overflowed,
                        largest: own.max(largest(sums)),
                    });
                    if let Some(right) = &right {
                        let [error, norm] = squares(sums, &right[range]);
                        all = [all[0] + error, all[1] + norm];
                        worst = worst.max(relative(error, norm));
                    }
                }
                device.write(sums, totals[index].value_mut().view_mut())?;
            }
        }
        if let Some(errors) = &mut self.errors {
            errors.push(SumError { all: relative(all[0], all[1]), worst });
        }
        if self.reduction.scaling == Scaling::Measured { self.follow(team, found) } else { Ok(()) }
    }

    /// Lets the scales follow what was summed on any rank: one message a step.
    fn follow(&mut self, team: &Team, mut found: Vec<Found>) -> Result<()> {
        let mut largest: Vec<u64> =
            found.iter().map(|found| found.largest.to_bits().into()).collect();
        let (largest, bytes) = team.run(move |carrier| {
            let before = carrier.sent().bytes;
            carrier.max_u64(&mut largest)?;
            Ok((largest, carrier.sent().bytes - before))
        })?;
        self.counts.bytes += bytes;
        for (found, bits) in found.iter_mut().zip(largest) {
            found.largest = Largest::from_bits(bits as u32);
        }
        let config = Config::for_format(self.reduction.format);
        self.cells.resize(found.len(), Cell::new());
        for (cell, Found { elements, overflowed, largest }) in self.cells.iter_mut().zip(found) {
            let outcome = Outcome {
                elements: elements as u64,
                nonfinite: u64::from(!largest.is_finite()),
                overflow: u64::from(overflowed),
                max_bits: largest.to_bits(),
                ..Outcome::EMPTY
            };
            let _ = note(&config, &outcome, Scale::ONE, cell);
            let _ = finish(&config, cell);
        }
        Ok(())
    }
}

impl Bucket {
    /// Appends the values of a gradient.
    fn put<D: Memory<Error: Send + Sync + 'static>>(
        &mut self,
        device: &mut D,
        index: usize,
        gradient: &Vector<D, f32>,
    ) -> Result<()> {
        let range = self.values.len()..self.values.len() + gradient.len();
        self.values.resize(range.end, 0.0);
        let values = &mut self.values[range.clone()];
        device.read(gradient.view(), values)?;
        let largest = largest(values);
        self.parts.push(Part { index, range, largest });
        Ok(())
    }
}

/// Returns the error of a sum: the group's own, where that failed.
fn failed(error: AgreeError<Failure>) -> Error {
    match error {
        AgreeError::Group(failure) => failure.into(),
        error => error.into(),
    }
}

/// What was found of a gradient.
struct Found {
    elements: usize,
    overflowed: bool,
    /// Among what a rank brought, and the sums.
    largest: Largest,
}

/// Returns the norm of an error over that of what is right, by their squares; 0 of nothing, infinite where something is no number.
fn relative(error: f64, norm: f64) -> f64 {
    match (error / norm).sqrt() {
        _ if error == 0.0 => 0.0,
        relative if relative.is_nan() => f64::INFINITY,
        relative => relative,
    }
}

/// Returns the square of the norm of the difference of two vectors, and of the second.
fn squares(found: &[f32], right: &[f32]) -> [f64; 2] {
    let pairs = found.iter().zip(right).map(|(&x, &y)| [f64::from(x), f64::from(y)]);
    pairs.fold([0.0; 2], |[error, norm], [x, y]| [error + (x - y) * (x - y), norm + y * y])
}

impl Reduction {
    /// Sums a bucket over the ranks, each of its parts at a scale of its own: `scales` are those that follow the steps before.
    fn sum(
        self,
        mut values: Vec<f32>,
        parts: &[Range<usize>],
        scales: &[Option<Scale>],
        carrier: &mut dyn Carrier,
    ) -> Result<Summed, AgreeError<Failure>> {
        let scales: Option<Vec<Scale>> = match self.scaling {
            _ if self.format == Format::BINARY32 => None,
            Scaling::Fixed(scale) => Some(vec![scale; parts.len()]),
            Scaling::Agreed => self.agree(&values, parts, carrier)?,
            Scaling::Measured if scales.len() < parts.len() => None,
            Scaling::Measured => scales.iter().copied().collect(),
        };
        let mut overflowed = Vec::new();
        let own = (self.scaling == Scaling::Measured).then(|| values.clone());
        if let Some(scales) = &scales {
            let all = || parts.iter().zip(scales);
            all().for_each(|(part, scale)| times(&mut values[part.clone()], scale.log2()));
            sum_in(self.format, &mut values, carrier)?;
            all().for_each(|(part, scale)| {
                times(&mut values[part.clone()], -scale.log2());
            });
            overflowed =
                parts.iter().map(|part| !largest(&values[part.clone()]).is_finite()).collect();
        }
        let is_again = own.is_some() && overflowed.contains(&true);
        if let Some(own) = own.filter(|_| is_again) {
            values = own;
        }
        if scales.is_none() || is_again {
            sum_in(Format::BINARY32, &mut values, carrier)?;
        }
        if !is_again {
            overflowed.clear();
        }
        Ok(Summed { values, overflowed, bytes: 0, took: Duration::ZERO, right: None })
    }

    /// Agrees on a scale for each part, at which nothing overflows: one message.  `None` where something is not finite, which
    /// f32 says to all.
    fn agree(
        self,
        values: &[f32],
        parts: &[Range<usize>],
        carrier: &mut dyn Carrier,
    ) -> Result<Option<Vec<Scale>>, AgreeError<Failure>> {
        let own = parts.iter().map(|part| u64::from(largest(&values[part.clone()]).to_bits()));
        let mut all: Vec<u64> = own.collect();
        carrier.max_u64(&mut all).map_err(AgreeError::Group)?;
        let (narrowing, ranks) = (Narrowing::to(self.format), carrier.size());
        let scale = |bits: u64| sum_scale(narrowing, Largest::from_bits(bits as u32), ranks);
        Ok(all.into_iter().map(scale).collect())
    }
}

/// Sums values over the ranks in a format.
fn sum_in(
    format: Format,
    values: &mut [f32],
    mut carrier: &mut dyn Carrier,
) -> Result<Largest, AgreeError<Failure>> {
    with_element!(format.encoding, T => {
        let ranks = carrier.size();
        let mut room = vec![0; room_bytes::<T>(values.len(), ranks)];
        let mut rows = vec![0.0; room_values(values.len(), ranks)];
        sum::<T, _>(values, Scale::ONE, &mut carrier, &mut room, &mut rows)
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
