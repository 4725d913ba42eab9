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

/// How far a scale is below the one that its cell decided, because values became infinite on the way.
///
/// Values that do not fit say themselves how far the scale has to fall.  Those that became infinite within an operation do
/// not, so this is found by trial: 4 binades down at such a step, 8 more at the next if it is one as well, then 16, then 32.
/// When values are finite again the scale climbs back as fast, by 1, 2, 4 and 8 binades, since the cause may be over, and
/// may never have been the scale.  Where that makes them infinite once more, the height before it is kept, and from then
/// on a binade is climbed in 32 steps.
///
/// # Examples
///
/// What fits is 10 binades below; a step that is not finite has a star.
///
/// | step | 1* | 2* | 3 | 4 | 5* | 6 | ... | 38 |
/// |---|---|---|---|---|---|---|---|---|
/// | depth | 0 | 4 | 12 | 11 | 9 | 11 | | 10 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fall {
    /// Binades below the cell's scale.
    depth: u8,
    /// The depth before the last climb; 0 where the scale fell last.
    before: u8,
    /// By how much it falls or climbs next.
    next: u8,
    /// Whether a climb made values infinite: the scale was the cause.
    is_confirmed: bool,
    /// Steps since the last climb, once that is so.
    steps: u8,
}

impl Fall {
    const BYTES: usize = 5;
    const FIRST: u8 = 4;
    const DEEPEST: u8 = 4 + 8 + 16 + 32;
    const STEPS: u8 = 32;
    const MOST_CLIMB: u8 = 8;

    /// Takes note of a step in which values became infinite at this scale; tells whether that may be because of the scale:
    /// it was not where the deepest fall did not help, and then the scale is what it was before.
    fn falls(&mut self) -> bool {
        if self.before > 0 {
            *self = Self { depth: self.before, is_confirmed: true, ..Self::default() };
            return true;
        }
        if self.depth >= Self::DEEPEST {
            *self = Self::default();
            return false;
        }
        let is_first = self.depth == 0 || self.is_confirmed;
        let step = if is_first { Self::FIRST } else { self.next };
        let depth = (self.depth + step).min(Self::DEEPEST);
        *self = Self { depth, next: 2 * step, ..Self::default() };
        true
    }

    /// Takes note of a step in which values were finite at this scale.
    fn climbs(&mut self) {
        if self.depth == 0 {
            return;
        }
        if self.is_confirmed {
            self.steps += 1;
            let is_due = self.steps >= Self::STEPS;
            let depth = self.depth - u8::from(is_due);
            let (before, steps) = if is_due { (self.depth, 0) } else { (self.before, self.steps) };
            *self = Self { depth, before, steps, ..*self };
        } else {
            let step = if self.before > 0 { self.next } else { 1 };
            let depth = self.depth.saturating_sub(step);
            *self =
                Self { depth, before: self.depth, next: (2 * step).min(Self::MOST_CLIMB), ..*self };
        }
        if self.depth == 0 {
            // The height before is remembered for one more step: it is the one that is tried now.
            self.is_confirmed = false;
        }
    }

    /// Forgets a climb to the cell's own scale that held for a step.
    fn holds(&mut self) {
        if self.depth == 0 {
            *self = Self::default();
        }
    }

    const fn to_bytes(self) -> [u8; Self::BYTES] {
        [self.depth, self.before, self.next, self.is_confirmed as u8, self.steps]
    }

    fn from_bytes([depth, before, next, is_confirmed, steps]: [u8; Self::BYTES]) -> Option<Self> {
        let is_possible = depth <= Self::DEEPEST
            && before <= Self::DEEPEST
            && next <= 2 * 32
            && is_confirmed < 2
            && steps < Self::STEPS;
        is_possible.then_some(Self { depth, before, next, is_confirmed: is_confirmed == 1, steps })
    }
}

/// What is kept for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    cell: Cell,
    fall: Fall,
}

impl Entry {
    fn scale_log2(&self) -> i32 {
        self.cell.scale().log2() - i32::from(self.fall.depth)
    }

    fn to_bytes(self) -> Vec<u8> {
        [&self.cell.to_bytes()[..], &self.fall.to_bytes()].concat()
    }

    fn from_bytes(config: &Config, bytes: &[u8]) -> Option<Self> {
        let (cell, fall) = bytes.split_first_chunk()?;
        let cell = Cell::from_bytes(cell).filter(|cell| cell.is_possible(config))?;
        Some(Self { cell, fall: Fall::from_bytes(fall.try_into().ok()?)? })
    }
}

/// The cells of a model, by name.
pub(crate) struct Cells {
    config: Config,
    entries: BTreeMap<String, Entry>,
}

impl Cells {
    pub(crate) fn new(format: Format) -> Self {
        Self { config: Config::for_format(format), entries: BTreeMap::new() }
    }

    /// Returns the exponent of a scale that was decided.
    pub(crate) fn scale_log2(&self, name: &str) -> Option<i32> {
        let entry = self.entries.get(name).filter(|entry| entry.cell.is_calibrated())?;
        Some(entry.scale_log2())
    }

