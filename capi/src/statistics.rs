//! What is counted, before narrowing and by narrowing.
//!
//! The structures are core's own, byte for byte: a pointer to one is a pointer to the other once its
//! bytes were seen to be legal.

use core::ffi::c_void;

use adaloss_core::{
    format::Element,
    statistics::{Histogram, LogStatistics, Moments, Outcome, Statistics},
    with_element,
};

use crate::{
    ADALOSS_ERROR_FORMAT, ADALOSS_ERROR_FULL, ADALOSS_ERROR_HISTOGRAM, ADALOSS_ERROR_OUTCOME,
    ADALOSS_ERROR_STATISTICS, ADALOSS_NONE, adaloss_code, adaloss_format, adaloss_narrowing,
    code::{Refused, code},
    memory::{Place, any_bytes, array, exclusive, shared},
    scale,
};

/// One bin per legal scale, and one for "none of them".
pub const ADALOSS_HISTOGRAM_BINS: usize = 254;

/// How many elements of a tensor live at which scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_histogram {
    pub narrowing: adaloss_narrowing,
    pub reserved: u32,
    pub elements: u64,
    pub nonfinite: u64,
    pub zero: u64,
    pub floors: [u64; ADALOSS_HISTOGRAM_BINS],
    pub ceilings: [u64; ADALOSS_HISTOGRAM_BINS],
}

/// What narrowing did to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_outcome {
    pub elements: u64,
    pub nonfinite: u64,
    pub zero: u64,
    pub underflow: u64,
    pub subnormal: u64,
    pub overflow: u64,
    pub max_bits: u32,
    pub reserved: u32,
}

/// Exact sums of values and of their squares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_moments {
    pub count: u64,
    pub sum: [u64; 6],
    pub squares: [u64; 10],
}

/// What `normal` and `range` ask of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_statistics {
    pub nonfinite: u64,
    pub zero: u64,
    pub moments: adaloss_moments,
    pub min_bits: u32,
    pub max_bits: u32,
}

/// What the log-normal model asks of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_log_statistics {
    pub nonfinite: u64,
    pub moments: adaloss_moments,
    pub max_bits: u32,
    pub reserved: u32,
}

any_bytes! {
    adaloss_histogram, adaloss_outcome, adaloss_moments, adaloss_statistics, adaloss_log_statistics,
}

/// A structure of the header and the type of core that has the same bytes.
pub(crate) trait Mirror: Sized {
    /// The type of core.
    type Core;
    /// The sizes and alignments are the same.
    const SAME: () = assert!(
        size_of::<Self>() == size_of::<Self::Core>()
            && align_of::<Self>() == align_of::<Self::Core>()
    );

    /// Refuses bytes that the type of core does not have.
    fn check(&self) -> Result<(), Refused>;

    fn core(&self) -> Result<&Self::Core, Refused> {
        const { Self::SAME };
        self.check()?;
        // SAFETY: both are `repr(C)` with the same fields in the same order, so that the bytes are
        // those of the type of core, which was seen to have them.
        Ok(unsafe { &*core::ptr::from_ref(self).cast() })
    }

    fn core_mut(&mut self) -> Result<&mut Self::Core, Refused> {
        const { Self::SAME };
        self.check()?;
        // SAFETY: as above; and what core writes has bytes that this type has, since it has all.
        Ok(unsafe { &mut *core::ptr::from_mut(self).cast() })
    }
}

/// Counts stay below this, so that no sum of two wraps.
const MOST: u64 = 1 << 63;

/// The greatest finite magnitude, as bits.
const MAX_FINITE: u32 = f32::MAX.to_bits();

/// Adds counts, or returns `None` where they exceed what may be counted.
fn sum<'a>(counts: impl IntoIterator<Item = &'a u64>) -> Option<u64> {
    counts
        .into_iter()
        .try_fold(0_u64, |sum, &count| sum.checked_add(count))
        .filter(|&sum| sum <= MOST)
}

/// Refuses to add to a count more than it may hold.
pub(crate) fn has_room(count: u64, more: u64) -> Result<(), Refused> {
    match sum([&count, &more]) {
        Some(_) => Ok(()),
        None => Err(Refused(ADALOSS_ERROR_FULL)),
    }
}

impl Mirror for adaloss_histogram {
    type Core = Histogram;

