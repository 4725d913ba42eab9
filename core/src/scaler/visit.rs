//! One visit of a tensor as plain data: what each pass is for, and what follows from what it counted.

use super::{Totals, count, finding::Finding};
use crate::{
    apply::{Counts, Pass},
    format::Noise,
    policy::{
        Cell, Certificate, Config, Operands, breaks_promise, certify, decide_from_operands,
        decide_join, due, join_target, note, outgoing,
    },
    scale::Scale,
    statistics::{Histogram, Outcome},
    unscale::{Cause, Place},
};

/// What happened at one visit of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The tensor.
    pub place: Place,
    /// The scale that its f32 values carried.
    pub incoming: Scale,
    /// The scale that it left with.
    pub outgoing: Scale,
    /// What narrowing did, after a replay.
    pub outcome: Outcome,
    /// The certificate for `outgoing`, or the decision, if one was due.
    pub certificate: Option<Certificate>,
    /// Whether the tensor overflowed and was replayed.
    pub replayed: bool,
    /// How many passes there were: one, and one more for a replay, a first visit or a certificate.
    pub passes: u8,
    /// Whether more underflowed than twice what the last certificate of the cell promised.
    pub broke_promise: bool,
}

/// What a pass over a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// To measure, for a certificate.
    Measure = 0,
    /// To store at the scale that the cell had.
    Store = 1,
    /// To store a join at the scale that it fits.
    Join = 2,
    /// To store at the scale that the outcome of the pass before asks for.
    Replay = 3,
}

/// Whose gradient a visit is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A loss: the scale of the whole model, where there is one, is multiplied in here.
    Loss = 0,
    /// A layer, of which operands may be described.
    Layer = 1,
    /// A join of branches.
    Join = 2,
}

/// How far a visit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// There is none.
    Absent = 0,
    /// No pass was handed out so far.
    Opened = 1,
    /// A pass of this purpose is the next one, or was handed out last.
    Measuring = 2,
    Storing = 3,
    Joining = 4,
    Replaying = 5,
    /// There are no more.
    Complete = 6,
    /// The visit is finished.
    Finished = 7,
}

impl Stage {
    const fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Measure => Self::Measuring,
            Purpose::Store => Self::Storing,
            Purpose::Join => Self::Joining,
            Purpose::Replay => Self::Replaying,
        }
    }
}

/// Decides the scale of a join; a parameter, so that programs without joins link nothing of it.
pub(super) type DecideJoin = fn(&mut VisitState, &Config) -> Stage;

/// What is kept of a visit: of the one that is under way, or of the last one that was finished.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct VisitState {
    counts: Counts,
    /// How many values the passes are over, where that is known.
    elements: u64,
    certificate: Certificate,
    /// The scales of a join's branches, of which `normal` and `range` pick one.
    scales: ScaleSet,
    /// The place, and a mistake at it if there was one.
    at: Finding,
    /// The cell as the visit will leave it; the one in memory stays as it was until then.
    cell: Cell,
    stream: u32,
    incoming: Scale,
    /// The scale of the pass that stores, the last one of them in the end.
    outgoing: Scale,
    kind: Kind,
    stage: Stage,
    passes: u8,
    /// Whether the pass of this stage was handed out.
    is_handed_out: bool,
    knows_elements: bool,
    certifies: bool,
    /// Whether the step was usable before it: the first place that was not is the one that is named.
    was_usable: bool,
    has_certificate: bool,
    replayed: bool,
    broke_promise: bool,
    reserved: [u8; 2],
}

/// What a visit begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) incoming: Scale,
    /// The scales of a join's branches.
    pub(super) scales: ScaleSet,
    pub(super) stream: u32,
    /// The cell as the visit finds it.
    pub(super) cell: Cell,
    /// Whether the step is usable so far.
    pub(super) is_usable: bool,
}

/// Counts, a number, a certificate, a set of scales, a finding, a cell, the stream, two scales, and bytes; no gap between them.
const _: () = assert!(size_of::<VisitState>() == VisitState::BYTES);

