//! The memory of a block, and who used which of its bytes.
//!
//! A read of bytes that nobody wrote is a fault.  So are two accesses to the same bytes by two threads, at least
//! one of them a write, that nothing orders: a race.  Two atomic operations are none.
//!
//! What orders, by the ISA's memory model: `bar.sync`, all threads of the block; and `bar.warp.sync` with all
//! threads of a warp that have not exited, those of the warp.  Nothing else does: `shfl.sync`, `ldmatrix` and `mma`
//! make threads wait for one another, but the ISA gives no guarantee that one sees what another has written, and
//! the compiler of the machine's code may move accesses over them.  That a warp's threads execute an instruction
//! together orders nothing, either.  A `bar.warp.sync` of some threads of a warp is not taken to order, though it
//! does: no kernel has one.
//!
//! Bytes that an asynchronous copy is under way to are neither to be read nor written until the thread that
//! asked for it has waited for it; for the other threads, it then is a write of that thread.

use crate::{
    error::{FaultKind, Step, Stop},
    memory::{SHARED_FIRST, bytes_at},
};

/// Nobody, in [`Granule`].
const NOBODY: u16 = u16::MAX;

/// Several threads, of several warps.
const MANY: u16 = u16::MAX - 1;

/// Several threads of the warp in the lower bits.
const OF_WARP: u16 = 1 << 15;

/// What is known of the least bytes that are accessed at once.
#[derive(Clone, Copy, Debug)]
struct Granule {
    wrote: u16,
    read: u16,
    wrote_at: u32,
    read_at: u32,
    state: State,
    /// The write was an atomic operation.
    is_atomic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unwritten,
    Written,
    UnderWay,
}

const UNUSED: Granule = Granule {
    wrote: NOBODY,
    read: NOBODY,
    wrote_at: 0,
    read_at: 0,
    state: State::Unwritten,
    is_atomic: false,
};

/// Who accesses memory, and since when what others did is ordered before that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    pub(crate) thread: u16,
    /// When its warp was synchronised.
    pub(crate) warp_since: u32,
}

/// What is done with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Atomic,
    /// A write that begins now and ends later.
    Copy,
}

/// The memory of a block.
#[derive(Debug)]
pub(crate) struct Shared {
    bytes: Vec<u8>,
    granules: Vec<Granule>,
    /// A granule has `1 << granule_log2` bytes.
    granule_log2: u32,
    /// Counts what orders.
    now: u32,
    /// When the block's threads were synchronised.
    block_since: u32,
}

impl Shared {
    pub(crate) fn new(bytes: usize, granule: usize) -> Self {
        let granules = vec![UNUSED; bytes.div_ceil(granule)];
        let granule_log2 = granule.trailing_zeros();
        Self { bytes: vec![0; bytes], granules, granule_log2, now: 1, block_since: 1 }
    }

    /// Begins a block: nothing is written.
    pub(crate) fn begin(&mut self) {
        self.granules.fill(UNUSED);
        (self.now, self.block_since) = (1, 1);
    }

    /// Orders what was before and what comes for all threads.
    pub(crate) fn barrier(&mut self) {
        self.block_since = self.warp_barrier();
    }

    /// Orders for the threads of a warp; returns since when.
    ///
    /// Behind four billion of them nothing is ordered any more, so that a race may be found that is none.
    pub(crate) fn warp_barrier(&mut self) -> u32 {
        self.now = self.now.saturating_add(1);
        self.now
    }

    /// Returns where bytes are, if they are there.
    pub(crate) fn offset(&self, lane: u32, address: u64, bytes: usize) -> Step<usize> {
        let offset = address.wrapping_sub(SHARED_FIRST);
        if offset > self.bytes.len() as u64 || offset as usize + bytes > self.bytes.len() {
            let what = format!(
                "{}: beyond the {} bytes of shared memory from {SHARED_FIRST:#x} on",
                bytes_at(bytes, address),
                self.bytes.len()
            );
            return Err(Stop::new(FaultKind::Address, lane, what));
        }
        Ok(offset as usize)
    }

    /// Notes an access to bytes that are there.
    #[inline]
    pub(crate) fn access(
        &mut self,
        visitor: Visitor,
        how: Access,
        offset: usize,
        bytes: usize,
    ) -> Step {
        let first = offset >> self.granule_log2;
        let last = (offset + bytes - 1) >> self.granule_log2;
        let (now, block_since) = (self.now, self.block_since);
        for granule in &mut self.granules[first..=last] {
            let what = visit(granule, visitor, how, now, block_since);
            if let Err((kind, what)) = what {
                let what = format!("{}: {what}", bytes_at(bytes, SHARED_FIRST + offset as u64));
                return Err(Stop::new(kind, u32::from(visitor.thread) % 32, what));
            }
        }
        Ok(())
    }

