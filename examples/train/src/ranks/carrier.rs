//! Groups of any engine behind one type of errors, and what is sent through them.

use std::fmt;

use adaloss_hal::group::{Exchange, Group, GroupError, GroupErrorKind};

/// A group that a [`Team`](super::Team) can have, whatever its engine.
pub trait Carrier: Exchange<Error = Failure> {
    /// Returns what was sent so far.
    fn sent(&self) -> Sent;

    /// Ends the processes of all ranks, if they are processes: where one cannot go on, the others would wait for it.
    fn abort(&mut self);
}

/// What a rank sent, as far as it is known: how an engine carries a reduction is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Operations of the group.
    pub operations: u64,
    /// Bytes to other ranks; those of a reduction as of a ring, twice its length but for a rank's share of it.
    pub bytes: u64,
}

/// A failure of a group, as it is handed from thread to thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: GroupErrorKind,
    rank: Option<usize>,
    text: String,
}

impl Failure {
    fn of(error: &impl GroupError) -> Self {
        Self { kind: error.kind(), rank: error.rank(), text: error.to_string() }
    }

    /// The thread that has the group ended.
    pub(super) fn ended() -> Self {
        let (kind, rank) = (GroupErrorKind::Other, None);
        Self { kind, rank, text: "the thread that carries the messages ended".into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl GroupError for Failure {
    fn kind(&self) -> GroupErrorKind {
        self.kind
    }

    fn rank(&self) -> Option<usize> {
        self.rank
    }
}

/// A group whose errors are [`Failure`], and which counts.
pub(super) struct Counted<G> {
    pub(super) group: G,
    pub(super) sent: Sent,
    pub(super) abort: fn(&mut G),
}

impl<G: Group> Counted<G> {
    fn count(&mut self, bytes: usize) {
        self.sent.operations += 1;
        self.sent.bytes += bytes as u64;
    }

    /// Counts a reduction of so many bytes: around a ring, each rank sends all parts but one, twice.
    fn count_reduction(&mut self, bytes: usize) {
        let size = self.group.size().max(1);
        self.count(2 * (bytes - bytes / size));
    }
}

impl<G: Group> Group for Counted<G> {
    type Error = Failure;

    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn size(&self) -> usize {
        self.group.size()
    }

    fn max_u8(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        self.count_reduction(bytes.len());
        self.group.max_u8(bytes).map_err(|error| Failure::of(&error))
    }

    fn max_u64(&mut self, numbers: &mut [u64]) -> Result<(), Failure> {
        self.count_reduction(size_of_val(numbers));
        self.group.max_u64(numbers).map_err(|error| Failure::of(&error))
    }

    fn sum_u64(&mut self, numbers: &mut [u64]) -> Result<(), Failure> {
        self.count_reduction(size_of_val(numbers));
        self.group.sum_u64(numbers).map_err(|error| Failure::of(&error))
    }

    fn broadcast(&mut self, from: usize, bytes: &mut [u8]) -> Result<(), Failure> {
        self.count(bytes.len());
        self.group.broadcast(from, bytes).map_err(|error| Failure::of(&error))
    }
}

impl<G: Exchange> Exchange for Counted<G> {
    fn all_gather(&mut self, own: &[u8], all: &mut [u8]) -> Result<(), Failure> {
        self.count(all.len() - own.len());
        self.group.all_gather(own, all).map_err(|error| Failure::of(&error))
    }

    fn all_to_all(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), Failure> {
        self.count(from.len() - from.len() / self.group.size().max(1));
        self.group.all_to_all(from, to).map_err(|error| Failure::of(&error))
    }
}

impl<G: Exchange> Carrier for Counted<G> {
    fn sent(&self) -> Sent {
        self.sent
    }

    fn abort(&mut self) {
        (self.abort)(&mut self.group);
    }
}
