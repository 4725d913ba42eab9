//! Passes of the scaler that end on a device: scales and counts go there, counts come back.

use core::{mem::offset_of, ptr};

use adaloss_core::{
    apply::Pass,
    policy::Cell,
    statistics::{Histogram, Outcome},
};

use super::{
    adaloss_device, adaloss_epilogue,
    memory::{ALIGNMENT, Foreign, done, function},
};
use crate::{
    ADALOSS_ERROR_ALIGNMENT, ADALOSS_ERROR_LENGTH, adaloss_cell, adaloss_code, adaloss_histogram,
    adaloss_outcome, adaloss_pass, adaloss_request,
    code::{Refused, code},
    memory::{AnyBytes, Place, any_bytes, shared},
    statistics::Mirror,
};

/// What a pass has in the device's memory.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct adaloss_device_pass {
    pub from: adaloss_cell,
    pub to: adaloss_cell,
    pub outcome: adaloss_outcome,
    pub histogram: adaloss_histogram,
}

any_bytes!(adaloss_device_pass);

/// Copies a value from an address, over one that is there.
fn read<T: AnyBytes>(device: &Foreign, from: u64, value: &mut T) -> Result<(), Refused> {
    let read = function(device.table.read)?;
    // SAFETY: the promise given to `Foreign::new`; the type has all bytes.
    done(unsafe { read(device.table.context, from, ptr::from_mut(value).cast(), size_of::<T>()) })
}

/// Returns the address of a field of what a pass has on the device.
fn field(memory: u64, offset: usize) -> u64 {
    memory + offset as u64
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_device_write_pass(
    device: *const adaloss_device,
    pass: *mut adaloss_pass,
    memory: u64,
    epilogue: *mut adaloss_epilogue,
) -> adaloss_code {
    let write = || {
        // SAFETY: the header asks for a device and for a place.
        let (device, place) = unsafe { (Foreign::new(device)?, Place::new(epilogue)?) };
        if !memory.is_multiple_of(ALIGNMENT) {
            return Err(Refused(ADALOSS_ERROR_ALIGNMENT));
        }
        if memory.checked_add(size_of::<adaloss_device_pass>() as u64).is_none() {
            return Err(Refused(ADALOSS_ERROR_LENGTH));
        }
        let [from, to] =
            [offset_of!(adaloss_device_pass, from), offset_of!(adaloss_device_pass, to)]
                .map(|offset| field(memory, offset));
        let [outcome, histogram] =
            [offset_of!(adaloss_device_pass, outcome), offset_of!(adaloss_device_pass, histogram)]
                .map(|offset| field(memory, offset));
        let ask = |pass: &mut Pass<'_>| {
            let cells = [Cell::at(pass.incoming()), Cell::at(pass.outgoing())];
            Ok((cells, adaloss_request::from(pass)))
        };
        // SAFETY: and for a pass; nothing of C's is called while it is borrowed.
        let ([incoming, outgoing], asked) = unsafe { adaloss_pass::with(pass, ask) }?;
        let measures = !asked.histogram.is_null();
        // SAFETY: two values of this function's, and the counters, which lie in the scaler's memory and which nothing
        // borrows now.
        unsafe {
            device.copy(&raw const incoming, 1, from)?;
            device.copy(&raw const outgoing, 1, to)?;
            // Operations add to what is there, so that nothing has to be merged afterwards.
            device.copy(asked.outcome.cast::<Outcome>(), 1, outcome)?;
            if measures {
                device.copy(asked.histogram.cast::<Histogram>(), 1, histogram)?;
            }
        }
        place.set(adaloss_epilogue {
            from,
            to,
            outcome,
            histogram,
            narrowing: asked.narrowing,
            noise: asked.noise,
            stores: asked.stores,
            measures: measures.into(),
            reserved: 0,
        });
        Ok(())
    };
    // SAFETY: the header asks for a pass.
    code(|| unsafe { adaloss_pass::serve(pass, write) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_device_read_pass(
    device: *const adaloss_device,
    pass: *mut adaloss_pass,
    epilogue: *const adaloss_epilogue,
) -> adaloss_code {
    let read = || {
        // SAFETY: the header asks for a device, and for the epilogue of the pass.
        let (device, epilogue) = unsafe { (Foreign::new(device)?, shared(epilogue)?) };
        // SAFETY: and for a pass; nothing of C's is called while it is borrowed.
        let asked = unsafe { adaloss_pass::with(pass, |pass| Ok(adaloss_request::from(pass))) }?;
        // All is read, over what is there, and seen to be legal before any of it is taken.
        // SAFETY: the counters lie in the scaler's memory, and nothing borrows them.
        let mut counted = unsafe { asked.outcome.read() };
        read(&device, epilogue.outcome, &mut counted)?;
        let counted = counted.core()?;
        // SAFETY: as above, where there is a histogram.
        let mut measured = unsafe { asked.histogram.as_ref() }.copied();
        if let Some(measured) = &mut measured {
            read(&device, epilogue.histogram, measured)?;
        }
        let measured = measured.as_ref().map(Mirror::core).transpose()?;
        let take = |pass: &mut Pass<'_>| {
            let (outcome, histogram) = pass.counters();
            *outcome = *counted;
            if let (Some(histogram), Some(measured)) = (histogram, measured) {
                *histogram = *measured;
            }
            Ok(())
        };
        // SAFETY: as above.
        unsafe { adaloss_pass::with(pass, take) }
    };
    // SAFETY: the header asks for a pass.
    code(|| unsafe { adaloss_pass::serve(pass, read) })
}
