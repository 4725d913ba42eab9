//! Ranks that are threads of one process: a group of [adaloss](adaloss_hal) whose members agree on each training step.
//!
//! [`team`] makes the members, one for each thread.  Every wait has a deadline, and a member that is dropped, be it
//! because its thread panicked, ends the waits of all others: nothing hangs.
//!
//! # Examples
//!
//! Two threads with a scaler each, which train on different halves of a batch.
//!
//! ```
//! use std::{thread, time::Duration};
//! use adaloss_core::{format::{Format, f16}, policy::Config, unscale::Verdict};
//! use adaloss_core::scaler::{LossScaler, share::message_bytes};
//! use adaloss_hal::group::{Group, agree};
//!
//! let halves = [[2.0e-8_f32, 1.0e-6], [3.0e-7, f32::NAN]];
//! let members = adaloss_threads::team(2, Duration::from_secs(10));
//! let verdicts = thread::scope(|scope| {
//!     let ranks: Vec<_> = members
//!         .into_iter()
//!         .map(|mut group| {
//!             scope.spawn(move || {
//!                 let mut scaler = LossScaler::<4>::new(Config::for_format(Format::BINARY16));
//!                 let mut room = [0; message_bytes(4)];
//!                 let mut step = scaler.begin();
//!                 step.loss().apply(&halves[group.rank()], &mut [f16::ZERO; 2]).expect("one length");
//!                 agree(&mut step.share(), &mut group, &mut room).expect("ranks that are alike");
//!                 step.finish()
//!             })
//!         })
//!         .collect();
//!     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<Vec<_>>()
//! });
//! assert!(verdicts[0] != Verdict::Apply && verdicts[0] == verdicts[1]); // the NaN is everybody's
//! ```

#![forbid(unsafe_code)]

/// What `docs/ranks.md` shows.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/ranks.md")]
mod guide {}

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use adaloss_hal::group::{Exchange, Group, GroupError, GroupErrorKind};

/// Makes a group of so many ranks, one member for each thread, in the order of the ranks.
///
/// `deadline` is how long a member waits in one operation for the others.
pub fn team(size: usize, deadline: Duration) -> Vec<Member> {
    let table = Arc::new(Table::default());
    (0..size).map(|rank| Member { rank, size, deadline, table: Arc::clone(&table) }).collect()
}

/// One rank of a group of threads.
///
/// Dropped, it leaves the group: the others have what they agreed on before, and an error at the next operation.
#[derive(Debug)]
pub struct Member {
    rank: usize,
    size: usize,
    deadline: Duration,
    table: Arc<Table>,
}

/// Where the members meet.
#[derive(Debug, Default)]
struct Table {
    round: Mutex<Round>,
    moved: Condvar,
}

/// An operation under way, and the result of the one before.
#[derive(Debug, Default)]
struct Round {
    /// Operations that are over.
    number: u64,
    /// Who came to this one, in the order of coming.
    here: Vec<usize>,
    call: Option<Call>,
    merged: Values,
    /// The result of the operation before.  Nobody begins another one before all have it: each has to come to that.
    result: Arc<Values>,
    /// Why the group is of no further use.
    failure: Option<ThreadError>,
}

/// What a member calls; the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    MaxU8(usize),
    MaxU64(usize),
    SumU64(usize),
    Broadcast(usize, usize),
    AllGather(usize),
    AllToAll(usize),
}

