//! What operations without a cell count, made up: losses, weight gradients and weights, of which some are bad.

use adaloss_core::{
    format::Element,
    scaler::device::Entry,
    statistics::Outcome,
    unscale::{Cause, LossSum, Place, Unscaled},
};
use adaloss_hal::{
    AddressSpace, HasNarrow, Memory, Plain,
    scaler::{Carried, Evidence, HasScaler},
};

use super::{
    visit::{Link, Operands},
    walk::Walk,
};
use crate::{Failure, bench::Bench, compare, tensor::read_one, values};

/// Elements of a weight gradient and of a weight, and rows of a loss.
const ELEMENTS: u64 = 20;

/// What the host made of the step so far, and what followed from the last one.
#[derive(Default)]
pub(super) struct Weights {
    /// What makes the step unusable unless something else does.
    pub(super) pending: Option<(Place, Cause)>,
    pub(super) square_norm: f64,
    pub(super) applies: bool,
    pub(super) updates: u32,
    pub(super) last_square_norm: f64,
}

impl Weights {
    /// Takes note of the end of a step.
    pub(super) fn ended(&mut self, applies: bool) {
        (self.applies, self.last_square_norm) = (applies, self.square_norm);
        self.updates += u32::from(applies);
        (self.square_norm, self.pending) = (0.0, None);
    }

    /// Takes note of the end of a step that was asked for in vain.
    pub(super) const fn stays(&mut self) {
        (self.applies, self.last_square_norm) = (false, 0.0);
    }
}

/// Returns what is wrong where so many elements were counted.
const fn missing(counted: u64) -> Option<Cause> {
    match counted {
        ELEMENTS => None,
        0 => Some(Cause::Uncounted),
        _ => Some(Cause::Length),
    }
}

impl<D: Memory + HasNarrow<F> + HasScaler, F: Element + Plain, S: Operands<D>> Walk<D, F, S> {
    /// Judges the weights of the coming step: one that was narrowed, and one that is used in f32.
    pub(super) fn judge_weights(&mut self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let case = self.case("a weight that is judged");
        let word = self.word(70);
        let (mut elements, mut nonfinite, mut overflow) = (ELEMENTS, 0, 0);
        match word % 64 {
            0 => elements = 0,
            1 => elements -= 1,
            2 => nonfinite = 1,
            3..7 => overflow = 2,
            _ => {}
        }
        let (id, saturates) = (70, word >> 8 & 1 == 1);
        let outcome = Outcome { elements, nonfinite, overflow, ..Outcome::EMPTY };
        let device = &mut *bench.device;
        case.succeeds(device.write(&[outcome], D::view_mut(&mut self.memory.outcome)))?;
        let counted = D::view(&self.memory.outcome);
        let evidence = Evidence::Weight { id, elements: ELEMENTS, saturates, outcome: counted };
        case.succeeds(self.engine.judge(device, evidence, None))?;
        // Another scaler may be shown the same counts, so that nobody clears them but the host.
        let left = read_one(case, device, D::view(&self.memory.outcome))?;
        compare::outcomes(case, &outcome, &left)?;
        case.succeeds(device.write(&[Outcome::EMPTY], D::view_mut(&mut self.memory.outcome)))?;
        let cause = missing(elements)
            .or((nonfinite > 0).then_some(Cause::NonFinite))
            .or((overflow > 0 && !saturates).then_some(Cause::Overflow));
        self.halts(id, cause);

        let (id, word) = (71, self.word(71));
        let sum = if word.is_multiple_of(64) { f64::INFINITY } else { f64::from(word) };
        case.succeeds(device.write(&[sum; 3], D::view_mut(&mut self.memory.squares)))?;
        let counted = case.finds(D::Space::part(D::view(&self.memory.squares), 2..3))?;
        let evidence = Evidence::WeightSquares { id, sum: counted };
        case.succeeds(self.engine.judge(device, evidence, None))?;
        self.halts(id, (!sum.is_finite()).then_some(Cause::NonFinite));
        bench.report.operations += 2;
        Ok(())
    }

    /// Takes note that nothing is done any more, if there is a cause.
    fn halts(&mut self, id: usize, cause: Option<Cause>) {
        let found = cause.map(|cause| (Place::Weight(id), cause));
        self.halted = self.halted.or(found);
    }

