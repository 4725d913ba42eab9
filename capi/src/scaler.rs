//! The whole model: a [`State`] in the caller's memory, over the caller's cells.

use core::{ffi::c_void, slice};

use adaloss_core::{
    apply::Pass,
    policy::{Cell, Operands, Seen},
    propagate::Scaled,
    scaler::{State, Step, StepError, Totals, Visit},
    statistics::{Histogram, Outcome},
    unscale::{Cause, Place as CorePlace},
};

use crate::{
    ADALOSS_ERROR_BRANCHES, ADALOSS_ERROR_BUSY, ADALOSS_ERROR_HISTOGRAM, ADALOSS_ERROR_INITIALISED,
    ADALOSS_ERROR_LENGTH, ADALOSS_ERROR_NO_CELL, ADALOSS_ERROR_NO_STEP,
    ADALOSS_ERROR_NOT_INITIALISED, ADALOSS_ERROR_NULL, ADALOSS_ERROR_STEP, ADALOSS_NONE,
    ADALOSS_OK, adaloss_cell, adaloss_certificate, adaloss_code, adaloss_config, adaloss_histogram,
    adaloss_operands, adaloss_outcome, adaloss_pass, adaloss_place, adaloss_record, adaloss_seen,
    adaloss_unscaled, adaloss_verdict,
    code::{Refused, code},
    memory::{Place, any_bytes, array, array_mut, exclusive, shared},
    policy::parse_branches,
    scale,
    statistics::Mirror,
    unscale::{cause_number, parse_cause},
};

/// The memory of a scaler in words of 64 bits.
pub const ADALOSS_SCALER_WORDS: usize = 640;

/// The memory of a scaler.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct adaloss_scaler {
    pub opaque: [u64; ADALOSS_SCALER_WORDS],
}

/// Computes a tensor's float values.
pub type adaloss_pass_function =
    Option<unsafe extern "C" fn(context: *mut c_void, pass: *mut adaloss_pass) -> adaloss_code>;

/// Describes the operands of a layer.
pub type adaloss_operands_function = Option<
    unsafe extern "C" fn(context: *mut c_void, operands: *mut adaloss_operands) -> adaloss_code,
>;

/// Takes what a step left behind in one cell.
pub type adaloss_record_function = Option<
    unsafe extern "C" fn(context: *mut c_void, place: adaloss_place, record: *const adaloss_record),
>;

/// What happened at one visit of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_visit {
    pub place: adaloss_place,
    pub incoming_log2: i32,
    pub outgoing_log2: i32,
    pub outcome: adaloss_outcome,
    pub certified: u32,
    pub replayed: u32,
    pub passes: u32,
    pub broke_promise: u32,
    pub certificate: adaloss_certificate,
}

/// What happened since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_totals {
    pub steps: u64,
    pub skipped: u64,
    pub recovered: u64,
    pub certificates: u64,
    pub broken: u64,
}

any_bytes!(adaloss_scaler, adaloss_visit, adaloss_totals);

impl From<Visit> for adaloss_visit {
    fn from(visit: Visit) -> Self {
        Self {
            place: visit.place.into(),
            incoming_log2: visit.incoming.log2(),
            outgoing_log2: visit.outgoing.log2(),
            outcome: visit.outcome.into(),
            certified: visit.certificate.is_some().into(),
            replayed: visit.replayed.into(),
            passes: visit.passes.into(),
            broke_promise: visit.broke_promise.into(),
            certificate: visit.certificate.map_or(adaloss_certificate::NONE, Into::into),
        }
    }
}

/// What is in the memory of a scaler.
#[repr(C)]
struct Scaler {
    /// Tells a scaler from memory that is none.
    magic: u64,
    cells: *mut Cell,
    count: usize,
    /// The pass that runs, where functions of C's look for it.
    pass: adaloss_pass,
    /// Whether a pass runs, so that the state must not be touched.
    busy: bool,
    /// Whether a step is under way.
    open: bool,
    state: State,
}

const MAGIC: u64 = u64::from_le_bytes(*b"adaloss1");

const _: () = assert!(
    size_of::<Scaler>() <= size_of::<adaloss_scaler>()
        && align_of::<Scaler>() <= align_of::<adaloss_scaler>()
);

