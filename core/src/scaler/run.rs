//! What is kept of a run, apart from its configuration, cells and histogram: plain data, so that it can live in the
//! memory of a device.

use super::{
    Decision, StepError, Totals, count,
    finding::Finding,
    visit::{DecideJoin, Kind, Opened, Purpose, ScaleSet, VisitState},
};
use crate::{
    format::Overflow,
    policy::{self, Cell, Config, Record, Seen},
    scale::Scale,
    statistics::Histogram,
    unscale::{Cause, Place, Unscaled, Verdict},
};

/// The counters of a run, the loss's cell, and the step under way: all that decides, but for the layers' cells.
///
/// Every call is given the same configuration and the same cells.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RunState {
    pub(super) totals: Totals,
    /// Cells that were visited, and those before them.
    pub(super) in_use: u64,
    /// Weight gradients of the step that were rounded because they are below 2^-126.
    pub(super) tiny: u64,
    /// The visit that is under way, or the last one of the step.
    pub(super) visit: VisitState,
    /// The first place of the step that is not usable.
    pub(super) bad: Finding,
    pub(super) loss: Cell,
    pub(super) skipped_in_row: u32,
    /// Whether values or sums overflowed or were not finite, as they are where a scale is too large.
    pub(super) overflowed: bool,
    /// Whether there was a visit, here or on a machine that shares the step, or a weight gradient.
    pub(super) has_visited: bool,
    /// Whether cells hold what this step showed.
    pub(super) has_seen: bool,
    reserved: [u8; 5],
}

/// Counters, a visit, a finding, a cell, two numbers and three flags, and no gap between them.
const _: () = assert!(size_of::<RunState>() == RunState::BYTES);

impl RunState {
    /// The size in memory.
    pub(super) const BYTES: usize = 5 * 8 + 2 * 8 + VisitState::BYTES + 16 + Cell::BYTES + 4 + 8;

    /// Makes the state of a new training run.
    #[inline(always)]
    pub(super) fn new(config: &Config) -> Self {
        Self {
            totals: Totals::NONE,
            in_use: 0,
            tiny: 0,
            visit: VisitState::ABSENT,
            bad: Finding::NOTHING,
            loss: config.cell(),
            skipped_in_row: 0,
            overflowed: false,
            has_visited: false,
            has_seen: false,
            reserved: [0; 5],
        }
    }

    /// Takes the counters and the loss's cell of a run that goes on; a step under way is left.
    pub(super) fn restore(
        &mut self,
        totals: Totals,
        skipped_in_row: u32,
        in_use: usize,
        loss: Cell,
    ) {
        (self.totals, self.skipped_in_row) = (totals, skipped_in_row);
        (self.in_use, self.loss) = (in_use as u64, loss);
        self.forget_step();
        // What a step under way had shown is of no use without the step.
        self.has_seen = true;
    }

    /// Begins a step; one that was begun before and not finished shows nothing.
    pub(super) fn begin(&mut self, cells: &mut [Cell]) {
        let has_seen = self.has_seen;
        self.forget_step();
        if has_seen {
            self.visited_mut(cells).for_each(|cell| cell.set_seen(Seen::NOTHING));
        }
    }

    /// Forgets the step under way, but for what cells hold of it.
    fn forget_step(&mut self) {
        self.tiny = 0;
        self.visit.forget();
        self.bad = Finding::NOTHING;
        (self.overflowed, self.has_visited, self.has_seen) = (false, false, false);
    }

    /// Moves the scale of a layer's cell, if it was visited.
    pub(super) fn finish_cell(&self, config: &Config, id: usize, cell: &mut Cell) {
        if (id as u64) < self.in_use {
            finish_cell(config, cell);
        }
    }

