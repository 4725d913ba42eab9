//! Where the f32 results of a kernel go: narrowed, counted, measured.

use core::{array, mem::offset_of};

use adaloss_core::{
    apply::{Apply, FastNarrowing},
    format::{Element, Narrowing, Noise},
    policy::Cell,
    scale::Scale,
    statistics::{Classes, Histogram, Outcome},
};

use crate::{
    Block, Shared,
    block::{WARP, fold_warp, share, sum_warp},
    memory::{CHUNK, Counters, Out, is_off},
};

/// Where results go; what `adaloss_hal::Epilogue` is to a device, in its memory.
///
/// Results carry the scale of the cell `from`; what is stored carries that of `to`.  A histogram
/// that is NULL is none, and a pass that does not store narrows nothing and counts no outcome.  Where the
/// predicate is there and 0, the kernel does nothing at all.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Epilogue {
    /// The cell whose scale the results carry.
    pub from: *const Cell,
    /// The cell whose scale the narrowed results carry.
    pub to: *const Cell,
    /// Format, rounding and overflow; the encoding is that of the elements that are written.
    pub narrowing: Narrowing,
    /// The random words of stochastic rounding.
    pub noise: Noise,
    /// Whether results are narrowed and stored.
    pub stores: bool,
    /// The predicate, or NULL: a word that is 0 where nothing is to be done.
    pub when: *const u32,
    /// Takes the counts of what became of the results.
    pub outcome: *mut Outcome,
    /// Takes the counts of the results themselves, for the same format and rounding.
    pub histogram: *mut Histogram,
}

impl Epilogue {
    /// Tells whether the kernel is to do nothing; see [`is_off`].
    ///
    /// # Safety
    ///
    /// As there, for `when`.
    #[inline(always)]
    pub(crate) unsafe fn is_off(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { is_off(self.when) }
    }
}

/// An epilogue at work in one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sink<'a, F> {
    apply: Apply,
    fast: Option<FastNarrowing<F>>,
    incoming: Scale,
    stores: bool,
    classes: Classes,
    outcome: Option<Counters<'a, Outcome>>,
    histogram: Option<Counters<'a, Histogram>>,
}

/// What one thread counts: fewer than 2^32 elements.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    /// Elements, stored or not.
    elements: u32,
    /// Counts of an outcome, in the order of [`SUMMED`].
    counts: [u32; SUMMED.len()],
    max_bits: u32,
}

/// The words of an outcome that are summed, in the order of [`Tally::counts`].
const SUMMED: [usize; 5] = [
    offset_of!(Outcome, nonfinite) / 8,
    offset_of!(Outcome, zero) / 8,
    offset_of!(Outcome, underflow) / 8,
    offset_of!(Outcome, subnormal) / 8,
    offset_of!(Outcome, overflow) / 8,
];

impl Tally {
    pub(crate) const EMPTY: Self = Self { elements: 0, counts: [0; SUMMED.len()], max_bits: 0 };

    /// Adds what became of some elements, which are counted themselves when they are taken.
    #[inline(always)]
    fn add(&mut self, outcome: &Outcome) {
        let Outcome { nonfinite, zero, underflow, subnormal, overflow, max_bits, .. } = *outcome;
        let counts = [nonfinite, zero, underflow, subnormal, overflow];
        self.counts = array::from_fn(|nth| self.counts[nth] + counts[nth] as u32);
        self.max_bits = self.max_bits.max(max_bits);
    }

    const fn counts(self) -> [u32; SUMMED.len() + 1] {
        let [a, b, c, d, e] = self.counts;
        [self.elements, a, b, c, d, e]
    }
}

/// Where results go.
pub(crate) trait Store<F>: Copy {
    /// Tells whether [chunks](CHUNK) and halves of them can be stored.
    fn has_chunks(self) -> bool;

    /// Returns how many results there are.
    fn len(self) -> usize;

    /// Stores a result.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes its place during the launch.
    unsafe fn one(self, index: usize, x: F);

    /// Stores a chunk, or half of one, from a place on that is a multiple of as many.
    ///
    /// # Safety
    ///
    /// As for [`one`](Self::one), of each; [`has_chunks`](Self::has_chunks).
    unsafe fn chunk<const N: usize>(self, index: usize, elements: [F; N]);
}