/// Finds the scaler in its memory.
///
/// # Safety
///
/// If the pointer is neither NULL nor misaligned, it points to an `adaloss_scaler`, of which this
/// thread may use all but, while a pass runs, the state.
unsafe fn find(scaler: *const adaloss_scaler) -> Result<*mut Scaler, Refused> {
    let scaler = scaler.cast_mut().cast::<Scaler>();
    // SAFETY: the caller's promise; the structure is no larger and no stricter in alignment than the
    // one pointed to, and the two fields that are read are integers or were written by `init`.
    unsafe {
        // Checked as the caller's structure, whose alignment the header asks for.
        Place::new(scaler.cast::<adaloss_scaler>())?;
        if (*scaler).magic != MAGIC {
            return Err(Refused(ADALOSS_ERROR_NOT_INITIALISED));
        }
        if (*scaler).busy {
            return Err(Refused(ADALOSS_ERROR_BUSY));
        }
    }
    Ok(scaler)
}

/// Finds a scaler with a step under way, in which no pass runs.
///
/// # Safety
///
/// As for [`find`].
unsafe fn find_open(scaler: *const adaloss_scaler) -> Result<*mut Scaler, Refused> {
    // SAFETY: the caller's promise; what was found was written by `init`.
    unsafe {
        let found = find(scaler)?;
        if (*found).open { Ok(found) } else { Err(Refused(ADALOSS_ERROR_NO_STEP)) }
    }
}

/// Borrows the state and the cells of a scaler in which no pass runs.
///
/// # Safety
///
/// As for [`find`].
unsafe fn borrow<'a>(scaler: *const adaloss_scaler) -> Result<(&'a State, &'a [Cell]), Refused> {
    // SAFETY: the caller's promise.
    unsafe { find(scaler).map(|found| lend(found)) }
}

/// Borrows the state and the cells of a scaler that was found.
///
/// # Safety
///
/// The pointer is what [`find`] returned.
unsafe fn lend<'a>(found: *mut Scaler) -> (&'a State, &'a [Cell]) {
    // SAFETY: `init` wrote the state, and was given the cells.
    unsafe { (&(*found).state, slice::from_raw_parts((*found).cells, (*found).count)) }
}

