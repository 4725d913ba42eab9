//! A device that breaks on purpose.
//!
//! [`Fault`] wraps a device and asks a plan before every operation whether something shall go wrong
//! with it: a bit that flips in memory, a NaN or an infinity from nowhere, an operation that never
//! happened, a device that reports a failure.  It shows what a training loop makes of that.
//!
//! # Examples
//!
//! ```
//! use adaloss_core::{format::f16, policy::Cell, scale::Scale, unscale::Unscaled};
//! use adaloss_hal::{Narrow, Operation, fault::{Fault, Injection}, portable::Portable};
//! // The second of two elements is infinite when it leaves `unscale`.
//! let mut device = Fault::new(Portable, |operation, elements| match operation {
//!     Operation::Unscale => Some(Injection::Infinity { index: elements - 1 }),
//!     _ => None,
//! });
//! let (mut unscaled, mut met) = ([0.0; 2], [Unscaled::default()]);
//! let cell = [Cell::at(Scale::ONE)];
//! device.unscale(&[f16::ONE, f16::ONE], &cell, &mut unscaled[..], &mut met[..])?;
//! assert_eq!(unscaled, [1.0, f32::INFINITY]);
//! # Ok::<(), adaloss_hal::fault::FaultError<adaloss_hal::portable::PortableError>>(())
//! ```

#![forbid(unsafe_code)]

mod injection;

use core::ops::Range;

