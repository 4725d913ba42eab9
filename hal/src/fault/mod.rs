//! A device that breaks on purpose.
//!
//! [`Fault`] wraps a device and asks a plan before every operation whether something shall go wrong
//! with it: a bit that flips in memory, a NaN or an infinity from nowhere, an operation that never
//! happened, a device that reports a failure.  It shows what a training loop makes of that: of what is
//! not finite, of results that were not counted, of failures.  A wrong value that is finite is beyond
//! every check but a second computation.
//!
//! # Examples
//!
//! ```
//! use adaloss_core::{format::f16, policy::Cell, scale::Scale, unscale::Unscaled};
//! use adaloss_hal::{OperationKind, Run, Unscale, fault::{Fault, Injection}, portable::Portable};
//! // The second of two elements is infinite when it leaves `unscale`.
//! let mut device = Fault::new(Portable, |operation, elements| match operation {
//!     OperationKind::Unscale => Some(Injection::Infinity { index: elements - 1 }),
//!     _ => None,
//! });
//! let (mut unscaled, mut counts) = ([0.0; 2], [Unscaled::default()]);
//! let cell = [Cell::at(Scale::ONE)];
//! device.run(Unscale {
//!     gradient: &[f16::ONE, f16::ONE][..],
//!     cell: &cell[..],
//!     to: &mut unscaled[..],
//!     counts: &mut counts[..],
//! })?;
//! assert_eq!(unscaled, [1.0, f32::INFINITY]);
//! # Ok::<(), adaloss_hal::fault::FaultError<adaloss_hal::HostError>>(())
//! ```

#![forbid(unsafe_code)]

mod injection;

use adaloss_core::format::Encoding;

pub use injection::{FaultError, Injection};

use crate::{
    device::Device,
    kind::OperationKind,
    wrap::{Call, Hook, Results, Wrapped},
};

/// A device into whose operations a plan injects faults.
///
/// The plan is called before each operation, with the number of elements of its result that a fault
/// can change, and returns the fault to inject, if any; see [`Injection`].
pub type Fault<D, P> = Wrapped<D, Faults<P>>;

/// The hook that injects the faults of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Faults<P> {
    plan: P,
    injected: u64,
}

impl<D, P: FnMut(OperationKind, usize) -> Option<Injection>> Fault<D, P> {
    /// Wraps a device.
    pub const fn new(device: D, plan: P) -> Self {
        Self { device, hook: Faults { plan, injected: 0 } }
    }

    /// Returns how many faults were injected.
    pub const fn injected(&self) -> u64 {
        self.hook.injected
    }
}

/// What is done with an operation after the plan was called.
enum Course {
    Run,
    Drop,
    /// Run, and flip a bit of an element.
    Flip {
        index: usize,
        bit: u32,
    },
    /// Run, and replace an element.
    Replace {
        index: usize,
        bits: u32,
    },
}

impl<P: FnMut(OperationKind, usize) -> Option<Injection>> Faults<P> {
    /// Asks the plan about an operation.
    fn course<D: Device, R: Results<D>>(
        &mut self,
        operation: OperationKind,
        results: &mut R,
    ) -> Result<Course, FaultError<D::Error>> {
        let Some(injection) = (self.plan)(operation, results.elements()) else {
            return Ok(Course::Run);
        };
        let mut replace = |index, bits: fn(Encoding) -> u32| {
            let encoding = results.encoding(index)?;
            Some(Course::Replace { index, bits: bits(encoding) })
        };
        let course = match injection {
            Injection::Fail(kind) => {
                self.injected += 1;
                return Err(FaultError::Injected { operation, kind });
            }
            // A buffer has to come from somewhere.
            Injection::Drop => (operation != OperationKind::Zeroed).then_some(Course::Drop),
            Injection::Flip { index, bit } => {
                let encoding = results.encoding(index).filter(|encoding| bit < encoding.bits());
                encoding.map(|_| Course::Flip { index, bit })
            }
            Injection::Nan { index } => replace(index, Encoding::nan_bits),
            Injection::Infinity { index } => replace(index, Encoding::overflow_bits),
        };
        self.injected += u64::from(course.is_some());
        course.ok_or(FaultError::Impossible { operation, injection })
    }
}

impl<D, P> Hook<D> for Faults<P>
where
    D: Device,
    P: FnMut(OperationKind, usize) -> Option<Injection>,
{
    type Error = FaultError<D::Error>;

    fn around<R: Results<D>>(
        &mut self,
        device: &mut D,
        call: Call,
        mut results: R,
        make: impl FnOnce(&mut D, &mut R) -> Result<(), D::Error>,
    ) -> Result<(), FaultError<D::Error>> {
        let course = self.course::<D, R>(call.operation, &mut results)?;
        if !matches!(course, Course::Drop) {
            make(device, &mut results)?;
        }
        match course {
            Course::Run | Course::Drop => {}
            Course::Flip { index, bit } => {
                let bits = results.bits(device, index)? ^ 1 << bit;
                results.set_bits(device, index, bits)?;
            }
            Course::Replace { index, bits } => results.set_bits(device, index, bits)?,
        }
        Ok(())
    }

    fn allocate<B>(
        &mut self,
        device: &mut D,
        call: Call,
        make: impl FnOnce(&mut D) -> Result<B, D::Error>,
    ) -> Result<B, FaultError<D::Error>> {
        self.course::<D, ()>(call.operation, &mut ())?;
        Ok(make(device)?)
    }
}
