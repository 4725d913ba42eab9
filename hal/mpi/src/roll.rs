//! Who is missing: a rank that gives up waiting calls the others, and those that wait as well answer.

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use mpi::{
    Tag,
    point_to_point::{Destination, Source},
    request::StaticScope,
    topology::{Communicator, SimpleCommunicator},
};

const CALL: Tag = 1;
const HERE: Tag = 2;

/// What calls and answers bring.
static BYTE: [u8; 1] = [0];

/// How long a call waits for answers, and the pauses meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// Answers the ranks that have called this one.
pub(crate) fn answer(communicator: &SimpleCommunicator) {
    while let Some(rank) = received(communicator, CALL) {
        send(communicator, rank, HERE);
    }
}

/// Calls all ranks, and returns the first that does not answer, if there is one; it takes a second at most.
pub(crate) fn missing(communicator: &SimpleCommunicator) -> Option<usize> {
    let (own, size) = (communicator.rank(), communicator.size());
    let mut is_here = vec![false; size as usize];
    is_here[own as usize] = true;
    (0..size).filter(|&rank| rank != own).for_each(|rank| send(communicator, rank, CALL));
    let began = Instant::now();
    while began.elapsed() < PATIENCE && !is_here.iter().all(|&is_here| is_here) {
        answer(communicator);
        while let Some(rank) = received(communicator, HERE) {
            is_here[rank as usize] = true;
        }
        thread::sleep(PAUSE);
    }
    is_here.iter().position(|&is_here| !is_here)
}

/// Takes a message that has come, and returns of whom.
fn received(communicator: &SimpleCommunicator, tag: Tag) -> Option<i32> {
    let status = communicator.any_process().immediate_probe_with_tag(tag)?;
    let rank = status.source_rank();
    communicator.process_at_rank(rank).receive_into_with_tag(&mut [0_u8], tag);
    Some(rank)
}

/// Sends a byte, and does not wait until it is received: it may never be.
fn send(communicator: &SimpleCommunicator, to: i32, tag: Tag) {
    let to = communicator.process_at_rank(to);
    mem::forget(to.immediate_send_with_tag(StaticScope, &BYTE, tag));
}
