//! What a histogram of the commonest narrowing tells apart, in fewer instructions than [`Classes`]: to nearest even, with gradual
//! underflow.
//!
//! A value's floor is told by the exponent field of the magnitude before it, since a tie with zero is rounded to zero, and
//! its ceiling by that of the magnitude to which the reach of rounding was added; both are the same or neighbours.  So the
//! first and twice the second tell values apart that count differently, and neighbouring binades are three words of shared
//! memory apart, in different banks.  The reach is known to the compiler, and no register holds it.

use core::marker::PhantomData;

use adaloss_core::{
    format::{Element, Narrowing, Rounding, Subnormals},
    statistics::Classes,
};

use crate::nearest::{beyond, magnitude};

/// Places of values of one type among the words of shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binades<F>(PhantomData<F>);

/// Bits of f32's fraction.
const FRACTION_BITS: u32 = 23;

impl<F: Element> Binades<F> {
    /// The first place, behind those of the classes.
    pub(crate) const FIRST: usize = Classes::COUNT;

    /// How many places there are, some of which no value has.
    pub(crate) const COUNT: usize = 3 << 8;

    /// What is added to a magnitude to carry into the binade beyond where rounding does so in the largest one.
    const REACH: u32 = beyond(F::ENCODING).to_bits().wrapping_neg() % (1 << FRACTION_BITS);

    /// Tells whether this is what a histogram for a narrowing tells apart.
    pub(crate) const fn are_those_of(narrowing: Narrowing) -> bool {
        matches!(narrowing.rounding, Rounding::NearestEven)
            & matches!(narrowing.format.subnormals, Subnormals::Gradual)
    }

    /// Calls a function with the place of each of a few values, and returns true; or returns false where one of them is
    /// subnormal or not finite, and has none.
    #[inline(always)]
    pub(crate) fn each<const N: usize>(values: [f32; N], mut count: impl FnMut(usize)) -> bool {
        let (mut least, mut greatest) = (u32::MAX, 0);
        // Over slices: the compiler unrolls them, and keeps no array in memory for them.
        for &x in &values {
            // Of zero it is the greatest there is.
            least = magnitude(x).wrapping_sub(1).min(least);
            greatest = magnitude(x).max(greatest);
        }
        if least < (1 << FRACTION_BITS) - 1 || greatest >= f32::INFINITY.to_bits() {
            return false;
        }
        for &x in &values {
            let floor = magnitude(x).wrapping_sub(1) >> FRACTION_BITS;
            let ceiling = (magnitude(x) + Self::REACH) >> FRACTION_BITS;
            count(Self::FIRST + (floor + 2 * ceiling) as usize);
        }
        true
    }

    /// Returns a positive value of a place, which counts as all of them do.
    #[inline(always)]
    pub(crate) fn example(place: usize) -> f32 {
        let of = (place - Self::FIRST) as u32;
        let exponent = of / 3;
        let fraction = match of % 3 {
            // Zero alone, whose floor is 511.
            1 => return 0.0,
            0 => 1,
            // Floor and ceiling are apart; a power of two is the least such number, and no subnormal is one.
            _ if exponent == 0 => 1 << FRACTION_BITS,
            _ => (1 << FRACTION_BITS) - Self::REACH,
        };
        f32::from_bits((exponent << FRACTION_BITS) + fraction)
    }
}

#[cfg(test)]
mod tests {
    use adaloss_core::{
        format::{E4M3, E5M2, bf16, f16},
        scale::Scale,
        statistics::Histogram,
    };

    use super::*;

    /// A place counts as each of its values, of every binade and on both sides of where something changes.
    fn count_alike<F: Element>() {
        let narrowing = Narrowing::to(F::ENCODING.into());
        let carries = (1 << FRACTION_BITS) - Binades::<F>::REACH;
        let fractions = [0, 1, 2, carries - 1, carries, carries + 1, 0x7f_fffe, 0x7f_ffff];
        for bits in (0..512_u32)
            .flat_map(|top| fractions.map(|low| (top << FRACTION_BITS).wrapping_add(low)))
        {
            let x = f32::from_bits(bits);
            let mut places = [0; 2];
            let mut nth = 0;
            let found = Binades::<F>::each([x, 1.5], |place| {
                places[nth] = place;
                nth += 1;
            });
            assert_eq!(found, x == 0.0 || x.is_normal(), "{x:e}");
            if found {
                let count = |x| Histogram::words_of(narrowing, x, Scale::ONE);
                assert!(places[0] - Binades::<F>::FIRST < Binades::<F>::COUNT);
                let example = Binades::<F>::example(places[0]);
                assert_eq!(count(example), count(x), "{x:e} and {example:e}");
            }
        }
    }

    #[test]
    fn values_of_a_place_count_alike() {
        count_alike::<f16>();
        count_alike::<bf16>();
        count_alike::<E5M2>();
        count_alike::<E4M3>();
        count_alike::<f32>();
    }
}
