//! The portable device does what the core says.

#![forbid(unsafe_code)]

use adaloss_conformance as conformance;
use adaloss_conformance::Failure;
use adaloss_core::{
    format::{E5M2, Encoding, Format, Narrowing, Noise, bf16, f16},
    policy::Cell,
    statistics::Outcome,
    with_8_bit_element, with_element,
};
use adaloss_hal::{Epilogue, Matmul, Product, Run, portable::Portable};

#[test]
fn narrows_to_every_format() -> Result<(), Failure> {
    let device = &mut Portable;
    conformance::memory(device)?;
    for encoding in Encoding::ALL {
        with_element!(encoding, F => conformance::narrow::<F, _>(device))?;
    }
    Ok(())
}

#[test]
fn keeps_a_scaler_like_the_core() -> Result<(), Failure> {
    for encoding in Encoding::ALL {
        let report = with_element!(encoding, F => conformance::scaler::<F, _>(&mut Portable))?;
        assert!(report.operations > 10_000 && report.refusals > 30, "{report}");
    }
    Ok(())
}

#[test]
fn decides_from_operands_like_the_core() -> Result<(), Failure> {
    conformance::described::<f16, _>(&mut Portable)?;
    conformance::described::<E5M2, _>(&mut Portable)?;
    Ok(())
}

#[test]
fn multiplies_every_pair_of_formats_that_training_uses() -> Result<(), Failure> {
    let device = &mut Portable;
    conformance::matmul::<f16, f16, f16, _>(device)?;
    conformance::matmul::<bf16, bf16, bf16, _>(device)?;
    // Eight-bit gradients, sixteen-bit weights.
    for encoding in Encoding::ALL {
        let of = with_8_bit_element!(encoding, G => conformance::matmul::<G, f16, G, _>(device));
        of.transpose()?;
    }
    // Weight gradients, unscaled.
    conformance::matmul::<f16, f16, f32, _>(device)?;
    conformance::matmul::<E5M2, bf16, f32, _>(device)?;
    conformance::matmul::<f32, f32, f32, _>(device)?;
    Ok(())
}

#[test]
fn computes_layers_in_every_pair_of_formats_that_training_uses() -> Result<(), Failure> {
    let device = &mut Portable;
    conformance::network::<f16, f16, _>(device)?;
    conformance::network::<bf16, bf16, _>(device)?;
    // Eight-bit gradients.
    for encoding in Encoding::ALL {
        let of = with_8_bit_element!(encoding, G => conformance::network::<f16, G, _>(device));
        of.transpose()?;
    }
    let report = conformance::network::<f32, f32, _>(device)?;
    assert!(report.operations > 1000 && report.refusals > 100, "{report}");
    Ok(())
}

/// What the suite's documentation promises to firmware.
#[test]
fn the_suite_needs_little_stack() {
    let suite = || {
        conformance::memory(&mut Portable)?;
        conformance::narrow::<f32, _>(&mut Portable)?;
        conformance::scaler::<f32, _>(&mut Portable)?;
        conformance::described::<f16, _>(&mut Portable)?;
        conformance::matmul::<f16, f16, f16, _>(&mut Portable)?;
        conformance::network::<f16, f16, _>(&mut Portable)
    };
    let thread = std::thread::Builder::new().stack_size(96 * 1024).spawn(suite);
    let report = thread.expect("a thread").join().expect("no overflow");
    assert!(report.is_ok());
}

/// A shape that no tensor has is said to be impossible, and not to have 2^64 - 1 elements.
#[test]
fn an_impossible_shape_is_said_to_be_one() {
    let cell = [Cell::new()];
    let mut outcome = [Outcome::EMPTY];
    let epilogue = Epilogue {
        from: &cell[..],
        to: &cell[..],
        narrowing: Narrowing::to(Format::BINARY16),
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: &mut outcome[..],
        histogram: None,
    };
    let product = Product::new(usize::MAX, 2, 3);
    let (a, b, to) = (&[f16::ONE][..], &[f16::ONE][..], &mut [f16::ONE][..]);
    let error = Portable.run(Matmul { product, a, b, bias: None, to, epilogue });
    let text = error.expect_err("no tensor has so many elements").to_string();
    assert_eq!(
        text,
        "matmul: this shape has no result; check its extents, kernel, stride, padding and groups"
    );
}

/// A product without elements ends, however many rows it has none of.
#[test]
fn an_empty_product_of_any_height_ends() {
    let cell = [Cell::new()];
    let mut outcome = [Outcome::EMPTY];
    let epilogue = Epilogue {
        from: &cell[..],
        to: &cell[..],
        narrowing: Narrowing::to(Format::BINARY16),
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: &mut outcome[..],
        histogram: None,
    };
    let (a, b, to): (&[f16], &[f16], &mut [f16]) = (&[], &[], &mut []);
    let product = Product::new(usize::MAX - 1, 0, 0);
    assert_eq!(Portable.run(Matmul { product, a, b, bias: None, to, epilogue }), Ok(()));
}
