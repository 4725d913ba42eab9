//! What all ranks counted of a tensor, for a certificate of all of them.

use core::ops::Range;

use adaloss_core::statistics::Histogram;

use super::{AgreeError, Group};

/// Adds up what the ranks counted, so that each has the histogram of the tensor's parts on all of them: exactly, and in
/// two reductions, of 6 numbers and of 3 and as many as bins are in use on any rank: two for each binade between the least and the
/// largest magnitude, and [`Histogram::COUNTS`] at most.
///
/// Nothing is decided by it under policies that follow maxima: a certificate is a rank's own, and one of all ranks is for whoever
/// wants to see it.  A rank that measured nothing brings a [new](Histogram::new) histogram.
///
/// # Errors
///
/// The histograms count for different formats or roundings, and are as they were; or the group failed.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::{Config, certify}, scaler::LossScaler, unscale::Place};
/// use adaloss_hal::group::{Solo, merge_histogram};
/// let config = Config::for_format(Format::BINARY16);
/// let mut scaler = LossScaler::<1>::new(config);
/// let mut step = scaler.begin();
/// let scale = step.loss().apply(&[2.0e-8, -1.0e-6], &mut [f16::ZERO; 2])?.scale(); // measured: it is the first
/// let mut histogram = *step.histogram();
/// merge_histogram(&mut histogram, &mut Solo)?;
/// // Of all ranks, in a copy of the cell.
/// let certificate = certify(&config, &histogram, scale, &mut config.cell());
/// assert_eq!(certificate.nonzero, 2);
/// # let _ = step.finish();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn merge_histogram<G: Group>(
    histogram: &mut Histogram,
    group: &mut G,
) -> Result<(), AgreeError<G::Error>> {
    let narrowing = histogram.narrowing();
    let code = narrowing.format.encoding as u64
        | (narrowing.format.subnormals as u64) << 8
        | (narrowing.rounding as u64) << 16;
    let mut counts = [0; Histogram::COUNTS];
    counts.iter_mut().zip(histogram.counts_mut()).for_each(|(to, from)| *to = *from);
    let [floors, ceilings] = [FLOORS, CEILINGS].map(|bins| reach(counts.get(bins).unwrap_or(&[])));
    let mut common = [[code, !code], floors, ceilings];
    group.max_u64(common.as_flattened_mut()).map_err(AgreeError::Group)?;
    let [[code, complement], floors, ceilings] = common;
    if code != !complement {
        return Err(AgreeError::Narrowings);
    }
    // What any rank has counted, without the gaps.
    let [floors, ceilings] = [in_use(FLOORS, floors), in_use(CEILINGS, ceilings)];
    let length = FLOORS.start + floors.len() + ceilings.len();
    let places = (0..FLOORS.start).chain(floors).chain(ceilings);
    let mut message = [0; Histogram::COUNTS];
    let (message, _) = message.split_at_mut(length);
    for (to, place) in message.iter_mut().zip(places.clone()) {
        *to = counts.get(place).copied().unwrap_or_default();
    }
    group.sum_u64(message).map_err(AgreeError::Group)?;
    for (from, place) in message.iter().zip(places) {
        if let Some(count) = counts.get_mut(place) {
            *count = *from;
        }
    }
    histogram.counts_mut().zip(counts).for_each(|(to, from)| *to = from);
    Ok(())
}

/// Where the bins are among a histogram's counts, behind those of all elements, of non-finite ones and of zeros.
const FLOORS: Range<usize> = 3..3 + BINS;
const CEILINGS: Range<usize> = 3 + BINS..Histogram::COUNTS;
const BINS: usize = (Histogram::COUNTS - 3) / 2;

/// Returns where the bins in use begin and end; the beginning counted from the end of all, so that the greatest of both over all
/// ranks is the reach of them together.
fn reach(bins: &[u64]) -> [u64; 2] {
    let first = bins.iter().position(|&count| count > 0).unwrap_or(bins.len());
    let end = bins.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
    [(bins.len() - first) as u64, end as u64]
}

/// Returns the places of the bins in use; none where nothing was counted.
fn in_use(bins: Range<usize>, [from_end, end]: [u64; 2]) -> Range<usize> {
    let first = bins.end.saturating_sub(from_end as usize).max(bins.start);
    first..bins.start.saturating_add(end as usize).clamp(first, bins.end)
}
