//! Whether a device does what [`adaloss_core`] says, bit for bit.
//!
//! A device's tests call a few functions, one per trait it implements:
//!
//! ```
//! use adaloss_core::format::f16;
//! use adaloss_conformance as conformance;
//! use adaloss_hal::portable::Portable;
//! let mut device = Portable;
//! conformance::memory(&mut device)?;
//! conformance::narrow::<f16, _>(&mut device)?;
//! conformance::scaler::<f16, _>(&mut device)?;
//! conformance::described::<f16, _>(&mut device)?;
//! conformance::matmul::<f16, f16, f16, _>(&mut device)?;
//! # Ok::<(), conformance::Failure>(())
//! ```
//!
//! Layers need more: activations in one format, gradients in another.
//!
//! ```no_run
//! use adaloss_core::format::{E5M2, f16};
//! use adaloss_conformance as conformance;
//! use adaloss_hal::portable::Portable;
//! let mut device = Portable;
//! // Everything ...
//! conformance::network::<f16, E5M2, _>(&mut device)?;
//! // ... or one trait at a time.
//! conformance::convolve::<E5M2, f16, f32, _>(&mut device)?;
//! conformance::normalise::<f16, E5M2, _>(&mut device)?;
//! conformance::pool::<f16, _>(&mut device)?;
//! conformance::pointwise::<f16, E5M2, _>(&mut device)?;
//! conformance::dropout::<f16, _>(&mut device)?;
//! conformance::accumulate(&mut device)?;
//! conformance::embed::<f16, E5M2, _>(&mut device)?;
//! conformance::attend::<f16, E5M2, _>(&mut device)?;
//! conformance::loss(&mut device)?;
//! conformance::update(&mut device)?;
//! # Ok::<(), conformance::Failure>(())
//! ```
//!
//! The device is compared with the core, element by element and counter by counter, on values
//! where implementations go wrong: ties, both sides of every point where the outcome changes, f32
//! subnormals, NaN and infinities, shifts beyond what an f32 factor can do, empty tensors, sizes
//! around those of tiles and blocks, parts of buffers at odd places.  Nothing that was not asked for
//! may be written, and nothing at all by an operation whose predicate is 0.  What the [`Capabilities`] leave out has
//! to be refused.
//!
//! What the core does not have, the operations of layers, is compared with formulas that the suite
//! works out itself, never with another device: see [`network()`].
//!
//! The bits of a NaN are compared after `apply`, where the core defines them; a NaN that comes out of
//! f32 arithmetic may be any.
//!
//! The suite needs no heap on the host, less than 96 KiB of stack, and less than 128 KiB on the device.

#![no_std]
#![forbid(unsafe_code)]

mod apply;
mod bench;
mod compare;
mod failure;
mod matmul;
mod memory;
mod near;
mod network;
mod propagate;
mod refusal;
mod results;
mod scaler;
mod shape;
mod statistics;
mod tensor;
mod unscale;
mod values;

use core::fmt;

use adaloss_core::format::Element;

pub use failure::{Case, Discrepancy, Failure};
pub use near::{TINY, UNIT, UNIT_F64};
pub use network::{
    accumulate, attend, convolve, dropout, embed, loss, network, normalise, pointwise, pool, update,
};
pub use shape::Shape;

use adaloss_hal::{
    Capabilities, Device, HasMatmul, HasNarrow, Memory, Plain, Run,
    scaler::{Describe, HasScaler},
};

/// Checks that memory is zeroed, copied, and cut into parts as the traits say.
///
/// The other checks rely on this one.
///
/// # Errors
///
/// The first difference.
pub fn memory<D: Memory>(device: &mut D) -> Result<Report, Failure> {
    let mut report = Report::of(device.capabilities());
    memory::check(device, &mut report)?;
    Ok(report)
}

/// Checks statistics, apply, propagate and unscale with elements of type `F`.
///
/// # Errors
///
/// The first difference from the core.
pub fn narrow<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
) -> Result<Report, Failure> {
    let mut bench = bench::Bench::new(device)?;
    statistics::check::<F, D>(&mut bench)?;
    apply::check::<F, D>(&mut bench)?;
    propagate::check::<F, D>(&mut bench)?;
    unscale::check::<F, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks a scaler in the device's memory: every policy, over steps of a small model whose gradients are narrowed to `F`.
///
/// An [`Engine`](adaloss_hal::scaler::Engine) is taken through steps of losses, layers and a join, in one micro-batch or more,
/// some of them with values that overflow or are not finite, with visits that are left, and with weight gradients, weights and
/// losses that are bad; a scaler on the host is taken through the same ones.  The visits, verdicts, cells and narrowed bits have
/// to be the same.  Nothing is read within a step, and after some steps nothing either: what is asked for after one that stops
/// the run must not have any effect.
///
/// # Errors
///
/// The first difference from the core.
pub fn scaler<F, D>(device: &mut D) -> Result<Report, Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasScaler,
{
    let mut bench = bench::Bench::new(device)?;
    scaler::check::<F, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks what [`scaler`](scaler()) does with policies that decide from operands, which the device describes.
///
/// # Errors
///
/// The first difference from the core.
pub fn described<F, D>(device: &mut D) -> Result<Report, Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasScaler,
    D: for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>,
{
    let mut bench = bench::Bench::new(device)?;
    scaler::check_described::<F, D>(&mut bench)?;
    Ok(bench.report)
}

/// Checks products of `A` and `B` that are narrowed to `F`.
///
/// Sums of small integers are exact in any order and have to agree bit for bit.  Random sums have
/// to as well where the device sums in the order of the index; elsewhere a sum of `n` terms may be
/// wrong by `n` times [`UNIT`] of the sum of their magnitudes, which allows for any order and for an
/// accumulator that truncates, but not for one that is narrower than f32.
///
/// # Errors
///
/// The first difference.
pub fn matmul<A, B, F, D>(device: &mut D) -> Result<Report, Failure>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasMatmul<A, B, F>,
{
    let mut bench = bench::Bench::new(device)?;
    matmul::check::<A, B, F, D>(&mut bench)?;
    Ok(bench.report)
}

/// What was compared, and what the device was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the device says it can do; what it cannot was not compared but had to be refused.
    pub capabilities: Capabilities,
    /// Operations whose results agreed.
    pub operations: u64,
    /// Operations that were refused as they have to be.
    pub refusals: u64,
    /// Elements that agreed.
    pub elements: u64,
}

impl Report {
    const fn of(capabilities: Capabilities) -> Self {
        Self { capabilities, operations: 0, refusals: 0, elements: 0 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { capabilities, operations, refusals, elements } = self;
        write!(f, "{operations} operations agree in {elements} elements, {refusals} were refused")?;
        let Capabilities { subnormals, stochastic_rounding, sequential_sums, .. } = capabilities;
        let missing = [
            (*subnormals, "subnormals"),
            (*stochastic_rounding, "stochastic rounding"),
            (*sequential_sums, "sums in order"),
        ];
        for (_, name) in missing.iter().filter(|(has, _)| !has) {
            write!(f, "; the device has no {name}")?;
        }
        Ok(())
    }
}