    /// Returns the cells that were visited, and those before them.
    pub(super) fn in_use<'c>(&self, cells: &'c [Cell]) -> &'c [Cell] {
        cells.get(..self.in_use as usize).unwrap_or(cells)
    }

    /// Returns the cell of the loss gradient, or of a layer that was visited.
    pub(super) fn cell<'c>(&'c self, cells: &'c [Cell], place: Place) -> Option<&'c Cell> {
        match place {
            Place::Loss => Some(&self.loss),
            Place::Layer(id) => self.in_use(cells).get(id),
            Place::Weight(_) => None,
        }
    }

    /// Returns the loss's cell and those of layers that were visited, and those before them.
    fn visited_mut<'c>(&'c mut self, cells: &'c mut [Cell]) -> impl Iterator<Item = &'c mut Cell> {
        core::iter::once(&mut self.loss).chain(cells.iter_mut().take(self.in_use as usize))
    }

    /// Returns the cell of a place as a visit finds it, the new one of a run before its first.
    fn cell_before(
        &self,
        config: &Config,
        cells: &[Cell],
        place: Place,
    ) -> Result<Cell, StepError> {
        let (Place::Layer(id) | Place::Weight(id)) = place else { return Ok(self.loss) };
        let cell = cells.get(id).ok_or(StepError::NoCell { id, cells: cells.len() })?;
        Ok(if (id as u64) < self.in_use { *cell } else { config.cell() })
    }

    /// Returns the cell of a place, made at its first visit.
    pub(super) fn cell_mut<'c>(
        &'c mut self,
        config: &Config,
        cells: &'c mut [Cell],
        place: Place,
    ) -> Result<&'c mut Cell, StepError> {
        let id = match place {
            Place::Loss => return Ok(&mut self.loss),
            Place::Layer(id) | Place::Weight(id) => id,
        };
        let capacity = cells.len();
        if id as u64 >= self.in_use
            && let Some(new) = cells.get_mut(self.in_use as usize..=id)
        {
            new.fill(config.cell());
            self.in_use = id as u64 + 1;
        }
        cells.get_mut(id).ok_or(StepError::NoCell { id, cells: capacity })
    }

    /// Returns the first place that is not usable, be it one whose visit was left.
    pub(super) fn first_bad(&self) -> Option<(Place, Cause)> {
        self.visit.left().or(self.bad.get())
    }

    /// Takes note of something unusable; the first place stays the one that is named.
    pub(super) fn reject(&mut self, place: Place, cause: Cause) {
        if !self.bad.is_some() {
            self.bad = Finding::new(place, cause);
        }
        self.overflowed |= cause.is_numeric();
    }

    /// Opens the visit of a place; takes note if there is no such cell.
    pub(super) fn open(
        &mut self,
        config: &Config,
        cells: &[Cell],
        (place, kind): (Place, Kind),
        (incoming, scales): (Scale, ScaleSet),
        stream: u32,
    ) -> Result<(), StepError> {
        self.settle_open();
        let cell = self
            .cell_before(config, cells, place)
            .inspect_err(|_| self.reject(place, Cause::Failed))?;
        let is_usable = !self.bad.is_some();
        let opened = Opened { place, kind, incoming, scales, stream, cell, is_usable };
        self.visit.open(config, &opened);
        Ok(())
    }

    /// Takes note of a visit that was opened and not finished.
    pub(super) fn settle_open(&mut self) {
        if let Some((place, cause)) = self.visit.left() {
            // It was opened before anything else was found.
            self.bad = Finding::new(place, cause);
        }
        if self.visit.is_open() {
            self.visit.forget();
        }
    }

    /// Moves the open visit on to its next pass, and hands that out.
    pub(super) fn next_pass(
        &mut self,
        config: &Config,
        histogram: &Histogram,
        decide_join: DecideJoin,
    ) {
        self.visit.move_on(config, histogram, self.loss.scale(), decide_join);
        self.visit.hand_out();
    }

    /// Moves the open visit on to its next pass, and hands that out if it is for `purpose`; tells whether it is.
    pub(super) fn next_pass_for(
        &mut self,
        config: &Config,
        histogram: &Histogram,
        purpose: Purpose,
    ) -> bool {
        self.visit.move_on(config, histogram, self.loss.scale(), VisitState::decide_join);
        self.visit.hand_out_for(purpose)
    }

    /// Finishes the visit under way, writes its cell back and counts it; returns its scale, if its passes were made.
    ///
    /// `origins` are the cells whose gradients the values were computed from: where the values are the first of the step
    /// that are not finite, the f32 sums of those gradients overflowed.
    pub(super) fn close(
        &mut self,
        config: &Config,
        cells: &mut [Cell],
        origins: impl IntoIterator<Item = Place>,
        histogram: &Histogram,
    ) -> Result<(Place, Scale), StepError> {
        let (place, was_usable) = (self.visit.place(), !self.bad.is_some());
        if !self.visit.is_complete() {
            return Err(StepError::Unfinished { place });
        }
        let [_, scale] = self.visit.scales();
        let (outcome, mistake) = self.visit.finish(config, histogram);
        self.overflowed |= outcome.overflow > 0;
        (self.has_seen, self.has_visited) = (true, true);
        if let Some(cause) = mistake {
            self.reject(place, cause);
        }
        if outcome.nonfinite > 0 {
            self.reject(place, Cause::NonFinite);
        } else if outcome.overflow > 0 && config.narrowing().overflow == Overflow::Infinity {
            self.reject(place, Cause::Overflow);
        }
        let cell = *self.visit.cell();
        *self.cell_mut(config, cells, place)? = cell;
        self.visit.count(&mut self.totals);
        if was_usable {
            self.trace_nonfinite(config, cells, origins);
        }
        Ok((place, scale))
    }

    /// Returns the line of the log of the visit that was just finished, if it decided.
    pub(super) fn decision(&self) -> Option<Decision> {
        let (step, place) = (self.totals.steps, self.visit.place());
        self.visit.certificate().map(|&certificate| Decision { step, place, certificate })
    }

    /// Tells whether nothing that was found so far makes the step unusable.
    pub(super) const fn is_usable(&self) -> bool {
        !self.visit.is_left() && !self.bad.is_some()
    }

    /// Does something with gradients that left the cells of `origins`, and takes note if its f32 sums are the first
    /// values of the step that are not finite.
    pub(super) fn tracing<R>(
        &mut self,
        config: &Config,
        cells: &mut [Cell],
        origins: impl IntoIterator<Item = Place>,
        operation: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let was_usable = self.is_usable();
        let result = operation(self);
        if was_usable {
            self.trace_nonfinite(config, cells, origins);
        }
        result
    }

    /// Takes note of f32 sums that overflowed, of gradients that left the cells of `origins`, if values that are not finite
    /// are what made the step unusable just now.
    fn trace_nonfinite(
        &mut self,
        config: &Config,
        cells: &mut [Cell],
        origins: impl IntoIterator<Item = Place>,
    ) {
        if self.bad.is(Cause::NonFinite) {
            for origin in origins {
                self.sums_overflowed(config, cells, origin);
            }
        }
    }

    /// Takes note that f32 sums of values that left a cell overflowed, although the values are finite.
    pub(super) fn sums_overflowed(&mut self, config: &Config, cells: &mut [Cell], origin: Place) {
        let is_in_use = self.cell(cells, origin).is_some();
        if config.policy().follows_maxima()
            && is_in_use
            && let Ok(cell) = self.cell_mut(config, cells, origin)
        {
            cell.sums_overflowed();
            self.has_seen = true;
        }
    }

    /// Takes note of what unscaling the weight gradient of layer `id` met.
    pub(super) fn unscaled(&mut self, id: usize, met: &Unscaled) {
        self.tiny = self.tiny.saturating_add(met.tiny);
        self.has_visited |= met.elements > 0;
        if met.nonfinite > 0 {
            self.reject(Place::Weight(id), Cause::NonFinite);
        }
    }

    /// Takes what a tensor showed on all machines instead of what it showed here.
    pub(super) fn set_seen(
        &mut self,
        config: &Config,
        cells: &mut [Cell],
        place: Place,
        seen: Seen,
    ) -> Result<(), StepError> {
        if let Place::Weight(id) = place {
            return Err(StepError::NoCell { id, cells: cells.len() });
        }
        let cell = self.cell_mut(config, cells, place)?;
        if config.policy().follows_maxima() {
            cell.set_seen(seen);
            self.has_seen = true;
            self.has_visited |= seen.visited;
        }
        Ok(())
    }

    /// Returns what finishing the step under way now leaves behind in a cell.
    pub(super) fn record(&self, config: &Config, cells: &[Cell], place: Place) -> Option<Record> {
        let mut cell = *self.cell(cells, place)?;
        let is_recorded = config.policy().follows_maxima() && cell.seen().visited;
        is_recorded.then(|| policy::finish(config, &mut cell))
    }

    /// Ends a step: moves the scales, and counts.
    pub(super) fn finish(&mut self, config: &Config, cells: &mut [Cell]) -> Verdict {
        let mut bad = self.first_bad();
        let (overflowed, has_visited) = (self.overflowed, self.has_visited);
        self.forget_step();
        if !has_visited {
            bad.get_or_insert((Place::Loss, Cause::Nothing));
        }
        self.visited_mut(cells).for_each(|cell| finish_cell(config, cell));
        // A mistake of the caller's says nothing of the scale.
        if overflowed || bad.is_none() {
            policy::step(config, !overflowed, &mut self.loss);
        }
        count(&mut self.totals.steps, true);
        let Some((layer, cause)) = bad else {
            self.skipped_in_row = 0;
            return Verdict::Apply;
        };
        count(&mut self.totals.skipped, true);
        self.skipped_in_row += 1;
        if self.skipped_in_row < config.max_skips() {
            Verdict::Skip { layer, cause }
        } else {
            let skipped = core::mem::take(&mut self.skipped_in_row);
            Verdict::Stop { layer, cause, skipped }
        }
    }
}

/// Moves the scale of a cell that a step showed something to.
fn finish_cell(config: &Config, cell: &mut Cell) {
    if config.policy().follows_maxima() && cell.seen() != Seen::NOTHING {
        policy::finish(config, cell);
    }
}
