//! A device that is wrapped stays the device it was.

#![forbid(unsafe_code)]

use adaloss_core::{
    format::{Format, Narrowing, Noise, bf16, f16},
    policy::{Cell, Certificate, Config},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{
    Decide, Device, Epilogue, Error, ErrorKind, Matmul, Memory, Operation, Plain, Product,
    conformance::{self, Failure},
    fault::{Fault, FaultError, Injection},
    portable::{Portable, PortableError},
    record::{Event, Left, Record},
};

#[test]
fn a_device_without_faults_conforms() -> Result<(), Failure> {
    let mut device = Fault::new(Portable, |_, _| None);
    conformance::memory(&mut device)?;
    conformance::narrow::<bf16, _>(&mut device)?;
    conformance::decide(&mut device)?;
    conformance::matmul::<bf16, f16, bf16, _>(&mut device)?;
    assert_eq!(device.injected(), 0);
    Ok(())
}

#[test]
fn a_logged_device_conforms_and_is_told_what_the_suite_saw() -> Result<(), Failure> {
    let (mut narrowed, mut decided) = (0, 0);
    let mut device = Record::logging(Portable, |event: &Event<'_>| match event.left {
        Left::Counts { outcome, .. } => narrowed += u64::from(outcome.elements >= 1000),
        Left::Certificate(_) | Left::Cell(_) => decided += 1,
        _ => {}
    });
    conformance::memory(&mut device)?;
    let narrow = conformance::narrow::<bf16, _>(&mut device)?;
    let decide = conformance::decide(&mut device)?;
    let matmul = conformance::matmul::<bf16, f16, bf16, _>(&mut device)?;
    let counts = *device.counts();
    let epilogues = [Operation::Apply, Operation::Propagate, Operation::Matmul];
    let ended: u64 = epilogues.into_iter().map(|operation| counts.of(operation)).sum();
    assert!(narrow.operations + matmul.operations <= counts.computations());
    assert!(narrowed > 0 && narrowed < ended); // refusals are told without counts
    assert_eq!(decided, decide.operations);
    Ok(())
}

/// A device that refuses its first operation fails the suite there and then.
#[test]
fn a_failing_device_fails_the_suite() {
    let mut device = Fault::new(Portable, |operation, _| match operation {
        Operation::Propagate => Some(Injection::Fail(ErrorKind::Hardware)),
        _ => None,
    });
    let failure = conformance::narrow::<f16, _>(&mut device).unwrap_err();
    let said = "propagate of 2, 0 elements from 2^0 to 2^0 in Binary16 Gradual NearestEven \
                Infinity: should not fail: device failure";
    assert_eq!(failure.to_string(), said);
}

#[test]
fn an_operation_that_is_dropped_is_found_by_the_suite() {
    for dropped in Operation::ALL {
        let plan = |asked, _| (asked == dropped).then_some(Injection::Drop);
        let mut device = Fault::new(Portable, plan);
        let result = conformance::memory(&mut device)
            .and_then(|_| conformance::narrow::<f16, _>(&mut device))
            .and_then(|_| conformance::decide(&mut device))
            .and_then(|_| conformance::matmul::<f16, f16, f16, _>(&mut device));
        assert!(result.is_err(), "{dropped}");
    }
}

/// The log of a calibration, line by line.
#[test]
fn a_log_reads_like_this() -> Result<(), PortableError> {
    let mut lines = Vec::new();
    let mut device = Record::logging(Portable, |event: &Event<'_>| lines.push(event.to_string()));
    let config = Config::for_format(Format::BINARY16);
    let (a, b) = ([f16::ONE; 6], [f16::from_f32(0.125); 6]);
    let mut to = device.zeroed::<f16>(4)?;
    let from = [Cell::at(Scale::saturating(10))];
    let (mut cell, mut outcome) = ([config.cell()], [Outcome::EMPTY]);
    let mut histogram = [Histogram::new(config.narrowing())];
    let mut certificate = [Certificate::zeroed()];
    let product = Product::new(2, 3, 2).transpose_b();
    for stores in [false, true] {
        let epilogue = Epilogue {
            from: &from[..],
            to: &cell[..],
            narrowing: config.narrowing(),
            noise: Noise::default(),
            stores,
            outcome: &mut outcome[..],
            histogram: (!stores).then_some(&mut histogram[..]),
        };
        device.matmul(product, &a, &b, &mut to, epilogue)?;
        if !stores {
            device.decide(&config, &histogram, &mut cell, &mut certificate)?;
        }
    }
    device.note(&config, &outcome, &from, &mut cell)?;
    let mut short = [f16::ZERO; 3];
    assert_eq!(device.read(&to, &mut short).map_err(|e| e.kind()), Err(ErrorKind::Shape));
    assert_eq!(device.counts().of(Operation::Read), 1);
    assert_eq!(
        lines,
        [
            "zeroed of 4",
            "matmul of 4, (2 x 3) (2 x 3)^T: of 0 narrowed 0 underflow, 0 overflow, 0 non-finite; \
             4 measured",
            "decide of 1: 2^0 -> 2^6 by Window on First, expecting 0 of 4 to underflow and 0 to \
             overflow",
            "matmul of 4, (2 x 3) (2 x 3)^T: of 4 narrowed 0 underflow, 0 overflow, 0 non-finite",
            "note of 1: 2^6, 1 visits old, trigger None",
            "read of 3: shape mismatch",
        ]
    );
    Ok(())
}

#[test]
fn a_trace_tells_shapes_and_reads_nothing() -> Result<(), PortableError> {
    let mut reads = 0;
    let counted = Fault::new(Portable, |operation, _| {
        reads += u64::from(operation == Operation::Read);
        None
    });
    let mut shapes = Vec::new();
    let mut device = Record::tracing(counted, |event: &Event<'_>| {
        shapes.push((event.call.operation, event.call.elements, event.left == Left::Unread));
    });
    let (cell, mut outcome) = ([Cell::new()], [Outcome::EMPTY]);
    let mut to = [f16::ZERO; 2];
    let epilogue = Epilogue {
        from: &cell[..],
        to: &cell[..],
        narrowing: Narrowing::to(Format::BINARY16),
        noise: Noise::default(),
        stores: true,
        outcome: &mut outcome[..],
        histogram: None,
    };
    let done = adaloss_hal::Narrow::apply(&mut device, &[1.0, 2.0], &mut to[..], epilogue);
    assert_eq!(done, Ok::<(), FaultError<PortableError>>(()));
    assert_eq!(shapes, [(Operation::Apply, 2, true)]);
    assert_eq!(reads, 0);
    Ok(())
}
