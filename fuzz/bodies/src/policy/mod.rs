//! The room `policy`: evidence by search, scales and triggers by simulation, on a device.

mod model;
mod on_device;
mod simulated;

use adaloss_core::{
    policy::{Config, certify, due},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{Capabilities, Memory, portable::Portable, scaler::HasScaler};
use adaloss_oracle::{
    Limits, product,
    search::{Tensor, counts},
};

use self::{on_device::OnDevice, simulated::Simulated};
use crate::{
    config::{config, counted},
    cpu, input,
};

/// The most steps of one cell, and the most visits in one of them.
const STEPS: usize = 12;
const VISITS: usize = 3;
/// The most values of a tensor.
const MOST: usize = 150;

/// Checks our devices, and the policies that decide where no device does.
pub fn check(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    match first % 4 {
        0 => input::run(rest, model::check_whole_model),
        1 => input::run(rest, model::check_operands),
        2 => check_on(&mut Portable, rest),
        _ => check_on(&mut cpu(), rest),
    }
}

/// Checks that the scaler of a device certifies, takes note and ends steps as a search over scales and a simulation say.
pub fn check_on<D: Memory + HasScaler>(device: &mut D, bytes: &[u8]) {
    input::run(bytes, |u| {
        let config = counted(config(u, Capabilities::ALL)?);
        let mut cell = config.cell();
        let mut simulated = Simulated::new(&config);
        let mut scaler = OnDevice::new(device, config);
        for _ in 0..u.int_in_range(1..=STEPS)? {
            for _ in 0..u.int_in_range(0..=VISITS)? {
                let values = input::values(u, config.narrowing().format, MOST)?;
                let incoming = input::scale(u)?;
                let visit = Visit::of(&config, &values, incoming);
                let trigger = due(&config, &cell);
                assert_eq!(trigger, simulated.due(&config), "{config:?}");
                // A caller of core may ask early, and is told when it is due.
                if trigger.is_none() && u.ratio(1, 4)? {
                    let (mut early, mut apart) = (cell, simulated.clone());
                    let certificate = certify(&config, &visit.histogram, cell.scale(), &mut early);
                    apart.certifies(&config, &visit, &certificate, cell.scale());
                    apart.check(&config, &early);
                }
                let made = scaler.visit(device, &visit);
                cell = made.cell;
                assert_eq!(made.is_measured, simulated.measures(&config), "{config:?}");
                simulated.notes(&config, &visit, made.stored);
                assert_eq!(made.visit.certificate.is_some(), made.is_measured, "{config:?}");
                if let Some(certificate) = &made.visit.certificate {
                    simulated.certifies(&config, &visit, certificate, made.visit.outgoing);
                }
                simulated.check(&config, &cell);
            }
            cell = scaler.finish(device);
            simulated.finishes(&config, &cell);
        }
        Ok(())
    });
}

/// One visit of a tensor, as the definition knows it.
struct Visit {
    /// The finite values that are not zero.
    tensor: Tensor,
    histogram: Histogram,
    elements: u64,
    nonfinite: u64,
    max_abs: f32,
}

impl Visit {
    fn of(config: &Config, values: &[f32], incoming: Scale) -> Self {
        let finite = || values.iter().copied().filter(|x| x.is_finite());
        let mut histogram = Histogram::new(config.narrowing());
        histogram.observe(values, incoming);
        Self {
            tensor: Tensor { values: finite().filter(|x| *x != 0.0).collect(), incoming },
            histogram,
            elements: values.len() as u64,
            nonfinite: (values.len() - finite().count()) as u64,
            max_abs: finite().map(f32::abs).fold(0.0, f32::max),
        }
    }

    fn nonzero(&self) -> u64 {
        self.tensor.values.len() as u64
    }

    /// What narrowing at a scale does, but for subnormals, which no policy asks about.
    fn outcome(&self, config: &Config, scale: Scale) -> Outcome {
        let (underflow, overflow) = counts(config.narrowing(), &self.tensor, scale.log2());
        Outcome {
            elements: self.elements,
            nonfinite: self.nonfinite,
            zero: self.elements - self.nonfinite - self.nonzero(),
            underflow,
            overflow,
            max_bits: self.max_abs.to_bits(),
            ..Outcome::EMPTY
        }
    }

    /// The greatest exponent, legal or not, at which nothing overflows.
    fn ceiling(&self, config: &Config) -> i32 {
        let narrowing = config.narrowing();
        let limits = Limits::of(narrowing.format.encoding);
        let incoming = self.tensor.incoming.log2();
        let overflows = |k: i32| limits.overflows(narrowing, product(self.max_abs, k - incoming));
        (-300..=500).rev().find(|&k| !overflows(k)).expect("so small a scale lets nothing overflow")
    }
}
