//! One training run, step by step.
//!
//! # What a step notices
//!
//! A step reaches the weights if its loss is finite, if every operation in the backward pass counted all of
//! its results and none of them was infinite or NaN, and if the gradients are finite still when the
//! optimizer is about to read them.  The device decides that, and the optimizer's operations do nothing where it says no.  A
//! weight or a running mean that is not finite, or becomes infinite in the format of weights, ends the run, and the step that was
//! to use it changes nothing; so does an operation that counted other results than it has, because it was left out, and one of
//! the scaler that is missing.  All name what they found.
//!
//! # What a step waits for
//!
//! Its end: one read, of what every visit, the loss and the verdict left behind.  Steps that are watched read a histogram per
//! visit as well; elements in blocks, units of a loss other than one, and quantities are computed on the host, which waits.
//!
//! A value that is wrong and finite cannot be noticed: a bit that flipped in one, the scale of another
//! tensor, an operation that counts nothing and was left out, in the forward pass or in the optimizer.
//! At most the loss and the metric tell.

use std::{path::Path, time::Instant};

use adaloss_core::{
    format::{Element, Encoding, Narrowing, Noise},
    policy::Config,
    scaler::Totals,
    unscale::{Cause, Verdict},
};
use adaloss_hal::Plain;
use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    checkpoint::Checkpoint,
    data::{
        Batch, Dataset, Input, View,
        loader::{Loader, Request},
    },
    feed::Feed,
    judge::{Judge, Judgement},
    layer::{Diverged, GradientSink, Machine, MicroBatch, NoSink, Observer, Scaler, Since},
    method::{FormatName, Method},
    network::{Mode, Network, Saved, Scalers, mean_loss},
    observe::Samples,
    probe::{Reference, compare},
    ranks::{Reducer, Sink, Team, gather_losses, share},
    results::{Point, QuantityReport, RunReport, WeightReport},
    sizes::first_sizes,
    task::Task,
    unit::Units,
    weights::{self, Taken},
};

/// Test samples that go forward together at most, and the values in them if there are several.
const TEST_BATCH: [usize; 2] = [128, 1 << 22];

/// What samples are generated from that are judged, in the first batch: the same in each evaluation of every run.
const TEST_NOISE: Noise = Noise { seed: u32::MAX, stream: 0 };

/// What defines a run, next to its task: with the same, the same bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The format of gradients.
    pub format: FormatName,
    /// How scales are chosen.
    pub method: Method,
    /// Of the initial weights and of the order of samples.
    pub seed: u64,
    /// Steps from one certificate to the next, or visits from one decision to the next.
    pub period: u32,
}

impl Settings {
    /// Returns what weights and activations are held in, and what gradients are.
    pub fn held(&self) -> [Encoding; 2] {
        [self.format.forward().0.encoding, self.method.held(self.format.0)]
    }
}

/// In how many steps ranks see the first micro-batch at most: a tensor that is zero so long may be so for ever, and the rest of the run
/// should not be paid for it.
const FIRST_STEPS: u64 = 100;

/// How often a run is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurements {
    /// Steps whose visits are counted; evenly spread.
    pub samples: u64,
    /// Steps whose gradients are compared with f32; evenly spread.
    pub probes: u64,
    /// Evaluations on the test samples; evenly spread, the last at the end. A run of [`LONG`] steps or more is
    /// evaluated more often until it reaches its target.
    pub evaluations: u64,
}

/// Steps from which on a run is a long one: it is evaluated as well whenever the steps have grown by a 64th since the
/// evaluation before, until it reaches its target, so that the step at which it does is known to 1.6 per cent.
pub const LONG: u64 = 10_000;

/// A run under way, with weights and activations in `W` and gradients in `G`.
pub struct Trainer<'d, D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    task: &'d Task,
    dataset: &'d dyn Dataset,
    settings: Settings,
    network: Network<D, W, G>,
    class_weights: Vec<f32>,
    scalers: Scalers<D>,
    /// The sizes of both losses at the first batch, where they are divided by them.
    sizes: Option<[f64; 2]>,
    feed: Feed<'d>,
    step: u64,
    /// Steps that reached the weights.
    updates: u32,
    /// The other ranks, if there are any.
    ranks: Option<Ranks<'d>>,
    /// The scales of sums over ranks, as a checkpoint had them.
    sums: Vec<u8>,
    /// Whether this rank was asked to end.
    is_asked_to_end: bool,
}

