//! The thread that has the group, and what a rank asks of it.

use std::{
    any::Any,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use adaloss_hal::group::{Exchange, Group, odd_rank};
use anyhow::{Error, Result};

use super::{Carrier, Common, Elsewhere, Failure, OnRank, Sent, carrier::Counted};

type Job = Box<dyn FnOnce(&mut dyn Carrier) + Send>;

/// This rank among those that train one network.
pub struct Team {
    rank: usize,
    size: usize,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What a job on the group will return.
#[must_use]
pub struct Pending<T>(mpsc::Receiver<T>);

impl<T> Pending<T> {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// The thread that has the group ended.
    pub fn wait(self) -> Result<T, Failure> {
        self.0.recv().map_err(|_| Failure::ended())
    }
}

impl Team {
    /// Begins the thread that has the group, which `make` makes there; it returns as well what is to outlive the group.
    ///
    /// `abort` ends the processes of all ranks, and does nothing where they are threads of one.
    ///
    /// # Errors
    ///
    /// The group cannot be made.
    pub fn begin<G: Exchange + 'static, K: 'static>(
        make: impl FnOnce() -> Result<(G, K)> + Send + 'static,
        abort: fn(&mut G),
    ) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (say, said) = mpsc::channel();
        let run = move || {
            let (group, _kept) = match make() {
                Ok(made) => made,
                Err(error) => {
                    let _ = say.send(Err(error));
                    return;
                }
            };
            let _ = say.send(Ok((group.rank(), group.size())));
            let mut carrier = Counted { group, sent: Sent::default(), abort };
            queue.into_iter().for_each(|job| job(&mut carrier));
            // The group goes before what it stands on.
            drop(carrier);
        };
        let thread = thread::Builder::new().name("messages".into()).spawn(run)?;
        let (rank, size) = said.recv().map_err(|_| Failure::ended())??;
        Ok(Self { rank, size, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Returns which rank this is.
    pub const fn rank(&self) -> usize {
        self.rank
    }

    /// Returns how many ranks there are.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Tells whether this is the rank that prints and writes files.
    pub const fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Begins something on the group, behind what was begun before; all ranks begin the same in the same order.
    pub fn start<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Carrier) -> T + Send + 'static,
    ) -> Pending<T> {
        let (done, pending) = mpsc::channel();
        let job: Job = Box::new(move |carrier| {
            let _ = done.send(job(carrier));
        });
        if let Some(jobs) = &self.jobs {
            // Where the thread ended, nobody will answer either.
            let _ = jobs.send(job);
        }
        Pending(pending)
    }

    /// Does something on the group.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Carrier) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.start(job).wait()?
    }

    /// Returns what this rank sent.
    ///
    /// # Errors
    ///
    /// The thread that has the group ended.
    pub fn sent(&self) -> Result<Sent, Failure> {
        self.run(|carrier| Ok(carrier.sent()))
    }

    /// Ends all ranks, if they are processes.
    pub fn abort(&self) {
        let _ = self.start(|carrier| carrier.abort()).wait();
    }

    /// Adds up numbers over the ranks.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub fn sum(&self, mut numbers: Vec<u64>) -> Result<Vec<u64>, Failure> {
        (&mut &*self).sum_u64(&mut numbers).map(|()| numbers)
    }

    /// Replaces values by what an operation makes of those of all ranks.
    fn replace<T: Copy + Send + 'static>(
        &self,
        values: &mut [T],
        operation: impl FnOnce(&mut dyn Carrier, &mut [T]) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut all = values.to_vec();
        let all = self.run(move |carrier| operation(carrier, &mut all).map(|()| all))?;
        values.copy_from_slice(&all);
        Ok(())
    }

    /// Returns what the ranks bring, one behind the other; all bring as much.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let mut all = vec![0; own.len() * self.size];
        self.run(move |carrier| carrier.all_gather(&own, &mut all).map(|()| all))
    }

    /// Returns what the ranks bring, one behind the other, whatever the lengths.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub fn gather_any(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let lengths = self.gather((own.len() as u64).to_le_bytes().to_vec())?;
        let lengths = lengths.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes) as usize);
        let lengths: Vec<usize> = lengths.collect();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let all = self.gather(padded)?;
        let parts = all.chunks(longest.max(1)).zip(&lengths);
        let mut parts: Vec<_> = parts.map(|(part, &length)| part[..length].to_vec()).collect();
        parts.resize(self.size, Vec::new());
        Ok(parts)
    }

    /// Returns the numbers that each rank brings, in their order; all bring as many.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub fn gather_numbers(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, Failure> {
        let all = self.gather(own.iter().flat_map(|x| x.to_le_bytes()).collect())?;
        let number = |bytes: &[u8; 8]| f64::from_le_bytes(*bytes);
        let parts = all.chunks(size_of_val(own).max(1));
        Ok(parts.map(|part| part.as_chunks().0.iter().map(number).collect()).collect())
    }

    /// Returns what the first rank has, of whatever length.
    ///
    /// # Errors
    ///
    /// The group failed.
    pub fn from_first(&self, own: Vec<u8>) -> Result<Vec<u8>, Failure> {
        self.run(move |carrier| {
            let mut length = (own.len() as u64).to_le_bytes();
            carrier.broadcast(0, &mut length)?;
            let mut bytes = own;
            bytes.resize(u64::from_le_bytes(length) as usize, 0);
            carrier.broadcast(0, &mut bytes).map(|()| bytes)
        })
    }

    /// Goes on only if something succeeded on every rank: returns it, or the error of the first rank on which it failed.
    ///
    /// # Errors
    ///
    /// On that rank its error, with its [rank](OnRank); on the others [`Elsewhere`]; or the group failed.
    pub fn all_or_none<T>(&self, result: Result<T>) -> Result<T> {
        let first = if result.is_err() { self.size - self.rank } else { 0 } as u64;
        let failed = self.run(move |carrier| {
            let mut first = [first];
            carrier.max_u64(&mut first).map(|()| first[0] as usize)
        })?;
        match result {
            Ok(value) if failed == 0 => Ok(value),
            Err(error) if failed == self.size - self.rank => Err(error.context(OnRank(self.rank))),
            _ => Err(Elsewhere.into()),
        }
    }

    /// Checks that all ranks were given the same; `what` says what it is in errors.
    ///
    /// # Errors
    ///
    /// One was given something else, which is named on all ranks; or the group failed.
    pub fn same(&self, what: &str, text: &str) -> Result<()> {
        let digest = u64::from(crc32fast::hash(text.as_bytes())) | (text.len() as u64) << 32;
        let odd = self.run(move |mut carrier| odd_rank(&mut carrier, digest))?;
        let Some(odd) = odd else { return Ok(()) };
        let texts = self.gather_any(text.as_bytes())?;
        let said = |rank: usize| String::from_utf8_lossy(&texts[rank]).into_owned();
        let other = usize::from(odd == 0);
        let [said_odd, said_other] = [said(odd), said(other)];
        Err(Error::new(Common(format!(
            "rank {odd} has another {what} than rank {other}: start all of them alike\n  \
             rank {odd}: {said_odd}\n  rank {other}: {said_other}"
        ))))
    }
}

impl Drop for Team {
    /// Waits until all that was begun is done.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic as Box<dyn Any + Send>);
        }
    }
}

/// As a group itself, a team waits for each operation: [`adaloss_hal::group::agree`] is done so.
impl Group for &Team {
    type Error = Failure;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn max_u8(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        self.replace(bytes, |carrier, bytes| carrier.max_u8(bytes))
    }

    fn max_u64(&mut self, numbers: &mut [u64]) -> Result<(), Failure> {
        self.replace(numbers, |carrier, numbers| carrier.max_u64(numbers))
    }

    fn sum_u64(&mut self, numbers: &mut [u64]) -> Result<(), Failure> {
        self.replace(numbers, |carrier, numbers| carrier.sum_u64(numbers))
    }

    fn broadcast(&mut self, from: usize, bytes: &mut [u8]) -> Result<(), Failure> {
        self.replace(bytes, move |carrier, bytes| carrier.broadcast(from, bytes))
    }
}
