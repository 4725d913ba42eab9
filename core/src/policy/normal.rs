//! The paper's policy: a Gaussian model of the products, a log-normal one for casts.
//!
//! Source: Zhao, Vogel, Ahmed 2019, section 4, and `get_loss_scale_by_approx_range` of the authors'
//! `ada_loss` package, whose arithmetic (f64 scalars on f32 statistics) this file repeats.  Where
//! the code departs from the paper, it follows the code and says so.
//!
//! It does not follow it where there is no deviation: the authors' factor is then 1, or follows from what
//! rounding left of the deviation, and a constant gradient below the format's numbers vanishes.  Here the
//! share that may underflow lies at the one magnitude there is, which is brought to the smallest number.

use core::f64::consts::SQRT_2;

use super::{
    Cell, ConfigError, Fraction, Operands, Rule,
    config::{Writer, extremes},
    erfinv::erfinv,
    operands::{Factor, scaled},
    recipe::{Basis, Description, Recipe},
};
use crate::{
    format::{Element, Format, f16},
    scale::Scale,
    statistics::{LogStatistics, Statistics},
};

/// Parameters of the `normal` policy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Normal {
    /// `sqrt(2) erfinv(T)`: in units of sigma, the magnitude below which a share T of a Gaussian
    /// lies.
    pub gaussian_factor: f64,
    /// `sqrt(2) erfinv(2 T - 1)`: the same of a log-normal variable's logarithm.
    pub log_normal_factor: f64,
    /// The number that a share T may be smaller than (`u_min`).
    pub smallest: f32,
    /// The number that no sum may exceed (`u_max`).
    pub largest: f32,
    /// The greatest factor that one layer applies; infinity for no cap.
    pub layer_cap: f32,
    /// The greatest accumulated scale that a layer aims at; infinity for no cap.
    pub accumulated_cap: f32,
}

impl Normal {
    /// Makes the model for a format, with the share `tolerance` asked to underflow and no caps.
    ///
    /// # Errors
    ///
    /// The share is not above 0 and below 1.
    pub fn new(format: Format, tolerance: f64) -> Result<Self, ConfigError> {
        if !(tolerance > 0.0 && tolerance < 1.0) {
            return Err(ConfigError::Share);
        }
        Ok(Self::model(format, tolerance))
    }

    /// Makes the model with the authors' defaults: T = 0.1 %, `u_min` = 6e-8 for binary16 (a little
    /// above 2^-24), caps of 16 per layer and 1024 accumulated.
    pub fn paper(format: Format) -> Self {
        let model = Self::model(format, 1e-3).with_paper_caps(16.0, 1024.0);
        let smallest = if format == Format::BINARY16 { 6.0e-8 } else { model.smallest };
        Self { smallest, ..model }
    }

    /// The model of a share that is known to be one, without caps.
    fn model(format: Format, tolerance: f64) -> Self {
        let (smallest, largest) = extremes(format);
        Self {
            gaussian_factor: erfinv(tolerance) * SQRT_2,
            // The authors round this quantile to f32.
            log_normal_factor: SQRT_2 * f64::from(erfinv(2.0 * tolerance - 1.0) as f32),
            smallest,
            largest,
            layer_cap: f32::INFINITY,
            accumulated_cap: f32::INFINITY,
        }
    }

