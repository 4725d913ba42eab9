//! The whole model: a [`State`] in the caller's memory, over the caller's cells.

use core::{ffi::c_void, slice};

use adaloss_core::{
    apply::Pass,
    format::{Narrowing, Overflow},
    policy::{Cell, Seen},
    scaler::{State, Step, Totals, Visit},
    statistics::Histogram,
    unscale::Place as CorePlace,
};

use crate::{
    ADALOSS_ERROR_HISTOGRAM, ADALOSS_ERROR_INITIALISED, ADALOSS_ERROR_LENGTH,
    ADALOSS_ERROR_NO_CELL, ADALOSS_ERROR_NO_PASS, ADALOSS_ERROR_NO_STEP, ADALOSS_ERROR_NO_VISIT,
    ADALOSS_ERROR_NOT_INITIALISED, ADALOSS_ERROR_STEP, ADALOSS_ERROR_UNFINISHED, ADALOSS_NONE,
    adaloss_cell, adaloss_certificate, adaloss_code, adaloss_config, adaloss_histogram,
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
    /// Whether a step is under way.
    open: bool,
    /// Whether a kernel of C's was told where the counters of the pass under way are: what is there may be anything,
    /// until it was checked.
    lent: bool,
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
/// If the pointer is neither NULL nor misaligned, it points to an `adaloss_scaler`, which this thread may use.
unsafe fn find(scaler: *const adaloss_scaler) -> Result<*mut Scaler, Refused> {
    let scaler = scaler.cast_mut().cast::<Scaler>();
    // SAFETY: the caller's promise; the structure is no larger and no stricter in alignment than the
    // one pointed to, and the field that is read is an integer.
    unsafe {
        // Checked as the caller's structure, whose alignment the header asks for.
        Place::new(scaler.cast::<adaloss_scaler>())?;
        if (*scaler).magic != MAGIC {
            return Err(Refused(ADALOSS_ERROR_NOT_INITIALISED));
        }
    }
    Ok(scaler)
}

/// Finds a scaler with a step under way.
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

/// Borrows the state and the cells of a scaler.
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

/// Goes on with the step under way.
///
/// # Safety
///
/// The pointer is what [`find_open`] returned, and nothing else borrows the state or the cells for as long as `'a`.
unsafe fn resume<'a>(found: *mut Scaler) -> Step<'a> {
    // SAFETY: `init` wrote the state, and was given the cells; the caller's promise.
    unsafe {
        let cells = slice::from_raw_parts_mut((*found).cells, (*found).count);
        (*found).state.resume(cells)
    }
}

/// Lends the step under way.
///
/// # Safety
///
/// As for [`find`].
pub(crate) unsafe fn with_step<R>(
    scaler: *mut adaloss_scaler,
    function: impl FnOnce(Step<'_>) -> Result<R, Refused>,
) -> Result<R, Refused> {
    // SAFETY: the caller's promise; the step ends with the function, which is not C's.
    unsafe { function(resume(find_open(scaler)?)) }
}

/// Opens a visit; one that was left open makes the step unusable.
///
/// # Safety
///
/// As for [`find`].
unsafe fn open(
    scaler: *mut adaloss_scaler,
    function: impl FnOnce(&mut Step<'_>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    // SAFETY: the caller's promise; the step ends with the function, which is not C's.
    unsafe {
        let found = find_open(scaler)?;
        leave(found);
        function(&mut resume(found))
    }
}

/// Refuses to open the visit of a layer whose arguments core is not given: the step is not usable, and no visit is
/// open.
fn refuse<R>(step: &mut Step<'_>, id: usize, refused: Refused) -> Result<R, Refused> {
    // So does core with a join of no branches.
    let _ = step.join_scales(id, core::iter::empty());
    Err(refused)
}

/// Goes on with the visit that is open; where that is refused, for whatever reason, the step is not usable.
///
/// # Safety
///
/// As for [`find`].
unsafe fn go_on(
    scaler: *mut adaloss_scaler,
    function: impl FnOnce(*mut Scaler) -> Result<(), Refused>,
) -> Result<(), Refused> {
    // SAFETY: the caller's promise; what the function borrowed, it has returned.
    unsafe {
        let found = find_open(scaler)?;
        let gone_on = function(found);
        if !matches!(gone_on, Ok(()) | Err(Refused(ADALOSS_NONE))) {
            reject_open(&mut resume(found));
        }
        gone_on
    }
}

/// Makes the step unusable at the visit that is open, even if that is finished later.
fn reject_open(step: &mut Step<'_>) {
    // A visit that is open counts as one that was left.
    if let Some((place, cause)) = step.first_bad() {
        step.reject(place, cause);
    }
}

/// Does something with the pass under way, if there is one.
///
/// # Safety
///
/// The pointer is what [`find_open`] returned, and nothing else borrows the state or the cells.
unsafe fn at_pass<R>(found: *mut Scaler, function: impl FnOnce(&mut Pass<'_>) -> R) -> Option<R> {
    // SAFETY: the caller's promise; the pass ends with the function, which is not C's.
    let mut step = unsafe { resume(found) };
    let mut visit = step.open_visit()?;
    visit.pass().map(|mut pass| function(&mut pass))
}

/// Takes back the counters that a kernel of C's was told of; refuses what it cannot have counted.
///
/// # Safety
///
/// As for [`at_pass`].
unsafe fn take_back(found: *mut Scaler) -> Result<(), Refused> {
    // SAFETY: the caller's promise.
    unsafe {
        check_lent(found)?;
        (*found).lent = false;
    }
    Ok(())
}

/// Refuses what a kernel of C's cannot have counted where it was told of the counters, which stay the kernel's.
///
/// # Safety
///
/// As for [`at_pass`].
unsafe fn check_lent(found: *mut Scaler) -> Result<(), Refused> {
    // SAFETY: the caller's promise.
    unsafe {
        if !(*found).lent {
            return Ok(());
        }
        at_pass(found, check_counters).unwrap_or(Ok(()))
    }
}

/// Leaves the visit that is open, if there is one: what its kernel wrote is forgotten, or is a histogram.
///
/// # Safety
///
/// As for [`at_pass`].
unsafe fn leave(found: *mut Scaler) {
    // SAFETY: the caller's promise.
    unsafe {
        let spoiled = spoiled_histogram(found);
        forget_counters(found, spoiled);
    }
}

/// Finds the histogram of the pass under way, where a kernel of C's wrote what it cannot have counted: so many bytes
/// behind the scaler's first.
///
/// # Safety
///
/// As for [`at_pass`].
unsafe fn spoiled_histogram(found: *mut Scaler) -> Option<usize> {
    let find = |pass: &mut Pass<'_>| pass.counters().1.map(core::ptr::from_mut);
    // SAFETY: the caller's promise.
    let histogram = unsafe { check_lent(found).err().and_then(|_| at_pass(found, find)?) };
    histogram.map(|histogram| histogram.addr() - found.addr())
}

/// Takes the counters back from a kernel of C's whose visit is left, or over: a histogram that was spoiled becomes an
/// empty one, since it outlives the visit.
///
/// # Safety
///
/// The pointer is what [`find_open`] returned, nothing else borrows the state or the cells, and the number is what
/// [`spoiled_histogram`] returned of it.
unsafe fn forget_counters(found: *mut Scaler, spoiled: Option<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        (*found).lent = false;
        if let Some(bytes) = spoiled {
            clear_histogram(found, bytes);
        }
    }
}

/// Makes the histogram that lies so many bytes behind the scaler's first an empty one, whatever it is.
///
/// # Safety
///
/// As for [`forget_counters`].
#[cold]
unsafe fn clear_histogram(found: *mut Scaler, bytes: usize) {
    // SAFETY: the caller's promise: a histogram lies there, in the scaler, and one may be written where one is.
    unsafe {
        let empty = Histogram::new((*found).state.config().narrowing());
        found.byte_add(bytes).cast::<Histogram>().write(empty);
    }
}

/// Refuses what a kernel of C's cannot have counted.
fn check_counters(pass: &mut Pass<'_>) -> Result<(), Refused> {
    // A histogram forgets what becomes of overflow.
    let expected = Narrowing { overflow: Overflow::Infinity, ..pass.narrowing() };
    let (outcome, histogram) = pass.counters();
    if let Some(histogram) = histogram {
        // SAFETY: the two have the same size, and the one of the header has all bytes.
        let found = unsafe { &*core::ptr::from_mut(histogram).cast::<adaloss_histogram>() };
        if found.narrowing != expected.into() {
            return Err(Refused(ADALOSS_ERROR_HISTOGRAM));
        }
        found.check()?;
    }
    // SAFETY: as above.
    unsafe { &*core::ptr::from_mut(outcome).cast::<adaloss_outcome>() }.check()
}

/// The pass under way, where functions for passes look for it: in the scaler that C's pointer to a pass stands for.
impl adaloss_pass {
    /// Does something for the pass under way; where that is refused, or fails, the step is not usable.
    ///
    /// # Safety
    ///
    /// If the pointer is neither NULL nor misaligned, it is one that `adaloss_scaler_next_pass` gave, and the memory of
    /// the scaler that gave it still exists.
    pub(crate) unsafe fn serve(
        pass: *mut Self,
        function: impl FnOnce() -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let served = function();
        if served.is_err() {
            // SAFETY: the caller's promise.  Without a step there is nothing to note.
            let _ = unsafe {
                with_step(pass.cast(), |mut step| {
                    reject_open(&mut step);
                    Ok(())
                })
            };
        }
        served
    }

    /// Lends the pass under way, whose counters are what passes count.
    ///
    /// # Safety
    ///
    /// As for [`serve`](Self::serve); the function calls none of C's.
    pub(crate) unsafe fn with<R>(
        pass: *mut Self,
        function: impl FnOnce(&mut Pass<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        // SAFETY: the caller's promise.
        unsafe {
            let found = Self::find(pass)?;
            // C's counts are added to, and so they have to be legal from here on.
            take_back(found)?;
            at_pass(found, function).unwrap_or(Err(Refused(ADALOSS_ERROR_NO_PASS)))
        }
    }

    /// Lends the pass under way to what tells C where its counters are.
    ///
    /// # Safety
    ///
    /// As for [`with`](Self::with).
    pub(crate) unsafe fn lend<R>(
        pass: *mut Self,
        function: impl FnOnce(&mut Pass<'_>) -> R,
    ) -> Result<R, Refused> {
        // SAFETY: the caller's promise.
        unsafe {
            let found = Self::find(pass)?;
            let lent = at_pass(found, function).ok_or(Refused(ADALOSS_ERROR_NO_PASS))?;
            (*found).lent = true;
            Ok(lent)
        }
    }

    /// Finds the scaler that a pass is of.
    ///
    /// # Safety
    ///
    /// As for [`serve`](Self::serve).
    unsafe fn find(pass: *mut Self) -> Result<*mut Scaler, Refused> {
        // SAFETY: the caller's promise: the pointer is that of the scaler.
        unsafe { find_open(pass.cast()) }.map_err(|Refused(code)| {
            // A scaler that was cleared, or whose step is over, has no pass.
            Refused(match code {
                ADALOSS_ERROR_NOT_INITIALISED | ADALOSS_ERROR_NO_STEP => ADALOSS_ERROR_NO_PASS,
                code => code,
            })
        })
    }
}

/// Does something with the step under way after which no visit is open; one that is goes on where that is refused.
///
/// # Safety
///
/// As for [`find`]; where the function succeeds, it leaves no visit open.
pub(crate) unsafe fn end_visits(
    scaler: *mut adaloss_scaler,
    function: impl FnOnce(&mut Step<'_>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    // SAFETY: the caller's promise; the step ends with the function, which is not C's.
    unsafe {
        let found = find_open(scaler)?;
        let spoiled = spoiled_histogram(found);
        function(&mut resume(found))?;
        forget_counters(found, spoiled);
    }
    Ok(())
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
                open: false,
                lent: false,
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
pub unsafe extern "C" fn adaloss_scaler_loss(scaler: *mut adaloss_scaler) -> adaloss_code {
    // SAFETY: the header asks for a scaler.
    code(|| unsafe {
        open(scaler, |step| {
            let _ = step.loss();
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_loss_at(
    scaler: *mut adaloss_scaler,
    cell: u32,
) -> adaloss_code {
    // SAFETY: the header asks for a scaler.
    code(|| unsafe { open(scaler, |step| Ok(step.loss_at(cell as usize).map(drop)?)) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_layer(
    scaler: *mut adaloss_scaler,
    cell: u32,
    incoming_log2: i32,
) -> adaloss_code {
    let id = cell as usize;
    // SAFETY: the header asks for a scaler.
    code(|| unsafe {
        open(scaler, |step| match scale::parse(incoming_log2) {
            Ok(incoming) => Ok(step.layer(id, incoming).map(drop)?),
            Err(refused) => refuse(step, id, refused),
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_join(
    scaler: *mut adaloss_scaler,
    cell: u32,
    branches_log2: *const i32,
    count: usize,
) -> adaloss_code {
    let id = cell as usize;
    // SAFETY: the header asks for a scaler and an array.
    code(|| unsafe {
        open(scaler, |step| match array(branches_log2, count).and_then(parse_branches) {
            Ok(scales) => Ok(step.join_scales(id, scales).map(drop)?),
            Err(refused) => refuse(step, id, refused),
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_wants_operands(
    scaler: *mut adaloss_scaler,
    wants: *mut u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let place = Place::new(wants)?;
            let wants = with_step(scaler, |mut step| {
                let visit = step.open_visit().ok_or(Refused(ADALOSS_ERROR_NO_VISIT))?;
                Ok(visit.wants_operands())
            })?;
            place.set(wants.into());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_describe(
    scaler: *mut adaloss_scaler,
    operands: *const adaloss_operands,
) -> adaloss_code {
    // SAFETY: the header asks for a scaler and for operands.
    code(|| unsafe {
        go_on(scaler, |found| {
            let mut step = resume(found);
            let mut visit = step.open_visit().ok_or(Refused(ADALOSS_ERROR_NO_VISIT))?;
            visit.describe(&shared(operands)?.parse()?);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_next_pass(
    scaler: *mut adaloss_scaler,
    pass: *mut *mut adaloss_pass,
) -> adaloss_code {
    // SAFETY: the header asks for a scaler and a place.
    code(|| unsafe {
        go_on(scaler, |found| {
            let place = Place::new(pass)?;
            take_back(found)?;
            let mut step = resume(found);
            let mut visit = step.open_visit().ok_or(Refused(ADALOSS_ERROR_NO_VISIT))?;
            visit.next_pass().map(drop).ok_or(Refused(ADALOSS_NONE))?;
            place.set(scaler.cast());
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_finish_visit(
    scaler: *mut adaloss_scaler,
    outgoing_log2: *mut i32,
) -> adaloss_code {
    // SAFETY: the header asks for a scaler and a place.
    code(|| unsafe {
        go_on(scaler, |found| {
            let place = Place::new(outgoing_log2)?;
            let mut step = resume(found);
            let visit = step.open_visit().ok_or(Refused(ADALOSS_ERROR_NO_VISIT))?;
            place.set(visit.finish(())?.scale().log2());
            Ok(())
        })
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
            place.set(state.last().ok_or(Refused(ADALOSS_NONE))?.into());
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
pub unsafe extern "C" fn adaloss_scaler_record(
    scaler: *const adaloss_scaler,
    place: adaloss_place,
    record: *mut adaloss_record,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let (to, place) = (Place::new(record)?, place.parse()?);
            let (state, cells) = lend(find_open(scaler)?);
            to.set(state.record(cells, place).ok_or(Refused(ADALOSS_NONE))?.into());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scaler_finish(
    scaler: *mut adaloss_scaler,
    verdict: *mut adaloss_verdict,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a scaler and a place.
        unsafe {
            let place = Place::new(verdict)?;
            let found = find_open(scaler)?;
            leave(found);
            place.set(resume(found).finish().into());
            (*found).open = false;
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
            leave(found);
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
            let (found, place) = (find(scaler)?, Place::new(histogram)?);
            if (*found).lent {
                return Err(Refused(ADALOSS_ERROR_UNFINISHED));
            }
            place.set(lend(found).0.histogram().into());
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
