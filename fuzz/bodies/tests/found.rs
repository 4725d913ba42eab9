//! The targets find what they are for: devices with one mistake each.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
};

use adaloss_core::format::{E4M3, f16};
use adaloss_fuzz::{apply, backward, generated, policy, propagate, reproduce, statistics, unscale};
use adaloss_hal::{
    OperationKind,
    fault::{Fault, Injection},
    portable::Portable,
};

/// Inputs within which a mistake has to be found.
const INPUTS: u64 = 300;

/// A device that is wrong in one operation, and a target that it is handed to.
fn finds(
    operation: OperationKind,
    injection: Injection,
    target: impl Fn(&mut Wrong, &[u8]),
) -> bool {
    let once = |bytes: &[u8]| target(&mut wrong(operation, injection), bytes);
    catch_unwind(AssertUnwindSafe(|| generated(once, INPUTS))).is_err()
}

type Wrong = Fault<Portable, Box<dyn FnMut(OperationKind, usize) -> Option<Injection>>>;

fn wrong(wrong: OperationKind, injection: Injection) -> Wrong {
    let plan = move |operation, elements: usize| {
        let is_possible = matches!(injection, Injection::Drop) || elements > 0;
        (operation == wrong && is_possible).then_some(injection)
    };
    Fault::new(Portable, Box::new(plan))
}

/// A result that is never written, and one whose last bit is wrong.
#[test]
fn mistakes_are_found() {
    let flip = Injection::Flip { index: 0, bit: 0 };
    let nan = Injection::Nan { index: 0 };
    for injection in [Injection::Drop, flip, nan] {
        let found = finds(OperationKind::Apply, injection, apply::check_on::<f16, _>);
        assert!(found, "apply, {injection:?}");
        let found = finds(OperationKind::Propagate, injection, propagate::check_on::<E4M3, _>);
        assert!(found, "propagate, {injection:?}");
        let found = finds(OperationKind::Unscale, injection, unscale::check_on::<f16, _>);
        assert!(found, "unscale, {injection:?}");
    }
    let drop = Injection::Drop;
    assert!(finds(OperationKind::Statistics, drop, statistics::check_on::<f16, _>));
    assert!(finds(OperationKind::Advance, drop, policy::check_on));
    assert!(finds(OperationKind::Close, drop, policy::check_on));
    assert!(finds(OperationKind::Conclude, drop, policy::check_on));
}

/// A sum that is far off; the last bit of one is within what f32 may round.
#[test]
fn a_wrong_sum_is_found_from_its_derivatives() {
    let backward = |device: &mut Wrong, bytes: &[u8]| {
        backward::check_on::<f16, _, _>(device, &mut Portable, bytes);
    };
    for injection in [Injection::Drop, Injection::Flip { index: 0, bit: 14 }] {
        assert!(finds(OperationKind::Matmul, injection, backward), "{injection:?}");
    }
}

/// An operation of a scaler that is left out, in the middle of a backward pass.
#[test]
fn a_scaler_that_is_wrong_on_a_device_is_found_from_one_on_the_host() {
    use OperationKind as O;
    for operation in [O::Advance, O::Close, O::Judge, O::Conclude] {
        let found = finds(operation, Injection::Drop, backward::check_scaler_on::<f16, _>);
        assert!(found, "{operation}");
    }
}

/// A right device is not accused.
#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let never = Injection::Drop;
    let target = |device: &mut Wrong, bytes: &[u8]| {
        apply::check_on::<f16, _>(device, bytes);
        policy::check_on(device, bytes);
        propagate::check_on::<f16, _>(device, bytes);
        statistics::check_on::<f16, _>(device, bytes);
        unscale::check_on::<f16, _>(device, bytes);
        backward::check_on::<f16, _, _>(device, &mut Portable, bytes);
        backward::check_scaler_on::<f16, _>(device, bytes);
    };
    assert!(!finds(OperationKind::Zeroed, never, |_, bytes| {
        target(&mut Fault::new(Portable, Box::new(|_, _| None)), bytes);
    }));
}

/// A file is run by the program of a target as by a test; what is no file is not passed over.
#[test]
fn a_finding_is_found_again_in_its_file() {
    let crash = "crashes/unscale/rounded-up-to-the-smallest-normal-number";
    let crash = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crash);
    assert_eq!(reproduce(unscale::check, [&crash]), ExitCode::SUCCESS);
    let finds = |bytes: &[u8]| assert!(bytes.is_empty(), "found");
    assert!(catch_unwind(|| reproduce(finds, [&crash])).is_err());
    assert_eq!(reproduce(finds, [crash.with_extension("missing")]), ExitCode::FAILURE);
    assert_eq!(reproduce(finds, [""; 0]), ExitCode::from(2));
}
