//! One histogram that answers for every scale.

use core::{fmt, mem::offset_of};

use super::classes::Counts;
use crate::{
    format::{Narrowing, Overflow, Shifts},
    scale::Scale,
};

/// Legal scales, and one bin for "none of them".
const BINS: usize = 254;

/// How many elements of a tensor live at which scales.
///
/// Every finite nonzero element has a *floor*, the least `K` at which it does not underflow, and a
/// *ceiling*, the greatest `K` at which it does not overflow.  Counting floors and ceilings gives
/// the exact number of elements that underflow and overflow at every legal scale, for any shape of
/// distribution; see [`Narrowing::shifts`] for the two integer formulas.  Floors and ceilings are
/// one per binade, so this is an exponent histogram whose bins are labelled by what they mean.
///
/// Scales are absolute: an element that was computed at scale `2^k_in` is counted as its unscaled
/// value.  A histogram therefore means the same on every rank, and after any change upstream.
///
/// The size is 4096 bytes.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, Narrowing}, scale::Scale, statistics::Histogram};
/// let mut histogram = Histogram::new(Narrowing::to(Format::BINARY16));
/// histogram.observe(&[1.0e-8, 3.0e-8, 2.0, 0.0, f32::NAN], Scale::ONE);
/// assert_eq!((histogram.nonzero(), histogram.nonfinite()), (3, 1));
/// assert_eq!(histogram.underflow(Scale::ONE), 1);
/// assert_eq!(histogram.underflow(Scale::new(2)?), 0);
/// assert_eq!(histogram.overflow(Scale::new(15)?), 1);
/// # Ok::<(), adaloss_core::scale::ScaleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Histogram {
    narrowing: Narrowing,
    reserved: u32,
    elements: u64,
    nonfinite: u64,
    zero: u64,
    /// `floors[i]` counts the elements whose floor is `i - 126`; the first bin holds lower ones
    /// too, the last those that underflow at every legal scale.
    floors: [u64; BINS],
    /// `ceilings[i]` counts the elements whose ceiling is `i - 127`; the first bin holds those that
    /// overflow at every legal scale, the last higher ones too.
    ceilings: [u64; BINS],
}

const _: () = assert!(size_of::<Histogram>() == 4096);

/// Where the counters are, in words of 64 bits.
const NONFINITE_WORD: usize = offset_of!(Histogram, nonfinite) / 8;
const ZERO_WORD: usize = offset_of!(Histogram, zero) / 8;
const FIRST_BIN: usize = offset_of!(Histogram, floors) / 8;

/// The label of `floors[0]`.
const FIRST_FLOOR: i32 = Scale::MIN.log2();
/// The label of `ceilings[0]`.
const FIRST_CEILING: i32 = Scale::MIN.log2() - 1;

impl Histogram {
    /// The 64-bit words of a histogram, and the one that counts all elements.
    pub const WORDS: usize = size_of::<Self>() / 8;
    /// See [`words_of`](Self::words_of).
    pub const ELEMENTS_WORD: usize = offset_of!(Self, elements) / 8;

    /// Makes the histogram of an empty tensor, the identity of [`merge`](Self::merge).
    ///
    /// What becomes of overflow does not change what is counted, so that a saturating narrowing and
    /// one that overflows to infinity share their histograms.
    pub const fn new(narrowing: Narrowing) -> Self {
        Self {
            narrowing: Narrowing { overflow: Overflow::Infinity, ..narrowing },
            reserved: 0,
            elements: 0,
            nonfinite: 0,
            zero: 0,
            floors: [0; BINS],
            ceilings: [0; BINS],
        }
    }

    /// Forgets every element.
    pub fn clear(&mut self) {
        *self = Self::new(self.narrowing);
    }

    /// Returns the format and rounding that the counts are for.
    pub const fn narrowing(&self) -> Narrowing {
        self.narrowing
    }

    /// Counts f32 values that carry the scale `incoming`, before they are narrowed.
    #[inline(always)]
    pub fn observe(&mut self, values: &[f32], incoming: Scale) {
        // Working out what the classes mean costs as much as counting some values one by one.
        if values.len() < 2 * Counts::BLOCK {
            return values.iter().for_each(|&x| self.observe_one(x, incoming));
        }
        let mut blocks = values.chunks_exact(Counts::BLOCK);
        let mut classes = Counts::new(self.narrowing);
        for block in &mut blocks {
            // Subnormals have no class: their block is counted one by one.
            if !classes.count(block) {
                block.iter().for_each(|&x| self.observe_one(x, incoming));
            }
        }
        self.add(&classes, incoming);
        blocks.remainder().iter().for_each(|&x| self.observe_one(x, incoming));
    }

    /// Adds values that were counted by class.
    #[inline(never)]
    fn add(&mut self, classes: &Counts, incoming: Scale) {
        for (example, count) in classes.examples() {
            self.elements += count;
            match self.narrowing.shifts(example) {
                Some(Shifts { least, greatest }) => {
                    self.floors[bin(least + incoming.log2(), FIRST_FLOOR)] += count;
                    self.ceilings[bin(greatest + incoming.log2(), FIRST_CEILING)] += count;
                }
                None if example == 0.0 => self.zero += count,
                None => self.nonfinite += count,
            }
        }
    }

