//! Copies to shared memory that arrive when they are waited for.

use super::check_alignment;
use crate::{
    code::Register,
    error::{FaultKind, Step, Stop},
    lanes::{Lanes, lanes_of},
    machine::{Machine, visitor},
    memory::{Area, Refused, bytes_at, refuse},
    shared::Access,
    traffic::{bank_conflicts, sectors},
    warp::{Copies, Copy, Warp},
};

/// The most groups of copies of a thread that may be under way: a loop that never waits ends here.
const MOST_GROUPS: usize = 1 << 12;

impl Machine<'_> {
    /// Begins copies, which arrive when they are waited for.
    pub(super) fn copy(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        size: usize,
        (to, from): (&Lanes<u64>, &Lanes<u64>),
        bytes: Register,
    ) -> Step {
        let counts = *warp.word(bytes);
        check_alignment(mask, to, size)?;
        check_alignment(mask, from, size)?;
        self.counts.bank_conflicts += bank_conflicts(mask, to, size);
        let mut reading = 0;
        for lane in lanes_of(mask) {
            let count = counts[lane] as usize;
            if count > size {
                let what = format!("a copy of {count} bytes to {size}");
                return Err(Stop::new(FaultKind::Address, lane as u32, what));
            }
            let offset = self.shared.offset(lane as u32, to[lane], size)?;
            self.shared.access(visitor(warp, lane), Access::Copy, offset, size)?;
            let mut copied = [0; 16];
            if count > 0 {
                reading |= 1 << lane;
                self.read_global(lane, from[lane], &mut copied[..count])?;
            }
            let copy = Copy { to: offset, size, from: from[lane], count, bytes: copied };
            warp.copies[lane].open.push(copy);
        }
        self.counts.sectors_read += sectors(reading, from, size);
        Ok(())
    }

    /// Reads device memory or a table.
    fn read_global(&self, lane: usize, address: u64, to: &mut [u8]) -> Step {
        let each = to.len();
        match Area::of(address) {
            (Area::Tables, within) => match self.tables.read(within, each) {
                Some(bytes) => to.copy_from_slice(bytes),
                None => return refuse(lane, each, address, "in no table of the module"),
            },
            _ => {
                let read = self.memory.read(address, to);
                read.or_else(|Refused(why)| refuse(lane, each, address, &why))?;
            }
        }
        Ok(())
    }

    /// Makes a group of the copies that are in none yet.
    pub(crate) fn commit(&mut self, warp: &mut Warp, mask: u32) -> Step {
        for lane in lanes_of(mask) {
            let Copies { open, groups } = &mut warp.copies[lane];
            groups.push_back(std::mem::take(open));
            if groups.len() > MOST_GROUPS {
                let what = format!("more than {MOST_GROUPS} groups of copies are under way");
                return Err(Stop::new(FaultKind::Limit, lane as u32, what));
            }
        }
        Ok(())
    }

    /// Ends copies until so many groups are under way; those in no group yet only if all are waited for.
    pub(crate) fn wait(&mut self, warp: &mut Warp, mask: u32, most: usize, all: bool) -> Step {
        for lane in lanes_of(mask) {
            let mut arrived = Vec::new();
            let copies = &mut warp.copies[lane];
            let groups = copies.groups.len().saturating_sub(most);
            copies.groups.drain(..groups).for_each(|group| arrived.extend(group));
            if all {
                arrived.append(&mut copies.open);
            }
            for copy in arrived {
                let mut now = [0; 16];
                // Of zeros alone the address is of no account, and need not be one.
                if copy.count > 0 {
                    self.read_global(lane, copy.from, &mut now[..copy.count])?;
                }
                if now != copy.bytes {
                    let what = format!(
                        "{} changed while they were copied to shared memory",
                        bytes_at(copy.count, copy.from)
                    );
                    return Err(Stop::new(FaultKind::UnderWay, lane as u32, what));
                }
                self.shared.arrive(visitor(warp, lane), copy.to, &copy.bytes[..copy.size]);
            }
        }
        Ok(())
    }
}