    pub(crate) fn bytes(&self, offset: usize, bytes: usize) -> &[u8] {
        &self.bytes[offset..offset + bytes]
    }

    pub(crate) fn bytes_mut(&mut self, offset: usize, bytes: usize) -> &mut [u8] {
        &mut self.bytes[offset..offset + bytes]
    }

    /// Ends a copy: its bytes are there, and are the thread's write of now.
    pub(crate) fn arrive(&mut self, visitor: Visitor, offset: usize, from: &[u8]) {
        self.bytes_mut(offset, from.len()).copy_from_slice(from);
        let first = offset >> self.granule_log2;
        let last = (offset + from.len() - 1) >> self.granule_log2;
        for granule in &mut self.granules[first..=last] {
            *granule = Granule {
                wrote: visitor.thread,
                wrote_at: self.now,
                state: State::Written,
                ..UNUSED
            };
        }
    }
}

/// Notes an access to a granule, or says what is wrong with it.
#[inline(always)]
fn visit(
    granule: &mut Granule,
    visitor: Visitor,
    how: Access,
    now: u32,
    block_since: u32,
) -> Result<(), (FaultKind, String)> {
    let since = |who: u16| {
        let warp = visitor.thread / 32;
        let is_of_warp = who == (OF_WARP | warp) || who < OF_WARP && who / 32 == warp;
        if is_of_warp { block_since.max(visitor.warp_since) } else { block_since }
    };
    let conflicts = |who: u16, at: u32| who != NOBODY && who != visitor.thread && at >= since(who);
    if granule.state != State::Written {
        if granule.state == State::UnderWay {
            return Err((FaultKind::UnderWay, under_way(granule, how)));
        }
        if matches!(how, Access::Read | Access::Atomic) {
            return Err((FaultKind::Unwritten, format!("{} and nobody has written it", verb(how))));
        }
    }
    let is_own = granule.wrote == visitor.thread && granule.wrote_at >= since(granule.wrote);
    let both_atomic = how == Access::Atomic && granule.is_atomic;
    if conflicts(granule.wrote, granule.wrote_at) && !both_atomic {
        let before = if granule.is_atomic { "changed" } else { "written" };
        return Err((FaultKind::Race, race(how, before, granule.wrote)));
    }
    if how == Access::Read {
        let counts = granule.read_at >= since(granule.read);
        granule.read = joined(granule.read, counts, visitor.thread);
        granule.read_at = now;
        return Ok(());
    }
    if conflicts(granule.read, granule.read_at) {
        return Err((FaultKind::Race, race(how, "read", granule.read)));
    }
    granule.wrote = match how {
        Access::Atomic => {
            joined(granule.wrote, granule.wrote_at >= since(granule.wrote), visitor.thread)
        }
        _ => visitor.thread,
    };
    // An atomic operation does not make one of the plain write that its thread did before.
    granule.is_atomic = how == Access::Atomic && (granule.is_atomic || !is_own);
    granule.wrote_at = now;
    granule.read = NOBODY;
    granule.state = if how == Access::Copy { State::UnderWay } else { State::Written };
    Ok(())
}

/// Adds a thread to those that count still.
#[inline(always)]
fn joined(before: u16, counts: bool, thread: u16) -> u16 {
    if !counts || before == NOBODY || before == thread {
        return thread;
    }
    let warp = OF_WARP | (thread / 32);
    if before == warp || before < OF_WARP && before / 32 == thread / 32 { warp } else { MANY }
}

fn verb(how: Access) -> &'static str {
    match how {
        Access::Read => "read,",
        Access::Write => "written,",
        Access::Atomic => "changed,",
        Access::Copy => "copied to,",
    }
}

fn who(who: u16) -> String {
    match who {
        MANY => "threads of several warps".into(),
        _ if who >= OF_WARP => format!("threads of warp {}", who - OF_WARP),
        _ => format!("thread {who}"),
    }
}

fn race(how: Access, before: &str, by: u16) -> String {
    format!("a race: {} and {before} by {} since the last barrier", verb(how), who(by))
}

fn under_way(granule: &Granule, how: Access) -> String {
    format!("{} and a copy of {} is under way to it", verb(how), who(granule.wrote))
}
