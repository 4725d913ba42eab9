//! What the host expects of the steps since the last read.

use adaloss_core::{
    apply::Apply,
    format::Element,
    policy::Cell,
    scale::Scale,
    scaler::device::{Entry, Line},
    statistics::Outcome,
};
use adaloss_hal::{
    AddressSpace, Memory, Plain,
    scaler::{Carried, Engine, HasScaler, LeftOut},
};

use super::{
    drawn::Drawn,
    walk::{MOST_LINES, MOST_VISITS, ROOM},
};
use crate::{
    Case, Discrepancy, Failure,
    bench::pattern,
    compare,
    tensor::{download, read_one},
};

/// What was asked for since the last read.
pub(super) struct Window<D: Memory> {
    entries: [Option<Entry>; MOST_LINES],
    lines: usize,
    made: [Option<Made>; MOST_VISITS],
    pub(super) visits: usize,
    /// Scales of gradients on the device, and what they have to be.
    carried: [Option<(Carried<D>, Scale)>; MOST_VISITS],
    scales: usize,
}

/// Values that a visit stored in the end.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) drawn: Drawn,
    /// Where they lie among all results.
    pub(super) first: usize,
    pub(super) incoming: Scale,
    pub(super) apply: Apply,
}

impl Made {
    /// Returns the bits of an element.
    pub(super) fn bits(&self, index: usize, outcome: &mut Outcome) -> u32 {
        self.apply.element(self.drawn.value(index, self.incoming), index as u64, outcome)
    }
}

