//! A device that leaves out what a scaler in its memory relies on, in host memory of its own.

use std::{any::Any, collections::VecDeque};

use adaloss_conformance as conformance;
use adaloss_conformance::{Failure, Report};
use adaloss_core::format::{Element, f16};
use adaloss_hal::{
    AddressSpace, Capabilities, Device, Epilogue, Fitting, HostError, HostSpace, Memory, Operation,
    OperationKind, Plain, Run, Visitor, portable::Portable,
};

/// What is wrong with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// Nothing.
    None,
    /// Every operation is made, whatever its predicate says.
    IgnoresPredicates,
    /// Operations of a kind are made, whatever their predicate says.
    IgnoresPredicatesOf(OperationKind),
    /// No operation is made that has a predicate.
    IsAlwaysOff,
    /// Operations of a kind are accepted, and not made.
    LeavesOut(OperationKind),
    /// What an operation of a scaler took is left as it was.
    ClearsNothing,
}

/// The portable device with a mistake.
///
/// It is no device in host memory to the crate, so that operations of a scaler are its own.
struct Unruly(Mistake);

impl Device for Unruly {
    type Error = HostError;
    type Space = HostSpace;

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn read<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), HostError> {
        Portable.read(from, to)
    }

    fn write<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), HostError> {
        Portable.write(from, to)
    }
}

impl Memory for Unruly {
    type Buffer<T: Plain> = Vec<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Vec<T>, HostError> {
        Portable.zeroed(length)
    }

    fn view<T: Plain>(buffer: &Vec<T>) -> &[T] {
        buffer
    }

    fn view_mut<T: Plain>(buffer: &mut Vec<T>) -> &mut [T] {
        buffer
    }
}

impl<O: Operation<Space = HostSpace>> Run<O> for Unruly
where
    Portable: Run<O>,
{
    fn execute(&mut self, operation: Fitting<'_, O>) -> Result<(), HostError> {
        Portable.execute(operation)
    }

    fn submit(&mut self, operation: &mut O) -> Result<(), HostError> {
        let fits = Fitting::of(operation, self).map(drop);
        fits.map_err(HostError::Misfit)?;
        let mut left = Left(VecDeque::new());
        match self.0 {
            Mistake::LeavesOut(kind) if kind == O::KIND => return Ok(()),
            Mistake::IgnoresPredicates => operation.operands(&mut Unconditional),
            Mistake::IsAlwaysOff => {
                let mut found = HasPredicate(false);
                operation.operands(&mut found);
                if found.0 {
                    return Ok(());
                }
            }
            Mistake::ClearsNothing => operation.operands(&mut left),
            Mistake::IgnoresPredicatesOf(kind) if kind == O::KIND => {
                operation.operands(&mut Unconditional);
            }
            Mistake::None | Mistake::LeavesOut(_) | Mistake::IgnoresPredicatesOf(_) => {}
        }
        Portable.submit(operation)?;
        operation.operands(&mut Restored(left));
        Ok(())
    }
}

/// Takes predicates away.
struct Unconditional;

impl Visitor<HostSpace> for Unconditional {
    fn predicate(&mut self, _: &'static str, when: &mut Option<&[u32]>) {
        *when = None;
    }

    fn epilogue<F: Element>(&mut self, epilogue: &mut Epilogue<'_, HostSpace>) {
        epilogue.when = None;
    }
}

/// Finds out whether an operation has a predicate.
struct HasPredicate(bool);

impl Visitor<HostSpace> for HasPredicate {
    fn predicate(&mut self, _: &'static str, when: &mut Option<&[u32]>) {
        self.0 = when.is_some();
    }

    fn epilogue<F: Element>(&mut self, epilogue: &mut Epilogue<'_, HostSpace>) {
        self.0 = epilogue.when.is_some();
    }
}

/// What an operation is to clear, before it does, in order.
struct Left(VecDeque<Box<dyn Any>>);

/// Tells whether an operand is counts that an operation takes and clears.
fn is_cleared(name: &str) -> bool {
    ["the outcome", "the outcome of the visit", "the counts"].contains(&name)
}

impl Visitor<HostSpace> for Left {
    fn written<T: Plain>(&mut self, name: &'static str, _: Option<usize>, of: &mut &mut [T]) {
        if is_cleared(name) {
            self.0.push_back(Box::new(of[0]));
        }
    }
}

/// Puts back what was cleared.
struct Restored(Left);

