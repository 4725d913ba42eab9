//! Results: those that end in an epilogue, and those that are written as they are.

use adaloss_core::{format::Element, scale::Scale};

use super::{
    Case, Discrepancy, Failure,
    bench::{Bench, Ending, Pass, pattern},
    near::Near,
    refusal::Mutation,
    tensor::{Tensor, download, upload},
    values,
};
use adaloss_hal::{Device, ErrorKind, Memory, Mut, Plain};

/// The scales of results and of what is stored: none, to an unscaled weight gradient, into
/// underflow, into overflow, and beyond what an f32 factor can do.
const SCALES: [(i32, i32); 6] = [(0, 0), (7, 0), (11, -9), (-6, 6), (120, -120), (-120, 120)];

/// What an element has to be that no epilogue narrows.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// These bits.
    Bits(u32),
    /// This number, and any NaN for a NaN.
    Number(f32),
    /// A number within its bounds.
    Near(Near),
}

/// An operation without an epilogue, to which a mutation is applied before it is run.
type MutatedWrite<'o, D, F> =
    dyn for<'w> FnMut(&mut D, Mut<'w, D, F>, &Mutation) -> Result<(), <D as Device>::Error> + 'o;

impl<D: Memory> Bench<'_, D> {
    /// Runs an operation in some of the narrowings, scales and passes there are, and compares what
    /// it wrote, and its counters, bit for bit with what becomes of `results` in the core.
    ///
    /// Which ones goes round with `turn`.
    pub(super) fn exactly<F: Element + Plain>(
        &mut self,
        case: Case,
        turn: u32,
        to: &mut Tensor<D, F>,
        operation: &Ending<'_, D, F>,
        results: &dyn Fn(usize) -> f32,
    ) -> Result<(), Failure> {
        let turn = turn as usize;
        let narrowings = values::narrowings(F::ENCODING, self.report.capabilities);
        // A fifth of them, and at least one where the device has fewer.
        let step = narrowings.clone().count().clamp(1, 5);
        let narrowings = narrowings.enumerate();
        for (nth, narrowing) in narrowings.filter(|(nth, _)| (nth + turn).is_multiple_of(step)) {
            let (from, leaving) = SCALES[(turn + nth) % SCALES.len()];
            let (from, to_scale) = (Scale::saturating(from), Scale::saturating(leaving));
            let case = Case { narrowing: Some(narrowing), from, to: to_scale, ..case };
            let pass = Pass::ALL[(turn / SCALES.len() + nth) % Pass::ALL.len()].computed();
            self.run(case, pass, to, operation, results)?;
        }
        Ok(())
    }

    /// Runs an operation once, compares what it wrote with bounds on its f32 results, and its
    /// counters with one another.
    pub(super) fn within<F: Element + Plain>(
        &mut self,
        case: Case,
        turn: u32,
        to: &mut Tensor<D, F>,
        operation: &Ending<'_, D, F>,
        result: &dyn Fn(usize) -> Near,
    ) -> Result<(), Failure> {
        let narrowing = values::plain(F::ENCODING, self.report.capabilities).saturating();
        let (from, leaving) = values::scales(turn as i32 % 23 - 11);
        let case = Case { narrowing: Some(narrowing), from, to: leaving, ..case };
        let shift = (case.to / case.from).log2();
        let (start, outcome, histogram) = self.measure(case, to, operation)?;

        let (mut zeros, mut subnormals, mut nonfinite) = (0, 0, 0);
        let min_normal = F::from_bits(F::ENCODING.min_normal_bits()).widen();
        download(case, self.device, to.whole(), &mut |place, found: F| {
            let index = place.wrapping_sub(1);
            if index >= to.elements() {
                return is_kept(case, place, found);
            }
            let result = result(index);
            let found = found.widen();
            zeros += u64::from(found == 0.0);
            subnormals += u64::from(found != 0.0 && found.abs() < min_normal);
            nonfinite += u64::from(result.value.is_nan());
            // Rounding never turns two values round, so the bounds can be narrowed like any value.
            let [least, greatest] =
                result.range().map(|x| F::narrow(x, narrowing, shift, 0).widen());
            let is_nan = result.value.is_nan() && found.is_nan();
            if is_nan || (least..=greatest).contains(&found) {
                Ok(())
            } else {
                Err(case.fails(Discrepancy::Bound { index, least, greatest, found }))
            }
        })?;
        self.report.elements += to.elements() as u64;

        let count =
            |what, expected: u64, found: u64| case.number(what, expected as i64, found as i64);
        let (length, before) = (to.elements() as u64, start.outcome);
        // Counters that went down are as wrong as those that went up too far.
        let added = u64::wrapping_sub;
        let lost = added(outcome.underflow, before.underflow);
        let beyond = added(outcome.overflow, before.overflow);
        count("the outcome's elements", length, added(outcome.elements, before.elements))?;
        let unusable = added(outcome.nonfinite, before.nonfinite);
        count("the outcome's non-finite elements", nonfinite, unusable)?;
        let zero = added(outcome.zero, before.zero).wrapping_add(lost);
        count("zeros and underflow", zeros, zero)?;
        let subnormal = added(outcome.subnormal, before.subnormal);
        count("the outcome's subnormals", subnormals, subnormal)?;
        let seen = added(histogram.elements(), start.histogram.elements());
        count("the histogram's elements", length, seen)?;
        let promised = added(histogram.underflow(case.to), start.histogram.underflow(case.to));
        count("underflow, as the histogram promises", promised, lost)?;
        let promised = added(histogram.overflow(case.to), start.histogram.overflow(case.to));
        count("overflow, as the histogram promises", promised, beyond)
    }

    /// Gives the elements of a tensor their values, and its guards a pattern.
    pub(super) fn prepare<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
        before: &dyn Fn(usize) -> F,
    ) -> Result<(), Failure> {
        upload(case, self.device, to.whole_mut(), &pattern::<F>)?;
        to.fill(case, self.device, before)
    }

    /// Compares the elements of a tensor, and its guards.
    pub(super) fn agrees<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &Tensor<D, F>,
        expected: &dyn Fn(usize) -> Expected,
    ) -> Result<(), Failure> {
        let elements = to.elements();
        download(case, self.device, to.whole(), &mut |place, found: F| {
            let index = place.wrapping_sub(1);
            if index < elements {
                is_expected(case, index, expected(index), found)
            } else {
                is_kept(case, place, found)
            }
        })?;
        self.report.elements += elements as u64;
        Ok(())
    }

    /// Runs an operation without an epilogue on a tensor that has values, and compares it after.
    pub(super) fn writes<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
        before: &dyn Fn(usize) -> F,
        operation: impl FnOnce(&mut D, Mut<'_, D, F>) -> Result<(), D::Error>,
        expected: &dyn Fn(usize) -> Expected,
    ) -> Result<(), Failure> {
        self.prepare(case, to, before)?;
        let result = operation(self.device, to.view_mut(case)?);
        self.written(case, to, result, expected)
    }

    /// What [`writes`](Self::writes) does after the operation: compiled once for all of them.
    fn written<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &Tensor<D, F>,
        result: Result<(), D::Error>,
        expected: &dyn Fn(usize) -> Expected,
    ) -> Result<(), Failure> {
        case.succeeds(result)?;
        self.report.operations += 1;
        self.agrees(case, to, expected)
    }

    /// Runs an operation without an epilogue whose shape is invalid, and checks that it is refused
    /// and wrote nothing.
    pub(super) fn refuses_write<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
        operation: impl FnOnce(&mut D, Mut<'_, D, F>) -> Result<(), D::Error>,
    ) -> Result<(), Failure> {
        upload(case, self.device, to.whole_mut(), &pattern::<F>)?;
        let result = operation(self.device, to.view_mut(case)?);
        self.not_written(case, to, result)
    }

    /// Runs an operation without an epilogue with each mutation of its operands, and checks that it is refused and wrote
    /// nothing.
    pub(super) fn refuses_mutated_writes<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
        operation: &mut MutatedWrite<'_, D, F>,
    ) -> Result<(), Failure> {
        for nth in 0.. {
            let mutation = Mutation::new(self.report.capabilities, nth);
            upload(case, self.device, to.whole_mut(), &pattern::<F>)?;
            let result = operation(self.device, to.view_mut(case)?, &mutation);
            self.not_written(Case { epilogue: mutation.description(), ..case }, to, result)?;
            if nth + 1 == mutation.count() {
                break;
            }
        }
        Ok(())
    }

    /// Runs an operation without an epilogue whose predicate says no, and checks that it wrote nothing.
    pub(super) fn skips_write<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
        operation: impl FnOnce(&mut D, Mut<'_, D, F>) -> Result<(), D::Error>,
    ) -> Result<(), Failure> {
        let case = Case { epilogue: "with a predicate of 0", ..case };
        upload(case, self.device, to.whole_mut(), &pattern::<F>)?;
        let result = operation(self.device, to.view_mut(case)?);
        let kept = |index: usize| Expected::Bits(pattern::<F>(index + 1).to_bits());
        self.written(case, to, result, &kept)
    }

    /// What [`refuses_write`](Self::refuses_write) does after the operation.
    fn not_written<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &Tensor<D, F>,
        result: Result<(), D::Error>,
    ) -> Result<(), Failure> {
        self.refused(case, ErrorKind::Shape, result)?;
        self.agrees(case, to, &|index| Expected::Bits(pattern::<F>(index + 1).to_bits()))
    }
}

