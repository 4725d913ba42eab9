//! What narrowing did to a tensor.

use crate::format::Fate;

/// Counts of what became of the elements of one tensor when they were narrowed.
///
/// Every element is in exactly one of `zero`, `nonfinite`, `underflow`, `subnormal`, `overflow`,
/// or none of them, when the result is a normal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Outcome {
    /// All elements.
    pub elements: u64,
    /// Elements that were infinite or NaN before narrowing.
    pub nonfinite: u64,
    /// Elements that were zero before narrowing.
    pub zero: u64,
    /// Elements that were not zero and became zero.
    pub underflow: u64,
    /// Elements that became subnormal numbers.
    pub subnormal: u64,
    /// Finite elements beyond the largest finite number, whether they became infinity, NaN or the
    /// largest finite number.
    pub overflow: u64,
    /// The largest `|x|` among the finite elements before narrowing and before the shift, as the
    /// bits of an f32; integers order as the magnitudes do.
    pub max_bits: u32,
    /// Always zero: the padding that C would add, so that every byte is defined.
    pub reserved: u32,
}

impl Outcome {
    /// The outcome of an empty tensor, the identity of [`merge`](Self::merge).
    pub const EMPTY: Self = Self {
        elements: 0,
        nonfinite: 0,
        zero: 0,
        underflow: 0,
        subnormal: 0,
        overflow: 0,
        max_bits: 0,
        reserved: 0,
    };

    /// Counts one element, given its f32 value before narrowing and what became of it.
    #[inline]
    pub fn record(&mut self, x: f32, fate: Fate) {
        // No branch but for non-finite values: what becomes of a gradient cannot be predicted.
        self.elements += 1;
        self.zero += u64::from(fate == Fate::Zero);
        self.underflow += u64::from(fate == Fate::Underflow);
        self.subnormal += u64::from(fate == Fate::Subnormal);
        self.overflow += u64::from(fate == Fate::Overflow);
        if fate == Fate::NonFinite {
            self.nonfinite += 1;
        } else {
            self.max_bits = self.max_bits.max(x.to_bits() & 0x7fff_ffff);
        }
    }

    /// Adds the counts of another part of the tensor.
    pub fn merge(&mut self, other: &Self) {
        self.elements += other.elements;
        self.nonfinite += other.nonfinite;
        self.zero += other.zero;
        self.underflow += other.underflow;
        self.subnormal += other.subnormal;
        self.overflow += other.overflow;
        self.max_bits = self.max_bits.max(other.max_bits);
    }

    /// Returns the number of finite elements that were not zero before narrowing.
    pub const fn nonzero(&self) -> u64 {
        self.elements - self.nonfinite - self.zero
    }

    /// Returns the share of the finite nonzero elements that became zero; 0 where there are none.
    pub fn underflow_fraction(&self) -> f64 {
        match self.nonzero() {
            0 => 0.0,
            nonzero => self.underflow as f64 / nonzero as f64,
        }
    }

    /// Returns the largest finite magnitude before narrowing and before the shift.
    pub const fn max_abs(&self) -> f32 {
        f32::from_bits(self.max_bits)
    }
}
