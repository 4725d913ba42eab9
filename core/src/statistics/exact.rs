//! Sums that round once, at the end: a fixed-point number wide enough for every f32.

/// An exact sum of binary fractions: a two's complement fixed-point number of `WORDS` words.
///
/// Addition of integers is associative and commutative, so that a sum does not depend on the order
/// of its terms, on the number of threads or on where partial sums were merged.  (The long
/// accumulator of Kulisch, "Computer Arithmetic and Validity", 2013.)  What is added beyond the
/// range wraps; each use states why it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ExactSum<const WORDS: usize> {
    words: [u64; WORDS],
}

impl<const WORDS: usize> ExactSum<WORDS> {
    /// The empty sum, the identity of [`merge`](Self::merge).
    pub const ZERO: Self = Self { words: [0; WORDS] };

    /// Adds `significand * 2^position` units, or subtracts it where `negative`.
    #[inline]
    pub fn add(&mut self, significand: u64, position: u32, negative: bool) {
        let (first, offset) = ((position / 64) as usize, position % 64);
        let wide = u128::from(significand) << offset;
        let mut parts = [wide as u64, (wide >> 64) as u64].into_iter();
        let mut carry = false;
        for word in self.words.iter_mut().skip(first) {
            let part = parts.next();
            if part.is_none() && !carry {
                break;
            }
            (*word, carry) = if negative {
                word.borrowing_sub(part.unwrap_or(0), carry)
            } else {
                word.carrying_add(part.unwrap_or(0), carry)
            };
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        let mut carry = false;
        for (word, &more) in self.words.iter_mut().zip(&other.words) {
            (*word, carry) = word.carrying_add(more, carry);
        }
    }

    /// Tells whether the sum is below zero.
    pub const fn is_negative(&self) -> bool {
        self.words[WORDS - 1] >> 63 == 1
    }

    /// Returns the magnitude, least significant word first.
    pub fn magnitude(&self) -> [u64; WORDS] {
        let mut magnitude = self.words;
        if self.is_negative() {
            let mut carry = true;
            for word in &mut magnitude {
                (*word, carry) = (!*word).carrying_add(0, carry);
            }
        }
        magnitude
    }

    /// Returns the sum in units of `2^unit_log2`: its 64 leading bits, rounded to the nearest f64, ties to even.
    pub fn to_f64(&self, unit_log2: i32) -> f64 {
        let magnitude = words_to_f64(&self.magnitude(), unit_log2);
        if self.is_negative() { -magnitude } else { magnitude }
    }
}

/// Returns an unsigned multi-word integer times `2^unit_log2`, truncated to 64 bits and rounded.
pub(super) fn words_to_f64(words: &[u64], unit_log2: i32) -> f64 {
    let mut from_top = words.iter().enumerate().rev().skip_while(|&(_, &word)| word == 0);
    let Some((place, top)) = from_top.next() else {
        return 0.0;
    };
    let shift = top.leading_zeros();
    let below = from_top.next().and_then(|(_, word)| word.checked_shr(64 - shift)).unwrap_or(0);
    let leading = top << shift | below;
    libm::ldexp(leading as f64, unit_log2 + 64 * place as i32 - shift as i32)
}

/// `n * a - b * b` for multi-word magnitudes, which no sum of squares lets fall below zero.
pub(super) fn scaled_difference<const A: usize, const B: usize>(
    n: u64,
    a: &[u64; A],
    b: &[u64; B],
) -> [u64; 13] {
    debug_assert!(A < 13 && 2 * B < 13);
    let mut result = [0_u64; 13];
    let mut carry = 0_u64;
    for (word, &a) in result.iter_mut().zip(a) {
        let product = u128::from(n) * u128::from(a) + u128::from(carry);
        (*word, carry) = (product as u64, (product >> 64) as u64);
    }
    result[A] = carry;
    let mut square = [0_u64; 13];
    for (i, &x) in b.iter().enumerate() {
        let mut carry = 0_u64;
        for (word, &y) in square[i..].iter_mut().zip(b) {
            let product = u128::from(x) * u128::from(y) + u128::from(*word) + u128::from(carry);
            (*word, carry) = (product as u64, (product >> 64) as u64);
        }
        square[i + B] = carry;
    }
    let mut borrow = false;
    for (word, less) in result.iter_mut().zip(square) {
        (*word, borrow) = word.borrowing_sub(less, borrow);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_cancel_exactly_over_the_whole_range() {
        let mut sum = ExactSum::<6>::ZERO;
        sum.add(0xff_ffff, 253, false);
        sum.add(1, 0, false);
        sum.add(0xff_ffff, 253, true);
        assert_eq!(sum.to_f64(-149), f64::from(f32::from_bits(1)));
        sum.add(3, 0, true);
        assert!(sum.is_negative());
        assert_eq!(sum.to_f64(0), -2.0);
    }

    #[test]
    fn the_variance_of_a_constant_is_zero() {
        // Seven times 0xabcdef, and the sum of its squares.
        let (mut sum, mut squares) = (ExactSum::<6>::ZERO, ExactSum::<10>::ZERO);
        for _ in 0..7 {
            sum.add(0xab_cdef, 101, true);
            squares.add(0xab_cdef * 0xab_cdef, 202, false);
        }
        assert_eq!(scaled_difference(7, &squares.magnitude(), &sum.magnitude()), [0; 13]);
    }
}
