//! A device that is watched.
//!
//! [`Record`] wraps a device, counts its calls, and tells a sink of each operation: its shape and,
//! if asked, what it left in outcome, histogram and certificate.  The counter of reads proves that a
//! part of a program never waits for the device.
//!
//! # Examples
//!
//! ```
//! use adaloss_core::{format::f16, statistics::Statistics};
//! use adaloss_hal::{Device, Narrow, Operation, portable::Portable, record::Record};
//! let mut log = Vec::new();
//! let mut device = Record::logging(Portable, |event: &_| log.push(event.to_string()));
//! let mut seen = [Statistics::EMPTY];
//! device.statistics(&[f16::ONE, f16::NAN], &mut seen[..])?;
//! assert_eq!(device.counts().of(Operation::Read), 0); // the log's own reads do not count
//! device.read(&seen.clone()[..], &mut seen)?;
//! assert_eq!(device.counts().of(Operation::Read), 1);
//! assert_eq!(log[0], "statistics of 2: 1 finite, 1 non-finite, 0 zero");
//! # Ok::<(), adaloss_hal::portable::PortableError>(())
//! ```

#![forbid(unsafe_code)]

mod event;

use core::ops::Range;

use adaloss_core::{
    format::Element,
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

pub use event::{Event, Left};

use crate::{
    BranchOf, Capabilities, Decide, Device, Epilogue, Error, Matmul, Memory, Narrow, Operation,
    Plain, Product,
};

/// How often each operation of a device was called, whether it succeeded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    calls: [u64; Operation::ALL.len()],
}

impl Counts {
    /// No call.
    pub const NONE: Self = Self { calls: [0; Operation::ALL.len()] };

    /// Returns the number of calls of one operation.
    pub const fn of(&self, operation: Operation) -> u64 {
        self.calls[operation as usize]
    }

    /// Returns the number of calls of all operations but `read`, `write` and `zeroed`.
    pub fn computations(&self) -> u64 {
        let [_read, _write, _zeroed, computations @ ..] = &self.calls;
        computations.iter().sum()
    }
}

/// What a sink is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Shapes,
    Values,
}

/// A device that counts its calls and tells a sink of them.
///
/// Errors are those of the device.  Where the sink is told values, an error of the reads that fetch
/// them is returned as the operation's own: a device reports the failure of earlier work once.
#[derive(Clone, Copy, Debug)]
pub struct Record<D, S> {
    device: D,
    sink: Option<S>,
    detail: Detail,
    counts: Counts,
}

impl<D> Record<D, fn(&Event<'_>)> {
    /// Wraps a device and only counts: nothing is added to any call.
    pub const fn counting(device: D) -> Self {
        Self { device, sink: None, detail: Detail::Shapes, counts: Counts::NONE }
    }
}

impl<D, S: FnMut(&Event<'_>)> Record<D, S> {
    /// Wraps a device and tells `sink` the shape of each operation: nothing more is read.
    pub const fn tracing(device: D, sink: S) -> Self {
        Self { device, sink: Some(sink), detail: Detail::Shapes, counts: Counts::NONE }
    }

    /// Wraps a device and tells `sink` the shape of each operation and what it left behind, which
    /// is read after it: every operation waits for the device.
    pub const fn logging(device: D, sink: S) -> Self {
        Self { device, sink: Some(sink), detail: Detail::Values, counts: Counts::NONE }
    }
}

impl<D, S> Record<D, S> {
    /// Returns the device that is wrapped.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Returns how often each operation was called; the record's own reads do not count.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns the device that was wrapped.
    pub fn into_inner(self) -> D {
        self.device
    }
}

/// The shape of an operation that was called.
#[derive(Clone, Copy)]
struct Call {
    operation: Operation,
    elements: usize,
    product: Option<Product>,
}

impl Call {
    const fn of(operation: Operation, elements: usize) -> Self {
        Self { operation, elements, product: None }
    }
}

