//! The memory of one decision: what a policy keeps between two visits of a tensor.

use super::Trigger;
use crate::scale::Scale;

/// How many maxima the `amax` policy keeps.
pub(super) const MAXIMA: usize = 12;

/// One tensor's loss scale and all that its policy remembers.
///
/// 32 bytes, no pointer, every byte defined: a cell lives in a microcontroller's RAM, in a GPU's
/// memory and in a checkpoint alike.  The same fields serve every policy; each says which it uses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Cell {
    /// `backoff`: the scale as a real number; `normal` and `range`: the factor before its bounds.
    pub(super) real: f64,
    /// Visits since the last decision; `backoff`: clean steps since the scale last changed.
    pub(super) age: u32,
    pub(super) scale: Scale,
    pub(super) trigger: Trigger,
    pub(super) flags: u8,
    /// `amax`: the ceilings of the largest magnitudes, one per slot of visits; `i8::MAX` is empty.
    pub(super) ceilings: [i8; MAXIMA],
    pub(super) slot: u8,
    pub(super) reserved: u8,
    /// `amax`: visits that went into the slot at hand.
    pub(super) in_slot: u16,
}

const _: () = assert!(size_of::<Cell>() == Cell::BYTES);

/// The scale was decided at least once; `backoff`: at least one step was bad.
pub(super) const CALIBRATED: u8 = 1;
/// The last decision promised that at most the tolerated share underflows.
pub(super) const PROMISED: u8 = 2;

impl Cell {
    /// The size in memory and in a checkpoint.
    pub const BYTES: usize = 32;

    /// Makes a cell that decides at its first visit.
    pub const fn new() -> Self {
        Self::at(Scale::ONE)
    }

    /// Makes a cell that carries `scale` until it decides, at its first visit.
    pub const fn at(scale: Scale) -> Self {
        Self {
            real: 1.0,
            age: 0,
            scale,
            trigger: Trigger::First,
            flags: 0,
            ceilings: [i8::MAX; MAXIMA],
            slot: 0,
            reserved: 0,
            in_slot: 0,
        }
    }

    /// Returns the scale of the last decision, absolute.
    pub const fn scale(&self) -> Scale {
        self.scale
    }

    /// Returns the real number behind the scale: the scale of `backoff` before it is floored to a
    /// power of two, or the factor of `normal` and `range` before its bounds; 1 for other policies.
    pub const fn real_scale(&self) -> f64 {
        self.real
    }

    /// Returns the number of visits since the last decision; under `backoff`, of clean steps
    /// since the scale last changed.
    pub const fn age(&self) -> u32 {
        self.age
    }

    /// Returns what makes the cell decide at its next visit, before its period is over.
    pub const fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// Tells whether the scale was ever decided from data.
    pub const fn is_calibrated(&self) -> bool {
        self.flags & CALIBRATED != 0
    }

    /// Writes the cell in the byte order of a checkpoint, little endian.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..8].copy_from_slice(&self.real.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.age.to_le_bytes());
        bytes[12..14].copy_from_slice(&(self.scale.log2() as i16).to_le_bytes());
        bytes[14] = self.trigger as u8;
        bytes[15] = self.flags;
        for (byte, ceiling) in bytes[16..28].iter_mut().zip(self.ceilings) {
            *byte = ceiling as u8;
        }
        bytes[28] = self.slot;
        bytes[29] = self.reserved;
        bytes[30..32].copy_from_slice(&self.in_slot.to_le_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` where no cell has these bytes.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [r0, r1, r2, r3, r4, r5, r6, r7, a0, a1, a2, a3, k0, k1, trigger, flags, rest @ ..] =
            *bytes;
        let [ceilings @ .., slot, reserved, n0, n1] = rest;
        let real = f64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]);
        let legal = real.is_finite()
            && real > 0.0
            && usize::from(slot) < MAXIMA
            && flags & !(CALIBRATED | PROMISED) == 0
            && reserved == 0;
        legal.then_some(())?;
        Some(Self {
            real,
            age: u32::from_le_bytes([a0, a1, a2, a3]),
            scale: Scale::new(i32::from(i16::from_le_bytes([k0, k1]))).ok()?,
            trigger: Trigger::from_u8(trigger)?,
            flags,
            ceilings: ceilings.map(|byte: u8| byte as i8),
            slot,
            reserved,
            in_slot: u16::from_le_bytes([n0, n1]),
        })
    }

    /// Takes the outcome of a decision: the scale counts as new from the next visit on.
    pub(super) fn decided(&mut self, scale: Scale, flags: u8) {
        self.scale = scale;
        self.age = 0;
        self.trigger = Trigger::None;
        self.flags = CALIBRATED | flags;
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::new()
    }
}