/// The ranks that share the steps of a run.
pub struct Ranks<'t> {
    /// What carries their messages.
    pub team: &'t Team,
    /// What sums their gradients.
    pub reducer: Reducer,
    /// Whether batches are normalised over the micro-batches that the ranks have at a time, instead of each by itself.
    pub normalises_together: bool,
}

impl<'t> Ranks<'t> {
    /// Returns the ranks over which batches are normalised together, if they are.
    fn peers(&self) -> Option<&'t Team> {
        self.normalises_together.then_some(self.team)
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stepped {
    /// Whether it reached the weights.
    pub verdict: Verdict,
    /// The mean loss of its samples; not finite only where the step did not reach the weights, or no
    /// sample counts.
    pub loss: f64,
    /// The sum of the squares of all gradients.
    pub square_norm: f64,
    /// Whether any rank was asked to end, before the step.
    pub ends: bool,
}

impl<'d, D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Trainer<'d, D, W, G> {
    /// Makes a new run.
    ///
    /// # Errors
    ///
    /// The task's schedule or network does not fit the samples, the configuration is impossible, or
    /// the device's memory is exhausted.
    pub fn new(
        task: &'d Task,
        dataset: &'d dyn Dataset,
        settings: Settings,
        device: D,
    ) -> Result<Self> {
        task.schedule.check(dataset)?;
        let config = settings.method.config(settings.format.0, settings.period)?;
        let mut generator = ChaCha8Rng::seed_from_u64(settings.seed);
        let shape = (dataset.input(), dataset.classes());
        let mut network =
            Network::new(&task.model, device, shape, forward(settings), Some(&mut generator))?;
        network.round_in_blocks(settings.method.blocks(settings.format.0)?);
        let parts = task.schedule.micro_batches;
        let is_per_loss = settings.method.is_per_loss() && task.model.has_two_losses();
        let first = network.scaler(config, parts)?;
        let second = is_per_loss.then(|| network.scaler(config, parts)).transpose()?;
        let scalers = Scalers { first, second };
        let sizes = match task.unit.is_normalised {
            true => Some(first_sizes(task, dataset, settings.seed).context("the first batch")?),
            false => None,
        };
        Ok(Self {
            task,
            dataset,
            settings,
            network,
            class_weights: dataset.class_weights(),
            scalers,
            sizes,
            feed: Feed::new(dataset, &task.schedule, settings.seed),
            step: 0,
            updates: 0,
            ranks: None,
            sums: Vec::new(),
            is_asked_to_end: false,
        })
    }

    /// Shares the steps from here on with other ranks, each of which has its part of the micro-batches.
    ///
    /// # Errors
    ///
    /// The micro-batches cannot be shared, or scales are chosen in a way that ranks cannot share; ranks are not alike; or the group
    /// failed.
    pub fn share(&mut self, mut ranks: Ranks<'d>) -> Result<()> {
        let Ranks { team, reducer, normalises_together } = &mut ranks;
        let reduction = reducer.reduction();
        let version = env!("CARGO_PKG_VERSION");
        let run = Checkpoint::describe(self.task, &self.settings, *normalises_together);
        let run = format!("adaloss-train {version}, sums in {reduction}: {run}");
        team.same("run", &run)?;
        team.all_or_none(self.check_shared(team, reducer))?;
        self.make_room_for(self.task.schedule.micro_batches / team.size() + 1)?;
        for scaler in self.scalers.each() {
            scaler.meet(self.network.device(), team)?;
        }
        let weights = postcard::to_stdvec(&self.network.save()?)?;
        let weights = format!("{:08x}", crc32fast::hash(&weights));
        team.same("network at the beginning, by its checksum,", &weights)?;
        team.same("data set", &self.dataset.describe())?;
        self.ranks = Some(ranks);
        Ok(())
    }

    /// Gives the scalers room for so many micro-batches a step, where they had it for those of all ranks.
    fn make_room_for(&mut self, micro_batches: usize) -> Result<()> {
        for scaler in self.scalers.each_mut() {
            let block = scaler.save(self.network.device(), Since::default())?;
            *scaler = self.network.scaler(*scaler.config(), micro_batches)?;
            scaler.restore(self.network.device(), &block, self.updates)?;
        }
        Ok(())
    }