impl<F: Element> Store<F> for Out<'_, F> {
    #[inline(always)]
    fn has_chunks(self) -> bool {
        Out::has_chunks(self)
    }

    #[inline(always)]
    fn len(self) -> usize {
        Out::len(self)
    }

    #[inline(always)]
    unsafe fn one(self, index: usize, x: F) {
        // SAFETY: the caller's promise.
        unsafe { self.write(index, x) };
    }

    #[inline(always)]
    unsafe fn chunk<const N: usize>(self, index: usize, elements: [F; N]) {
        // SAFETY: the caller's promise.
        unsafe { self.write_chunk(index, elements) };
    }
}

impl<F: Element> Sink<'_, F> {
    /// Opens an epilogue: all threads of a block, before any result.
    ///
    /// # Safety
    ///
    /// The cells are there and nobody writes them during the launch; outcome and histogram are what
    /// [`Counters::new`] asks for.
    pub(crate) unsafe fn open<B: Block>(block: &mut B, epilogue: &Epilogue) -> Self {
        // SAFETY: the caller's promise.
        let (from, to) = unsafe { ((*epilogue.from).scale(), (*epilogue.to).scale()) };
        // SAFETY: the caller's promise.
        let (outcome, histogram) =
            unsafe { (Counters::new(epilogue.outcome), Counters::new(epilogue.histogram)) };
        let (shared, threads) = (block.shared(), block.threads() as usize);
        if histogram.is_some() {
            block.each(|thread| {
                (thread as usize..Classes::COUNT).step_by(threads).for_each(|class| {
                    shared.store(class, 0);
                });
            });
            block.barrier();
        }
        let mut narrowing = epilogue.narrowing;
        // Equal to what it was, and known to the compiler.
        narrowing.format.encoding = F::ENCODING;
        let apply = Apply { narrowing, shift: to / from, noise: epilogue.noise };
        Self {
            apply,
            fast: apply.fast_narrowing(),
            incoming: from,
            stores: epilogue.stores,
            classes: Classes::new(narrowing),
            outcome,
            histogram,
        }
    }

    /// Returns the scale that results carry.
    pub(crate) const fn incoming(&self) -> Scale {
        self.incoming
    }

    /// Takes all results of a tensor and stores them: one of them by its place, or a chunk by the place of its
    /// first.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes the tensor during the launch.
    #[inline(always)]
    pub(crate) unsafe fn run<B: Block>(
        self,
        block: &mut B,
        to: Out<'_, F>,
        by_chunks: bool,
        one: impl Fn(usize) -> f32,
        chunk: impl Fn(usize) -> [f32; CHUNK],
    ) {
        let chunks = if by_chunks && to.has_chunks() { to.len() / CHUNK } else { 0 };
        let (shared, rest) = (block.shared(), CHUNK * chunks);
        let (of_chunks, of_rest) = (share(block, chunks), share(block, to.len() - rest));
        let tallies = block.each(|thread| {
            let mut tally = Tally::EMPTY;
            for nth in of_chunks(thread) {
                let first = CHUNK * nth;
                // SAFETY: each chunk is in one share.
                unsafe {
                    self.put_chunk::<B, _>(shared, &mut tally, first, chunk(first), &one, to);
                }
            }
            for nth in of_rest(thread) {
                let index = rest + nth;
                if let Some(x) = self.take::<B>(shared, &mut tally, index, one(index)) {
                    // SAFETY: each place is in one share.
                    unsafe { to.write(index, x) };
                }
            }
            tally
        });
        self.close(block, &tallies);
    }

    /// Takes the results of a chunk, or half of one, and stores them; `one` is asked for those again that are none of
    /// the commonest.
    ///
    /// # Safety
    ///
    /// Their places are this thread's alone, the first is a multiple of as many, and all are within the results.
    #[inline(always)]
    pub(crate) unsafe fn put_chunk<B: Block, const N: usize>(
        &self,
        shared: B::Shared,
        tally: &mut Tally,
        first: usize,
        values: [f32; N],
        one: impl Fn(usize) -> f32 + Copy,
        to: impl Store<F>,
    ) {
        // As many as there are; the compiler does not know it, and unrolls no loop over the rare ones.
        let again = (first..to.len().min(first + N)).map(|index| (index, one(index)));
        tally.elements += N as u32;
        if let Some(histogram) = self.histogram {
            let mut all = true;
            // Over a slice: the compiler unrolls it, and keeps no array in memory for it.
            for &x in &values {
                match self.classes.of(x) {
                    Some(class) => shared.add(class, 1),
                    None => all = false,
                }
            }
            if !all {
                let rare = |x| self.classes.of(x).is_none();
                let values = again.clone().filter(|&(_, x)| rare(x));
                values.for_each(|(_, x)| self.count::<B>(histogram, x, 1));
            }
        }
        if !self.stores {
            return;
        }
        if let Some(fast) = self.fast
            && let Some((narrowed, outcome)) = fast.narrow(values)
        {
            tally.add(&outcome);
            // SAFETY: the caller's promise.
            unsafe { to.chunk(first, narrowed) };
        } else {
            again.for_each(|(index, x)| {
                let x = self.narrow(tally, index, x);
                // SAFETY: the caller's promise.
                unsafe { to.one(index, x) };
            });
        }
    }

    /// Takes the result at a place of the tensor; returns what is to be stored there, if anything.
    #[inline(always)]
    pub(crate) fn take<B: Block>(
        &self,
        shared: B::Shared,
        tally: &mut Tally,
        index: usize,
        x: f32,
    ) -> Option<F> {
        tally.elements += 1;
        if let Some(histogram) = self.histogram {
            match self.classes.of(x) {
                Some(class) => shared.add(class, 1),
                None => self.count::<B>(histogram, x, 1),
            }
        }
        self.stores.then(|| self.narrow(tally, index, x))
    }

    #[inline(always)]
    fn narrow(&self, tally: &mut Tally, index: usize, x: f32) -> F {
        let mut outcome = Outcome::EMPTY;
        let x = F::from_bits(self.apply.element(x, index as u64, &mut outcome));
        tally.add(&outcome);
        x
    }

    /// Adds values to a histogram.
    #[inline(always)]
    fn count<B: Block>(&self, histogram: Counters<'_, Histogram>, x: f32, count: u64) {
        let (one, other) = Histogram::words_of(self.apply.narrowing, x, self.incoming);
        histogram.add::<B>(one, count);
        if let Some(other) = other {
            histogram.add::<B>(other, count);
        }
    }

    /// Brings home what the threads of a block counted: all of them, after the last result.
    pub(crate) fn close<B: Block>(&self, block: &mut B, tallies: &B::Each<Tally>) {
        let counts = block.map(tallies, |_, tally| tally.counts());
        let counts = sum_warp(block, counts);
        let maxima = block.map(tallies, |_, tally| [tally.max_bits]);
        let maxima = fold_warp(block, maxima, Ord::max);
        block.zip(&counts, &maxima, |thread, counts, [max_bits]| {
            if thread % WARP != 0 {
                return;
            }
            let [elements, counts @ ..] = counts;
            if let Some(outcome) = self.outcome {
                // What is measured only has no outcome.
                let stored = if self.stores { elements } else { 0 };
                outcome.add::<B>(offset_of!(Outcome, elements) / 8, stored.into());
                SUMMED
                    .iter()
                    .zip(counts)
                    .for_each(|(&word, count)| outcome.add::<B>(word, count.into()));
                outcome.raise::<B>(offset_of!(Outcome, max_bits) / 4, max_bits);
            }
            if let Some(histogram) = self.histogram {
                histogram.add::<B>(Histogram::ELEMENTS_WORD, elements.into());
            }
        });
        // The barrier has to precede the test for a histogram. Behind it, LLVM sends lane 0, which has just made the same
        // test to add its warp's count, to the barrier by another path than the rest of its warp.
        block.barrier();
        let Some(histogram) = self.histogram else { return };
        let (shared, threads) = (block.shared(), block.threads() as usize);
        block.each(|thread| {
            (thread as usize..Classes::COUNT).step_by(threads).for_each(|class| {
                match shared.load(class) {
                    0 => {}
                    count => self.count::<B>(histogram, self.classes.example(class), count.into()),
                }
            });
        });
    }
}
