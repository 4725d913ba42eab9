//! Batches that several threads read ahead of the step that needs them.
//!
//! ```text
//! take(this step's, the next steps') -> jobs, the first needed first -> threads read pieces of them -> the batch
//! ```
//!
//! What is said to come next is read meanwhile; what is taken and was not said is read then.  So a wrong guess costs time, and no
//! bit: a batch is a function of what is asked for, and the batches of its pieces, one behind the other, are the batch.

use std::{
    collections::VecDeque,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{Batch, Dataset, View};

/// Into how many pieces per thread a batch is cut at most: the threads are done with it at about the same time.
const PIECES: usize = 4;

/// A batch that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`Dataset::train`].
    Train {
        /// The samples.
        chosen: Vec<usize>,
        /// How they are seen.
        view: View,
    },
    /// [`Dataset::test`].
    Test(Range<usize>),
}

impl Request {
    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// That of the data set.
    pub fn read(&self, dataset: &dyn Dataset) -> Result<Batch> {
        self.read_piece(dataset, 0..self.samples())
    }

    /// Returns how many samples are wanted.
    fn samples(&self) -> usize {
        match self {
            Self::Train { chosen, .. } => chosen.len(),
            Self::Test(range) => range.len(),
        }
    }

    /// Reads some of the samples.
    fn read_piece(&self, dataset: &dyn Dataset, piece: Range<usize>) -> Result<Batch> {
        match self {
            Self::Train { chosen, view } => dataset.train(&chosen[piece], *view),
            Self::Test(range) => dataset.test(range.start + piece.start..range.start + piece.end),
        }
    }
}

/// How much is read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that read.
    pub threads: usize,
    /// Batches that are read or ready at a time, beside the one that is taken: what memory is needed for.
    pub ahead: usize,
}

/// What a loader has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Batches that were taken.
    pub batches: u64,
    /// Samples in them.
    pub samples: u64,
    /// How long was waited for them.
    pub waited: Duration,
}

/// Threads that read batches ahead.  They end when it is dropped, each behind the piece at hand.
#[derive(Debug)]
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    options: Options,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A job was added, was finished or is no longer wanted.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The first one is needed first.
    jobs: VecDeque<Job>,
    /// Numbers of jobs that were given away.
    numbers: u64,
    progress: Progress,
    is_ending: bool,
}

/// A batch under way.
#[derive(Debug)]
struct Job {
    number: u64,
    request: Arc<Request>,
    /// Samples of a piece; the last may have less.
    length: usize,
    /// Pieces that were begun.
    begun: usize,
    /// What was read of each piece.
    pieces: Vec<Option<Result<Batch>>>,
}

impl Job {
    fn new(number: u64, request: Request, threads: usize) -> Self {
        let samples = request.samples();
        let length = samples.div_ceil(PIECES * threads).max(1);
        // Of nothing there is one piece, which is empty.
        let pieces = samples.div_ceil(length).max(1);
        let pieces = (0..pieces).map(|_| None).collect();
        Self { number, request: Arc::new(request), length, begun: 0, pieces }
    }

    fn is_done(&self) -> bool {
        self.pieces.iter().all(Option::is_some)
    }

    /// Puts the pieces together; the first error is that of the batch, in the order of its samples.
    fn batch(self) -> Result<Batch> {
        let mut pieces = self.pieces.into_iter().flatten();
        let mut batch = pieces.next().context("a batch without pieces")??;
        pieces.try_for_each(|piece| batch.append(piece?))?;
        Ok(batch)
    }
}

