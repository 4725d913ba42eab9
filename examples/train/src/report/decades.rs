//! A logarithmic axis on which zero has a place, too.

use super::axis::Axis;

/// Powers of ten, and zero beside them.
pub(crate) struct Decades {
    /// None where all values are zero.
    axis: Option<(f64, f64, Axis)>,
    /// Where zero lies, and from where to where the rest does.
    zero: f64,
    ends: (f64, f64),
}

impl Decades {
    /// Makes an axis of the positive finite values, a fifth of a decade wider at either end, and never less than a decade.
    pub(crate) fn of(values: impl Iterator<Item = f64>, zero: f64, ends: (f64, f64)) -> Self {
        let positive = super::group::extremes(values.filter(|&value| value > 0.0));
        let axis = positive.map(|(low, high)| {
            let (low, high) = (low / 1.6, (high * 1.6).max(low * 10.0));
            (low, high, Axis::decades(low, high))
        });
        Self { axis, zero, ends }
    }

    /// Returns where a value lies.
    pub(crate) fn at(&self, value: f64) -> f64 {
        match &self.axis {
            Some((.., axis)) if value > 0.0 => axis.at(value, self.ends.0, self.ends.1),
            _ => self.zero,
        }
    }

    /// Returns powers of ten, at most so many; and what lies between two of them, where they are few.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        let Some((low, high, _)) = &self.axis else { return Vec::new() };
        let exponents = low.log10().ceil() as i32..=high.log10().floor() as i32;
        if exponents.clone().count() <= 2 {
            let decades = exponents.start() - 1..=*exponents.end();
            let all =
                decades.flat_map(|exponent| [1.0, 2.0, 5.0].map(|x| x * 10_f64.powi(exponent)));
            return all.filter(|tick| (low..=high).contains(&tick)).collect();
        }
        let every = exponents.clone().count().div_ceil(most).max(1) as i32;
        let chosen = exponents.filter(|exponent| exponent.rem_euclid(every) == 0);
        chosen.map(|exponent| 10_f64.powi(exponent)).collect()
    }

    /// Returns values from one to another, close enough that straight lines between them look like the curve that
    /// a straight line becomes.
    pub(crate) fn between(&self, from: f64, to: f64) -> Vec<f64> {
        let Some((low, ..)) = self.axis else { return vec![from, to] };
        let (first, last) = (from.max(low).ln(), to.max(low).ln());
        let inner = (0..=24).map(|part| (first + (last - first) * f64::from(part) / 24.0).exp());
        [from].into_iter().chain(inner).chain([to]).collect()
    }
}
