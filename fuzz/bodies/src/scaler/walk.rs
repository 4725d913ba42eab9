//! A scaler without a scaler: the same visits, one rule after the other, narrowed by definition.

use adaloss_core::{
    apply::Pass,
    format::{Noise, Overflow},
    policy::{
        self, Cell, Certificate, Config, Operands, Recovery, breaks_promise, certify,
        decide_from_operands, decide_join, due, join_target, note, outgoing, recover, step,
    },
    propagate::Scaled,
    scale::Scale,
    scaler::{OpenVisit, Totals, Visit},
    statistics::{Histogram, Outcome, Statistics},
    unscale::{Cause, Place, Unscaled, Verdict},
};

use super::{Bits, CELLS, Scaler, narrow};
use crate::device::{Ending, count};

/// What a visit decides from, next to its results.
pub(super) enum Kind {
    Cast,
    Product,
    /// The scales of the branches.
    Join(Vec<Scale>),
}

/// Returns the operands of a product whose results are given; any will do.
pub(super) fn product(results: &[f32]) -> Operands {
    let weight = Statistics::of(&[0.5_f32, -2.0, 0.0]);
    Operands::Product { gradient: Statistics::of(results), weight, fan_in: 3 }
}

/// One run over a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Call {
    stores: bool,
    measures: bool,
    outgoing: Scale,
    noise: Noise,
}

/// What a visit has to be, and what it was.
pub(super) struct Passes {
    expected: Option<Expected>,
    calls: Vec<Call>,
}

struct Expected {
    visit: Visit,
    bits: Bits,
    calls: Vec<Call>,
}

