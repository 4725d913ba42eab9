//! Into low precision: f32 values are narrowed and what became of them is counted.
//!
//! [`Apply`] narrows with a known shift.  [`Pass`] is one run over a tensor as the scaler asks for
//! it: to measure, before a decision, or to store, after it.

use core::{fmt, marker::PhantomData};

use crate::{
    format::{
        Element, Encoding, Lane, Lanes, Narrowed, Narrowing, Noise, RangeCheckedNarrowing,
        Rounding, arithmetic_is_default,
    },
    scale::{Scale, Shift},
    statistics::{Histogram, Outcome},
};

/// How the f32 values of one tensor become low-precision values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Apply {
    /// Format, rounding and overflow.
    pub narrowing: Narrowing,
    /// The exponent shift from the scale the values carry to the one they leave with.
    pub shift: Shift,
    /// The random words of stochastic rounding.
    pub noise: Noise,
}

impl Apply {
    /// Narrows one value and counts what became of it; `index` is its place in the whole tensor.
    pub fn element(&self, x: f32, index: u64, outcome: &mut Outcome) -> u32 {
        let noise = match self.narrowing.rounding {
            Rounding::Stochastic => self.noise.word_at(index),
            Rounding::NearestEven | Rounding::TowardZero => 0,
        };
        let Narrowed { bits, fate } = self.narrowing.narrow(x, self.shift.log2(), noise);
        outcome.record(x, fate);
        bits
    }

    /// Narrows a slice; `first` is the place of its first value in the whole tensor.
    ///
    /// # Errors
    ///
    /// The slices differ in length, or `F` is not the encoding of the narrowing; nothing was
    /// written or counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::{apply::Apply, format::{Format, Narrowing, Noise, f16}};
    /// use adaloss_core::{scale::Scale, statistics::Outcome};
    /// let apply = Apply {
    ///     narrowing: Narrowing::to(Format::BINARY16),
    ///     shift: Scale::new(10)? / Scale::ONE,
    ///     noise: Noise::default(),
    /// };
    /// let (mut to, mut outcome) = ([f16::ZERO; 2], Outcome::EMPTY);
    /// apply.slice(&[1.0e-8, 80.0], &mut to, 0, &mut outcome)?;
    /// assert_eq!((outcome.underflow, outcome.overflow), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn slice<F: Element>(
        &self,
        from: &[f32],
        to: &mut [F],
        first: u64,
        outcome: &mut Outcome,
    ) -> Result<(), ApplyError> {
        if from.len() != to.len() {
            return Err(ApplyError::Length { from: from.len(), to: to.len() });
        }
        check_encoding::<F>(self.narrowing)?;
        // What is the same for the whole tensor is settled outside the loop, so that the compiler
        // can specialise on it.
        let mut narrowing = self.narrowing;
        narrowing.format.encoding = F::ENCODING;
        let shift = self.shift.log2();
        let Some(lanes) = Lanes::new(narrowing, shift) else {
            let mut counts = Outcome::EMPTY;
            for (i, (&x, to)) in (0_u64..).zip(from.iter().zip(to)) {
                let word = self.noise.word_at(first.wrapping_add(i));
                *to = put(narrowing, x, shift, word, &mut counts);
            }
            outcome.merge(&counts);
            return Ok(());
        };
        let checked =
            self.shift.factor().and_then(|factor| RangeCheckedNarrowing::new(narrowing, factor));
        let checked = checked.filter(|_| arithmetic_is_default());
        for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
            let counts = match checked.and_then(|checked| narrow_in_range(checked, from, to)) {
                Some(counts) => counts,
                None if lanes.normalises() => narrow_lanes::<F, true>(lanes, from, to),
                None => narrow_lanes::<F, false>(lanes, from, to),
            };
            outcome.merge(&counts);
        }
        Ok(())
    }

    /// Settles what is the same for every value, for a kernel that takes a few of them at a time.
    ///
    /// `None` where the narrowing is not to nearest even, or flushes, or where `F` is not its encoding, or where the
    /// calling thread's processor was told to flush subnormals or to round otherwise.  Then each value is one for
    /// [`element`](Self::element).
    #[inline(always)]
    pub fn fast_narrowing<F: Element>(&self) -> Option<FastNarrowing<F>> {
        let mut narrowing = self.narrowing;
        check_encoding::<F>(narrowing).ok()?;
        narrowing.format.encoding = F::ENCODING;
        let checked = RangeCheckedNarrowing::new(narrowing, self.shift.factor()?)?;
        if !arithmetic_is_default() {
            return None;
        }
        Some(FastNarrowing { checked, element: PhantomData })
    }
}

