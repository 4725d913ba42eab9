//! Many gradients in one launch, and what a step is judged by.

use adaloss_core::{
    format::{Format, Noise, f16},
    policy::Cell,
    propagate::Scaled,
    scale::Scale,
    unscale::{self, Unscaled},
};
use adaloss_kernels::{
    grid::Grid,
    unscale::{Gradient, Into, PART, parts, unscale},
};

/// Gradients at scales of their own: one empty, one of a single element, some beyond a part.
fn gradients() -> Vec<(Vec<f16>, Cell)> {
    let counts = [1, 0, 100, PART, PART + 3, 2 * PART + 77];
    let cells = [0, 5, 12, -3, 24, 40];
    let noise = |stream| Noise { seed: 2, stream };
    let gradient = |stream, count| {
        (0..count as u32).map(|index| f16::from_bits(noise(stream).word(index) as u16)).collect()
    };
    let cells = cells.map(|log2| Cell::at(Scale::saturating(log2)));
    (0..)
        .zip(counts)
        .zip(cells)
        .map(|((stream, count), cell)| (gradient(stream, count), cell))
        .collect()
}

#[test]
fn many_gradients_in_one_launch() {
    let gradients = gradients();
    let mut results: Vec<_> = gradients.iter().map(|(from, _)| vec![0.5_f32; from.len()]).collect();
    let mut met = vec![Unscaled::default(); gradients.len()];
    let mut bad = 0_u64;
    let named: Vec<_> = gradients
        .iter()
        .zip(&mut results)
        .zip(&mut met)
        .map(|(((from, cell), to), met)| Gradient {
            from: from.as_ptr(),
            to: to.as_mut_ptr(),
            count: to.len(),
            cell,
            met,
        })
        .collect();
    let table: Vec<_> = parts(gradients.iter().map(|(from, _)| from.len())).collect();
    assert_eq!(table.len(), 1 + 1 + 1 + 2 + 3);
    let counter = &raw mut bad;
    for into in [Into::Place, Into::Sum] {
        Grid::new(3, 256).with_seed(2).launch(|block| {
            // SAFETY: all that is named lives, and is named once.
            unsafe { unscale(block, Format::BINARY16, &named, &table, into, counter) };
        });
    }
    let mut expected_bad = 0;
    for (((from, cell), results), met) in gradients.iter().zip(&results).zip(&met) {
        let mut expected = vec![0.0; from.len()];
        let scaled = Scaled::new(from.as_slice(), cell.scale());
        let once = unscale::unscale(Format::BINARY16, scaled, &mut expected).expect("lengths");
        let mut twice = once;
        twice.merge(&once);
        assert_eq!(*met, twice);
        expected_bad += twice.nonfinite;
        for (&x, &found) in expected.iter().zip(results) {
            let sum = x + x;
            assert!(sum.to_bits() == found.to_bits() || sum.is_nan() && found.is_nan());
        }
    }
    assert_eq!(bad, expected_bad);
    assert!(bad > 0);
}

/// A sum that leaves f32 makes a step unusable, though each of its terms is finite.
#[test]
fn a_sum_that_overflows_counts() {
    let (from, mut to) = ([f32::MAX, 1.0], [f32::MAX, 2.0]);
    let (cell, mut met, mut bad) = (Cell::new(), Unscaled::default(), 0_u64);
    let gradient =
        Gradient { from: from.as_ptr(), to: to.as_mut_ptr(), count: 2, cell: &cell, met: &mut met };
    let table: Vec<_> = parts([2].into_iter()).collect();
    let counter = &raw mut bad;
    Grid::new(2, 32).launch(|block| {
        // SAFETY: as above.
        unsafe { unscale(block, Format::BINARY32, &[gradient], &table, Into::Sum, counter) };
    });
    assert_eq!((to[1], met.nonfinite, bad), (3.0, 1, 1));
}
