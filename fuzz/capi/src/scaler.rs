//! The life of a scaler: calls in any order, and beside them a scaler of core's that lives alike.

use std::{ffi::c_void, iter::once, ptr::null_mut, slice};

use adaloss::*;
use adaloss_core::{
    apply::Pass,
    format::{E4M3, E5M2, Element, Encoding, Format, Overflow, Subnormals, bf16, f16},
    policy::{Amax, Cell, Config, Policy, Seen},
    propagate::Scaled,
    scale::Scale,
    scaler::{State, StepError},
    unscale::{Cause, Place, Unscaled, Verdict},
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
    is_open: bool,
    /// The scaler of core's, as long as everything that happened is known to both.
    core: Option<(State, [Cell; CELLS])>,
}

/// What a pass function does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Narrows,
    NarrowsNothing,
    Fails,
    CallsTheScaler,
    SpoilsCounters { word: u64, place: usize, fails: bool },
    OnDevice,
}

/// What the pass function is given.
struct Context {
    kernel: Kernel,
    values: [f32; COUNT],
    count: usize,
    elements: [u32; COUNT],
    scaler: *mut adaloss_scaler,
    kept: *mut adaloss_pass,
    device: Option<Device>,
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

const FAILED: adaloss_code = ADALOSS_USER + 7;

const NO_TOTALS: adaloss_totals =
    adaloss_totals { steps: 0, skipped: 0, recovered: 0, certificates: 0, broken: 0 };

/// Counts a record, which has to be of a tensor that there is.
unsafe extern "C" fn count_record(
    context: *mut c_void,
    place: adaloss_place,
    record: *const adaloss_record,
) {
    let (count, record) = unsafe { (&mut *context.cast::<usize>(), *record) };
    assert!(place.kind < 2 && (place.cell as usize) < CELLS);
    assert!((-126..=126).contains(&record.scale_log2) && record.flags < 4 && record.reserved == 0);
    *count += 1;
}

/// Every tensor of a scaler.
fn places() -> impl Iterator<Item = Place> {
    once(Place::Loss).chain((0..CELLS).map(Place::Layer))
}

unsafe extern "C" fn pass(context: *mut c_void, pass: *mut adaloss_pass) -> adaloss_code {
    unsafe {
        let of = &mut *context.cast::<Context>();
        of.kept = pass;
        match of.kernel {
            Kernel::Narrows => {}
            Kernel::NarrowsNothing => return ADALOSS_OK,
            Kernel::Fails => return FAILED,
            Kernel::OnDevice => {
                let device = of.device.as_mut().expect("a device");
                return device::pass(device, pass, &of.values[..of.count]);
            }
            Kernel::CallsTheScaler => {
                let (mut totals, mut digest) = (NO_TOTALS, 0);
                for code in [
                    adaloss_scaler_begin(of.scaler),
                    adaloss_scaler_abandon(of.scaler),
                    adaloss_scaler_clear(of.scaler),
                    adaloss_scaler_totals(of.scaler, &mut totals),
                    adaloss_scaler_digest(of.scaler, &mut digest),
                ] {
                    assert_eq!(code, ADALOSS_ERROR_BUSY);
                }
            }
            Kernel::SpoilsCounters { word, place, fails } => {
                let mut request = std::mem::MaybeUninit::uninit();
                assert_eq!(adaloss_apply_request(pass, request.as_mut_ptr()), ADALOSS_OK);
                let request: adaloss_request = request.assume_init();
                let outcome = request.outcome.cast::<u64>();
                outcome.add(place % (size_of::<adaloss_outcome>() / 8)).write(word);
                if !request.histogram.is_null() {
                    let words = size_of::<adaloss_histogram>() / 8;
                    // The first words twice as often as there are: they are not counts alone.
                    let place = if place % 2 == 0 { place / 2 % 4 } else { place / 2 % words };
                    request.histogram.cast::<u64>().add(place).write(word);
                }
                return if fails { FAILED } else { ADALOSS_OK };
            }
        }
        adaloss_apply_pass(pass, of.values.as_ptr(), of.count, any(of.elements.as_mut_ptr()))
    }
}

/// The same with core, where nothing goes wrong.
fn narrow(values: &[f32], pass: &mut Pass<'_>) -> std::result::Result<(), ()> {
    fn into<F: Element>(values: &[f32], pass: &mut Pass<'_>) -> std::result::Result<(), ()> {
        pass.apply(values, &mut vec![F::from_bits(0); values.len()]).map_err(drop)
    }
    match pass.narrowing().format.encoding {
        Encoding::Binary16 => into::<f16>(values, pass),
        Encoding::BFloat16 => into::<bf16>(values, pass),
        Encoding::E5M2 => into::<E5M2>(values, pass),
        Encoding::E4M3 => into::<E4M3>(values, pass),
        Encoding::Binary32 => into::<f32>(values, pass),
    }
}

/// A visit, as the library and core are asked for it.
enum Visit {
    Loss,
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
            12 | 13 => self.look(u, memory)?,
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
            *self = Self { is_made: true, is_open: false, core };
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
            1 => Kernel::CallsTheScaler,
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
        let mut context = Context {
            kernel,
            values: memory.values,
            count: u.int_in_range(0..=COUNT)?,
            elements: [0; COUNT],
            scaler: &raw mut memory.scaler,
            kept: null_mut(),
            device,
        };
        let id = number(u, CELLS as u8)?.into();
        let visit = match u.int_in_range(0..=2)? {
            0 => Visit::Loss,
            1 => Visit::Layer { id, incoming: log2(u)? },
            _ => {
                let (scales, count) = branches(u, memory)?;
                Visit::Join { id, scales, count }
            }
        };
        let scaler = pointer(u, &raw mut memory.scaler)?;
        let (function, to) = (
            if u.ratio(1, 32)? { None } else { Some(pass as _) },
            pointer(u, &raw mut memory.numbers[0])?.cast(),
        );
        let given = any(&raw mut context);
        let (cells, number) = (memory.cells, memory.numbers[0]);
        let code = memory.call_and_write(|_| unsafe {
            match visit {
                Visit::Loss => adaloss_scaler_loss(scaler, None, function, given, to),
                Visit::Layer { id, incoming } => {
                    adaloss_scaler_layer(scaler, id, incoming, None, function, given, to)
                }
                Visit::Join { id, scales, count } => {
                    adaloss_scaler_join(scaler, id, scales, count, function, given, to)
                }
            }
        });
        if !context.kept.is_null() {
            let over = unsafe { adaloss_apply_pass(context.kept, null_mut(), 0, null_mut()) };
            assert_eq!(over, ADALOSS_ERROR_NO_PASS);
            assert!(self.is_open);
        }
        let has_run = !context.kept.is_null();
        if code == ADALOSS_OK {
            assert!(kernel != Kernel::Fails && has_run);
        } else {
            assert!(memory.cells == cells && memory.numbers[0] == number, "{code}: {kernel:?}");
        }
        let is_spoilt = context.device.as_ref().is_some_and(|device| device.has_erred)
            || matches!(kernel, Kernel::SpoilsCounters { .. });
        if is_spoilt && code == ADALOSS_OK {
            // What it counted was possible, if made up: core was not told.
            self.core = None;
        }
        let is_refused = code != ADALOSS_OK && !has_run;
        if let Some((state, cells)) = &mut self.core
            && is_refused
            && self.is_open
            && scaler == &raw mut memory.scaler
        {
            let place = match visit {
                Visit::Loss => Place::Loss,
                Visit::Layer { id, .. } | Visit::Join { id, .. } => Place::Layer(id as usize),
            };
            state.resume(cells).reject(place, Cause::Failed);
        }
        let Some((state, cells)) = self.core.as_mut().filter(|_| has_run) else { return Ok(()) };
        let values = &context.values[..context.count];
        let run = |pass: &mut Pass<'_>| match code {
            ADALOSS_OK if kernel == Kernel::NarrowsNothing => Ok(()),
            ADALOSS_OK => narrow(values, pass),
            _ => Err(()),
        };
        let (mut step, scale) =
            (state.resume(cells), |log2| Scale::new(log2).expect("the library took it"));
        let left = match visit {
            Visit::Loss => step.loss(&(), |(), pass| run(pass)),
            Visit::Layer { id, incoming } => {
                step.layer(id as usize, &Scaled::new((), scale(incoming)), |(), pass| run(pass))
            }
            Visit::Join { id, scales, count } => {
                let scales = unsafe { slice::from_raw_parts(scales, count) };
                step.join_scales(id as usize, scales.iter().map(|&log2| scale(log2)), run)
            }
        };
        match left {
            Ok(left) => assert_eq!(left.scale().log2(), memory.numbers[0] as i32),
            Err(error) => assert!(matches!(error, StepError::Pass(())) && code != ADALOSS_OK),
        }
        Ok(())
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
        let (with_records, mut records) = (u.arbitrary()?, 0_usize);
        let context = any(&raw mut records);
        let code = memory.call(|_| unsafe {
            if with_records {
                adaloss_scaler_finish_with(scaler, Some(count_record), context, verdict)
            } else {
                adaloss_scaler_finish(scaler, verdict)
            }
        });
        if verdict.is_null() || !verdict.is_aligned() {
            assert_ne!(code, ADALOSS_OK);
            return Ok(());
        }
        assert_eq!(code, self.expected(true));
        self.is_open = false;
        if let (Some((state, cells)), ADALOSS_OK) = (&mut self.core, code) {
            let mut left = 0;
            let verdict = state.resume(cells).finish_with(|_, _| left += 1);
            let found = (memory.verdict.kind, memory.verdict.cause);
            let number =
                |cause| 1 + CAUSES.iter().position(|&other| other == cause).unwrap() as u32;
            let expected = match verdict {
                Verdict::Apply => (0, 0),
                Verdict::Skip { cause, .. } => (1, number(cause)),
                Verdict::Stop { cause, .. } => (2, number(cause)),
            };
            assert_eq!(found, expected);
            assert_eq!(records, if with_records { left } else { 0 });
        }
        Ok(())
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
                memory
                    .call(|_| unsafe { adaloss_scaler_first_bad(scaler.cast_mut(), found, cause) });
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
                assert_eq!(code, self.expected(false));
                if code == ADALOSS_OK {
                    // Whatever passes did to it, it is a histogram.
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
