//! A share of every job.

use std::{fmt, str::FromStr};

/// The `nth` of `of` slices, counted from one.
///
/// A slice takes every `of`-th block of a job: it meets all exponents, and the slices of a job are
/// of one size, but for a block.
///
/// # Examples
///
/// ```
/// use adaloss_exhaustive::Slice;
/// let slice: Slice = "2/3".parse()?;
/// assert!(slice.blocks(8).eq([1, 4, 7]));
/// assert_eq!(slice.to_string(), "2/3");
/// # Ok::<(), adaloss_exhaustive::SliceError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    nth: u64,
    of: u64,
}

impl Slice {
    /// Everything.
    pub const WHOLE: Self = Self { nth: 1, of: 1 };

    /// Makes the `nth` of `of` slices.
    ///
    /// # Errors
    ///
    /// `nth` is not in `1..=of`.
    pub const fn new(nth: u64, of: u64) -> Result<Self, SliceError> {
        if nth >= 1 && nth <= of { Ok(Self { nth, of }) } else { Err(SliceError) }
    }

    /// Returns the blocks of this slice, of a job of so many.
    pub fn blocks(self, blocks: u64) -> impl ExactSizeIterator<Item = u64> {
        let count = (blocks + self.of - self.nth) / self.of;
        (0..count as usize).map(move |i| self.nth - 1 + i as u64 * self.of)
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl FromStr for Slice {
    type Err = SliceError;

    fn from_str(text: &str) -> Result<Self, SliceError> {
        let (nth, of) = text.split_once('/').ok_or(SliceError)?;
        let number = |text: &str| text.parse().map_err(|_| SliceError);
        Self::new(number(nth)?, number(of)?)
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.nth, self.of)
    }
}

/// Text that names no slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceError;

impl fmt::Display for SliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a slice is two numbers I/N with I from 1 to N")
    }
}

impl std::error::Error for SliceError {}