impl<D: Memory> Window<D> {
    pub(super) const fn new() -> Self {
        Self {
            entries: [const { None }; MOST_LINES],
            lines: 0,
            made: [const { None }; MOST_VISITS],
            visits: 0,
            carried: [const { None }; MOST_VISITS],
            scales: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        (self.lines, self.visits, self.scales) = (0, 0, 0);
        self.made.fill(None);
        self.carried.iter_mut().for_each(|carried| *carried = None);
    }

    /// Takes note of what the next line has to say.
    pub(super) fn expects(&mut self, case: Case, entry: Entry) -> Result<(), Failure> {
        *case.finds(self.entries.get_mut(self.lines))? = Some(entry);
        self.lines += 1;
        Ok(())
    }

    /// Takes note of what the visit that was made last has to leave, and returns the number of the visit.
    pub(super) fn visited(&mut self, case: Case, made: Option<Made>) -> Result<usize, Failure> {
        let nth = self.visits;
        *case.finds(self.made.get_mut(nth))? = made;
        self.visits += 1;
        Ok(nth)
    }

    /// Keeps the scale of a gradient, to look at it when everything is done.
    pub(super) fn keep(
        &mut self,
        case: Case,
        carried: Option<Carried<D>>,
        scale: Scale,
    ) -> Result<(), Failure> {
        *case.finds(self.carried.get_mut(self.scales))? = carried.map(|carried| (carried, scale));
        self.scales += 1;
        Ok(())
    }

    /// Compares the scales that gradients carry.
    pub(super) fn compare_scales(&self, case: Case, device: &mut D) -> Result<(), Failure> {
        for (carried, scale) in self.carried.iter().flatten() {
            let found = read_one(case, device, carried.scale())?;
            compare::cells(case, &Cell::at(*scale), &found)?;
        }
        Ok(())
    }

    pub(super) fn made(&self, nth: usize) -> Option<&Made> {
        self.made.get(nth)?.as_ref()
    }

    /// Reads the lines and compares each.
    pub(super) fn compare_lines(
        &self,
        case: Case,
        engine: &mut Engine<D>,
        device: &mut D,
    ) -> Result<(), Failure>
    where
        D: HasScaler,
    {
        let mut room = [Line::EMPTY; MOST_LINES];
        case.number("the number of lines", self.lines as i64, engine.written() as i64)?;
        let lines = case.is_done(engine.read(device, &mut room))?;
        for (expected, found) in self.entries.iter().flatten().zip(lines) {
            compare_entry(case, expected, found)?;
        }
        Ok(())
    }

    /// Compares all results, and what lies between them; returns how many elements there were.
    pub(super) fn compare_results<F: Element + Plain>(
        &self,
        case: Case,
        device: &mut D,
        results: &D::Buffer<F>,
    ) -> Result<u64, Failure> {
        let (mut elements, mut counted) = (0, Outcome::EMPTY);
        let used = case.finds(D::Space::part(D::view(results), 0..self.visits * ROOM))?;
        download(case, device, used, &mut |place, found: F| {
            let found = found.to_bits();
            let made = self.made(place / ROOM);
            let index = made.map_or(usize::MAX, |made| place.wrapping_sub(made.first));
            if let Some(made) = made.filter(|made| index < made.drawn.elements) {
                elements += 1;
                let expected = made.bits(index, &mut counted);
                let operand = Some(made.drawn.value(index, made.incoming));
                let differs = Discrepancy::Element { index, operand, expected, found };
                return if expected == found { Ok(()) } else { Err(case.fails(differs)) };
            }
            let expected = pattern::<F>(place).to_bits();
            let written = Discrepancy::Written { index: place, expected, found };
            if expected == found { Ok(()) } else { Err(case.fails(written)) }
        })?;
        Ok(elements)
    }
}

/// Compares a line with what it has to say.
fn compare_entry(
    case: Case,
    expected: &Entry,
    found: Result<Entry, LeftOut>,
) -> Result<(), Failure> {
    let left_out = Discrepancy::Differs { what: "a line that the device left out" };
    let found = found.map_err(|_| case.fails(left_out))?;
    match (expected, &found) {
        (Entry::Visit(expected), Entry::Visit(found)) => {
            let case = Case { check: "a visit", ..case };
            case.whole("the place", &expected.place, &found.place)?;
            let scales = |visit: &adaloss_core::scaler::Visit| {
                [visit.incoming, visit.outgoing].map(|scale| i64::from(scale.log2()))
            };
            let names = ["the scale that it arrives with", "the scale that it leaves with"];
            let pairs = scales(expected).into_iter().zip(scales(found));
            for (what, (expected, found)) in names.into_iter().zip(pairs) {
                case.number(what, expected, found)?;
            }
            compare::outcomes(case, &expected.outcome, &found.outcome)?;
            case.number("the number of passes", expected.passes.into(), found.passes.into())?;
            let what = "whether it was replayed";
            case.number(what, expected.replayed.into(), found.replayed.into())?;
            let what = "whether it broke a promise";
            case.number(what, expected.broke_promise.into(), found.broke_promise.into())?;
            if let (Some(expected), Some(found)) = (&expected.certificate, &found.certificate) {
                compare::certificates(case, expected, found)?;
            }
            case.whole("whether it was certified", expected, found)
        }
        (Entry::Step(expected), Entry::Step(found)) => {
            let case = Case { check: "the end of a step", ..case };
            case.whole("the verdict", &expected.verdict, &found.verdict)?;
            let (here, there) = (expected.square_norm.to_bits(), found.square_norm.to_bits());
            case.whole("the sum of the squares", &here, &there)?;
            case.number("tiny weight gradients", expected.tiny as i64, found.tiny as i64)?;
            case.whole("the totals", &expected.totals, &found.totals)
        }
        (Entry::Loss(expected), Entry::Loss(found)) => {
            let case = Case { check: "the line of a loss", ..case };
            let (here, there) = (expected.loss.to_bits(), found.loss.to_bits());
            case.whole("the loss", &here, &there)?;
            let (here, there) = (expected.weight.to_bits(), found.weight.to_bits());
            case.whole("the weight of the loss", &here, &there)?;
            case.number("the loss's rows", expected.rows as i64, found.rows as i64)?;
            case.number("the rows that are right", expected.correct as i64, found.correct as i64)
        }
        _ => case.whole(says(expected), expected, &found),
    }
}

/// Names what a line has to say.
const fn says(entry: &Entry) -> &'static str {
    match entry {
        Entry::Visit(_) => "a line that has to say what a visit did",
        Entry::Refused => "a line that has to say that a visit was not finished",
        Entry::Loss(_) => "a line that has to say what a loss adds up to",
        Entry::Step(_) => "a line that has to say how a step ended",
        Entry::Halted { .. } => "a line that has to say why nothing is done any more",
        _ => "what a line says",
    }
}