/// Lends the step under way.
///
/// # Safety
///
/// As for [`find`].
unsafe fn with_step<R>(
    scaler: *mut adaloss_scaler,
    function: impl FnOnce(Step<'_>) -> Result<R, Refused>,
) -> Result<R, Refused> {
    // SAFETY: the caller's promise; `init` wrote the state, and was given the cells.
    unsafe {
        let scaler = find_open(scaler)?;
        let cells = slice::from_raw_parts_mut((*scaler).cells, (*scaler).count);
        function((*scaler).state.resume(cells))
    }
}

type Visited = Result<Scaled<()>, StepError<Refused>>;
type Run<'a> = &'a mut dyn FnMut(&mut Pass<'_>) -> Result<(), Refused>;

/// Visits a tensor: `visit` is given the step, and what calls the pass function.
///
/// # Safety
///
/// As for [`find`]; the pass function is one that may be called with the context, and `outgoing_log2`
/// is NULL, misaligned or a place.
unsafe fn visit(
    scaler: *mut adaloss_scaler,
    pass: adaloss_pass_function,
    context: *mut c_void,
    outgoing_log2: *mut i32,
    visit: impl FnOnce(&mut Step<'_>, Run<'_>) -> Visited,
) -> Result<(), Refused> {
    let function = pass.ok_or(Refused(ADALOSS_ERROR_NULL))?;
    // SAFETY: the caller's promises.  While the function runs, the state is borrowed and `busy` is
    // set, so that functions of this library that it calls touch `pass` and `busy` alone.
    unsafe {
        let place = Place::new(outgoing_log2)?;
        let found = find(scaler)?;
        let (running, busy) = (&raw mut (*found).pass, &raw mut (*found).busy);
        let leaving = with_step(scaler, |mut step| {
            let mut run = |pass: &mut Pass<'_>| {
                *busy = true;
                let code = adaloss_pass::lend(running, pass, |pass| function(context, pass));
                *busy = false;
                // Whatever the function returned: the histogram outlives it.
                let counted = check_counters(pass);
                match code {
                    ADALOSS_OK => counted,
                    code => Err(Refused(code)),
                }
            };
            visit(&mut step, &mut run).map_err(|error| match error {
                StepError::Pass(refused) => refused,
                StepError::NoCell { .. } => Refused(ADALOSS_ERROR_NO_CELL),
                StepError::Branches { .. } => Refused(ADALOSS_ERROR_BRANCHES),
            })
        })?;
        place.set(leaving.scale().log2());
    }
    Ok(())
}

/// Makes a visit; one that is refused, for whatever reason, makes the step under way unusable.
///
/// # Safety
///
/// As for [`find`].
unsafe fn noting(
    scaler: *mut adaloss_scaler,
    place: CorePlace,
    visit: impl FnOnce() -> Result<(), Refused>,
) -> Result<(), Refused> {
    let visited = visit();
    if visited.is_err() {
        // SAFETY: the caller's promise.  Without a step there is nothing to note.
        let _ = unsafe {
            with_step(scaler, |mut step| {
                step.reject(place, Cause::Failed);
                Ok(())
            })
        };
    }
    visited
}

/// Refuses what a kernel of C's cannot have counted; what is no histogram of this pass becomes an
/// empty one.
fn check_counters(pass: &mut Pass<'_>) -> Result<(), Refused> {
    if !pass.is_counted() {
        // Nobody asked where the counters are, and asking for them here would hide that.
        return Ok(());
    }
    let empty = Histogram::new(pass.narrowing());
    let (outcome, histogram): (&mut Outcome, Option<&mut Histogram>) = pass.counters();
    if let Some(histogram) = histogram {
        let counted = core::ptr::from_mut(histogram);
        // SAFETY: the two have the same size, and the one of the header has all bytes.
        let found = unsafe { &*counted.cast::<adaloss_histogram>() };
        let is_for_another = found.narrowing != empty.narrowing().into();
        let checked =
            if is_for_another { Err(Refused(ADALOSS_ERROR_HISTOGRAM)) } else { found.check() };
        if checked.is_err() {
            // SAFETY: a histogram may be written where one is.
            unsafe { counted.write(empty) };
        }
        checked?;
    }
    adaloss_outcome::from(*outcome).check()
}

/// Visits a tensor, whose operands a function describes if there is one.
///
/// # Safety
///
/// As for [`visit`], for both functions.
unsafe fn visit_with(
    scaler: *mut adaloss_scaler,
    operands: adaloss_operands_function,
    pass: adaloss_pass_function,
    context: *mut c_void,
    outgoing_log2: *mut i32,
    go: impl FnOnce(&mut Step<'_>, Option<&mut dyn FnMut() -> Operands>, Run<'_>) -> Visited,
) -> Result<(), Refused> {
    // SAFETY: the caller's promise.
    let busy = unsafe { &raw mut (*find(scaler)?).busy };
    // SAFETY: the caller's promise.
    unsafe {
        visit(scaler, pass, context, outgoing_log2, |step, run| {
            let Some(operands) = operands else {
                return go(step, None, run);
            };
            // Core's operands cannot fail: a refusal is kept for the pass, which can.
            let refused = core::cell::Cell::new(None);
            let mut describe = || {
                let mut described = adaloss_operands::NONE;
                *busy = true;
                let code = operands(context, &mut described);
                *busy = false;
                let parsed = match code {
                    ADALOSS_OK => described.parse(),
                    code => Err(Refused(code)),
                };
                parsed.unwrap_or_else(|error| {
                    refused.set(Some(error));
                    Operands::Cast(adaloss_core::statistics::Statistics::EMPTY)
                })
            };
            let mut run = |pass: &mut Pass<'_>| match refused.get() {
                Some(refused) => Err(refused),
                None => run(pass),
            };
            go(step, Some(&mut describe), &mut run)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_init(
    scaler: *mut adaloss_scaler,
    config: *const adaloss_config,
    cells: *mut adaloss_cell,
    count: usize,
) -> adaloss_code {
    code(|| {
        const { assert!(size_of::<Cell>() == size_of::<adaloss_cell>()) };
        const { assert!(align_of::<Cell>() == align_of::<adaloss_cell>()) };
        // SAFETY: the header asks for memory of a scaler, a configuration, and an array of cells.
        unsafe {
            let memory = Place::new(scaler.cast::<Scaler>())?;
            let config = shared(config)?.parse()?;
            if count > u32::MAX as usize {
                return Err(Refused(ADALOSS_ERROR_LENGTH));
            }
            let cells = array_mut(cells, count)?;
            if exclusive(scaler)?.opaque[0] != 0 {
                return Err(Refused(ADALOSS_ERROR_INITIALISED));
            }
            cells.fill(config.cell().into());
            memory.set(Scaler {
                magic: MAGIC,
                cells: cells.as_mut_ptr().cast(),
                count,
                pass: adaloss_pass::NONE,
                busy: false,
                open: false,
                state: State::new(config),
            });
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_clear(scaler: *mut adaloss_scaler) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler.
        unsafe {
            find(scaler)?;
            exclusive(scaler)?.opaque.fill(0);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_begin(scaler: *mut adaloss_scaler) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler.
        unsafe {
            let scaler = find(scaler)?;
            if (*scaler).open {
                return Err(Refused(ADALOSS_ERROR_STEP));
            }
            // Once a step: whether anything was written over the cells.
            let cells = array((*scaler).cells.cast::<adaloss_cell>(), (*scaler).count)?;
            let config = (*scaler).state.config();
            cells.iter().try_for_each(|cell| cell.parse_for(config).map(drop))?;
            let cells = slice::from_raw_parts_mut((*scaler).cells, (*scaler).count);
            let _ = (*scaler).state.begin(cells);
            (*scaler).open = true;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_loss(
    scaler: *mut adaloss_scaler,
    operands: adaloss_operands_function,
    pass: adaloss_pass_function,
    context: *mut c_void,
    outgoing_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for what `visit_with` needs.
        let visit = || unsafe {
            visit_with(scaler, operands, pass, context, outgoing_log2, |step, operands, run| {
                match operands {
                    Some(operands) => step.loss_with(&(), |()| operands(), |(), pass| run(pass)),
                    None => step.loss(&(), |(), pass| run(pass)),
                }
            })
        };
        // SAFETY: as above.
        unsafe { noting(scaler, CorePlace::Loss, visit) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_layer(
    scaler: *mut adaloss_scaler,
    cell: u32,
    incoming_log2: i32,
    operands: adaloss_operands_function,
    pass: adaloss_pass_function,
    context: *mut c_void,
    outgoing_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        let id = cell as usize;
        // SAFETY: the header asks for what `visit_with` needs.
        let visit = || unsafe {
            let gradient = Scaled::new((), scale::parse(incoming_log2)?);
            visit_with(scaler, operands, pass, context, outgoing_log2, |step, operands, run| {
                let run = |(): &(), pass: &mut Pass<'_>| run(pass);
                match operands {
                    Some(operands) => step.layer_with(id, &gradient, |()| operands(), run),
                    None => step.layer(id, &gradient, run),
                }
            })
        };
        // SAFETY: as above.
        unsafe { noting(scaler, CorePlace::Layer(id), visit) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_join(
    scaler: *mut adaloss_scaler,
    cell: u32,
    branches_log2: *const i32,
    count: usize,
    pass: adaloss_pass_function,
    context: *mut c_void,
    outgoing_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        let id = cell as usize;
        // SAFETY: the header asks for an array, and for what `visit` needs.
        let visit = || unsafe {
            let scales = parse_branches(array(branches_log2, count)?)?;
            visit(scaler, pass, context, outgoing_log2, |step, run| {
                step.join_scales(id, scales, run)
            })
        };
        // SAFETY: as above.
        unsafe { noting(scaler, CorePlace::Layer(id), visit) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_unscaled(
    scaler: *mut adaloss_scaler,
    cell: u32,
    met: *const adaloss_unscaled,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a count.
        unsafe {
            let met = shared(met)?.parse()?;
            with_step(scaler, |mut step| {
                step.unscaled(cell as usize, &met);
                Ok(())
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_reject(
    scaler: *mut adaloss_scaler,
    place: adaloss_place,
    cause: u32,
) -> adaloss_code {
    code(|| {
        let (place, cause) = (place.parse()?, parse_cause(cause)?);
        // SAFETY: the header asks for a scaler.
        unsafe {
            with_step(scaler, |mut step| {
                step.reject(place, cause);
                Ok(())
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_micro_batch(
    scaler: *mut adaloss_scaler,
    index: u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler.
        unsafe {
            with_step(scaler, |mut step| {
                step.micro_batch(index);
                Ok(())
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_first_bad(
    scaler: *mut adaloss_scaler,
    place: *mut adaloss_place,
    cause: *mut u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and for two places.
        unsafe {
            let (to, to_cause) = (Place::new(place)?, Place::new(cause)?);
            let (place, cause) =
                with_step(scaler, |step| step.first_bad().ok_or(Refused(ADALOSS_NONE)))?;
            to.set(place.into());
            to_cause.set(cause_number(cause));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_sums_overflowed(
    scaler: *mut adaloss_scaler,
    origin: adaloss_place,
) -> adaloss_code {
    code(|| {
        let origin = origin.parse()?;
        // SAFETY: the header asks for a scaler.
        unsafe {
            let (state, cells) = lend(find_open(scaler)?);
            if state.cell(cells, origin).is_none() {
                return Err(Refused(ADALOSS_NONE));
            }
            with_step(scaler, |mut step| {
                step.sums_overflowed(origin);
                Ok(())
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_last(
    scaler: *const adaloss_scaler,
    visit: *mut adaloss_visit,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let place = Place::new(visit)?;
            let (state, _) = lend(find_open(scaler)?);
            place.set((*state.last().ok_or(Refused(ADALOSS_NONE))?).into());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_seen(
    scaler: *const adaloss_scaler,
    place: adaloss_place,
    seen: *mut adaloss_seen,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let (to, place) = (Place::new(seen)?, place.parse()?);
            let (state, cells) = lend(find_open(scaler)?);
            to.set(state.cell(cells, place).map_or(Seen::NOTHING, Cell::seen).into());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_set_seen(
    scaler: *mut adaloss_scaler,
    place: adaloss_place,
    seen: *const adaloss_seen,
) -> adaloss_code {
    code(|| {
        let place = place.parse()?;
        // SAFETY: the header asks for a scaler, and for what a tensor showed.
        unsafe {
            let seen = shared(seen)?.parse()?;
            with_step(scaler, |mut step| {
                // A weight gradient has no cell of its own.
                if matches!(place, CorePlace::Weight(_)) {
                    return Err(Refused(ADALOSS_ERROR_NO_CELL));
                }
                step.set_seen(place, seen).map_err(|_| Refused(ADALOSS_ERROR_NO_CELL))
            })
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_finish(
    scaler: *mut adaloss_scaler,
    verdict: *mut adaloss_verdict,
) -> adaloss_code {
    // SAFETY: the header asks for a scaler and a place; there is no function.
    unsafe { adaloss_scaler_finish_with(scaler, None, core::ptr::null_mut(), verdict) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_finish_with(
    scaler: *mut adaloss_scaler,
    record: adaloss_record_function,
    context: *mut c_void,
    verdict: *mut adaloss_verdict,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler, a function that may be called with the context, and
        // a place.  While the function runs, the state is borrowed and `busy` is set, so that
        // functions of this library that it calls touch nothing else.
        unsafe {
            let place = Place::new(verdict)?;
            let found = find_open(scaler)?;
            let busy = &raw mut (*found).busy;
            let verdict = with_step(scaler, |step| {
                Ok(step.finish_with(|place, left| {
                    if let Some(record) = record {
                        *busy = true;
                        record(context, place.into(), &left.into());
                        *busy = false;
                    }
                }))
            })?;
            (*found).open = false;
            place.set(verdict.into());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_abandon(scaler: *mut adaloss_scaler) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler.
        unsafe {
            let found = find_open(scaler)?;
            let cells = slice::from_raw_parts_mut((*found).cells, (*found).count);
            // Beginning a step forgets one that was not finished; this one is never opened to the caller.
            let _ = (*found).state.begin(cells);
            (*found).open = false;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_cell(
    scaler: *const adaloss_scaler,
    place: adaloss_place,
    cell: *mut adaloss_cell,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let ((state, cells), to) = (borrow(scaler)?, Place::new(cell)?);
            let found = state.cell(cells, place.parse()?).ok_or(Refused(ADALOSS_NONE))?;
            to.set((*found).into());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_totals(
    scaler: *const adaloss_scaler,
    totals: *mut adaloss_totals,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let ((state, _), place) = (borrow(scaler)?, Place::new(totals)?);
            let Totals { steps, skipped, recovered, certificates, broken } = state.totals();
            place.set(adaloss_totals { steps, skipped, recovered, certificates, broken });
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_histogram(
    scaler: *const adaloss_scaler,
    histogram: *mut adaloss_histogram,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let ((state, _), place) = (borrow(scaler)?, Place::new(histogram)?);
            place.set(state.histogram().into());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_digest(
    scaler: *const adaloss_scaler,
    digest: *mut u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let ((state, cells), place) = (borrow(scaler)?, Place::new(digest)?);
            place.set(state.digest(cells));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_save(
    scaler: *const adaloss_scaler,
    to: *mut c_void,
    bytes: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and an array.
        unsafe {
            let (found, to) = (find(scaler)?, array_mut(to.cast::<u8>(), bytes)?);
            if (*found).open {
                return Err(Refused(ADALOSS_ERROR_STEP));
            }
            let (state, cells) = lend(found);
            Ok(state.save(cells, to)?)
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_restore(
    scaler: *mut adaloss_scaler,
    from: *const c_void,
    bytes: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and an array.
        unsafe {
            let from = array(from.cast::<u8>(), bytes)?;
            let scaler = find(scaler)?;
            if (*scaler).open {
                return Err(Refused(ADALOSS_ERROR_STEP));
            }
            let cells = slice::from_raw_parts_mut((*scaler).cells, (*scaler).count);
            Ok((*scaler).state.load(from, cells)?)
        }
    })
}