    /// Counts one f32 value that carries the scale `incoming`.
    #[inline]
    pub fn observe_one(&mut self, x: f32, incoming: Scale) {
        self.elements += 1;
        let Some(Shifts { least, greatest }) = self.narrowing.shifts(x) else {
            if x == 0.0 {
                self.zero += 1;
            } else {
                self.nonfinite += 1;
            }
            return;
        };
        self.floors[bin(least + incoming.log2(), FIRST_FLOOR)] += 1;
        self.ceilings[bin(greatest + incoming.log2(), FIRST_CEILING)] += 1;
    }

    /// Returns the counters of a value that carries the scale `incoming`, besides that of all
    /// elements: as indices of a histogram's 64-bit words.
    ///
    /// For kernels, whose threads count into one histogram with atomic additions.
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::{format::{Format, Narrowing}, scale::Scale, statistics::Histogram};
    /// let narrowing = Narrowing::to(Format::BINARY16);
    /// // A value has a floor and a ceiling; zero, infinity and NaN have a counter each.
    /// assert!(Histogram::words_of(narrowing, 1.5, Scale::ONE).1.is_some());
    /// assert!(Histogram::words_of(narrowing, f32::NAN, Scale::ONE).1.is_none());
    /// ```
    #[inline]
    pub const fn words_of(narrowing: Narrowing, x: f32, incoming: Scale) -> (usize, Option<usize>) {
        match narrowing.shifts(x) {
            Some(Shifts { least, greatest }) => {
                let floor = bin(least + incoming.log2(), FIRST_FLOOR);
                let ceiling = bin(greatest + incoming.log2(), FIRST_CEILING);
                (FIRST_BIN + floor, Some(FIRST_BIN + BINS + ceiling))
            }
            None if x == 0.0 => (ZERO_WORD, None),
            None => (NONFINITE_WORD, None),
        }
    }

    /// Adds the counts of another part of the tensor, of another micro-batch or another rank.
    ///
    /// # Errors
    ///
    /// The histograms are for different formats or roundings; nothing was added.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.narrowing != other.narrowing {
            return Err(MergeError { into: self.narrowing, from: other.narrowing });
        }
        self.elements += other.elements;
        self.nonfinite += other.nonfinite;
        self.zero += other.zero;
        let bins = self.floors.iter_mut().chain(&mut self.ceilings);
        for (bin, more) in bins.zip(other.floors.iter().chain(&other.ceilings)) {
            *bin += more;
        }
        Ok(())
    }

    /// Returns every count: those of all elements, of non-finite ones and of zeros, then the bins.
    ///
    /// For hosts that [merge](Self::merge) histograms of one narrowing by a sum over ranks.
    pub fn counts_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self { elements, nonfinite, zero, floors, ceilings, .. } = self;
        [elements, nonfinite, zero].into_iter().chain(floors).chain(ceilings)
    }

    /// How many counts [`counts_mut`](Self::counts_mut) has.
    pub const COUNTS: usize = 3 + 2 * BINS;

    /// Returns the number of all elements.
    pub const fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns the number of elements that are infinite or NaN.
    pub const fn nonfinite(&self) -> u64 {
        self.nonfinite
    }

    /// Returns the number of finite elements that are not zero.
    pub const fn nonzero(&self) -> u64 {
        self.elements.wrapping_sub(self.nonfinite).wrapping_sub(self.zero)
    }

    /// Returns how many elements underflow to zero at `scale`; under stochastic rounding, how many
    /// can.
    pub fn underflow(&self, scale: Scale) -> u64 {
        total(self.floors.iter().skip(bin(scale.log2() + 1, FIRST_FLOOR)))
    }

    /// Returns how many elements overflow at `scale`; under stochastic rounding, how many can.
    pub fn overflow(&self, scale: Scale) -> u64 {
        total(self.ceilings.iter().take(bin(scale.log2(), FIRST_CEILING)))
    }

    /// Returns the least scale at which at most `allowed` elements underflow, if a legal one does.
    pub fn least_scale(&self, allowed: u64) -> Option<Scale> {
        let mut lost = 0;
        for (i, &count) in self.floors.iter().enumerate().rev() {
            lost += count;
            if lost > allowed {
                return Scale::new(FIRST_FLOOR + i as i32).ok();
            }
        }
        Some(Scale::MIN)
    }

    /// Returns the greatest scale at which no element overflows, if a legal one does not.
    pub fn greatest_scale(&self) -> Option<Scale> {
        match self.ceilings.iter().position(|&count| count > 0) {
            Some(i) => Scale::new(FIRST_CEILING + i as i32).ok(),
            None => Some(Scale::MAX),
        }
    }

    /// Returns an upper bound of the mass that underflows at `scale`: its share of the sum of `|x|`,
    /// as a fraction of 2^32.
    ///
    /// The bound takes each lost element for the upper edge of its binade and each kept one for the
    /// lower edge, so it is at most four times the share itself while no element has its floor
    /// beyond the legal scales, and a looser bound where some do.
    pub fn lost_mass(&self, scale: Scale) -> u32 {
        let masses = Masses::of(self);
        let lost = masses.lost(scale);
        masses.share(lost)
    }

    /// Returns the least scale at which [`lost_mass`](Self::lost_mass) is at most `allowed`, if a
    /// legal one is.
    pub fn least_scale_by_mass(&self, allowed: u32) -> Option<Scale> {
        let masses = Masses::of(self);
        let mut lost = 0;
        for i in (0..BINS).rev() {
            lost += masses.lost_at(i);
            if masses.share(lost) > allowed {
                return Scale::new(FIRST_FLOOR + i as i32).ok();
            }
        }
        Some(Scale::MIN)
    }

    /// Returns the elements per floor, from the least scale to "none of them".
    ///
    /// The item is `(K, count)`: `count` elements do not underflow at `K` and do at `K - 1`.  This
    /// is the exponent histogram of the tensor, read from the largest magnitudes to the smallest.
    pub fn floors(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        (FIRST_FLOOR..).zip(self.floors.iter().copied())
    }
}

