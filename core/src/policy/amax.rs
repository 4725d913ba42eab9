//! Delayed scaling from a window of maxima, the baseline that FP8 readers expect.

use super::{
    Cell, Config, ConfigError, Fraction, Rule,
    cell::{MEMORY, NOTHING, Seen},
    config::Writer,
    recipe::{Basis, Description, Recipe},
};
use crate::format::Format;

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

/// What a cell of this policy remembers, in 15 bytes: maxima, as the ceilings that they are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Maxima {
    /// The least ceiling of each slot; [`NOTHING`] in one that was never used.
    ceilings: [i8; SLOTS],
    /// The slot that is being filled.
    slot: u8,
    /// Steps that went into it.
    steps_in_slot: u16,
}

impl Maxima {
    const NEW: Self = Self { ceilings: [NOTHING; SLOTS], slot: 0, steps_in_slot: 0 };

    fn to_bytes(self) -> [u8; MEMORY] {
        let mut bytes = [0; MEMORY];
        for (byte, ceiling) in bytes.iter_mut().zip(self.ceilings) {
            *byte = ceiling as u8;
        }
        bytes[12] = self.slot;
        [bytes[13], bytes[14]] = self.steps_in_slot.to_le_bytes();
        bytes
    }

    fn from_bytes(bytes: [u8; MEMORY]) -> Self {
        let [ceilings @ .., slot, n0, n1, _] = bytes;
        Self {
            ceilings: ceilings.map(|byte: u8| byte as i8),
            slot: slot % SLOTS as u8,
            steps_in_slot: u16::from_le_bytes([n0, n1]),
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

    /// It promises nothing: certificates only count.
    pub(super) const fn tolerance(&self) -> Option<Fraction> {
        None
    }

    /// Returns the steps of one slot: all but the one being filled have to cover the window.
    fn slot_length(&self) -> u16 {
        (self.window - 1).div_ceil(SLOTS as u16 - 1).max(1)
    }
}

impl Recipe for Amax {
    const DESCRIPTION: Description =
        Description { name: "amax", number: 4, basis: Basis::Maxima, rule: Rule::Amax };

    /// Transformer Engine's.
    fn usual(_: Format) -> Option<Self> {
        Some(Self::DELAYED_SCALING)
    }

    fn write(&self, to: &mut Writer) {
        to.put(&[self.margin]);
        to.put(&self.window.to_le_bytes());
    }

    fn first_headroom(&self) -> u8 {
        self.margin
    }

    fn greatest_log2(&self, _: &Config, seen: Seen, cell: &mut Cell) -> i32 {
        let mut maxima =
            if cell.has_no_memory() { Maxima::NEW } else { Maxima::from_bytes(cell.memory) };
        if maxima.steps_in_slot >= self.slot_length() {
            maxima.slot = (maxima.slot + 1) % SLOTS as u8;
            maxima.steps_in_slot = 0;
        }
        let slot = &mut maxima.ceilings[usize::from(maxima.slot) % SLOTS];
        *slot = if maxima.steps_in_slot == 0 { seen.ceiling } else { seen.ceiling.min(*slot) };
        maxima.steps_in_slot += 1;

        let slots = usize::from((self.window - 1).div_ceil(self.slot_length())) + 1;
        let least = (1..=slots)
            .map(|back| maxima.ceilings[(usize::from(maxima.slot) + 1 + SLOTS - back) % SLOTS])
            .fold(seen.ceiling, i8::min);
        cell.remember(maxima.to_bytes());
        i32::from(least) - i32::from(self.margin)
    }

    fn could_remember(&self, cell: &Cell) -> bool {
        let maxima = Maxima::from_bytes(cell.memory);
        let has_steps = (1..=self.slot_length()).contains(&maxima.steps_in_slot);
        cell.has_memory(maxima.to_bytes()) && has_steps
    }
}
