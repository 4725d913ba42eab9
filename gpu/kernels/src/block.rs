//! Where a kernel runs: a block of threads, in lockstep as the kernel sees it.

use core::{array, ops::Range};

use adaloss_core::format::{Element, Narrowing, bf16, f16};

/// Threads that exchange values among themselves; a block has a multiple of them.
pub const WARP: u32 = 32;

/// The most threads of a block.
pub const MOST_THREADS: u32 = 1024;

/// Words of 32 bits in a block's shared memory, where the kernel asks for no more.
pub const SHARED_WORDS: usize = 4096;

/// Elements that tensor cores multiply: two of them are a word, the first in its lower half.
pub trait Factor: Element {}

impl Factor for f16 {}
impl Factor for bf16 {}

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

    /// Ends a group of [copies](Shared::copy): those since the last one.
    fn commit(&mut self);

    /// Waits for all groups of copies but the last `PENDING`; a [`barrier`](Self::barrier) then shows
    /// them to other threads.
    fn wait<const PENDING: usize>(&mut self);

    /// Loads four matrices of 8 by 8 elements of 16 bits from shared memory, for each warp.
    ///
    /// Thread `8 * m + r` of a warp says where row `r` of matrix `m` begins: `BEHIND` words behind that place.
    /// Of each matrix, thread `t` gets elements `2 * (t % 4)` and the next one of row `t / 4`; or of
    /// column `t / 4`, where `by_columns`.
    ///
    /// # Safety
    ///
    /// A row begins at a multiple of 4 words, which are in shared memory.
    unsafe fn load_matrices<const BEHIND: usize>(
        &mut self,
        rows: &Self::Each<Place>,
        by_columns: bool,
    ) -> Self::Each<[u32; 4]>;

    /// Adds the product of two matrices to sums, for each warp: 16 by 16 times 16 by 8.
    ///
    /// The matrices are cut into pieces of 8 by 8.  The four of `a` are, in this order: upper left, lower
    /// left, upper right, lower right; of each, thread `t` has elements `2 * (t % 4)` and the next one of
    /// row `t / 4`.  The two of `b`, the upper and the lower: of each, it has those elements of
    /// column `t / 4`.  The two of the sums, the upper and the lower: of each, it has those elements
    /// of row `t / 4`, the first of the upper one first.
    ///
    /// Products are exact; the order of the terms, and what is rounded on the way, is the device's.
    fn multiply<E: Factor>(
        &mut self,
        a: &Self::Each<[u32; 4]>,
        b: &Self::Each<[u32; 2]>,
        sums: &mut Self::Each<[f32; 4]>,
    );

    /// Adds to a counter in global memory, atomically, and returns what it was; what exceeds 64 bits is lost.
    ///
    /// This and the next two are for a thread's function.  Not every compiler for GPUs has core's atomic
    /// types; for those that have them, [`atomic`](crate::atomic) does it.
    ///
    /// # Safety
    ///
    /// The counter is there, aligned, and nobody reads or writes it during the launch but atomically.
    unsafe fn add(counter: *mut u64, count: u64) -> u64;

    /// Widens the two elements of 16 bits in a word, of which the first is the lower one: exactly, subnormals included.
    ///
    /// A NaN becomes a NaN, whose bits and sign may be any: what comes of it is for arithmetic.  So it is with four of 8 bits.
    #[inline(always)]
    fn widen_two<F: Element>(word: u32) -> [f32; 2] {
        [word & 0xffff, word >> 16].map(|bits| F::ENCODING.widen(bits))
    }

    /// Widens the four elements of 8 bits in a word.
    #[inline(always)]
    fn widen_four<F: Element>(word: u32) -> [f32; 4] {
        word.to_le_bytes().map(|bits| F::ENCODING.widen(bits.into()))
    }

    /// Rounds two numbers to elements of 16 bits in a word, the first to the lower one: to nearest even, with gradual
    /// underflow.
    ///
    /// What is beyond the largest finite element, or no number, becomes any bits.  So it is with four of 8 bits.
    #[inline(always)]
    fn round_two<F: Element>(numbers: [f32; 2]) -> u32 {
        let [low, high] = numbers.map(nearest::<F>);
        high << 16 | low
    }

    /// Rounds four numbers to elements of 8 bits in a word.
    #[inline(always)]
    fn round_four<F: Element>(numbers: [f32; 4]) -> u32 {
        u32::from_le_bytes(numbers.map(|x| nearest::<F>(x) as u8))
    }

    /// Returns the square root of a number, rounded once to nearest even; of a negative number a NaN.
    fn root(x: f32) -> f32;

    /// Is [`root`](Self::root) in f64.
    fn root_wide(x: f64) -> f64;

    /// Replaces a word in global memory by a larger one, atomically.
    ///
    /// # Safety
    ///
    /// As for [`add`](Self::add).
    unsafe fn raise(maximum: *mut u32, value: u32);

    /// Replaces a word in global memory by a smaller one, atomically.
    ///
    /// # Safety
    ///
    /// As for [`add`](Self::add).
    unsafe fn lower(minimum: *mut u32, value: u32);
}

