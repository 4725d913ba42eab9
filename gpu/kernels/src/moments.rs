//! Exact sums in registers: f64 additions that lose nothing.
//!
//! A sum of f32 values, or of their squares, has hundreds of bits.  But most values of a tensor lie within some
//! tens of binades, and an f64 that begins at `1.5 * 2^52` units, and stays within half of that, is a
//! fixed-point number: it takes a value rounded to its unit, and what that leaves goes to the next register,
//! of smaller units.  Both are exact, and what a register took is the difference of its bits.  Values
//! beyond the registers are added in shared memory, one by one.
//!
//! (Rump, Ogita and Oishi, "Accurate Floating-Point Summation", 2008, extract the leading parts of a vector in
//! this way; Demmel and Nguyen, "Fast Reproducible Floating-Point Summation", 2013, keep registers of fixed
//! exponents.)

use core::array;

use adaloss_core::{
    format::{Element, Encoding},
    statistics::{Moments, Statistics},
};

use crate::{
    Block, Shared,
    block::{MOST_THREADS, WARP, sum_warp_wide},
    memory::Counters,
};

/// Values that a thread may add before its sums are gathered.
pub(crate) const MOST_TERMS: usize = 1024;

/// The unit of a register in units of the next one, as a power of two.
///
/// So many terms of at most `2^(STEP - 1)` units are within `2^51` units, with their rounding errors of
/// half a unit; what one of them leaves is at most `2^(STEP - 1)` units of the next register.
const STEP: u32 = 41;

/// Registers of the sum and of the sum of squares, the most that an encoding needs.
const SUM: usize = 2;
const SQUARES: usize = 3;
const REGISTERS: usize = SUM + SQUARES;

/// Returns how many of them an encoding needs: one of the squares where that holds every binade.
const fn needs(encoding: Encoding) -> [usize; 2] {
    match encoding {
        Encoding::Binary32 => [SUM, SQUARES],
        _ if fields(encoding) <= held_by(1, encoding) => [1, 1],
        _ => [1, 2],
    }
}

/// Returns how many binades so many registers of the squares hold: those whose squares fit.
const fn held_by(squares: usize, encoding: Encoding) -> u32 {
    (STEP * squares as u32 - 1) / 2 - (encoding.precision() - 1)
}

/// Returns how many binades an element's registers hold.
const fn binades(encoding: Encoding) -> u32 {
    let [_, squares] = needs(encoding);
    held_by(squares, encoding)
}

/// Returns how many values the exponent field of a finite element may have.
const fn fields(encoding: Encoding) -> u32 {
    (encoding.max_finite_bits() >> (encoding.precision() - 1)) + 1
}

/// Binades above the greatest value that was looked at that a window has room for.
const ABOVE: u32 = 8;

/// What an element's number lacks to its value, as a power of two.
const fn rebias(encoding: Encoding) -> u32 {
    (encoding.min_normal_log2() + 126) as u32
}

/// Bits of f32's fraction that an encoding has not.
const fn lacks(encoding: Encoding) -> u32 {
    24 - encoding.precision()
}

/// Returns the number of an element: the f32 that has its bits for exponent and fraction.
#[inline(always)]
fn number<F: Element>(bits: u32) -> f32 {
    let sign = (bits & F::ENCODING.sign_bit()) << (32 - F::ENCODING.bits());
    f32::from_bits(sign | magnitude::<F>(bits) << lacks(F::ENCODING))
}

/// Returns the bits of an element without its sign.
#[inline(always)]
pub(crate) fn magnitude<F: Element>(bits: u32) -> u32 {
    bits & (F::ENCODING.sign_bit() - 1)
}

/// The magnitudes that a thread's registers have room for, as bits of elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The first of them, but for zero;
    first: u32,
    /// and the first beyond them.
    end: u32,
    /// The last place of the smallest number, as a position of [`Moments::term`].
    unit: u32,
}

impl Window {
    /// Tells whether there is one window, with room for every finite element.
    #[inline(always)]
    pub(crate) const fn is_fixed<F: Element>() -> bool {
        // The first two exponent fields have the same last place.
        binades(F::ENCODING) >= fields(F::ENCODING) - 1
    }

