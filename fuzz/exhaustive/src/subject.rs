//! The code under test, as a parameter.

use adaloss_core::{
    apply::Apply,
    format::{Element, Format, Narrowed, Narrowing, Shifts},
    propagate::{Scaled, shifted},
    scale::{Scale, Shift},
    statistics::{Histogram, Outcome},
    unscale::{Unscaled, unscale},
};

/// What is checked: [`Core`], or in a test something that differs from it in one method.
pub trait Subject: Sync {
    /// Widens a bit pattern to f32.
    #[inline(always)]
    fn widen(&self, format: Format, bits: u32) -> f32 {
        format.widen(bits)
    }

    /// Narrows one value.
    #[inline(always)]
    fn narrow(&self, narrowing: Narrowing, x: f32, shift_log2: i32, word: u32) -> Narrowed {
        narrowing.narrow(x, shift_log2, word)
    }

    /// Narrows a slice of elements that `apply` is for.
    #[inline(always)]
    fn slice<F: Element>(
        &self,
        apply: &Apply,
        from: &[f32],
        to: &mut [F],
        first: u64,
        outcome: &mut Outcome,
    ) {
        apply.slice(from, to, first, outcome).expect("one length, and the narrowing's encoding");
    }

    /// Returns the shifts at which a value lives.
    #[inline(always)]
    fn shifts(&self, narrowing: Narrowing, x: f32) -> Option<Shifts> {
        narrowing.shifts(x)
    }

    /// Counts values that carry a scale.
    fn observe(&self, histogram: &mut Histogram, values: &[f32], incoming: Scale) {
        histogram.observe(values, incoming);
    }

    /// Unscales a gradient into f32.
    fn unscale<F: Element>(
        &self,
        format: Format,
        gradient: Scaled<&[F]>,
        to: &mut [f32],
    ) -> Unscaled {
        unscale(format, gradient, to).expect("one length")
    }

    /// Shifts a value in f32, as a join does.
    #[inline(always)]
    fn shifted(&self, x: f32, shift: Shift) -> f32 {
        shifted(x, shift)
    }
}

/// The code of `adaloss_core`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Core;

impl Subject for Core {}
