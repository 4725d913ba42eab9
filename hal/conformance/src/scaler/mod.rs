//! A scaler in the memory of a device, beside one on the host: the same visits, verdicts, cells and bits.
//!
//! The suite drives an [`Engine`](adaloss_hal::scaler::Engine) through steps of a small model, and a
//! [`State`](adaloss_core::scaler::State) by hand through the same ones.  Nothing is read within a step, and some steps are asked
//! for before it is known how the last one ended: after one that stops the run they have no effect.

mod config;
mod drawn;
mod evidence;
mod expected;
mod refused;
mod shared;
mod visit;
mod walk;

use adaloss_core::{format::Element, policy::Config};
use adaloss_hal::{
    Device, HasNarrow, Memory, Plain, Run,
    scaler::{Describe, HasScaler},
};

use crate::{Failure, bench::Bench, values};
use visit::{Describes, LeavesOut};
use walk::Walk;

/// Steps between two reads, and reads.
const READS: [(u32, u32); 3] = [(1, 12), (2, 8), (3, 8)];

pub(crate) fn check<F, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasScaler,
{
    refused::check(bench)?;
    shared::check(bench)?;
    walk::<F, D, LeavesOut>(bench, |_| true)
}

pub(crate) fn check_described<F, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasScaler,
    D: for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>,
{
    refused::check_describe(bench)?;
    walk::<F, D, Describes>(bench, |config| config.policy().wants_operands())
}

/// Takes a scaler of each configuration that the device has through many steps.
#[inline(never)]
fn walk<F, D, S>(bench: &mut Bench<'_, D>, is_wanted: fn(&Config) -> bool) -> Result<(), Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasScaler,
    S: visit::Operands<D>,
{
    let capabilities = bench.report.capabilities;
    let format = values::native(F::ENCODING, capabilities);
    let formats = [Some(format), Some(format.flushing()).filter(|_| capabilities.subnormals)];
    let has = |config: &Config| {
        values::narrowings(F::ENCODING, capabilities).any(|has| has == config.narrowing())
    };
    let configs = formats.into_iter().flatten().flat_map(config::configurations);
    for (nth, config) in (0..).zip(configs.filter(|config| has(config) && is_wanted(config))) {
        for (steps, reads) in READS {
            // Few steps may be skipped in a row, so that some runs stop.
            let config = config.with_max_skips(1 + steps).unwrap_or(config);
            let mut walk = Walk::<D, F, S>::new(bench, config, nth << 4 | steps)?;
            walk.accumulates = steps < 3;
            for _ in 0..reads {
                for _ in 0..steps {
                    walk.step(bench)?;
                }
                walk.read(bench)?;
            }
        }
    }
    Ok(())
}