    /// Returns the window for elements that are about as great as one that was looked at.
    #[inline(always)]
    pub(crate) fn about<F: Element>(magnitude: u32) -> Self {
        let fraction_bits = F::ENCODING.precision() - 1;
        let fields = fields(F::ENCODING);
        let binades = binades(F::ENCODING);
        if Self::is_fixed::<F>() {
            let end = F::ENCODING.max_finite_bits() + 1;
            return Self { first: 0, end, unit: lacks(F::ENCODING) };
        }
        let wanted = (magnitude >> fraction_bits) + 1 + ABOVE;
        let end = if wanted < fields { wanted } else { fields };
        let first = end.saturating_sub(binades);
        let (first, position) = if first < 2 { (0, 0) } else { (first, first - 1) };
        Self {
            first: first << fraction_bits,
            end: end << fraction_bits,
            unit: position + lacks(F::ENCODING),
        }
    }

    /// Returns the positions of the registers' units: of the sum, and of the sum of squares.
    #[inline(always)]
    const fn units(self) -> [u32; REGISTERS] {
        let Self { unit, .. } = self;
        [unit + STEP, unit, 2 * (unit + STEP), 2 * unit + STEP, 2 * unit]
    }

    /// Returns what the registers of elements, not of their numbers, hold in the beginning.
    #[inline(always)]
    fn origins<F: Element>(self) -> [u64; REGISTERS] {
        let (units, rebias) = (self.units(), rebias(F::ENCODING));
        array::from_fn(|nth| {
            let unit_log2 = if nth < SUM { 149 - rebias } else { 298 - 2 * rebias };
            u64::from(1023 + 52 + units[nth] - unit_log2) << 52 | 1 << 51
        })
    }
}

/// The sums of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    window: Window,
    registers: [f64; REGISTERS],
}

impl Sums {
    /// Begins sums of what a window holds.
    #[inline(always)]
    pub(crate) fn new<F: Element>(window: Window) -> Self {
        Self { window, registers: window.origins::<F>().map(f64::from_bits) }
    }

    /// Tells whether there is room for the magnitudes from the least to the greatest, beside zero.
    #[inline(always)]
    pub(crate) const fn have_room(&self, least: u32, greatest: u32) -> bool {
        (least >= self.window.first) & (greatest < self.window.end)
    }

    /// Adds an element of the window, widened; no more than [`MOST_TERMS`] of them.
    #[inline(always)]
    pub(crate) fn add<F: Element>(&mut self, x: f32) {
        let x = f64::from(x);
        let [sum, squares] = needs(F::ENCODING);
        self.put(SUM - sum, SUM, x);
        // The square is exact: it has 48 bits.
        self.put(REGISTERS - squares, REGISTERS, x * x);
    }

    /// Adds to the registers of a range: each takes what it can, and leaves the rest to the next.
    #[inline(always)]
    fn put(&mut self, first: usize, end: usize, mut x: f64) {
        let mut nth = first;
        while nth < end {
            let before = self.registers[nth];
            self.registers[nth] += x;
            x -= self.registers[nth] - before;
            nth += 1;
        }
    }

    /// Returns what the registers took, in their units.
    #[inline(always)]
    fn taken<F: Element>(self) -> [u64; REGISTERS] {
        let origins = self.window.origins::<F>();
        array::from_fn(|nth| self.registers[nth].to_bits().wrapping_sub(origins[nth]))
    }
}

/// Bits of a sum that are added to one word of shared memory.
const LIMB: u32 = 10;

/// Words of the sum and of the sum of squares, of which some may be negative.
const SUM_LIMBS: usize = 32;
const SQUARES_LIMBS: usize = 64;
pub(crate) const LIMBS: usize = SUM_LIMBS + SQUARES_LIMBS;

/// The sums of one block, in the first [`LIMBS`] words of its shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limbs<S>(pub(crate) S);

impl<S: Shared> Limbs<S> {
    /// Adds a finite element, of any size.
    #[inline(always)]
    pub(crate) fn add<F: Element>(self, bits: u32) {
        let x = number::<F>(bits);
        let (term, position) = Moments::term(x);
        let (term, position) = (u64::from(term), position + rebias(F::ENCODING));
        self.put(0, term, position, x.is_sign_negative());
        self.put(SUM_LIMBS, term * term, 2 * position, false);
    }

