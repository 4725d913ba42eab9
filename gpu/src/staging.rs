//! Where values of the host wait to be copied to the device.

use std::{mem::MaybeUninit, slice, sync::Arc};

use cudarc::driver::{
    CudaContext, CudaEvent, CudaStream, DriverError, PinnedHostSlice, result::memcpy_htod_async,
};

use crate::GpuError;

/// Bytes that are copied at a time.
const SLOT_BYTES: usize = 1 << 20;

/// Slots: while the copy of one is on its way, others are filled.
const SLOTS: usize = 4;

/// Pinned memory of this crate's own, from which everything is copied that a host writes.
///
/// A copy is done when its stream comes to it.  The driver reads memory that its caller has pinned only then, and
/// promises for other memory no more than that it *might* read it at once.  So values are put here first, and whoever
/// writes may change them, or free them, as soon as a write has returned.
///
/// ```text
/// slot 0 [ a | b | c |     ]   copies a, b, c are on their way; d goes behind them
/// slot 1 [                 ]   what does not fit goes here, when the last copy out of it is done
/// ```
#[derive(Debug)]
pub(crate) struct Staging {
    slots: [Slot; SLOTS],
    /// The slot that is filled.
    current: usize,
}

#[derive(Debug)]
struct Slot {
    /// The address of its first byte, which stays what it is while there is `memory`.
    first: First,
    /// Bytes that are copied, or on their way.
    used: usize,
    /// Reached when they are copied.
    copied: CudaEvent,
    _memory: PinnedHostSlice<u8>,
}

/// The first byte of a slot, which only the slot names.
#[derive(Debug)]
struct First(*mut u8);

// SAFETY: it is memory of the whole process, and used where the slot is borrowed exclusively.
unsafe impl Send for First {}
// SAFETY: as above.
unsafe impl Sync for First {}

impl Slot {
    fn new(context: &Arc<CudaContext>) -> Result<Self, GpuError> {
        // SAFETY: bytes are read after they were written only.
        let allocated = unsafe { context.alloc_pinned::<u8>(SLOT_BYTES) };
        let mut memory = allocated.map_err(GpuError::of("pinned memory"))?;
        let first = memory.as_mut_ptr().map_err(GpuError::of("pinned memory"))?;
        let copied = context.new_event(None).map_err(GpuError::of("an event"))?;
        Ok(Self { first: First(first), used: 0, copied, _memory: memory })
    }
}

impl Staging {
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self, GpuError> {
        let [a, b, c, d] = [(); SLOTS].map(|()| Slot::new(context));
        Ok(Self { slots: [a?, b?, c?, d?], current: 0 })
    }

    /// Puts a copy of values to an address of the device into a stream; the values are the caller's again when this
    /// returns.
    ///
    /// It waits where all slots are on their way.
    ///
    /// # Safety
    ///
    /// There is so much room at the address, which is of the context that the stream is of and that is current;
    /// it is always the same stream.
    pub(crate) unsafe fn copy<T>(
        &mut self,
        values: &[T],
        address: u64,
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        let (from, bytes) = (values.as_ptr().cast::<u8>(), size_of_val(values));
        let mut done = 0;
        while done < bytes {
            // A large write takes whole slots, and what is left of it the beginning of the next.
            let part = (bytes - done).min(SLOT_BYTES);
            if self.slots[self.current].used + part > SLOT_BYTES {
                self.current = (self.current + 1) % SLOTS;
                let next = &mut self.slots[self.current];
                next.copied.synchronize()?;
                next.used = 0;
            }
            let slot = &mut self.slots[self.current];
            // SAFETY: so many bytes are there and free: no copy on its way reads them.  They may be padding, which
            // nobody looks at.
            let staged = unsafe {
                let to = slot.first.0.add(slot.used);
                to.copy_from_nonoverlapping(from.add(done), part);
                slice::from_raw_parts(to.cast::<MaybeUninit<u8>>(), part)
            };
            // SAFETY: the caller's promise; the bytes are not written again before `copied` is reached.
            unsafe { memcpy_htod_async(address + done as u64, staged, stream.cu_stream()) }?;
            slot.used += part;
            // Without the event, all that is on its way is waited for.
            slot.copied.record(stream).or_else(|_| stream.synchronize())?;
            done += part;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        for Slot { copied, .. } in &self.slots {
            // The memory is freed next, which must not come before the copies. An error that the context keeps from
            // earlier would be returned instead of waiting: it is put back afterwards, for whoever asks for it.
            let context = copied.context();
            let before = context.check_err();
            context.record_err(copied.synchronize());
            context.record_err(before);
        }
    }
}
