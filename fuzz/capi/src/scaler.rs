//! The life of a scaler: calls in any order, and beside them a scaler of core's that lives alike.

use std::{
    iter::{empty, once},
    mem::MaybeUninit,
    ptr::{null, null_mut},
    slice,
};

use adaloss::*;
use adaloss_core::{
    apply::Pass,
    format::{Element, Encoding, Format, Overflow, Subnormals},
    policy::{Amax, Cell, Config, Policy, Seen},
    scale::Scale,
    scaler::{State, Step, StepError},
    unscale::{Cause, Place, Unscaled, Verdict},
    with_element,
};
use adaloss_fuzz::damage::damage;
use arbitrary::{Result, Unstructured};

use crate::{
    argument::{log2, number, place, pointer},
    device::{self, Device},
    memory::{BYTES, CELLS, COUNT, Memory, any},
    rooms::branches,
};

/// What is known of the scaler in memory.
#[derive(Default)]
pub(crate) struct Life {
    is_made: bool,
    pub(crate) is_open: bool,
    /// The counters of the pass under way, where a kernel may have written anything.
    lent: Option<adaloss_request>,
    /// The scaler of core's, as long as everything that happened is known to both.
    pub(crate) core: Option<(State, [Cell; CELLS])>,
}

/// What a kernel does with a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Narrows,
    NarrowsNothing,
    /// Leaves the visit, or finishes it before its last pass.
    Fails,
    /// Calls the scaler for a visit that is at another point.
    Misuses,
    SpoilsCounters {
        word: u64,
        place: usize,
        fails: bool,
    },
    OnDevice,
}

/// What a kernel is given.
struct Context {
    kernel: Kernel,
    values: [f32; COUNT],
    count: usize,
    elements: [u32; COUNT],
    device: Option<Device>,
    /// Where the scale goes that a tensor leaves with.
    to: *mut i32,
}

/// What the header numbers from 1.
const CAUSES: [Cause; 6] = [
    Cause::NonFinite,
    Cause::Overflow,
    Cause::Failed,
    Cause::Uncounted,
    Cause::Length,
    Cause::Nothing,
];

/// Every tensor of a scaler.
fn places() -> impl Iterator<Item = Place> {
    once(Place::Loss).chain((0..CELLS).map(Place::Layer))
}

/// Asks the library whether a histogram can be.
fn is_histogram(histogram: &adaloss_histogram) -> bool {
    let mut count = 0;
    let code = unsafe { adaloss_statistics_histogram_overflow(histogram, 0, &mut count) };
    code == ADALOSS_OK
}

/// Whether counters of a pass that is under way hold what it can have counted.
unsafe fn are_possible(lent: &adaloss_request) -> bool {
    let (mut sum, narrowing) = (unsafe { std::mem::zeroed() }, lent.narrowing);
    unsafe {
        adaloss_statistics_outcome_merge(&mut sum, lent.outcome) == ADALOSS_OK
            && lent.histogram.as_ref().is_none_or(|histogram| {
                histogram.narrowing == adaloss_narrowing { overflow: 0, ..narrowing }
                    && is_histogram(histogram)
            })
    }
}

/// Asks for what a pass is, as a kernel in C does.
fn request_of(pass: *mut adaloss_pass) -> adaloss_request {
    let mut request = MaybeUninit::uninit();
    unsafe {
        assert_eq!(adaloss_apply_request(pass, request.as_mut_ptr()), ADALOSS_OK);
        request.assume_init()
    }
}

/// The library's pass is core's.
fn same_pass(found: &adaloss_request, expected: &mut Pass<'_>) {
    assert_eq!(found.incoming_log2, expected.incoming().log2());
    assert_eq!(found.outgoing_log2, expected.outgoing().log2());
    assert_eq!(found.narrowing.format.encoding, expected.narrowing().format.encoding as u8);
    assert_eq!((found.noise.seed, found.noise.stream), {
        let noise = expected.noise();
        (noise.seed, noise.stream)
    });
    assert_eq!(found.stores, expected.stores().into());
    assert_eq!(found.histogram.is_null(), expected.counters().1.is_none());
}

