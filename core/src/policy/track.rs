//! What `measured` and `amax` have in common: they follow the largest magnitude of each step.
//!
//! The *ceiling* of a visit is the greatest scale at which its largest magnitude does not overflow.  A
//! step's ceiling is the least over its visits.  The scale is fixed from the beginning of a step to its
//! end, so that micro-batches, shared weights and any number of machines decide alike.

use super::{
    Cell, Config,
    cell::{CALIBRATED, NOTHING, OVERFLOWED, Seen, VISITED},
};
use crate::{format::Encoding, scale::Scale, statistics::Outcome};

/// In a format with f32's range, values may be this far below the top of the range before they are
/// scaled up: the largest magnitude is then at 2^-100.
const DEPTH: i32 = 127 + 100;

/// What one step of one cell left behind: enough to [`repeat`] its decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Record {
    /// The step's ceiling, as in [`Seen::ceiling`].
    pub ceiling: i8,
    /// Bit 0: a visit overflowed; bit 1: sums in f32 overflowed.
    pub flags: u8,
    /// The exponent of the scale that the cell had in the step.
    pub scale_log2: i8,
    /// Always zero.
    pub reserved: u8,
}

impl Record {
    const fn new(seen: Seen, scale: Scale) -> Self {
        let flags = seen.overflowed as u8 | (seen.sums_overflowed as u8) << 1;
        let scale_log2 = scale.log2() as i8;
        Self { ceiling: seen.ceiling, flags, scale_log2, reserved: 0 }
    }

    /// Returns what the tensor showed.
    pub const fn seen(self) -> Seen {
        Seen {
            ceiling: self.ceiling,
            overflowed: self.flags & 1 != 0,
            sums_overflowed: self.flags & 2 != 0,
            visited: true,
        }
    }
}

/// Takes a cell through a step that left a record: a new cell of the same configuration, taken through all
/// records of a run, has its scales again.
///
/// The scale of a first visit follows from that visit alone and is taken from the record.  Returns whether the
/// cell had the scale that the record names, as it has where nothing is missing before it.  Policies that do not
/// follow maxima leave no records, and nothing happens.
///
/// # Examples
///
/// ```
/// use adaloss_core::{
///     format::{Format, f16}, policy::{Config, repeat}, scaler::LossScaler, unscale::Place,
/// };
/// let config = Config::for_format(Format::BINARY16);
/// let mut scaler = LossScaler::<1>::new(config);
/// let mut records = Vec::new();
/// for gradient in [2.0e-8_f32, 3.0e-6, 5.0e-2, 1.0e-7] {
///     let mut step = scaler.begin();
///     step.loss().apply(&[gradient], &mut [f16::ZERO])?;
///     records.extend(step.record(Place::Loss));
///     let _ = step.finish();
/// }
/// let mut cell = config.cell();
/// assert!(records.iter().all(|record| repeat(&config, record, &mut cell)));
/// assert_eq!(Some(cell.scale()), scaler.cell(Place::Loss).map(|cell| cell.scale()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn repeat(config: &Config, record: &Record, cell: &mut Cell) -> bool {
    let scale = Scale::saturating(record.scale_log2.into());
    if !config.policy().follows_maxima() {
        return cell.scale == scale;
    }
    if cell.has_no_memory() {
        cell.scale = scale;
    }
    let is_same = cell.scale == scale;
    cell.set_seen(record.seen());
    finish(config, cell);
    is_same
}

/// Returns the ceiling as a cell keeps it: in one byte, which loses nothing.
///
/// Beyond the byte lie ceilings that no legal scale reaches.  In a format with f32's range, ceilings
/// from 0 to 276 matter, so 150 is subtracted: below 23 every scale but 2^0 and less is out of the question,
/// and a largest magnitude whose ceiling is below 0 would not be finite when it is unscaled.
fn kept(encoding: Encoding, ceiling: i32) -> i8 {
    (ceiling - offset(encoding)).clamp(-127, 126) as i8
}

const fn offset(encoding: Encoding) -> i32 {
    if is_wide(encoding) { 150 } else { 0 }
}

/// Tells whether a format has f32's range.
const fn is_wide(encoding: Encoding) -> bool {
    encoding.max_log2() >= Encoding::Binary32.max_log2()
}

/// Returns the scale for a greatest scale that a policy allows, given as a ceiling is kept.
///
/// In a format with f32's range, nothing is near either end of it: the scale is the one nearest to 2^0
/// at which the largest magnitude is at 2^-100 or above.
fn placed(encoding: Encoding, greatest: i32) -> Scale {
    let greatest = greatest + offset(encoding);
    Scale::saturating(if is_wide(encoding) {
        0.max(greatest - DEPTH).min(greatest)
    } else {
        greatest
    })
}

/// Takes note of a visit; returns the scale to narrow at once more, if that is needed.
///
/// At the first visit with a finite nonzero value the cell gets its first scale.
pub(super) fn note(
    config: &Config,
    outcome: &Outcome,
    incoming: Scale,
    cell: &mut Cell,
) -> Option<Scale> {
    cell.flags |= VISITED;
    let narrowing = config.narrowing();
    // Non-finite values come of sums that overflowed, and so may the finite ones next to them.
    let shifts = narrowing.shifts(outcome.max_abs()).filter(|_| outcome.nonfinite == 0)?;
    let ceiling = shifts.greatest + incoming.log2();
    let encoding = narrowing.format.encoding;
    let kept = kept(encoding, ceiling);
    cell.seen = cell.seen.min(kept);
    if cell.flags & CALIBRATED == 0 {
        cell.flags |= CALIBRATED;
        let before = cell.scale;
        let headroom = config.policy().first_headroom();
        cell.scale = placed(encoding, i32::from(kept) - i32::from(headroom));
        let scale = Scale::saturating(ceiling.min(cell.scale.log2()));
        return Some(scale).filter(|&scale| scale != before);
    }
    if outcome.overflow == 0 {
        return None;
    }
    cell.flags |= OVERFLOWED;
    if config.replays() { Scale::new(ceiling.min(Scale::MAX.log2())).ok() } else { None }
}

/// Ends a step of a cell: what it showed is remembered, and the scale of the next step is decided.
pub(super) fn finish(config: &Config, cell: &mut Cell) -> Record {
    let seen = cell.take_seen();
    let record = Record::new(seen, cell.scale);
    if !seen.visited || !config.policy().follows_maxima() {
        return record;
    }
    cell.grow_older();
    cell.limit.finish(seen.sums_overflowed, cell.scale, &mut cell.trial);
    if seen.ceiling != NOTHING {
        // Another machine may have seen the first values of all.
        cell.flags |= CALIBRATED;
        let greatest = config.policy().greatest_log2(config, seen, cell);
        cell.scale = placed(config.narrowing().format.encoding, greatest);
    }
    cell.scale = cell.scale.min(cell.limit.scale());
    record
}