    /// Checks whether steps can be shared, as far as this rank knows, and takes back the state of sums.
    fn check_shared(&self, team: &Team, reducer: &mut Reducer) -> Result<()> {
        share(self.task.schedule.micro_batches, team.rank(), team.size())?;
        ensure!(
            !self.config().policy().wants_operands(),
            "{} decides within a step, from what one rank sees, so that several ranks cannot share it",
            self.settings.method
        );
        reducer.restore(&self.sums)
    }

    /// Returns the ranks that share the steps, if there are others.
    pub const fn ranks(&self) -> Option<&Ranks<'d>> {
        self.ranks.as_ref()
    }

    /// Tells whether ranks normalise batches together.
    fn normalises_together(&self) -> bool {
        self.ranks.as_ref().is_some_and(|ranks| ranks.normalises_together)
    }

    /// Returns which rank this is, and of how many.
    fn place(&self) -> (usize, usize) {
        self.ranks.as_ref().map_or((0, 1), |Ranks { team, .. }| (team.rank(), team.size()))
    }

    /// Tells the ranks with the next step that this one was asked to end.
    pub const fn ask_to_end(&mut self) {
        self.is_asked_to_end = true;
    }

    /// Goes on from a checkpoint, bit for bit as the run that was saved would have.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), or the checkpoint is of another network.
    pub fn resume(
        task: &'d Task,
        dataset: &'d dyn Dataset,
        settings: Settings,
        device: D,
        from: Checkpoint,
    ) -> Result<Self> {
        let mut trainer = Self::new(task, dataset, settings, device)?;
        let mut blocks = from.scaler.chunks(Scaler::<D>::CHECKPOINT_BYTES);
        for scaler in trainer.scalers.each_mut() {
            let block = blocks.next().context("the checkpoint has fewer scalers than the run")?;
            scaler.restore(trainer.network.device(), block, from.updates)?;
        }
        ensure!(blocks.next().is_none(), "the checkpoint has more scalers than the run");
        trainer.network.load(&from.pieces)?;
        trainer.step = from.step;
        trainer.updates = from.updates;
        trainer.sums = from.sums;
        Ok(trainer)
    }