impl Loader {
    /// Starts the threads, which wait for what is wanted.
    ///
    /// # Errors
    ///
    /// There are none or more than 1024, or the system has no room for them.
    pub fn new(dataset: Arc<dyn Dataset>, options: Options) -> Result<Self> {
        let Options { threads, ahead } = options;
        ensure!((1..=1024).contains(&threads), "1 to 1024 threads can read, and not {threads}");
        ensure!(ahead <= 1024, "at most 1024 batches can be read ahead, and not {ahead}");
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let mut loader = Self { shared, threads: Vec::with_capacity(threads), options };
        for nth in 0..threads {
            let (shared, dataset) = (Arc::clone(&loader.shared), Arc::clone(&dataset));
            let thread = thread::Builder::new().name(format!("reader-{nth}"));
            let thread = thread.spawn(move || shared.work(&*dataset));
            loader.threads.push(thread.context("a thread that reads cannot be started")?);
        }
        Ok(loader)
    }

    /// Returns how much is read ahead.
    pub const fn options(&self) -> Options {
        self.options
    }

    /// Waits for a batch; what comes next is read meanwhile and afterwards, as much of it as [`Options::ahead`] allows.
    ///
    /// What was said to come next before, and is neither taken nor said again, is dropped.
    ///
    /// # Errors
    ///
    /// That of the data set; or a thread panicked while it read, and the error says how.
    pub fn take(
        &self,
        request: &Request,
        next: impl IntoIterator<Item = Request>,
    ) -> Result<Batch> {
        let began = Instant::now();
        let mut state = self.shared.lock();
        let number = state.plan(request, next, self.options);
        self.shared.changed.notify_all();
        while !state.job(number)?.is_done() {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let place = state.jobs.iter().position(|job| job.number == number);
        let job = place.and_then(|place| state.jobs.remove(place)).context("a batch was lost")?;
        state.progress.batches += 1;
        state.progress.samples += request.samples() as u64;
        state.progress.waited += began.elapsed();
        drop(state);
        job.batch()
    }

    /// Returns what was done so far.
    pub fn progress(&self) -> Progress {
        self.shared.lock().progress
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().is_ending = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // What it panicked of was handed on with its piece.
            let _ = thread.join();
        }
    }
}

impl State {
    /// Puts the jobs in the order in which they are needed; returns the number of the first.
    fn plan(
        &mut self,
        request: &Request,
        next: impl IntoIterator<Item = Request>,
        options: Options,
    ) -> u64 {
        let mut old = std::mem::take(&mut self.jobs);
        let wanted = [request.clone()].into_iter().chain(next.into_iter().take(options.ahead));
        for request in wanted {
            let there = old.iter().position(|job| *job.request == request);
            let job = there.and_then(|place| old.remove(place)).unwrap_or_else(|| {
                self.numbers += 1;
                Job::new(self.numbers, request, options.threads)
            });
            self.jobs.push_back(job);
        }
        self.jobs[0].number
    }

    fn job(&self, number: u64) -> Result<&Job> {
        let Some(job) = self.jobs.iter().find(|job| job.number == number) else {
            bail!("two threads took batches from one loader, which serves one");
        };
        Ok(job)
    }

    /// Begins the piece that is needed first, of those that nobody has begun.
    fn begin(&mut self) -> Option<(u64, usize, Arc<Request>, Range<usize>)> {
        let job = self.jobs.iter_mut().find(|job| job.begun < job.pieces.len())?;
        let nth = job.begun;
        job.begun += 1;
        let first = nth * job.length;
        let piece = first..(first + job.length).min(job.request.samples());
        Some((job.number, nth, Arc::clone(&job.request), piece))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads pieces until the loader ends.
    fn work(&self, dataset: &dyn Dataset) {
        let mut state = self.lock();
        while !state.is_ending {
            let Some((number, nth, request, piece)) = state.begin() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let read = panic::catch_unwind(AssertUnwindSafe(|| request.read_piece(dataset, piece)));
            let read = read.unwrap_or_else(|panic| {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(anyhow!(
                    "a thread that reads samples panicked: {}",
                    said.unwrap_or("without a word")
                ))
            });
            state = self.lock();
            if let Some(job) = state.jobs.iter_mut().find(|job| job.number == number) {
                job.pieces[nth] = Some(read);
                if job.is_done() {
                    self.changed.notify_all();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
