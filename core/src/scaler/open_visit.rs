//! One visit of a tensor: its passes are pulled, one after another, until none is left.

use super::{
    State, Step, StepError,
    visit::{DecideJoin, VisitState},
};
use crate::{apply::Pass, format::Element, policy::Operands, propagate::Scaled, unscale::Place};

/// A visit under way: hands out the passes over one tensor.
///
/// [`next_pass`](Self::next_pass) is called until it returns `None`, and each pass is applied to the same f32
/// values: one pass, and one more where a certificate is due, at a first visit, and where the values overflow.
/// [`finish`](Self::finish) then ties what was narrowed to its scale.
///
/// A visit that is left before that, because a kernel failed, say, stays open: the next visit of the step, and its
/// finish, find it and reject the step with the place and [`Cause::Failed`](crate::unscale::Cause::Failed); the cell is
/// as it was.  So does a pass that was handed out and not applied, with
/// [`Cause::Uncounted`](crate::unscale::Cause::Uncounted), and one over another number of values, with
/// [`Cause::Length`](crate::unscale::Cause::Length).
///
/// # Examples
///
/// A kernel that computes its f32 results, twice the gradient, again in each pass, so that no copy of them is kept:
///
/// ```
/// use adaloss_core::{format::{Element, Format, f16}, policy::Config, scaler::LossScaler};
///
/// let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
/// let mut step = scaler.begin();
/// let mut narrowed = [[f16::ZERO; 2]; 2];
/// let [first, second] = &mut narrowed;
/// let gradient = step.loss().apply(&[2.0e-8, -1.0e-6], first)?;
///
/// let mut visit = step.layer(0, &gradient)?;
/// while let Some(mut pass) = visit.next_pass() {
///     for (g, to) in gradient.scaled().iter().zip(second.chunks_mut(1)) {
///         pass.apply(&[2.0 * g.widen()], to)?;
///     }
/// }
/// let gradient = visit.finish(&second[..])?;
/// assert!((gradient.unscale(|g, inverse| g[1].widen() * inverse) + 2.0e-6).abs() < 1.0e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a visit that is not finished makes the step unusable"]
pub struct OpenVisit<'v> {
    step: Step<'v>,
    origins: Origins<'v>,
    decide_join: DecideJoin,
}

/// The cells whose gradients the values were computed from, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origins<'v> {
    One(Option<Place>),
    Branches(&'v [Scaled<()>]),
}

impl<'v> Origins<'v> {
    fn places(self) -> impl Iterator<Item = Place> + 'v {
        let (one, branches) = match self {
            Self::One(origin) => (origin, [].as_slice()),
            Self::Branches(branches) => (None, branches),
        };
        one.into_iter().chain(branches.iter().filter_map(Scaled::origin))
    }
}

impl<'v> OpenVisit<'v> {
    pub(super) fn new(step: Step<'v>, origins: Origins<'v>) -> Self {
        Self { step, origins, decide_join: VisitState::note }
    }

    /// Lets the visit be one of a join.
    pub(super) fn of_join(self) -> Self {
        Self { decide_join: VisitState::decide_join, ..self }
    }

    /// Tells whether the policy decides now from the operands of the layer, so that they are to be
    /// [described](Self::describe) before the first pass.
    ///
    /// Only `normal` and `range` do, and only where a decision is due.  A layer whose operands are never described
    /// carries its scale through; a loss is then carried into the format as it is.
    pub fn wants_operands(&self) -> bool {
        let State { config, run, .. } = &*self.step.state;
        run.visit.wants_operands(config)
    }

    /// Describes the operands of the layer, or the gradient of a loss; passed over where they are not
    /// [wanted](Self::wants_operands).
    pub fn describe(&mut self, operands: &Operands) {
        let State { config, run, .. } = &mut *self.step.state;
        run.visit.describe(config, operands);
    }

    /// Returns the next pass over the tensor; `None` where the last one has done what it was for.
    pub fn next_pass(&mut self) -> Option<Pass<'_>> {
        let State { config, run, histogram, .. } = &mut *self.step.state;
        run.next_pass(config, histogram, self.decide_join);
        if run.visit.measures() {
            histogram.clear();
        }
        run.visit.pass(config, histogram)
    }

    /// Returns the pass under way, for callers that cannot hold one from one part of a tensor to the next; `None`
    /// before the first and after the last.
    pub fn pass(&mut self) -> Option<Pass<'_>> {
        let State { config, run, histogram, .. } = &mut *self.step.state;
        run.visit.pass(config, histogram)
    }

    /// Does what the passes ask for with f32 values that are kept: measures them, and narrows them into `to`.
    ///
    /// # Errors
    ///
    /// The slices differ in length, or `F` is not the encoding of the gradient format.  The cell is as it was, and
    /// the step is not usable.
    pub fn apply<'t, F: Element>(
        mut self,
        from: &[f32],
        to: &'t mut [F],
    ) -> Result<Scaled<&'t [F]>, StepError> {
        while let Some(mut pass) = self.next_pass() {
            pass.apply(from, to).map_err(StepError::Apply)?;
        }
        self.finish(to)
    }

    /// Ends the visit: ties `value`, which the passes stored, to the scale that it carries.
    ///
    /// # Errors
    ///
    /// [`next_pass`](Self::next_pass) did not return `None` yet.  The cell is as it was, and the step is not usable.
    pub fn finish<U>(self, value: U) -> Result<Scaled<U>, StepError> {
        let Self { mut step, origins, .. } = self;
        let State { config, run, histogram, .. } = &mut *step.state;
        let (place, scale) = run.close(config, step.cells, origins.places(), histogram)?;
        step.log();
        Ok(Scaled::from_cell(value, scale, place))
    }
}
