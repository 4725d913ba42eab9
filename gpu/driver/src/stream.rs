//! Streams: work that is put off until somebody waits for it, or captured.

use std::{collections::VecDeque, sync::Arc, thread::ThreadId, time::Instant};

use crate::{
    memory::Memory,
    status::{Answer, Status},
};

/// Something for the device to do, once or as often as a graph is launched.
pub(crate) type Work = Arc<dyn Fn(&mut Memory) -> Answer + Send + Sync>;

/// What waits in a stream.
pub(crate) enum Step {
    Work(Work),
    /// An event is reached, if that is still what it was last recorded as.
    Record {
        event: usize,
        ticket: u64,
    },
    /// Another stream first has to come to where a ticket was drawn.
    Wait {
        stream: usize,
        ticket: u64,
    },
}

/// A stream.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) steps: VecDeque<Step>,
    pub(crate) capture: Option<Capture>,
    /// Whether it takes turns with the legacy stream.
    pub(crate) blocks: bool,
}

/// Who else is restricted while a stream is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

/// Work that is written down instead of done.
pub(crate) struct Capture {
    pub(crate) mode: Mode,
    pub(crate) thread: ThreadId,
    pub(crate) work: Vec<Work>,
    /// Something was asked for meanwhile that cannot be captured.
    pub(crate) is_lost: bool,
}

impl Stream {
    /// Takes work, now or for a graph.
    pub(crate) fn take(&mut self, work: Work) -> Answer {
        match &mut self.capture {
            None => self.steps.push_back(Step::Work(work)),
            Some(Capture { is_lost: true, .. }) => return Err(Status::STREAM_CAPTURE_INVALIDATED),
            Some(capture) => capture.work.push(work),
        }
        Ok(())
    }

    /// Refuses what cannot be captured.
    pub(crate) fn refuse_capture(&mut self, with: Status) -> Answer {
        match &mut self.capture {
            None => Ok(()),
            Some(capture) => {
                capture.is_lost = true;
                Err(with)
            }
        }
    }

    /// Tells whether a ticket was drawn here and is not reached.
    pub(crate) fn awaits(&self, of: u64) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Record { ticket, .. } if *ticket == of))
    }
}

/// An event.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) is_timed: bool,
    /// Where it was last recorded: the stream, and a number of its own.
    pub(crate) recorded: Option<(usize, u64)>,
    /// When that was reached.
    pub(crate) reached: Option<Instant>,
    /// It was last recorded while its stream was captured.
    pub(crate) is_captured: bool,
}