/// Returns the bin of a label, the labels beyond either end in the last bin there.
#[inline]
const fn bin(label: i32, first: i32) -> usize {
    match label - first {
        place if place < 0 => 0,
        place if place >= BINS as i32 => BINS - 1,
        place => place as usize,
    }
}

/// Sums counts.
///
/// Those of a tensor cannot wrap; those that a broken device left in its memory may.
fn total<'a>(counts: impl Iterator<Item = &'a u64>) -> u64 {
    counts.fold(0, |sum, &count| sum.wrapping_add(count))
}

/// The lower edges of the binades, weighted with their counts, in units that let the sum fit.
///
/// They are worked out when they are asked for: a table of them would fill a microcontroller's stack.
struct Masses<'h> {
    floors: &'h [u64; BINS],
    /// The largest binade that is not empty, and the logarithm of what its lower edge weighs.
    top: usize,
    unit: u32,
    total: u64,
}

impl<'h> Masses<'h> {
    fn of(histogram: &'h Histogram) -> Self {
        let floors = &histogram.floors;
        let top = floors.iter().position(|&count| count > 0).unwrap_or(0);
        // The largest binade weighs 2^unit; all together stay below 2^62.
        let unit = 62_u32.saturating_sub(64 - histogram.nonzero().leading_zeros());
        let masses = Self { floors, top, unit, total: 0 };
        let total = (0..BINS).fold(0_u64, |total, i| total.saturating_add(masses.at(i).0));
        Self { total, ..masses }
    }

    /// Returns the mass of a bin, and one where a fraction of a unit is left.
    fn at(&self, i: usize) -> (u64, u64) {
        let count = self.floors[i];
        match i.saturating_sub(self.top) as u32 {
            below if below <= self.unit => (count << (self.unit - below), 0),
            below => (count.checked_shr(below - self.unit).unwrap_or(0), u64::from(count > 0)),
        }
    }

    /// Returns the mass of a bin that is lost: it is bounded from above, so that a fraction of a unit
    /// counts as a whole where it may be lost, and not at all where it may be kept.
    fn lost_at(&self, i: usize) -> u64 {
        let (mass, fraction) = self.at(i);
        mass + fraction
    }

    /// Returns the lower edges of what underflows at `scale`.
    fn lost(&self, scale: Scale) -> u64 {
        (bin(scale.log2() + 1, FIRST_FLOOR)..BINS).map(|i| self.lost_at(i)).sum()
    }

    /// Returns an upper bound of the share that `lost` is of the sum of magnitudes.
    fn share(&self, lost: u64) -> u32 {
        if lost == 0 {
            return 0;
        }
        // An element is below twice its lower edge; one that is kept weighs at least its edge.
        let (lost, total) = (2 * lost, self.total + lost);
        // Both lose the same low bits, the divisor rounded down and the dividend up.
        let excess = 33_u32.saturating_sub(lost.leading_zeros());
        let dividend = ((lost >> excess) + u64::from(excess > 0)) << 32;
        u32::try_from(dividend.div_ceil((total >> excess).max(1))).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("narrowing", &self.narrowing)
            .field("elements", &self.elements)
            .field("nonfinite", &self.nonfinite)
            .field("zero", &self.zero)
            .field("floors", &Bins(&self.floors, FIRST_FLOOR))
            .field("ceilings", &Bins(&self.ceilings, FIRST_CEILING))
            .finish()
    }
}

/// The bins that are not empty, as `label: count`.
struct Bins<'a>(&'a [u64; BINS], i32);

impl fmt::Debug for Bins<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bins, first) = *self;
        f.debug_map().entries((first..).zip(bins).filter(|&(_, &count)| count > 0)).finish()
    }
}

/// Two histograms that count for different formats or roundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeError {
    /// What the histogram that was merged into is for.
    pub into: Narrowing,
    /// What the other one is for.
    pub from: Narrowing,
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a histogram for {:?} {:?} cannot take counts for {:?} {:?}",
            self.into.format, self.into.rounding, self.from.format, self.from.rounding
        )
    }
}

impl core::error::Error for MergeError {}
