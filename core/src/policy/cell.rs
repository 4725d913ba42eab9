//! The memory of one tensor: its scale, and what a policy keeps between two steps.

use super::{Config, Trigger};
use crate::scale::Scale;

/// One tensor's loss scale and all that its policy remembers.
///
/// 28 bytes, no pointer, every byte defined: a cell lives in a microcontroller's RAM, in a GPU's
/// memory and in a checkpoint alike.  What its memory means is the policy's: [`Growth`](super::Growth) is what
/// `backoff` sees in a cell, [`Factor`](super::Factor) what `normal` and `range` see; `measured` and `amax` see the
/// ceilings of their last steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cell {
    /// What the policy at hand remembers; its view has the layout.
    pub(super) memory: [u8; MEMORY],
    /// How much of the period is over, or of the interval between two growths.
    pub(super) age: u32,
    pub(super) scale: Scale,
    /// The scale that sums of this tensor's values in f32 bear, in 1/128 binade; see [`Limit`].
    pub(super) limit: Limit,
    pub(super) trigger: Trigger,
    pub(super) flags: u8,
    /// The least ceiling of the step under way; [`NOTHING`] where none was seen.
    pub(super) seen: i8,
    /// How the limit moved before; see [`Limit`].
    pub(super) trial: Trial,
}

const _: () = assert!(size_of::<Cell>() == Cell::BYTES);

/// Bytes that a policy may call its own.
pub(super) const MEMORY: usize = 16;

/// The memory of a new cell: the real number one.
const NEW: [u8; MEMORY] = memory_of_real(1.0);

/// Lays a real number out as memory.
const fn memory_of_real(real: f64) -> [u8; MEMORY] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = real.to_le_bytes();
    [r0, r1, r2, r3, r4, r5, r6, r7, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The ceiling of a step in which no finite nonzero value was seen, and of an unused place in a memory.
pub(super) const NOTHING: i8 = i8::MAX;

/// The scale was decided from data at least once; under `backoff`, by a step that was not clean.
pub(super) const CALIBRATED: u8 = 1;
/// The last certificate promised that at most the tolerated share underflows.
pub(super) const PROMISED: u8 = 2;
/// A visit of the step under way overflowed at the scale that the cell had chosen.
pub(super) const OVERFLOWED: u8 = 4;
/// Sums in f32 of the step under way overflowed, and this cell's values did not.
pub(super) const SUMS_OVERFLOWED: u8 = 8;
/// The tensor was visited in the step under way.
pub(super) const VISITED: u8 = 16;

/// `measured` and `amax`: `memory` holds what steps showed.
const REMEMBERS: u8 = 32;

/// The flags that last from one step to the next.
const LASTING: u8 = CALIBRATED | PROMISED | REMEMBERS;
const FLAGS: u8 = LASTING | OVERFLOWED | SUMS_OVERFLOWED | VISITED;

/// What a tensor showed in one step: all that a decision of `measured` or `amax` depends on.
///
/// Machines that share a step merge theirs before they finish it, in any order, and decide alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Seen {
    /// The least over the visits of the greatest scale at which a visit's largest magnitude does not
    /// overflow, as the cell keeps it; 127 where there was no finite nonzero value.
    pub ceiling: i8,
    /// Whether a visit overflowed.
    pub overflowed: bool,
    /// Whether sums in f32 overflowed although the tensor itself was finite.
    pub sums_overflowed: bool,
    /// Whether there was a visit.
    pub visited: bool,
}

impl Seen {
    /// What a tensor shows that was not visited, the identity of [`merge`](Self::merge).
    pub const NOTHING: Self =
        Self { ceiling: NOTHING, overflowed: false, sums_overflowed: false, visited: false };

    /// Adds what another micro-batch or another machine saw in the same step.
    pub const fn merge(&mut self, other: &Self) {
        if other.ceiling < self.ceiling {
            self.ceiling = other.ceiling;
        }
        self.overflowed |= other.overflowed;
        self.sums_overflowed |= other.sums_overflowed;
        self.visited |= other.visited;
    }
}