    /// Ends a step, of which these looks were taken, in order: decides the scales of the next one.
    ///
    /// Returns the cell whose scale made values infinite, if one did: the first in order, since infinities are passed on.
    pub(crate) fn step(&mut self, looks: &[Look]) -> Option<&str> {
        for look in looks.iter().filter(|look| look.is_scaled && look.largest.is_finite()) {
            self.note(look);
        }
        let first = looks.iter().find(|look| !look.largest.is_finite());
        let mut is_charged = false;
        if let Some(first) = first.filter(|first| first.is_scaled) {
            // Where finite values showed that they do not fit, the ceiling is known; otherwise it is looked for.
            let is_known =
                looks.iter().any(|look| look.name == first.name && overflows(&self.config, look));
            let entry = Self::entry(&self.config, &mut self.entries, &first.name);
            is_charged = is_known || entry.fall.falls();
        }
        for entry in self.entries.values_mut() {
            if !entry.cell.seen().visited {
                continue;
            }
            finish(&self.config, &mut entry.cell);
            // Behind the first infinity nothing is known of other scales.
            if first.is_none() {
                if entry.fall.depth > 0 { entry.fall.climbs() } else { entry.fall.holds() }
            }
        }
        let name = &first.filter(|_| is_charged)?.name;
        self.entries.get_key_value(name).map(|(name, _)| name.as_str())
    }

    fn entry<'e>(
        config: &Config,
        entries: &'e mut BTreeMap<String, Entry>,
        name: &str,
    ) -> &'e mut Entry {
        entries
            .entry(name.to_owned())
            .or_insert_with(|| Entry { cell: config.cell(), fall: Fall::default() })
    }

    /// Takes note of finite values as a visit of core's does that would replay an overflow.
    fn note(&mut self, look: &Look) {
        let cell = &mut Self::entry(&self.config, &mut self.entries, &look.name).cell;
        let (value, incoming) = split(look.largest);
        let shift = cell.scale().log2() - incoming.log2();
        let mut outcome = Outcome::EMPTY;
        outcome.record(value, self.config.narrowing().narrow(value, shift, 0).fate);
        note(&self.config, &outcome, incoming, cell);
    }

    /// Returns name and bytes of each cell.
    pub(crate) fn save(&self) -> Vec<(String, Vec<u8>)> {
        self.entries.iter().map(|(name, entry)| (name.clone(), entry.to_bytes())).collect()
    }

    /// Takes the cells that [`save`](Self::save) returned instead of those that are here.
    ///
    /// # Errors
    ///
    /// The name of a cell whose bytes are none of this configuration; nothing is changed.
    pub(crate) fn load(&mut self, saved: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        let mut entries = BTreeMap::new();
        for (name, bytes) in saved {
            match Entry::from_bytes(&self.config, &bytes) {
                Some(entry) => entries.insert(name, entry),
                None => return Err(name),
            };
        }
        self.entries = entries;
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

    fn look(name: &str, largest: f64, is_scaled: bool) -> Look {
        Look { name: name.to_owned(), largest, scale_log2: 0, is_scaled }
    }

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
            assert_eq!(cells.step(&[look("loss", largest.into(), true)]), None);
            let there = scaler.cell(Place::Loss).expect("the loss has a cell");
            let here = &cells.entries["loss"].cell;
            // The age counts certificates, which this package takes none of.
            let without_age =
                |cell: &Cell| [&cell.to_bytes()[..16], &cell.to_bytes()[20..24]].concat();
            assert_eq!(without_age(here), without_age(there), "step {step}");
        }
    }

    #[test]
    fn the_first_infinity_is_charged() {
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
        assert_eq!(cells.entries["b"].fall, Fall::default());
        assert!(cells.scale_log2("b") < before.map(|log2| log2 - 13));
    }

    /// Takes a fall through steps, of which those are not finite in which `is_finite(depth)` is false; returns the depths.
    fn depths(fall: &mut Fall, steps: usize, is_finite: impl Fn(usize, u8) -> bool) -> Vec<u8> {
        let mut depths = Vec::new();
        for step in 0..steps {
            depths.push(fall.depth);
            if !is_finite(step, fall.depth) {
                fall.falls();
            } else if fall.depth > 0 {
                fall.climbs();
            } else {
                fall.holds();
            }
            assert_eq!(Fall::from_bytes(fall.to_bytes()), Some(*fall));
        }
        depths
    }

    #[test]
    fn a_scale_that_is_too_large_is_found() {
        for needed in 1..=60 {
            let mut fall = Fall::default();
            let all = depths(&mut fall, 2000, |_, depth| depth >= needed);
            let skipped = all.iter().filter(|&&depth| depth < needed).count();
            // Some at first, and one more for each time that a binade is climbed too many.
            assert!(skipped <= 6 + 2000 / 32, "{needed}: {skipped}");
            assert!(all[20..].iter().all(|&depth| depth + 1 >= needed), "{needed}: {all:?}");
        }
        let mut fall = Fall::default();
        assert_eq!(depths(&mut fall, 6, |_, depth| depth >= 10), [0, 4, 12, 11, 9, 11]);
    }

    #[test]
    fn what_is_no_scales_fault_is_over_soon() {
        for not_finite in 1..=40 {
            let mut fall = Fall::default();
            let all = depths(&mut fall, 60, |step, _| step >= not_finite);
            assert!(
                all[not_finite + 12..].iter().all(|&depth| depth == 0),
                "{not_finite}: {all:?}"
            );
            assert_eq!(fall, Fall::default());
        }
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
