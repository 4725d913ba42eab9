//! How often what was done.

use std::ops::AddAssign;

use crate::types::Space;

/// What an instruction uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Integers, bits and predicates.
    Integer,
    /// Numbers of 32 bits, comparisons included.
    Float32,
    /// Numbers of 64 bits, comparisons included.
    Float64,
    /// Conversions between types.
    Conversion,
    /// Moves and selections, and exchanges within a warp.
    Movement,
    /// Products of matrices.
    Tensor,
    /// Branches, returns and barriers.
    Control,
    /// Parameters.
    Parameter,
    /// Memory, by an address that says itself which.
    Generic,
    /// The device's memory, and constant tables.
    Global,
    /// The block's memory, and copies to it.
    Shared,
    /// The thread's memory.
    Local,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::Integer,
        Self::Float32,
        Self::Float64,
        Self::Conversion,
        Self::Movement,
        Self::Tensor,
        Self::Control,
        Self::Parameter,
        Self::Generic,
        Self::Global,
        Self::Shared,
        Self::Local,
    ];

    /// Returns what it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Conversion => "conversion",
            Self::Movement => "movement",
            Self::Tensor => "tensor",
            Self::Control => "control",
            Self::Parameter => "parameter",
            Self::Generic => "generic",
            Self::Global => "global",
            Self::Shared => "shared",
            Self::Local => "local",
        }
    }

    pub(crate) const fn of(space: Space) -> Self {
        match space {
            Space::Generic => Self::Generic,
            Space::Global => Self::Global,
            Space::Shared => Self::Shared,
            Space::Local => Self::Local,
            Space::Parameter => Self::Parameter,
        }
    }
}

/// How many instructions were executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// By warps: once for all threads that execute it together.
    pub by_warps: u64,
    /// By threads.
    pub by_threads: u64,
}

impl AddAssign for Executed {
    fn add_assign(&mut self, other: Self) {
        self.by_warps += other.by_warps;
        self.by_threads += other.by_threads;
    }
}

/// What a launch did.
///
/// They add up over launches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    classes: [Executed; Class::ALL.len()],
    /// Sectors of 32 bytes of the device's memory that were read, for each access of a warp; tables are not
    /// among them.
    pub sectors_read: u64,
    /// Sectors that were written, atomic operations included.
    pub sectors_written: u64,
    /// Accesses to shared memory beyond the least that the same bytes take: what threads wait for whose
    /// words are in the same bank.
    pub bank_conflicts: u64,
    /// Barriers that a block's threads passed.
    pub barriers: u64,
    /// Branches that parted the threads of a warp.
    pub divergences: u64,
}

impl Counts {
    /// Returns the instructions of a class.
    pub const fn of(&self, class: Class) -> Executed {
        self.classes[class as usize]
    }

    /// Returns all instructions.
    pub fn total(&self) -> Executed {
        self.classes.iter().fold(Executed::default(), |mut sum, &of| {
            sum += of;
            sum
        })
    }

    pub(crate) fn add(&mut self, class: Class, executed: Executed) {
        self.classes[class as usize] += executed;
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (class, other) in self.classes.iter_mut().zip(other.classes) {
            *class += other;
        }
        self.sectors_read += other.sectors_read;
        self.sectors_written += other.sectors_written;
        self.bank_conflicts += other.bank_conflicts;
        self.barriers += other.barriers;
        self.divergences += other.divergences;
    }
}
