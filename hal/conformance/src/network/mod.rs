//! The operations of layers, against formulas that the suite works out itself.
//!
//! Three kinds of results are compared in three ways.  What only moves elements has to agree bit for
//! bit.  Sums of small integers are exact in any order and have to agree bit for bit too, in every
//! narrowing and with every counter; so do the operations at points where their formulas are exact.
//! Everything else has to lie within the bounds that [`near`](super::near) works out along with the
//! value, and its counters have to agree with one another and with the histogram.

mod accumulate;
mod attend;
mod convolve;
mod dropout;
mod embed;
mod loss;
mod normalise;
mod pointwise;
mod pool;
mod update;

use adaloss_core::format::Element;

use super::{Failure, Report, bench::Bench};
use adaloss_hal::{
    Memory, Plain,
    network::{
        HasAccumulate, HasAttend, HasConvolve, HasDropout, HasEmbed, HasLoss, HasNetwork,
        HasNormalise, HasPool, HasRelu, HasUpdate,
    },
};

/// Checks every operation of layers, with activations in `W` and gradients in `G`, in the
/// combinations that training uses.
///
/// Moving operations and exact sums agree bit for bit.  Elsewhere every f32 operation may be wrong
/// by [`UNIT`](super::UNIT) of its result, or by [`TINY`](super::TINY), and a sum of `n` terms by `n`
/// times the former of the sum of their magnitudes; errors are followed through the formula.  That
/// allows for any order, for an accumulator that truncates, for fused instructions, for products with
/// reciprocals and for the functions of another library, but not for an accumulator that is narrower
/// than f32.
///
/// # Errors
///
/// The first difference.
pub fn network<W, G, D>(device: &mut D) -> Result<Report, Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasNetwork<W, G>,
{
    let mut bench = Bench::new(device)?;
    convolve::check::<W, W, W, D>(&mut bench)?;
    convolve::check::<G, W, G, D>(&mut bench)?;
    convolve::check::<G, W, f32, D>(&mut bench)?;
    convolve::check::<W, W, f32, D>(&mut bench)?;
    normalise::check::<W, G, D>(&mut bench)?;
    pool::check::<W, D>(&mut bench)?;
    pool::check::<G, D>(&mut bench)?;
    pointwise::check::<W, G, D>(&mut bench)?;
    dropout::check::<W, D>(&mut bench)?;
    dropout::check::<G, D>(&mut bench)?;
    accumulate::check(&mut bench)?;
    embed::check::<W, G, D>(&mut bench)?;
    attend::check::<W, G, D>(&mut bench)?;
    loss::check(&mut bench)?;
    update::check(&mut bench)?;
    Ok(bench.report)
}

/// Checks convolutions of `A` and `B` that are narrowed to `F`, and their gradients.
///
/// Sums of small integers have to agree bit for bit, and so have all sums where the device sums in
/// the order of the index; elsewhere they have to keep the bound of [`matmul`](super::matmul()).
///
/// # Errors
///
/// The first difference.
pub fn convolve<A, B, F, D>(device: &mut D) -> Result<Report, Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasConvolve<A, B, F>,
{
    let mut bench = Bench::new(device)?;
    convolve::check::<A, B, F, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks batch and layer normalisation, forward and back, within the bounds of [`network()`].
///
/// # Errors
///
/// The first difference.
pub fn normalise<W, G, D>(device: &mut D) -> Result<Report, Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasNormalise<W, G>,
{
    let mut bench = Bench::new(device)?;
    normalise::check::<W, G, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks pooling by maxima, bit for bit, and by sums, like those of a convolution.
///
/// # Errors
///
/// The first difference.
pub fn pool<E, D>(device: &mut D) -> Result<Report, Failure>
where
    E: Element + Plain,
    D: Memory + HasPool<E>,
{
    let mut bench = Bench::new(device)?;
    pool::check::<E, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks the rectifier, bit for bit.
///
/// # Errors
///
/// The first difference.
pub fn pointwise<W, G, D>(device: &mut D) -> Result<Report, Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasRelu<W, G>,
{
    let mut bench = Bench::new(device)?;
    pointwise::check::<W, G, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks dropout, bit for bit: masks are a function of seed, stream and index.
///
/// # Errors
///
/// The first difference.
pub fn dropout<E, D>(device: &mut D) -> Result<Report, Failure>
where
    E: Element + Plain,
    D: Memory + HasDropout<E>,
{
    let mut bench = Bench::new(device)?;
    dropout::check::<E, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks sums of two tensors, bit for bit, and blends within the bounds of [`network()`].
///
/// # Errors
///
/// The first difference.
pub fn accumulate<D: Memory + HasAccumulate>(device: &mut D) -> Result<Report, Failure> {
    let mut bench = Bench::new(device)?;
    accumulate::check(&mut bench)?;
    Ok(bench.report)
}

/// Checks embedding, bit for bit, and the sums of its gradient, like those of a convolution.
///
/// # Errors
///
/// The first difference.
pub fn embed<W, G, D>(device: &mut D) -> Result<Report, Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasEmbed<W, G>,
{
    let mut bench = Bench::new(device)?;
    embed::check::<W, G, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks causal attention and its gradient, within the bounds of [`network()`].
///
/// # Errors
///
/// The first difference.
pub fn attend<W, G, D>(device: &mut D) -> Result<Report, Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasAttend<W, G>,
{
    let mut bench = Bench::new(device)?;
    attend::check::<W, G, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks softmax cross entropy, within the bounds of [`network()`]; what is counted, exactly.
///
/// # Errors
///
/// The first difference.
pub fn loss<D: Memory + HasLoss>(device: &mut D) -> Result<Report, Failure> {
    let mut bench = Bench::new(device)?;
    loss::check(&mut bench)?;
    Ok(bench.report)
}

/// Checks optimizers, within the bounds of [`network()`]; norms are sums in f64, and `n` terms may be
/// wrong by `n` times [`UNIT_F64`](super::UNIT_F64) of their sum.
///
/// # Errors
///
/// The first difference.
pub fn update<D: Memory + HasUpdate>(device: &mut D) -> Result<Report, Failure> {
    let mut bench = Bench::new(device)?;
    update::check(&mut bench)?;
    Ok(bench.report)
}
