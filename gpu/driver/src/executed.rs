//! What an entry of an interpreted text did.

use std::ops::AddAssign;

use adaloss_interpreter::Counts;

/// Counts of one or several launches, as they pass through C.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Executed {
    /// Launches.
    pub launches: u64,
    /// Instructions of PTX, each once for all threads of a warp that execute it together.
    pub instructions: u64,
    /// Sectors of 32 bytes of the device's memory that were read and written.
    pub sectors: u64,
    /// Accesses to shared memory that others of the same warp waited for.
    pub bank_conflicts: u64,
    /// Barriers that blocks passed.
    pub barriers: u64,
    /// Branches that parted the threads of a warp.
    pub divergences: u64,
}

impl From<Counts> for Executed {
    fn from(counts: Counts) -> Self {
        Self {
            launches: 1,
            instructions: counts.total().by_warps,
            sectors: counts.sectors_read + counts.sectors_written,
            bank_conflicts: counts.bank_conflicts,
            barriers: counts.barriers,
            divergences: counts.divergences,
        }
    }
}

impl AddAssign for Executed {
    fn add_assign(&mut self, other: Self) {
        let Self { launches, instructions, sectors, bank_conflicts, barriers, divergences } = other;
        self.launches += launches;
        self.instructions += instructions;
        self.sectors += sectors;
        self.bank_conflicts += bank_conflicts;
        self.barriers += barriers;
        self.divergences += divergences;
    }
}
