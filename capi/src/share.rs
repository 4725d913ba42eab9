//! Ranks that take the same step: what a scaler brings to the message that they merge, and what it takes from it.

use core::ffi::c_void;

use adaloss_core::scaler::share::{self, HEADER_BYTES};

use crate::{
    ADALOSS_ERROR_LENGTH, adaloss_code, adaloss_scaler,
    code::{Refused, code},
    memory::{array, array_mut},
    scaler::{end_visits, with_step},
};

/// The bytes of a message without its cells: those that ranks compare before their first step.
pub const ADALOSS_SHARE_HEADER_BYTES: usize = 80;

const _: () = assert!(ADALOSS_SHARE_HEADER_BYTES == HEADER_BYTES);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_share_pack(
    scaler: *mut adaloss_scaler,
    to: *mut c_void,
    bytes: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and an array.
        unsafe {
            let to = array_mut(to.cast::<u8>(), bytes)?;
            with_step(scaler, |mut step| Ok(step.share().pack(to)?))
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_share_merge(
    into: *mut c_void,
    from: *const c_void,
    bytes: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for two arrays, apart.
        let (into, from) =
            unsafe { (array_mut(into.cast::<u8>(), bytes)?, array(from.cast::<u8>(), bytes)?) };
        Ok(share::merge(into, from)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_share_matches(
    scaler: *mut adaloss_scaler,
    message: *const c_void,
    bytes: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and an array.
        unsafe {
            let message = array(message.cast::<u8>(), bytes)?;
            with_step(scaler, |mut step| Ok(step.share().matches(message)?))
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_share_unpack(
    scaler: *mut adaloss_scaler,
    from: *const c_void,
    bytes: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and an array; what was taken leaves no visit open.
        unsafe {
            let from = array(from.cast::<u8>(), bytes)?;
            end_visits(scaler, |step| Ok(step.share().unpack(from)?))
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_share_digests(
    scaler: *mut adaloss_scaler,
    digests: *mut u64,
    count: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and an array.
        unsafe {
            let digests = array_mut(digests, count)?;
            with_step(scaler, |mut step| {
                let share = step.share();
                let parts = (0..).map_while(|index| share.part(index));
                if parts.clone().count() != count {
                    return Err(Refused(ADALOSS_ERROR_LENGTH));
                }
                digests.iter_mut().zip(parts).for_each(|(to, (_, digest))| *to = digest);
                Ok(())
            })
        }
    })
}