/// The greatest scale at which sums of a tensor's values stay within f32, as far as that is known.
///
/// A weight gradient, or the input gradient of the next layer, is a sum in f32 of products with this
/// tensor's values; it overflows at a scale at which the tensor itself is far from overflow.  How far
/// above f32 the sum was is not known, so the limit is found by trial: 4 binades down at such a step, 8 at the
/// next if it is one as well, then 16, then 32.
///
/// The scale need not be the cause: an infinity or NaN may come of weights or activations, for some steps, whatever the scale
/// is.  So the limit climbs back as fast as it fell, by 1, 2, 4 and 8 binades from step to step, until it is gone or sums
/// overflow again; then it is what it was before the last climb, and is taken for known.  From there it creeps up
/// by 1/32 binade a step, falls by 4 binades at an overflow, and creeps up again.
///
/// # Examples
///
/// A cell at 2^20 whose sums fit at 2^10; a star where they overflow.
///
/// | step | 1* | 2* | 3 | 4 | 5* | 6 | ... | 38 | ... | 70* | 71 |
/// |---|---|---|---|---|---|---|---|---|---|---|---|
/// | limit | | 16 | 8 | 9 | 11 | 9 | | 10 | | 11 | 7 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Limit(i16);

/// How a [`Limit`] moved in the steps before, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Trial(u8);

impl Trial {
    /// Steps in a row, up to the last one, in which sums overflowed.
    const FALLS: u8 = 0b111;
    /// Climbs in a row since then, of 1, 2, 4 and 8 binades.
    const CLIMBS: u8 = 0b111_000;
    /// The limit is known: a climb was one too many.
    const KNOWN: u8 = 0b100_0000;
    /// Falls, and climbs, from which on each is as large as the last one.
    const MOST: u8 = 4;

    const fn new(falls: u8, climbs: u8, is_known: bool) -> Self {
        Self(falls | climbs << 3 | (is_known as u8) << 6)
    }

    const fn falls(self) -> u8 {
        self.0 & Self::FALLS
    }

    const fn climbs(self) -> u8 {
        (self.0 & Self::CLIMBS) >> 3
    }

    const fn is_known(self) -> bool {
        self.0 & Self::KNOWN != 0
    }

    const fn is_possible(self) -> bool {
        self.0 & !(Self::FALLS | Self::CLIMBS | Self::KNOWN) == 0
            && self.falls() <= Self::MOST
            && self.climbs() <= Self::MOST
            && (self.falls() == 0 || self.climbs() == 0)
    }
}

impl Limit {
    const STEPS: i16 = 128;
    const STEPS_UP: i16 = 4;
    const BINADES_DOWN: i32 = 4;
    pub(super) const NONE: Self = Self(Self::STEPS * Scale::MAX.log2() as i16);

    /// Moves the limit at the end of a step whose scale was `scale`.
    pub(super) fn finish(&mut self, sums_overflowed: bool, scale: Scale, trial: &mut Trial) {
        let (falls, climbs) = (trial.falls(), trial.climbs());
        // A scale that fitted before the last climb is not lowered by it.
        let before = Self(self.0 - if climbs > 0 { Self::climb(climbs - 1) } else { 0 });
        if sums_overflowed && climbs > 0 && scale > before.scale() {
            *self = before;
            *trial = Trial::new(0, 0, true);
        } else if sums_overflowed {
            let lower = scale.log2() - (Self::BINADES_DOWN << falls.min(Trial::MOST - 1));
            self.0 = Self::STEPS * Scale::saturating(lower).log2() as i16;
            *trial = Trial::new((falls + 1).min(Trial::MOST), 0, trial.is_known());
        } else if climbs > 0 || falls > 1 || falls == 1 && !trial.is_known() {
            self.0 = self.0.saturating_add(Self::climb(climbs)).min(Self::NONE.0);
            let is_gone = self.0 == Self::NONE.0;
            *trial = if is_gone {
                Trial::default()
            } else {
                Trial::new(0, (climbs + 1).min(Trial::MOST), false)
            };
        } else {
            self.0 = (self.0 + Self::STEPS_UP).min(Self::NONE.0);
            *trial = Trial::new(0, 0, trial.is_known() && self.0 < Self::NONE.0);
        }
    }

