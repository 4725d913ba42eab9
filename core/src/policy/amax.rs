//! Delayed scaling from a window of maxima, the baseline that FP8 readers expect.

use super::{
    Cell, Config, ConfigError,
    cell::{MEMORY, NOTHING, Seen},
    track::placed,
};
use crate::{format::Encoding, scale::Scale};

/// Parameters of the `amax` policy, Transformer Engine's delayed scaling with a power of two.
///
/// The scale is the greatest at which the largest magnitude of the last `window` steps does not
/// overflow, lowered by `margin` binades.  (Micikevicius et al. 2022; the `DelayedScaling` recipe
/// of NVIDIA's Transformer Engine with `amax_compute_algo="max"`.)
///
/// A cell keeps twelve maxima.  A longer window is kept as slots of equal length, each with its
/// maximum, so that a maximum is never forgotten early and at most two slots late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Amax {
    /// How many steps a maximum is remembered.
    pub window: u16,
    /// Binades left free below overflow.
    pub margin: u8,
}

/// How many maxima a cell keeps.
const SLOTS: usize = 12;

/// What a cell remembers: 15 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    /// The least ceiling of each slot; [`NOTHING`] in one that was never used.
    ceilings: [i8; SLOTS],
    slot: u8,
    /// Steps that went into the slot at hand.
    in_slot: u16,
}

impl Memory {
    const NEW: Self = Self { ceilings: [NOTHING; SLOTS], slot: 0, in_slot: 0 };

    fn to_bytes(self) -> [u8; MEMORY] {
        let mut bytes = [0; MEMORY];
        for (byte, ceiling) in bytes.iter_mut().zip(self.ceilings) {
            *byte = ceiling as u8;
        }
        bytes[12] = self.slot;
        [bytes[13], bytes[14]] = self.in_slot.to_le_bytes();
        bytes
    }

    fn from_bytes(bytes: [u8; MEMORY]) -> Self {
        let [ceilings @ .., slot, n0, n1, _] = bytes;
        Self {
            ceilings: ceilings.map(|byte: u8| byte as i8),
            slot: slot % SLOTS as u8,
            in_slot: u16::from_le_bytes([n0, n1]),
        }
    }
}

impl Amax {
    /// A window of 1024 steps and no margin: what Transformer Engine does by default.
    pub const DELAYED_SCALING: Self = Self { window: 1024, margin: 0 };

    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        if self.window == 0 {
            return Err(ConfigError::NoWindow);
        }
        ConfigError::headroom(self.margin)
    }

    /// Returns the steps of one slot: all but the one being filled have to cover the window.
    fn slot_length(&self) -> u16 {
        (self.window - 1).div_ceil(SLOTS as u16 - 1).max(1)
    }

    /// Returns the scale of a first visit.
    pub(super) fn first_scale(&self, encoding: Encoding, ceiling: i8) -> Scale {
        placed(encoding, i32::from(ceiling) - i32::from(self.margin))
    }

    /// Remembers a step's ceiling; returns the scale of the next step.
    pub(super) fn finish(&self, config: &Config, seen: Seen, cell: &mut Cell) -> Scale {
        let mut memory =
            if cell.has_no_memory() { Memory::NEW } else { Memory::from_bytes(cell.memory) };
        if memory.in_slot >= self.slot_length() {
            memory.slot = (memory.slot + 1) % SLOTS as u8;
            memory.in_slot = 0;
        }
        let slot = &mut memory.ceilings[usize::from(memory.slot) % SLOTS];
        *slot = if memory.in_slot == 0 { seen.ceiling } else { seen.ceiling.min(*slot) };
        memory.in_slot += 1;

        let slots = usize::from((self.window - 1).div_ceil(self.slot_length())) + 1;
        let least = (1..=slots)
            .map(|back| memory.ceilings[(usize::from(memory.slot) + 1 + SLOTS - back) % SLOTS])
            .fold(seen.ceiling, i8::min);
        cell.remember(memory.to_bytes());
        self.first_scale(config.narrowing().format.encoding, least)
    }

    /// Tells whether what a cell remembers can be this policy's.
    pub(super) fn could_remember(&self, cell: &Cell) -> bool {
        let memory = Memory::from_bytes(cell.memory);
        let in_slot = memory.in_slot;
        cell.has_memory(memory.to_bytes()) && (1..=self.slot_length()).contains(&in_slot)
    }
}
