//! Tensors of a step, drawn at random.

use adaloss_core::{propagate::shifted, scale::Scale};

use crate::values;

/// The most elements of a tensor.
pub(super) const MOST: usize = 96;

/// The f32 results of one visit, as a function of their place.
#[derive(Clone, Copy)]
pub(super) struct Drawn {
    stream: u32,
    pub(super) elements: usize,
    center: i32,
    spread: i32,
    /// Whether f32 subnormals are numbers like any other on the device.
    subnormals: bool,
}

impl Drawn {
    /// Draws a tensor of so many elements: its centre drifts from visit to visit, and jumps now and then.
    pub(super) fn new(stream: u32, visit: u32, elements: usize, subnormals: bool) -> Self {
        let pick = values::word(stream, visit as usize);
        let drift = (values::word(stream ^ 0xffff, visit as usize / 6) % 46) as i32 - 40;
        let (center, spread) = match pick % 128 {
            0..5 => (i32::MIN, 0),
            5 => (i32::MAX, 10),
            6 => (0, 120),
            7..16 => (drift, 60),
            16..30 => (drift, 2),
            30 => (drift + 40, 4),
            _ => (drift, 8),
        };
        Self { stream: stream << 16 | visit, elements, center, spread, subnormals }
    }

    /// Returns an element as the tensor has it that carries no scale.
    fn unscaled(&self, index: usize) -> f32 {
        match self.center {
            i32::MIN => 0.0,
            i32::MAX if index == self.elements / 2 => f32::NEG_INFINITY,
            i32::MAX => values::random(self.stream, index, -self.spread, self.spread),
            center => {
                let low = (center - self.spread).max(-149);
                values::random(self.stream, index, low, (center + self.spread).clamp(low, 127))
            }
        }
    }

    /// Returns an element as an operation computes it from values that carry a scale.
    pub(super) fn value(&self, index: usize, incoming: Scale) -> f32 {
        let x = shifted(self.unscaled(index), incoming / Scale::ONE);
        if x.is_subnormal() && !self.subnormals { 0.0 } else { x }
    }
}
