//! A cell for each name: what a step showed of each gradient, and the scale that follows from it.

use std::collections::HashMap;

use adaloss_core::{
    format::{Fate, Format},
    policy::{Cell, Config, note},
    scale::Scale,
    scaler::{
        State,
        share::{Share, ShareError, message_bytes},
    },
    statistics::Outcome,
    unscale::{Cause, Place, Verdict},
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
///
/// Names are numbered as they come; a number is the layer that core knows.  The loss that core knows stays as it is: what
/// a loss hands on has a name here.
pub(crate) struct Cells {
    state: State,
    cells: Vec<Cell>,
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

/// A state that cannot be gone on from.
pub(crate) enum LoadError {
    /// The bytes of the cell of a name.
    Cell(String),
    /// The bytes of the run.
    Run,
}

impl Cells {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            state: State::new(Config::for_format(format)),
            cells: Vec::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Returns the names, in the order of their numbers.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Tells whether there is a cell of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.numbers.contains_key(name)
    }

    /// Returns the exponent of a scale that was decided.
    pub(crate) fn scale_log2(&self, name: &str) -> Option<i32> {
        let cell = self.cells.get(*self.numbers.get(name)?).filter(|cell| cell.is_calibrated())?;
        Some(cell.scale().log2())
    }

    /// Returns the number of a name, which gets a cell if it has none.
    pub(crate) fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len();
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        let new = self.state.config().cell();
        self.cells.push(new);
        self.show(number, new);
        number
    }

    /// Tells the step under way what a cell showed, and writes the cell, which is in use from now on.
    fn show(&mut self, number: usize, cell: Cell) {
        let shown = self.state.resume(&mut self.cells).set_seen(Place::Layer(number), cell.seen());
        debug_assert_eq!(shown, Ok(()));
        self.cells[number] = cell;
    }

    /// Takes note of looks of the step under way, in order.
    ///
    /// The first that is not finite is what is wrong with the step: infinities are passed on.
    pub(crate) fn look(&mut self, looks: &[Look]) {
        let config = *self.state.config();
        let is_finite = |look: &&Look| look.is_scaled && look.largest.is_finite();
        for look in looks.iter().filter(is_finite) {
            let number = self.number(&look.name);
            let mut cell = self.cells[number];
            take_note(&config, look, &mut cell);
            self.show(number, cell);
        }
        let Some(first) = looks.iter().find(|look| !look.largest.is_finite()) else { return };
        if self.state.resume(&mut self.cells).first_bad().is_some() {
            return;
        }
        let mut place = Place::Loss;
        if first.is_scaled {
            let number = self.number(&first.name);
            place = Place::Layer(number);
            // Where finite values showed that they do not fit, the ceiling is known; otherwise it is looked for, as that of
            // sums in f32 is.
            if !looks.iter().any(|look| look.name == first.name && overflows(&config, look)) {
                let mut cell = self.cells[number];
                cell.sums_overflowed();
                note(&config, &Outcome::EMPTY, Scale::ONE, &mut cell);
                self.show(number, cell);
            }
        }
        self.state.resume(&mut self.cells).reject(place, Cause::NonFinite);
    }

    /// Ends the step under way: decides the scales of the next one.
    ///
    /// Returns the cell whose scale made values infinite, if one did.
    pub(crate) fn finish(&mut self) -> Option<&str> {
        // Whether weights are updated is for the scaler of Python to say, which sees them.
        match self.state.resume(&mut self.cells).finish() {
            Verdict::Skip { layer: Place::Layer(number), cause: Cause::NonFinite }
            | Verdict::Stop { layer: Place::Layer(number), cause: Cause::NonFinite, .. } => {
                self.names.get(number).map(String::as_str)
            }
            _ => None,
        }
    }

    /// Returns how many steps were finished.
    pub(crate) fn steps(&self) -> u64 {
        self.state.totals().steps
    }

    /// Lends the step under way, so that ranks can agree on it.
    fn share<R>(&mut self, does: impl FnOnce(&mut Share<'_>) -> R) -> R {
        does(&mut self.state.resume(&mut self.cells).share())
    }

    /// Returns what this rank brings to an agreement.
    pub(crate) fn pack(&mut self) -> Result<Vec<u8>, ShareError> {
        let mut message = vec![0; message_bytes(self.cells.len())];
        self.share(|share| share.pack(&mut message))?;
        Ok(message)
    }

    /// Tells whether a merged message, or its header, is of ranks that can share this step.
    pub(crate) fn matches(&mut self, merged: &[u8]) -> Result<(), ShareError> {
        self.share(|share| share.matches(merged))
    }

    /// Takes what all ranks brought.
    pub(crate) fn unpack(&mut self, merged: &[u8]) -> Result<(), ShareError> {
        self.share(|share| share.unpack(merged))
    }

    /// Returns the digest of the configuration.
    pub(crate) fn configuration(&mut self) -> u32 {
        self.share(|share| share.configuration())
    }

    /// Returns the digests of what a step began with, and of what each is: no name for what is of no cell.
    pub(crate) fn parts(&mut self) -> Vec<(Option<String>, u64)> {
        let parts: Vec<_> = self.share(|share| (0..).map_while(|part| share.part(part)).collect());
        let name = |place| match place {
            Some(Place::Layer(number)) => self.names.get(number).cloned(),
            _ => None,
        };
        parts.into_iter().map(|(place, digest)| (name(place), digest)).collect()
    }

    /// Returns name and bytes of each cell.
    pub(crate) fn save(&self) -> Vec<(String, [u8; Cell::BYTES])> {
        self.names.iter().cloned().zip(self.cells.iter().map(Cell::to_bytes)).collect()
    }

    /// Returns the bytes of what is kept of the run beside the cells: how many steps it has, and how many were skipped.
    pub(crate) fn save_run(&self) -> Vec<u8> {
        let mut run = vec![0; State::checkpoint_bytes(0)];
        let saved = self.state.save(&[], &mut run);
        debug_assert_eq!(saved, Ok(()));
        run
    }

    /// Takes the cells that [`save`](Self::save) returned instead of those that are here, and the run that
    /// [`save_run`](Self::save_run) did; without one, it begins now.
    ///
    /// # Errors
    ///
    /// Bytes that are none of this configuration; nothing is changed.
    pub(crate) fn load(
        &mut self,
        saved: Vec<(String, Vec<u8>)>,
        run: Option<&[u8]>,
    ) -> Result<(), LoadError> {
        let config = *self.state.config();
        let mut loaded = Self {
            state: State::new(config),
            cells: Vec::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
        };
        if let Some(run) = run {
            loaded.state.load(run, &mut []).map_err(|_| LoadError::Run)?;
        }
        for (name, bytes) in saved {
            let bytes = <[u8; Cell::BYTES]>::try_from(bytes).ok();
            let cell = bytes.and_then(|bytes| Cell::from_bytes(&bytes));
            let Some(cell) = cell.filter(|cell| cell.is_possible(&config)) else {
                return Err(LoadError::Cell(name));
            };
            let number = loaded.number(&name);
            loaded.show(number, cell);
        }
        // What a step under way had shown is of no use without the step.
        let _begun = loaded.state.begin(&mut loaded.cells);
        *self = loaded;
        Ok(())
    }
}

/// Takes note of finite values as a visit of core's does that would replay an overflow.
fn take_note(config: &Config, look: &Look, cell: &mut Cell) {
    let (value, incoming) = split(look.largest);
    let shift = cell.scale().log2() - incoming.log2();
    let mut outcome = Outcome::EMPTY;
    outcome.record(value, config.narrowing().narrow(value, shift, 0).fate);
    note(config, &outcome, incoming, cell);
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

    fn step_of<'c>(cells: &'c mut Cells, looks: &[Look]) -> Option<&'c str> {
        cells.look(looks);
        cells.finish()
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
            let look = Look {
                name: String::from("loss"),
                largest: largest.into(),
                scale_log2: 0,
                is_scaled: true,
            };
            assert_eq!(step_of(&mut cells, &[look]), None);
            let there = scaler.cell(Place::Loss).expect("the loss has a cell");
            let here = &cells.cells[cells.numbers["loss"]];
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
        step_of(&mut cells, &[look("a", 1.0, true), look("b", 1.0, true)]);
        let before = cells.scale_log2("a");
        let step = [look("a", f64::INFINITY, true), look("b", f64::NAN, true)];
        assert_eq!(step_of(&mut cells, &step), Some("a"));
        assert!(cells.scale_log2("a") < before);
        assert_eq!(cells.scale_log2("b"), before);
        // A loss that is not finite is nobody's fault.
        let of_loss = [look("a", f64::NAN, false), look("b", f64::NAN, true)];
        assert_eq!(step_of(&mut cells, &of_loss), None);
        // Finite values that did not fit say how far the scale has to fall: nothing is looked for.
        let known = [look("b", 1.0e9, true), look("b", f64::INFINITY, true)];
        assert_eq!(step_of(&mut cells, &known), Some("b"));
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