impl VisitState {
    /// The size in memory.
    pub(super) const BYTES: usize =
        size_of::<Counts>() + 8 + size_of::<Certificate>() + 32 + 16 + Cell::BYTES + 4 + 2 * 2 + 12;

    /// There is no visit.
    pub(super) const ABSENT: Self = Self {
        counts: Counts::NONE,
        elements: 0,
        certificate: Certificate::NONE,
        scales: ScaleSet::NONE,
        at: Finding::NOTHING,
        cell: Cell::new(),
        stream: 0,
        incoming: Scale::ONE,
        outgoing: Scale::ONE,
        kind: Kind::Loss,
        stage: Stage::Absent,
        passes: 0,
        is_handed_out: false,
        knows_elements: false,
        certifies: false,
        was_usable: false,
        has_certificate: false,
        replayed: false,
        broke_promise: false,
        reserved: [0; 2],
    };

    /// Opens a visit where this one is, so that no copy of it lies on the stack.
    pub(super) fn open(&mut self, config: &Config, opened: &Opened) {
        let Opened { place, kind, incoming, scales, stream, cell, is_usable } = *opened;
        self.counts = Counts::NONE;
        (self.scales, self.at) = (scales, Finding::at(place));
        self.certifies = config.policy().follows_maxima() && due(config, &cell).is_some();
        (self.cell, self.stream) = (cell, stream);
        (self.incoming, self.outgoing) = (incoming, incoming);
        (self.kind, self.stage, self.passes) = (kind, Stage::Opened, 0);
        (self.is_handed_out, self.knows_elements, self.has_certificate) = (true, false, false);
        (self.was_usable, self.replayed, self.broke_promise) = (is_usable, false, false);
    }

    /// Forgets the visit, be it open or finished.
    pub(super) const fn forget(&mut self) {
        self.stage = Stage::Absent;
    }

    /// Says beforehand how many values the passes are over.
    pub(super) const fn expect(&mut self, elements: u64) {
        (self.elements, self.knows_elements) = (elements, true);
    }