    /// Returns everything that the next steps depend on; of ranks, each calls it, and the first one's is that of the run.
    ///
    /// # Errors
    ///
    /// The network or the state of its optimizer is lost, which is [`Diverged`]; or the device failed.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        let mut scaler = Vec::new();
        let elsewhere = self.elsewhere()?;
        for (saved, elsewhere) in self.scalers.each_mut().zip(elsewhere) {
            scaler.extend(saved.save(self.network.device(), elsewhere)?);
        }
        let mut pieces = self.network.save()?;
        if self.updates == 0 {
            // What an optimizer keeps begins with the first update.
            pieces.iter_mut().for_each(|piece| piece.state.clear());
        }
        for Saved { name, values, state } in &pieces {
            if !values.iter().chain(state).all(|x| x.is_finite()) {
                return Err(diverged(name));
            }
        }
        Ok(Checkpoint {
            run: Checkpoint::describe(self.task, &self.settings, self.normalises_together()),
            step: self.step,
            updates: self.updates,
            pieces,
            scaler,
            sums: self
                .ranks
                .as_ref()
                .map_or_else(|| self.sums.clone(), |Ranks { reducer, .. }| reducer.save()),
        })
    }

    /// Begins with the weights of a file of the format safetensors, before the first step.
    ///
    /// # Errors
    ///
    /// As [`weights::read`].
    pub fn take_weights(&mut self, path: &Path) -> Result<Taken> {
        let (mut saved, extents) = (self.network.save()?, self.network.extents());
        let network = (&self.task.model, self.dataset.input());
        let taken = weights::read(path, network, &mut saved, &extents)?;
        self.network.load(&saved)?;
        Ok(taken)
    }

    /// Writes the weights as a file of the format safetensors.
    ///
    /// # Errors
    ///
    /// As [`weights::write`]; or the device failed.
    pub fn write_weights(&mut self, path: &Path) -> Result<()> {
        let (saved, extents) = (self.network.save()?, self.network.extents());
        weights::write(path, (&self.task.model, self.dataset.input()), &saved, &extents)
    }

    /// Returns how scales are chosen.
    pub fn config(&self) -> &Config {
        self.scalers.first.config()
    }

    /// Returns what the scalers of all ranks counted; of a run on one rank what [`totals`](Self::totals) returns.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub fn totals_of_all(&self) -> Result<Totals> {
        let mut totals = self.totals();
        for Since { recovered, certificates, broken } in self.elsewhere()? {
            totals.recovered += recovered;
            totals.certificates += certificates;
            totals.broken += broken;
        }
        Ok(totals)
    }

    /// Returns what each scaler counted on the other ranks, since the run was begun or gone on with.
    fn elsewhere(&self) -> Result<Vec<Since>> {
        let own = self.scalers.each().map(|scaler| {
            let Since { recovered, certificates, broken } = scaler.since();
            [recovered, certificates, broken]
        });
        let own: Vec<_> = own.collect();
        let all = match &self.ranks {
            Some(Ranks { team, .. }) => team.sum(own.concat())?,
            None => own.concat(),
        };
        let elsewhere = all.as_chunks::<3>().0.iter().zip(&own).map(|(all, own)| {
            let [recovered, certificates, broken] = [0, 1, 2].map(|which| all[which] - own[which]);
            Since { recovered, certificates, broken }
        });
        Ok(elsewhere.collect())
    }

    /// Returns what the scaler counted, or both; a step that either of them skips is skipped.
    pub fn totals(&self) -> Totals {
        let mut totals = self.scalers.first.totals();
        if let Some(further) = &self.scalers.second {
            let other = further.totals();
            totals.skipped = totals.steps.saturating_sub(self.updates.into());
            totals.recovered += other.recovered;
            totals.certificates += other.certificates;
            totals.broken += other.broken;
        }
        totals
    }

    /// Returns the steps done.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Returns the steps of the whole run.
    pub fn last_step(&self) -> u64 {
        self.task.schedule.steps(self.dataset)
    }

    /// Returns the steps of one pass over the training samples.
    pub fn steps_per_epoch(&self) -> u64 {
        self.task.schedule.steps_per_epoch(self.dataset)
    }

    /// Does one step.
    ///
    /// # Errors
    ///
    /// A sample is not what the network was made for, the network is lost ([`Diverged`]), or the device
    /// failed or left something out.
    pub fn train_step(&mut self, observer: &mut dyn Observer) -> Result<Stepped> {
        let step = self.step;
        let batches = self.next_batches()?;
        let stepped = self.back(&batches, observer).and_then(|()| {
            self.update()?;
            self.read(observer)
        });
        let stepped = stepped.with_context(|| format!("step {step}"))?;
        self.step += 1;
        Ok(stepped)
    }

    /// Returns the micro-batches of the coming step that this rank has, or sees.
    fn next_batches(&mut self) -> Result<Vec<Batch>> {
        let parts: Vec<usize> = self.parts()?.iter().map(|&(nth, _)| nth).collect();
        self.feed.train(self.step, &parts)
    }

    /// Returns which micro-batches of the coming step this rank has, by their numbers among all; as long as some tensor has no
    /// scale yet, also the first of all, if that is another rank's.
    ///
    /// Scales are found at the first visit of a tensor that is not zero, and the first visits are those of the first micro-batch, on
    /// any number of ranks.  What all of them see of it is the same evidence, and its gradients are left out of the sums.
    fn parts(&self) -> Result<Vec<(usize, MicroBatch)>> {
        let all = self.task.schedule.micro_batches;
        let (rank, size) = self.place();
        let own = share(all, rank, size)?;
        // Those that are normalised together are a rank's own.
        let is_together = self.normalises_together();
        let sees_first = rank > 0
            && self.step < FIRST_STEPS
            && !is_together
            && !self.scalers.each().all(Scaler::is_calibrated);
        let first = sees_first.then_some((0, MicroBatch { nth: 0, is_last: false }));
        Ok(first.into_iter().chain(own.clone().zip(MicroBatch::all(own.len()))).collect())
    }

    /// Asks for a step: takes its micro-batches forward and back, and lets the device judge the gradients.
    fn back(&mut self, batches: &[Batch], observer: &dyn Observer) -> Result<()> {
        let (mode, units, parts) = (self.mode(), self.units(), self.parts()?);
        let micro_batches = self.task.schedule.micro_batches;
        let Self { network, scalers, class_weights, ranks, .. } = self;
        let mut stays = NoSink;
        if let Some(Ranks { reducer, .. }) = ranks {
            reducer.begin();
        }
        network.begin(scalers, observer)?;
        network.narrow_weights(scalers).context("before the step")?;
        let own = micro_batches / ranks.as_ref().map_or(1, |Ranks { team, .. }| team.size());
        for (nth, (&(index, part), batch)) in parts.iter().zip(batches).enumerate() {
            let is_elsewhere = nth + own < parts.len();
            let peers = ranks.as_ref().and_then(Ranks::peers);
            let mode = Mode { peers, ..mode(index, part) };
            let outputs = network.forward(&batch.inputs, mode).context("forward")?;
            let loss = network.loss(&outputs, batch, class_weights, units).context("the loss")?;
            drop(outputs);
            if scalers.second.is_none() {
                network.judge_loss(&loss, scalers).context("the loss")?;
            }
            let Scalers { first, second } = &mut *scalers;
            first.micro_batch(index);
            let mut shared =
                ranks.as_mut().map(|Ranks { team, reducer, .. }| Sink { reducer, team });
            let sink: &mut dyn GradientSink<D> = match &mut shared {
                Some(shared) => shared,
                None => &mut stays,
            };
            match second {
                None => network.backward(&loss.gradients, first, mode, sink),
                Some(second) => {
                    second.micro_batch(index);
                    network.backward_each(&loss.gradients, [first, second], mode, sink)
                }
            }
            .context("back")?;
            if scalers.second.is_some() {
                network.judge_loss(&loss, scalers).context("the loss")?;
            }
            if is_elsewhere {
                scalers.each_mut().for_each(Scaler::count_elsewhere);
            }
        }
        if let Some(Ranks { team, reducer, .. }) = ranks {
            network.sum_over_ranks(reducer, team).context("the sums over the ranks")?;
        }
        network.average(micro_batches).context("the gradients")?;
        if units.common != 0 {
            network.rescale(-units.common).context("the gradients")?;
        }
        // What the visits showed is agreed on first: then each rank judges the same gradients by the same evidence.
        if let Some(Ranks { team, .. }) = ranks {
            for scaler in scalers.each_mut() {
                scaler.agree(network.device(), team)?;
            }
        }
        network.judge_gradients(scalers).context("the gradients")?;
        network.conclude(scalers).context("the gradients")
    }

    /// Asks for the update of the weights, which happens if the step is usable.
    fn update(&mut self) -> Result<()> {
        let schedule = &self.task.schedule;
        let update = schedule.update(self.step, self.last_step());
        self.network.update(&schedule.optimizer, update, &self.scalers).context("the update")
    }

    /// Waits for what happened in the step.
    fn read(&mut self, observer: &mut dyn Observer) -> Result<Stepped> {
        let (first, second) = self.network.read_step(&mut self.scalers, observer)?;
        let (mut losses, end) = (first.losses, first.end);
        let mut ends = self.is_asked_to_end;
        if let Some(Ranks { team, .. }) = &self.ranks {
            // What this rank saw of another's micro-batch is before its own.
            let own = losses.split_off(
                losses.len().saturating_sub(self.task.schedule.micro_batches / team.size()),
            );
            (losses, ends) = gather_losses(team, &own, ends)?;
        }
        // Each scaler learns from its own loss, and what either of them found skips the step.
        let verdict = match (end.verdict, second.map(|second| second.end.verdict)) {
            (Verdict::Apply, Some(verdict)) | (verdict, _) => verdict,
        };
        self.updates += u32::from(verdict == Verdict::Apply);
        let (loss, square_norm) = (mean_loss(&losses)?, end.square_norm);
        Ok(Stepped { verdict, loss, square_norm, ends })
    }

    /// Returns the units of the losses at the coming step.
    fn units(&self) -> Units {
        let (unit, units) = (self.task.unit, self.task.unit.at(self.step));
        self.sizes.map_or(units, |[classes, quantity]| {
            units.normalised(classes, quantity * f64::from(unit.gap).exp2())
        })
    }

    /// Returns how the micro-batches of the coming step go forward.
    fn mode(&self) -> impl Fn(usize, MicroBatch) -> Mode<'static> + use<D, W, G> {
        let first = self.step * self.task.schedule.micro_batches as u64;
        let (seed, taken_out) = (self.settings.seed as u32, self.units().taken_out);
        move |index, part| {
            let noise = Noise { seed, stream: (first + index as u64) as u32 };
            Mode { training: true, noise, part, peers: None, taken_out }
        }
    }

    /// Returns the task's metric on the test samples.
    ///
    /// # Errors
    ///
    /// As [`train_step`](Self::train_step); a network of whose logits none is finite is lost too.
    pub fn evaluate(&mut self) -> Result<f64> {
        self.judge().map(|Judgement { metric, .. }| metric)
    }

    /// Returns the task's metric on the test samples, and what is to be said of a quantity.
    fn judge(&mut self) -> Result<Judgement> {
        self.network.refresh()?;
        if self.task.schedule.recomputes_statistics && self.step == self.last_step() {
            self.recompute_moments().context("the running statistics")?;
        }
        let mut judge = Judge::new(self.dataset);
        let samples = self.dataset.test_samples();
        // A rank has as many batches as any other, or one less.
        let (rank, size) = self.place();
        let length = test_batch(self.dataset.input());
        let batches = samples.div_ceil(length);
        let own = rank * batches / size..(rank + 1) * batches / size;
        let streams = own.clone();
        let ranges = own.map(|nth| nth * length..samples.min((nth + 1) * length));
        let Self { network, feed, dataset, .. } = self;
        let (mut seen, mut asked) = (0, 0);
        for (nth, batch) in streams.zip(feed.each(ranges.map(Request::Test).collect())) {
            let batch = batch?;
            asked += 1;
            seen += batch.samples;
            // Of what is broken and to be skipped nothing is left.
            if batch.samples > 0 {
                let noise = Noise { stream: nth as u32, ..TEST_NOISE };
                let outputs = network.forward(&batch.inputs, Mode { noise, ..Mode::default() })?;
                judge.add(network, &outputs, &batch)?;
            }
        }
        ensure!(
            seen > 0 || asked == 0,
            "no test sample can be read: {}",
            dataset.left_out().join("; ")
        );
        if let Some(Ranks { team, .. }) = &self.ranks {
            judge.gather(team)?;
        }
        judge.finish().ok_or_else(|| diverged("the logits"))
    }

    /// Computes running moments anew, from all training samples but those that fill no batch.
    fn recompute_moments(&mut self) -> Result<()> {
        let Self { network, feed, dataset, task, settings, .. } = self;
        let batch = task.schedule.batch / task.schedule.micro_batches;
        let all: Vec<usize> = (0..dataset.train_samples()).collect();
        let view = View { seed: settings.seed, epoch: 0 };
        let chunks = all.chunks_exact(batch);
        let requests = chunks.map(|chosen| Request::Train { chosen: chosen.to_vec(), view });
        network.recompute_moments(feed.each(requests.collect()))
    }

    /// Reads samples ahead from here on, by a loader of the run's data set.
    pub fn read_ahead(&mut self, loader: Loader) {
        self.feed.read_ahead(loader);
    }

    /// Returns what reads samples ahead, if something does.
    pub const fn loader(&self) -> Option<&Loader> {
        self.feed.loader()
    }
}

