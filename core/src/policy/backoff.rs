//! The usual dynamic loss scaling: one scale for the whole model, by trial and error.

use super::{
    Cell, ConfigError, Fraction, Rule,
    cell::CALIBRATED,
    config::Writer,
    recipe::{Basis, Description, Recipe},
};
use crate::{format::Format, scale::Scale};

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

    pub(super) const fn tolerance(&self) -> Option<Fraction> {
        None
    }
}

impl Recipe for Backoff {
    const DESCRIPTION: Description =
        Description { name: "backoff", number: 1, basis: Basis::WholeModel, rule: Rule::Unused };

    /// PyTorch's.
    fn usual(_: Format) -> Option<Self> {
        Some(Self::GRAD_SCALER)
    }

    fn write(&self, to: &mut Writer) {
        let Self { initial, growth, warm_up, shrink, floor, cap, interval } = self;
        for real in [initial, growth, warm_up, shrink, floor, cap] {
            to.put(&real.to_le_bytes());
        }
        to.put(&interval.to_le_bytes());
    }

    fn cell(&self) -> Cell {
        let mut cell = Cell::new();
        Growth { real_scale: self.initial, clean_steps: 0, has_shrunk: false }.write(&mut cell);
        cell
    }

    fn could_remember(&self, cell: &Cell) -> bool {
        let real = Growth::of(cell).real_scale;
        (self.floor..=self.cap).contains(&real) && cell.scale == floor_scale(real)
    }

    fn step(&self, clean: bool, cell: &mut Cell) {
        let Growth { real_scale: mut real, mut clean_steps, mut has_shrunk } = Growth::of(cell);
        if clean {
            clean_steps = clean_steps.saturating_add(1);
            let warming_up = !has_shrunk && self.warm_up > 1.0;
            if warming_up {
                real *= self.warm_up;
                clean_steps = 0;
            } else if clean_steps >= self.interval {
                real *= self.growth;
                clean_steps = 0;
            }
        } else {
            real *= self.shrink;
            clean_steps = 0;
            has_shrunk = true;
        }
        // Not `clamp`, which would panic if the bounds were out of order; they were checked.
        let real_scale = real.max(self.floor).min(self.cap);
        Growth { real_scale, clean_steps, has_shrunk }.write(cell);
    }
}

/// What a cell of `backoff` remembers; of a cell of another policy, numbers without a meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The scale before it is floored to a power of two.
    pub real_scale: f64,
    /// Clean steps in a row since it last changed (`_growth_tracker` of PyTorch's `GradScaler`).
    pub clean_steps: u32,
    /// Whether a step was not clean so far, which ends the warm-up.
    pub has_shrunk: bool,
}

impl Growth {
    /// Reads a cell.
    pub const fn of(cell: &Cell) -> Self {
        let has_shrunk = cell.flags & CALIBRATED != 0;
        Self { real_scale: cell.real(), clean_steps: cell.age, has_shrunk }
    }

    fn write(self, cell: &mut Cell) {
        cell.set_real(self.real_scale);
        cell.scale = floor_scale(self.real_scale);
        cell.age = self.clean_steps;
        cell.flags |= if self.has_shrunk { CALIBRATED } else { 0 };
    }
}

/// Returns the greatest legal power of two that is not above a positive finite factor.
fn floor_scale(factor: f64) -> Scale {
    Scale::saturating(floor_log2(factor))
}

/// Returns `floor(log2(x))` of a positive finite number, from its exponent field; -1023 of a
/// subnormal, which is as far below every scale.
pub(super) fn floor_log2(x: f64) -> i32 {
    (x.to_bits() >> 52) as i32 - 1023
}
