//! A simulated grid: kernels on any machine, thread by thread, with what a GPU would not notice.
//!
//! Blocks run one after the other, and the threads of a block one after the other between two
//! barriers: upwards, downwards, or in an order made from the grid's seed, so that nothing relies on an
//! order.  A race in shared memory is a panic that names the word and the threads, and so is a
//! read of a word that nobody wrote.

use std::{
    boxed::Box,
    cell::{Cell, RefCell},
    collections::VecDeque,
    vec::Vec,
};

use adaloss_core::format::Noise;

use crate::{
    atomic,
    block::{Block, Factor, MOST_THREADS, Place, SHARED_WORDS, Shared, WARP},
};

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    blocks: u32,
    threads: u32,
    words: usize,
    seed: u32,
}

impl Grid {
    /// Makes a grid of blocks of threads, each block with [`SHARED_WORDS`] of shared memory.
    ///
    /// # Panics
    ///
    /// A block has no threads, more than [`MOST_THREADS`], or not a multiple of [`WARP`].
    pub const fn new(blocks: u32, threads: u32) -> Self {
        assert!(threads > 0 && threads <= MOST_THREADS && threads.is_multiple_of(WARP));
        Self { blocks, threads, words: SHARED_WORDS, seed: 0 }
    }

    /// The same grid with another order of blocks and threads; 0 is upwards.
    pub const fn with_seed(self, seed: u32) -> Self {
        Self { seed, ..self }
    }

    /// The same grid with so many words of shared memory.
    pub const fn with_shared(self, words: usize) -> Self {
        Self { words, ..self }
    }