    /// Adds `significand * 2^position` to the sum whose words begin at `first`, or subtracts it.
    #[inline(always)]
    fn put(self, first: usize, significand: u64, position: u32, negative: bool) {
        let mut rest = u128::from(significand) << (position % LIMB);
        let mut word = first + (position / LIMB) as usize;
        while rest != 0 {
            let part = rest as u32 % (1 << LIMB);
            self.0.add(word, if negative { part.wrapping_neg() } else { part });
            (rest, word) = (rest >> LIMB, word + 1);
        }
    }

    /// Adds the sums of all threads, whose window is the same within a warp.
    #[inline(always)]
    pub(crate) fn gather<B: Block<Shared = S>, F: Element>(
        self,
        block: &mut B,
        sums: &B::Each<Sums>,
    ) {
        let taken = block.map(sums, |_, sums| sums.taken::<F>());
        let taken = sum_warp_wide(block, taken);
        block.zip(sums, &taken, |thread, Sums { window, .. }, taken| {
            if thread % WARP != 0 {
                return;
            }
            let (units, rebias) = (window.units(), rebias(F::ENCODING));
            let [sum, squares] = needs(F::ENCODING);
            let put = |nth: usize, first, rebias| {
                let taken: i64 = taken[nth].cast_signed();
                self.put(first, taken.unsigned_abs(), units[nth] + rebias, taken < 0);
            };
            (SUM - sum..SUM).for_each(|nth| put(nth, 0, rebias));
            (REGISTERS - squares..REGISTERS).for_each(|nth| put(nth, SUM_LIMBS, 2 * rebias));
        });
    }

    /// Adds one word of the sums to the statistics of the tensor, and clears it.
    #[inline(always)]
    pub(crate) fn carry_home<B: Block>(self, word: usize, to: Counters<'_, Statistics>) {
        let sum = self.0.load(word).cast_signed();
        self.0.store(word, 0);
        let (significand, negative) = (sum.unsigned_abs().into(), sum < 0);
        match word.checked_sub(SUM_LIMBS) {
            None => {
                let position = LIMB * word as u32;
                to.add_exact::<B, 6>(Statistics::SUM_WORD, significand, position, negative);
            }
            Some(word) => {
                let position = LIMB * word as u32;
                to.add_exact::<B, 10>(Statistics::SQUARES_WORD, significand, position, negative);
            }
        }
    }
}

const _: () = {
    let mut nth = 0;
    while nth < Encoding::ALL.len() {
        let encoding = Encoding::ALL[nth];
        let [sum, squares] = needs(encoding);
        assert!(0 < sum && sum <= SUM && 0 < squares && squares <= SQUARES);
        // What has room for squares has room for the numbers.
        assert!(binades(encoding) + encoding.precision() <= STEP * sum as u32);
        assert!(binades(encoding) > ABOVE);
        nth += 1;
    }
    assert!(MOST_TERMS << (STEP - 1) <= 1 << 50);
    // No word wraps, were every term of a block added to it, and the sums do not exceed their words.
    let terms = MOST_TERMS * MOST_THREADS as usize;
    assert!(terms << LIMB <= 1 << 30);
    assert!((terms.ilog2() + 24 + 253) / LIMB < SUM_LIMBS as u32);
    assert!((terms.ilog2() + 48 + 2 * 253) / LIMB < SQUARES_LIMBS as u32);
};

#[cfg(test)]
mod tests {
    use adaloss_core::format::{E4M3, E5M2, bf16, f16};

    use super::*;

    /// Most tensors have nothing that is added one by one: their values lie within these binades.
    fn has_room<F: Element>(below: u32) {
        let fraction_bits = F::ENCODING.precision() - 1;
        let greatest = F::ENCODING.max_finite_bits();
        for magnitude in (0..=greatest).step_by((greatest as usize >> 12) + 1) {
            let least = magnitude.saturating_sub(below << fraction_bits);
            let most = (magnitude + (ABOVE << fraction_bits)).min(greatest);
            let sums = Sums::new::<F>(Window::about::<F>(magnitude));
            assert!(sums.have_room(least, most), "{magnitude:#x} of {}", size_of::<F>());
        }
    }

    #[test]
    fn windows_have_room_for_tens_of_binades() {
        has_room::<f32>(29);
        has_room::<bf16>(24);
        has_room::<f16>(30);
        has_room::<E5M2>(30);
        has_room::<E4M3>(15);
    }
}