    fn check(&self) -> Result<(), Refused> {
        let is_legal = self.narrowing.parse().is_ok()
            // A histogram forgets what becomes of overflow.
            && self.narrowing.overflow == 0
            && self.reserved == 0
            && sum([&self.elements]).is_some()
            && sum([&self.nonfinite, &self.zero]).is_some_and(|apart| {
                let nonzero = self.elements.checked_sub(apart);
                nonzero.is_some() && sum(&self.floors) == nonzero && sum(&self.ceilings) == nonzero
            });
        if is_legal { Ok(()) } else { Err(Refused(ADALOSS_ERROR_HISTOGRAM)) }
    }
}

impl Mirror for adaloss_outcome {
    type Core = Outcome;

    fn check(&self) -> Result<(), Refused> {
        let Self { elements, nonfinite, zero, underflow, subnormal, overflow, max_bits, reserved } =
            self;
        let is_legal = *elements <= MOST
            && sum([nonfinite, zero, underflow, subnormal, overflow])
                .is_some_and(|sum| sum <= *elements)
            && *max_bits <= MAX_FINITE
            && *reserved == 0;
        if is_legal { Ok(()) } else { Err(Refused(ADALOSS_ERROR_OUTCOME)) }
    }
}

impl Mirror for adaloss_moments {
    type Core = Moments;

    fn check(&self) -> Result<(), Refused> {
        // A sum of squares is not negative, and neither has elements of none.
        let is_legal = self.count <= MOST
            && self.squares[9] >> 63 == 0
            && (self.count > 0 || (self.sum == [0; 6] && self.squares == [0; 10]));
        if is_legal { Ok(()) } else { Err(Refused(ADALOSS_ERROR_STATISTICS)) }
    }
}

impl Mirror for adaloss_statistics {
    type Core = Statistics;

    fn check(&self) -> Result<(), Refused> {
        self.moments.check()?;
        let Self { nonfinite, zero, moments, min_bits, max_bits } = self;
        let has_extremes = 0 < *min_bits && min_bits <= max_bits && *max_bits <= MAX_FINITE;
        let has_none = *min_bits == u32::MAX && *max_bits == 0;
        let is_legal = sum([nonfinite, &moments.count]).is_some()
            && *zero <= moments.count
            && if *zero < moments.count { has_extremes } else { has_none };
        if is_legal { Ok(()) } else { Err(Refused(ADALOSS_ERROR_STATISTICS)) }
    }
}

impl Mirror for adaloss_log_statistics {
    type Core = LogStatistics;

    fn check(&self) -> Result<(), Refused> {
        self.moments.check()?;
        let Self { nonfinite, moments, max_bits, reserved } = self;
        let is_legal = sum([nonfinite, &moments.count]).is_some()
            && (*max_bits > 0) == (moments.count > 0)
            && *max_bits <= MAX_FINITE
            && *reserved == 0;
        if is_legal { Ok(()) } else { Err(Refused(ADALOSS_ERROR_STATISTICS)) }
    }
}

impl From<Outcome> for adaloss_outcome {
    fn from(outcome: Outcome) -> Self {
        let Outcome { elements, nonfinite, zero, underflow, subnormal, overflow, max_bits, .. } =
            outcome;
        Self { elements, nonfinite, zero, underflow, subnormal, overflow, max_bits, reserved: 0 }
    }
}

