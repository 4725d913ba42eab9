//! Exact moments of tensors that the suite has no room for.

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Noise, bf16, f16},
    statistics::Statistics,
};
use adaloss_kernels::{grid::Grid, statistics::statistics};

/// Adds the statistics of a tensor on a grid.
fn add<F: Element>(grid: Grid, format: Format, values: &[F], to: &mut Statistics) {
    let to = &raw mut *to;
    // SAFETY: nothing else names the statistics.
    grid.launch(|block| unsafe { statistics(block, format, values, to, std::ptr::null()) });
}

fn of<F: Element>(grid: Grid, format: Format, values: &[F]) -> Statistics {
    let mut found = Statistics::EMPTY;
    add(grid, format, values, &mut found);
    found
}

/// Random words.
fn words(seed: u32, count: u32) -> impl Iterator<Item = u32> {
    let noise = Noise { seed, stream: 3 };
    (0..count).map(move |index| noise.word(index))
}

/// Values of every binade and sign, NaN and infinities among them.
#[test]
fn moments_are_exact_in_any_order() {
    let values: Vec<_> = words(7, 5000).map(f32::from_bits).collect();
    let expected = Statistics::of(&values);
    assert!(expected.nonfinite > 0);
    for (blocks, threads, seed) in [(1, 32, 0), (3, 64, 1), (5, 128, 2), (2, 1024, 3)] {
        let found = of(Grid::new(blocks, threads).with_seed(seed), Format::BINARY32, &values);
        assert_eq!(found, expected, "{blocks} blocks of {threads} threads");
    }
}

/// Carries run through all words, and borrows back, while other blocks add to them.
#[test]
fn carries_reach_every_word() {
    let mut values = vec![f32::MAX; 300];
    values.extend([-f32::MAX; 299]);
    values.extend([-f32::from_bits(1); 301]);
    let found = of(Grid::new(9, 32).with_seed(4), Format::BINARY32, &values);
    assert_eq!(found, Statistics::of(&values));
}

/// Returns an element of so many binades below the greatest number, with a random fraction and sign.
fn below_max<F: Element>(binades: u32, word: u32) -> F {
    let fraction_bits = F::ENCODING.precision() - 1;
    let field = (F::ENCODING.max_finite_bits() >> fraction_bits).saturating_sub(binades);
    let magnitude = (field << fraction_bits) + word % (1 << fraction_bits);
    let sign = if word >> 31 == 0 { 0 } else { F::ENCODING.sign_bit() };
    F::from_bits(magnitude.min(F::ENCODING.max_finite_bits()) | sign)
}

/// Tensors of tens of binades, at every height, of which a thread takes more than it may sum at once.
fn long_tensors_are_exact<F: Element>(heights: impl Iterator<Item = u32>) {
    for height in heights {
        let value = |word: u32| below_max::<F>(height + word.leading_zeros() + word % 16, word);
        let values: Vec<F> = words(height, 70_000).map(value).collect();
        let grid = Grid::new(2, 32).with_seed(height);
        let found = of(grid, Format::from(F::ENCODING), &values);
        assert_eq!(found, Statistics::of(&values), "{height} binades below the greatest");
    }
}

#[test]
fn long_tensors_of_f32_are_exact() {
    long_tensors_are_exact::<f32>((0..250).step_by(31));
}

#[test]
fn long_tensors_of_sixteen_bits_are_exact() {
    long_tensors_are_exact::<f16>((0..30).step_by(9));
    long_tensors_are_exact::<bf16>((0..250).step_by(47));
}

#[test]
fn long_tensors_of_eight_bits_are_exact() {
    long_tensors_are_exact::<E5M2>([0, 11].into_iter());
    long_tensors_are_exact::<E4M3>([0, 7].into_iter());
}

/// As many of the greatest numbers as one thread may add, and of the least beside them, after chunks that
/// make the thread expect numbers so many binades below.
fn sums_are_exact_at_their_bounds<F: Element>(above: u32) {
    for height in (0..200).step_by(13) {
        let expected_height = below_max::<F>(height + above, u32::MAX);
        for least in [above, above + 17, above + 29, above + 30] {
            let values: Vec<F> = (0..32 * 8 * 128)
                .map(|index| match index {
                    0..256 => expected_height,
                    _ if index % 2048 == 7 => below_max(height + least, 1 | 1 << 31),
                    _ => below_max(height, u32::MAX >> 1),
                })
                .collect();
            let found = of(Grid::new(1, 32), Format::from(F::ENCODING), &values);
            assert_eq!(found, Statistics::of(&values), "{height} below the greatest, {least}");
        }
    }
}

#[test]
fn sums_of_f32_are_exact_at_their_bounds() {
    sums_are_exact_at_their_bounds::<f32>(8);
    sums_are_exact_at_their_bounds::<f32>(9);
}

#[test]
fn sums_of_sixteen_bits_are_exact_at_their_bounds() {
    sums_are_exact_at_their_bounds::<bf16>(8);
    sums_are_exact_at_their_bounds::<f16>(0);
}

#[test]
fn sums_of_eight_bits_are_exact_at_their_bounds() {
    sums_are_exact_at_their_bounds::<E5M2>(0);
    sums_are_exact_at_their_bounds::<E4M3>(0);
}

/// Tensors that begin and end anywhere, of all bit patterns, with subnormals and without.
fn ragged_tensors_are_exact<F: Element>() {
    let values: Vec<F> = words(5, 4000).map(F::from_bits).collect();
    for first in 0..9 {
        for length in (0..40).chain([200, 1000, 3990]) {
            let values = &values[first..first + length];
            let grid = Grid::new(1 + first as u32 % 3, 32).with_seed(length as u32);
            let found = of(grid, Format::from(F::ENCODING), values);
            assert_eq!(found, Statistics::of(values), "{length} elements from {first} on");

            let flushing = Format::from(F::ENCODING).flushing();
            let mut expected = Statistics::EMPTY;
            values.iter().for_each(|x| expected.observe(flushing.widen(x.to_bits())));
            assert_eq!(of(grid, flushing, values), expected, "{length} from {first} on, flushing");
        }
    }
}

#[test]
fn ragged_tensors_of_any_format_are_exact() {
    ragged_tensors_are_exact::<f32>();
    ragged_tensors_are_exact::<f16>();
    ragged_tensors_are_exact::<bf16>();
    ragged_tensors_are_exact::<E5M2>();
    ragged_tensors_are_exact::<E4M3>();
}
