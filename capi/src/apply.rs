//! Into low precision, in one piece or as a pass of the scaler.

use core::ffi::c_void;

use adaloss_core::{
    apply::{Apply, Pass},
    scale::{Scale, Shift},
};

use crate::{
    ADALOSS_ERROR_NO_PASS, ADALOSS_ERROR_SCALE, adaloss_code, adaloss_histogram, adaloss_narrowing,
    adaloss_noise, adaloss_outcome,
    code::{Refused, code},
    format::with_element,
    memory::{Place, any_bytes, array, array_mut, exclusive},
    statistics::{Mirror, has_room},
};

/// A pass, as C knows it: where the scaler keeps the one that runs.
#[derive(Debug)]
#[repr(C)]
pub struct adaloss_pass {
    /// NULL while no pass runs.
    running: *mut c_void,
}

/// What a pass asks for.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct adaloss_request {
    pub incoming_log2: i32,
    pub outgoing_log2: i32,
    pub narrowing: adaloss_narrowing,
    pub noise: adaloss_noise,
    pub stores: u32,
    pub outcome: *mut adaloss_outcome,
    pub histogram: *mut adaloss_histogram,
}

any_bytes!(adaloss_pass, adaloss_request);

impl adaloss_pass {
    /// No pass.
    pub(crate) const NONE: Self = Self { running: core::ptr::null_mut() };

    /// Lends a pass to a function of C's, through the place where C looks for it.
    ///
    /// # Safety
    ///
    /// `place` points to the memory of an `adaloss_pass`, which `function` alone uses until it
    /// returns.
    pub(crate) unsafe fn lend<R>(
        place: *mut Self,
        pass: &mut Pass<'_>,
        function: impl FnOnce(*mut Self) -> R,
    ) -> R {
        // SAFETY: the caller's promise.  The pass outlives the call of the function, after which
        // the place forgets it.
        unsafe { (*place).running = core::ptr::from_mut(pass).cast() };
        let returned = function(place);
        // SAFETY: as above.
        unsafe { *place = Self::NONE };
        returned
    }

    /// Borrows the pass that runs.
    ///
    /// # Safety
    ///
    /// If the pointer is neither NULL nor misaligned, it is one that a pass function was given, and
    /// the scaler that gave it still exists.
    pub(crate) unsafe fn borrow<'a>(pointer: *mut Self) -> Result<&'a mut Pass<'a>, Refused> {
        // SAFETY: the caller's promise.
        let running = unsafe { exclusive(pointer) }?.running.cast::<Pass<'a>>();
        // SAFETY: NULL, or the pass that `lend` was given and does not touch until C returns; C
        // calls one function at a time, so that this borrow ends before the next begins.
        unsafe { running.as_mut() }.ok_or(Refused(ADALOSS_ERROR_NO_PASS))
    }
}

/// Reads an exponent as the shift from one scale to another.
fn parse_shift(log2: i32) -> Result<Shift, Refused> {
    let half = log2 / 2;
    match (Scale::new(half), Scale::new(half - log2)) {
        (Ok(to), Ok(from)) => Ok(to / from),
        _ => Err(Refused(ADALOSS_ERROR_SCALE)),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_apply_values(
    narrowing: adaloss_narrowing,
    shift_log2: i32,
    noise: adaloss_noise,
    first: u64,
    from: *const f32,
    count: usize,
    to: *mut c_void,
    outcome: *mut adaloss_outcome,
) -> adaloss_code {
    code(|| {
        let narrowing = narrowing.parse()?;
        let apply = Apply { narrowing, shift: parse_shift(shift_log2)?, noise: noise.into() };
        // SAFETY: the header asks for two arrays of `count` elements and an outcome, all apart.
        let (outcome, from) = unsafe { (exclusive(outcome)?.core_mut()?, array(from, count)?) };
        has_room(outcome.elements, count as u64)?;
        with_element!(narrowing.format.encoding, F => {
            // SAFETY: as above.
            let to = unsafe { array_mut(to.cast::<F>(), count) }?;
            apply.slice(from, to, first, outcome)?;
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_apply_pass(
    pass: *mut adaloss_pass,
    from: *const f32,
    count: usize,
    to: *mut c_void,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for the pass that the function was given.
        let pass = unsafe { adaloss_pass::borrow(pass) }?;
        // SAFETY: and for two arrays of `count` elements, apart.
        let from = unsafe { array(from, count) }?;
        with_element!(pass.narrowing().format.encoding, F => {
            // SAFETY: as above.
            let to = unsafe { array_mut(to.cast::<F>(), count) }?;
            pass.apply(from, to)?;
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_apply_request(
    pass: *mut adaloss_pass,
    request: *mut adaloss_request,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for the pass that the function was given, and for a place.
        let (pass, place) = unsafe { (adaloss_pass::borrow(pass)?, Place::new(request)?) };
        let (incoming_log2, outgoing_log2) = (pass.incoming().log2(), pass.outgoing().log2());
        let (narrowing, noise) = (pass.narrowing().into(), pass.noise().into());
        let stores = pass.stores().into();
        let (outcome, histogram) = pass.counters();
        place.set(adaloss_request {
            incoming_log2,
            outgoing_log2,
            narrowing,
            noise,
            stores,
            outcome: core::ptr::from_mut(outcome).cast(),
            histogram: histogram
                .map_or(core::ptr::null_mut(), |histogram| core::ptr::from_mut(histogram).cast()),
        });
        Ok(())
    })
}