impl From<&Histogram> for adaloss_histogram {
    fn from(histogram: &Histogram) -> Self {
        const { Self::SAME };
        // SAFETY: as in `Mirror`: this type has all bytes.
        unsafe { *core::ptr::from_ref(histogram).cast() }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_histogram_clear(
    histogram: *mut adaloss_histogram,
    narrowing: adaloss_narrowing,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(histogram) }?;
        place.set((&Histogram::new(narrowing.parse()?)).into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_histogram_observe(
    histogram: *mut adaloss_histogram,
    values: *const f32,
    count: usize,
    incoming_log2: i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram and an array, apart.
        let (histogram, values) = unsafe { (exclusive(histogram)?, array(values, count)?) };
        let incoming = scale::parse(incoming_log2)?;
        let histogram = histogram.core_mut()?;
        has_room(histogram.elements(), values.len() as u64)?;
        histogram.observe(values, incoming);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_histogram_merge(
    into: *mut adaloss_histogram,
    from: *const adaloss_histogram,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for two histograms, apart.
        let (into, from) = unsafe { (exclusive(into)?, shared(from)?) };
        let (into, from) = (into.core_mut()?, from.core()?);
        has_room(into.elements(), from.elements())?;
        into.merge(from).map_err(|_| Refused(ADALOSS_ERROR_FORMAT))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_histogram_underflow(
    histogram: *const adaloss_histogram,
    scale_log2: i32,
    count: *mut u64,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram and a place.
        let (histogram, count) = unsafe { (shared(histogram)?, Place::new(count)?) };
        count.set(histogram.core()?.underflow(scale::parse(scale_log2)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_histogram_overflow(
    histogram: *const adaloss_histogram,
    scale_log2: i32,
    count: *mut u64,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram and a place.
        let (histogram, count) = unsafe { (shared(histogram)?, Place::new(count)?) };
        count.set(histogram.core()?.overflow(scale::parse(scale_log2)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_histogram_least(
    histogram: *const adaloss_histogram,
    allowed: u64,
    scale_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram and a place.
        let (histogram, place) = unsafe { (shared(histogram)?, Place::new(scale_log2)?) };
        let least = histogram.core()?.least_scale(allowed).ok_or(Refused(ADALOSS_NONE))?;
        place.set(least.log2());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_histogram_greatest(
    histogram: *const adaloss_histogram,
    scale_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a histogram and a place.
        let (histogram, place) = unsafe { (shared(histogram)?, Place::new(scale_log2)?) };
        let greatest = histogram.core()?.greatest_scale().ok_or(Refused(ADALOSS_NONE))?;
        place.set(greatest.log2());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_outcome_merge(
    into: *mut adaloss_outcome,
    from: *const adaloss_outcome,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for two outcomes, apart.
        let (into, from) = unsafe { (exclusive(into)?, shared(from)?) };
        let (into, from) = (into.core_mut()?, from.core()?);
        has_room(into.elements, from.elements)?;
        into.merge(from);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_clear(
    statistics: *mut adaloss_statistics,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(statistics.cast::<Statistics>()) }?;
        place.set(Statistics::EMPTY);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_observe(
    statistics: *mut adaloss_statistics,
    format: adaloss_format,
    values: *const c_void,
    count: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for statistics and an array, apart.
        let statistics = unsafe { exclusive(statistics) }?.core_mut()?;
        let format = format.parse()?;
        has_room(statistics.nonfinite + statistics.moments.count(), count as u64)?;
        with_element!(format.encoding, F => {
            // SAFETY: as above.
            let values = unsafe { array(values.cast::<F>(), count) }?;
            values.iter().for_each(|x| statistics.observe(format.widen(Element::to_bits(*x))));
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_merge(
    into: *mut adaloss_statistics,
    from: *const adaloss_statistics,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for two, apart.
        let (into, from) = unsafe { (exclusive(into)?, shared(from)?) };
        let (into, from) = (into.core_mut()?, from.core()?);
        let counts = |of: &Statistics| of.nonfinite + of.moments.count();
        has_room(counts(into), counts(from))?;
        into.merge(from);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_moments(
    moments: *const adaloss_moments,
    mean: *mut f64,
    standard_deviation: *mut f64,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for moments and for places or NULL.
        let (moments, mean_place, deviation_place) = unsafe {
            (shared(moments)?.core()?, Place::optional(mean)?, Place::optional(standard_deviation)?)
        };
        let (Some(mean), Some(deviation)) = (moments.mean(), moments.standard_deviation()) else {
            return Err(Refused(ADALOSS_NONE));
        };
        if let Some(place) = mean_place {
            place.set(mean);
        }
        if let Some(place) = deviation_place {
            place.set(deviation);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_log_clear(
    statistics: *mut adaloss_log_statistics,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(statistics.cast::<LogStatistics>()) }?;
        place.set(LogStatistics::EMPTY);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_log_observe(
    statistics: *mut adaloss_log_statistics,
    format: adaloss_format,
    values: *const c_void,
    count: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for statistics and an array, apart.
        let statistics = unsafe { exclusive(statistics) }?.core_mut()?;
        let format = format.parse()?;
        has_room(statistics.nonfinite + statistics.moments.count(), count as u64)?;
        with_element!(format.encoding, F => {
            // SAFETY: as above.
            let values = unsafe { array(values.cast::<F>(), count) }?;
            values.iter().for_each(|x| statistics.observe(format.widen(Element::to_bits(*x))));
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_statistics_log_merge(
    into: *mut adaloss_log_statistics,
    from: *const adaloss_log_statistics,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for two, apart.
        let (into, from) = unsafe { (exclusive(into)?, shared(from)?) };
        let (into, from) = (into.core_mut()?, from.core()?);
        let counts = |of: &LogStatistics| of.nonfinite + of.moments.count();
        has_room(counts(into), counts(from))?;
        into.merge(from);
        Ok(())
    })
}
