//! Delayed scaling from a window of maxima, the baseline that FP8 readers expect.

use super::{Cell, Certificate, ConfigError, Rule, cell::MAXIMA};
use crate::{scale::Scale, statistics::Histogram};

/// Parameters of the `amax` policy, Transformer Engine's delayed scaling with a power of two.
///
/// The scale is the greatest at which the largest magnitude of the last `window` visits does not
/// overflow, lowered by `margin` binades.  (Micikevicius et al. 2022; the `DelayedScaling` recipe
/// of NVIDIA's Transformer Engine with `amax_compute_algo="max"`.)
///
/// A cell keeps twelve maxima.  A longer window is kept as slots of equal length, each with its
/// maximum, so that a maximum is never forgotten early and at most two slots late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Amax {
    /// How many visits a maximum is remembered.
    pub window: u16,
    /// Binades left free below overflow.
    pub margin: u8,
}

impl Amax {
    /// A window of 1024 visits and no margin: what Transformer Engine does by default.
    pub const DELAYED_SCALING: Self = Self { window: 1024, margin: 0 };

    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        if self.window == 0 {
            return Err(ConfigError::NoWindow);
        }
        ConfigError::headroom(self.margin)
    }

    /// Returns the visits of one slot: all but the one being filled have to cover the window.
    fn slot_length(&self) -> u16 {
        (self.window - 1).div_ceil(MAXIMA as u16 - 1).max(1)
    }

    /// Remembers the ceiling of the largest magnitude of one visit.
    pub(super) fn remember(&self, ceiling: i32, cell: &mut Cell) {
        let ceiling = ceiling.clamp(-127, 126) as i8;
        if cell.in_slot >= self.slot_length() {
            cell.slot = (cell.slot + 1) % MAXIMA as u8;
            cell.in_slot = 0;
        }
        let slot = &mut cell.ceilings[usize::from(cell.slot) % MAXIMA];
        *slot = if cell.in_slot == 0 { ceiling } else { ceiling.min(*slot) };
        cell.in_slot += 1;
    }

    pub(super) fn decide(
        &self,
        histogram: &Histogram,
        cell: &mut Cell,
        mut certificate: Certificate,
    ) -> Certificate {
        // The tensor at hand counts as well: it is narrowed with what is decided here.
        let now = histogram.greatest_scale().map_or(-127, Scale::log2);
        let slots = usize::from((self.window - 1).div_ceil(self.slot_length())) + 1;
        let remembered = (1..=slots)
            .map(|back| cell.ceilings[(usize::from(cell.slot) + 1 + MAXIMA - back) % MAXIMA]);
        let ceiling = remembered.map(i32::from).fold(now, i32::min);
        certificate.rule = Rule::Amax;
        certificate.scale = Scale::saturating(ceiling - i32::from(self.margin));
        cell.decided(certificate.scale, 0);
        certificate.expecting(histogram)
    }
}
