//! What a histogram tells apart, so that a value is counted with one increment.

use crate::format::Narrowing;

/// Tells f32 values apart as far as a histogram does: by the exponent field, and by whether the
/// fraction is zero, below the point where rounding carries out of the largest binade, or beyond it.
///
/// Values of one class have the same floor and the same ceiling, so that a tensor is counted with
/// one increment per value and without a branch; what a class means is worked out once.  Subnormals
/// have no class.
///
/// Neighbouring binades have neighbouring numbers: the counters of a tensor are few lines of a cache, and lie in
/// different banks of a GPU's shared memory.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, Narrowing}, statistics::Classes};
/// let narrowing = Narrowing::to(Format::E4M3);
/// let classes = Classes::new(narrowing);
/// let class = classes.of(-0.3).expect("not subnormal");
/// assert_eq!(narrowing.shifts(classes.example(class)), narrowing.shifts(-0.3));
/// assert_eq!(classes.of(1.0e-40), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// The fraction from which a value of the largest binade overflows.
    carries: u32,
}

/// Exponent fields of f32.
const EXPONENTS: usize = 256;

impl Classes {
    /// The number of classes.
    pub const COUNT: usize = 4 * EXPONENTS;

    /// Makes the classes that a histogram for this narrowing has.
    pub const fn new(narrowing: Narrowing) -> Self {
        Self { carries: (1 << 23) - narrowing.overflow_reach() as u32 }
    }

    /// Returns the class of a value; `None` of a subnormal.
    #[inline]
    pub const fn of(self, x: f32) -> Option<usize> {
        let magnitude = x.to_bits() & 0x7fff_ffff;
        if is_subnormal(magnitude) { None } else { Some(self.place(magnitude) as usize) }
    }

    /// Returns the class of a magnitude that is not subnormal.
    #[inline(always)]
    const fn place(self, magnitude: u32) -> u32 {
        let fraction = magnitude & 0x7f_ffff;
        let place = 2 * (fraction >= self.carries) as u32 + (fraction == 0) as u32;
        place * EXPONENTS as u32 + (magnitude >> 23)
    }

    /// Returns a positive value of a class, which counts as all of them do.
    pub const fn example(self, class: usize) -> f32 {
        let fraction = match class / EXPONENTS {
            0 => 1,
            1 => 0,
            _ => self.carries,
        };
        f32::from_bits(((class % EXPONENTS) as u32) << 23 | fraction)
    }
}

#[inline(always)]
const fn is_subnormal(magnitude: u32) -> bool {
    magnitude.wrapping_sub(1) < (1 << 23) - 1
}

/// The values of a slice, counted by class.
///
/// A slice has no more values than `usize` counts, and a microcontroller half the stack for them.
pub(super) struct Counts {
    classes: Classes,
    counts: [usize; Classes::COUNT],
}

impl Counts {
    /// Values whose classes are computed at a time, as vectors, before they are counted one by one.
    pub(super) const BLOCK: usize = 128;

    pub(super) const fn new(narrowing: Narrowing) -> Self {
        Self { classes: Classes::new(narrowing), counts: [0; Classes::COUNT] }
    }

    /// Counts a block, unless there is a subnormal in it.
    #[inline(always)]
    pub(super) fn count(&mut self, block: &[f32]) -> bool {
        let of = self.classes;
        let mut classes = [0_u16; Self::BLOCK];
        let mut subnormals = 0;
        for (class, x) in classes.iter_mut().zip(block) {
            let magnitude = x.to_bits() & 0x7fff_ffff;
            *class = of.place(magnitude) as u16;
            subnormals += u32::from(is_subnormal(magnitude));
        }
        if subnormals > 0 {
            return false;
        }
        for class in classes {
            self.counts[usize::from(class) % Classes::COUNT] += 1;
        }
        true
    }

    /// Returns a value of each class that is not empty, and how many there were.
    pub(super) fn examples(&self) -> impl Iterator<Item = (f32, u64)> + '_ {
        let counts = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        counts.map(|(class, &count)| (self.classes.example(class), count as u64))
    }
}
