//! A simulated grid: kernels on any machine, thread by thread, with what a GPU would not notice.
//!
//! Blocks run one after the other, and the threads of a block one after the other between two
//! barriers: upwards, downwards, or in an order made from the grid's seed, so that nothing relies on an
//! order.  A race in shared memory is a panic that names the word and the threads, and so is a
//! read of a word that nobody wrote.

use std::{
    boxed::Box,
    cell::{Cell, RefCell},
    vec::Vec,
};

use adaloss_core::format::Noise;

use crate::block::{Block, MOST_THREADS, SHARED_WORDS, Shared, WARP};

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    blocks: u32,
    threads: u32,
    seed: u32,
}

impl Grid {
    /// Makes a grid of blocks of threads.
    ///
    /// # Panics
    ///
    /// A block has no threads, more than [`MOST_THREADS`], or not a multiple of [`WARP`].
    pub const fn new(blocks: u32, threads: u32) -> Self {
        assert!(threads > 0 && threads <= MOST_THREADS && threads.is_multiple_of(WARP));
        Self { blocks, threads, seed: 0 }
    }

    /// The same grid with another order of blocks and threads; 0 is upwards.
    pub const fn with_seed(self, seed: u32) -> Self {
        Self { seed, ..self }
    }

    /// Runs a kernel on every block.
    pub fn launch(self, kernel: impl Fn(&mut SimulatedBlock<'_>)) {
        for index in self.order(self.blocks, 0) {
            let memory = SharedMemory::new();
            kernel(&mut SimulatedBlock { grid: self, index, memory: &memory, calls: 0 });
        }
    }

    /// Returns the numbers below `count` in the order of the seed, another one for each call.
    fn order(self, count: u32, call: u32) -> impl Iterator<Item = u32> {
        let Self { seed, .. } = self;
        let noise = Noise { seed, stream: call };
        let (first, step) = (u64::from(noise.word(0)), u64::from(PRIMES[seed as usize % 3]));
        (0..count).map(move |nth| match seed {
            0 => nth,
            1 => count - 1 - nth,
            // A prime has no factor in common with a smaller count: each number comes once.
            _ => ((u64::from(nth) * step + first) % u64::from(count)) as u32,
        })
    }
}

const PRIMES: [u32; 3] = [2_147_483_647, 2_147_483_629, 2_147_483_587];

/// One block of a simulated grid.
#[derive(Debug)]
pub struct SimulatedBlock<'m> {
    grid: Grid,
    index: u32,
    memory: &'m SharedMemory,
    /// Lockstep calls so far, each of which has an order of its own.
    calls: u32,
}

impl SimulatedBlock<'_> {
    /// Calls a function for each thread, in some order.
    fn run<T>(&mut self, work: impl Fn(u32) -> T) -> Box<[T]> {
        self.calls += 1;
        let threads = self.grid.threads;
        let mut results: Vec<_> = (0..threads).map(|_| None).collect();
        for thread in self.grid.order(threads, self.calls) {
            self.memory.thread.set(Some(thread));
            results[thread as usize] = Some(work(thread));
        }
        self.memory.thread.set(None);
        results.into_iter().map(|result| result.expect("each thread ran")).collect()
    }
}

impl<'m> Block for SimulatedBlock<'m> {
    type Each<T: Copy> = Box<[T]>;
    type Shared = &'m SharedMemory;

    fn index(&self) -> u32 {
        self.index
    }

    fn blocks(&self) -> u32 {
        self.grid.blocks
    }

    fn threads(&self) -> u32 {
        self.grid.threads
    }

    fn shared(&self) -> &'m SharedMemory {
        self.memory
    }

    fn each<T: Copy>(&mut self, work: impl Fn(u32) -> T) -> Box<[T]> {
        self.run(work)
    }

    fn zip<T: Copy, U: Copy, V: Copy>(
        &mut self,
        one: &Box<[T]>,
        other: &Box<[U]>,
        work: impl Fn(u32, T, U) -> V,
    ) -> Box<[V]> {
        self.run(|thread| work(thread, one[thread as usize], other[thread as usize]))
    }

    fn exchange<const N: usize>(&mut self, values: &Box<[[u32; N]]>, mask: u32) -> Box<[[u32; N]]> {
        assert!(mask < WARP, "a warp has no thread {mask} away");
        (0..values.len()).map(|thread| values[thread ^ mask as usize]).collect()
    }

    fn barrier(&mut self) {
        self.memory.barrier();
    }
}

/// What happened to a word of shared memory since the last barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Nothing,
    ReadBy(u32),
    ReadByMany,
    WrittenBy(u32),
    AddedTo,
}

/// The shared memory of a simulated block.
#[derive(Debug)]
pub struct SharedMemory {
    /// Each word, once it has been written, and its use; empty until the first use.
    words: RefCell<Vec<(Option<u32>, Use)>>,
    /// The thread that runs.
    thread: Cell<Option<u32>>,
}

impl SharedMemory {
    fn new() -> Self {
        Self { words: RefCell::new(Vec::new()), thread: Cell::new(None) }
    }

    fn barrier(&self) {
        self.words.borrow_mut().iter_mut().for_each(|(_, use_of)| *use_of = Use::Nothing);
    }

