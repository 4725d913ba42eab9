//! The conformance suite of the HAL, on launches of every kernel that it has an operation for.

use adaloss_conformance as conformance;
use adaloss_conformance::{self, Failure};
use adaloss_core::{
    format::{E4M3, E5M2, Element, Encoding, Format, Noise, bf16, f16},
    policy::Cell,
    statistics::{Histogram, Outcome, Statistics},
    with_element,
};
use adaloss_hal::{
    Branch, Epilogue, HasMatmul, HostError, Matmul, Narrow, Plain, Product, Propagate, Run,
    Summarise, portable::Portable, scaler::EngineError,
};

use crate::{
    device::Simulated,
    steps::{Model, agree, configurations},
};

#[test]
fn kernels_narrow_to_every_format() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::memory(device)?;
    for encoding in Encoding::ALL {
        let report = with_element!(encoding, F => conformance::narrow::<F, _>(device))?;
        assert!(report.operations > 500, "{report}");
    }
    Ok(())
}

/// Takes so many steps of a seed, beside those of the portable device.
fn steps<F: Element + Plain>(steps: u32, seed: u32) -> Result<u64, String>
where
    Simulated: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
    Portable: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
{
    let (device, mut visits) = (&mut Simulated::default(), 0);
    let failed = |error: EngineError<HostError>| error.to_string();
    let all = configurations(F::ENCODING.into()).map_err(|error| error.to_string())?;
    for (config, seed) in all.into_iter().zip(seed..) {
        let found = Model::with_products(device, config, seed).map_err(failed)?;
        let expected = Model::with_products(&mut Portable, config, seed).map_err(failed)?;
        visits += agree::<F, _>(device, found, expected, steps)?;
    }
    Ok(visits)
}

#[test]
fn kernels_decide_like_the_core() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::scaler::<f16, _>(device)?;
    conformance::scaler::<E4M3, _>(device)?;
    Ok(())
}

#[test]
fn kernels_take_steps_like_the_portable_device() -> Result<(), String> {
    let visits = steps::<f16>(24, 1)? + steps::<bf16>(24, 11)?;
    assert!(visits > 2000, "{visits}");
    Ok(())
}

/// A hundred thousand visits.
#[test]
#[ignore = "takes some minutes: cargo test --release -p adaloss-kernels -- --ignored"]
fn many_steps_are_those_of_the_portable_device() -> Result<(), String> {
    println!("{}", steps::<f16>(1200, 21)? + steps::<bf16>(1200, 31)?);
    Ok(())
}

/// What a kernel does whose predicate says no: nothing.
#[test]
fn a_kernel_that_is_off_does_nothing() -> Result<(), HostError> {
    let device = &mut Simulated::default();
    let (off, on) = ([0], [1]);
    let cells = [Cell::new(); 2];
    for (when, is_off) in [(Some(&off[..]), true), (Some(&on[..]), false), (None, false)] {
        let (mut outcome, mut narrowed) = ([Outcome::EMPTY], [f16::NAN; 50]);
        let mut histogram = [Histogram::new(Format::BINARY16.into())];
        let mut statistics = [Statistics::EMPTY];
        for operation in 0..4 {
            let mut epilogue = Epilogue {
                from: &cells[..1],
                to: &cells[1..],
                narrowing: Format::BINARY16.into(),
                noise: Noise::default(),
                stores: true,
                when,
                outcome: &mut outcome[..],
                histogram: Some(&mut histogram[..]),
            };
            let (epilogue, to) = (epilogue.reborrow(), &mut narrowed[..]);
            let (ones, to_statistics) = ([f16::ONE; 50], &mut statistics[..]);
            match operation {
                0 => device.run(Narrow { input: &[1.0; 50][..], to, epilogue })?,
                1 => {
                    let branch = Branch { gradient: &ones[..], cell: &cells[..1] };
                    device.run(Propagate { branches: &[branch; 2], to, epilogue })?;
                }
                2 => {
                    let (product, a, b) = (Product::new(5, 5, 10), &ones[..25], &ones[..]);
                    device.run(Matmul { product, a, b, bias: None, to, epilogue })?;
                }
                _ => device.run(Summarise { input: &ones[..], to: to_statistics, when })?,
            }
        }
        assert_eq!(outcome[0].elements, if is_off { 0 } else { 150 });
        assert_eq!(histogram[0].elements(), outcome[0].elements);
        assert_eq!(statistics[0] == Statistics::EMPTY, is_off);
        assert!(narrowed.iter().all(|x| x.widen().is_nan() == is_off));
    }
    Ok(())
}

#[test]
fn products_are_sums_in_order() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::matmul::<f16, f16, f16, _>(device)?;
    conformance::matmul::<f16, f16, f32, _>(device)?;
    conformance::matmul::<bf16, bf16, bf16, _>(device)?;
    let report = conformance::matmul::<bf16, bf16, f32, _>(device)?;
    assert!(report.capabilities.sequential_sums && report.operations > 300, "{report}");
    Ok(())
}

/// Operands that tensor cores do not take: f32, 8 bits, and two encodings at once.
#[test]
fn other_products_are_sums_in_order_too() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::matmul::<f32, f32, f32, _>(device)?;
    conformance::matmul::<f32, f16, f32, _>(device)?;
    conformance::matmul::<E4M3, f16, E4M3, _>(device)?;
    conformance::matmul::<E5M2, bf16, f32, _>(device)?;
    conformance::matmul::<E5M2, E4M3, f16, _>(device)?;
    Ok(())
}
