//! The state behind the calls.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    env,
    ffi::CStr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Instant,
};

use crate::{
    executed::Executed,
    memory::Memory,
    module::{Function, Module},
    status::{Answer, Status},
    stream::{Event, Mode, Step, Stream, Work},
};

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: &'static CStr,
    /// Its compute capability.
    pub(crate) capability: (i32, i32),
    /// Whether it executes the text of a module, and not what that was made of.
    pub(crate) runs_text: bool,
}

impl Device {
    const fn grid(major: i32, minor: i32) -> Self {
        Self { name: c"simulated grid", capability: (major, minor), runs_text: false }
    }

    const fn text(major: i32, minor: i32) -> Self {
        Self { name: c"interpreted PTX", capability: (major, minor), runs_text: true }
    }
}

/// The devices by their numbers; the third is too old.
pub(crate) const DEVICES: [Device; 5] = [
    Device::grid(9, 0),
    Device::grid(8, 0),
    Device::grid(7, 5),
    Device::text(9, 0),
    Device::text(8, 0),
];

/// Returns the devices that a process sees, by the numbers that they have in it: those that `CUDA_VISIBLE_DEVICES`
/// lists, up to the first that is none, or all.
pub(crate) fn visible() -> &'static [usize] {
    static VISIBLE: OnceLock<Vec<usize>> = OnceLock::new();
    VISIBLE.get_or_init(|| match env::var("CUDA_VISIBLE_DEVICES") {
        Ok(listed) => {
            let numbers = listed.split(',').map(|number| number.trim().parse().ok());
            numbers.map_while(|of: Option<usize>| of.filter(|&of| of < DEVICES.len())).collect()
        }
        Err(_) => (0..DEVICES.len()).collect(),
    })
}

/// The stream that is there without being created.
pub(crate) const LEGACY: usize = 0;

thread_local! {
    /// The calling thread's context, as the number of its device.
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };

    /// The blocks of the calling thread's last launch.
    static LAST_BLOCKS: Cell<u32> = const { Cell::new(0) };

    /// Whether texts are executed in the plainest order for the calling thread.
    static IS_ORDERLY: Cell<bool> = const { Cell::new(false) };

    /// What the text of each entry did for the calling thread.
    static EXECUTED: RefCell<BTreeMap<String, Executed>> = const { RefCell::new(BTreeMap::new()) };

    /// How often the calling thread called each function.
    static CALLS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// All that calls share.
#[derive(Default)]
pub(crate) struct Driver {
    pub(crate) is_initialised: bool,
    /// How often each primary context is retained.
    pub(crate) retained: [u32; DEVICES.len()],
    pub(crate) memory: Memory,
    pub(crate) streams: BTreeMap<usize, Stream>,
    pub(crate) events: HashMap<usize, Event>,
    pub(crate) modules: HashMap<usize, Module>,
    pub(crate) functions: HashMap<usize, Function>,
    pub(crate) graphs: HashMap<usize, Vec<Work>>,
    pub(crate) executables: HashMap<usize, Vec<Work>>,
    /// The error that broke the context: every later call gets it.
    broken: Option<Status>,
    /// Handles, tickets and launches are numbered.
    last: usize,
}

/// Returns the calling thread's context.
pub(crate) fn current() -> Option<usize> {
    CURRENT.get()
}

/// Replaces the calling thread's context.
pub(crate) fn set_current(device: Option<usize>) {
    CURRENT.set(device);
}

/// Returns the blocks of the calling thread's last launch.
pub(crate) fn last_blocks() -> u32 {
    LAST_BLOCKS.get()
}

/// Notes the blocks of a launch.
pub(crate) fn set_last_blocks(blocks: u32) {
    LAST_BLOCKS.set(blocks);
}

/// Tells whether texts are executed in the plainest order.
pub(crate) fn is_orderly() -> bool {
    IS_ORDERLY.get()
}

/// Lets texts be executed in the plainest order, for the calling thread.
pub(crate) fn set_orderly() {
    IS_ORDERLY.set(true);
}

/// Takes note of what the text of an entry did.
pub(crate) fn note_executed(entry: &str, counts: Executed) {
    EXECUTED.with_borrow_mut(|all| *all.entry(entry.into()).or_default() += counts);
}

/// Returns what the text of an entry did for the calling thread since it was last asked.
pub(crate) fn take_executed(entry: &str) -> Option<Executed> {
    EXECUTED.with_borrow_mut(|all| all.remove(entry))
}

/// Returns how often the calling thread called a function.
pub(crate) fn calls(name: &str) -> u64 {
    CALLS.with_borrow(|calls| calls.get(name).copied().unwrap_or(0))
}

/// Does a call that needs nothing but the lock.
pub(crate) fn anywhere(name: &'static str, call: impl FnOnce(&mut Driver) -> Answer) -> Status {
    let mut driver = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    let driver = driver.get_or_insert_default();
    CALLS.with_borrow_mut(|calls| *calls.entry(name).or_default() += 1);
    // A panic must not pass through C; it has said its text.
    let answer = catch_unwind(AssertUnwindSafe(|| call(driver)));
    match answer.unwrap_or(Err(Status::LAUNCH_FAILED)) {
        Ok(()) => Status::SUCCESS,
        Err(status) => status,
    }
}

