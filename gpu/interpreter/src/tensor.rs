//! Products of small matrices, whose elements the threads of a warp share.
//!
//! Which thread has which elements is what the ISA's section 9.7.14.5.8 shows for `m16n8k16`.  In which order a
//! sum is made it leaves open: see [`Sums`].

use crate::lanes::{LANES, Lanes};

/// In which order products are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sums {
    /// One after the other, each product added with one rounding: what the simulated grid does.
    #[default]
    InOrder,
    /// Eight products and what was there at once, cut off to 24 digits of the largest; then the other eight.
    ///
    /// Tensor cores have been found to do something alike.  What holds for both needs no order.
    ByHalves,
}

/// The two elements in a word.
fn pair(is_bfloat: bool, word: u32) -> [f32; 2] {
    if is_bfloat {
        [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
    } else {
        [half(word as u16), half((word >> 16) as u16)]
    }
}

/// Returns the value of a binary16 number.
pub(crate) fn half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        // 2^-24 is the least.
        0 => (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        31 => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// Multiplies 16 rows of 16 by 16 columns of 8, and adds what was there.
pub(crate) fn multiply(
    is_bfloat: bool,
    sums: Sums,
    a: [&Lanes<u32>; 4],
    b: [&Lanes<u32>; 2],
    c: [&Lanes<u32>; 4],
) -> [Lanes<u32>; 4] {
    // The columns of A beside each other, so that rows are lanes of a loop.
    let (mut left, mut right) = ([[0.0_f32; 16]; 16], [[0.0_f32; 8]; 16]);
    for lane in 0..LANES {
        let (outer, term) = (lane / 4, 2 * (lane % 4));
        for (piece, words) in a.iter().enumerate() {
            let (row, column) = (outer + 8 * (piece % 2), term + 8 * (piece / 2));
            [left[row][column], left[row][column + 1]] = pair(is_bfloat, words[lane]);
        }
        for (piece, words) in b.iter().enumerate() {
            let row = term + 8 * piece;
            [right[row][outer], right[row + 1][outer]] = pair(is_bfloat, words[lane]);
        }
    }
    let mut totals = [[0.0_f32; 8]; 16];
    for lane in 0..LANES {
        for (piece, words) in c.iter().enumerate() {
            totals[lane / 4 + 8 * (piece / 2)][2 * (lane % 4) + piece % 2] =
                f32::from_bits(words[lane]);
        }
    }
    let is_exact = !is_bfloat || products_are_exact(&left, &right);
    match sums {
        Sums::InOrder if is_exact => in_order(&left, &right, &mut totals, |a, b, sum| a * b + sum),
        Sums::InOrder => in_order(&left, &right, &mut totals, f32::mul_add),
        Sums::ByHalves => by_halves(&left, &right, &mut totals),
    }
    let mut results = [[0; LANES]; 4];
    for (piece, words) in results.iter_mut().enumerate() {
        for (lane, word) in words.iter_mut().enumerate() {
            let sum = totals[lane / 4 + 8 * (piece / 2)][2 * (lane % 4) + piece % 2];
            *word = if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits() };
        }
    }
    results
}

/// Tells whether no product of elements is rounded: two of 11 or 8 digits have at most 24, so that this is a
/// matter of the range alone.
fn products_are_exact(left: &[[f32; 16]; 16], right: &[[f32; 8]; 16]) -> bool {
    // The exponents of the largest number, and of the last digit of the smallest.
    let range = |values: &mut dyn Iterator<Item = f32>| {
        let (mut most, mut least) = (-1000, 1000);
        for value in values {
            let exponent = (value.to_bits() >> 23 & 0xff) as i32;
            if exponent == 0xff {
                return (1000, -1000);
            }
            if value != 0.0 {
                most = most.max(exponent.max(1) - 127);
                least = least.min(exponent.max(1) - 127 - 7);
            }
        }
        (most, least)
    };
    let (most_left, least_left) = range(&mut left.iter().flatten().copied());
    let (most_right, least_right) = range(&mut right.iter().flatten().copied());
    most_left + most_right + 2 <= 128 && least_left + least_right >= -149
}

fn in_order(
    left: &[[f32; 16]; 16],
    right: &[[f32; 8]; 16],
    totals: &mut [[f32; 8]; 16],
    add: impl Fn(f32, f32, f32) -> f32,
) {
    for (left, totals) in left.iter().zip(totals) {
        for (&a, right) in left.iter().zip(right) {
            for (sum, &b) in totals.iter_mut().zip(right) {
                *sum = add(a, b, *sum);
            }
        }
    }
}

fn by_halves(left: &[[f32; 16]; 16], right: &[[f32; 8]; 16], totals: &mut [[f32; 8]; 16]) {
    for (left, totals) in left.iter().zip(totals) {
        for (column, sum) in totals.iter_mut().enumerate() {
            for first in [0, 8] {
                // Exact: of at most 24 digits, in the range of f64.
                let product = |k: usize| f64::from(left[k]) * f64::from(right[k][column]);
                *sum = cut_off(*sum, &std::array::from_fn(|nth| product(first + nth)));
            }
        }
    }
}

/// Adds numbers at once, each cut off to a multiple of the largest one's last digit of 24.
fn cut_off(sum: f32, products: &[f64; 8]) -> f32 {
    let all = || products.iter().copied().chain([f64::from(sum)]);
    if all().any(|of| !of.is_finite()) {
        return all().sum::<f64>() as f32;
    }
    let largest = all().map(f64::abs).fold(0.0, f64::max);
    if largest == 0.0 {
        return all().sum::<f64>() as f32;
    }
    let exponent = ((largest.to_bits() >> 52) as i32 - 1023).max(-126) - 23;
    let digit = f64::from_bits(((exponent + 1023) as u64) << 52);
    // A power of two has an exact inverse.
    let digits = digit.recip();
    let total: i64 = all().map(|of| (of * digits) as i64).sum();
    // Toward zero, too: at most 28 digits, of which f64 has all.
    let total = total as f64 * digit;
    let nearest = total as f32;
    match f64::from(nearest).abs() > total.abs() {
        true if total > 0.0 => nearest.next_down(),
        true => nearest.next_up(),
        false => nearest,
    }
}

/// Hands out the elements of matrices of 8 rows of 8, which are rows of 16 bytes.
///
/// A lane has two elements beside each other of each matrix; transposed, two below each other.
pub(crate) fn elements(transposes: bool, rows: &[[u8; 16]; 8]) -> Lanes<u32> {
    let element = |row: usize, column: usize| {
        u32::from(rows[row][2 * column]) | u32::from(rows[row][2 * column + 1]) << 8
    };
    let mut words = [0; LANES];
    for (lane, word) in words.iter_mut().enumerate() {
        let (outer, inner) = (lane / 4, 2 * (lane % 4));
        *word = if transposes {
            element(inner, outer) | element(inner + 1, outer) << 16
        } else {
            element(outer, inner) | element(outer, inner + 1) << 16
        };
    }
    words
}
