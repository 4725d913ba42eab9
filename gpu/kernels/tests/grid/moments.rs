//! Exact moments of tensors that the suite has no room for.

use adaloss_core::{
    format::{Format, Noise},
    statistics::Statistics,
};
use adaloss_kernels::{grid::Grid, statistics::statistics};

/// Values of every binade and sign, NaN and infinities among them.
fn values(count: u32) -> Vec<f32> {
    let noise = Noise { seed: 7, stream: 3 };
    (0..count).map(|index| f32::from_bits(noise.word(index))).collect()
}

#[test]
fn moments_are_exact_in_any_order() {
    let values = values(5000);
    let expected = Statistics::of(&values);
    assert!(expected.nonfinite > 0);
    for (blocks, threads, seed) in [(1, 32, 0), (3, 64, 1), (5, 128, 2), (2, 1024, 3)] {
        let mut found = Statistics::EMPTY;
        let to = &raw mut found;
        Grid::new(blocks, threads).with_seed(seed).launch(|block| {
            // SAFETY: nothing else names the statistics.
            unsafe { statistics(block, Format::BINARY32, &values, to) };
        });
        assert_eq!(found, expected, "{blocks} blocks of {threads} threads");
    }
}

/// Carries run through all words, and borrows back, while other blocks add to them.
#[test]
fn carries_reach_every_word() {
    let mut values = vec![f32::MAX; 300];
    values.extend([-f32::MAX; 299]);
    values.extend([-f32::from_bits(1); 301]);
    let expected = Statistics::of(&values);
    let mut found = Statistics::EMPTY;
    let to = &raw mut found;
    Grid::new(9, 32).with_seed(4).launch(|block| {
        // SAFETY: nothing else names the statistics.
        unsafe { statistics(block, Format::BINARY32, &values, to) };
    });
    assert_eq!(found, expected);
}