impl Passes {
    /// Does what each pass of a visit asks for with the values that `results` computes for it.
    pub(super) fn pull(
        &mut self,
        mut visit: OpenVisit<'_>,
        results: impl Fn(&Pass<'_>) -> Vec<f32>,
    ) -> Scaled<Bits> {
        let mut narrowed = Bits::new();
        while let Some(mut pass) = visit.next_pass() {
            self.calls.push(Call {
                stores: pass.stores(),
                measures: pass.counters().1.is_some(),
                outgoing: pass.outgoing(),
                noise: pass.noise(),
            });
            assert_eq!(pass.shift(), pass.outgoing() / pass.incoming());
            narrowed = narrow(&results(&pass), &mut pass);
        }
        visit.finish(narrowed).expect("there are no more passes")
    }

    /// Compares the calls, the visit, and what it left.
    pub(super) fn check(&self, left: &Scaled<Bits>, visit: Option<Visit>, walk: &Walk) {
        let expected = self.expected.as_ref().expect("a visit without a cell left nothing");
        let config = &walk.config;
        assert_eq!(self.calls, expected.calls, "{config:?}");
        assert_eq!(visit, Some(expected.visit), "{config:?}");
        let (bits, scale) = left.as_ref().into_parts();
        assert_eq!((bits, scale), (&expected.bits, expected.visit.outgoing), "{config:?}");
    }
}

/// The state of a training run.
pub(super) struct Walk {
    pub(super) config: Config,
    pub(super) bad: Option<(Place, Cause)>,
    pub(super) tiny: u64,
    loss: Cell,
    layers: Vec<Cell>,
    overflowed: bool,
    skipped_in_row: u32,
    totals: Totals,
    micro_batch: u32,
    /// The places that this micro-batch visited, as far as streams of noise tell them apart.
    visited: Vec<u32>,
}

impl Walk {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            bad: None,
            tiny: 0,
            loss: config.cell(),
            layers: Vec::new(),
            overflowed: false,
            skipped_in_row: 0,
            totals: Totals::default(),
            micro_batch: 0,
            visited: Vec::new(),
        }
    }

    /// Works out a visit of f32 results that carry the scale `incoming`.
    pub(super) fn visits(
        &mut self,
        place: Place,
        incoming: Scale,
        kind: Kind,
        results: &[f32],
    ) -> Passes {
        let Some(mut cell) = self.cell(place).copied() else {
            self.bad.get_or_insert((place, Cause::Failed));
            return Passes { expected: None, calls: Vec::new() };
        };
        let config = self.config;
        let noise = Noise { seed: config.seed(), stream: self.stream(place) };
        let mut calls = Vec::new();
        // Evidence is taken before anything is stored.
        let follows = config.policy().follows_maxima();
        let histogram = (follows && due(&config, &cell).is_some()).then(|| {
            let noise = Noise::default();
            calls.push(Call { stores: false, measures: true, outgoing: incoming, noise });
            let mut histogram = Histogram::new(config.narrowing());
            results.iter().for_each(|&x| histogram.observe_one(x, incoming));
            histogram
        });
        let mut store = |outgoing| {
            calls.push(Call { stores: true, measures: false, outgoing, noise });
            self.narrow(results, incoming, outgoing, noise)
        };
        let (mut leaving, mut certificate) =
            self.settle(place, incoming, &kind, results, &mut cell);
        let (mut bits, mut outcome) = store(leaving);
        if let (Kind::Join(scales), true) = (kind, config.policy().wants_operands()) {
            let pick = |fits: &dyn Fn(Scale) -> bool| join_target(scales.into_iter(), fits);
            let decision = decide_join(&config, &outcome, incoming, pick, &mut cell);
            certificate = Some(decision);
            if decision.scale != leaving {
                leaving = decision.scale;
                (bits, outcome) = store(leaving);
            }
        }
        let is_first = follows && !cell.is_calibrated();
        let moved = recover(&config, &outcome, incoming);
        let again = note(&config, &outcome, incoming, &mut cell);
        let replayed = !is_first && self.replays(&outcome) && moved.is_some();
        assert!(is_first || again == moved.filter(|_| replayed), "{config:?}");
        if let Some(scale) = again {
            leaving = scale;
            (bits, outcome) = store(scale);
            let cured = outcome.overflow == 0 || is_first && moved.is_none();
            assert!(cured, "one move is enough, {config:?}");
        }
        let broke_promise = breaks_promise(&config, &outcome, &cell);
        if let Some(histogram) = histogram {
            certificate = Some(certify(&config, &histogram, leaving, &mut cell));
        }
        self.judge(place, &outcome, &bits);
        let visit = Visit {
            place,
            incoming,
            outgoing: leaving,
            outcome,
            certificate,
            replayed,
            passes: calls.len() as u8,
            broke_promise,
        };
        *self.cell(place).expect("it was there") = cell;
        self.totals.recovered += u64::from(replayed);
        self.totals.certificates += u64::from(certificate.is_some());
        self.totals.broken += u64::from(broke_promise);
        Passes { expected: Some(Expected { visit, bits, calls }), calls: Vec::new() }
    }

    /// Does something with gradients of these cells; the cells are lowered where that is the first place at which
    /// something is not finite.
    pub(super) fn tracing<R>(
        &mut self,
        origins: impl IntoIterator<Item = Place>,
        operation: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let was_usable = self.bad.is_none();
        let result = operation(self);
        if was_usable && self.bad.is_some_and(|(_, cause)| cause == Cause::NonFinite) {
            for origin in origins {
                self.cell(origin).expect("a gradient left it").sums_overflowed();
            }
        }
        result
    }

    /// Begins a micro-batch.
    pub(super) fn micro_batch(&mut self, index: u32) {
        self.micro_batch = index;
        self.visited.clear();
    }

    /// Returns the stream of noise of the next visit at a place.
    fn stream(&mut self, place: Place) -> u32 {
        let number = match place {
            Place::Loss => 0,
            Place::Layer(id) | Place::Weight(id) => id as u32 + 1,
        };
        // Few places: those that are 256 apart do not occur.
        let repeats = self.visited.len() as u32;
        let distinct = {
            let mut places = self.visited.clone();
            places.sort_unstable();
            places.dedup();
            places.len() as u32
        };
        let again = if self.visited.contains(&number) { repeats - distinct + 1 } else { 0 };
        self.visited.push(number);
        let mut hash = 0_u32;
        for part in [self.totals.steps as u32, number, self.micro_batch, again] {
            hash = hash.wrapping_add(part);
            hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
            hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
            hash ^= hash >> 16;
        }
        hash
    }

    /// Takes note of what unscaling met.
    pub(super) fn unscaled(&mut self, id: usize, met: &Unscaled) {
        self.tiny += met.tiny;
        if met.nonfinite > 0 {
            self.overflowed = true;
            self.bad.get_or_insert((Place::Weight(id), Cause::NonFinite));
        }
    }

    /// Ends a step.
    pub(super) fn finish(&mut self) -> Verdict {
        let bad = self.bad.take();
        let overflowed = std::mem::take(&mut self.overflowed);
        self.tiny = 0;
        self.micro_batch(0);
        if overflowed || bad.is_none() {
            step(&self.config, !overflowed, &mut self.loss);
        }
        for cell in self.layers.iter_mut().chain([&mut self.loss]) {
            policy::finish(&self.config, cell);
        }
        self.totals.steps += 1;
        let Some((layer, cause)) = bad else {
            self.skipped_in_row = 0;
            return Verdict::Apply;
        };
        self.totals.skipped += 1;
        self.skipped_in_row += 1;
        assert!(self.skipped_in_row <= self.config.max_skips(), "an endless row of skips");
        if self.skipped_in_row == self.config.max_skips() {
            let skipped = std::mem::take(&mut self.skipped_in_row);
            return Verdict::Stop { layer, cause, skipped };
        }
        Verdict::Skip { layer, cause }
    }

    /// Compares cells and totals after a step.
    pub(super) fn check(&self, scaler: &Scaler) {
        assert_eq!(scaler.totals(), self.totals, "{:?}", self.config);
        assert_eq!(scaler.cell(Place::Loss), Some(&self.loss), "{:?}", self.config);
        for id in 0..CELLS {
            let expected = self.layers.get(id);
            assert_eq!(scaler.cell(Place::Layer(id)), expected, "{:?}", self.config);
        }
    }

    /// Returns the cell of a place; it comes into being at its first visit.
    fn cell(&mut self, place: Place) -> Option<&mut Cell> {
        let Place::Layer(id) = place else { return Some(&mut self.loss) };
        if id < CELLS && id >= self.layers.len() {
            self.layers.resize(id + 1, self.config.cell());
        }
        self.layers.get_mut(id)
    }

    /// Returns the scale that a tensor leaves with at first, and the decision if there was one.
    fn settle(
        &self,
        place: Place,
        incoming: Scale,
        kind: &Kind,
        results: &[f32],
        cell: &mut Cell,
    ) -> (Scale, Option<Certificate>) {
        let config = &self.config;
        if config.policy().is_whole_model() {
            return (if place == Place::Loss { cell.scale() } else { incoming }, None);
        }
        let operands = match kind {
            _ if config.policy().follows_maxima() => return (cell.scale(), None),
            Kind::Join(_) => return (incoming, None),
            Kind::Cast => Operands::Cast(Statistics::of(results)),
            Kind::Product => product(results),
        };
        let is_due = due(config, cell).is_some();
        let certificate = is_due.then(|| decide_from_operands(config, &operands, incoming, cell));
        (outgoing(config, cell, incoming), certificate)
    }

    /// Narrows by definition.
    fn narrow(&self, results: &[f32], from: Scale, to: Scale, noise: Noise) -> (Bits, Outcome) {
        let narrowing = self.config.narrowing();
        let ending = Ending { from, to, narrowing, noise, stores: true, measures: false };
        let mut outcome = Outcome::EMPTY;
        let narrowed = (0..).zip(results).map(|(index, &x)| {
            let narrowed = ending.narrow(x, index);
            count(&mut outcome, x, narrowed.fate);
            narrowed.bits
        });
        (narrowed.collect(), outcome)
    }

    fn is_fatal(&self, outcome: &Outcome) -> bool {
        outcome.overflow > 0 && self.config.narrowing().overflow == Overflow::Infinity
    }

    fn replays(&self, outcome: &Outcome) -> bool {
        self.is_fatal(outcome)
            && outcome.nonfinite == 0
            && self.config.recovery() == Recovery::Replay
            && !self.config.policy().is_whole_model()
    }

    /// Judges a tensor: the first place that is not usable is the one that counts.
    fn judge(&mut self, place: Place, outcome: &Outcome, bits: &Bits) {
        self.overflowed |= outcome.overflow + outcome.nonfinite > 0;
        if outcome.nonfinite > 0 {
            self.bad.get_or_insert((place, Cause::NonFinite));
        } else if self.is_fatal(outcome) {
            self.bad.get_or_insert((place, Cause::Overflow));
        }
        let format = self.config.narrowing().format;
        let is_finite = bits.iter().all(|&bits| format.widen(bits).is_finite());
        assert!(is_finite || self.bad.is_some(), "{bits:x?} pass unseen, {:?}", self.config);
    }
}