impl<D, W, G> Trainer<'_, D, W, G>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G> + Machine<W, f32> + Clone,
{
    /// Runs to the end, or until the scaler gives up or the network is lost.
    ///
    /// `before_step` hears how many steps are done, and ends the run by an error of its own.
    ///
    /// # Errors
    ///
    /// As [`train_step`](Self::train_step), or that of `before_step`.
    pub fn run(
        mut self,
        measurements: Measurements,
        device: D,
        mut before_step: impl FnMut(u64) -> Result<()>,
    ) -> Result<RunReport> {
        let last = self.last_step();
        let mut samples = Samples::new(self.config(), self.settings.format.0);
        let mut report = self.blank();
        let mut reference = None;
        let mut losses = Vec::new();
        while self.step < last && report.stopped.is_none() {
            let step = self.step;
            before_step(step)?;
            let batches = self.next_batches()?;
            samples.watch(step, spread(step, last, measurements.samples));
            let start = Instant::now();
            let probes = spread(step, last, measurements.probes);
            self.back(&batches, &samples)?;
            if !probes {
                self.update()?;
            }
            let stepped = match self.read(&mut samples) {
                Ok(stepped) => stepped,
                Err(error) => {
                    report.stopped = Some(format!("at step {step}, {}", lost(error)?));
                    self.evaluate_into(&mut report, None)?;
                    break;
                }
            };
            report.seconds += start.elapsed().as_secs_f64();
            samples.ended(stepped.verdict == Verdict::Apply);
            if probes {
                let reference = match &mut reference {
                    Some(reference) => reference,
                    none => none.insert(self.reference(device.clone())?),
                };
                self.probe(reference, &batches, &mut report.weights)?;
                report.probed_steps.push(step);
                let start = Instant::now();
                self.update()?;
                report.seconds += start.elapsed().as_secs_f64();
            }
            self.step += 1;
            losses.push(stepped.loss);
            report.stopped = stop(stepped.verdict, step);
            let is_due = spread(step, last, measurements.evaluations)
                || is_due_as_well(&report, step + 1, last);
            if is_due || report.stopped.is_some() {
                let loss = losses.iter().sum::<f64>() / losses.len() as f64;
                losses.clear();
                self.evaluate_into(&mut report, Some(loss).filter(|loss| loss.is_finite()))?;
            }
        }
        samples.finish(&mut report);
        let totals = self.totals();
        report.steps = totals.steps;
        report.skipped_steps = totals.skipped;
        report.recovered_steps = totals.recovered;
        report.certificates = totals.certificates;
        report.broken_promises = totals.broken;
        Ok(report)
    }

