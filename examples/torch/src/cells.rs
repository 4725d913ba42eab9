//! A cell for each name: what a step showed of each gradient, and the scale that follows from it.

use std::collections::BTreeMap;

use adaloss_core::{
    format::{Fate, Format},
    policy::{Cell, Config, finish, note},
    scale::Scale,
    statistics::Outcome,
};

/// One look at a gradient.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Which cell it is of.
    pub(crate) name: String,
    /// The largest magnitude of the gradient, unscaled; infinite or NaN where an element is.
    pub(crate) largest: f64,
    /// The exponent of the scale that the gradient had.
    pub(crate) scale_log2: i32,
    /// Whether the scale is one that is decided here: of the loss, which has none, only what is not finite matters.
    pub(crate) is_scaled: bool,
}

/// The cells of a model, by name.
pub(crate) struct Cells {
    config: Config,
    cells: BTreeMap<String, Cell>,
}

impl Cells {
    pub(crate) fn new(format: Format) -> Self {
        Self { config: Config::for_format(format), cells: BTreeMap::new() }
    }

    /// Returns the exponent of a scale that was decided.
    pub(crate) fn scale_log2(&self, name: &str) -> Option<i32> {
        let cell = self.cells.get(name).filter(|cell| cell.is_calibrated())?;
        Some(cell.scale().log2())
    }

    /// Ends a step, of which these looks were taken, in order: decides the scales of the next one.
    ///
    /// Returns the cell whose scale made values infinite, if one did: the first in order, since infinities are passed on.
    pub(crate) fn step(&mut self, looks: &[Look]) -> Option<&str> {
        let mut charged = None;
        let is_finite = |look: &&Look| look.is_scaled && look.largest.is_finite();
        for look in looks.iter().filter(is_finite) {
            self.note(look);
        }
        if let Some(first) = looks.iter().find(|look| !look.largest.is_finite())
            && first.is_scaled
        {
            let cell = self.cells.entry(first.name.clone()).or_insert_with(|| self.config.cell());
            // Where finite values showed that they do not fit, the ceiling is known; otherwise it is looked for, as that of
            // sums in f32 is.
            if !looks.iter().any(|look| look.name == first.name && overflows(&self.config, look)) {
                cell.sums_overflowed();
                note(&self.config, &Outcome::EMPTY, Scale::ONE, cell);
            }
            charged = Some(first.name.as_str());
        }
        for cell in self.cells.values_mut().filter(|cell| cell.seen().visited) {
            finish(&self.config, cell);
        }
        charged.and_then(|name| self.cells.get_key_value(name)).map(|(name, _)| name.as_str())
    }

    /// Takes note of finite values as a visit of core's does that would replay an overflow.
    fn note(&mut self, look: &Look) {
        let cell = self.cells.entry(look.name.clone()).or_insert_with(|| self.config.cell());
        let (value, incoming) = split(look.largest);
        let shift = cell.scale().log2() - incoming.log2();
        let mut outcome = Outcome::EMPTY;
        outcome.record(value, self.config.narrowing().narrow(value, shift, 0).fate);
        note(&self.config, &outcome, incoming, cell);
    }

    /// Returns name and bytes of each cell.
    pub(crate) fn save(&self) -> Vec<(String, [u8; Cell::BYTES])> {
        self.cells.iter().map(|(name, cell)| (name.clone(), cell.to_bytes())).collect()
    }

    /// Takes the cells that [`save`](Self::save) returned instead of those that are here.
    ///
    /// # Errors
    ///
    /// The name of a cell whose bytes are none of this configuration; nothing is changed.
    pub(crate) fn load(&mut self, saved: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        let mut cells = BTreeMap::new();
        for (name, bytes) in saved {
            let bytes = <[u8; Cell::BYTES]>::try_from(bytes).ok();
            let cell = bytes.and_then(|bytes| Cell::from_bytes(&bytes));
            match cell.filter(|cell| cell.is_possible(&self.config)) {
                Some(cell) => cells.insert(name, cell),
                None => return Err(name),
            };
        }
        self.cells = cells;
        Ok(())
    }
}

