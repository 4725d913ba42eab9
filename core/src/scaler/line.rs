//! What a device writes down for the host to read later.

use core::fmt;

use super::{Totals, Visit, finding::Finding};
use crate::{
    policy::Certificate,
    scale::Scale,
    statistics::Outcome,
    unscale::{Cause, LossSum, Place, Verdict},
};

/// What a device writes down of a visit, a loss or the end of a step, for the host to read when it likes.
///
/// 232 bytes, every one defined; all of them zero are a line that nothing was written to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Line {
    /// The number that the host gave the line.
    serial: u64,
    /// Of an entry that has other numbers than a visit's.
    numbers: [u64; 7],
    outcome: Outcome,
    certificate: Certificate,
    at: Finding,
    /// Steps that were skipped in a row, where training cannot go on.
    skipped: u32,
    incoming: Scale,
    outgoing: Scale,
    kind: Kind,
    passes: u8,
    has_certificate: bool,
    replayed: bool,
    broke_promise: bool,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<Line>() == Line::BYTES);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Empty = 0,
    Visit = 1,
    Refused = 2,
    Loss = 3,
    Step = 4,
    Halted = 5,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Entry {
    /// A visit was finished.
    Visit(Visit),
    /// A visit could not be made or finished, and the step is not usable: there is no such cell, or a pass is missing.
    Refused,
    /// What a loss added up to.
    Loss(LossSum),
    /// A step ended.
    Step(StepEnd),
    /// Nothing was done any more, since an earlier step of this run could not be gone on from.
    Halted {
        /// Where.
        place: Place,
        /// Why.
        cause: Cause,
    },
}

/// The end of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepEnd {
    /// Whether its gradients may reach the weights.
    pub verdict: Verdict,
    /// The sum of the squares of all weight gradients, as far as they were shown.
    pub square_norm: f64,
    /// Weight gradients that were rounded because they are below 2^-126.
    pub tiny: u64,
    /// What happened since the run began, this step included.
    pub totals: Totals,
}

impl Line {
    /// The size in memory.
    pub const BYTES: usize = 232;

    /// Nothing was written.
    pub const EMPTY: Self = Self {
        serial: 0,
        numbers: [0; 7],
        outcome: Outcome::EMPTY,
        certificate: Certificate::NONE,
        at: Finding::NOTHING,
        skipped: 0,
        incoming: Scale::ONE,
        outgoing: Scale::ONE,
        kind: Kind::Empty,
        passes: 0,
        has_certificate: false,
        replayed: false,
        broke_promise: false,
        reserved: [0; 3],
    };

    /// Reads the line that has this number; `None` where something else is written there, so that the device left out
    /// what should have written it.
    pub fn entry(&self, serial: u64) -> Option<Entry> {
        let [n0, n1, n2, n3, n4, n5, n6] = self.numbers;
        if serial != self.serial {
            return None;
        }
        Some(match self.kind {
            Kind::Empty => return None,
            Kind::Visit => Entry::Visit(Visit {
                place: self.at.place(),
                incoming: self.incoming,
                outgoing: self.outgoing,
                outcome: self.outcome,
                certificate: self.has_certificate.then_some(self.certificate),
                replayed: self.replayed,
                passes: self.passes,
                broke_promise: self.broke_promise,
            }),
            Kind::Refused => Entry::Refused,
            Kind::Loss => Entry::Loss(LossSum {
                loss: f64::from_bits(n0),
                weight: f64::from_bits(n1),
                rows: n2,
                correct: n3,
            }),
            Kind::Step => {
                let (steps, skipped) = (n2, n3);
                let (recovered, certificates, broken) = (n4, n5, n6);
                Entry::Step(StepEnd {
                    verdict: match self.at.get() {
                        None => Verdict::Apply,
                        Some((layer, cause)) if self.skipped == 0 => Verdict::Skip { layer, cause },
                        Some((layer, cause)) => {
                            Verdict::Stop { layer, cause, skipped: self.skipped }
                        }
                    },
                    square_norm: f64::from_bits(n0),
                    tiny: n1,
                    totals: Totals { steps, skipped, recovered, certificates, broken },
                })
            }
            Kind::Halted => {
                let (place, cause) = (self.at.place(), self.at.cause().unwrap_or(Cause::Failed));
                Entry::Halted { place, cause }
            }
        })
    }

    pub(super) fn visit(serial: u64, visit: &Visit) -> Self {
        Self {
            serial,
            outcome: visit.outcome,
            certificate: visit.certificate.unwrap_or(Certificate::NONE),
            at: Finding::at(visit.place),
            incoming: visit.incoming,
            outgoing: visit.outgoing,
            kind: Kind::Visit,
            passes: visit.passes,
            has_certificate: visit.certificate.is_some(),
            replayed: visit.replayed,
            broke_promise: visit.broke_promise,
            ..Self::EMPTY
        }
    }

    pub(super) const fn refused(serial: u64) -> Self {
        Self { serial, kind: Kind::Refused, ..Self::EMPTY }
    }

    pub(super) const fn loss(serial: u64, sum: &LossSum) -> Self {
        let LossSum { loss, weight, rows, correct } = *sum;
        let numbers = [loss.to_bits(), weight.to_bits(), rows, correct, 0, 0, 0];
        Self { serial, kind: Kind::Loss, numbers, ..Self::EMPTY }
    }

    pub(super) const fn step(serial: u64, end: &StepEnd) -> Self {
        let StepEnd { verdict, square_norm, tiny, totals } = *end;
        let Totals { steps, skipped, recovered, certificates, broken } = totals;
        let (at, in_row) = match verdict {
            Verdict::Apply => (Finding::NOTHING, 0),
            Verdict::Skip { layer, cause } => (Finding::new(layer, cause), 0),
            Verdict::Stop { layer, cause, skipped } => (Finding::new(layer, cause), skipped),
        };
        let norm = square_norm.to_bits();
        let numbers = [norm, tiny, steps, skipped, recovered, certificates, broken];
        Self { serial, kind: Kind::Step, numbers, at, skipped: in_row, ..Self::EMPTY }
    }

    pub(super) const fn halted(serial: u64, at: Finding) -> Self {
        Self { serial, kind: Kind::Halted, at, ..Self::EMPTY }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry(self.serial) {
            None => f.write_str("nothing"),
            Some(entry) => entry.fmt(f),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Visit(Visit { place, incoming, outgoing, outcome, passes, .. }) => {
                let Outcome { elements, underflow, overflow, nonfinite, .. } = outcome;
                write!(
                    f,
                    "{place} from {incoming} to {outgoing} in {passes} passes: of {elements} {underflow} \
                     underflow, {overflow} overflow, {nonfinite} non-finite"
                )
            }
            Self::Refused => f.write_str("a visit that could not be made or finished"),
            Self::Loss(LossSum { loss, weight, .. }) => {
                write!(f, "a loss of {loss} over a weight of {weight}")
            }
            Self::Step(StepEnd { verdict, totals, .. }) => {
                write!(f, "step {}: {verdict}", totals.steps)
            }
            Self::Halted { place, cause } => {
                write!(
                    f,
                    "nothing, since an earlier step could not be gone on from: {cause} in {place}"
                )
            }
        }
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::EMPTY
    }
}