/// Compares a guard with its pattern.
fn is_kept<F: Element>(case: Case, place: usize, found: F) -> Result<(), Failure> {
    let (expected, found) = (pattern::<F>(place).to_bits(), found.to_bits());
    let written = Discrepancy::Written { index: place, expected, found };
    if expected == found { Ok(()) } else { Err(case.fails(written)) }
}

/// Compares one element with what it has to be.
fn is_expected<F: Element>(
    case: Case,
    index: usize,
    expected: Expected,
    found: F,
) -> Result<(), Failure> {
    let (is_right, expected) = match expected {
        Expected::Bits(bits) => (bits == found.to_bits(), bits),
        Expected::Number(x) => {
            let is_right = x.to_bits() == found.widen().to_bits();
            (is_right || x.is_nan() && found.widen().is_nan(), x.to_bits())
        }
        Expected::Near(near) if near.allows(found.widen()) => return Ok(()),
        Expected::Near(near) => {
            let ([least, greatest], found) = (near.range(), found.widen());
            return Err(case.fails(Discrepancy::Bound { index, least, greatest, found }));
        }
    };
    let found = found.to_bits();
    let differs = Discrepancy::Element { index, operand: None, expected, found };
    if is_right { Ok(()) } else { Err(case.fails(differs)) }
}
