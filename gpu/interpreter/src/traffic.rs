//! What an access of a warp costs: sectors of the device's memory, and turns at the banks of shared memory.

use crate::lanes::{LANES, Lanes, lanes_of};

/// Tells whether lanes access memory one behind the other, from the first lane's address on.
pub(crate) fn is_contiguous(mask: u32, addresses: &Lanes<u64>, each: usize) -> bool {
    let mut different = 0;
    for (lane, &address) in addresses.iter().enumerate() {
        different |= address ^ addresses[0].wrapping_add((lane * each) as u64);
    }
    mask == u32::MAX && different == 0
}

/// Returns how many sectors of 32 bytes lanes touch.
pub(crate) fn sectors(mask: u32, addresses: &Lanes<u64>, each: usize) -> u64 {
    if is_contiguous(mask, addresses, each) {
        // In as many sectors as it would at the beginning of memory, whose end may lie between.
        let first = addresses[0] % 32;
        return (first + (LANES * each) as u64 - 1) / 32 + 1;
    }
    // No lane touches two: what it accesses is aligned.
    let (mut seen, mut count) = ([0; LANES], 0);
    for lane in lanes_of(mask) {
        let sector = addresses[lane] / 32;
        if !seen[..count].contains(&sector) {
            seen[count] = sector;
            count += 1;
        }
    }
    count as u64
}

/// Returns how often lanes access shared memory beyond the least.
///
/// A bank has a word of 4 bytes at a time; lanes that want the same word have it together.  Of 8 bytes, half of the
/// lanes are served at once, of 16 a quarter.
pub(crate) fn bank_conflicts(mask: u32, addresses: &Lanes<u64>, each: usize) -> u64 {
    if is_contiguous(mask, addresses, each) {
        return 0;
    }
    let words = each.div_ceil(4);
    let at_once = LANES / words;
    let mut extra = 0;
    for first in (0..LANES).step_by(at_once) {
        let (mut seen, mut count) = ([0; LANES], 0);
        let mut taken = [0_u8; 32];
        for lane in (first..first + at_once).filter(|lane| mask >> lane & 1 == 1) {
            for word in (addresses[lane] / 4..).take(words) {
                let bank = (word % 32) as usize;
                if taken[bank] == 0 || !seen[..count].contains(&word) {
                    seen[count] = word;
                    count += 1;
                    taken[bank] += 1;
                }
            }
        }
        extra += u64::from(taken.into_iter().max().unwrap_or(0).saturating_sub(1));
    }
    extra
}
