//! Global memory that many threads write, and read in chunks.

use core::{array, marker::PhantomData, sync::atomic::AtomicU64};

use adaloss_core::format::Element;

use crate::{
    Block,
    block::{WARP, share},
};

/// Elements that a thread reads and writes together, where they lie at a multiple of their size.
pub const CHUNK: usize = 8;

/// Elements of half a chunk: 16 bytes of f32, which one instruction moves.
pub(crate) const HALF: usize = CHUNK / 2;

/// Elements of the chunks of a warp's threads.
pub(crate) const TILE: usize = CHUNK * WARP as usize;

/// What changes no f32 that it is added to.
pub(crate) const NOTHING: f32 = -0.0;

/// Tells whether a predicate is there and 0.
///
/// It is the same for all threads of the grid, so that a kernel may return on it before its first barrier.
///
/// # Safety
///
/// It is NULL, or a word that nobody writes during the launch.
#[inline(always)]
pub(crate) unsafe fn is_off(when: *const u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { when.as_ref() }.is_some_and(|&when| when == 0)
}

/// Bytes that one instruction moves.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Sixteen([u32; 4]);

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Eight([u32; 2]);

/// Tells whether chunks of a tensor that begins here can be read and written.
#[inline(always)]
pub(crate) fn has_chunks<F: Element>(first: *const F) -> bool {
    first.addr().is_multiple_of(chunk_alignment::<F>())
}

const fn chunk_alignment<F>() -> usize {
    if size_of::<F>() == 1 { 8 } else { 16 }
}

/// Reads a chunk, or half of one.
///
/// # Safety
///
/// The elements are there, at such an address as [`has_chunks`] asks for and a multiple of as many elements behind
/// it, and nobody writes them.
#[inline(always)]
pub(crate) unsafe fn read_chunk<F: Element, const N: usize>(from: *const F) -> [F; N] {
    // SAFETY: the caller's promise.
    elements_of(unsafe { read_words::<F, N>(from) })
}