/// Narrows with core, where nothing goes wrong.
pub(crate) fn narrow(values: &[f32], pass: &mut Pass<'_>) {
    fn into<F: Element>(values: &[f32], pass: &mut Pass<'_>) {
        pass.apply(values, &mut vec![F::from_bits(0); values.len()])
            .expect("the format's encoding");
    }
    with_element!(pass.narrowing().format.encoding, F => into::<F>(values, pass));
}

/// A visit, as the library and core are asked for it.
enum Visit {
    Loss,
    LossAt { id: u32 },
    Layer { id: u32, incoming: i32 },
    Join { id: u32, scales: *const i32, count: usize },
}

impl Life {
    pub(crate) fn call(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        match u.int_in_range(0..=15)? {
            0 | 1 => self.init(u, memory)?,
            2 => self.forget(u, memory)?,
            3 | 4 => self.begin(u, memory)?,
            5..=8 => self.visit(u, memory)?,
            9 => self.note(u, memory)?,
            10 | 11 => self.end(u, memory)?,
            12 => self.look(u, memory)?,
            13 => self.share(u, memory)?,
            _ => self.checkpoint(u, memory)?,
        }
        self.agrees(memory);
        Ok(())
    }

    /// Returns what a call is answered with that needs a scaler, and a step where it says so.
    fn expected(&self, needs_step: bool) -> adaloss_code {
        match (self.is_made, self.is_open) {
            (false, _) => ADALOSS_ERROR_NOT_INITIALISED,
            (true, false) if needs_step => ADALOSS_ERROR_NO_STEP,
            _ => ADALOSS_OK,
        }
    }

    /// Makes a scaler, mostly of a configuration that core has too.
    fn init(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let known = if u.ratio(7, 8)? { Some(u.choose(&Encoding::ALL)?) } else { None };
        let mut config = None;
        if let Some(&encoding) = known {
            let format = adaloss_format { encoding: encoding as u8, subnormals: 0 };
            memory.succeeds(|of| unsafe {
                adaloss_policy_recommended(format, &raw mut (*of).configs[1])
            });
            let made = &mut memory.configs[1];
            made.period = u.int_in_range(1..=3)?;
            made.narrowing.overflow = u.int_in_range(0..=1)?;
            let overflow = [Overflow::Infinity, Overflow::Saturate];
            let core = Config::for_format(Format::new(encoding, Subnormals::Gradual))
                .with_overflow(overflow[usize::from(made.narrowing.overflow)]);
            config = core.with_period(made.period).ok();
            if u.ratio(1, 4)? {
                let (window, margin) = (u.int_in_range(1..=40)?, u.int_in_range(0..=2)?);
                made.policy = 4;
                made.parameters.amax = adaloss_amax { window, margin, reserved: 0 };
                let amax = Policy::Amax(Amax { window, margin });
                config = config.and_then(|config| config.with_policy(amax).ok());
            }
        } else {
            memory.configs[1] = memory.configs[0];
        }
        let (scaler, of) =
            (pointer(u, &raw mut memory.scaler)?, pointer(u, &raw mut memory.configs[1])?);
        let (cells, count) =
            (pointer(u, &raw mut memory.cells)?, if u.ratio(1, 32)? { usize::MAX } else { CELLS });
        let code = memory.call(|_| unsafe { adaloss_scaler_init(scaler, of, cells.cast(), count) });
        assert!(!(self.is_made && code == ADALOSS_OK), "a scaler was made over another");
        if code == ADALOSS_OK {
            let core = config.map(|config| (State::new(config), [config.cell(); CELLS]));
            *self = Self { is_made: true, core, ..Self::default() };
        }
        Ok(())
    }