/// Does a call that needs the driver to be initialised.
pub(crate) fn initialised(name: &'static str, call: impl FnOnce(&mut Driver) -> Answer) -> Status {
    anywhere(
        name,
        |driver| {
            if driver.is_initialised { call(driver) } else { Err(Status::NOT_INITIALIZED) }
        },
    )
}

/// Does a call that needs a current context, which is not broken.
pub(crate) fn in_context(name: &'static str, call: impl FnOnce(&mut Driver) -> Answer) -> Status {
    initialised(name, |driver| {
        let device = current().ok_or(Status::INVALID_CONTEXT)?;
        if driver.retained.get(device).is_none_or(|&times| times == 0) {
            return Err(Status::INVALID_CONTEXT);
        }
        driver.broken.map_or(Ok(()), Err)?;
        call(driver)
    })
}

/// Stores a result where the caller wants it.
///
/// # Safety
///
/// It is NULL, or there is room.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}

impl Driver {
    /// Returns a number that nothing else has, and that looks like an address.
    pub(crate) const fn next(&mut self) -> usize {
        self.last += 0x10;
        0x1000 + self.last
    }

    /// Returns a stream.
    pub(crate) fn stream(&mut self, stream: usize) -> Answer<&mut Stream> {
        if stream == LEGACY {
            return Ok(self.streams.entry(LEGACY).or_default());
        }
        self.streams.get_mut(&stream).ok_or(Status::INVALID_HANDLE)
    }

    /// Gives work to a stream.
    pub(crate) fn give(&mut self, stream: usize, work: Work) -> Answer {
        self.take_turns(stream)?;
        self.stream(stream)?.take(work)
    }

    /// Lets the legacy stream and those that block take turns, which is more than they have to.
    pub(crate) fn take_turns(&mut self, stream: usize) -> Answer {
        if self.stream(stream)?.capture.is_some() {
            return Ok(());
        }
        if stream == LEGACY {
            let blocking = self.streams.iter().filter(|(_, of)| of.blocks).map(|(&of, _)| of);
            for other in blocking.collect::<Vec<_>>() {
                self.stream(other)?.refuse_capture(Status::STREAM_CAPTURE_IMPLICIT)?;
                self.finish(other)?;
            }
        } else if self.stream(stream)?.blocks {
            self.finish(LEGACY)?;
        }
        Ok(())
    }

    /// Does all that waits in a stream.
    pub(crate) fn finish(&mut self, stream: usize) -> Answer {
        while self.advance(stream)? {}
        Ok(())
    }

    /// Does all that waits anywhere.
    pub(crate) fn finish_all(&mut self) -> Answer {
        let streams: Vec<_> = self.streams.keys().copied().collect();
        streams.into_iter().try_for_each(|stream| self.finish(stream))
    }

    /// Does what comes next in a stream; returns whether there was something.
    fn advance(&mut self, stream: usize) -> Answer<bool> {
        let Some(step) = self.stream(stream)?.steps.pop_front() else { return Ok(false) };
        match step {
            Step::Work(work) => {
                let answer = catch_unwind(AssertUnwindSafe(|| work(&mut self.memory)));
                if let Err(status) = answer.unwrap_or(Err(Status::LAUNCH_FAILED)) {
                    self.broken = Some(status);
                    return Err(status);
                }
            }
            Step::Record { event, ticket } => {
                if let Some(event) = self.events.get_mut(&event)
                    && event.recorded == Some((stream, ticket))
                {
                    event.reached = Some(Instant::now());
                }
            }
            Step::Wait { stream: other, ticket } => self.reach(other, ticket)?,
        }
        Ok(true)
    }

    /// Does what comes before a ticket.
    pub(crate) fn reach(&mut self, stream: usize, ticket: u64) -> Answer {
        while self.streams.get(&stream).is_some_and(|of| of.awaits(ticket)) {
            self.advance(stream)?;
        }
        Ok(())
    }

    /// Refuses to wait for everything while anything is captured.
    pub(crate) fn refuse_captures(&mut self) -> Answer {
        let refused = self
            .streams
            .values_mut()
            .map(|stream| stream.refuse_capture(Status::STREAM_CAPTURE_UNSUPPORTED));
        // Each of them is lost, not only the first.
        refused.fold(Ok(()), Answer::and)
    }

    /// Refuses what is not safe while the calling thread captures, or anyone does globally.
    pub(crate) fn refuse_unsafe(&mut self) -> Answer {
        let refused = self.streams.values_mut().map(|stream| {
            let mode = stream.capture.as_ref().map(|capture| (capture.mode, capture.thread));
            match mode {
                Some((Mode::Global, _)) => {
                    stream.refuse_capture(Status::STREAM_CAPTURE_UNSUPPORTED)
                }
                Some((Mode::ThreadLocal, thread)) if thread == thread::current().id() => {
                    stream.refuse_capture(Status::STREAM_CAPTURE_UNSUPPORTED)
                }
                _ => Ok(()),
            }
        });
        refused.fold(Ok(()), Answer::and)
    }
}