/// Rounds a number as hardware does.
#[inline(always)]
fn nearest<F: Element>(x: f32) -> u32 {
    F::narrow(x, Narrowing::to(F::ENCODING.into()), 0, 0).to_bits()
}

/// The memory that a block's threads share, in words of 32 bits.
///
/// An index beyond the last word is that of some other one.  Between two barriers a word belongs to the thread that
/// writes it, or is only read, or only added to.
pub trait Shared: Copy {
    /// Reads a word.
    fn load(self, word: usize) -> u32;

    /// Writes a word.
    fn store(self, word: usize, value: u32);

    /// Adds to a word, atomically; what exceeds 32 bits is lost.
    fn add(self, word: usize, value: u32);

    /// Writes a pair of words: `2 * pair` and the next.
    #[inline(always)]
    fn store_wide(self, pair: usize, values: [u32; 2]) {
        // SAFETY: an even word, behind which there is another one, whatever the index.
        unsafe { self.store_wide_at::<0>(self.place(2 * pair), values) };
    }

    /// Reads four words: `4 * four` and the next ones.
    #[inline(always)]
    fn load_four(self, four: usize) -> [u32; 4] {
        // SAFETY: a multiple of 4, behind which there are three more, whatever the index.
        unsafe { self.load_four_at::<0>(self.place(4 * four)) }
    }

    /// Returns where a word is; of an index beyond the last one that is a multiple of 2 or 4, of another one that is, so
    /// that as many words are in shared memory from there on.
    fn place(self, word: usize) -> Place;

    /// Writes two words, `BEHIND` words behind a place.
    ///
    /// # Safety
    ///
    /// The first of them is even, and both are in shared memory.
    unsafe fn store_wide_at<const BEHIND: usize>(self, to: Place, values: [u32; 2]);

    /// Reads four words, `BEHIND` words behind a place.
    ///
    /// # Safety
    ///
    /// The first of them is a multiple of 4, and all are in shared memory.
    unsafe fn load_four_at<const BEHIND: usize>(self, from: Place) -> [u32; 4];

    /// Begins to copy to four words, `BEHIND` words behind a place: so many bytes, 16 at most,
    /// from global memory, and zero for the others.
    ///
    /// The words are there when [`Block::wait`] has waited for the copy's group.
    ///
    /// # Safety
    ///
    /// The first word is a multiple of 4, and all are in shared memory. The address is a multiple of 16; so many bytes are
    /// there, and nobody writes them meanwhile.
    unsafe fn copy<const BEHIND: usize>(self, to: Place, from: *const u8, bytes: u32);
}

/// Where a word of shared memory is, by the device's own number of its first byte.
///
/// Instructions take it as it is, with a distance that they hold themselves: what is looked up again and again is
/// a place that is computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u32);

impl Place {
    /// Returns the place that is so many words further on.
    #[inline(always)]
    pub const fn behind(self, words: u32) -> Self {
        Self(self.0.wrapping_add(4 * words))
    }
}

