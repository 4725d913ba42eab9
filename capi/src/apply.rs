//! Into low precision, in one piece or as a pass of the scaler.

use core::ffi::c_void;

use adaloss_core::{
    apply::{Apply, Pass},
    scale::{Scale, Shift},
    with_element,
};

use crate::{
    ADALOSS_ERROR_SCALE, adaloss_code, adaloss_histogram, adaloss_narrowing, adaloss_noise,
    adaloss_outcome, adaloss_scaler,
    code::{Refused, code},
    memory::{Place, any_bytes, array, array_mut, exclusive},
    statistics::{Mirror, has_room},
};

/// A pass, as C knows it: the scaler in whose visit it is.
#[derive(Debug)]
#[repr(C)]
pub struct adaloss_pass {
    scaler: adaloss_scaler,
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

any_bytes!(adaloss_request);

impl From<&mut Pass<'_>> for adaloss_request {
    fn from(pass: &mut Pass<'_>) -> Self {
        let (incoming_log2, outgoing_log2) = (pass.incoming().log2(), pass.outgoing().log2());
        let (narrowing, noise) = (pass.narrowing().into(), pass.noise().into());
        let stores = pass.stores().into();
        let (outcome, histogram) = pass.counters();
        Self {
            incoming_log2,
            outgoing_log2,
            narrowing,
            noise,
            stores,
            outcome: core::ptr::from_mut(outcome).cast(),
            histogram: histogram
                .map_or(core::ptr::null_mut(), |histogram| core::ptr::from_mut(histogram).cast()),
        }
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
    let apply = |pass: &mut Pass<'_>| {
        // SAFETY: the header asks for two arrays of `count` elements, apart.
        let from = unsafe { array(from, count) }?;
        with_element!(pass.narrowing().format.encoding, F => {
            // SAFETY: as above.
            let to = unsafe { array_mut(to.cast::<F>(), count) }?;
            pass.apply(from, to)?;
        });
        Ok(())
    };
    // SAFETY: the header asks for a pass; nothing of C's is called.
    code(|| unsafe { adaloss_pass::serve(pass, || adaloss_pass::with(pass, apply)) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_apply_request(
    pass: *mut adaloss_pass,
    request: *mut adaloss_request,
) -> adaloss_code {
    // SAFETY: the header asks for a pass, and for a place; nothing of C's is called.
    code(|| unsafe {
        adaloss_pass::serve(pass, || {
            let place = Place::new(request)?;
            place.set(adaloss_pass::lend(pass, |pass| pass.into())?);
            Ok(())
        })
    })
}
