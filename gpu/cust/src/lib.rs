//! Adaptive loss scaling for runtimes whose context, streams and buffers are [`cust`]'s: operations
//! of [`adaloss_gpu`] are put into a stream of cust's and work on its buffers.
//!
//! Both libraries share the primary context of the GPU.  What of the device's memory is ours (cells,
//! histograms, outcomes) comes from the [`Cuda`] that [`on`] returns, and tensors stay in the buffers they
//! are in: [`elements`] and [`elements_mut`] name them.  cust cannot hold our element types, since neither
//! is its own; its buffers hold their bits, as [`Held`] says.
//!
//! # Examples
//!
//! ```no_run
//! use adaloss_core::format::f16;
//! use adaloss_cust::{elements, elements_mut, on};
//! use adaloss_hal::{Memory, Run, Unscale};
//! use cust::{memory::DeviceBuffer, stream::{Stream, StreamFlags}};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let _context = cust::quick_init()?;
//!     let stream = Stream::new(StreamFlags::DEFAULT, None)?;
//!     // SAFETY: the stream is dropped last.
//!     let mut device = unsafe { on(&stream)? };
//!     let gradient = DeviceBuffer::from_slice(&[0x3c00_u16; 100])?;
//!     let mut unscaled = DeviceBuffer::from_slice(&[0.0_f32; 100])?;
//!     let (cell, mut met) = (device.zeroed(1)?, device.zeroed(1)?);
//!     device.run(Unscale {
//!         gradient: elements::<f16>(&gradient),
//!         cell: cell.view(),
//!         to: elements_mut::<f32>(&mut unscaled),
//!         counts: met.view_mut(),
//!     })?;
//!     Ok(())
//! }
//! ```
//!
//! # Limits
//!
//! - cust is linked with `libcuda`: a program needs it to be built and to start, unlike one with
//!   [`adaloss_gpu`] alone.  `CUDA_LIBRARY_PATH` names its folder.
//! - cust's results are an enum that ends at CUDA 11.4.  A call of cust's that a newer driver answers with
//!   a newer code is undefined behaviour; our calls go through cudarc, which knows them.
//! - `Display` of cust's `CudaError` panics where the driver has no text: print it with `{:?}`.
//! - cust's streams are all blocking: they take turns with the legacy stream, in which cust copies.  So
//!   its copies wait for our operations, and nothing that copies so can be captured meanwhile.

use adaloss_core::format::{E4M3, E5M2, bf16, f16};
use adaloss_gpu::{Cuda, Elements, ElementsMut, GpuError};
use adaloss_hal::Plain;
use cudarc::driver::{
    CudaContext, DriverError, result,
    sys::{self, CUresult::CUDA_ERROR_INVALID_CONTEXT},
};
use cust::{
    context::CurrentContext,
    memory::{DeviceCopy, DeviceSlice},
    stream::Stream,
};

/// Opens the GPU of the current context, which is cust's, to put operations into one of its streams.
///
/// # Errors
///
/// No context is current or it is not the primary one, as one of `cust::context::legacy` is; the GPU
/// is too old for the kernels, or has no memory left.
///
/// # Safety
///
/// The stream was made in the current context, and is dropped after what is returned and after every
/// buffer that is allocated from that.
pub unsafe fn on(stream: &Stream) -> Result<Cuda, GpuError> {
    let refused = |what| move |error| GpuError::Driver { what, error };
    let strange = || {
        refused("a context that is not the primary one")(DriverError(CUDA_ERROR_INVALID_CONTEXT))
    };
    let ordinal = CurrentContext::get_device().map_err(|_| strange())?.as_raw();
    let current = result::ctx::get_current().map_err(refused("the current context"))?;
    let ordinal = usize::try_from(ordinal).map_err(|_| strange())?;
    let context = CudaContext::new(ordinal).map_err(refused("its primary context"))?;
    if current != Some(context.cu_ctx()) {
        // It has become the current one.
        if let Some(before) = current {
            // SAFETY: it was current a moment ago.
            unsafe { result::ctx::set_current(before) }.map_err(refused("the context before"))?;
        }
        return Err(strange());
    }
    // SAFETY: a stream of this context, which outlives all that retains it, by the caller's promise.
    let stream = unsafe { context.wrap_borrowed_stream(stream.as_inner() as sys::CUstream) };
    Cuda::on(stream)
}

/// An element, and what holds its bits in cust's buffers.
pub trait Held: Plain {
    /// A number of the same size, each value of which is an element.
    type In: DeviceCopy;
}

macro_rules! held {
    ($($element:ty: $number:ty),+ $(,)?) => {$(
        const _: () = assert!(
            size_of::<$element>() == size_of::<$number>()
                && align_of::<$element>() == align_of::<$number>()
        );
        impl Held for $element {
            type In = $number;
        }
    )+};
}

held! {
    f32: f32,
    f16: u16,
    bf16: u16,
    E5M2: u8,
    E4M3: u8,
    u32: u32,
    u64: u64,
}

/// Names the elements of a buffer of cust's for reading.
pub fn elements<T: Held>(buffer: &DeviceSlice<T::In>) -> Elements<'_, T> {
    // SAFETY: so many numbers are there, each of which is an element; they are borrowed, and cust
    // writes and frees in the legacy stream, which waits for the one that operations are put into.
    unsafe { Elements::from_raw(buffer.as_device_ptr().as_raw(), buffer.len()) }
}

/// Names the elements of a buffer of cust's for writing.
pub fn elements_mut<T: Held>(buffer: &mut DeviceSlice<T::In>) -> ElementsMut<'_, T> {
    // SAFETY: as above, and they are borrowed exclusively.
    unsafe { ElementsMut::from_raw(buffer.as_device_ptr().as_raw(), buffer.len()) }
}
