//! The device's memory: allocations of the host's, each between two guards.

use std::{
    alloc::{Layout, alloc, dealloc},
    collections::{BTreeMap, VecDeque},
    slice,
};

use crate::status::{Answer, Status};

/// Bytes before and behind an allocation that nothing may write.
const GUARD: usize = 256;

/// What the guards hold.
const GUARDED: u8 = 0xa7;

/// What memory holds that nobody has written, or that was freed: a number that is not finite in no
/// format, and an address of nothing.
const NOISE: u8 = 0xcb;

/// Bytes of a device.
pub(crate) const TOTAL: usize = 1 << 30;

/// Bytes that were freed and are kept, so that whoever still uses them finds noise.
const KEPT: usize = 1 << 26;

/// Bytes of the host's memory that this library owns.
#[derive(Debug)]
struct Block {
    first: *mut u8,
    layout: Layout,
}

// SAFETY: a block is owned, and used where the driver is locked.
unsafe impl Send for Block {}

impl Block {
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.checked_add(2 * GUARD)?, GUARD).ok()?;
        // SAFETY: the layout has at least the guards' bytes.
        let first = unsafe { alloc(layout) };
        if first.is_null() {
            return None;
        }
        // SAFETY: so many bytes were allocated.
        unsafe {
            first.write_bytes(GUARDED, layout.size());
            first.add(GUARD).write_bytes(NOISE, bytes);
        }
        Some(Self { first, layout })
    }

    const fn bytes(&self) -> usize {
        self.layout.size() - 2 * GUARD
    }

    fn address(&self) -> usize {
        self.first.addr() + GUARD
    }

    fn holds(&self, address: usize, bytes: usize) -> bool {
        let end = address.checked_add(bytes);
        address >= self.address() && end.is_some_and(|end| end <= self.address() + self.bytes())
    }

    fn forget(&self) {
        // SAFETY: so many bytes lie between the guards.
        unsafe { self.first.add(GUARD).write_bytes(NOISE, self.bytes()) };
    }

    fn is_guarded(&self) -> bool {
        let behind = self.layout.size() - GUARD;
        // SAFETY: both guards are within the block and were written.
        let guards =
            [0, behind].map(|at| unsafe { slice::from_raw_parts(self.first.add(at), GUARD) });
        guards.iter().all(|guard| guard.iter().all(|&byte| byte == GUARDED))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.first, self.layout) };
    }
}

/// An allocation.
#[derive(Debug)]
struct Allocation {
    block: Block,
    /// A free of it is in some stream: no new work may name it.
    dying: bool,
}

/// All allocations of the process.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    allocations: BTreeMap<usize, Allocation>,
    /// Pinned memory of the host.
    pinned: BTreeMap<usize, Block>,
    freed: VecDeque<Block>,
    used: usize,
}

