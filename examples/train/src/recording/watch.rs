//! Training that is recorded.

use std::{cell::RefCell, collections::VecDeque, mem, rc::Rc};

use adaloss_core::{
    format::{Format, Narrowing},
    policy::Operands,
    scaler::Visit,
    statistics::Histogram,
    unscale::Verdict,
};
use adaloss_hal::{
    Device, Readout,
    wrap::{Call, Hook, Results, Wrapped},
};
use anyhow::{Result, bail, ensure};

use super::{Recording, Tally, Visited, tally::Counter};
use crate::{
    data::Dataset,
    layer::{Machine, Observer},
    method::{FormatName, Method},
    task::Task,
    trainer::{Settings, Trainer},
};

/// Trains a task in f32, and returns what its gradients showed, once for each format.
///
/// `before_step` hears how many steps are done, and ends the training by an error of its own.
///
/// # Errors
///
/// Training cannot begin or go on, or the error of `before_step`.
pub fn record<D: Machine<f32, f32>>(
    task: &Task,
    dataset: &dyn Dataset,
    seed: u64,
    device: D,
    formats: &[FormatName],
    mut before_step: impl FnMut(u64) -> Result<()>,
) -> Result<Vec<Recording>> {
    let settings = Settings {
        format: FormatName(Format::BINARY32),
        method: Method::F32,
        seed,
        period: Method::F32.usual_period(),
    };
    let narrowings = formats.iter().map(|format| Narrowing::to(format.0)).collect();
    let shown = Rc::new(RefCell::new(Shown { narrowings, visits: VecDeque::new() }));
    let device = Wrapped::around(device, Counting(Rc::clone(&shown)));
    let mut trainer = Trainer::<_, f32, f32>::new(task, dataset, settings, device)?;
    let new = |&format| Recording { format, cells: 0, steps: Vec::new() };
    let mut recordings: Vec<Recording> = formats.iter().map(new).collect();
    let mut watcher = Watcher { shown, names: Vec::new(), step: Vec::new(), strange: None };
    while trainer.step_count() < trainer.last_step() {
        let step = trainer.step_count();
        before_step(step)?;
        let verdict = trainer.train_step(&mut watcher)?.verdict;
        if let Some(strange) = watcher.strange {
            bail!("step {step}: {strange}");
        }
        let visits = mem::take(&mut watcher.step);
        match verdict {
            Verdict::Apply => {
                for (nth, recording) in recordings.iter_mut().enumerate() {
                    let visit = |(cell, tallies): &(usize, Vec<Tally>)| Visited {
                        cell: *cell,
                        tally: tallies[nth].clone(),
                    };
                    recording.steps.push(visits.iter().map(visit).collect());
                }
            }
            // Nothing is learnt from a step that f32 itself could not take.
            Verdict::Skip { .. } => {}
            verdict @ Verdict::Stop { .. } => bail!("at step {step}: {verdict}"),
        }
    }
    ensure!(!watcher.names.is_empty(), "the network has no gradient tensor that is narrowed");
    for recording in &mut recordings {
        recording.cells = watcher.names.len();
    }
    Ok(recordings)
}

/// What the tensors of the step at hand have shown so far, in the order of their visits, once for each format.
struct Shown {
    narrowings: Vec<Narrowing>,
    visits: VecDeque<Vec<Tally>>,
}

/// Counts the results of operations whose results are measured: the trainer has those of a visit measured.
struct Counting(Rc<RefCell<Shown>>);

impl<D: Device> Hook<D> for Counting {
    type Error = D::Error;

    fn around<R: Results<D>>(
        &mut self,
        device: &mut D,
        _: Call,
        mut results: R,
        make: impl FnOnce(&mut D, &mut R) -> Result<(), D::Error>,
    ) -> Result<(), D::Error> {
        make(device, &mut results)?;
        let mut is_visit = false;
        results.readout(device, &mut |left| {
            is_visit = matches!(left, Readout::Counts { histogram: Some(_), .. });
        })?;
        if !is_visit {
            return Ok(());
        }
        let Shown { narrowings, visits } = &mut *self.0.borrow_mut();
        let counters = narrowings.iter().map(|&narrowing| Counter::new(narrowing));
        let mut counters: Vec<Counter> = counters.collect();
        for index in 0..results.elements() {
            // Stored in f32 at the scale 2^0: the value itself.
            let value = f32::from_bits(results.bits(device, index)?);
            counters.iter_mut().for_each(|counter| counter.add(value));
        }
        visits.push_back(counters.iter().map(Counter::tally).collect());
        Ok(())
    }

    fn allocate<B>(
        &mut self,
        device: &mut D,
        _: Call,
        make: impl FnOnce(&mut D) -> Result<B, D::Error>,
    ) -> Result<B, D::Error> {
        make(device)
    }
}

/// Takes what was counted as that of a cell.
struct Watcher {
    shown: Rc<RefCell<Shown>>,
    names: Vec<String>,
    step: Vec<(usize, Vec<Tally>)>,
    /// What was counted twice, or not at all.
    strange: Option<String>,
}

impl Observer for Watcher {
    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        _operands: Option<&Operands>,
    ) {
        let tallies = self.shown.borrow_mut().visits.pop_front().unwrap_or_default();
        let is_same = |tally: &Tally| {
            (tally.elements(), tally.nonzero()) == (results.elements(), results.nonzero())
        };
        if tallies.is_empty() || !tallies.iter().all(is_same) || visit.outgoing.log2() != 0 {
            self.strange
                .get_or_insert_with(|| format!("{name} was not counted as it was narrowed"));
        }
        let known = self.names.iter().position(|known| known == name);
        let cell = known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        self.step.push((cell, tallies));
    }
}
