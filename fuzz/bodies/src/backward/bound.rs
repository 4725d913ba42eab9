//! The same derivatives in f64, each with a bound on what the scaled path may be off.
//!
//! Let `v` be a derivative, and `e` how far its f32 result may be off already.  Written at the scale
//! `2^K` in a format with precision `p`, smallest number `2^s` and smallest normal number `2^m`, it is
//! off by at most
//!
//! ```text
//! e + u (|v| + e) + a    u = 2^-p to nearest, 2^(1-p) else     a = 2^(s-1-K) to nearest, 2^(s-K) else;
//!                                                              2^(m-K) where the format flushes
//! ```
//!
//! A sum of `n` terms `t` in f32, each off by `e_t`, that carries `2^k` is off by at most the sum of
//! `e_t`, plus `n` times [`UNIT`] of the sum of `|t| + e_t`, plus `n 2^-k` times [`TINY`] (Higham,
//! "Accuracy and Stability of Numerical Algorithms", section 3.1; the two are what the conformance
//! suite leaves to a device).  Unscaling adds [`TINY`].  A scale
//! that is too small shows in `a`, one that is too large overflows: nothing behind an overflow or a
//! non-finite value is bounded.

use std::collections::VecDeque;

use adaloss_conformance::{TINY, UNIT};
use adaloss_core::{
    format::{Element, Rounding, Subnormals},
    policy::Config,
    scale::Scale,
    scaler::Visit,
};
use adaloss_oracle::{Limits, pow2, tolerance::WEIGHT_GRADIENT};

use super::network::{Arithmetic, Linear};

/// A derivative, unscaled, and how far the scaled path may be off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    value: f64,
    error: f64,
}

/// A gradient between two layers.
pub(super) struct Gradient {
    elements: Vec<Near>,
    /// The scale it carries on the device.
    scale: Scale,
}

/// The backward pass in f64, along the visits that a device made.
pub(super) struct Bound {
    config: Config,
    visits: VecDeque<Visit>,
    weight_gradients: Vec<Vec<Near>>,
}

impl Bound {
    pub(super) fn new(config: &Config, visits: Vec<Visit>) -> Self {
        Self { config: *config, visits: visits.into(), weight_gradients: Vec::new() }
    }

    /// Compares what a device computed.
    pub(super) fn check(&self, found: &[Vec<f32>]) {
        assert!(self.visits.is_empty());
        assert_eq!(found.len(), self.weight_gradients.len());
        for (nth, (found, exact)) in found.iter().zip(&self.weight_gradients).enumerate() {
            assert_eq!(found.len(), exact.len());
            for (&found, near) in found.iter().zip(exact) {
                let error = f64::from(found) - near.value;
                let is_near = WEIGHT_GRADIENT.allows_of(error, near.error);
                // Unscaled, a derivative may be too large for f32: then it is said to be.
                let leaves_f32 = near.value.abs() + near.error >= f64::from(f32::MAX);
                assert!(
                    is_near || leaves_f32 || !near.error.is_finite(),
                    "weight gradient {nth} in backward order: {found:e}, not {near:?}, {:?}",
                    self.config
                );
            }
        }
    }

    /// Takes results into the format, as the device's next visit did.
    fn narrow(&mut self, results: Vec<Near>) -> Gradient {
        let visit = self.visits.pop_front().expect("the device went the same way");
        let scale = visit.outgoing;
        let is_bounded = visit.outcome.overflow + visit.outcome.nonfinite == 0;
        let narrow = |near| if is_bounded { self.narrowed(near, scale) } else { Near::UNKNOWN };
        Gradient { elements: results.into_iter().map(narrow).collect(), scale }
    }

    fn narrowed(&self, near: Near, scale: Scale) -> Near {
        let narrowing = self.config.narrowing();
        let limits = Limits::of(narrowing.format.encoding);
        let steps = if narrowing.rounding == Rounding::NearestEven { 0.5 } else { 1.0 };
        let unit = pow2(1 - narrowing.format.encoding.precision() as i32) * steps;
        let least = match narrowing.format.subnormals {
            Subnormals::Gradual => limits.smallest * steps,
            Subnormals::Flush => limits.smallest_normal,
        };
        let error = near.error + unit * (near.value.abs() + near.error);
        Near { error: error + least * pow2(-scale.log2()), ..near }
    }
}

impl Near {
    const UNKNOWN: Self = Self { value: 0.0, error: f64::INFINITY };

    fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }
    }

    fn times(self, factor: f64) -> Self {
        // Zero times an unknown number is unknown: the number may be infinite.
        Self { value: self.value * factor, error: self.error * factor.abs() }
    }

    /// A sum in f32 of terms that carry a scale.
    fn sum(terms: impl Iterator<Item = Self>, scale: Scale) -> Self {
        let (mut sum, mut magnitude, mut count) = (Self::exact(0.0), 0.0, 0.0);
        for term in terms {
            sum.value += term.value;
            sum.error += term.error;
            magnitude += term.value.abs() + term.error;
            count += 1.0;
        }
        if magnitude * pow2(scale.log2()) >= f64::from(f32::MAX) {
            return Self::UNKNOWN; // a partial sum may leave f32, which the verdict then says
        }
        let rounding = count * (UNIT * magnitude + TINY * pow2(-scale.log2()));
        Self { error: sum.error + rounding, ..sum }
    }
}

impl<G: Element> Arithmetic<G> for Bound {
    type Loss = [f32];
    type Gradient = Gradient;

    fn loss(&mut self, gradient: &[f32]) -> Gradient {
        self.narrow(gradient.iter().map(|&x| Near::exact(x.into())).collect())
    }

    fn weight(&mut self, layer: &Linear<G>, gradient: &Gradient) {
        let &Linear { batch, outputs, inputs, .. } = layer;
        let element = |output: usize, input: usize| {
            let terms = (0..batch).map(|row| {
                let x = layer.input[row * inputs + input].widen();
                gradient.elements[row * outputs + output].times(x.into())
            });
            let sum = Near::sum(terms, gradient.scale);
            Near { error: sum.error + TINY, ..sum }
        };
        let rows = (0..outputs).flat_map(|output| (0..inputs).map(move |input| (output, input)));
        let elements = rows.map(|(output, input)| element(output, input)).collect();
        self.weight_gradients.push(elements);
    }

    fn input(&mut self, layer: &Linear<G>, gradient: &Gradient) -> Gradient {
        let &Linear { batch, outputs, inputs, .. } = layer;
        let element = |row: usize, input: usize| {
            let terms = (0..outputs).map(|output| {
                let w = layer.weight[output * inputs + input].widen();
                gradient.elements[row * outputs + output].times(w.into())
            });
            Near::sum(terms, gradient.scale)
        };
        let places = (0..batch).flat_map(|row| (0..inputs).map(move |input| (row, input)));
        let results = places.map(|(row, input)| element(row, input)).collect();
        self.narrow(results)
    }

    fn join(&mut self, _id: usize, branches: [&Gradient; 2]) -> Gradient {
        let [one, other] = branches;
        let common = one.scale.min(other.scale);
        let pairs = one.elements.iter().zip(&other.elements);
        let results = pairs.map(|(&a, &b)| Near::sum([a, b].into_iter(), common)).collect();
        self.narrow(results)
    }
}