    /// Judges the loss of a micro-batch.
    pub(super) fn judge_loss(
        &mut self,
        bench: &mut Bench<'_, D>,
        index: u32,
    ) -> Result<(), Failure> {
        let case = self.case("a loss that is judged");
        let word = self.word(72 + index);
        let (rows, loss) = match word % 64 {
            0 => (0, 0.0),
            1 => (ELEMENTS - 1, 1.0),
            2 => (ELEMENTS, f64::NAN),
            3 => (ELEMENTS, f64::NEG_INFINITY),
            _ => (ELEMENTS, f64::from(word) * 0.37),
        };
        let sum = LossSum { loss, weight: 0.5, rows, correct: rows / 2 };
        let device = &mut *bench.device;
        case.succeeds(device.write(&[sum], D::view_mut(&mut self.memory.loss)))?;
        let counted = D::view(&self.memory.loss);
        case.is_done(self.engine.judge_loss(device, ELEMENTS as usize, counted, None))?;
        bench.report.operations += 1;
        if let Some((place, cause)) = self.halted {
            return self.window.expects(case, Entry::Halted { place, cause });
        }
        if let Some(cause) = missing(rows) {
            self.halted = Some((Place::Loss, cause));
        } else if !loss.is_finite() {
            self.state.resume(&mut self.cells).reject(Place::Loss, Cause::NonFinite);
        }
        self.window.expects(case, Entry::Loss(sum))
    }

    /// Judges two weight gradients, each by other counts.
    pub(super) fn judge_gradients(
        &mut self,
        bench: &mut Bench<'_, D>,
        nth: u32,
        first: &Link<D>,
        second: &Link<D>,
    ) -> Result<(), Failure> {
        let case = self.case("a weight gradient that is judged");
        let counts = |word: u32| {
            let elements = match word % 128 {
                0 => 0,
                1 => ELEMENTS - 1,
                _ => ELEMENTS,
            };
            Unscaled {
                elements,
                nonfinite: u64::from(word % 128 == 2),
                tiny: (word >> 8 & 3).into(),
            }
        };
        let device = &mut *bench.device;
        let (id, met) = (80, counts(self.word(80 + nth)));
        case.succeeds(device.write(&[met], D::view_mut(&mut self.memory.unscaled)))?;
        let (elements, counted) = (ELEMENTS, D::view_mut(&mut self.memory.unscaled));
        let origin = first.carried.as_ref().map(Carried::origin);
        let evidence = Evidence::Unscaled { id, origin, elements, counts: counted };
        case.succeeds(self.engine.judge(device, evidence, None))?;
        self.unscaled(id, first, &met);

        let (id, counted) = (81, counts(self.word(112 + nth)));
        let Unscaled { elements, nonfinite, tiny } = counted;
        let outcome = Outcome { elements, nonfinite, subnormal: tiny, ..Outcome::EMPTY };
        case.succeeds(device.write(&[outcome], D::view_mut(&mut self.memory.outcome)))?;
        let (elements, counted) = (ELEMENTS, D::view_mut(&mut self.memory.outcome));
        let origin = second.carried.as_ref().map(Carried::origin);
        let evidence = Evidence::Gradient { id, origin, elements, outcome: counted };
        case.succeeds(self.engine.judge(device, evidence, None))?;
        self.unscaled(id, second, &Unscaled::from_outcome(&outcome));
        bench.report.operations += 2;
        Ok(())
    }

    /// Takes note of a weight gradient on the host.
    fn unscaled(&mut self, id: usize, from: &Link<D>, met: &Unscaled) {
        let (None, Some(gradient)) = (self.halted, &from.gradient) else { return };
        let mut step = self.state.resume(&mut self.cells);
        step.unscale(id, gradient, |_, _| ((), *met));
        if let Some(cause) = missing(met.elements) {
            step.reject(Place::Weight(id), cause);
        }
    }

    /// Judges two weight gradients as an update would take them, and the next value of a running mean, in one list.
    pub(super) fn judge_squares(&mut self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let case = self.case("square norms that are judged");
        let device = &mut *bench.device;
        let judged = [(90, true), (91, false), (92, true)];
        let sums = judged.map(|(id, _)| match self.word(id as u32) {
            word if word.is_multiple_of(64) => f64::INFINITY,
            word => f64::from(values::random(word, id, -20, 20).abs()),
        });
        case.succeeds(device.write(&sums, D::view_mut(&mut self.memory.squares)))?;
        let mut squares = [D::view(&self.memory.squares); 3];
        for (nth, part) in squares.iter_mut().enumerate() {
            *part = case.finds(D::Space::part(*part, nth..nth + 1))?;
        }
        let mut evidence = [0, 1, 2].map(|nth| {
            let (id, is_gradient) = judged[nth];
            Evidence::Squares { id, is_gradient, sum: squares[nth] }
        });
        case.succeeds(self.engine.judge_all(device, &mut evidence, None))?;
        bench.report.operations += 1;
        if self.halted.is_some() {
            return Ok(());
        }
        for ((id, is_gradient), sum) in judged.into_iter().zip(sums) {
            let is_known = self.state.resume(&mut self.cells).first_bad().is_some();
            if !sum.is_finite() && !is_known {
                self.weights.pending = Some((Place::Weight(id), Cause::NonFinite));
            }
            self.weights.square_norm += if is_gradient { sum } else { 0.0 };
        }
        Ok(())
    }
}
