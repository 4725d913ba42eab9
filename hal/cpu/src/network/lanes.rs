//! Sums and maxima along a row, in a fixed number of lanes whatever the vectors are.

use core::array;

/// Lanes: four vectors of 16 f32, so that four additions are under way at once, or eight of vectors of 8.
const LANES: usize = 64;

/// Returns the sum of some values.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    sum_of([values], |[x]| x)
}

/// Returns the sum of what `term` makes of elements at the same place, from +0 on; the slices are of
/// one length.
///
/// Lane `i` adds places `i`, `i + 64`, ...; then the upper half of the lanes is added to the lower
/// until one is left.
#[inline(always)]
pub(super) fn sum_of<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    let length = slices.iter().map(|slice| slice.len()).min().unwrap_or_default();
    let mut sums = [0.0; LANES];
    let whole = length / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        let block: [&[f32]; N] = array::from_fn(|s| &slices[s][first..first + LANES]);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += term(array::from_fn(|s| block[s][i]));
        }
    }
    for i in whole..length {
        sums[i - whole] += term(array::from_fn(|s| slices[s][i]));
    }
    let mut half = LANES.min(length.next_power_of_two()) / 2;
    while half > 0 {
        let (lower, upper) = sums.split_at_mut(half);
        lower.iter_mut().zip(upper).for_each(|(lower, upper)| *lower += *upper);
        half /= 2;
    }
    sums[0]
}

/// Returns the greatest value, negative infinity of none; a NaN is left out.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let greater = |max: f32, x: f32| if x > max { x } else { max };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(max, &x)| *max = greater(*max, x));
    }
    let max = if blocks.is_empty() {
        f32::NEG_INFINITY
    } else {
        lanes.into_iter().fold(lanes[0], greater)
    };
    rest.iter().copied().fold(max, greater)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_element_is_added_once() {
        for length in 0..300_usize {
            let values: Vec<_> = (0..length).map(|i| i as f32).collect();
            assert_eq!(sum(&values), (length * length.saturating_sub(1) / 2) as f32, "{length}");
            let expected = values.last().copied().unwrap_or(f32::NEG_INFINITY);
            assert_eq!(max(&values), expected);
        }
        assert_eq!(sum(&[-0.0]).to_bits(), 0);
        assert!(sum(&[1.0, f32::NAN, 2.0]).is_nan());
    }
}