/// Reads the words of a chunk, or of half of one; those that it has not are zero.
///
/// # Safety
///
/// As for [`read_chunk`].
#[inline(always)]
unsafe fn read_words<F: Element, const N: usize>(from: *const F) -> [u32; CHUNK] {
    // SAFETY: the caller's promise.
    unsafe {
        match const { N * size_of::<F>() / 4 } {
            8 => {
                let halves = [*from.cast::<Sixteen>(), *from.cast::<Sixteen>().add(1)];
                array::from_fn(|nth| halves[nth / 4].0[nth % 4])
            }
            4 => {
                let Sixteen([a, b, c, d]) = *from.cast();
                [a, b, c, d, 0, 0, 0, 0]
            }
            2 => {
                let Eight([a, b]) = *from.cast();
                [a, b, 0, 0, 0, 0, 0, 0]
            }
            _ => [*from.cast(), 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Returns the elements in the words of a chunk.
#[inline(always)]
pub(crate) fn elements_of<F: Element, const N: usize>(words: [u32; CHUNK]) -> [F; N] {
    array::from_fn(|nth| {
        F::from_bits(match size_of::<F>() {
            4 => words[nth],
            2 => words[nth / 2] >> (16 * (nth % 2)) & 0xffff,
            _ => words[nth / 4] >> (8 * (nth % 4)) & 0xff,
        })
    })
}

/// Returns the words that elements take, the first element in the lowest bits.
#[inline(always)]
pub(crate) fn word_of<F: Element, const N: usize>(elements: &[F; N], nth: usize) -> u32 {
    let bits = |nth: usize| elements[nth].to_bits();
    match size_of::<F>() {
        4 => bits(nth),
        2 => bits(2 * nth + 1) << 16 | bits(2 * nth),
        _ => (0..4).fold(0, |word, byte| word | bits(4 * nth + byte) << (8 * byte)),
    }
}

/// Writes a chunk, or half of one.
///
/// # Safety
///
/// There is room at an address as for [`read_chunk`], and nobody else reads or writes it.
#[inline(always)]
unsafe fn write_chunk<F: Element, const N: usize>(to: *mut F, elements: [F; N]) {
    let word = |nth| word_of(&elements, nth);
    // SAFETY: the caller's promise.
    unsafe {
        match const { N * size_of::<F>() / 4 } {
            8 => {
                to.cast::<Sixteen>().write(Sixteen(array::from_fn(word)));
                to.cast::<Sixteen>().add(1).write(Sixteen(array::from_fn(|nth| word(4 + nth))));
            }
            4 => to.cast::<Sixteen>().write(Sixteen(array::from_fn(word))),
            2 => to.cast::<Eight>().write(Eight(array::from_fn(word))),
            _ => to.cast::<u32>().write(word(0)),
        }
    }
}

/// Returns the places of the two halves that a thread takes of its warp's chunks, from where its own chunk begins.
///
/// Neighbours have neighbouring halves, so that what an instruction of a warp reads or writes are whole sectors of memory:
/// of f32, chunks would be read and written in two pieces, each with gaps.
#[inline(always)]
pub(crate) const fn halves(chunk: usize, thread: u32) -> [usize; 2] {
    let first = chunk.wrapping_sub(HALF * (thread % WARP) as usize);
    [first, first + TILE / 2]
}

/// Returns how many chunks there are to be taken in [`halves`]: those of whole warps.
#[inline(always)]
pub(crate) const fn chunks_in_tiles(count: usize, by_chunks: bool) -> usize {
    if by_chunks { count / TILE * WARP as usize } else { 0 }
}

/// Returns the places of a chunk's elements, one by one, as many as are below `end`.
///
/// They all are; the compiler does not know it, and unrolls no loop over what is rare.
#[inline(always)]
pub(crate) fn each_of([one, other]: [usize; 2], end: usize) -> impl Iterator<Item = usize> + Clone {
    let place = move |nth| if nth < HALF { one + nth } else { other - HALF + nth };
    (0..CHUNK.min(end)).map(place)
}

/// Reads the halves of a chunk.
///
/// # Safety
///
/// As for [`read_chunk`], of each.
#[inline(always)]
pub(crate) unsafe fn read_halves<F: Element>(from: *const F, places: [usize; 2]) -> [F; CHUNK] {
    // SAFETY: the caller's promise.
    let halves: [[F; HALF]; 2] = places.map(|place| unsafe { read_chunk(from.add(place)) });
    array::from_fn(|nth| halves[nth / HALF][nth % HALF])
}

/// Hands the elements of a tensor to the threads of the grid: chunks by the places of their [`halves`], and one by one
/// those that are in none.
#[inline(always)]
pub(crate) fn each_in_tiles<B: Block>(
    block: &mut B,
    count: usize,
    by_chunks: bool,
    chunk: impl Fn([usize; 2]),
    one: impl Fn(usize),
) {
    let chunks = chunks_in_tiles(count, by_chunks);
    let rest = CHUNK * chunks;
    let (of_chunks, of_rest) = (share(block, chunks), share(block, count - rest));
    block.each(|thread| {
        of_chunks(thread).for_each(|nth| chunk(halves(CHUNK * nth, thread)));
        of_rest(thread).for_each(|nth| one(rest + nth));
    });
}

/// Hands the elements of a tensor to the threads of the grid: chunks by the place of their first element, and one by one
/// those that are in none.
#[inline(always)]
pub(crate) fn each_place<B: Block>(
    block: &mut B,
    count: usize,
    by_chunks: bool,
    chunk: impl Fn(usize),
    one: impl Fn(usize),
) {
    let chunks = if by_chunks { count / CHUNK } else { 0 };
    let rest = CHUNK * chunks;
    let (of_chunks, of_rest) = (share(block, chunks), share(block, count - rest));
    block.each(|thread| {
        of_chunks(thread).for_each(|nth| chunk(CHUNK * nth));
        of_rest(thread).for_each(|nth| one(rest + nth));
    });
}

/// Where the chunks of a tensor are, wherever it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    /// Elements before the first chunk.
    head: usize,
    count: usize,
    /// Elements after the last one.
    tail: usize,
}

impl Chunks {
    /// Finds the chunks of a tensor.
    #[inline(always)]
    pub(crate) fn of<F: Element>(values: &[F]) -> Self {
        let misplaced = values.as_ptr().addr() % chunk_alignment::<F>();
        let to_first = (chunk_alignment::<F>() - misplaced) % chunk_alignment::<F>();
        let head = values.len().min(to_first / size_of::<F>());
        let rest = values.len() - head;
        Self { head, count: rest / CHUNK, tail: rest % CHUNK }
    }

    /// Returns how many there are.
    pub(crate) const fn count(self) -> usize {
        self.count
    }

    /// Returns the place of a chunk's first element.
    pub(crate) const fn first(self, nth: usize) -> usize {
        self.head + CHUNK * nth
    }

    /// Returns the place of an element that is in no chunk, of which there are fewer than two chunks' worth.
    #[inline(always)]
    pub(crate) const fn ragged(self, nth: usize) -> Option<usize> {
        if nth < self.head {
            Some(nth)
        } else if nth < self.head + self.tail {
            Some(nth + CHUNK * self.count)
        } else {
            None
        }
    }

    /// Reads the words of a chunk of the tensor that this was made of, or of the last one instead of those beyond it.
    ///
    /// Words, as a loop keeps a chunk that is on its way: elements would be as many registers as they are.
    ///
    /// # Safety
    ///
    /// This was made of those elements, and there is a chunk.
    #[inline(always)]
    pub(crate) unsafe fn read<F: Element>(self, values: &[F], nth: usize) -> [u32; CHUNK] {
        let last = self.count.wrapping_sub(1);
        let first = self.first(if nth < last { nth } else { last });
        // SAFETY: the caller's promise: within the tensor, and as many elements after the first chunk as chunks have.
        unsafe { read_words::<F, CHUNK>(values.as_ptr().add(first)) }
    }
}

/// A tensor that a kernel writes: each element by one thread.
#[derive(Debug)]
pub struct Out<'a, T> {
    first: *mut T,
    length: usize,
    tensor: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Out<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<'_, T> {}

impl<'a, T: Copy> Out<'a, T> {
    /// Names a tensor by its first element.
    ///
    /// # Safety
    ///
    /// So many elements are there as long as `'a`, and are named by nothing but this and its copies.
    pub const unsafe fn new(first: *mut T, length: usize) -> Self {
        Self { first, length, tensor: PhantomData }
    }

    /// Names a tensor in the host's memory.
    pub const fn of(tensor: &'a mut [T]) -> Self {
        Self { first: tensor.as_mut_ptr(), length: tensor.len(), tensor: PhantomData }
    }

    /// Returns the number of elements.
    pub const fn len(self) -> usize {
        self.length
    }

    /// Tells whether there is no element.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Writes an element; beyond the tensor nothing is written.
    ///
    /// # Safety
    ///
    /// No other thread of the launch reads or writes this element.
    #[inline(always)]
    pub unsafe fn write(self, index: usize, value: T) {
        if index < self.length {
            // SAFETY: within the tensor, and this thread's alone.
            unsafe { self.first.add(index).write(value) }
        }
    }

    /// Tells whether [chunks](CHUNK) of it can be written.
    #[inline(always)]
    pub(crate) fn has_chunks(self) -> bool
    where
        T: Element,
    {
        has_chunks(self.first)
    }

    /// Tells whether so many elements from this place on are within the tensor.
    #[inline(always)]
    const fn has(self, index: usize, count: usize) -> bool {
        index < self.length && self.length - index >= count
    }

    /// Writes a chunk, or half of one; what is not all within the tensor is not written.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write), of each element; the tensor [has chunks](Self::has_chunks), and
    /// `index` is a multiple of as many.
    #[inline(always)]
    pub(crate) unsafe fn write_chunk<const N: usize>(self, index: usize, elements: [T; N])
    where
        T: Element,
    {
        if self.has(index, N) {
            // SAFETY: within the tensor, and this thread's alone.
            unsafe { write_chunk(self.first.add(index), elements) }
        }
    }

    /// Writes a chunk to its [`halves`]; nothing where they are not within the tensor.
    ///
    /// # Safety
    ///
    /// As for [`write_chunk`](Self::write_chunk), of each.
    #[inline(always)]
    pub(crate) unsafe fn write_halves(self, [one, other]: [usize; 2], elements: [T; CHUNK])
    where
        T: Element,
    {
        // The other half is behind the first.
        if self.has(other, HALF) && one <= other {
            let half = |nth: usize| array::from_fn(|of| elements[HALF * nth + of]);
            // SAFETY: within the tensor, and this thread's alone.
            unsafe {
                write_chunk::<T, HALF>(self.first.add(one), half(0));
                write_chunk::<T, HALF>(self.first.add(other), half(1));
            }
        }
    }

    /// Reads a chunk from its [`halves`]; `None` where they are not within the tensor.
    ///
    /// # Safety
    ///
    /// As for [`read_chunk`](Self::read_chunk), of each.
    #[inline(always)]
    pub(crate) unsafe fn read_halves(self, [one, other]: [usize; 2]) -> Option<[T; CHUNK]>
    where
        T: Element,
    {
        if self.has(other, HALF) && one <= other {
            // SAFETY: within the tensor, and this thread's alone.
            Some(unsafe { read_halves(self.first, [one, other]) })
        } else {
            None
        }
    }

    /// Reads a chunk, or half of one; `None` of what is not all within the tensor.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read), of each element, and as for [`write_chunk`](Self::write_chunk).
    #[inline(always)]
    pub(crate) unsafe fn read_chunk<const N: usize>(self, index: usize) -> Option<[T; N]>
    where
        T: Element,
    {
        if self.has(index, N) {
            // SAFETY: within the tensor, and this thread's alone.
            Some(unsafe { read_chunk(self.first.add(index)) })
        } else {
            None
        }
    }

    /// Reads an element; `None` beyond the tensor.
    ///
    /// # Safety
    ///
    /// No other thread of the launch writes this element, and it has been written.
    #[inline(always)]
    pub unsafe fn read(self, index: usize) -> Option<T> {
        if index < self.length {
            // SAFETY: within the tensor, and this thread's alone.
            Some(unsafe { self.first.add(index).read() })
        } else {
            None
        }
    }
}

/// A structure of counters that all threads add to.
#[derive(Debug)]
pub struct Counters<'a, T> {
    first: *mut T,
    structure: PhantomData<&'a AtomicU64>,
}

impl<T> Clone for Counters<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Counters<'_, T> {}

impl<T> Counters<'_, T> {
    /// Names a structure; `None` of NULL.
    ///
    /// # Safety
    ///
    /// It is NULL, or a structure of integers, aligned to 8 bytes, that is there as long as this is
    /// and that nobody reads or writes but through this, its copies and its equals.
    pub unsafe fn new(structure: *mut T) -> Option<Self> {
        const { assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8)) };
        if structure.is_null() {
            return None;
        }
        Some(Self { first: structure, structure: PhantomData })
    }

    /// Adds to a word of 64 bits; beyond the structure nothing is added.
    #[inline(always)]
    pub fn add<B: Block>(self, word: usize, count: u64) {
        if count > 0 && word < size_of::<T>() / 8 {
            // SAFETY: within the structure, aligned, and only accessed atomically.
            unsafe { B::add(self.first.cast::<u64>().add(word), count) };
        }
    }

    /// Adds `significand * 2^position` to an integer of so many words, or subtracts it where
    /// `negative`: in two's complement, least significant word first, from the word `first` on.
    ///
    /// A carry is handed on by whoever caused it, so that the words are right when all threads are
    /// done, whatever their order.  It is what `ExactSum::add` does for one thread.
    #[inline(always)]
    pub fn add_exact<B: Block, const WORDS: usize>(
        self,
        first: usize,
        significand: u64,
        position: u32,
        negative: bool,
    ) {
        let (place, offset) = ((position / 64) as usize, position % 64);
        let wide = u128::from(significand) << offset;
        // Of the complement, and of the sum.
        let (mut one, mut carry) = (negative, false);
        for word in 0..WORDS {
            let part = match word {
                _ if word == place => wide as u64,
                _ if word == place + 1 => (wide >> 64) as u64,
                _ => 0,
            };
            let complement = if negative { !part } else { part };
            let (part, wraps) = complement.overflowing_add(one.into());
            one = wraps;
            let (more, wraps) = part.overflowing_add(carry.into());
            carry = wraps;
            let word = first + word;
            if more > 0 && word < size_of::<T>() / 8 {
                // SAFETY: as in `add`.
                let before = unsafe { B::add(self.first.cast::<u64>().add(word), more) };
                carry |= before.checked_add(more).is_none();
            }
        }
    }

    /// Replaces a word of 32 bits by a larger one; beyond the structure nothing is replaced.
    #[inline(always)]
    pub fn raise<B: Block>(self, word: usize, value: u32) {
        if word < size_of::<T>() / 4 {
            // SAFETY: as above.
            unsafe { B::raise(self.first.cast::<u32>().add(word), value) };
        }
    }

    /// Replaces a word of 32 bits by a smaller one; beyond the structure nothing is replaced.
    #[inline(always)]
    pub fn lower<B: Block>(self, word: usize, value: u32) {
        if word < size_of::<T>() / 4 {
            // SAFETY: as above.
            unsafe { B::lower(self.first.cast::<u32>().add(word), value) };
        }
    }
}