    /// Evaluates, and appends a point to the curve; a network that is lost predicts nothing.
    fn evaluate_into(&mut self, report: &mut RunReport, loss: Option<f64>) -> Result<()> {
        let step = self.step;
        let Judgement { metric, quantity } = self.judge().or_else(|error| {
            let reason = lost(error)?;
            report.stopped.get_or_insert(format!("after {step} steps: {reason}"));
            let quantity = self.task.has_quantity().then(QuantityReport::default);
            Ok::<_, anyhow::Error>(Judgement { metric: 0.0, quantity })
        })?;
        report.quantity = quantity;
        report.curve.push(Point { step, loss, metric });
        report.metric = metric;
        if metric >= self.task.schedule.target {
            report.steps_to_target.get_or_insert(step);
        }
        Ok(())
    }

    /// Returns a report of which only the run is known.
    fn blank(&self) -> RunReport {
        let Settings { format, method, seed, period } = self.settings;
        RunReport {
            task: self.task.name.clone(),
            format: format.to_string(),
            forward_format: format.forward().to_string(),
            method: method.to_string(),
            seed,
            period,
            configuration: match method.blocks(format.0) {
                Ok(Some(blocks)) => format!("{blocks:?}"),
                _ => format!("{:?}", self.config()),
            },
            ..RunReport::default()
        }
    }

