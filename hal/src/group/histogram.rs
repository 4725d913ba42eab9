//! What all ranks counted of a tensor, for a certificate of all of them.

use adaloss_core::statistics::Histogram;

use super::{AgreeError, Group};

/// Adds up what the ranks counted, so that each has the histogram of the tensor's parts on all of them: exactly, and in
/// two reductions, of 2 numbers and of [`Histogram::COUNTS`].
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
    let mut codes = [code, !code];
    group.max_u64(&mut codes).map_err(AgreeError::Group)?;
    if codes[0] != !codes[1] {
        return Err(AgreeError::Narrowings);
    }
    let mut counts = [0; Histogram::COUNTS];
    counts.iter_mut().zip(histogram.counts_mut()).for_each(|(to, from)| *to = *from);
    group.sum_u64(&mut counts).map_err(AgreeError::Group)?;
    histogram.counts_mut().zip(counts).for_each(|(to, from)| *to = from);
    Ok(())
}