/// The commonest narrowing without a branch, for a few values at a time; see [`Apply::fast_narrowing`].
///
/// It applies where the narrowing is to nearest even, with gradual underflow, and to values that are finite and stay within
/// the format.  f32 arithmetic rounds them, which is half the work of [`Narrowing::narrow`] and ends in the same bits.
#[derive(Clone, Copy, Debug)]
pub struct FastNarrowing<F> {
    checked: RangeCheckedNarrowing,
    element: PhantomData<F>,
}

impl<F: Element> FastNarrowing<F> {
    /// Narrows a few values and counts what became of them.
    ///
    /// `None` where one of them is not finite or beyond the format, or where a bfloat16 is subnormal or
    /// above 2^111: then each is one for [`Apply::element`].
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::{apply::Apply, format::{Element, Format, Narrowing, Noise, f16}};
    /// use adaloss_core::scale::Scale;
    /// let apply = Apply {
    ///     narrowing: Narrowing::to(Format::BINARY16),
    ///     shift: Scale::new(10)? / Scale::ONE,
    ///     noise: Noise::default(),
    /// };
    /// let fast = apply.fast_narrowing::<f16>().expect("to nearest even, with gradual underflow");
    /// let (narrowed, outcome) = fast.narrow([1.0e-8, -3.0]).expect("within binary16");
    /// assert_eq!((narrowed[1].widen(), outcome.subnormal), (-3072.0, 1));
    /// assert!(fast.narrow([1.0e-8, 80.0]).is_none());
    /// # Ok::<(), adaloss_core::scale::ScaleError>(())
    /// ```
    #[inline(always)]
    pub fn narrow<const N: usize>(&self, from: [f32; N]) -> Option<([F; N], Outcome)> {
        let mut counts = InRangeCounts::NONE;
        let to = from.map(|x| counts.narrow(self.checked, x));
        Some((to, counts.outcome(self.checked, N as u64)?))
    }
}

impl<F: Element> FastNarrowing<F> {
    /// Narrows a value that is finite and within the format, and counts nothing; of any other, and of a bfloat16 that
    /// [`narrow`](Self::narrow) leaves to others, the bits may be any.
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::{apply::Apply, format::{E4M3, Element, Format, Narrowing, Noise}, scale::Shift};
    /// let narrowing = Narrowing::to(Format::E4M3);
    /// let apply = Apply { narrowing, shift: Shift::NONE, noise: Noise::default() };
    /// let fast = apply.fast_narrowing::<E4M3>().expect("to nearest even, with gradual underflow");
    /// assert_eq!(fast.round(-17.0).widen(), -16.0);
    /// ```
    #[inline(always)]
    pub fn round(&self, x: f32) -> F {
        let magnitude = self.checked.magnitude(x.to_bits() & 0x7fff_ffff);
        F::from_bits(((x.to_bits() >> 31) << self.checked.sign_shift) | magnitude)
    }
}

/// Values that are narrowed at a time: their counts fit 32-bit lanes.
const BLOCK: usize = 2048;

/// What became of values that stay within the range of the format, so far; and whether all of them did.
#[derive(Clone, Copy)]
struct InRangeCounts {
    zero: u32,
    /// Those that are zero now.
    vanished: u32,
    /// Those that are zero or subnormal now.
    small: u32,
    max_bits: u32,
    /// The greatest magnitude among the results.
    greatest: u32,
}

impl InRangeCounts {
    const NONE: Self = Self { zero: 0, vanished: 0, small: 0, max_bits: 0, greatest: 0 };

    /// Narrows a value.
    #[inline(always)]
    fn narrow<F: Element>(&mut self, checked: RangeCheckedNarrowing, x: f32) -> F {
        let operand = x.to_bits() & 0x7fff_ffff;
        let magnitude = checked.magnitude(operand);
        self.zero += u32::from(operand == 0);
        self.vanished += u32::from(magnitude == 0);
        self.small += u32::from(magnitude < checked.min_normal);
        self.max_bits = self.max_bits.max(operand);
        self.greatest = self.greatest.max(magnitude);
        F::from_bits(((x.to_bits() >> 31) << checked.sign_shift) | magnitude)
    }

    /// Returns the counts of so many values, unless one of them did not stay within the format.
    #[inline(always)]
    fn outcome(self, checked: RangeCheckedNarrowing, elements: u64) -> Option<Outcome> {
        let Self { zero, vanished, small, max_bits, greatest } = self;
        (greatest <= checked.limit).then_some(Outcome {
            elements,
            zero: zero.into(),
            underflow: (vanished - zero).into(),
            subnormal: (small - vanished).into(),
            max_bits,
            ..Outcome::EMPTY
        })
    }
}