#[derive(Debug)]
enum Values {
    Bytes(Vec<u8>),
    Numbers(Vec<u64>),
    /// What each rank brought.
    Parts(Vec<Vec<u8>>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Call {
    /// Returns what the first of `size` ranks brought, to be merged with what the others bring.
    fn first(self, size: usize, from: Values, from_rank: usize) -> Values {
        match self {
            Self::AllGather(_) | Self::AllToAll(_) => {
                let mut parts = Values::Parts(vec![Vec::new(); size]);
                self.merge(&mut parts, from, from_rank);
                parts
            }
            Self::MaxU8(_) | Self::MaxU64(_) | Self::SumU64(_) | Self::Broadcast(..) => from,
        }
    }

    /// Merges what another rank brought.
    fn merge(self, into: &mut Values, from: Values, from_rank: usize) {
        match (self, into, from) {
            (_, Values::Parts(into), Values::Bytes(from)) => {
                if let Some(into) = into.get_mut(from_rank) {
                    *into = from;
                }
            }
            (Self::MaxU8(_), Values::Bytes(into), Values::Bytes(from)) => {
                into.iter_mut().zip(from).for_each(|(into, from)| *into = from.max(*into));
            }
            (Self::MaxU64(_), Values::Numbers(into), Values::Numbers(from)) => {
                into.iter_mut().zip(from).for_each(|(into, from)| *into = from.max(*into));
            }
            (Self::SumU64(_), Values::Numbers(into), Values::Numbers(from)) => {
                into.iter_mut().zip(from).for_each(|(into, from)| *into = into.wrapping_add(from));
            }
            (Self::Broadcast(root, _), into, from) if root == from_rank => *into = from,
            _ => {}
        }
    }
}

impl Member {
    /// Brings values to an operation, waits for the others, and returns what came of all.
    fn meet(&self, call: Call, values: Values) -> Result<Arc<Values>, ThreadError> {
        let mut round = self.table.lock();
        if let Some(failure) = round.failure {
            return Err(failure);
        }
        match round.call {
            None => {
                round.call = Some(call);
                round.merged = call.first(self.size, values, self.rank);
            }
            Some(other) if other == call => call.merge(&mut round.merged, values, self.rank),
            Some(_) => return Err(self.table.fail(&mut round, Failure::Mismatch, self.rank)),
        }
        round.here.push(self.rank);
        if round.here.len() == self.size {
            round.result = Arc::new(std::mem::take(&mut round.merged));
            (round.number, round.call) = (round.number + 1, None);
            round.here.clear();
            self.table.moved.notify_all();
            return Ok(Arc::clone(&round.result));
        }
        self.wait(round)
    }

    /// Waits until all others came.
    fn wait(&self, round: MutexGuard<'_, Round>) -> Result<Arc<Values>, ThreadError> {
        let number = round.number;
        let is_open = |round: &Round| round.number == number && round.failure.is_none();
        let began = Instant::now();
        let mut round = round;
        while is_open(&round) {
            let left = self.deadline.saturating_sub(began.elapsed());
            if left.is_zero() {
                let missing = (0..self.size).find(|rank| !round.here.contains(rank));
                return Err(self.table.fail(&mut round, Failure::Timeout, missing.unwrap_or(0)));
            }
            let waited = self.table.moved.wait_timeout(round, left);
            round = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // What was agreed on holds, whoever left behind it.
        match round.failure {
            Some(failure) if round.number == number => Err(failure),
            _ => Ok(Arc::clone(&round.result)),
        }
    }

    fn bytes(&self, call: Call, bytes: &mut [u8]) -> Result<(), ThreadError> {
        if let Values::Bytes(result) = &*self.meet(call, Values::Bytes(bytes.to_vec()))? {
            bytes.copy_from_slice(result);
        }
        Ok(())
    }

    fn numbers(&self, call: Call, numbers: &mut [u64]) -> Result<(), ThreadError> {
        if let Values::Numbers(result) = &*self.meet(call, Values::Numbers(numbers.to_vec()))? {
            numbers.copy_from_slice(result);
        }
        Ok(())
    }

    /// Copies a range of what each rank brought, one behind the other.
    fn parts(
        &self,
        call: Call,
        own: &[u8],
        range: Range<usize>,
        to: &mut [u8],
    ) -> Result<(), ThreadError> {
        if let Values::Parts(parts) = &*self.meet(call, Values::Bytes(own.to_vec()))? {
            for (to, part) in to.chunks_exact_mut(range.len().max(1)).zip(parts) {
                to.copy_from_slice(&part[range.clone()]);
            }
        }
        Ok(())
    }

    fn refuse(&self, failure: Failure, rank: usize) -> ThreadError {
        self.table.fail(&mut self.table.lock(), failure, rank)
    }
}

impl Table {
    /// Locks the round.  A thread that panics leaves it whole: nothing that is done under the lock panics half way.
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the group, unless it has ended.
    fn fail(&self, round: &mut Round, failure: Failure, rank: usize) -> ThreadError {
        let failure = *round.failure.get_or_insert(ThreadError { failure, rank });
        self.moved.notify_all();
        failure
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.table.fail(&mut self.table.lock(), Failure::Left, self.rank);
    }
}

impl Group for Member {
    type Error = ThreadError;

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn max_u8(&mut self, bytes: &mut [u8]) -> Result<(), ThreadError> {
        self.bytes(Call::MaxU8(bytes.len()), bytes)
    }

    fn max_u64(&mut self, numbers: &mut [u64]) -> Result<(), ThreadError> {
        self.numbers(Call::MaxU64(numbers.len()), numbers)
    }

    fn sum_u64(&mut self, numbers: &mut [u64]) -> Result<(), ThreadError> {
        self.numbers(Call::SumU64(numbers.len()), numbers)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut [u8]) -> Result<(), ThreadError> {
        if from >= self.size {
            return Err(self.refuse(Failure::NoRank, from));
        }
        self.bytes(Call::Broadcast(from, bytes.len()), bytes)
    }
}

impl Exchange for Member {
    fn all_gather(&mut self, own: &[u8], all: &mut [u8]) -> Result<(), ThreadError> {
        if own.len().checked_mul(self.size) != Some(all.len()) {
            return Err(self.refuse(Failure::Lengths, self.rank));
        }
        self.parts(Call::AllGather(own.len()), own, 0..own.len(), all)
    }

    fn all_to_all(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), ThreadError> {
        if from.len() != to.len() || !from.len().is_multiple_of(self.size) {
            return Err(self.refuse(Failure::Lengths, self.rank));
        }
        let length = from.len() / self.size;
        let own = self.rank * length..(self.rank + 1) * length;
        self.parts(Call::AllToAll(from.len()), from, own, to)
    }
}

/// Why a group of threads is of no further use; the first reason stays, and all members are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadError {
    failure: Failure,
    rank: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Left,
    Timeout,
    Mismatch,
    NoRank,
    Lengths,
}

impl GroupError for ThreadError {
    fn kind(&self) -> GroupErrorKind {
        match self.failure {
            Failure::Left => GroupErrorKind::Disconnected,
            Failure::Timeout => GroupErrorKind::Timeout,
            Failure::Mismatch | Failure::Lengths => GroupErrorKind::Mismatch,
            Failure::NoRank => GroupErrorKind::Other,
        }
    }

    /// Returns who left, who was the first not to come, or who called something else than those before.
    fn rank(&self) -> Option<usize> {
        Some(self.rank)
    }
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failure, rank } = self;
        match failure {
            Failure::Left => write!(f, "rank {rank} left the group: its thread ended or panicked"),
            Failure::Timeout => write!(f, "rank {rank} did not come before the deadline"),
            Failure::Mismatch => {
                write!(f, "rank {rank} called another operation, or with another length")
            }
            Failure::Lengths => {
                write!(
                    f,
                    "rank {rank} brought lengths that are not those of equal parts for all ranks"
                )
            }
            Failure::NoRank => {
                write!(f, "a broadcast from rank {rank} was asked for, which is none")
            }
        }
    }
}

impl std::error::Error for ThreadError {}
