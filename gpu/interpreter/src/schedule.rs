//! In which order blocks, warps and the two sides of a branch are executed.

/// What becomes of threads that a branch has parted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Divergence {
    /// Those that are behind in the text go first, and threads that are at the same instruction go on together.
    #[default]
    SmallestFirst,
    /// Any go first, by the seed, and stay parted until they come to something that they do together.
    Parted,
}

/// The order of what the ISA leaves open: with the same seed, the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Zero is the order of the numbers of blocks and warps.
    pub seed: u64,
    /// What becomes of threads that a branch has parted.
    pub divergence: Divergence,
    /// The order of the sums of matrix products.
    pub sums: crate::tensor::Sums,
}

impl Schedule {
    /// Returns the order that is against all that may be hoped for, by a seed.
    pub fn adverse(seed: u64) -> Self {
        Self { seed, divergence: Divergence::Parted, ..Self::default() }
    }
}

/// Numbers that follow from a seed.
#[derive(Debug)]
pub(crate) struct Order {
    state: u64,
    is_plain: bool,
}

impl Order {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, is_plain: seed == 0 }
    }

    /// Returns the next number: SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Returns a number below a bound that is not zero.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// Returns the numbers below a count in some order.
    pub(crate) fn of(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<_> = (0..count).collect();
        if !self.is_plain {
            for last in (1..count).rev() {
                all.swap(last, self.below(last as u32 + 1) as usize);
            }
        }
        all
    }
}