/// Narrows a block in straight-line code, unless a value does not stay within the format: then
/// what was written is to be written again.
#[inline(always)]
fn narrow_in_range<F: Element>(
    checked: RangeCheckedNarrowing,
    from: &[f32],
    to: &mut [F],
) -> Option<Outcome> {
    let mut counts = InRangeCounts::NONE;
    from.iter().zip(to).for_each(|(&x, to)| *to = counts.narrow(checked, x));
    counts.outcome(checked, from.len() as u64)
}

/// Narrows a block of any values in straight-line code.
#[inline(always)]
fn narrow_lanes<F: Element, const NORMALISES: bool>(
    lanes: Lanes,
    from: &[f32],
    to: &mut [F],
) -> Outcome {
    let (mut zero, mut nonfinite, mut vanished, mut small, mut beyond) = (0_u32, 0, 0, 0, 0);
    let mut max_bits = 0;
    for (&x, to) in from.iter().zip(to) {
        let Lane { bits, operand, magnitude } = lanes.narrow::<NORMALISES>(x);
        let is_finite = operand < f32::INFINITY.to_bits();
        zero += u32::from(operand == 0);
        nonfinite += u32::from(!is_finite);
        vanished += u32::from(magnitude == 0);
        small += u32::from(magnitude < lanes.min_normal);
        beyond += u32::from(magnitude > lanes.max_finite);
        max_bits = max_bits.max(operand & u32::from(is_finite).wrapping_neg());
        *to = F::from_bits(bits);
    }
    Outcome {
        elements: from.len() as u64,
        nonfinite: nonfinite.into(),
        zero: zero.into(),
        underflow: (vanished - zero).into(),
        subnormal: (small - vanished).into(),
        overflow: (beyond - nonfinite).into(),
        max_bits,
        reserved: 0,
    }
}

/// Narrows one value with its random word and counts what became of it.
#[inline(always)]
fn put<F: Element>(
    narrowing: Narrowing,
    x: f32,
    shift_log2: i32,
    word: u32,
    counts: &mut Outcome,
) -> F {
    let Narrowed { bits, fate } = narrowing.narrow(x, shift_log2, word);
    counts.record(x, fate);
    F::from_bits(bits)
}

/// Returns an error where a narrowing is not for elements of type `F`.
fn check_encoding<F: Element>(narrowing: Narrowing) -> Result<(), ApplyError> {
    let asked = narrowing.format.encoding;
    if asked == F::ENCODING {
        Ok(())
    } else {
        Err(ApplyError::Encoding { asked, given: F::ENCODING })
    }
}

/// One run over a tensor's f32 values on their way into low precision.
///
/// A tensor is run over once; twice when its cell calibrates, first to measure and then to store;
/// and once more when it overflows.  The values have to be the same each time; another number of them makes the step
/// unusable.  [`apply`](Self::apply)
/// does what is asked for; a kernel of one's own reads [`shift`](Self::shift) and
/// [`stores`](Self::stores) and fills what [`counters`](Self::counters) returns.
#[derive(Debug)]
pub struct Pass<'a> {
    incoming: Scale,
    outgoing: Scale,
    apply: Apply,
    stores: bool,
    counts: &'a mut Counts,
    histogram: Option<&'a mut Histogram>,
}

/// What a pass has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// What became of the values, where the pass stores.
    pub outcome: Outcome,
    /// The index in the tensor of the value that comes next, for stochastic rounding.
    next: u64,
    is_counted: bool,
    reserved: [u8; 7],
}

impl Counts {
    /// What a pass has counted that has not begun.
    pub const NONE: Self = Self::of(Outcome::EMPTY, false);

    /// What a pass has counted that was made elsewhere; `is_counted` as [`is_counted`](Self::is_counted) tells it.
    pub(crate) const fn of(outcome: Outcome, is_counted: bool) -> Self {
        Self { outcome, next: 0, is_counted, reserved: [0; 7] }
    }

    /// Tells whether the pass was told of any values; see [`Pass::is_counted`].
    pub const fn is_counted(&self) -> bool {
        self.is_counted
    }
}

impl<'a> Pass<'a> {
    /// Makes a pass that measures values which carry the scale `incoming`.
    pub const fn measuring(
        narrowing: Narrowing,
        incoming: Scale,
        counts: &'a mut Counts,
        histogram: &'a mut Histogram,
    ) -> Self {
        let apply = Apply { narrowing, shift: Shift::NONE, noise: Noise { seed: 0, stream: 0 } };
        let histogram = Some(histogram);
        Self { incoming, outgoing: incoming, apply, stores: false, counts, histogram }
    }

