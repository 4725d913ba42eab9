//! The samples of a run, in the order in which its steps see them.

use anyhow::Result;

use crate::{
    data::{
        Batch, Dataset, View,
        loader::{Loader, Request},
    },
    schedule::Schedule,
};

/// Reads the batches of a run's steps and of its tests, ahead of them if there is a loader.
///
/// What a step sees follows from the seed and its number alone.
pub struct Feed<'d> {
    dataset: &'d dyn Dataset,
    schedule: &'d Schedule,
    seed: u64,
    /// The orders of the samples in an epoch and in the one that follows, as far as they were needed.
    orders: Vec<(u64, Vec<usize>)>,
    loader: Option<Loader>,
}

impl<'d> Feed<'d> {
    /// Makes the feed of a run.
    pub fn new(dataset: &'d dyn Dataset, schedule: &'d Schedule, seed: u64) -> Self {
        Self { dataset, schedule, seed, orders: Vec::new(), loader: None }
    }

    /// Reads ahead from here on; the loader's data set has to be that of the feed.
    pub fn read_ahead(&mut self, loader: Loader) {
        self.loader = Some(loader);
    }

    /// Returns what reads ahead, if something does.
    pub const fn loader(&self) -> Option<&Loader> {
        self.loader.as_ref()
    }

    /// Returns the micro-batches of a step, by their numbers; of the steps that follow the same are expected to be wanted.
    ///
    /// # Errors
    ///
    /// A sample cannot be read, or is not what the data set says of its samples.
    pub fn train(&mut self, step: u64, parts: &[usize]) -> Result<Vec<Batch>> {
        let mut requests = self.requests(step, parts);
        let ahead = self.loader.as_ref().map_or(0, |loader| loader.options().ahead);
        let last = self.schedule.steps(self.dataset);
        for step in (step + 1..last).take(ahead.div_ceil(parts.len().max(1))) {
            requests.extend(self.requests(step, parts));
        }
        (0..parts.len()).map(|nth| self.take(&requests[nth..])).collect()
    }

    /// Reads batches in their order, each while the one before is used.
    pub fn each(&self, requests: Vec<Request>) -> impl ExactSizeIterator<Item = Result<Batch>> {
        let ahead = self.loader.as_ref().map_or(0, |loader| loader.options().ahead);
        let count = requests.len();
        (0..count).map(move |nth| self.take(&requests[nth..count.min(nth + 1 + ahead)]))
    }

    /// Reads the first of some batches.
    fn take(&self, requests: &[Request]) -> Result<Batch> {
        let batch = match &self.loader {
            Some(loader) => loader.take(&requests[0], requests[1..].iter().cloned())?,
            None => requests[0].read(self.dataset)?,
        };
        batch.check(self.dataset)?;
        Ok(batch)
    }

    /// Returns what micro-batches of a step ask for.
    fn requests(&mut self, step: u64, parts: &[usize]) -> Vec<Request> {
        let per_epoch = self.schedule.steps_per_epoch(self.dataset);
        let view = View { seed: self.seed, epoch: step / per_epoch };
        let Schedule { batch, micro_batches, .. } = *self.schedule;
        let first = (step % per_epoch) as usize * batch;
        let length = batch / micro_batches;
        let order = &self.order(view)[first..first + batch];
        let chosen = |&nth: &usize| order[nth * length..(nth + 1) * length].to_vec();
        parts.iter().map(|nth| Request::Train { chosen: chosen(nth), view }).collect()
    }

    /// Returns the order of an epoch, and forgets those of the epochs before the last.
    fn order(&mut self, view: View) -> &[usize] {
        let place = self.orders.iter().position(|&(epoch, _)| epoch == view.epoch);
        let place = place.unwrap_or_else(|| {
            if self.orders.len() > 1 {
                self.orders.remove(0);
            }
            self.orders.push((view.epoch, view.order(self.dataset.train_samples())));
            self.orders.len() - 1
        });
        &self.orders[place].1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        data::{Source, digits, loader},
        task::Task,
    };

    /// Through the ends of epochs, with other micro-batches in between.
    #[test]
    fn what_is_read_ahead_is_what_is_read_at_once() {
        let task: Task = "digits-mlp".parse().unwrap();
        let mut schedule = task.schedule;
        (schedule.epochs, schedule.batch, schedule.micro_batches) = (3, 400, 4);
        let options = digits::Options::default();
        let dataset: Arc<dyn Dataset> = Source::Embedded(options).open().unwrap().into();
        let mut at_once = Feed::new(&*dataset, &schedule, 5);
        let mut ahead = Feed::new(&*dataset, &schedule, 5);
        let options = loader::Options { threads: 3, ahead: 5 };
        ahead.read_ahead(Loader::new(Arc::clone(&dataset), options).unwrap());
        let steps = schedule.steps(&*dataset);
        assert_eq!(steps, 9);
        for step in 0..steps {
            let parts: &[usize] = if step % 4 == 1 { &[0, 2, 3] } else { &[2, 3] };
            let expected = at_once.train(step, parts).unwrap();
            assert_eq!(ahead.train(step, parts).unwrap(), expected);
            // As the samples of the epoch say.
            let view = View { seed: 5, epoch: step / 3 };
            let first = (step % 3) as usize * 400 + 200;
            let chosen = &view.order(1400)[first..first + 100];
            let direct = dataset.train(chosen, view).unwrap();
            assert_eq!(expected[expected.len() - 2], direct);
            if step == 4 {
                let ranges = [0..128, 128..256, 256..397].map(Request::Test);
                for (batch, request) in ahead.each(ranges.to_vec()).zip(&ranges) {
                    assert_eq!(batch.unwrap(), request.read(&*dataset).unwrap());
                }
            }
        }
        let loader = ahead.loader().unwrap();
        assert_eq!(loader.progress().batches, 2 * 9 + 2 + 3);
        // A resumed run begins anywhere.
        let again = Feed::new(&*dataset, &schedule, 5).train(7, &[1]).unwrap();
        let view = View { seed: 5, epoch: 2 };
        assert_eq!(again[0], dataset.train(&view.order(1400)[500..600], view).unwrap());
    }
}