    /// Runs a kernel on every block.
    pub fn launch(self, kernel: impl Fn(&mut SimulatedBlock<'_>)) {
        for index in self.order(self.blocks, 0) {
            let memory = SharedMemory::new(self.words);
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

    fn commit(&mut self) {
        self.memory.commit();
    }

    fn wait<const PENDING: usize>(&mut self) {
        self.memory.wait(PENDING);
    }

    unsafe fn load_matrices<const BEHIND: usize>(
        &mut self,
        rows: &Box<[Place]>,
        by_columns: bool,
    ) -> Box<[[u32; 4]]> {
        // Each row, four words with two elements each, is read by the thread that names it.
        let memory = self.memory;
        let rows = self.run(|thread| {
            let first = memory.first(rows[thread as usize], BEHIND, 4);
            [0, 1, 2, 3].map(|word| memory.load(first + word))
        });
        let element = |row: usize, column: usize| {
            let word = rows[row][column / 2];
            if column.is_multiple_of(2) { word & 0xffff } else { word >> 16 }
        };
        let elements = |thread: usize, matrix: usize| {
            let (first, lane) = (thread - thread % 32 + 8 * matrix, thread % 32);
            let [one, other] = [2 * (lane % 4), 2 * (lane % 4) + 1].map(|along| match by_columns {
                false => element(first + lane / 4, along),
                true => element(first + along, lane / 4),
            });
            other << 16 | one
        };
        (0..rows.len()).map(|thread| [0, 1, 2, 3].map(|matrix| elements(thread, matrix))).collect()
    }

    fn multiply<E: Factor>(
        &mut self,
        a: &Box<[[u32; 4]]>,
        b: &Box<[[u32; 2]]>,
        sums: &mut Box<[[f32; 4]]>,
    ) {
        let warp = WARP as usize;
        for ((a, b), sums) in a.chunks(warp).zip(b.chunks(warp)).zip(sums.chunks_mut(warp)) {
            let (mut left, mut right) = ([[E::from_bits(0); 16]; 16], [[E::from_bits(0); 16]; 8]);
            for (thread, (a, b)) in a.iter().zip(b).enumerate() {
                let (outer, term) = (thread / 4, 2 * (thread % 4));
                for (piece, &word) in a.iter().enumerate() {
                    let row = &mut left[8 * (piece % 2) + outer][8 * (piece / 2) + term..];
                    (row[0], row[1]) = pair(word);
                }
                for (piece, &word) in b.iter().enumerate() {
                    let column = &mut right[outer][8 * piece + term..];
                    (column[0], column[1]) = pair(word);
                }
            }
            for (thread, sums) in sums.iter_mut().enumerate() {
                for (nth, sum) in sums.iter_mut().enumerate() {
                    let (row, column) = (8 * (nth / 2) + thread / 4, 2 * (thread % 4) + nth % 2);
                    let terms = left[row].iter().zip(&right[column]);
                    *sum = terms.fold(*sum, |sum, (a, &b)| a.mul_add(b, sum));
                }
            }
        }
    }

    unsafe fn add(counter: *mut u64, count: u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { atomic::add(counter, count) }
    }

    fn root(x: f32) -> f32 {
        x.sqrt()
    }

    fn root_wide(x: f64) -> f64 {
        x.sqrt()
    }

    unsafe fn raise(maximum: *mut u32, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { atomic::raise(maximum, value) }
    }

    unsafe fn lower(minimum: *mut u32, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { atomic::lower(minimum, value) }
    }
}

/// Returns the two elements in a word.
fn pair<E: Factor>(word: u32) -> (E, E) {
    (E::from_bits(word & 0xffff), E::from_bits(word >> 16))
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
    /// Each word, where something has been written, and its use.
    words: RefCell<Vec<(Option<u32>, Use)>>,
    /// The thread that runs.
    thread: Cell<Option<u32>>,
    /// Copies on their way: those since the last commit, and groups of them, the oldest first.
    copies: RefCell<Vec<Copying>>,
    groups: RefCell<VecDeque<Vec<Copying>>>,
}

/// A copy on its way.
#[derive(Debug)]
struct Copying {
    thread: u32,
    word: usize,
    values: [u32; 4],
}

impl SharedMemory {
    fn new(words: usize) -> Self {
        Self {
            words: RefCell::new(std::vec![(None, Use::Nothing); words]),
            thread: Cell::new(None),
            copies: RefCell::default(),
            groups: RefCell::default(),
        }
    }

    fn barrier(&self) {
        self.words.borrow_mut().iter_mut().for_each(|(_, use_of)| *use_of = Use::Nothing);
    }

    fn commit(&self) {
        self.groups.borrow_mut().push_back(self.copies.take());
    }

    /// What is copied arrives at the last moment, by the thread that asked for it.
    fn wait(&self, pending: usize) {
        let arrived = self.groups.borrow().len().saturating_sub(pending);
        for Copying { thread, word, values } in self.groups.borrow_mut().drain(..arrived).flatten()
        {
            for (word, value) in (word..).zip(values) {
                self.access(word, Use::WrittenBy(thread), |_| Some(value));
            }
        }
    }

    /// Returns the first of so many words behind a place, which is a multiple of as many.
    fn first(&self, Place(byte): Place, behind: usize, words: usize) -> usize {
        let first = byte as usize / 4 + behind;
        assert!(byte.is_multiple_of(4) && first.is_multiple_of(words), "{words} words at {first}");
        assert!(first + words <= self.words.borrow().len(), "word {first} is beyond the last one");
        first
    }

    fn thread(&self) -> u32 {
        self.thread.get().expect("shared memory is used by a thread")
    }

    /// Uses a word in a way that has to agree with the others since the last barrier.
    fn access(
        &self,
        word: usize,
        now: Use,
        change: impl FnOnce(Option<u32>) -> Option<u32>,
    ) -> Option<u32> {
        let mut words = self.words.borrow_mut();
        let count = words.len();
        let (value, before) = &mut words[word % count];
        *before = match (*before, now) {
            (Use::Nothing, now) => now,
            (Use::AddedTo, Use::AddedTo) => Use::AddedTo,
            (Use::ReadBy(one), Use::ReadBy(other)) if one != other => Use::ReadByMany,
            (Use::ReadByMany, Use::ReadBy(_)) => Use::ReadByMany,
            (Use::WrittenBy(one), Use::ReadBy(other) | Use::WrittenBy(other)) if one == other => {
                Use::WrittenBy(one)
            }
            (Use::ReadBy(one), Use::ReadBy(other) | Use::WrittenBy(other)) if one == other => now,
            (before, now) => {
                panic!("a race for word {word} of shared memory: {before:?}, then {now:?}")
            }
        };
        *value = change(*value);
        *value
    }

    /// Adds to a word that holds something.
    fn change(&self, word: usize, change: impl FnOnce(u32) -> u32) {
        let value = self.access(word, Use::AddedTo, |before| before.map(change));
        assert!(value.is_some(), "something is added to word {word}, which nobody wrote");
    }
}

impl Shared for &SharedMemory {
    fn load(self, word: usize) -> u32 {
        let thread = self.thread();
        let value = self.access(word, Use::ReadBy(thread), |value| value);
        value.unwrap_or_else(|| panic!("thread {thread} reads word {word}, which nobody wrote"))
    }

    fn store(self, word: usize, value: u32) {
        self.access(word, Use::WrittenBy(self.thread()), |_| Some(value));
    }

    fn add(self, word: usize, value: u32) {
        self.change(word, |before| before.wrapping_add(value));
    }

    fn place(self, word: usize) -> Place {
        Place(4 * (word % self.words.borrow().len()) as u32)
    }

    unsafe fn store_wide_at<const BEHIND: usize>(self, to: Place, values: [u32; 2]) {
        let first = self.first(to, BEHIND, 2);
        (first..).zip(values).for_each(|(word, value)| self.store(word, value));
    }

    unsafe fn load_four_at<const BEHIND: usize>(self, from: Place) -> [u32; 4] {
        let first = self.first(from, BEHIND, 4);
        [0, 1, 2, 3].map(|nth| self.load(first + nth))
    }

    unsafe fn copy<const BEHIND: usize>(self, to: Place, from: *const u8, bytes: u32) {
        let word = self.first(to, BEHIND, 4);
        assert!(from.addr().is_multiple_of(16) && bytes <= 16);
        let mut copied = [0; 16];
        // SAFETY: the caller's promise.
        unsafe { from.copy_to_nonoverlapping(copied.as_mut_ptr(), bytes as usize) };
        let values = copied.as_chunks().0;
        let values = [0, 1, 2, 3].map(|nth: usize| u32::from_le_bytes(values[nth]));
        // What was there is gone from now on.
        let thread = self.thread();
        (word..word + 4).for_each(|word| {
            self.access(word, Use::WrittenBy(thread), |_| None);
        });
        self.copies.borrow_mut().push(Copying { thread, word, values });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{share, sum_warp, sum_warp_wide};

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

    #[repr(align(16))]
    struct Chunks([u8; 16 * 32]);

    /// Copies 16 bytes for each thread of a warp, then does something.
    fn copies(block: &mut SimulatedBlock<'_>, then: impl FnOnce(&mut SimulatedBlock<'_>)) {
        let chunks = Chunks(std::array::from_fn(|byte| byte as u8));
        let shared = block.shared();
        block.each(|thread| {
            let chunk = &chunks.0[16 * thread as usize % 512..];
            // SAFETY: there are 16 bytes.
            unsafe {
                shared.copy::<0>(
                    shared.place(4 * thread as usize),
                    chunk.as_ptr(),
                    16 - thread % 16,
                );
            }
        });
        then(block);
    }

    #[test]
    fn copies_arrive_when_they_are_waited_for() {
        let read = |block: &mut SimulatedBlock<'_>| {
            let shared = block.shared();
            block.each(|thread| shared.load(4 * (thread as usize + 1) % 256));
        };
        Grid::new(1, 64).launch(|block| {
            copies(block, |block| {
                block.commit();
                block.wait::<0>();
                block.barrier();
                let shared = block.shared();
                let words = block.each(|thread| shared.load(4 * thread as usize + 3));
                assert_eq!((words[0], words[1], words[4]), (0x0f0e_0d0c, 0x001e_1d1c, 0));
            });
        });
        assert!(panics(|block| copies(block, |block| {
            block.commit();
            block.barrier();
            read(block);
        })));
        assert!(panics(|block| copies(block, |block| {
            block.commit();
            block.wait::<0>();
            read(block);
        })));
        assert!(panics(|block| copies(block, |block| {
            block.commit();
            block.wait::<1>();
            block.barrier();
            read(block);
        })));
        assert!(panics(|block| copies(block, |block| {
            block.wait::<0>();
            block.barrier();
            read(block);
        })));
        // What is read may not be copied over before everyone has read it.
        assert!(panics(|block| {
            let shared = block.shared();
            block.each(|thread| shared.store(4 * thread as usize, thread));
            block.barrier();
            block.each(|thread| shared.load(4 * (thread as usize ^ 1)));
            copies(block, |_| ());
        }));
    }

    #[test]
    fn a_barrier_orders() {
        for seed in 0..4 {
            Grid::new(2, 96).with_seed(seed).launch(|block| {
                let shared = block.shared();
                block.each(|thread| {
                    if thread == 95 {
                        shared.store(0, 0);
                    }
                });
                block.barrier();
                block.each(|thread| shared.add(0, thread));
                block.barrier();
                let sums = block.each(|_| shared.load(0));
                assert!(sums.iter().all(|&sum| sum == 95 * 96 / 2));
            });
        }
    }

    #[test]
    fn every_thread_of_a_warp_has_its_sum() {
        Grid::new(1, 64).launch(|block| {
            let values = block.each(|thread| [thread, 1]);
            let sums = sum_warp(block, values);
            assert!(sums[..32].iter().all(|&sums| sums == [496, 32]));
            assert!(sums[32..].iter().all(|&sums| sums == [496 + 32 * 32, 32]));
            let values = block.each(|thread| [u64::from(thread) << 31, u64::MAX]);
            let sums = sum_warp_wide(block, values);
            assert!(sums[..32].iter().all(|&sums| sums == [496 << 31, 32_u64.wrapping_neg()]));
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