/// Returns the numbers below `count` that are a thread's: every so many-th of all threads of the
/// grid, so that neighbours have neighbouring numbers.
#[inline(always)]
pub fn share<B: Block>(block: &B, count: usize) -> impl Fn(u32) -> Share + use<B> {
    let threads = block.threads() as usize;
    let (first, step) = (block.index() as usize * threads, block.blocks() as usize * threads);
    move |thread| Share { next: first + thread as usize, step, end: count }
}

/// Numbers of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    next: usize,
    step: usize,
    end: usize,
}

impl Share {
    /// Returns every so many-th number of a range, from its first.
    pub(crate) const fn of(range: Range<usize>, step: usize) -> Self {
        Self { next: range.start, step, end: range.end }
    }
}

impl Iterator for Share {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let this = self.next;
        self.next = this.wrapping_add(self.step);
        if this < self.end { Some(this) } else { None }
    }
}

/// Sums what each thread counted over its warp: every thread has the sums of its own.
#[inline(always)]
pub fn sum_warp<B: Block, const N: usize>(
    block: &mut B,
    counts: B::Each<[u32; N]>,
) -> B::Each<[u32; N]> {
    fold_warp(block, counts, u32::wrapping_add)
}

/// Sums values of 64 bits over each warp: every thread has the sums of its own.
#[inline(always)]
pub fn sum_warp_wide<B: Block, const N: usize>(
    block: &mut B,
    mut values: B::Each<[u64; N]>,
) -> B::Each<[u64; N]> {
    let mut mask = WARP / 2;
    while mask > 0 {
        let low = block.map(&values, |_, values| values.map(|value| value as u32));
        let high = block.map(&values, |_, values| values.map(|value| (value >> 32) as u32));
        let (low, high) = (block.exchange(&low, mask), block.exchange(&high, mask));
        let others = block.zip(&low, &high, |_, low, high| {
            array::from_fn(|i| u64::from(high[i]) << 32 | u64::from(low[i]))
        });
        values = block.zip(&values, &others, |_, one, other: [u64; N]| {
            array::from_fn(|i| one[i].wrapping_add(other[i]))
        });
        mask /= 2;
    }
    values
}

/// Adds up numbers over each warp, in pairs: `l` and `l + 16` first, then `l` and `l + 8`, and so on; every thread has the same
/// sums.
#[inline(always)]
pub(crate) fn sum_warp_float<B: Block, const N: usize>(
    block: &mut B,
    values: B::Each<[f64; N]>,
) -> B::Each<[f64; N]> {
    sum_group_float(block, values, WARP)
}

/// Is [`sum_warp_float`] over each so many threads, a power of two up to [`WARP`].
#[inline(always)]
pub(crate) fn sum_group_float<B: Block, const N: usize>(
    block: &mut B,
    mut values: B::Each<[f64; N]>,
    threads: u32,
) -> B::Each<[f64; N]> {
    let mut mask = threads / 2;
    while mask > 0 {
        let low = block.map(&values, |_, values| values.map(|value| value.to_bits() as u32));
        let high = block.map(&values, |_, values| values.map(|x| (x.to_bits() >> 32) as u32));
        let (low, high) = (block.exchange(&low, mask), block.exchange(&high, mask));
        let others = block.zip(&low, &high, |_, low, high| {
            array::from_fn(|i| f64::from_bits(u64::from(high[i]) << 32 | u64::from(low[i])))
        });
        values = block
            .zip(&values, &others, |_, one, other: [f64; N]| array::from_fn(|i| one[i] + other[i]));
        mask /= 2;
    }
    values
}

/// Combines values over each warp, for every thread of it; the function has to be associative and commutative.
#[inline(always)]
pub fn fold_warp<B: Block, const N: usize>(
    block: &mut B,
    values: B::Each<[u32; N]>,
    fold: impl Fn(u32, u32) -> u32,
) -> B::Each<[u32; N]> {
    fold_group(block, values, WARP, fold)
}

/// Is [`fold_warp`] over each so many threads, a power of two up to [`WARP`].
#[inline(always)]
pub(crate) fn fold_group<B: Block, const N: usize>(
    block: &mut B,
    mut values: B::Each<[u32; N]>,
    threads: u32,
    fold: impl Fn(u32, u32) -> u32,
) -> B::Each<[u32; N]> {
    let mut mask = threads / 2;
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