    /// Returns how far the next climb goes, after so many.
    const fn climb(climbs: u8) -> i16 {
        let doublings = if climbs < Trial::MOST { climbs } else { Trial::MOST - 1 };
        Self::STEPS << doublings
    }

    pub(super) const fn scale(self) -> Scale {
        Scale::saturating((self.0 >> 7) as i32)
    }

    const fn is_possible(self) -> bool {
        -Self::NONE.0 <= self.0 && self.0 <= Self::NONE.0
    }
}

impl Cell {
    /// The size in memory and in a checkpoint.
    pub const BYTES: usize = 28;

    /// Makes a cell that decides at its first visit.
    pub const fn new() -> Self {
        Self::at(Scale::ONE)
    }

    /// Makes a cell that carries `scale` until it decides, at its first visit.
    pub const fn at(scale: Scale) -> Self {
        Self {
            memory: NEW,
            age: 0,
            scale,
            limit: Limit::NONE,
            trigger: Trigger::First,
            flags: 0,
            seen: NOTHING,
            trial: Trial(0),
        }
    }

    /// Returns the scale of the last decision, absolute.
    pub const fn scale(&self) -> Scale {
        self.scale
    }

    /// Returns the memory of a policy that keeps one real number there.
    pub(super) const fn real(&self) -> f64 {
        let [r0, r1, r2, r3, r4, r5, r6, r7, ..] = self.memory;
        f64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7])
    }

    pub(super) const fn set_real(&mut self, real: f64) {
        self.memory = memory_of_real(real);
    }

    /// Returns how much of the period is over: of `measured` and `amax`, the steps since the last certificate; of
    /// `normal` and `range`, the visits since the last decision.
    ///
    /// The policies for whole models have no period; see [`Growth`](super::Growth).
    pub const fn age(&self) -> u32 {
        self.age
    }

    /// Returns what makes a cell of `normal` or `range` decide at its next visit, or one of `measured`
    /// or `amax` leave a certificate, before its period is over.
    pub const fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// Tells whether the scale was ever decided from data.
    pub const fn is_calibrated(&self) -> bool {
        self.flags & CALIBRATED != 0
    }

    /// Tells whether the last certificate promised that at most the tolerated share underflows.
    pub const fn is_promised(&self) -> bool {
        self.flags & PROMISED != 0
    }

    /// Returns what the tensor showed in the step under way.
    pub const fn seen(&self) -> Seen {
        Seen {
            ceiling: self.seen,
            overflowed: self.flags & OVERFLOWED != 0,
            sums_overflowed: self.flags & SUMS_OVERFLOWED != 0,
            visited: self.flags & VISITED != 0,
        }
    }

    /// Takes what the tensor showed on all machines in the step under way, instead of what it showed here.
    pub const fn set_seen(&mut self, seen: Seen) {
        let Seen { ceiling, overflowed, sums_overflowed, visited } = seen;
        self.seen = ceiling;
        self.flags &= LASTING;
        self.flags |= (OVERFLOWED * overflowed as u8)
            | (SUMS_OVERFLOWED * sums_overflowed as u8)
            | (VISITED * visited as u8);
    }

    /// Takes note that sums in f32 of this tensor's values overflowed although the values are finite:
    /// the cell's scale is lower in the next step.
    ///
    /// [`Step`](crate::scaler::Step) does this itself, for the tensor that a gradient came from.
    pub const fn sums_overflowed(&mut self) {
        self.flags |= SUMS_OVERFLOWED;
    }

    /// Returns the scale of the first visit, which is a rank's own until a step with it is finished.
    pub(crate) const fn first_scale(&self) -> Option<Scale> {
        if self.has_no_memory() && self.is_calibrated() { Some(self.scale) } else { None }
    }

    /// Takes the first scale that ranks agreed on; a cell that finished a step with one keeps its scale.
    pub(crate) const fn settle_first_scale(&mut self, scale: Scale) {
        if self.has_no_memory() {
            self.scale = scale;
            self.flags |= CALIBRATED;
        }
    }

    /// Returns all that the next steps' scales follow from and no visit moves: what has to be the same on every rank.
    ///
    /// Under `measured` and `amax` a rank's own visits move when a certificate is due, what the last one promised, and
    /// the first scale.
    pub(crate) const fn deciding(&self, follows_maxima: bool) -> [u64; 4] {
        let [low @ .., _, _, _, _, _, _, _, _] = self.memory;
        let [_, _, _, _, _, _, _, _, high @ ..] = self.memory;
        let (scale, flags, period) = if !follows_maxima {
            let period = self.age as u64 | (self.trigger as u64) << 32;
            (self.scale, self.flags & LASTING, period)
        } else if self.has_no_memory() {
            (Scale::ONE, 0, 0)
        } else {
            (self.scale, self.flags & (CALIBRATED | REMEMBERS), 0)
        };
        let scale = scale.log2() as i16 as u16 as u64;
        let limit = self.limit.0 as u16 as u64;
        let small = scale | limit << 16 | (flags as u64) << 32 | (self.trial.0 as u64) << 40;
        [u64::from_le_bytes(low), u64::from_le_bytes(high), small, period]
    }

    /// Writes the cell in the byte order of a checkpoint, little endian.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..16].copy_from_slice(&self.memory);
        bytes[16..20].copy_from_slice(&self.age.to_le_bytes());
        bytes[20..22].copy_from_slice(&(self.scale.log2() as i16).to_le_bytes());
        bytes[22..24].copy_from_slice(&self.limit.0.to_le_bytes());
        bytes[24] = self.trigger as u8;
        bytes[25] = self.flags;
        bytes[26] = self.seen as u8;
        bytes[27] = self.trial.0;
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` where no cell has these bytes.
    ///
    /// Whether a policy can have left them is for [`is_possible`](Self::is_possible) to say.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (memory, rest) = bytes.split_first_chunk()?;
        let &[a0, a1, a2, a3, k0, k1, l0, l1, trigger, flags, seen, trial] = rest else {
            return None;
        };
        let limit = Limit(i16::from_le_bytes([l0, l1]));
        let trial = Trial(trial);
        let legal = flags & !FLAGS == 0 && trial.is_possible() && limit.is_possible();
        legal.then_some(())?;
        Some(Self {
            memory: *memory,
            age: u32::from_le_bytes([a0, a1, a2, a3]),
            scale: Scale::new(i32::from(i16::from_le_bytes([k0, k1]))).ok()?,
            limit,
            trigger: Trigger::from_u8(trigger)?,
            flags,
            seen: seen as i8,
            trial,
        })
    }

    /// Tells whether a run with this configuration can have left this cell.
    pub fn is_possible(&self, config: &Config) -> bool {
        let policy = config.policy();
        if policy.follows_maxima() && self.has_no_memory() {
            return self.has_memory(NEW);
        }
        policy.could_remember(self)
    }

    /// Tells whether no step left anything in `memory` yet.
    pub(super) const fn has_no_memory(&self) -> bool {
        self.flags & REMEMBERS == 0
    }

    /// Tells whether this is what is remembered: compared as one number, without a call.
    pub(super) const fn has_memory(&self, memory: [u8; MEMORY]) -> bool {
        u128::from_le_bytes(self.memory) == u128::from_le_bytes(memory)
    }

    pub(super) const fn remember(&mut self, memory: [u8; MEMORY]) {
        self.memory = memory;
        self.flags |= REMEMBERS;
    }

    /// Returns what the step under way showed and forgets it.
    pub(super) const fn take_seen(&mut self) -> Seen {
        let seen = self.seen();
        self.set_seen(Seen::NOTHING);
        seen
    }

    /// Takes note that a step or a visit of the period is over.
    pub(super) const fn grow_older(&mut self) {
        self.age = self.age.saturating_add(1);
    }

    /// Takes the outcome of a decision: the scale counts as new from the next visit on.
    pub(super) fn decided(&mut self, scale: Scale) {
        self.scale = scale;
        self.age = 0;
        self.trigger = Trigger::None;
        self.flags |= CALIBRATED;
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::new()
    }
}
