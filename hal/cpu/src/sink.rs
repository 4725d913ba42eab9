//! An epilogue at work, fed by many threads.

use core::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use adaloss_core::{
    apply::Apply,
    format::{Element, Format, Narrowing},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use pulp::{Arch, Simd, WithSimd};

use adaloss_hal::{Epilogue, HostError, HostSpace, host};

/// An epilogue at work: takes the f32 results of an operation in parts, in any order, from any
/// thread.
pub(crate) struct Sink<'a, F> {
    apply: Apply,
    incoming: Scale,
    stores: bool,
    /// What the histogram counts for.
    measured: Option<Narrowing>,
    counters: Mutex<Counters<'a>>,
    element: PhantomData<fn(F)>,
}

struct Counters<'a> {
    outcome: &'a mut Outcome,
    histogram: Option<&'a mut Histogram>,
}

impl<'a, F: Element> Sink<'a, F> {
    /// Takes the epilogue of an operation that fits.
    pub(crate) fn open(epilogue: Epilogue<'a, HostSpace>) -> Result<Self, HostError> {
        let sequential = host::Sink::<F>::open(epilogue)?;
        let host::Sink { apply, incoming, stores, outcome, histogram, .. } = sequential;
        Ok(Self {
            apply,
            incoming,
            stores,
            measured: histogram.as_ref().map(|histogram| histogram.narrowing()),
            counters: Mutex::new(Counters { outcome, histogram }),
            element: PhantomData,
        })
    }

    /// Returns the format that results are narrowed to.
    pub(crate) fn format(&self) -> Format {
        self.apply.narrowing.format
    }

    /// Returns the scale that results carry.
    pub(crate) fn incoming(&self) -> Scale {
        self.incoming
    }

    /// Takes the results from place `first` of the tensor on.
    pub(crate) fn put(&self, first: usize, values: &[f32], to: &mut [F]) {
        let mut histogram = self.measured.map(Histogram::new);
        let mut outcome = Outcome::EMPTY;
        if let Some(histogram) = &mut histogram {
            Arch::new().dispatch(Observe { values, incoming: self.incoming, histogram });
        }
        if self.stores {
            let (apply, outcome) = (self.apply, &mut outcome);
            Arch::new().dispatch(Store { apply, values, to, first: first as u64, outcome });
        }
        // All counts are integers, which add up to the same in any order.
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.outcome.merge(&outcome);
        if let (Some(total), Some(part)) = (&mut counters.histogram, &histogram) {
            let merged = total.merge(part);
            debug_assert!(merged.is_ok(), "the part counts for what the total does");
        }
    }
}

struct Observe<'a> {
    values: &'a [f32],
    incoming: Scale,
    histogram: &'a mut Histogram,
}

impl WithSimd for Observe<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.histogram.observe(self.values, self.incoming);
    }
}

struct Store<'a, F> {
    apply: Apply,
    values: &'a [f32],
    to: &'a mut [F],
    first: u64,
    outcome: &'a mut Outcome,
}

impl<F: Element> WithSimd for Store<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { apply, values, to, first, outcome } = self;
        let stored = apply.slice(values, to, first, outcome);
        debug_assert!(stored.is_ok(), "the encoding was checked, and the lengths are the caller's");
    }
}