impl Visitor<HostSpace> for Restored {
    fn written<T: Plain>(&mut self, name: &'static str, _: Option<usize>, of: &mut &mut [T]) {
        if is_cleared(name)
            && let Some(before) = self.0.0.pop_front().and_then(|left| left.downcast::<T>().ok())
        {
            of[0] = *before;
        }
    }
}

fn scaler(device: &mut Unruly) -> Result<Report, Failure> {
    conformance::scaler::<f16, _>(device)
}

#[test]
fn a_device_without_a_mistake_keeps_a_scaler() -> Result<(), Failure> {
    let mut device = Unruly(Mistake::None);
    scaler(&mut device)?;
    conformance::described::<f16, _>(&mut device)?;
    conformance::network::<f16, f16, _>(&mut device)?;
    // The memory of such a device is the host's.
    assert_eq!(HostSpace::len(Unruly::view(&vec![0_u8; 3])), 3);
    Ok(())
}

/// Returns what the suite says to a device with a mistake.
fn verdict(mistake: Mistake, check: fn(&mut Unruly) -> Result<Report, Failure>) -> String {
    match check(&mut Unruly(mistake)) {
        Ok(report) => panic!("{mistake:?} passed: {report}"),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn an_operation_of_a_scaler_that_is_left_out_is_found() {
    use OperationKind as O;
    for (kind, says) in [
        (O::Advance, "measured: a line that the device left out differs"),
        (O::Close, "measured: a line that the device left out differs"),
        (O::Judge, "two scalers that share the weights"),
        (O::Conclude, "two scalers that share the weights"),
    ] {
        let said = verdict(Mistake::LeavesOut(kind), scaler);
        assert!(said.contains(says), "{kind}: {said}");
    }
    let said = verdict(Mistake::LeavesOut(O::Describe), conformance::described::<f16, _>);
    assert!(said.contains("normal: a line that has to say what a visit did differs"), "{said}");
}

#[test]
fn counts_that_are_not_cleared_are_found() {
    let said = verdict(Mistake::ClearsNothing, scaler);
    assert!(said.starts_with("a visit,") && said.contains("the outcome's elements"), "{said}");
}

#[test]
fn a_predicate_that_is_ignored_is_found() {
    let said = verdict(Mistake::IgnoresPredicates, scaler);
    assert!(said.contains("of the buffer should have kept"), "{said}");
    for (check, says) in CHECKS {
        let said = verdict(Mistake::IgnoresPredicates, check);
        assert!(said.starts_with(says) && said.contains("with a predicate of 0"), "{said}");
    }
}

#[test]
fn an_operation_that_takes_every_predicate_for_0_is_found() {
    for (check, _) in CHECKS {
        let said = verdict(Mistake::IsAlwaysOff, check);
        assert!(!said.contains("with a predicate of 0"), "{said}");
    }
    let said = verdict(Mistake::IsAlwaysOff, scaler);
    assert!(said.starts_with("a visit,"), "{said}");
}

type Check = fn(&mut Unruly) -> Result<Report, Failure>;

/// Every check of operations that have predicates, and the first of them.
const CHECKS: [(Check, &str); 9] = [
    (conformance::narrow::<f16, _>, "statistics,"),
    (conformance::matmul::<f16, f16, f16, _>, "matmul refused,"),
    (conformance::convolve::<f16, f16, f16, _>, "convolve refused,"),
    (conformance::normalise::<f16, f16, _>, "normalise refused,"),
    (conformance::pool::<f16, _>, "average_pool refused,"),
    (conformance::dropout::<f16, _>, "dropout refused,"),
    (conformance::accumulate, "blend,"),
    (conformance::attend::<f16, f16, _>, "attend refused,"),
    (conformance::update, "adamw,"),
];

/// Every kind of operation of the corridor that has a predicate, one at a time.
#[test]
fn a_predicate_that_one_operation_ignores_is_found() {
    use OperationKind as O;
    for (kind, check) in [
        (O::Apply, CHECKS[0].0),
        (O::Propagate, CHECKS[0].0),
        (O::ConvolveInput, CHECKS[2].0),
        (O::NormaliseInput, CHECKS[3].0),
        (O::AttendInput, CHECKS[7].0),
        (O::Sgd, CHECKS[8].0),
    ] {
        let said = verdict(Mistake::IgnoresPredicatesOf(kind), check);
        assert!(said.contains("with a predicate of 0"), "{kind}: {said}");
    }
}