impl Memory {
    /// Allocates; returns the address.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Answer<usize> {
        if bytes == 0 {
            return Err(Status::INVALID_VALUE);
        }
        if self.used.checked_add(bytes).is_none_or(|used| used > TOTAL) {
            return Err(Status::OUT_OF_MEMORY);
        }
        let block = Block::new(bytes).ok_or(Status::OUT_OF_MEMORY)?;
        let address = block.address();
        self.used += bytes;
        self.allocations.insert(address, Allocation { block, dying: false });
        Ok(address)
    }

    /// Allocates pinned memory of the host.
    pub(crate) fn pin(&mut self, bytes: usize) -> Answer<usize> {
        let block = Block::new(bytes).ok_or(Status::OUT_OF_MEMORY)?;
        let address = block.address();
        self.pinned.insert(address, block);
        Ok(address)
    }

    /// Frees pinned memory of the host: a copy that is still to be done finds noise.
    pub(crate) fn unpin(&mut self, address: usize) -> Answer {
        let block = self.pinned.remove(&address).ok_or(Status::INVALID_VALUE)?;
        self.keep(block);
        Ok(())
    }

    /// Keeps what was freed for a while.
    fn keep(&mut self, block: Block) {
        block.forget();
        self.freed.push_back(block);
        while self.freed.iter().map(Block::bytes).sum::<usize>() > KEPT {
            self.freed.pop_front();
        }
    }

    /// Tells whether bytes of the host are pinned.
    pub(crate) fn is_pinned(&self, address: usize, bytes: usize) -> bool {
        let before = self.pinned.range(..=address).next_back();
        before.is_some_and(|(_, block)| block.holds(address, bytes))
    }

    /// Says that an allocation is about to be freed, from where on no call may name it.
    pub(crate) fn condemn(&mut self, address: usize) -> Answer {
        let allocation = self.allocations.get_mut(&address).filter(|of| !of.dying);
        allocation.ok_or(Status::INVALID_VALUE)?.dying = true;
        Ok(())
    }

    /// Frees what was condemned.
    pub(crate) fn free(&mut self, address: usize) -> Answer {
        let Allocation { block, .. } =
            self.allocations.remove(&address).ok_or(Status::ILLEGAL_ADDRESS)?;
        let intact = block.is_guarded();
        self.used -= block.bytes();
        self.keep(block);
        if intact { Ok(()) } else { Err(Status::ILLEGAL_ADDRESS) }
    }

    /// Returns the free bytes.
    pub(crate) const fn available(&self) -> usize {
        TOTAL - self.used
    }

    /// Refuses bytes that are not within one allocation, for a call that names them.
    pub(crate) fn check(&self, address: usize, bytes: usize) -> Answer {
        let before = self.allocations.range(..=address).next_back();
        match before {
            _ if bytes == 0 => Ok(()),
            Some((_, of)) if !of.dying && of.block.holds(address, bytes) => Ok(()),
            _ => Err(Status::INVALID_VALUE),
        }
    }

    /// Returns where the allocation begins and ends that has the byte at an address.
    pub(crate) fn around(&self, address: usize) -> Option<(usize, usize)> {
        let (_, Allocation { block, .. }) = self.allocations.range(..=address).next_back()?;
        block.holds(address, 1).then(|| (block.address(), block.address() + block.bytes()))
    }

    /// Tells whether an address is NULL, in an allocation or at its end: what a kernel may be given.
    pub(crate) fn names(&self, address: usize) -> bool {
        let before = self.allocations.range(..=address).next_back();
        address == 0 || before.is_some_and(|(_, of)| of.block.holds(address, 0))
    }

    /// Says whether work has written beyond an allocation.
    pub(crate) fn check_guards(&self) -> Answer {
        let intact = self.allocations.values().all(|of| of.block.is_guarded());
        if intact { Ok(()) } else { Err(Status::ILLEGAL_ADDRESS) }
    }
}

/// Copies bytes.
///
/// # Safety
///
/// So many bytes are at both addresses.
pub(crate) unsafe fn copy(to: usize, from: usize, bytes: usize) {
    let (to, from) = (to as *mut u8, from as *const u8);
    // SAFETY: the caller's promise.
    unsafe { to.copy_from(from, bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allocated_is_refused() {
        let mut memory = Memory::default();
        let address = memory.allocate(100).expect("room");
        assert_eq!(address % 256, 0);
        assert_eq!(memory.check(address, 100), Ok(()));
        assert_eq!(memory.check(address + 1, 100), Err(Status::INVALID_VALUE));
        assert_eq!(memory.check(address - 1, 1), Err(Status::INVALID_VALUE));
        assert_eq!(memory.condemn(address + 1), Err(Status::INVALID_VALUE));
        assert_eq!(memory.condemn(address), Ok(()));
        assert_eq!(memory.condemn(address), Err(Status::INVALID_VALUE));
        assert_eq!(memory.check(address, 1), Err(Status::INVALID_VALUE));
        assert_eq!(memory.free(address), Ok(()));
        assert!(!memory.names(address));
        assert_eq!(memory.allocate(TOTAL + 1), Err(Status::OUT_OF_MEMORY));
        assert_eq!((memory.available(), memory.allocate(0)), (TOTAL, Err(Status::INVALID_VALUE)));
    }

    #[test]
    fn a_write_beyond_an_allocation_is_noticed() {
        let mut memory = Memory::default();
        let address = memory.allocate(8).expect("room");
        let zeros = [0_u8; 9];
        // SAFETY: behind eight bytes comes a guard.
        unsafe { copy(address, zeros.as_ptr().addr(), 8) };
        assert_eq!(memory.check_guards(), Ok(()));
        // SAFETY: as above.
        unsafe { copy(address, zeros.as_ptr().addr(), 9) };
        assert_eq!(memory.check_guards(), Err(Status::ILLEGAL_ADDRESS));
    }
}