impl<D: Device, S: FnMut(&Event<'_>)> Record<D, S> {
    /// Counts a call before it is made.
    fn count(&mut self, operation: Operation) {
        self.counts.calls[operation as usize] += 1;
    }

    /// Tells whether the values that a successful operation left are to be read.
    fn wants_values(&self, done: &Result<(), D::Error>) -> bool {
        self.sink.is_some() && self.detail == Detail::Values && done.is_ok()
    }

    /// Tells the sink of a call, and hands its result on.
    fn tell<T>(
        &mut self,
        call: Call,
        done: Result<T, D::Error>,
        left: Left<'_>,
    ) -> Result<T, D::Error> {
        if let Some(sink) = &mut self.sink {
            let Call { operation, elements, product } = call;
            let failed = done.as_ref().err().map(Error::kind);
            sink(&Event { operation, elements, product, failed, left });
        }
        done
    }

    /// Tells the sink of a call that ended in an epilogue.
    fn tell_epilogue(
        &mut self,
        call: Call,
        done: Result<(), D::Error>,
        epilogue: &Epilogue<'_, D>,
    ) -> Result<(), D::Error> {
        if !self.wants_values(&done) {
            return self.tell(call, done, Left::Unread);
        }
        let mut outcome = [Outcome::EMPTY];
        self.device.read(D::shared(&epilogue.outcome), &mut outcome)?;
        let mut measured = [Histogram::new(epilogue.narrowing)];
        if let Some(histogram) = &epilogue.histogram {
            self.device.read(D::shared(histogram), &mut measured)?;
        }
        let histogram = epilogue.histogram.as_ref().map(|_| &measured[0]);
        self.tell(call, done, Left::Counts { outcome: &outcome[0], histogram })
    }
}

impl<D: Device, S: FnMut(&Event<'_>)> Device for Record<D, S> {
    type Error = D::Error;
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

    fn read<T: Plain>(&mut self, from: D::Ref<'_, T>, to: &mut [T]) -> Result<(), D::Error> {
        self.count(Operation::Read);
        let done = self.device.read(from, to);
        self.tell(Call::of(Operation::Read, to.len()), done, Left::Unread)
    }

    fn write<T: Plain>(&mut self, from: &[T], to: D::Mut<'_, T>) -> Result<(), D::Error> {
        self.count(Operation::Write);
        let done = self.device.write(from, to);
        self.tell(Call::of(Operation::Write, from.len()), done, Left::Unread)
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

impl<D: Memory, S: FnMut(&Event<'_>)> Memory for Record<D, S> {
    type Buffer<T: Plain> = D::Buffer<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<D::Buffer<T>, D::Error> {
        self.count(Operation::Zeroed);
        let done = self.device.zeroed(length);
        self.tell(Call::of(Operation::Zeroed, length), done, Left::Unread)
    }

    fn view<T: Plain>(buffer: &D::Buffer<T>) -> D::Ref<'_, T> {
        D::view(buffer)
    }

    fn view_mut<T: Plain>(buffer: &mut D::Buffer<T>) -> D::Mut<'_, T> {
        D::view_mut(buffer)
    }
}

