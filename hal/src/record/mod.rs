//! A device that is watched.
//!
//! [`Record`] wraps a device, counts its calls, and tells a sink of each operation: its shape and,
//! if asked, what it left in outcome, histogram and line.  The counter of reads proves that a
//! part of a program never waits for the device.
//!
//! # Examples
//!
//! ```
//! use adaloss_core::{format::f16, statistics::Statistics};
//! use adaloss_hal::{Device, OperationKind, Run, Summarise, portable::Portable, record::Record};
//! let mut log = Vec::new();
//! let mut device = Record::logging(Portable, |event: &_| log.push(event.to_string()));
//! let mut seen = [Statistics::EMPTY];
//! device.run(Summarise { input: &[f16::ONE, f16::NAN][..], to: &mut seen[..], when: None })?;
//! assert_eq!(device.counts().of(OperationKind::Read), 0); // the log's own reads do not count
//! device.read(&seen.clone()[..], &mut seen)?;
//! assert_eq!(device.counts().of(OperationKind::Read), 1);
//! assert_eq!(log[0], "statistics of 2: 1 finite, 1 non-finite, 0 zero");
//! # Ok::<(), adaloss_hal::HostError>(())
//! ```

#![forbid(unsafe_code)]

mod event;

pub use event::Event;

pub use crate::readout::Readout;
use crate::{
    device::Device,
    error::Error,
    kind::OperationKind,
    wrap::{Call, Hook, Results, Wrapped},
};

/// How often each operation of a device was called, whether it succeeded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    calls: [u64; OperationKind::ALL.len()],
}

impl Counts {
    /// No call.
    pub const NONE: Self = Self { calls: [0; OperationKind::ALL.len()] };

    /// Returns the number of calls of one operation.
    pub const fn of(&self, operation: OperationKind) -> u64 {
        self.calls[operation as usize]
    }

    /// Returns the number of calls of all operations but `read`, `write` and `zeroed`.
    pub fn computations(&self) -> u64 {
        let [_read, _write, _zeroed, computations @ ..] = &self.calls;
        computations.iter().sum()
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::NONE
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
pub type Record<D, S> = Wrapped<D, Recorder<S>>;

/// Counts calls and tells a sink of them.
#[derive(Clone, Copy, Debug)]
pub struct Recorder<S> {
    sink: Option<S>,
    detail: Detail,
    counts: Counts,
}

impl<D> Record<D, fn(&Event<'_>)> {
    /// Wraps a device and only counts: nothing is added to any call.
    pub const fn counting(device: D) -> Self {
        Self::recording(device, None, Detail::Shapes)
    }
}

impl<D, S: FnMut(&Event<'_>)> Record<D, S> {
    /// Wraps a device and tells `sink` the shape of each operation: nothing more is read.
    pub const fn tracing(device: D, sink: S) -> Self {
        Self::recording(device, Some(sink), Detail::Shapes)
    }

    /// Wraps a device and tells `sink` the shape of each operation and what it left behind, which
    /// is read after it: every operation waits for the device.
    pub const fn logging(device: D, sink: S) -> Self {
        Self::recording(device, Some(sink), Detail::Values)
    }
}

impl<D, S> Record<D, S> {
    const fn recording(device: D, sink: Option<S>, detail: Detail) -> Self {
        Self { device, hook: Recorder { sink, detail, counts: Counts::NONE } }
    }

    /// Returns how often each operation was called; the record's own reads do not count.
    pub const fn counts(&self) -> &Counts {
        &self.hook.counts
    }
}

impl<S: FnMut(&Event<'_>)> Recorder<S> {
    /// Counts a call before it is made.
    fn count(&mut self, operation: OperationKind) {
        self.counts.calls[operation as usize] += 1;
    }

    /// Tells the sink of a call of which nothing was read.
    fn trace<T, E: Error>(&mut self, call: Call, done: &Result<T, E>) {
        if let Some(sink) = &mut self.sink {
            let failed = done.as_ref().err().map(Error::kind);
            sink(&Event { call, failed, left: Readout::Unread });
        }
    }
}

impl<D: Device, S: FnMut(&Event<'_>)> Hook<D> for Recorder<S> {
    type Error = D::Error;

    fn around<R: Results<D>>(
        &mut self,
        device: &mut D,
        call: Call,
        mut results: R,
        make: impl FnOnce(&mut D, &mut R) -> Result<(), D::Error>,
    ) -> Result<(), D::Error> {
        self.count(call.operation);
        let done = make(device, &mut results);
        match &mut self.sink {
            Some(sink) if self.detail == Detail::Values && done.is_ok() => {
                results.readout(device, &mut |left| sink(&Event { call, failed: None, left }))?;
            }
            _ => self.trace(call, &done),
        }
        done
    }

    fn allocate<B>(
        &mut self,
        device: &mut D,
        call: Call,
        make: impl FnOnce(&mut D) -> Result<B, D::Error>,
    ) -> Result<B, D::Error> {
        self.count(call.operation);
        let done = make(device);
        self.trace(call, &done);
        done
    }
}
