//! The usual dynamic loss scaling: one scale for the whole model, by trial and error.

use super::{Cell, ConfigError, cell::CALIBRATED};
use crate::scale::Scale;

/// Parameters of the `backoff` policy.
///
/// After `interval` clean steps in a row the scale is multiplied by `growth`; a step with a
/// non-finite gradient is skipped and the scale multiplied by `shrink`.  Where overflow saturates, a
/// saturated step is used and the scale shrinks all the same.  The real-valued scale is
/// kept in f64, as Chainer keeps it, and moved by IEEE multiplications that are the same on every
/// platform; what is applied is its greatest power of two.  PyTorch keeps an f32: the same number
/// while the factors are powers of two.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Backoff {
    /// The scale to begin with.
    pub initial: f64,
    /// The factor after `interval` clean steps.
    pub growth: f64,
    /// The factor after each clean step before the first bad one; 1 for no such warm-up.
    pub warm_up: f64,
    /// The factor after a step that was not clean.
    pub shrink: f64,
    /// The least scale.
    pub floor: f64,
    /// The greatest scale.
    pub cap: f64,
    /// Clean steps in a row between two growths.
    pub interval: u32,
}

impl Backoff {
    /// PyTorch's `GradScaler` with its defaults: 65536, doubled after 2000 clean steps, halved.
    ///
    /// PyTorch knows no floor and no cap; here they are the legal scales.
    pub const GRAD_SCALER: Self = Self {
        initial: 65536.0,
        growth: 2.0,
        warm_up: 1.0,
        shrink: 0.5,
        floor: Scale::MIN.factor() as f64,
        cap: Scale::MAX.factor() as f64,
        interval: 2000,
    };

    /// Chainer's dynamic scaling: from 1, doubled after every step until the first bad one, then
    /// multiplied by `2^(1/interval)` after every clean step; between 1 and 65504.
    ///
    /// # Errors
    ///
    /// The interval is zero.
    pub fn chainer(interval: u32) -> Result<Self, ConfigError> {
        if interval == 0 {
            return Err(ConfigError::NoInterval);
        }
        Ok(Self {
            initial: 1.0,
            growth: libm::pow(2.0, 1.0 / f64::from(interval)),
            warm_up: 2.0,
            floor: 1.0,
            cap: 65504.0,
            interval: 1,
            ..Self::GRAD_SCALER
        })
    }

    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        if self.interval == 0 {
            return Err(ConfigError::NoInterval);
        }
        // Written so that NaN fails every comparison.
        let legal = self.floor >= Scale::MIN.factor() as f64
            && self.floor <= self.initial
            && self.initial <= self.cap
            && self.cap <= Scale::MAX.factor() as f64;
        if !legal {
            return Err(ConfigError::ScaleBounds);
        }
        let shrinks = self.shrink > 0.0 && self.shrink < 1.0;
        let grows = self.growth >= 1.0 && self.warm_up >= 1.0;
        if !(shrinks && grows && self.growth.is_finite() && self.warm_up.is_finite()) {
            return Err(ConfigError::Factors);
        }
        Ok(())
    }

    /// Returns the cell of a new training run.
    pub(super) fn start(&self) -> Cell {
        let mut cell = Cell::at(floor_scale(self.initial));
        cell.set_real(self.initial);
        cell
    }

    /// Tells whether a cell can be one of this policy's.
    pub(super) fn could_remember(&self, cell: &Cell) -> bool {
        let real = cell.real_scale();
        (self.floor..=self.cap).contains(&real) && cell.scale == floor_scale(real)
    }

    /// Moves the scale after a step.
    pub(super) fn step(&self, clean: bool, cell: &mut Cell) {
        let mut real = cell.real_scale();
        if clean {
            cell.age = cell.age.saturating_add(1);
            let warming_up = cell.flags & CALIBRATED == 0 && self.warm_up > 1.0;
            if warming_up {
                real *= self.warm_up;
                cell.age = 0;
            } else if cell.age >= self.interval {
                real *= self.growth;
                cell.age = 0;
            }
        } else {
            real *= self.shrink;
            cell.age = 0;
            cell.flags |= CALIBRATED;
        }
        // Not `clamp`, which would panic if the bounds were out of order; they were checked.
        real = real.max(self.floor).min(self.cap);
        cell.set_real(real);
        cell.scale = floor_scale(real);
    }
}

/// Returns the greatest legal power of two that is not above a positive finite factor.
pub(super) fn floor_scale(factor: f64) -> Scale {
    Scale::saturating(floor_log2(factor))
}

/// Returns `floor(log2(x))` of a positive finite number, from its exponent field; -1023 of a
/// subnormal, which is as far below every scale.
pub(super) fn floor_log2(x: f64) -> i32 {
    (x.to_bits() >> 52) as i32 - 1023
}