impl<F: Element + Plain, D: Narrow<F>, S: FnMut(&Event<'_>)> Narrow<F> for Record<D, S> {
    fn statistics(
        &mut self,
        values: D::Ref<'_, F>,
        mut to: D::Mut<'_, Statistics>,
    ) -> Result<(), D::Error> {
        self.count(Operation::Statistics);
        let call = Call::of(Operation::Statistics, D::len(values));
        let done = self.device.statistics(values, D::reborrow_mut(&mut to));
        if !self.wants_values(&done) {
            return self.tell(call, done, Left::Unread);
        }
        let mut statistics = [Statistics::EMPTY];
        self.device.read(D::shared(&to), &mut statistics)?;
        self.tell(call, done, Left::Statistics(&statistics[0]))
    }

    fn apply(
        &mut self,
        values: D::Ref<'_, f32>,
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), D::Error> {
        self.count(Operation::Apply);
        let call = Call::of(Operation::Apply, D::len(values));
        let mut epilogue = epilogue.over();
        let done = self.device.apply(values, to, epilogue.reborrow());
        self.tell_epilogue(call, done, &epilogue)
    }

    fn propagate(
        &mut self,
        branches: &[BranchOf<'_, D, F>],
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), D::Error> {
        self.count(Operation::Propagate);
        let call = Call::of(Operation::Propagate, D::len(D::shared(&to)));
        let mut epilogue = epilogue.over();
        let done = self.device.propagate(branches, to, epilogue.reborrow());
        self.tell_epilogue(call, done, &epilogue)
    }

    fn unscale(
        &mut self,
        gradient: D::Ref<'_, F>,
        cell: D::Ref<'_, Cell>,
        to: D::Mut<'_, f32>,
        mut met: D::Mut<'_, Unscaled>,
    ) -> Result<(), D::Error> {
        self.count(Operation::Unscale);
        let call = Call::of(Operation::Unscale, D::len(gradient));
        let done = self.device.unscale(gradient, cell, to, D::reborrow_mut(&mut met));
        if !self.wants_values(&done) {
            return self.tell(call, done, Left::Unread);
        }
        let mut unscaled = [Unscaled::default()];
        self.device.read(D::shared(&met), &mut unscaled)?;
        self.tell(call, done, Left::Unscaled(&unscaled[0]))
    }
}

impl<D: Decide, S: FnMut(&Event<'_>)> Decide for Record<D, S> {
    fn decide(
        &mut self,
        config: &Config,
        seen: D::Ref<'_, Histogram>,
        cell: D::Mut<'_, Cell>,
        mut certificate: D::Mut<'_, Certificate>,
    ) -> Result<(), D::Error> {
        self.count(Operation::Decide);
        let call = Call::of(Operation::Decide, 1);
        let done = self.device.decide(config, seen, cell, D::reborrow_mut(&mut certificate));
        if !self.wants_values(&done) {
            return self.tell(call, done, Left::Unread);
        }
        let mut decided = [Certificate::zeroed()];
        self.device.read(D::shared(&certificate), &mut decided)?;
        self.tell(call, done, Left::Certificate(&decided[0]))
    }

    fn note(
        &mut self,
        config: &Config,
        outcome: D::Ref<'_, Outcome>,
        from: D::Ref<'_, Cell>,
        mut cell: D::Mut<'_, Cell>,
    ) -> Result<(), D::Error> {
        self.count(Operation::Note);
        let call = Call::of(Operation::Note, 1);
        let done = self.device.note(config, outcome, from, D::reborrow_mut(&mut cell));
        if !self.wants_values(&done) {
            return self.tell(call, done, Left::Unread);
        }
        let mut noted = [Cell::new()];
        self.device.read(D::shared(&cell), &mut noted)?;
        self.tell(call, done, Left::Cell(&noted[0]))
    }
}

impl<A, B, F, D, S> Matmul<A, B, F> for Record<D, S>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Matmul<A, B, F>,
    S: FnMut(&Event<'_>),
{
    fn matmul(
        &mut self,
        product: Product,
        a: D::Ref<'_, A>,
        b: D::Ref<'_, B>,
        to: D::Mut<'_, F>,
        epilogue: Epilogue<'_, Self>,
    ) -> Result<(), D::Error> {
        self.count(Operation::Matmul);
        let mut call = Call::of(Operation::Matmul, D::len(D::shared(&to)));
        call.product = Some(product);
        let mut epilogue = epilogue.over();
        let done = self.device.matmul(product, a, b, to, epilogue.reborrow());
        self.tell_epilogue(call, done, &epilogue)
    }
}