    /// Tells whether there is a visit that was not finished.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Absent | Stage::Finished)
    }

    /// Tells whether all passes were made.
    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Complete)
    }

    pub(super) const fn is_join(&self) -> bool {
        matches!(self.kind, Kind::Join)
    }

    pub(super) const fn place(&self) -> Place {
        self.at.place()
    }

    pub(super) const fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Returns the scales that the values of the pass at hand arrive and leave with.
    pub(super) const fn scales(&self) -> [Scale; 2] {
        [self.incoming, self.outgoing]
    }

    /// Returns what happened, once the visit is finished.
    pub(super) fn visit(&self) -> Option<Visit> {
        matches!(self.stage, Stage::Finished).then(|| Visit {
            place: self.place(),
            incoming: self.incoming,
            outgoing: self.outgoing,
            outcome: self.counts.outcome,
            certificate: self.has_certificate.then_some(self.certificate),
            replayed: self.replayed,
            passes: self.passes,
            broke_promise: self.broke_promise,
        })
    }

    /// Tells whether the step is not usable by this visit if it is left now.
    pub(super) const fn is_left(&self) -> bool {
        self.is_open() && self.was_usable
    }

    /// Returns what the step is told if the visit is left, unless a place before it was not usable.
    pub(super) fn left(&self) -> Option<(Place, Cause)> {
        self.is_left().then(|| (self.place(), Cause::Failed))
    }

    /// Counts the visit, which is finished.
    pub(super) fn count(&self, totals: &mut Totals) {
        count(&mut totals.recovered, self.replayed);
        count(&mut totals.certificates, self.has_certificate);
        count(&mut totals.broken, self.broke_promise);
    }

    /// Returns the certificate of the visit, which is finished, or what it decided.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.has_certificate.then_some(&self.certificate)
    }

    pub(super) fn wants_operands(&self, config: &Config) -> bool {
        config.policy().wants_operands()
            && !self.is_join()
            && self.stage == Stage::Opened
            && !self.has_certificate
            && due(config, &self.cell).is_some()
    }

    pub(super) fn describe(&mut self, config: &Config, operands: &Operands) {
        if self.wants_operands(config) {
            let decision = decide_from_operands(config, operands, self.incoming, &mut self.cell);
            (self.certificate, self.has_certificate) = (decision, true);
        }
    }

    /// Returns the scale of the first pass that stores; `whole_model` is that of the loss's cell.
    fn first_scale(&self, config: &Config, whole_model: Scale) -> Scale {
        let policy = config.policy();
        // A layer whose operands were never described carries its scale through, as the paper's
        // layers without weights do.
        let has_factor = self.has_certificate || self.cell.is_calibrated();
        if policy.is_whole_model() && matches!(self.kind, Kind::Loss) {
            whole_model
        } else if policy.follows_maxima()
            || policy.wants_operands() && !self.is_join() && has_factor
        {
            outgoing(config, &self.cell, self.incoming)
        } else {
            self.incoming
        }
    }

    /// Takes what a device counted in the pass that was handed out last, if it was not moved on from.
    pub(super) const fn take_counts(&mut self, outcome: &Outcome, histogram: &Histogram) {
        if !self.is_open() || !self.is_handed_out {
            return;
        }
        let counted = if self.measures() { histogram.elements() } else { outcome.elements };
        self.counts = Counts::of(*outcome, counted > 0 || self.elements == 0);
    }

    /// Takes note of what the pass counted that was handed out last, and decides what the next one is for.
    pub(super) fn move_on(
        &mut self,
        config: &Config,
        histogram: &Histogram,
        whole_model: Scale,
        decide_join: DecideJoin,
    ) {
        if self.is_handed_out {
            self.settle(histogram);
            self.stage = self.next_stage(config, whole_model, decide_join);
            self.is_handed_out = false;
        }
    }

    /// Hands out the pass that is next if it is for this; tells whether it is.
    pub(super) fn hand_out_for(&mut self, purpose: Purpose) -> bool {
        let is_next = self.stage == Stage::of(purpose) && !self.is_handed_out;
        if is_next {
            self.hand_out();
        }
        is_next
    }

    /// Hands out the pass that is next, whatever it is for, if there is one.
    pub(super) const fn hand_out(&mut self) {
        if self.is_open() && !self.is_complete() {
            self.is_handed_out = true;
            self.counts = Counts::NONE;
            self.passes = self.passes.saturating_add(1);
        }
    }

    /// Tells whether the pass at hand measures.
    pub(super) const fn measures(&self) -> bool {
        matches!(self.stage, Stage::Measuring)
    }

    /// Takes note of what the pass counted that was handed out last.
    fn settle(&mut self, histogram: &Histogram) {
        let elements = match self.stage {
            Stage::Absent | Stage::Opened | Stage::Complete | Stage::Finished => return,
            Stage::Measuring => histogram.elements(),
            Stage::Storing | Stage::Joining | Stage::Replaying => self.counts.outcome.elements,
        };
        if !self.knows_elements {
            self.expect(elements);
        }
        if !self.counts.is_counted() {
            self.at.get_or_insert(Cause::Uncounted);
        } else if elements != self.elements {
            self.at.get_or_insert(Cause::Length);
        }
    }

    /// Returns what the next pass is for.
    fn next_stage(
        &mut self,
        config: &Config,
        whole_model: Scale,
        decide_join: DecideJoin,
    ) -> Stage {
        match self.stage {
            Stage::Opened if self.certifies => Stage::Measuring,
            Stage::Opened | Stage::Measuring => {
                self.outgoing = self.first_scale(config, whole_model);
                Stage::Storing
            }
            Stage::Storing if self.is_join() && config.policy().wants_operands() => {
                decide_join(self, config)
            }
            Stage::Storing | Stage::Joining => self.note(config),
            Stage::Replaying | Stage::Complete => Stage::Complete,
            stage @ (Stage::Absent | Stage::Finished) => stage,
        }
    }

    /// Decides the scale of a join.
    pub(super) fn decide_join(&mut self, config: &Config) -> Stage {
        let scales = self.scales;
        let pick = |fits: &dyn Fn(Scale) -> bool| join_target(scales.iter(), fits);
        let outcome = &self.counts.outcome;
        let decision = decide_join(config, outcome, self.incoming, pick, &mut self.cell);
        (self.certificate, self.has_certificate) = (decision, true);
        if decision.scale == self.outgoing {
            return self.note(config);
        }
        self.outgoing = decision.scale;
        Stage::Joining
    }

    /// Takes note of what narrowing did, in the cell; narrows once more if that is needed.
    pub(super) fn note(&mut self, config: &Config) -> Stage {
        let was_calibrated = self.cell.is_calibrated();
        match note(config, &self.counts.outcome, self.incoming, &mut self.cell) {
            Some(scale) => {
                self.outgoing = scale;
                self.replayed = was_calibrated || config.policy().wants_operands();
                Stage::Replaying
            }
            None => Stage::Complete,
        }
    }

    /// Returns the pass that was handed out last, to go on with.
    pub(super) fn pass<'a>(
        &'a mut self,
        config: &Config,
        histogram: &'a mut Histogram,
    ) -> Option<Pass<'a>> {
        let (narrowing, incoming) = (config.narrowing(), self.incoming);
        match self.stage {
            Stage::Absent | Stage::Opened | Stage::Complete | Stage::Finished => None,
            Stage::Measuring => {
                Some(Pass::measuring(narrowing, incoming, &mut self.counts, histogram))
            }
            Stage::Storing | Stage::Joining | Stage::Replaying => {
                let noise = Noise { seed: config.seed(), stream: self.stream };
                let counts = &mut self.counts;
                Some(Pass::storing(narrowing, noise, incoming, self.outgoing, counts))
            }
        }
    }

    /// Finishes a visit that is complete; returns what narrowing did, and a mistake if there was one.
    pub(super) fn finish(
        &mut self,
        config: &Config,
        histogram: &Histogram,
    ) -> (Outcome, Option<Cause>) {
        self.stage = Stage::Finished;
        let outcome = self.counts.outcome;
        self.broke_promise = breaks_promise(config, &outcome, &self.cell);
        if self.certifies {
            self.certificate = certify(config, histogram, self.outgoing, &mut self.cell);
            self.has_certificate = true;
        }
        (outcome, self.at.cause())
    }
}

/// A set of scales, such as those of a join's branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct ScaleSet([u64; 4]);

impl ScaleSet {
    pub(super) const NONE: Self = Self([0; 4]);

    /// Returns the word and the bit of a scale: there are 253 of them.
    const fn bit(scale: Scale) -> (usize, u64) {
        let index = (scale.log2() - Scale::MIN.log2()) as usize;
        (index / 64 % 4, 1 << (index % 64))
    }

    /// Collects scales; returns also how many there were, and the least of them.
    pub(super) fn collect(scales: impl IntoIterator<Item = Scale>) -> (Self, usize, Scale) {
        let (mut set, mut count, mut least) = (Self::NONE, 0, Scale::MAX);
        for scale in scales {
            let (word, bit) = Self::bit(scale);
            set.0[word] |= bit;
            (count, least) = (count + 1, least.min(scale));
        }
        (set, count, least)
    }

    const fn contains(&self, scale: Scale) -> bool {
        let (word, bit) = Self::bit(scale);
        self.0[word] & bit != 0
    }

    /// Returns the scales, the least first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Scale> + Clone + '_ {
        let all = Scale::MIN.log2()..=Scale::MAX.log2();
        all.map(Scale::saturating).filter(|&scale| self.contains(scale))
    }
}
