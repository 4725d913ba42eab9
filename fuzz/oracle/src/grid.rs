//! Rounding by its definition: find the two neighbours in a table, then choose.

use std::sync::OnceLock;

use adaloss_core::format::{
    Encoding, Fate, Format, Narrowed, Narrowing, Overflow, Rounding, Subnormals,
};

use super::{Limits, apfloat, product};

/// All numbers of an encoding, in order.
pub struct Grid {
    /// The encoding.
    pub encoding: Encoding,
    /// Its ends.
    pub limits: Limits,
    /// The finite numbers from zero up; the index is the bit pattern.  Empty for binary32, whose
    /// neighbours the f32 type itself knows.
    pub numbers: Vec<f64>,
}

/// The numbers next to an exact one: `low <= v < high`.
pub struct Neighbours {
    /// The bits of the lower one.
    pub low_bits: u32,
    /// The lower one.
    pub low: f64,
    /// The one after it: beyond the largest finite number, what would come there.
    pub high: f64,
}

impl Grid {
    /// Returns the numbers of an encoding, decoded once.
    pub fn of(encoding: Encoding) -> &'static Self {
        static GRIDS: [OnceLock<Grid>; Encoding::ALL.len()] =
            [const { OnceLock::new() }; Encoding::ALL.len()];
        GRIDS[encoding as usize].get_or_init(|| Self::new(encoding))
    }

    /// Decodes every bit pattern of an encoding.
    pub fn new(encoding: Encoding) -> Self {
        let limits = Limits::of(encoding);
        let numbers: Vec<f64> = match encoding {
            Encoding::Binary32 => Vec::new(),
            _ => (0..=limits.largest_bits).map(|bits| apfloat::decode(encoding, bits)).collect(),
        };
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert!(numbers.is_empty() || (numbers[1], numbers[numbers.len() - 1]) == limits.ends());
        Self { encoding, limits, numbers }
    }

    /// Returns the neighbours of a number from zero to below `limits.beyond`.
    pub fn neighbours(&self, v: f64) -> Neighbours {
        if self.encoding == Encoding::Binary32 {
            let nearest = v as f32;
            let low = if f64::from(nearest) > v { nearest.next_down() } else { nearest };
            let next = low.next_up();
            let high = if next.is_finite() { f64::from(next) } else { self.limits.beyond };
            return Neighbours { low_bits: low.to_bits(), low: f64::from(low), high };
        }
        let above = self.numbers.partition_point(|&number| number <= v);
        let high = self.numbers.get(above).copied().unwrap_or(self.limits.beyond);
        Neighbours { low_bits: above as u32 - 1, low: self.numbers[above - 1], high }
    }

    /// Returns the share of the way from the lower to the upper neighbour, in units of 2^-32, and
    /// whether a whole number of them says it exactly.
    pub fn fraction(&self, v: f64) -> (u32, bool) {
        let Neighbours { low, high, .. } = self.neighbours(v);
        // A difference of numbers on a common grid and a quotient by a power of two: both exact.
        let share = (v - low) / (high - low) * 4_294_967_296.0;
        (share as u32, share.fract() == 0.0)
    }

    /// Narrows by the documented definition.
    ///
    /// # Panics
    ///
    /// The narrowing is for another encoding.
    pub fn narrow(&self, narrowing: Narrowing, x: f32, k: i32, noise: u32) -> Narrowed {
        assert_eq!(narrowing.format.encoding, self.encoding);
        let sign = if x.is_sign_negative() { self.limits.sign_bit() } else { 0 };
        let saturates = narrowing.overflow == Overflow::Saturate;
        let (bits, fate) = if x.is_nan() {
            (self.limits.nan_bits, Fate::NonFinite)
        } else if x.is_infinite() {
            let infinity = self.limits.infinity_bits;
            (if saturates { self.limits.largest_bits } else { infinity }, Fate::NonFinite)
        } else if x == 0.0 {
            (0, Fate::Zero)
        } else {
            self.narrow_positive(narrowing, product(x.abs(), k), noise)
        };
        Narrowed { bits: sign | bits, fate }
    }

    fn narrow_positive(&self, narrowing: Narrowing, v: f64, noise: u32) -> (u32, Fate) {
        let Narrowing { format: Format { subnormals, .. }, rounding, overflow } = narrowing;
        if subnormals == Subnormals::Flush && v < self.limits.smallest_normal {
            return (0, Fate::Underflow);
        }
        let bits = if v < self.limits.beyond { self.round(rounding, v, noise) } else { u32::MAX };
        if bits > self.limits.largest_bits {
            let stays = rounding == Rounding::TowardZero || overflow == Overflow::Saturate;
            let bits = if stays { self.limits.largest_bits } else { self.limits.infinity_bits };
            return (bits, Fate::Overflow);
        }
        let fate = match apfloat::decode(self.encoding, bits) {
            0.0 => Fate::Underflow,
            number if number < self.limits.smallest_normal => Fate::Subnormal,
            _ => Fate::Normal,
        };
        (bits, fate)
    }

    /// Returns the bits of the neighbour that is chosen, one more than the largest for `beyond`.
    fn round(&self, rounding: Rounding, v: f64, noise: u32) -> u32 {
        let Neighbours { low_bits, low, high } = self.neighbours(v);
        let middle = (low + high) / 2.0;
        let up = match rounding {
            Rounding::NearestEven => v > middle || (v == middle && low_bits % 2 == 1),
            Rounding::TowardZero => false,
            Rounding::Stochastic => noise < self.fraction(v).0,
        };
        low_bits + u32::from(up)
    }
}

impl Limits {
    fn ends(&self) -> (f64, f64) {
        (self.smallest, self.largest)
    }
}
