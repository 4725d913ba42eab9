//! A device around a device.
//!
//! [`Wrapped`] hands every operation on, and lets a [`Hook`] do something before and after it: the
//! devices that break on purpose and that are watched ([`fault`](crate::fault),
//! [`record`](crate::record)) are two hooks.
//!
//! # Examples
//!
//! A hook that takes the time that the calls of a device last:
//!
//! ```
//! use adaloss_hal::{Device, portable::Portable, wrap::{Call, Hook, Results, Wrapped}};
//! use std::time::{Duration, Instant};
//! #[derive(Default)]
//! struct Timed {
//!     spent: Duration,
//! }
//!
//! impl<D: Device> Hook<D> for Timed {
//!     type Error = D::Error;
//!
//!     fn around<R: Results<D>>(
//!         &mut self,
//!         device: &mut D,
//!         _: Call,
//!         mut results: R,
//!         make: impl FnOnce(&mut D, &mut R) -> Result<(), D::Error>,
//!     ) -> Result<(), D::Error> {
//!         let start = Instant::now();
//!         let done = make(device, &mut results);
//!         self.spent += start.elapsed();
//!         done
//!     }
//!
//!     fn allocate<B>(
//!         &mut self,
//!         device: &mut D,
//!         _: Call,
//!         make: impl FnOnce(&mut D) -> Result<B, D::Error>,
//!     ) -> Result<B, D::Error> {
//!         make(device)
//!     }
//! }
//!
//! let (mut device, mut to) = (Wrapped::around(Portable, Timed::default()), [0_u8; 2]);
//! device.write(&[1, 2], &mut to[..])?;
//! assert_eq!(to, [1, 2]);
//! assert!(device.hook().spent < Duration::from_secs(60));
//! # Ok::<(), adaloss_hal::HostError>(())
//! ```

#![forbid(unsafe_code)]

mod call;
mod operation;
mod results;

pub use call::Call;
pub use results::Results;

use crate::{
    device::{Capabilities, Device, Memory, Mut, Ref},
    error::Error,
    kind::OperationKind,
    plain::Plain,
};

/// A device that is handed every operation, with a hook around it.
#[derive(Clone, Copy, Debug)]
pub struct Wrapped<D, H> {
    pub(crate) device: D,
    pub(crate) hook: H,
}

impl<D, H> Wrapped<D, H> {
    /// Wraps a device.
    pub const fn around(device: D, hook: H) -> Self {
        Self { device, hook }
    }

    /// Returns the device that is wrapped.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Returns the hook.
    pub const fn hook(&self) -> &H {
        &self.hook
    }

    /// Returns the device that was wrapped.
    pub fn into_inner(self) -> D {
        self.device
    }
}

/// What happens around the operations of a device.
pub trait Hook<D: Device> {
    /// What can go wrong.
    type Error: Error;

    /// Makes an operation, or does not, by calling `make` with what the operation writes.
    ///
    /// # Errors
    ///
    /// What `make` returned, or the hook's own.
    fn around<R: Results<D>>(
        &mut self,
        device: &mut D,
        call: Call,
        results: R,
        make: impl FnOnce(&mut D, &mut R) -> Result<(), D::Error>,
    ) -> Result<(), Self::Error>;

    /// Makes an allocation, which has to return something.
    ///
    /// # Errors
    ///
    /// As [`around`](Self::around).
    fn allocate<B>(
        &mut self,
        device: &mut D,
        call: Call,
        make: impl FnOnce(&mut D) -> Result<B, D::Error>,
    ) -> Result<B, Self::Error>;
}

impl<D: Device, H: Hook<D>> Wrapped<D, H> {
    /// Makes an operation with the hook around it.
    fn hooked<R: Results<D>>(
        &mut self,
        call: Call,
        results: R,
        make: impl FnOnce(&mut D, &mut R) -> Result<(), D::Error>,
    ) -> Result<(), H::Error> {
        self.hook.around(&mut self.device, call, results, make)
    }
}

impl<D: Device, H: Hook<D>> Device for Wrapped<D, H> {
    type Error = H::Error;
    type Space = D::Space;

    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn read<T: Plain>(&mut self, from: Ref<'_, D, T>, to: &mut [T]) -> Result<(), H::Error> {
        self.hooked(Call::of(OperationKind::Read, to.len()), (), |device, ()| device.read(from, to))
    }

    fn write<T: Plain>(&mut self, from: &[T], to: Mut<'_, D, T>) -> Result<(), H::Error> {
        self.hooked(Call::of(OperationKind::Write, from.len()), (), |device, ()| {
            device.write(from, to)
        })
    }
}

impl<D: Memory, H: Hook<D>> Memory for Wrapped<D, H> {
    type Buffer<T: Plain> = D::Buffer<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<D::Buffer<T>, H::Error> {
        let call = Call::of(OperationKind::Zeroed, length);
        self.hook.allocate(&mut self.device, call, |device| device.zeroed(length))
    }

    fn view<T: Plain>(buffer: &D::Buffer<T>) -> Ref<'_, D, T> {
        D::view(buffer)
    }

    fn view_mut<T: Plain>(buffer: &mut D::Buffer<T>) -> Mut<'_, D, T> {
        D::view_mut(buffer)
    }
}
