//! The CPU device does what the core says, and the same with any number of threads.

#![forbid(unsafe_code)]

mod convolve;
mod operands;
mod threads;

use adaloss_conformance as conformance;
use adaloss_conformance::Failure;
use adaloss_core::{
    format::{E4M3, E5M2, Encoding, Format, Narrowing, Noise, bf16, f16},
    policy::Cell,
    scale::Scale,
    statistics::Outcome,
    with_8_bit_element, with_element,
};
use adaloss_cpu::Cpu;
use adaloss_hal::{Epilogue, HostError, Matmul, Product, Run, portable::Portable};

use self::operands::{reals, run};

/// Runs a check with one thread, with two and with more than there may be processors.
fn with_threads(check: impl Fn(&mut Cpu) -> Result<(), Failure>) -> Result<(), Failure> {
    [1, 2, 5].into_iter().try_for_each(|threads| check(&mut Cpu::new(threads).expect("threads")))
}

#[test]
fn narrows_to_every_format() -> Result<(), Failure> {
    with_threads(|device| {
        conformance::memory(device)?;
        for encoding in Encoding::ALL {
            with_element!(encoding, F => conformance::narrow::<F, _>(device))?;
        }
        Ok(())
    })
}

#[test]
fn keeps_a_scaler_like_the_core() -> Result<(), Failure> {
    with_threads(|device| {
        conformance::scaler::<f16, _>(device)?;
        for encoding in Encoding::ALL {
            let of = with_8_bit_element!(encoding, F => conformance::scaler::<F, _>(device));
            of.transpose()?;
        }
        conformance::described::<bf16, _>(device)?;
        Ok(())
    })
}

#[test]
fn multiplies_every_pair_of_formats_that_training_uses() -> Result<(), Failure> {
    with_threads(|device| {
        conformance::matmul::<f16, f16, f16, _>(device)?;
        conformance::matmul::<bf16, bf16, bf16, _>(device)?;
        // Eight-bit gradients, sixteen-bit weights.
        for encoding in Encoding::ALL {
            let of =
                with_8_bit_element!(encoding, G => conformance::matmul::<G, f16, G, _>(device));
            of.transpose()?;
        }
        // Weight gradients, unscaled.
        conformance::matmul::<f16, f16, f32, _>(device)?;
        conformance::matmul::<E5M2, bf16, f32, _>(device)?;
        conformance::matmul::<f32, f32, f32, _>(device)?;
        Ok(())
    })
}

#[test]
fn convolves_every_pair_of_formats_that_training_uses() -> Result<(), Failure> {
    with_threads(|device| {
        conformance::convolve::<f16, f16, f16, _>(device)?;
        conformance::convolve::<bf16, bf16, bf16, _>(device)?;
        conformance::convolve::<E5M2, f16, E5M2, _>(device)?;
        conformance::convolve::<E4M3, f16, f32, _>(device)?;
        conformance::convolve::<f32, f32, f32, _>(device)?;
        Ok(())
    })
}

#[test]
fn has_every_operation_of_a_network() -> Result<(), Failure> {
    with_threads(|device| {
        conformance::network::<f16, f16, _>(device)?;
        conformance::network::<bf16, bf16, _>(device)?;
        for encoding in Encoding::ALL {
            let of = with_8_bit_element!(encoding, G => conformance::network::<f16, G, _>(device));
            of.transpose()?;
        }
        conformance::network::<f32, f32, _>(device)?;
        Ok(())
    })
}

/// Products of binary16 are exact, so that a fused sum in the order of the index is the plain one.
#[test]
fn sums_of_binary16_are_those_of_the_portable_device() -> Result<(), HostError> {
    let (rows, inner, columns) = (19, 1300, 35);
    let (a, b) = (reals::<f16>(1, rows * inner), reals::<f16>(2, inner * columns));
    let bias = reals::<f32>(3, columns);
    let (cell, mut outcome) = ([Cell::new()], [Outcome::EMPTY]);
    for transposed in 0..4 {
        let (transpose_a, transpose_b) = (transposed & 1 == 1, transposed & 2 == 2);
        let product = Product { rows, inner, columns, transpose_a, transpose_b };
        let mut expected = vec![0.0_f32; rows * columns];
        let epilogue = Epilogue {
            from: &cell[..],
            to: &cell[..],
            narrowing: Narrowing::to(Format::BINARY32),
            noise: Noise::default(),
            stores: true,
            when: None,
            outcome: &mut outcome[..],
            histogram: None,
        };
        let (a, b, to) = (&a[..], &b[..], &mut expected[..]);
        let bias = (transposed > 1).then_some(&bias[..]);
        Portable.run(Matmul { product, a, b, bias, to, epilogue })?;
        let mut cpu = Cpu::new(2).expect("two threads");
        let found = run::<f32>(
            rows * columns,
            Narrowing::to(Format::BINARY32),
            Scale::ONE,
            |to, mut end| cpu.run(Matmul { product, a, b, bias, to, epilogue: end.reborrow() }),
        );
        assert_eq!(found.results, expected, "{product}");
    }
    Ok(())
}

#[test]
fn a_cpu_has_at_least_one_thread() {
    assert!(Cpu::new(0).is_err());
    assert_eq!(Cpu::new(3).expect("three threads").threads(), 3);
}