    /// Uses a word in a way that has to agree with the others since the last barrier.
    fn access(
        &self,
        word: usize,
        now: Use,
        change: impl FnOnce(Option<u32>) -> Option<u32>,
    ) -> u32 {
        let word = word % SHARED_WORDS;
        let thread = self.thread.get().expect("shared memory is used by a thread");
        let mut words = self.words.borrow_mut();
        words.resize(SHARED_WORDS, (None, Use::Nothing));
        let (value, before) = &mut words[word];
        *before = match (*before, now) {
            (Use::Nothing, now) => now,
            (Use::AddedTo, Use::AddedTo) => Use::AddedTo,
            (Use::ReadBy(one), Use::ReadBy(other)) if one != other => Use::ReadByMany,
            (Use::ReadByMany, Use::ReadBy(_)) => Use::ReadByMany,
            (Use::WrittenBy(one), Use::ReadBy(_) | Use::WrittenBy(_)) if one == thread => {
                Use::WrittenBy(one)
            }
            (Use::ReadBy(one), now) if one == thread && now != Use::AddedTo => now,
            (before, now) => {
                panic!("a race for word {word} of shared memory: {before:?}, then {now:?}")
            }
        };
        *value = change(*value);
        value.unwrap_or_else(|| panic!("thread {thread} reads word {word}, which nobody wrote"))
    }
}

impl Shared for &SharedMemory {
    fn load(self, word: usize) -> u32 {
        let thread = self.thread.get().unwrap_or_default();
        self.access(word, Use::ReadBy(thread), |value| value)
    }

    fn store(self, word: usize, value: u32) {
        let thread = self.thread.get().unwrap_or_default();
        self.access(word, Use::WrittenBy(thread), |_| Some(value));
    }

    fn add(self, word: usize, value: u32) {
        self.access(word, Use::AddedTo, |before| before.map(|before| before.wrapping_add(value)));
    }

    fn load_wide(self, pair: usize) -> u64 {
        let [low, high] = [2 * pair, 2 * pair + 1].map(|word| u64::from(self.load(word)));
        high << 32 | low
    }

    fn add_wide(self, pair: usize, value: u64) {
        let carries = Cell::new(false);
        let low = |before: Option<u32>| {
            before.map(|before| {
                let (sum, carry) = before.overflowing_add(value as u32);
                carries.set(carry);
                sum
            })
        };
        self.access(2 * pair, Use::AddedTo, low);
        let high = ((value >> 32) as u32).wrapping_add(carries.get().into());
        self.access(2 * pair + 1, Use::AddedTo, |before| before.map(|of| of.wrapping_add(high)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{share, sum_warp};

    fn panics(kernel: impl Fn(&mut SimulatedBlock<'_>) + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(|| Grid::new(1, 64).launch(kernel)).is_err()
    }

    #[test]
    fn races_are_noticed() {
        let to_one_word = |block: &mut SimulatedBlock<'_>| {
            let shared = block.shared();
            block.each(|thread| shared.store(7, thread));
        };
        assert!(panics(to_one_word));
        let without_a_barrier = |block: &mut SimulatedBlock<'_>| {
            let shared = block.shared();
            block.each(|thread| shared.store(thread as usize, thread));
            block.each(|thread| shared.load((thread as usize + 1) % 64));
        };
        assert!(panics(without_a_barrier));
        let read_while_added = |block: &mut SimulatedBlock<'_>| {
            let shared = block.shared();
            block.each(|thread| {
                if thread == 0 {
                    shared.store(0, 0);
                }
            });
            block.barrier();
            block.each(|_| shared.add(0, 1));
            block.each(|_| shared.load(0));
        };
        assert!(panics(read_while_added));
        assert!(panics(|block| {
            let shared = block.shared();
            block.each(|_| shared.load(3));
        }));
    }

    #[test]
    fn a_barrier_orders() {
        for seed in 0..4 {
            Grid::new(2, 96).with_seed(seed).launch(|block| {
                let shared = block.shared();
                block.each(|thread| {
                    if thread < 2 {
                        shared.store(thread as usize, 0);
                    }
                });
                block.barrier();
                block.each(|_| shared.add_wide(0, 0xffff_ffff));
                block.barrier();
                let sums = block.each(|_| shared.load_wide(0));
                assert!(sums.iter().all(|&sum| sum == 96 * 0xffff_ffff));
            });
        }
    }

    #[test]
    fn the_first_thread_of_a_warp_has_its_sum() {
        Grid::new(1, 64).launch(|block| {
            let values = block.each(|thread| [thread, 1]);
            let sums = sum_warp(block, values);
            assert_eq!((sums[0], sums[32]), ([496, 32], [496 + 32 * 32, 32]));
        });
    }

    #[test]
    fn every_number_is_in_one_share() {
        for count in [0, 1, 63, 64, 1000] {
            let seen = RefCell::new(std::vec![0; count]);
            Grid::new(3, 64).with_seed(5).launch(|block| {
                let of = share(block, count);
                block.each(|thread| of(thread).for_each(|index| seen.borrow_mut()[index] += 1));
            });
            assert!(seen.into_inner().iter().all(|&times| times == 1));
        }
    }
}
