//! The backward pass: marks are visited, and segments run between them.

use adaloss_core::{
    format::{Encoding, Format, Narrowing, Overflow, Subnormals},
    policy::{Config, Recovery},
    propagate::{Scaled, common_scale, shifted},
    scale::Scale,
    scaler::{Step, StepError, Visit},
    unscale::{Cause, Place, Verdict, unscale},
};

use crate::{
    apply::narrow,
    limit::{Limit, Limits},
    slot,
};

/// How much lower a segment is run again that overflowed, and how often: together all of binary16.
const BINADES: i32 = 8;
const ATTEMPTS: i32 = 5;

/// A backward pass under way.
#[derive(Debug)]
#[must_use = "only a finished walk tells whether the step is usable"]
pub struct Walk<'a> {
    step: Step<'a>,
    /// Whether a segment may be run at another scale than its gradient has.
    may_replay: bool,
    /// Whether an overflow leaves infinities behind.
    overflow: Overflow,
    is_usable: bool,
    limits: &'a mut Limits,
    visits: &'a mut Vec<Visit>,
}

/// One run of a segment, from a mark back to the marks and the weights before it.
#[derive(Clone, Copy, Debug)]
#[must_use = "a segment that was run is to be judged"]
pub struct Attempt {
    place: Place,
    encoding: Encoding,
    lowered: i32,
    /// The scale that the gradient of the segment's end has to have.
    pub scale: Scale,
}

/// What is to be done with the results of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "results that are not finite are not to be used"]
pub enum Judgement {
    /// They are finite, and carry the scale of the attempt.
    Keep,
    /// They are not finite: run the segment again, lowered once more.
    Lower,
    /// They are not finite, and no scale helps: the step is not usable.
    Reject,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        config: Config,
        step: Step<'a>,
        limits: &'a mut Limits,
        visits: &'a mut Vec<Visit>,
    ) -> Self {
        let may_replay = config.recovery() == Recovery::Replay && !config.policy().is_whole_model();
        let overflow = config.narrowing().overflow;
        Self { step, may_replay, overflow, is_usable: true, limits, visits }
    }

    /// Narrows what arrived at a mark, the branches joined if there are several.
    ///
    /// # Errors
    ///
    /// The scaler refuses the visit.
    pub fn visit(
        &mut self,
        place: Place,
        branches: Vec<Scaled<Vec<f32>>>,
    ) -> Result<Scaled<Vec<f32>>, StepError> {
        let scales = branches.iter().map(Scaled::scale).collect::<Vec<_>>();
        let least = common_scale(scales.iter().copied()).unwrap_or_default();
        let common = if place == Place::Loss { Scale::ONE } else { least };
        let values = sum(branches, common);
        let mut visit = match place {
            Place::Layer(id) if scales.len() == 1 => self.step.layer(id, common)?,
            Place::Layer(id) => self.step.join_scales(id, scales.into_iter())?,
            Place::Loss | Place::Weight(_) => self.step.loss(),
        };
        let mut narrowed = Vec::new();
        while let Some(mut pass) = visit.next_pass() {
            narrowed = narrow(&values, &mut pass).map_err(StepError::Apply)?;
        }
        let narrowed = visit.finish(narrowed)?;
        if let Some(visit) = self.step.last() {
            let outcome = &visit.outcome;
            self.is_usable &= outcome.nonfinite == 0
                && (outcome.overflow == 0 || self.overflow != Overflow::Infinity);
            self.visits.push(visit);
        }
        Ok(narrowed)
    }

    /// Plans the run of the segment that ends in a mark, given the scale of the mark's gradient.
    ///
    /// The segment computes in `encoding`; `lowered` is how often it was run in vain in this step.
    pub fn attempt(
        &self,
        place: Place,
        encoding: Encoding,
        gradient: Scale,
        lowered: i32,
    ) -> Attempt {
        let limit = if self.may_replay { self.limits.now()[slot(place)] } else { Limit::NONE };
        let first = gradient.min(limit.scale());
        let scale = Scale::saturating(first.log2() - BINADES * lowered);
        Attempt { place, encoding, lowered, scale }
    }

    /// Judges the results of a segment, and remembers at which scale they would have fit.
    ///
    /// Where nothing is run again, the scale of the segment's end is lower in the next step.
    pub fn judge<'r>(
        &mut self,
        attempt: Attempt,
        results: impl IntoIterator<Item = &'r f32>,
    ) -> Judgement {
        let Attempt { place, encoding, lowered, scale } = attempt;
        if let Some(largest) = largest(results) {
            let fits = fitting(encoding, largest, scale);
            let failed = scale.log2() + BINADES;
            let limit = if lowered > 0 {
                // What fits although it failed there overflowed on the way, not in the results.
                Limit::at(if fits.log2() < failed { fits } else { scale })
            } else {
                self.limits.now()[slot(place)].after(fits)
            };
            self.limits.note(slot(place), limit);
            return Judgement::Keep;
        }
        if self.may_replay && lowered < ATTEMPTS {
            return Judgement::Lower;
        }
        if self.may_replay {
            // An overflow would have gone by now.
            self.reject(place, Cause::NonFinite);
        } else {
            self.reject(place, Cause::Overflow);
            self.step.sums_overflowed(place);
        }
        Judgement::Reject
    }

    /// Unscales the gradient of a weight, and adds what other segments found, at scales of theirs.
    ///
    /// # Errors
    ///
    /// Core refuses the gradient, whose length fits.
    pub fn unscale(
        &mut self,
        place: Place,
        gradient: Scaled<&[f32]>,
        earlier: Option<Vec<f32>>,
    ) -> Result<Vec<f32>, StepError> {
        let mut unscaled = vec![0.0; gradient.scaled().len()];
        let mut met =
            unscale(Format::BINARY32, gradient, &mut unscaled).map_err(StepError::Apply)?;
        met.nonfinite += add(&mut unscaled, earlier);
        match place {
            Place::Layer(id) | Place::Weight(id) => self.step.unscaled(id, &met),
            Place::Loss if met.nonfinite > 0 => self.step.reject(place, Cause::NonFinite),
            // All finite: no weight is named, and the step has met one.
            Place::Loss => self.step.unscaled(0, &met),
        }
        self.is_usable &= met.nonfinite == 0;
        Ok(unscaled)
    }

    /// Adds to the unscaled gradient of a weight what earlier micro-batches found, in f32; `place` is where
    /// the last part of it was unscaled.
    pub fn accumulate(&mut self, place: Place, gradient: &mut [f32], earlier: Option<Vec<f32>>) {
        if add(gradient, earlier) > 0 {
            let place = match place {
                Place::Layer(id) => Place::Weight(id),
                place => place,
            };
            self.reject(place, Cause::NonFinite);
        }
    }

    /// Takes note that a place, and with it the step, is not usable.
    pub fn reject(&mut self, place: Place, cause: Cause) {
        self.step.reject(place, cause);
        self.is_usable = false;
    }

    /// Tells whether all places of this pass were usable so far; what comes after one that is not is not either.
    pub const fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Ends the pass and leaves the step open for the next micro-batch; returns whether the step can still be
    /// usable.
    pub fn suspend(self) -> bool {
        self.step.first_bad().is_none()
    }

    /// Ends the step.
    pub fn finish(self) -> Verdict {
        self.limits.finish();
        self.step.finish()
    }
}

