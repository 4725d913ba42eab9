//! Atomic operations.

use super::{Places, check_alignment, table_written};
use crate::{
    code::{NONE, Register},
    compute::set_extended,
    convert::extend,
    error::Step,
    lanes::{LANES, lanes_of, map},
    machine::{Machine, visitor},
    memory::{Area, Refused, refuse},
    operation::Atomic,
    shared::Access,
    traffic::{bank_conflicts, sectors},
    types::Type,
    warp::Warp,
};

impl Machine<'_> {
    /// Changes what is there, one lane after the other.
    pub(super) fn change(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        places: &Places,
        (what, element): (Atomic, Type),
        to: Register,
        from: Register,
    ) -> Step {
        let (addresses, each) = (&places.addresses, element.bytes());
        check_alignment(mask, addresses, each)?;
        let operand = match element.bits {
            64 => *warp.long(from),
            _ => map(warp.word(from), u64::from),
        };
        let mut found = [0; LANES];
        for &(area, mask) in places.masks.iter().filter(|of| of.1 != 0) {
            match area {
                Area::Device => self.counts.sectors_written += sectors(mask, addresses, each),
                Area::Shared => {
                    self.counts.bank_conflicts += bank_conflicts(mask, addresses, each);
                }
                Area::Tables => return Err(table_written(mask, addresses, each)),
                Area::Local => {
                    let lane = mask.trailing_zeros() as usize;
                    return refuse(
                        lane,
                        each,
                        addresses[lane],
                        "local memory, which has no atomic operations",
                    );
                }
            }
            for lane in lanes_of(mask) {
                let change = |before: u64| changed(what, element, before, operand[lane]);
                found[lane] = match area {
                    Area::Shared => {
                        self.change_shared(warp, lane, addresses[lane], each, change)?
                    }
                    _ => self.change_device(lane, addresses[lane], each, change)?,
                };
            }
        }
        if to != NONE {
            set_extended(warp, to, element.bits, mask, &found);
        }
        Ok(())
    }

    fn change_shared(
        &mut self,
        warp: &Warp,
        lane: usize,
        address: u64,
        each: usize,
        change: impl Fn(u64) -> u64,
    ) -> Step<u64> {
        let at = self.shared.offset(lane as u32, address, each)?;
        self.shared.access(visitor(warp, lane), Access::Atomic, at, each)?;
        let bytes = self.shared.bytes_mut(at, each);
        let mut before = [0; 8];
        before[..each].copy_from_slice(bytes);
        let before = u64::from_le_bytes(before);
        bytes.copy_from_slice(&change(before).to_le_bytes()[..each]);
        Ok(before)
    }

    fn change_device(
        &mut self,
        lane: usize,
        address: u64,
        each: usize,
        change: impl Fn(u64) -> u64,
    ) -> Step<u64> {
        let mut bytes = [0; 8];
        let read = self.memory.read(address, &mut bytes[..each]);
        let before = u64::from_le_bytes(bytes);
        let after = change(before).to_le_bytes();
        let written = read.and_then(|()| self.memory.write(address, &after[..each]));
        written.or_else(|Refused(why)| refuse(lane, each, address, &why))?;
        Ok(before)
    }
}

/// Returns what an atomic operation leaves.
fn changed(what: Atomic, element: Type, before: u64, operand: u64) -> u64 {
    let signed = |of: u64| extend(element, of) as i64;
    match what {
        Atomic::Add => before.wrapping_add(operand),
        Atomic::Min if element.is_signed() => signed(before).min(signed(operand)) as u64,
        Atomic::Max if element.is_signed() => signed(before).max(signed(operand)) as u64,
        Atomic::Min => before.min(operand),
        Atomic::Max => before.max(operand),
        Atomic::And => before & operand,
        Atomic::Or => before | operand,
        Atomic::Xor => before ^ operand,
        Atomic::Exchange => operand,
    }
}
