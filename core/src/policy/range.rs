//! The authors' two other policies: exact extremes of the products instead of a model.
//!
//! Source: `get_loss_scale_by_abs_range` and `get_loss_scale_by_element_wise_range` of the
//! authors' `ada_loss` package.

use core::fmt;

use super::{
    Cell, ConfigError, Fraction, Operands, Rule,
    config::{Writer, extremes},
    operands::{Factor, scaled},
    recipe::{Basis, Description, Recipe},
};
use crate::{
    format::{Element, Format},
    scale::Scale,
    statistics::Statistics,
};

/// Parameters of the `range` policy.
///
/// Which of the authors' two forms is computed depends on the evidence: the extremes of the
/// operands ([`Operands::Product`], `abs_range`) or of the products themselves
/// ([`Operands::Terms`], `element_wise_range`).
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Range {
    /// The number that no product may be smaller than (`u_min`).
    pub smallest: f32,
    /// The number that no sum may exceed (`u_max`).
    pub largest: f32,
}

/// The smallest and largest nonzero magnitude among the products `g[n, k] w[k, m]`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Terms {
    /// The smallest magnitude of a product, rounded to f32; 0 where a product of nonzero operands
    /// underflows.
    pub min_abs: f32,
    /// The largest magnitude of a product, rounded to f32; 0 where every product has a zero operand.
    pub max_abs: f32,
    /// Non-finite operands.
    pub nonfinite: u64,
    /// The number of products in one sum.
    pub fan_in: u32,
    /// Always zero: the padding that C would add, so that every byte is defined.
    pub reserved: u32,
}

impl Terms {
    /// Computes the extremes of the products of a gradient of shape (rows, `inner`) and a weight of
    /// shape (`inner`, columns), both row-major; a convolution's gradient is laid out with one row
    /// per pixel.
    ///
    /// `fan_in` is the number of products in one sum of the input gradient: `inner` for a linear
    /// layer, times the kernel's area for a convolution.
    ///
    /// Rounding to f32 keeps the order of the products, so that the extremes of each inner index
    /// are products of extremes, and the work is that of reading both operands.
    ///
    /// # Errors
    ///
    /// A length is no multiple of `inner`, or `inner` is zero.
    pub fn of<A: Element, B: Element>(
        gradient: &[A],
        weight: &[B],
        inner: usize,
        fan_in: u32,
    ) -> Result<Self, ShapeError> {
        let error = ShapeError { gradient: gradient.len(), weight: weight.len(), inner };
        if inner == 0
            || !gradient.len().is_multiple_of(inner)
            || !weight.len().is_multiple_of(inner)
        {
            return Err(error);
        }
        let columns = weight.len() / inner;
        let mut terms =
            Self { min_abs: f32::INFINITY, max_abs: 0.0, nonfinite: 0, fan_in, reserved: 0 };
        for k in 0..inner {
            let mut g = Statistics::EMPTY;
            gradient.iter().skip(k).step_by(inner).for_each(|x| g.observe(x.widen()));
            let mut w = Statistics::EMPTY;
            weight.iter().skip(k * columns).take(columns).for_each(|x| w.observe(x.widen()));
            terms.nonfinite += g.nonfinite + w.nonfinite;
            if let (Some((g_min, g_max)), Some((w_min, w_max))) = (g.extremes(), w.extremes()) {
                terms.min_abs = terms.min_abs.min(g_min * w_min);
                terms.max_abs = terms.max_abs.max(g_max * w_max);
            }
        }
        if terms.max_abs == 0.0 && terms.min_abs.is_infinite() {
            terms.min_abs = 0.0;
        }
        Ok(terms)
    }
}

/// Operands that do not form a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeError {
    /// Elements of the gradient.
    pub gradient: usize,
    /// Elements of the weight.
    pub weight: usize,
    /// The inner dimension that was given.
    pub inner: usize,
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a gradient of {} and a weight of {} elements have no inner dimension of {}",
            self.gradient, self.weight, self.inner
        )
    }
}

impl core::error::Error for ShapeError {}

impl Range {
    /// Makes the policy for a format: its smallest positive and largest finite number.
    pub fn new(format: Format) -> Self {
        let (smallest, largest) = extremes(format);
        Self { smallest, largest }
    }

    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        // Written so that NaN fails every comparison.
        let legal = self.smallest > 0.0 && self.smallest < self.largest && self.largest.is_finite();
        if legal { Ok(()) } else { Err(ConfigError::Extremes) }
    }

    pub(super) const fn tolerance(&self) -> Option<Fraction> {
        None
    }

    /// Returns the factor that the extremes ask for; 1 where every product is zero.
    ///
    /// `None` where an operand has non-finite elements.
    pub fn factor(&self, operands: &Operands) -> Option<f32> {
        match operands {
            Operands::Product { gradient, weight, fan_in } => {
                if gradient.nonfinite + weight.nonfinite > 0 {
                    return None;
                }
                Some(self.product_factor(gradient.extremes(), weight.extremes(), *fan_in))
            }
            Operands::Cast(gradient) => (gradient.nonfinite == 0)
                .then(|| self.product_factor(gradient.extremes(), Some((1.0, 1.0)), 1)),
            Operands::LogCast(_) => None,
            Operands::Terms(terms) => (terms.nonfinite == 0).then(|| self.terms_factor(terms)),
        }
    }

    /// `abs_range`: both ends are divided by the fan-in.
    fn product_factor(
        &self,
        gradient: Option<(f32, f32)>,
        weight: Option<(f32, f32)>,
        fan_in: u32,
    ) -> f32 {
        let (Some((g_min, g_max)), Some((w_min, w_max))) = (gradient, weight) else {
            return 1.0;
        };
        let fan_in = f64::from(fan_in);
        // The authors' guard against products that underflow in f32.
        let min = f64::from(g_min * w_min).max(1e-15);
        let max = f64::from(g_max * w_max);
        let wanted = (f64::from(self.smallest) / fan_in / min).max(1.0);
        wanted.min(f64::from(self.largest) / fan_in / max) as f32
    }

    /// `element_wise_range`: only the upper end is divided by the fan-in.
    fn terms_factor(&self, terms: &Terms) -> f32 {
        if terms.max_abs == 0.0 {
            return 1.0;
        }
        let wanted = (self.smallest / terms.min_abs).max(1.0);
        wanted.min(self.largest / terms.max_abs / terms.fan_in as f32)
    }
}

impl Recipe for Range {
    const DESCRIPTION: Description =
        Description { name: "range", number: 3, basis: Basis::Operands, rule: Rule::Range };

    fn usual(format: Format) -> Option<Self> {
        Some(Self::new(format))
    }

    fn write(&self, to: &mut Writer) {
        for real in [self.smallest, self.largest] {
            to.put(&real.to_le_bytes());
        }
    }

    fn could_remember(&self, cell: &Cell) -> bool {
        Factor::of(cell).is_possible()
    }

    fn outgoing(&self, cell: &Cell, incoming: Scale) -> Scale {
        scaled(incoming, Factor::of(cell).factor)
    }

    fn wanted_factor(&self, operands: &Operands) -> Option<f32> {
        self.factor(operands)
    }
}