    fn reference(&self, device: D) -> Result<Reference<D, W>> {
        let Task { model, schedule, .. } = self.task;
        let narrowing = forward(self.settings);
        Reference::new(model, device, self.dataset, narrowing, schedule.micro_batches)
    }

    /// Compares the gradients of the step at hand with those of f32.
    fn probe(
        &mut self,
        reference: &mut Reference<D, W>,
        batches: &[Batch],
        to: &mut Vec<WeightReport>,
    ) -> Result<()> {
        let (found, weights) = (self.network.gradients()?, self.network.save()?);
        let mode = self.mode();
        let mode = |part: MicroBatch| mode(part.nth, part);
        let units = self.units().apart();
        let right = reference.gradients(&weights, batches, &self.class_weights, units, mode)?;
        compare(&found, &right, to);
        Ok(())
    }
}

/// Returns how many test samples go forward together.
fn test_batch(input: Input) -> usize {
    let [samples, values] = TEST_BATCH;
    (values / input.values().max(1)).clamp(1, samples)
}

/// Returns how weights and activations become `W`.
fn forward(settings: Settings) -> Narrowing {
    Narrowing::to(settings.format.forward().0)
}

/// Tells whether `step` is one of `count` that are evenly spread over all steps, the last among them.
fn spread(step: u64, steps: u64, count: u64) -> bool {
    let count = count.min(steps);
    (step + 1) * count / steps > step * count / steps
}