/// Tells whether the largest magnitude, finite, does not fit the format at the scale that it had.
fn overflows(config: &Config, look: &Look) -> bool {
    let (value, incoming) = split(look.largest);
    let shift = look.scale_log2 - incoming.log2();
    config.narrowing().narrow(value, shift, 0).fate == Fate::Overflow
}

/// Writes a magnitude as an f32 from 1 to 2 and the scale that it carries.
///
/// 96 is 1.5 at the scale 2^-6.  Beyond 2^-126 and 2^126 the magnitude is the nearest that can be written so; what is not
/// finite or 0 stays as it is, at 2^0.
fn split(magnitude: f64) -> (f32, Scale) {
    if magnitude == 0.0 || !magnitude.is_finite() {
        return (magnitude as f32, Scale::ONE);
    }
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = magnitude.abs().to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let value = f64::from_bits(bits & FRACTION | 1023 << 52);
    (value as f32, Scale::saturating(-exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use adaloss_core::{format::f16, scaler::LossScaler, unscale::Place};

    /// Magnitudes of a gradient that moves, leaps, vanishes, and comes back.
    fn magnitudes() -> Vec<f32> {
        let mut state = 1_u32;
        let mut log2 = -20.0_f32;
        (0..3000)
            .map(|step| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let uniform = (state >> 8) as f32 / 16_777_216.0;
                log2 = (log2 + uniform - 0.5).clamp(-40.0, 20.0);
                match step % 97 {
                    13 => 0.0,
                    50 => (log2 + 33.0 * uniform).exp2(),
                    _ => log2.exp2(),
                }
            })
            .collect()
    }

    #[test]
    fn decisions_are_those_of_a_loop_in_rust() {
        let config = Config::for_format(Format::BINARY16);
        let mut scaler = LossScaler::<1>::new(config);
        let mut cells = Cells::new(Format::BINARY16);
        for (step, largest) in magnitudes().into_iter().enumerate() {
            let mut begun = scaler.begin();
            let mut narrowed = [f16::ZERO; 2];
            let visit = begun.loss().apply(&[largest / 3.0, -largest], &mut narrowed);
            assert!(visit.is_ok());
            let _verdict = begun.finish();
            let look = Look {
                name: String::from("loss"),
                largest: largest.into(),
                scale_log2: 0,
                is_scaled: true,
            };
            assert_eq!(cells.step(&[look]), None);
            let there = scaler.cell(Place::Loss).expect("the loss has a cell");
            let here = &cells.cells["loss"];
            // The age counts certificates, which this package takes none of.
            let without_age =
                |cell: &Cell| [&cell.to_bytes()[..16], &cell.to_bytes()[20..24]].concat();
            assert_eq!(without_age(here), without_age(there), "step {step}");
        }
    }

    #[test]
    fn the_first_infinity_is_charged() {
        let look = |name: &str, largest: f64, is_scaled| Look {
            name: name.to_owned(),
            largest,
            scale_log2: 0,
            is_scaled,
        };
        let mut cells = Cells::new(Format::BINARY16);
        cells.step(&[look("a", 1.0, true), look("b", 1.0, true)]);
        let before = cells.scale_log2("a");
        let step = [look("a", f64::INFINITY, true), look("b", f64::NAN, true)];
        assert_eq!(cells.step(&step), Some("a"));
        assert!(cells.scale_log2("a") < before);
        assert_eq!(cells.scale_log2("b"), before);
        // A loss that is not finite is nobody's fault.
        assert_eq!(cells.step(&[look("a", f64::NAN, false), look("b", f64::NAN, true)]), None);
        // Finite values that did not fit say how far the scale has to fall: nothing is looked for.
        let known = [look("b", 1.0e9, true), look("b", f64::INFINITY, true)];
        assert_eq!(cells.step(&known), Some("b"));
        assert!(cells.scale_log2("b") < before.map(|log2| log2 - 13));
    }

    #[test]
    fn a_magnitude_is_split_exactly() {
        for (magnitude, expected) in
            [(96.0, (1.5, -6)), (1.0, (1.0, 0)), (f64::from(f32::MIN_POSITIVE), (1.0, 126))]
        {
            let (value, scale) = split(magnitude);
            assert_eq!((value, scale.log2()), expected);
        }
    }
}