    /// Makes a pass that stores, from the scale `incoming` to the scale `outgoing`.
    pub fn storing(
        narrowing: Narrowing,
        noise: Noise,
        incoming: Scale,
        outgoing: Scale,
        counts: &'a mut Counts,
    ) -> Self {
        let apply = Apply { narrowing, shift: outgoing / incoming, noise };
        Self { incoming, outgoing, apply, stores: true, counts, histogram: None }
    }

    /// Returns the scale that the f32 values carry.
    pub const fn incoming(&self) -> Scale {
        self.incoming
    }

    /// Returns the scale that the narrowed values carry.
    pub const fn outgoing(&self) -> Scale {
        self.outgoing
    }

    /// Returns the exponent shift between the two.
    pub const fn shift(&self) -> Shift {
        self.apply.shift
    }

    /// Returns how the values are narrowed.
    pub const fn narrowing(&self) -> Narrowing {
        self.apply.narrowing
    }

    /// Returns the random words of stochastic rounding.
    pub const fn noise(&self) -> Noise {
        self.apply.noise
    }

    /// Tells whether the narrowed values are wanted; a pass that measures drops them.
    pub const fn stores(&self) -> bool {
        self.stores
    }

    /// Returns what the pass fills: always an outcome, when it measures a histogram too.
    pub fn counters(&mut self) -> (&mut Outcome, Option<&mut Histogram>) {
        self.counts.is_counted = true;
        (&mut self.counts.outcome, self.histogram.as_deref_mut())
    }

    /// Tells whether the pass was told of any values: by [`apply`](Self::apply), be it of none, or by whoever
    /// asked for its [`counters`](Self::counters).
    ///
    /// A pass that was not makes a step unusable.
    pub const fn is_counted(&self) -> bool {
        self.counts.is_counted
    }

    /// Does what the pass asks for with the tensor's next values: measures them, or narrows them
    /// into `to` and counts what became of them.
    ///
    /// A tensor may come in several parts, in the order of its elements; one without elements comes as one
    /// part without any.
    ///
    /// # Errors
    ///
    /// The slices differ in length, or `F` is not the encoding of the gradient format.
    pub fn apply<F: Element>(&mut self, from: &[f32], to: &mut [F]) -> Result<(), ApplyError> {
        if from.len() != to.len() {
            return Err(ApplyError::Length { from: from.len(), to: to.len() });
        }
        check_encoding::<F>(self.apply.narrowing)?;
        let counts = &mut *self.counts;
        counts.is_counted = true;
        if let Some(histogram) = &mut self.histogram {
            histogram.observe(from, self.incoming);
        }
        if self.stores {
            self.apply.slice(from, to, counts.next, &mut counts.outcome)?;
            counts.next = counts.next.wrapping_add(from.len() as u64);
        }
        Ok(())
    }
}

/// Values that cannot be narrowed as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Source and destination differ in length.
    Length {
        /// Values to narrow.
        from: usize,
        /// Room for them.
        to: usize,
    },
    /// The destination's type is not the configured format.
    Encoding {
        /// The configured encoding.
        asked: Encoding,
        /// The encoding of the destination.
        given: Encoding,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { from, to } => {
                write!(f, "{from} values cannot be narrowed into room for {to}")
            }
            Self::Encoding { asked, given } => {
                write!(f, "gradients are configured as {asked:?} and cannot be stored as {given:?}")
            }
        }
    }
}

impl core::error::Error for ApplyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{E5M2, Format};

    /// A tensor that comes in parts has words of its own beyond 2^32 elements.
    #[test]
    fn the_parts_of_a_pass_run_on_beyond_2_to_the_32() {
        let narrowing = Narrowing::to(Format::E5M2).with_rounding(Rounding::Stochastic);
        let noise = Noise { seed: 1, stream: 2 };
        let mut found = [E5M2::ZERO; 80];
        let mut counts = Counts { next: (1 << 32) - 40, ..Counts::NONE };
        let mut pass = Pass::storing(narrowing, noise, Scale::ONE, Scale::ONE, &mut counts);
        for part in found.chunks_mut(20) {
            assert_eq!(pass.apply(&[1.125; 20], part), Ok(()));
        }
        for (place, found) in ((1 << 32) - 40..).zip(found) {
            let is_up = noise.word_at(place) < 1 << 31;
            assert_eq!(found.0, if is_up { 0x3d } else { 0x3c });
        }
    }
}