/// Adds to a gradient in f32; returns how many of the sums are not finite.
fn add(gradient: &mut [f32], earlier: Option<Vec<f32>>) -> u64 {
    let mut nonfinite = 0;
    for (sum, earlier) in gradient.iter_mut().zip(earlier.unwrap_or_default()) {
        *sum += earlier;
        nonfinite += u64::from(!sum.is_finite());
    }
    nonfinite
}

/// Brings branches to one scale and sums them in f32, in the order in which they arrived.
pub fn sum(branches: impl IntoIterator<Item = Scaled<Vec<f32>>>, common: Scale) -> Vec<f32> {
    let mut branches = branches.into_iter().map(|branch| {
        let (mut values, scale) = branch.into_parts();
        if scale != common {
            values.iter_mut().for_each(|value| *value = shifted(*value, common / scale));
        }
        values
    });
    let mut sum = branches.next().unwrap_or_default();
    for branch in branches {
        sum.iter_mut().zip(branch).for_each(|(sum, value)| *sum += value);
    }
    sum
}

/// Returns the largest magnitude, or `None` where one is not finite.
fn largest<'r>(values: impl IntoIterator<Item = &'r f32>) -> Option<f32> {
    // Of numbers that are not negative the bits order as the numbers do, NaN above all.
    let bits = values.into_iter().map(|value| value.abs().to_bits()).max().unwrap_or(0);
    Some(f32::from_bits(bits)).filter(|largest| largest.is_finite())
}

/// Returns the greatest scale at which a segment's results would have stayed within its type, with
/// one binade left free, given the largest of them at `scale`.
fn fitting(encoding: Encoding, largest: f32, scale: Scale) -> Scale {
    match Narrowing::to(Format::new(encoding, Subnormals::Gradual)).shifts(largest) {
        Some(shifts) => Scale::saturating(scale.log2() + shifts.greatest - 1),
        None => Scale::MAX,
    }
}