    /// Ends a scaler, or writes over all of it.
    fn forget(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        if u.arbitrary()? {
            let scaler = pointer(u, &raw mut memory.scaler)?;
            let code = memory.call(|_| unsafe { adaloss_scaler_clear(scaler) });
            if code != ADALOSS_OK {
                return Ok(());
            }
            assert!(self.is_made && memory.scaler.opaque.iter().all(|&word| word == 0));
        } else {
            memory.scaler.opaque.fill(*u.choose(&[0, 0, 1, u64::MAX])?);
        }
        *self = Self::default();
        Ok(())
    }

    fn begin(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let scaler = &raw mut memory.scaler;
        if self.is_made && !self.is_open && u.ratio(1, 8)? {
            // What is written over a cell is noticed, where it is no cell.
            let (id, before) = (u.int_in_range(0..=CELLS - 1)?, memory.cells);
            match u.int_in_range(0..=2)? {
                0 => memory.cells[id].trigger = u.arbitrary()?,
                1 => memory.cells[id].scale_log2 = u.arbitrary()?,
                _ => memory.cells[id].memory[u.int_in_range(0..=15)?] = u.arbitrary()?,
            }
            let code = memory.call(|_| unsafe { adaloss_scaler_begin(scaler) });
            assert!(code == ADALOSS_OK || code == ADALOSS_ERROR_CELL);
            memory.cells = before;
            if code == ADALOSS_OK {
                memory.succeeds(|_| unsafe { adaloss_scaler_abandon(scaler) });
            }
        }
        let code = memory.call(|_| unsafe { adaloss_scaler_begin(scaler) });
        let under_way = if self.is_open { ADALOSS_ERROR_STEP } else { ADALOSS_OK };
        assert_eq!(code, if self.is_made { under_way } else { ADALOSS_ERROR_NOT_INITIALISED });
        if code == ADALOSS_OK {
            self.is_open = true;
            if let Some((state, cells)) = &mut self.core {
                let _ = state.begin(cells);
            }
        }
        Ok(())
    }

    fn visit(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let kernel = match u.int_in_range(0..=15)? {
            0 => Kernel::Fails,
            1 => Kernel::Misuses,
            6 => Kernel::NarrowsNothing,
            2 | 3 => Kernel::SpoilsCounters {
                word: if u.arbitrary()? { u.arbitrary()? } else { u.int_in_range(0..=8)? },
                place: u.arbitrary()?,
                fails: u.arbitrary()?,
            },
            4 | 5 => Kernel::OnDevice,
            _ => Kernel::Narrows,
        };
        let device = if kernel == Kernel::OnDevice { Some(Device::new(u)?) } else { None };
        let (values, count) = (memory.values, u.int_in_range(0..=COUNT)?);
        let id = number(u, CELLS as u8)?.into();
        let visit = match u.int_in_range(0..=2)? {
            0 if id < 3 => Visit::Loss,
            0 => Visit::LossAt { id },
            1 => Visit::Layer { id, incoming: log2(u)? },
            _ => {
                let (scales, count) = branches(u, memory)?;
                Visit::Join { id, scales, count }
            }
        };
        let scaler = pointer(u, &raw mut memory.scaler)?;
        let (asks_for_nothing, to) =
            (u.ratio(1, 32)?, pointer(u, &raw mut memory.numbers[0])?.cast());
        let mut of = Context { kernel, values, count, elements: [0; COUNT], device, to };
        // Now and then what was left open before is gone on with.
        let opens = !(kernel == Kernel::Misuses && count % 2 == 1);
        if opens && !self.open(memory, scaler, &visit) {
            return Ok(());
        }
        self.describe(memory, opens);
        if asks_for_nothing {
            let scaler = &raw mut memory.scaler;
            let code = memory.visits(|_| unsafe { adaloss_scaler_next_pass(scaler, null_mut()) });
            assert_ne!(code, ADALOSS_OK);
            self.refused();
            return Ok(());
        }
        while let Some(pass) = self.next_pass(memory) {
            if !self.run(memory, &mut of, pass) {
                return Ok(());
            }
        }
        self.finish_visit(memory, to);
        Ok(())
    }

