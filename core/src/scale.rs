//! Which scales are legal: exact powers of two that an f32 holds with their inverse.
//!
//! A [`Scale`] is the `2^K` that a gradient carries; a [`Shift`] is the ratio `2^d` of two scales,
//! which is what a kernel applies.  Both keep the integer, never the factor.

use core::{fmt, ops::Div};

/// A loss scale `2^K` with `|K| <= 126`, so that both `2^K` and `2^-K` are normal in f32.
///
/// # Examples
///
/// ```
/// use adaloss_core::scale::Scale;
/// let scale = Scale::new(-10)?;
/// assert_eq!(scale.factor(), 0.0009765625);
/// assert_eq!(scale.factor() * scale.inverse().factor(), 1.0);
/// assert!(Scale::new(127).is_err());
/// # Ok::<(), adaloss_core::scale::ScaleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Scale(i16);

impl Scale {
    /// The scale of a gradient that was never scaled: `2^0`.
    pub const ONE: Self = Self(0);
    /// The smallest scale, `2^-126`.
    pub const MIN: Self = Self(-126);
    /// The largest scale, `2^126`.
    pub const MAX: Self = Self(126);

    /// Makes the scale `2^log2`.
    ///
    /// # Errors
    ///
    /// The exponent is outside `-126..=126`.
    #[inline]
    pub const fn new(log2: i32) -> Result<Self, ScaleError> {
        if log2 < Self::MIN.log2() || log2 > Self::MAX.log2() {
            Err(ScaleError { log2 })
        } else {
            Ok(Self(log2 as i16))
        }
    }

    /// Makes the legal scale nearest to `2^log2`.
    #[inline]
    pub const fn saturating(log2: i32) -> Self {
        if log2 < Self::MIN.log2() {
            Self::MIN
        } else if log2 > Self::MAX.log2() {
            Self::MAX
        } else {
            Self(log2 as i16)
        }
    }

    /// Returns the exponent `K`.
    #[inline]
    pub const fn log2(self) -> i32 {
        self.0 as i32
    }

    /// Returns `2^K`, a normal f32.
    #[inline]
    pub const fn factor(self) -> f32 {
        f32::from_bits(((self.0 + 127) as u32) << 23)
    }

    /// Returns `2^-K`, exactly.
    #[inline]
    pub const fn inverse(self) -> Self {
        Self(-self.0)
    }

    /// Returns the scale that `shift` leads to, or `None` where it is not legal.
    #[inline]
    pub const fn shifted(self, shift: Shift) -> Option<Self> {
        match Self::new(self.log2() + shift.log2()) {
            Ok(scale) => Some(scale),
            Err(_) => None,
        }
    }
}

impl Div for Scale {
    type Output = Shift;

    /// Returns the shift that leads from `incoming` to `self`.
    #[expect(clippy::suspicious_arithmetic_impl, reason = "factors divide, exponents subtract")]
    fn div(self, incoming: Self) -> Shift {
        Shift(self.0 - incoming.0)
    }
}

impl fmt::Debug for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}", self.0)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}", self.0)
    }
}

/// The ratio `2^d` of two scales, `|d| <= 252`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Shift(i16);

impl Shift {
    /// The shift that changes nothing.
    pub const NONE: Self = Self(0);

    /// Returns the exponent `d`.
    #[inline]
    pub const fn log2(self) -> i32 {
        self.0 as i32
    }

    /// Returns `2^d` where it is a normal f32 with a normal inverse, `|d| <= 126`.
    ///
    /// Beyond that a kernel has to shift the exponent, as
    /// [`Narrowing::narrow`](crate::format::Narrowing::narrow) does for every `d`.
    #[inline]
    pub const fn factor(self) -> Option<f32> {
        match Scale::new(self.log2()) {
            Ok(scale) => Some(scale.factor()),
            Err(_) => None,
        }
    }
}

impl fmt::Debug for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}", self.0)
    }
}

/// An exponent that no [`Scale`] can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleError {
    /// The exponent that was asked for.
    pub log2: i32,
}

impl fmt::Display for ScaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a scale of 2^{} is outside 2^-126..=2^126", self.log2)
    }
}

impl core::error::Error for ScaleError {}
