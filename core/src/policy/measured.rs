//! The default policy: the scale that an exact histogram shows.

use super::{Cell, Certificate, Config, ConfigError, Fraction, Rule, Window, cell::PROMISED};
use crate::{
    format::{Encoding, Format},
    scale::Scale,
    statistics::Histogram,
};

/// Parameters of the `measured` policy.
///
/// Let `k_lo` be the least scale at which at most the tolerated share of the nonzero elements
/// underflows, and `k_hi` the greatest at which nothing overflows.
///
/// 1. Where the window `[k_lo, k_hi - headroom]` is not empty: its middle, so that it stands drift
///    in both directions; in a format with f32's range, the scale nearest 2^0 instead.  The scale
///    stays while it is at least `slack` inside the window.
/// 2. Else the same with the window of *lost mass*, the share of the sum of `|x|` that underflows.
/// 3. Else `k_hi - headroom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Measured {
    /// The tolerated share of nonzero elements that underflow.
    pub tolerance: Fraction,
    /// The tolerated share of the sum of magnitudes that underflows.
    pub lost_mass: Fraction,
    /// Binades left free below overflow.
    pub headroom: u8,
    /// How far inside its window a scale has to be to stay.
    pub slack: u8,
    /// The most binades that a scale grows by in one decision, after its first.
    ///
    /// A downward move is never bounded: exact counts demand it.
    pub max_growth: u8,
}

impl Measured {
    /// Returns the defaults for a format: tolerance and lost mass 0.1 %, headroom 1 for 16-bit and
    /// 2 for 8-bit formats, slack 2, growth by at most 16 binades.
    pub const fn for_format(format: Format) -> Self {
        Self {
            tolerance: Fraction::PER_MILLE,
            lost_mass: Fraction::PER_MILLE,
            headroom: if format.encoding.bits() == 8 { 2 } else { 1 },
            slack: 2,
            max_growth: 16,
        }
    }

    /// Returns the scales at which at most the tolerated share of a tensor underflows and nothing
    /// overflows; the headroom is not subtracted.
    pub fn window(&self, histogram: &Histogram) -> Window {
        let allowed = self.tolerance.of(histogram.nonzero());
        Window::new(histogram.least_scale(allowed), histogram.greatest_scale())
    }

    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        if self.max_growth == 0 {
            return Err(ConfigError::NoGrowth);
        }
        ConfigError::headroom(self.headroom)
    }

    pub(super) fn decide(
        &self,
        config: &Config,
        histogram: &Histogram,
        cell: &mut Cell,
        mut certificate: Certificate,
    ) -> Certificate {
        let allowed = self.tolerance.of(histogram.nonzero());
        let greatest = histogram.greatest_scale();
        let top = greatest
            .map_or(Scale::MIN, |scale| Scale::saturating(scale.log2() - i32::from(self.headroom)));
        // Where every legal scale overflows, there is no window to be in.
        let in_window = |&least: &Scale| greatest.is_some() && least <= top;
        let least_by_count = histogram.least_scale(allowed);
        let by_count = least_by_count.filter(in_window);
        let (rule, least) = match by_count {
            Some(least) => (Rule::Window, Some(least)),
            None => {
                let by_mass = histogram.least_scale_by_mass(self.lost_mass.bits());
                match by_mass.filter(in_window) {
                    Some(least) => (Rule::LostMass, Some(least)),
                    None => (Rule::Headroom, None),
                }
            }
        };

        let before = cell.scale;
        certificate.rule = rule;
        certificate.scale = match least {
            Some(least) if cell.is_calibrated() && self.is_well_inside(before, least, top) => {
                certificate.rule = Rule::Kept;
                before
            }
            Some(least) => target(config.narrowing().format.encoding, least, top),
            None => top,
        };
        let bound = before.log2() + i32::from(self.max_growth);
        if cell.is_calibrated() && certificate.scale.log2() > bound {
            certificate.scale = Scale::saturating(bound);
            certificate.limited = true;
        }
        certificate.allowed = allowed;
        certificate.window =
            Window::new(if rule == Rule::LostMass { least } else { least_by_count }, greatest);
        certificate = certificate.expecting(histogram);
        certificate.promised = certificate.expected[1].underflow <= allowed;
        cell.decided(certificate.scale, if certificate.promised { PROMISED } else { 0 });
        certificate
    }

    fn is_well_inside(&self, scale: Scale, least: Scale, top: Scale) -> bool {
        let slack = i32::from(self.slack);
        least.log2() + slack <= scale.log2() && scale.log2() <= top.log2() - slack
    }
}

/// Returns the scale that a window asks for.
fn target(encoding: Encoding, least: Scale, top: Scale) -> Scale {
    if encoding.max_log2() >= Encoding::Binary32.max_log2() {
        // Nothing is near either end of f32's range: stay as near the unscaled values as allowed.
        // Not `clamp`, which would panic if the window were empty; it is not.
        Scale::ONE.max(least).min(top)
    } else {
        Scale::saturating((least.log2() + top.log2()).div_euclid(2))
    }
}
