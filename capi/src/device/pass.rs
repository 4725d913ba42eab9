//! Passes of the scaler that end on a device: scales and counts go there, counts come back.

use core::{mem::offset_of, ptr, slice};

use adaloss_core::policy::Cell;
use adaloss_hal::{Device, Plain};

use super::{
    adaloss_device, adaloss_epilogue,
    memory::{ALIGNMENT, ElementsMut, Foreign, done, function},
};
use crate::{
    ADALOSS_ERROR_ALIGNMENT, ADALOSS_ERROR_LENGTH, adaloss_cell, adaloss_code, adaloss_histogram,
    adaloss_outcome, adaloss_pass,
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

/// Copies a value to an address.
fn write<T: Plain>(device: &mut Foreign, value: &T, to: u64) -> Result<(), Refused> {
    device.write(slice::from_ref(value), ElementsMut::one(to))
}

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
    code(|| {
        // SAFETY: the header asks for a device, for the pass that the function was given, and for a
        // place.
        let (mut device, pass, place) =
            unsafe { (Foreign::new(device)?, adaloss_pass::borrow(pass)?, Place::new(epilogue)?) };
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
        write(&mut device, &Cell::at(pass.incoming()), from)?;
        write(&mut device, &Cell::at(pass.outgoing()), to)?;
        let (narrowing, noise) = (pass.narrowing().into(), pass.noise().into());
        let stores = pass.stores().into();
        // Operations add to what is there, so that nothing has to be merged afterwards.
        let (counted, measured) = pass.counters();
        write(&mut device, counted, outcome)?;
        let measures = measured.is_some().into();
        if let Some(measured) = measured {
            write(&mut device, measured, histogram)?;
        }
        place.set(adaloss_epilogue {
            from,
            to,
            outcome,
            histogram,
            narrowing,
            noise,
            stores,
            measures,
            reserved: 0,
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_device_read_pass(
    device: *const adaloss_device,
    pass: *mut adaloss_pass,
    epilogue: *const adaloss_epilogue,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a device, for the pass that the function was given, and for
        // its epilogue.
        let (device, pass, epilogue) =
            unsafe { (Foreign::new(device)?, adaloss_pass::borrow(pass)?, shared(epilogue)?) };
        let (outcome, histogram) = pass.counters();
        // All is read and seen to be legal before any of it is taken.
        let mut counted = adaloss_outcome::from(*outcome);
        read(&device, epilogue.outcome, &mut counted)?;
        let counted = counted.core()?;
        if let Some(histogram) = histogram {
            let mut measured = adaloss_histogram::from(&*histogram);
            read(&device, epilogue.histogram, &mut measured)?;
            *histogram = *measured.core()?;
        }
        *outcome = *counted;
        Ok(())
    })
}
