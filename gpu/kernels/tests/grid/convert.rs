//! Conversions by themselves are core's.

use adaloss_core::format::{
    E4M3, E5M2, Element, Format, Narrowing, Noise, Rounding, Subnormals, bf16, f16,
};
use adaloss_kernels::{
    format::{narrow, widen},
    grid::Grid,
    memory::Out,
};

/// Every number of a small format, and back, in every rounding.
fn round_trips<F: Element + PartialEq>() {
    let patterns = 1_u32 << F::ENCODING.bits().min(16);
    let values: Vec<F> = (0..patterns).map(F::from_bits).collect();
    for subnormals in [Subnormals::Gradual, Subnormals::Flush] {
        let format = Format::new(F::ENCODING, subnormals);
        let mut wide = vec![0.0_f32; values.len()];
        let to = Out::of(&mut wide);
        // SAFETY: nothing else names the results.
        Grid::new(3, 96).with_seed(3).launch(|block| unsafe { widen(block, format, &values, to) });
        for (x, wide) in values.iter().zip(&wide) {
            assert_eq!(format.widen(x.to_bits()).to_bits(), wide.to_bits());
        }
        for rounding in [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic] {
            let narrowing = Narrowing::to(format).with_rounding(rounding);
            let noise = Noise { seed: 4, stream: 9 };
            // Between the numbers of the format, and beyond them.
            let between: Vec<_> = wide.iter().map(|x| x * 1.000_3).collect();
            let mut narrowed = vec![F::from_bits(0); between.len()];
            let to = Out::of(&mut narrowed);
            Grid::new(2, 256).with_seed(1).launch(|block| {
                // SAFETY: as above.
                unsafe { narrow(block, narrowing, noise, &between, to) };
            });
            for (index, (&x, found)) in between.iter().zip(&narrowed).enumerate() {
                let word =
                    if rounding == Rounding::Stochastic { noise.word(index as u32) } else { 0 };
                let expected = F::narrow(x, narrowing, 0, word);
                assert_eq!(found.to_bits(), expected.to_bits(), "{x:e} to {narrowing:?}");
            }
        }
    }
}

#[test]
fn conversions_are_those_of_core() {
    round_trips::<f16>();
    round_trips::<bf16>();
    round_trips::<E5M2>();
    round_trips::<E4M3>();
}