    /// Returns the same model with caps as the authors keep them: rounded to binary16, so that
    /// 65536 is no cap at all.
    pub fn with_paper_caps(self, layer: f32, accumulated: f32) -> Self {
        Self {
            layer_cap: f16::from_f32(layer).widen(),
            accumulated_cap: f16::from_f32(accumulated).widen(),
            ..self
        }
    }

    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        // Written so that NaN fails every comparison.
        let legal = self.layer_cap > 0.0
            && self.accumulated_cap > 0.0
            && self.smallest > 0.0
            && self.smallest < self.largest
            && self.largest.is_finite();
        if !legal {
            return Err(ConfigError::Extremes);
        }
        if !(self.gaussian_factor > 0.0 && self.log_normal_factor.is_finite()) {
            return Err(ConfigError::Share);
        }
        Ok(())
    }

    /// The tolerated share is the model's: no certificate promises it.
    pub(super) const fn tolerance(&self) -> Option<Fraction> {
        None
    }

    /// Returns the factor that the model asks for, before caps; 1 where there is nothing to model, as in zeros.
    ///
    /// `None` where an operand has non-finite elements.
    pub fn factor(&self, operands: &Operands) -> Option<f32> {
        match operands {
            Operands::Product { gradient, weight, fan_in } => {
                self.product_factor(gradient, weight, *fan_in)
            }
            Operands::Cast(gradient) => self.cast_factor(gradient),
            Operands::LogCast(gradient) => self.log_cast_factor(gradient),
            Operands::Terms(_) => None,
        }
    }

    /// The model of `sum of fan_in products g w`, half of them zero behind a ReLU.
    fn product_factor(&self, g: &Statistics, w: &Statistics, fan_in: u32) -> Option<f32> {
        if g.nonfinite + w.nonfinite > 0 {
            return None;
        }
        let (Some(g_square), Some(w_square)) = (second_moment(g), second_moment(w)) else {
            return Some(1.0);
        };
        // The authors' code leaves out "- (mean_g mean_w)^2": this is the root mean square of the
        // product, which overestimates sigma and so asks for a smaller scale.
        let exact = libm::sqrt(g_square * w_square);
        // As they round it, unless nothing is left.
        let sigma = Some(f64::from(exact as f32)).filter(|&sigma| sigma > 0.0).unwrap_or(exact);
        let fan_in = f64::from(fan_in);
        let max_product = f32::from_bits(g.max_bits) * f32::from_bits(w.max_bits);
        Some(self.gaussian(
            sigma * libm::sqrt(0.5 * fan_in),
            f64::from(self.largest) / fan_in / f64::from(max_product),
        ))
    }

    fn cast_factor(&self, g: &Statistics) -> Option<f32> {
        if g.nonfinite > 0 {
            return None;
        }
        let sigma = g.moments.standard_deviation().unwrap_or(0.0) as f32;
        if sigma == 0.0 {
            return Some(self.constant(g.max_bits));
        }
        let limit = f64::from(self.largest) / f64::from(f32::from_bits(g.max_bits));
        Some(self.gaussian(f64::from(sigma), limit))
    }

    fn log_cast_factor(&self, g: &LogStatistics) -> Option<f32> {
        if g.nonfinite > 0 {
            return None;
        }
        let (Some(mean), Some(sigma)) = (g.moments.mean(), g.moments.standard_deviation()) else {
            return Some(1.0);
        };
        let sigma = sigma as f32;
        if sigma == 0.0 {
            return Some(self.constant(g.max_bits));
        }
        let distance = libm::log(f64::from(self.smallest)) as f32 - mean as f32;
        let wanted = libm::exp(f64::from(distance) - f64::from(sigma) * self.log_normal_factor);
        let limit = f64::from(self.largest) / f64::from(f32::from_bits(g.max_bits));
        Some(wanted.max(1.0).min(limit) as f32)
    }

    /// The factor that puts the only magnitude there is at the smallest number, at least 1; 1 of zeros.
    fn constant(&self, max_bits: u32) -> f32 {
        let magnitude = f64::from(f32::from_bits(max_bits));
        if magnitude == 0.0 {
            return 1.0;
        }
        let limit = f64::from(self.largest) / magnitude;
        (f64::from(self.smallest) / magnitude).max(1.0).min(limit) as f32
    }

    /// The factor that puts the tolerated share of a Gaussian below the smallest number, at least 1
    /// and at most `limit`, which wins.
    fn gaussian(&self, sigma: f64, limit: f64) -> f32 {
        if sigma == 0.0 {
            return 1.0;
        }
        let wanted = f64::from(self.smallest) / (self.gaussian_factor * sigma);
        wanted.max(1.0).min(limit) as f32
    }

    /// Returns a factor within the caps, for a gradient that arrives at scale `incoming`.
    ///
    /// The factor is a number, as [`factor`](Self::factor) returns it: NaN is taken for no limit.
    /// An incoming scale above the accumulated cap gives a factor below 1, as in the authors' code.
    pub fn bounded(&self, factor: f32, incoming: Scale) -> f32 {
        let room = f64::from(self.accumulated_cap) / f64::from(incoming.factor());
        f64::from(self.layer_cap).min(room.min(f64::from(factor))) as f32
    }
}

impl Recipe for Normal {
    const DESCRIPTION: Description =
        Description { name: "normal", number: 2, basis: Basis::Operands, rule: Rule::Normal };

    /// The paper's tolerance of 0.1 %; caps are the authors' code's.
    fn usual(format: Format) -> Option<Self> {
        Some(Self::model(format, 1e-3))
    }

    fn write(&self, to: &mut Writer) {
        for real in [self.gaussian_factor, self.log_normal_factor] {
            to.put(&real.to_le_bytes());
        }
        for real in [self.smallest, self.largest, self.layer_cap, self.accumulated_cap] {
            to.put(&real.to_le_bytes());
        }
    }

    fn could_remember(&self, cell: &Cell) -> bool {
        Factor::of(cell).is_possible()
    }

    fn outgoing(&self, cell: &Cell, incoming: Scale) -> Scale {
        let factor = Factor::of(cell).factor as f32;
        scaled(incoming, f64::from(self.bounded(factor, incoming)))
    }

    fn wanted_factor(&self, operands: &Operands) -> Option<f32> {
        self.factor(operands)
    }
}

/// Returns `sigma^2 + mean^2` of the f32-rounded statistics, or `None` of no elements.
fn second_moment(statistics: &Statistics) -> Option<f64> {
    let mean = f64::from(statistics.moments.mean()? as f32);
    let sigma = f64::from(statistics.moments.standard_deviation()? as f32);
    Some(sigma * sigma + mean * mean)
}
