//! The unit of a loss: what a sum instead of a mean, an image of a megapixel, or a weight that grows does to it.

use std::fmt;

/// The factor that a loss is given with, a power of two.
///
/// The loss gradient is multiplied by it before anything is narrowed, and every weight gradient is divided by
/// it before the optimizer sees it: in f32 training is the same bit for bit, so that all that a method loses is lost
/// by its scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// The exponent at the first step.
    pub log2: i32,
    /// Steps in which the factor doubles; it stays as it is without.
    pub doubling: Option<u64>,
    /// By how many binades the loss of a second task is larger: twice those of the unit that its quantity is
    /// given in, as the error is squared.
    pub gap: i32,
    /// Whether weight gradients of the second task are divided by the gap before they are added to those of the first, as
    /// methods do that balance the gradients of several losses: then training is the same for any gap.
    pub is_balanced: bool,
    /// Whether each loss is divided by its size at the first batch, as practitioners do by hand: another training,
    /// as the optimizer sees the losses divided.
    pub is_normalised: bool,
}

/// The exponents of the factors of both losses at one step: that of the classes, or of a field where it is given, and that of a
/// quantity beside the classes, or of the field's equation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// That of the classes.
    pub classes: i32,
    /// That of the quantity.
    pub quantity: i32,
    /// That of what both are given in, which is taken out of weight gradients again.
    pub common: i32,
    /// That of what is taken out of weight gradients of the quantity alone, and of what its loss is reported in.
    pub taken_out: i32,
}

impl Units {
    /// Returns the units of losses that are divided by sizes, each rounded to a power of two so that f32 stays
    /// exact; a size that is zero or not finite divides by nothing.
    pub fn normalised(self, classes: f64, quantity: f64) -> Self {
        let exponent = |size: f64| match size.is_normal() {
            true => size.abs().log2().round() as i32,
            false => 0,
        };
        Self {
            classes: self.classes - exponent(classes),
            quantity: self.quantity - exponent(quantity),
            ..self
        }
    }

    /// Returns the exponents of losses in units that are not theirs in common.
    pub const fn apart(self) -> Self {
        let Self { classes, quantity, common, .. } = self;
        Self { classes: classes - common, quantity: quantity - common, common: 0, ..self }
    }
}

impl Unit {
    /// The greatest exponent: weight gradients stay within f32.
    const MOST: i32 = 100;

    /// Returns the exponents at a step.
    pub fn at(self, step: u64) -> Units {
        let classes = self.factor(step);
        let taken_out = if self.is_balanced { self.gap } else { 0 };
        Units { classes, quantity: classes.saturating_add(self.gap), common: classes, taken_out }
    }

    fn factor(self, step: u64) -> i32 {
        let doublings = self.doubling.map_or(0, |steps| step / steps.max(1));
        let doublings = i32::try_from(doublings).unwrap_or(i32::MAX);
        self.log2.saturating_add(doublings).min(Self::MOST.max(self.log2))
    }
}

/// Multiplies values by `2^log2`, exactly while they stay normal numbers.
pub fn times(values: &mut [f32], log2: i32) {
    let factor = (f64::from(log2)).exp2();
    for value in values {
        *value = (f64::from(*value) * factor) as f32;
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gap != 0 {
            write!(f, "; the second loss times 2^{}", self.gap)?;
            if self.is_balanced {
                write!(f, ", and its weight gradients divided by that")?;
            }
        }
        if self.is_normalised {
            write!(f, "; each loss divided by its size at the first batch, to a power of two")?;
        }
        match (self.log2, self.doubling) {
            (0, None) => Ok(()),
            (log2, None) => write!(f, "; loss times 2^{log2}"),
            (log2, Some(1)) => write!(f, "; loss times 2^{log2}, twice as much every step"),
            (log2, Some(steps)) => {
                write!(f, "; loss times 2^{log2}, twice as much every {steps} steps")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_constant_or_doubles_up_to_its_end() {
        assert_eq!(Unit::default().at(1 << 40), Units::default());
        let shrunk = Unit { log2: -12, ..Unit::default() };
        let plain = Units { classes: -12, quantity: -12, common: -12, taken_out: 0 };
        assert_eq!(shrunk.at(7), plain);
        let apart = Unit { gap: 20, ..shrunk };
        assert_eq!(apart.at(7), Units { quantity: 8, ..plain });
        let balanced = Unit { is_balanced: true, ..apart };
        assert_eq!(balanced.at(7), Units { quantity: 8, taken_out: 20, ..plain });
        let said = "; the second loss times 2^20, and its weight gradients divided by that; loss times 2^-12";
        assert_eq!(balanced.to_string(), said);
        let growing = Unit { log2: -3, doubling: Some(4), ..Unit::default() };
        assert_eq!([0, 3, 4, 8, 1000].map(|step| growing.at(step).classes), [-3, -3, -2, -1, 100]);
        assert_eq!(Unit { log2: 110, ..growing }.at(u64::MAX).classes, 110);
        assert_eq!(growing.to_string(), "; loss times 2^-3, twice as much every 4 steps");
    }

    /// Sizes are rounded to the nearest power of two, on the logarithmic scale: 1.5 is nearer to 2 than to 1.
    #[test]
    fn losses_are_divided_by_their_first_sizes() {
        let units = Unit { log2: -12, gap: 20, ..Unit::default() }.at(0);
        let expected = Units { classes: -13, quantity: -13, common: -12, taken_out: 0 };
        assert_eq!(units.normalised(1.5, 1.4 * 2.0_f64.powi(21)), expected);
        let apart = Units { classes: -1, quantity: -1, ..Units::default() };
        assert_eq!(expected.apart(), apart);
        for size in [0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(units.normalised(size, size), units);
        }
    }

    #[test]
    fn a_power_of_two_is_exact() {
        let mut values = [3.0, -1.0e-20, 0.0];
        times(&mut values, -40);
        assert_eq!(values, [3.0 * 2.0_f32.powi(-40), -1.0e-20 * 2.0_f32.powi(-40), 0.0]);
        times(&mut values, 40);
        assert_eq!(values, [3.0, -1.0e-20, 0.0]);
    }
}