    /// Core's step under way, if it is known.
    pub(crate) fn step(&mut self) -> Option<Step<'_>> {
        self.core.as_mut().filter(|_| self.is_open).map(|(state, cells)| state.resume(cells))
    }

    /// A call for the visit that is open was refused: the step is not usable.
    fn refused(&mut self) {
        if let Some(mut step) = self.step()
            && let Some((place, cause)) = step.first_bad()
        {
            step.reject(place, cause);
        }
    }

    /// A visit was left, if one was open: whatever a kernel wrote, the histogram that is left is one.
    pub(crate) fn left(&mut self, memory: &mut Memory) {
        if self.lent.take().is_some() {
            let (scaler, mut found) = (&raw const memory.scaler, MaybeUninit::uninit());
            memory.succeeds(|_| unsafe { adaloss_scaler_histogram(scaler, found.as_mut_ptr()) });
            assert!(is_histogram(unsafe { found.assume_init_ref() }));
        }
    }

    /// Opens a visit; tells whether it is open.
    fn open(&mut self, memory: &mut Memory, scaler: *mut adaloss_scaler, visit: &Visit) -> bool {
        let code = memory.visits(|_| unsafe {
            match *visit {
                Visit::Loss => adaloss_scaler_loss(scaler),
                Visit::LossAt { id } => adaloss_scaler_loss_at(scaler, id),
                Visit::Layer { id, incoming } => adaloss_scaler_layer(scaler, id, incoming),
                Visit::Join { id, scales, count } => adaloss_scaler_join(scaler, id, scales, count),
            }
        });
        if scaler != &raw mut memory.scaler || !self.is_open {
            assert_ne!(code, ADALOSS_OK);
            return false;
        }
        self.left(memory);
        let Some(mut step) = self.step() else { return code == ADALOSS_OK };
        let scale = |log2| Scale::new(log2).expect("the library took it");
        let opened = match *visit {
            Visit::Loss => Ok(step.loss()),
            Visit::LossAt { id } => step.loss_at(id as usize),
            Visit::Layer { id, incoming } if code != ADALOSS_ERROR_SCALE => {
                step.layer(id as usize, scale(incoming))
            }
            Visit::Join { id, scales, count }
                if matches!(code, ADALOSS_OK | ADALOSS_ERROR_NO_CELL) =>
            {
                let scales = unsafe { slice::from_raw_parts(scales, count) };
                step.join_scales(id as usize, scales.iter().map(|&log2| scale(log2)))
            }
            Visit::Layer { id, .. } | Visit::Join { id, .. } => {
                // Refused before core would have heard of it, which leaves what was open all the same.
                assert_ne!(code, ADALOSS_OK);
                let _ = step.join_scales(id as usize, empty());
                return false;
            }
        };
        let expected = match opened {
            Ok(_) => ADALOSS_OK,
            Err(StepError::NoCell { .. }) => ADALOSS_ERROR_NO_CELL,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(code, expected);
        code == ADALOSS_OK
    }

    /// Describes the operands of the visit that is open, where they are wanted.
    fn describe(&mut self, memory: &mut Memory, is_at_visit: bool) {
        let (scaler, mut wants) = (&raw mut memory.scaler, 9);
        let code = memory.call(|_| unsafe { adaloss_scaler_wants_operands(scaler, &mut wants) });
        assert!(code == ADALOSS_OK || !is_at_visit);
        assert!(if code == ADALOSS_OK { wants < 2 } else { wants == 9 });
        if let Some(mut step) = self.step() {
            let expected = step.open_visit().map(|visit| visit.wants_operands().into());
            assert_eq!(expected.unwrap_or(9), wants);
        }
        if wants == 1 {
            self.describe_anyhow(memory);
        }
    }

    /// Describes operands, be they wanted or not: whatever is in memory.
    fn describe_anyhow(&mut self, memory: &mut Memory) {
        let scaler = &raw mut memory.scaler;
        let code = memory
            .visits(|of| unsafe { adaloss_scaler_describe(scaler, &raw const (*of).operands) });
        if code == ADALOSS_OK {
            // Policies that want them have no scaler of core's here.
            let wants = self.step().and_then(|mut step| Some(step.open_visit()?.wants_operands()));
            assert_ne!(wants, Some(true));
        } else {
            self.refused();
        }
    }

    /// Asks for the next pass.
    fn next_pass(&mut self, memory: &mut Memory) -> Option<*mut adaloss_pass> {
        let (scaler, mut pass) = (&raw mut memory.scaler, null_mut());
        let are_possible = self.lent.as_ref().is_none_or(|lent| unsafe { are_possible(lent) });
        let code = memory.visits(|_| unsafe { adaloss_scaler_next_pass(scaler, &mut pass) });
        assert_eq!(code == ADALOSS_OK, !pass.is_null());
        if !are_possible {
            assert!(matches!(code, ADALOSS_ERROR_OUTCOME | ADALOSS_ERROR_HISTOGRAM));
            self.refused();
            return None;
        }
        if self.lent.take().is_some() {
            // What was counted was possible, if made up: core was not told.
            assert!(matches!(code, ADALOSS_OK | ADALOSS_NONE));
            self.core = None;
        }
        let expected = self.expected(true);
        if let Some(mut step) = self.step() {
            let expected = step.open_visit().map_or(ADALOSS_ERROR_NO_VISIT, |mut visit| {
                visit.next_pass().map_or(ADALOSS_NONE, |_| ADALOSS_OK)
            });
            assert_eq!(code, expected);
        } else if !self.is_open {
            assert_eq!(code, expected);
        }
        (code == ADALOSS_OK).then_some(pass)
    }

    /// Runs the kernel in a pass; tells whether it succeeded, and otherwise leaves the visit.
    fn run(&mut self, memory: &mut Memory, of: &mut Context, pass: *mut adaloss_pass) -> bool {
        let values = &of.values[..of.count];
        match of.kernel {
            Kernel::NarrowsNothing => return true,
            Kernel::Fails => {
                if of.count % 2 == 1 {
                    self.finish_early(memory, of.to);
                }
                return false;
            }
            Kernel::OnDevice => {
                let (device, is_refused) =
                    (of.device.as_mut().expect("a device"), of.count % 4 == 3);
                let code = unsafe { device::pass(device, pass, values, is_refused) };
                if is_refused || code != ADALOSS_OK {
                    self.refused();
                }
                if device.has_erred && code == ADALOSS_OK {
                    // As above: what the device said was possible.
                    self.core = None;
                }
                self.at_pass(|pass| {
                    let _ = pass.counters();
                    if code == ADALOSS_OK {
                        narrow(values, pass);
                    }
                });
                return code == ADALOSS_OK;
            }
            Kernel::SpoilsCounters { word, place, fails } => {
                let request = request_of(pass);
                let outcome = request.outcome.cast::<u64>();
                unsafe { outcome.add(place % (size_of::<adaloss_outcome>() / 8)).write(word) };
                if !request.histogram.is_null() {
                    let words = size_of::<adaloss_histogram>() / 8;
                    // The first words twice as often as there are: they are not counts alone.
                    let place = if place % 2 == 0 { place / 2 % 4 } else { place / 2 % words };
                    unsafe { request.histogram.cast::<u64>().add(place).write(word) };
                }
                self.at_pass(|pass| same_pass(&request, pass));
                self.lent = Some(request);
                return !fails;
            }
            Kernel::Misuses => {
                self.describe_anyhow(memory);
                self.finish_early(memory, of.to);
                let code = unsafe { adaloss_apply_pass(pass, null(), COUNT, null_mut()) };
                assert_eq!(code, ADALOSS_ERROR_NULL);
            }
            Kernel::Narrows => {
                if of.count.is_multiple_of(3) {
                    let request = request_of(pass);
                    self.at_pass(|pass| same_pass(&request, pass));
                }
            }
        }
        let to = any(of.elements.as_mut_ptr());
        let code = unsafe { adaloss_apply_pass(pass, values.as_ptr(), of.count, to) };
        assert_eq!(code, ADALOSS_OK);
        self.at_pass(|pass| narrow(values, pass));
        true
    }

    /// Does the same in core's pass.
    fn at_pass(&mut self, function: impl FnOnce(&mut Pass<'_>)) {
        if let Some(mut step) = self.step() {
            let mut visit = step.open_visit().expect("the library has one");
            function(&mut visit.pass().expect("the library has one"));
        }
    }

    /// Finishes a visit that has passes left.
    fn finish_early(&mut self, memory: &mut Memory, to: *mut i32) {
        let scaler = &raw mut memory.scaler;
        let code = memory.visits(|_| unsafe { adaloss_scaler_finish_visit(scaler, to) });
        let is_place = !to.is_null() && to.is_aligned();
        assert!(code == ADALOSS_ERROR_UNFINISHED || !is_place && code != ADALOSS_OK);
        self.refused();
    }

    /// Finishes the visit that is open.
    fn finish_visit(&mut self, memory: &mut Memory, to: *mut i32) {
        let scaler = &raw mut memory.scaler;
        let code = memory.visits(|_| unsafe { adaloss_scaler_finish_visit(scaler, to) });
        if code != ADALOSS_OK {
            self.refused();
            return;
        }
        let over = unsafe { adaloss_apply_pass(scaler.cast(), null(), 0, null_mut()) };
        assert!(self.is_open && over == ADALOSS_ERROR_NO_PASS);
        if let Some(mut step) = self.step() {
            let visit = step.open_visit().expect("the library has one");
            let left = visit.finish(()).expect("the library finished it");
            assert_eq!(left.scale().log2(), unsafe { *to });
        }
    }

    /// Tells of what unscaling met, of something unusable, or of what other machines saw.
    fn note(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let scaler = &raw mut memory.scaler;
        let cell = u32::from(number(u, CELLS as u8)?);
        let (place, cause) = (place(u)?, u32::from(number(u, 7)?));
        let what = u.int_in_range(0..=4)?;
        let (met, [seen, _]) = (memory.met, memory.seen);
        let code = memory.call(|of| unsafe {
            match what {
                0 => adaloss_scaler_unscaled(scaler, cell, &raw const (*of).met),
                1 => adaloss_scaler_reject(scaler, place, cause),
                2 => adaloss_scaler_sums_overflowed(scaler, place),
                3 => adaloss_scaler_micro_batch(scaler, cause),
                _ => adaloss_scaler_set_seen(scaler, place, &raw const (*of).seen[0]),
            }
        });
        let (Some((state, cells)), ADALOSS_OK) = (&mut self.core, code) else { return Ok(()) };
        assert!(self.is_open);
        let mut step = state.resume(cells);
        let id = place.cell as usize;
        let place = || [Place::Loss, Place::Layer(id), Place::Weight(id)][place.kind as usize];
        match what {
            0 => {
                let adaloss_unscaled { elements, nonfinite, tiny } = met;
                step.unscaled(cell as usize, &Unscaled { elements, nonfinite, tiny });
            }
            1 => step.reject(place(), CAUSES[cause as usize - 1]),
            2 => step.sums_overflowed(place()),
            3 => step.micro_batch(cause),
            _ => {
                let adaloss_seen { ceiling, overflowed, sums_overflowed, visited } = seen;
                let [overflowed, sums_overflowed, visited] =
                    [overflowed, sums_overflowed, visited].map(|flag| flag == 1);
                let seen = Seen { ceiling, overflowed, sums_overflowed, visited };
                step.set_seen(place(), seen).expect("the library took it");
            }
        }
        Ok(())
    }

    fn end(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let scaler = &raw mut memory.scaler;
        if u.ratio(1, 4)? {
            let code = memory.call(|_| unsafe { adaloss_scaler_abandon(scaler) });
            assert_eq!(code, self.expected(true));
            self.is_open = false;
            self.left(memory);
            if let (Some((state, cells)), ADALOSS_OK) = (&mut self.core, code) {
                let mut step = state.resume(cells);
                for place in places() {
                    if step.seen(place) != Seen::NOTHING {
                        step.set_seen(place, Seen::NOTHING).expect("it was visited");
                    }
                }
            }
            return Ok(());
        }
        let verdict = pointer(u, &raw mut memory.verdict)?;
        if u.arbitrary()? {
            self.records(memory);
        }
        let code = memory.call(|_| unsafe { adaloss_scaler_finish(scaler, verdict) });
        if verdict.is_null() || !verdict.is_aligned() {
            assert_ne!(code, ADALOSS_OK);
            return Ok(());
        }
        assert_eq!(code, self.expected(true));
        self.is_open = false;
        self.left(memory);
        if let (Some((state, cells)), ADALOSS_OK) = (&mut self.core, code) {
            let verdict = state.resume(cells).finish();
            let found = (memory.verdict.kind, memory.verdict.cause);
            let number =
                |cause| 1 + CAUSES.iter().position(|&other| other == cause).unwrap() as u32;
            let expected = match verdict {
                Verdict::Apply => (0, 0),
                Verdict::Skip { cause, .. } => (1, number(cause)),
                Verdict::Stop { cause, .. } => (2, number(cause)),
            };
            assert_eq!(found, expected);
        }
        Ok(())
    }

    /// What the step leaves behind in every cell.
    fn records(&mut self, memory: &mut Memory) {
        for place in places() {
            let (kind, cell) = match place {
                Place::Layer(id) => (1, id as u32),
                _ => (0, 0),
            };
            let there = adaloss_place { kind, cell };
            let (scaler, mut left) = (&raw const memory.scaler, MaybeUninit::uninit());
            let code =
                memory.call(|_| unsafe { adaloss_scaler_record(scaler, there, left.as_mut_ptr()) });
            let found = (code == ADALOSS_OK).then(|| unsafe { left.assume_init() });
            assert!(found.is_some() || code == ADALOSS_NONE || code == self.expected(true));
            if let Some(found) = found {
                assert!((-126..=126).contains(&found.scale_log2));
                assert!(found.flags < 4 && found.reserved == 0);
            }
            if let Some(step) = self.step() {
                let bytes = |of: adaloss_record| (of.ceiling, of.flags, of.scale_log2);
                let expected = step.record(place).map(|of| (of.ceiling, of.flags, of.scale_log2));
                assert_eq!(found.map(bytes), expected);
            }
        }
    }

    /// Reads what can be read.
    fn look(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let scaler = &raw const memory.scaler;
        match u.int_in_range(0..=5)? {
            0 => {
                let visit = pointer(u, &raw mut memory.visit)?;
                memory.call(|_| unsafe { adaloss_scaler_last(scaler, visit) });
            }
            4 => {
                let (cause, found) = (
                    pointer(u, &raw mut memory.numbers[0])?.cast(),
                    pointer(u, &raw mut memory.numbers[1])?.cast(),
                );
                let code = memory
                    .call(|_| unsafe { adaloss_scaler_first_bad(scaler.cast_mut(), found, cause) });
                if let Some(step) = self.step()
                    && matches!(code, ADALOSS_OK | ADALOSS_NONE)
                {
                    let expected = step.first_bad().map(|(_, cause)| cause);
                    let found = (code == ADALOSS_OK).then(|| memory.numbers[0] as u32 as usize - 1);
                    assert_eq!(found.map(|cause| CAUSES[cause]), expected);
                }
            }
            5 => {
                let place = place(u)?;
                let code = memory.call(|of| unsafe {
                    adaloss_scaler_seen(scaler, place, &raw mut (*of).seen[0])
                });
                if let (Some((state, cells)), ADALOSS_OK, 0..=1) =
                    (&mut self.core, code, place.kind)
                {
                    let id = place.cell as usize;
                    let expected = state
                        .resume(cells)
                        .seen([Place::Loss, Place::Layer(id)][place.kind as usize]);
                    let found = memory.seen[0];
                    assert_eq!(
                        (found.ceiling, found.visited != 0),
                        (expected.ceiling, expected.visited)
                    );
                    assert_eq!(
                        (found.overflowed != 0, found.sums_overflowed != 0),
                        (expected.overflowed, expected.sums_overflowed)
                    );
                }
            }
            1 => {
                let (place, cell) = (place(u)?, pointer(u, &raw mut memory.cell)?);
                memory.call(|_| unsafe { adaloss_scaler_cell(scaler, place, cell) });
            }
            2 => {
                let totals = pointer(u, &raw mut memory.totals)?;
                memory.call(|_| unsafe { adaloss_scaler_totals(scaler, totals) });
            }
            _ => {
                let code = memory.call(|of| unsafe {
                    adaloss_scaler_histogram(scaler, &raw mut (*of).histograms[0])
                });
                let lent = self.lent.map_or(ADALOSS_OK, |_| ADALOSS_ERROR_UNFINISHED);
                assert_eq!(code, if self.is_made { lent } else { self.expected(false) });
                if code == ADALOSS_OK {
                    // Whatever kernels did to it, it is a histogram.
                    memory.succeeds(|of| unsafe {
                        let place = (&raw mut (*of).numbers[0]).cast();
                        adaloss_statistics_histogram_overflow(
                            &raw const (*of).histograms[0],
                            0,
                            place,
                        )
                    });
                }
            }
        }
        Ok(())
    }

    /// Saves, and restores what was saved, or something else.
    fn checkpoint(&mut self, u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
        let scaler = &raw mut memory.scaler;
        let bytes = if u.ratio(1, 8)? { u.int_in_range(0..=BYTES)? } else { BYTES };
        let to = pointer(u, &raw mut memory.checkpoint)?;
        // Bytes may lie anywhere, but there has to be memory for them.
        let to = if to.is_aligned() { to.cast::<u8>() } else { null_mut() };
        if u.arbitrary()? {
            let code = memory.call(|_| unsafe { adaloss_scaler_save(scaler, any(to), bytes) });
            assert!(code != ADALOSS_OK || (self.is_made && !self.is_open && bytes == BYTES));
            if let (Some((state, cells)), ADALOSS_OK) = (&self.core, code) {
                let mut expected = [0; BYTES];
                state.save(cells, &mut expected).expect("it fits");
                assert_eq!(unsafe { slice::from_raw_parts(to, BYTES) }, expected);
            }
            return Ok(());
        }
        let saved = unsafe { slice::from_raw_parts((&raw const memory.checkpoint).cast(), BYTES) };
        let damaged = damage(u, saved)?;
        let length = damaged.len();
        let code = memory
            .call(|_| unsafe { adaloss_scaler_restore(scaler, damaged.as_ptr().cast(), length) });
        if code == ADALOSS_OK {
            assert!(self.is_made && !self.is_open);
            if let Some((state, cells)) = &mut self.core {
                let restored = State::restore(*state.config(), &damaged, cells);
                *state = restored.expect("the library took it");
            }
        }
        Ok(())
    }

    /// The library's scaler and core's have the same scales and memories.
    fn agrees(&self, memory: &mut Memory) {
        let mut digest = 0;
        let code = memory
            .call(|of| unsafe { adaloss_scaler_digest(&raw const (*of).scaler, &mut digest) });
        assert_eq!(code, self.expected(false));
        if let Some((state, cells)) = &self.core {
            assert_eq!(digest, state.digest(cells));
        }
    }
}