/// Tells whether a long run is evaluated after this many steps of `steps`, wherever else it is.
fn is_due_as_well(report: &RunReport, done: u64, steps: u64) -> bool {
    let before = report.curve.last().map_or(0, |point| point.step);
    steps >= LONG && report.steps_to_target.is_none() && done - before >= (before / 64).max(1)
}

/// Returns why training cannot go on, if it cannot.
fn stop(verdict: Verdict, step: u64) -> Option<String> {
    match verdict {
        Verdict::Apply | Verdict::Skip { .. } => None,
        Verdict::Stop { layer, cause, skipped } => Some(format!(
            "after {skipped} skipped steps in a row, at step {step}: {cause} in {layer}"
        )),
    }
}

/// Returns the error of something that is not finite.
fn diverged(name: &str) -> anyhow::Error {
    anyhow::Error::new(Diverged(Cause::NonFinite)).context(name.to_owned())
}

/// Returns what is lost of a network that is; any other error stays one.
fn lost(error: anyhow::Error) -> Result<String> {
    if error.is::<Diverged>() { Ok(format!("{error:#}")) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use adaloss_core::format::f16;
    use adaloss_cpu::Cpu;
    use anyhow::ensure;

    use super::*;
    use crate::data::Source;

    #[test]
    fn looks_are_spread_and_end_at_the_last_step() {
        for (steps, count) in [(10, 3), (100, 60), (7, 7), (5, 9), (1, 1), (630, 60)] {
            let chosen: Vec<u64> = (0..steps).filter(|&step| spread(step, steps, count)).collect();
            assert_eq!(chosen.len() as u64, count.min(steps));
            assert_eq!(chosen.last(), Some(&(steps - 1)));
        }
        assert!((0..10).all(|step| !spread(step, 10, 0)));
    }

    /// The step at which a long run reaches its target is known to a 64th, one way or the other.
    #[test]
    fn a_long_run_is_looked_at_until_it_reaches_its_target() {
        let mut report = RunReport::default();
        let mut evaluated = Vec::new();
        for done in 1..=LONG {
            if is_due_as_well(&report, done, LONG) {
                report.curve.push(Point { step: done, ..Point::default() });
                evaluated.push(done);
            }
        }
        for pair in evaluated.windows(2) {
            assert!(64 * (pair[1] - pair[0]) <= pair[0].max(64), "{pair:?}");
        }
        assert!((300..500).contains(&evaluated.len()), "{}", evaluated.len());
        report.steps_to_target = Some(500);
        assert!(!is_due_as_well(&report, LONG, LONG));
        report.steps_to_target = None;
        assert!(!is_due_as_well(&report, LONG - 1, LONG - 1));
    }

    /// What ends a run is asked before each step, and no more when all is done.
    #[test]
    fn a_run_that_is_done_is_not_ended() {
        let mut task: Task = "digits-mlp".parse().unwrap();
        task.schedule.epochs = 1;
        let dataset = Source::Embedded(Default::default()).open().unwrap();
        let settings = Settings {
            format: "binary16".parse().unwrap(),
            method: Method::MEASURED,
            seed: 0,
            period: 10,
        };
        let run = |end_at: u64| {
            let device = Cpu::new(1).unwrap();
            let trainer =
                Trainer::<_, f16, f16>::new(&task, &*dataset, settings, device.clone()).unwrap();
            let last = trainer.last_step();
            let mut asked = Vec::new();
            let measurements = Measurements { samples: 1, probes: 0, evaluations: 1 };
            let report = trainer.run(measurements, device, |done| {
                asked.push(done);
                ensure!(done != end_at, "enough");
                Ok(())
            });
            (report.map(|report| report.steps).map_err(|error| error.to_string()), asked, last)
        };
        let (steps, asked, last) = run(u64::MAX);
        assert_eq!((steps, asked), (Ok(last), Vec::from_iter(0..last)));
        assert_eq!(run(last).0, Ok(last));
        assert_eq!(run(last - 1).0, Err("enough".into()));
    }
}
