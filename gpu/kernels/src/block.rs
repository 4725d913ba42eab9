//! Where a kernel runs: a block of threads, in lockstep as the kernel sees it.

/// Threads that exchange values among themselves; a block has a multiple of them.
pub const WARP: u32 = 32;

/// The most threads of a block.
pub const MOST_THREADS: u32 = 1024;

/// Words of 32 bits in a block's shared memory.
pub const SHARED_WORDS: usize = 4096;

/// A block of threads in a grid of blocks.
///
/// What each thread does is given as a function of the thread's number, and may only read, write
/// its own places of memory, and use [`Shared`] memory and atomic counters.  Everything that threads
/// do together is a method that takes the whole block, which no thread's function can reach.
pub trait Block {
    /// A value per thread.
    type Each<T: Copy>;
    /// The block's shared memory.
    type Shared: Shared;

    /// Returns the number of this block.
    fn index(&self) -> u32;

    /// Returns how many blocks there are.
    fn blocks(&self) -> u32;

    /// Returns the threads of each block.
    fn threads(&self) -> u32;

    /// Names the shared memory, whose words hold anything in the beginning.
    fn shared(&self) -> Self::Shared;

    /// Calls a function for each thread.
    fn each<T: Copy>(&mut self, work: impl Fn(u32) -> T) -> Self::Each<T>;

    /// Calls a function for each thread with a value of its own.
    #[inline(always)]
    fn map<T: Copy, U: Copy>(
        &mut self,
        of: &Self::Each<T>,
        work: impl Fn(u32, T) -> U,
    ) -> Self::Each<U> {
        let nothing = self.each(|_| ());
        self.zip(of, &nothing, |thread, value, ()| work(thread, value))
    }

    /// Calls a function for each thread with two of its values.
    fn zip<T: Copy, U: Copy, V: Copy>(
        &mut self,
        one: &Self::Each<T>,
        other: &Self::Each<U>,
        work: impl Fn(u32, T, U) -> V,
    ) -> Self::Each<V>;

    /// Gives each thread the value of the thread of its warp whose number differs in the bits of
    /// `mask`, which is below [`WARP`].
    fn exchange<const N: usize>(
        &mut self,
        values: &Self::Each<[u32; N]>,
        mask: u32,
    ) -> Self::Each<[u32; N]>;

    /// Lets every thread see what all of them did to shared memory before.
    fn barrier(&mut self);
}

/// The memory that a block's threads share, in words of 32 bits, or pairs of them.
///
/// Indices beyond [`SHARED_WORDS`] wrap round; a pair is the words `2 * pair` and the next.  Between two barriers a word belongs to the thread
/// that writes it, or is only read, or only added to.
pub trait Shared: Copy {
    /// Reads a word.
    fn load(self, word: usize) -> u32;

    /// Writes a word.
    fn store(self, word: usize, value: u32);

    /// Adds to a word, atomically; what exceeds 32 bits is lost.
    fn add(self, word: usize, value: u32);

    /// Reads a pair of words, the lower half first.
    fn load_wide(self, pair: usize) -> u64;

    /// Adds to a pair of words, atomically; what exceeds 64 bits is lost.
    fn add_wide(self, pair: usize, value: u64);
}

/// Returns the numbers below `count` that are a thread's: every so many-th of all threads of the
/// grid, so that neighbours have neighbouring numbers.
#[inline(always)]
pub fn share<B: Block>(block: &B, count: usize) -> impl Fn(u32) -> Share + use<B> {
    let threads = block.threads() as usize;
    let (first, step) = (block.index() as usize * threads, block.blocks() as usize * threads);
    move |thread| Share { next: first + thread as usize, step, count }
}

/// Numbers of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    next: usize,
    step: usize,
    count: usize,
}

impl Iterator for Share {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let this = self.next;
        self.next = this.wrapping_add(self.step);
        if this < self.count { Some(this) } else { None }
    }
}

/// Sums what each thread counted over its warp: the first thread of each warp has the sums.
#[inline(always)]
pub fn sum_warp<B: Block, const N: usize>(
    block: &mut B,
    counts: B::Each<[u32; N]>,
) -> B::Each<[u32; N]> {
    fold_warp(block, counts, u32::wrapping_add)
}

/// Combines values over each warp; the function has to be associative and commutative.
#[inline(always)]
pub fn fold_warp<B: Block, const N: usize>(
    block: &mut B,
    mut values: B::Each<[u32; N]>,
    fold: impl Fn(u32, u32) -> u32,
) -> B::Each<[u32; N]> {
    let mut mask = WARP / 2;
    while mask > 0 {
        let others = block.exchange(&values, mask);
        values = block.zip(&values, &others, |_, mut one, other| {
            let mut i = 0;
            while i < N {
                one[i] = fold(one[i], other[i]);
                i += 1;
            }
            one
        });
        mask /= 2;
    }
    values
}
