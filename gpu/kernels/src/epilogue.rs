//! Where the f32 results of a kernel go: narrowed, counted, measured.

use core::mem::offset_of;

use adaloss_core::{
    apply::{Apply, FastNarrowing},
    format::{Element, Narrowing, Noise},
    policy::Cell,
    scale::Scale,
    statistics::{Classes, Histogram, Outcome},
};

use crate::{
    Block, Shared,
    binades::Binades,
    block::{WARP, fold_warp, share, sum_warp},
    memory::{CHUNK, Counters, Out, chunks_in_tiles, each_of, halves, is_off},
    nearest::{Fates, Nearest},
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
    nearest: Option<Nearest<F>>,
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
    fates: Fates,
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
    pub(crate) const EMPTY: Self = Self { elements: 0, fates: Fates::NONE };

    const fn counts(self) -> [u32; SUMMED.len() + 1] {
        let Fates { nonfinite, zero, vanished, small, overflow, .. } = self.fates;
        [self.elements, nonfinite, zero, vanished - zero, small - vanished, overflow]
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
        unsafe { Self::open_with(block, epilogue, Classes::COUNT) }
    }

    /// Is [`open`](Self::open) for [`run`](Self::run), which measures by [`Binades`], too.
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn open_all<B: Block>(block: &mut B, epilogue: &Epilogue) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::open_with(block, epilogue, Binades::<F>::FIRST + Binades::<F>::COUNT) }
    }

    /// Opens an epilogue that counts in so many words of shared memory.
    ///
    /// # Safety
    ///
    /// As for [`open`](Self::open).
    #[inline(always)]
    unsafe fn open_with<B: Block>(block: &mut B, epilogue: &Epilogue, words: usize) -> Self {
        // SAFETY: the caller's promise.
        let (from, to) = unsafe { ((*epilogue.from).scale(), (*epilogue.to).scale()) };
        // SAFETY: the caller's promise.
        let (outcome, histogram) =
            unsafe { (Counters::new(epilogue.outcome), Counters::new(epilogue.histogram)) };
        let (shared, threads) = (block.shared(), block.threads() as usize);
        if histogram.is_some() {
            block.each(|thread| {
                (thread as usize..words).step_by(threads).for_each(|word| {
                    shared.store(word, 0);
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
            nearest: Nearest::new(&apply),
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

    /// Takes all results of a tensor and stores them: one of them by its place, or a chunk by the places of its [`halves`].
    ///
    /// # Safety
    ///
    /// It was opened by [`open_all`](Self::open_all), and nobody else reads or writes the tensor during the launch.
    #[inline(always)]
    pub(crate) unsafe fn run<B: Block>(
        self,
        block: &mut B,
        to: Out<'_, F>,
        by_chunks: bool,
        one: impl Fn(usize) -> f32,
        chunk: impl Fn([usize; 2]) -> [f32; CHUNK],
    ) {
        let chunks = chunks_in_tiles(to.len(), by_chunks && to.has_chunks());
        let (shared, rest) = (block.shared(), CHUNK * chunks);
        let (of_chunks, of_rest) = (share(block, chunks), share(block, to.len() - rest));
        let tallies = block.each(|thread| {
            let mut tally = Tally::EMPTY;
            for nth in of_chunks(thread) {
                let places = halves(CHUNK * nth, thread);
                self.put::<B, CHUNK>(
                    shared,
                    &mut tally,
                    chunk(places),
                    each_of(places, to.len()).map(|index| (index, one(index))),
                    // SAFETY: each chunk is in one share.
                    |narrowed| unsafe { to.write_halves(places, narrowed) },
                    // SAFETY: as above.
                    |index, x| unsafe { to.write(index, x) },
                );
            }
            for nth in of_rest(thread) {
                let index = rest + nth;
                if let Some(x) = self.take_one::<B>(shared, &mut tally, index, one(index)) {
                    // SAFETY: each place is in one share.
                    unsafe { to.write(index, x) };
                }
            }
            tally
        });
        self.close(block, &tallies);
        let Some(histogram) = self.histogram else { return };
        let threads = block.threads() as usize;
        block.each(|thread| {
            let places = thread as usize..Binades::<F>::COUNT;
            for place in places.step_by(threads).map(|nth| Binades::<F>::FIRST + nth) {
                match shared.load(place) {
                    0 => {}
                    count => {
                        self.count::<B>(histogram, Binades::<F>::example(place), count.into());
                    }
                }
            }
        });
    }

    /// Takes the results of a chunk, or half of one, and stores them; `one` is asked for those again that are none of
    /// the commonest.
    ///
    /// For products, whose sums leave few registers: it does in turn what [`run`](Self::run) does for all values together, and
    /// leaves what is beyond the format to others.
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
            tally.fates.add(&outcome);
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

    /// Takes a few results, and stores them together, or one by one where they are none of the commonest: as `again` has
    /// them, with their places.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "what is done with one, and with all")]
    fn put<B: Block, const N: usize>(
        &self,
        shared: B::Shared,
        tally: &mut Tally,
        values: [f32; N],
        again: impl Iterator<Item = (usize, f32)> + Clone,
        store: impl Fn([F; N]),
        store_one: impl Fn(usize, F),
    ) {
        tally.elements += N as u32;
        if let Some(histogram) = self.histogram
            && (!Binades::<F>::are_those_of(self.apply.narrowing)
                || !Binades::<F>::each(values, |place| shared.add(place, 1)))
        {
            again.clone().for_each(|(_, x)| self.measure::<B>(shared, histogram, x));
        }
        if !self.stores {
            return;
        }
        if let Some(nearest) = self.nearest
            && let Some(narrowed) = nearest.narrow::<B, N>(values, &mut tally.fates)
        {
            store(narrowed);
        } else {
            again.for_each(|(index, x)| {
                let x = self.narrow(tally, index, x);
                store_one(index, x);
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
            self.measure::<B>(shared, histogram, x);
        }
        self.stores.then(|| self.narrow(tally, index, x))
    }

    /// Is [`take`](Self::take) with less to do for each result, and more registers.
    #[inline(always)]
    pub(crate) fn take_one<B: Block>(
        &self,
        shared: B::Shared,
        tally: &mut Tally,
        index: usize,
        x: f32,
    ) -> Option<F> {
        tally.elements += 1;
        if let Some(histogram) = self.histogram {
            self.measure::<B>(shared, histogram, x);
        }
        if !self.stores {
            return None;
        }
        if let Some(nearest) = self.nearest
            && let Some([narrowed]) = nearest.narrow::<B, 1>([x], &mut tally.fates)
        {
            return Some(narrowed);
        }
        Some(self.narrow(tally, index, x))
    }

    /// Counts a value: by its class if it has one.
    #[inline(always)]
    fn measure<B: Block>(&self, shared: B::Shared, histogram: Counters<'_, Histogram>, x: f32) {
        match self.classes.of(x) {
            Some(class) => shared.add(class, 1),
            None => self.count::<B>(histogram, x, 1),
        }
    }

    #[inline(always)]
    fn narrow(&self, tally: &mut Tally, index: usize, x: f32) -> F {
        let mut outcome = Outcome::EMPTY;
        let x = F::from_bits(self.apply.element(x, index as u64, &mut outcome));
        tally.fates.add(&outcome);
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
        let maxima = block.map(tallies, |_, tally| [tally.fates.max_bits]);
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
