//! `apply`: every fate, every shift, every length.

use adaloss_core::{format::Element, scale::Scale};

use super::{
    Case, Failure,
    bench::{Bench, Pass},
    tensor::Tensor,
    values::{self, Brink},
};
use adaloss_hal::{HasNarrow, Memory, Narrow, Plain};

/// Lengths around those of warps, blocks, tiles and pages.
pub(super) const LENGTHS: [usize; 21] =
    [0, 1, 2, 3, 5, 7, 31, 32, 33, 63, 64, 65, 127, 129, 255, 256, 257, 1000, 1023, 1025, 4097];

pub(super) fn check<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    check_shifts::<F, D>(bench)?;
    check_lengths::<F, D>(bench)?;
    check_refusals::<F, D>(bench)
}

/// Every shift there is, with values that it brings to every point where something changes.
fn check_shifts<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    let setup = Case::new("apply (setup)", Brink::LEN);
    let mut values = Tensor::filled(setup, bench.device, Brink::LEN, |_| 0.0_f32)?;
    let mut to = Tensor::filled(setup, bench.device, Brink::LEN, |_| F::from_bits(0))?;
    let widest = (Scale::MAX / Scale::MIN).log2();
    // Plain shifts first, so that the first difference is the easiest to understand.
    for shift in (0..=widest).flat_map(|shift| [shift, -shift]).skip(1) {
        let brink = Brink::new(F::ENCODING, shift);
        values.fill(setup, bench.device, |index| brink.value(index))?;
        let narrowings = values::narrowings(F::ENCODING, bench.report.capabilities);
        for (narrowing, pass) in narrowings.zip(Pass::ALL.into_iter().cycle()) {
            let scales = values::scales(shift);
            let case = Case::narrowing("apply", Brink::LEN, narrowing, scales);
            let input = values.view(case)?;
            bench.run(
                case,
                pass,
                &mut to,
                &|device, to, epilogue| device.run(Narrow::<_, F> { input, to, epilogue }),
                &|index| brink.value(index),
            )?;
        }
    }
    Ok(())
}

/// Values of every kind in tensors of every length.
fn check_lengths<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    for (nth, length) in LENGTHS.into_iter().enumerate() {
        let setup = Case::new("apply (setup)", length);
        let value = |index| values::any(nth as u32, index);
        let values = Tensor::filled(setup, bench.device, length, value)?;
        let mut to = Tensor::filled(setup, bench.device, length, |_| F::from_bits(0))?;
        let narrowings = values::narrowings(F::ENCODING, bench.report.capabilities);
        for (narrowing, shift) in narrowings.zip([0, 11, -7, 24].into_iter().cycle()) {
            for pass in Pass::ALL {
                let case = Case::narrowing("apply", length, narrowing, values::scales(shift));
                let input = values.view(case)?;
                bench.run(
                    case,
                    pass,
                    &mut to,
                    &|device, to, epilogue| device.run(Narrow::<_, F> { input, to, epilogue }),
                    &value,
                )?;
            }
        }
    }
    Ok(())
}

/// Operands and epilogues that do not fit.
fn check_refusals<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    let narrowing = values::plain(F::ENCODING, bench.report.capabilities);
    let scales = (Scale::ONE, Scale::ONE);
    let case = Case::narrowing("apply of operands that do not fit", 33, narrowing, scales);
    let values = Tensor::filled(case, bench.device, 33, |_| 1.0_f32)?;
    let input = values.view(case)?;
    let mut to = Tensor::filled(case, bench.device, 33, |_| F::from_bits(0))?;
    bench.refuses_mutated(case, &mut to, &|device, to, epilogue, mutation| {
        device.run(mutation.apply(Narrow::<_, F> { input, to, epilogue }))
    })
}