use adaloss_core::{
    format::Element,
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

pub use injection::{FaultError, Injection};

use crate::{
    BranchOf, Capabilities, Decide, Device, Epilogue, Matmul, Memory, Narrow, Operation, Plain,
    Product,
};

/// A device whose operations go wrong where a plan says so.
///
/// The plan is asked before each operation, with the number of elements of its result that can be
/// struck: none but for `apply`, `propagate`, `unscale` and `matmul`.
#[derive(Clone, Copy, Debug)]
pub struct Fault<D, P> {
    device: D,
    plan: P,
    injected: u64,
}

impl<D, P: FnMut(Operation, usize) -> Option<Injection>> Fault<D, P> {
    /// Wraps a device.
    pub const fn new(device: D, plan: P) -> Self {
        Self { device, plan, injected: 0 }
    }

    /// Returns the device that is wrapped.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Returns how many faults were injected.
    pub const fn injected(&self) -> u64 {
        self.injected
    }

    /// Returns the device that was wrapped.
    pub fn into_inner(self) -> D {
        self.device
    }
}

/// What is left to do about an operation once the plan was asked.
enum Course {
    Run,
    Strike(usize, Strike),
    Drop,
}

#[derive(Clone, Copy)]
enum Strike {
    Flip(u32),
    Nan,
    Infinity,
}

impl<D: Device, P: FnMut(Operation, usize) -> Option<Injection>> Fault<D, P> {
    /// Asks the plan about an operation whose result has `elements` that can be struck, `bits` wide.
    fn course(
        &mut self,
        operation: Operation,
        elements: usize,
        bits: u32,
    ) -> Result<Course, FaultError<D::Error>> {
        let Some(injection) = (self.plan)(operation, elements) else {
            return Ok(Course::Run);
        };
        let (index, strike) = match injection {
            Injection::Flip { index, bit } if bit < bits => (index, Strike::Flip(bit)),
            Injection::Nan { index } => (index, Strike::Nan),
            Injection::Infinity { index } => (index, Strike::Infinity),
            Injection::Fail(kind) => {
                self.injected += 1;
                return Err(FaultError::Injected { operation, kind });
            }
            // A buffer has to come from somewhere.
            Injection::Drop if operation != Operation::Zeroed => {
                self.injected += 1;
                return Ok(Course::Drop);
            }
            Injection::Flip { .. } | Injection::Drop => {
                return Err(FaultError::Impossible { operation, injection });
            }
        };
        if index >= elements {
            return Err(FaultError::Impossible { operation, injection });
        }
        self.injected += 1;
        Ok(Course::Strike(index, strike))
    }

    /// Asks the plan about an operation without elements; tells whether to make it.
    fn goes_on(&mut self, operation: Operation) -> Result<bool, FaultError<D::Error>> {
        Ok(matches!(self.course(operation, 0, 0)?, Course::Run))
    }

    /// Asks the plan about an operation on `to`.
    fn course_of<F: Element + Plain>(
        &mut self,
        operation: Operation,
        to: D::Ref<'_, F>,
    ) -> Result<Course, FaultError<D::Error>> {
        self.course(operation, D::len(to), F::ENCODING.bits())
    }

    /// Makes an operation on `to` unless the plan drops it, and strikes its result if that is the plan.
    fn run<F: Element + Plain>(
        &mut self,
        operation: Operation,
        mut to: D::Mut<'_, F>,
        make: impl FnOnce(&mut D, D::Mut<'_, F>) -> Result<(), D::Error>,
    ) -> Result<(), FaultError<D::Error>> {
        let course = self.course_of(operation, D::shared(&to))?;
        if matches!(course, Course::Drop) {
            return Ok(());
        }
        make(&mut self.device, D::reborrow_mut(&mut to))?;
        self.strike(course, to)
    }

    /// Strikes an element of a result, if that is the course.
    fn strike<F: Element + Plain>(
        &mut self,
        course: Course,
        to: D::Mut<'_, F>,
    ) -> Result<(), FaultError<D::Error>> {
        let Course::Strike(index, strike) = course else {
            return Ok(());
        };
        let Some(element) = D::part_mut(to, index..index + 1) else {
            return Ok(()); // the plan's index was checked against the length
        };
        let struck = match strike {
            Strike::Flip(bit) => {
                let mut was = [F::from_bits(0)];
                self.device.read(D::shared(&element), &mut was)?;
                was[0].to_bits() ^ 1 << bit
            }
            Strike::Nan => F::ENCODING.nan_bits(),
            Strike::Infinity => F::ENCODING.overflow_bits(),
        };
        Ok(self.device.write(&[F::from_bits(struck)], element)?)
    }
}

impl<D: Device, P: FnMut(Operation, usize) -> Option<Injection>> Device for Fault<D, P> {
    type Error = FaultError<D::Error>;
    type Ref<'a, T: Plain>
        = D::Ref<'a, T>
    where
        Self: 'a;
    type Mut<'a, T: Plain>
        = D::Mut<'a, T>
    where
        Self: 'a;

    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn read<T: Plain>(
        &mut self,
        from: D::Ref<'_, T>,
        to: &mut [T],
    ) -> Result<(), FaultError<D::Error>> {
        if self.goes_on(Operation::Read)? {
            self.device.read(from, to)?;
        }
        Ok(())
    }

    fn write<T: Plain>(
        &mut self,
        from: &[T],
        to: D::Mut<'_, T>,
    ) -> Result<(), FaultError<D::Error>> {
        if self.goes_on(Operation::Write)? {
            self.device.write(from, to)?;
        }
        Ok(())
    }

    fn len<T: Plain>(elements: D::Ref<'_, T>) -> usize {
        D::len(elements)
    }

    fn part<'a, T: Plain>(elements: D::Ref<'a, T>, range: Range<usize>) -> Option<D::Ref<'a, T>>
    where
        Self: 'a,
    {
        D::part(elements, range)
    }

    fn part_mut<'a, T: Plain>(elements: D::Mut<'a, T>, range: Range<usize>) -> Option<D::Mut<'a, T>>
    where
        Self: 'a,
    {
        D::part_mut(elements, range)
    }

    fn shared<'a, T: Plain>(elements: &'a D::Mut<'_, T>) -> D::Ref<'a, T> {
        D::shared(elements)
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(elements: D::Ref<'long, T>) -> D::Ref<'short, T>
    where
        Self: 'long,
    {
        D::reborrow(elements)
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut D::Mut<'_, T>) -> D::Mut<'a, T> {
        D::reborrow_mut(elements)
    }
}

impl<D: Memory, P: FnMut(Operation, usize) -> Option<Injection>> Memory for Fault<D, P> {
    type Buffer<T: Plain> = D::Buffer<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<D::Buffer<T>, FaultError<D::Error>> {
        self.goes_on(Operation::Zeroed)?;
        Ok(self.device.zeroed(length)?)
    }

    fn view<T: Plain>(buffer: &D::Buffer<T>) -> D::Ref<'_, T> {
        D::view(buffer)
    }

    fn view_mut<T: Plain>(buffer: &mut D::Buffer<T>) -> D::Mut<'_, T> {
        D::view_mut(buffer)
    }
}

impl<F, D, P> Narrow<F> for Fault<D, P>
where
    F: Element + Plain,
    D: Narrow<F>,
    P: FnMut(Operation, usize) -> Option<Injection>,
{
    fn statistics(
        &mut self,
        values: D::Ref<'_, F>,
        to: D::Mut<'_, Statistics>,
    ) -> Result<(), FaultError<D::Error>> {
        if self.goes_on(Operation::Statistics)? {
            self.device.statistics(values, to)?;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        values: D::Ref<'_, f32>,
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), FaultError<D::Error>> {
        self.run(Operation::Apply, to, |device, to| device.apply(values, to, epilogue.over()))
    }

    fn propagate(
        &mut self,
        branches: &[BranchOf<'_, D, F>],
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), FaultError<D::Error>> {
        self.run(Operation::Propagate, to, |device, to| {
            device.propagate(branches, to, epilogue.over())
        })
    }

    fn unscale(
        &mut self,
        gradient: D::Ref<'_, F>,
        cell: D::Ref<'_, Cell>,
        to: D::Mut<'_, f32>,
        met: D::Mut<'_, Unscaled>,
    ) -> Result<(), FaultError<D::Error>> {
        self.run(Operation::Unscale, to, |device, to| device.unscale(gradient, cell, to, met))
    }
}

impl<D: Decide, P: FnMut(Operation, usize) -> Option<Injection>> Decide for Fault<D, P> {
    fn decide(
        &mut self,
        config: &Config,
        seen: D::Ref<'_, Histogram>,
        cell: D::Mut<'_, Cell>,
        certificate: D::Mut<'_, Certificate>,
    ) -> Result<(), FaultError<D::Error>> {
        if self.goes_on(Operation::Decide)? {
            self.device.decide(config, seen, cell, certificate)?;
        }
        Ok(())
    }

    fn note(
        &mut self,
        config: &Config,
        outcome: D::Ref<'_, Outcome>,
        from: D::Ref<'_, Cell>,
        cell: D::Mut<'_, Cell>,
    ) -> Result<(), FaultError<D::Error>> {
        if self.goes_on(Operation::Note)? {
            self.device.note(config, outcome, from, cell)?;
        }
        Ok(())
    }
}

impl<A, B, F, D, P> Matmul<A, B, F> for Fault<D, P>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Matmul<A, B, F>,
    P: FnMut(Operation, usize) -> Option<Injection>,
{
    fn matmul(
        &mut self,
        product: Product,
        a: D::Ref<'_, A>,
        b: D::Ref<'_, B>,
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), FaultError<D::Error>> {
        self.run(Operation::Matmul, to, |device, to| {
            device.matmul(product, a, b, to, epilogue.over())
        })
    }
}
