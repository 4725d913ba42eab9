//! The room `policy`: evidence by search, scales and triggers by simulation, on a device.

mod model;
mod simulated;

use adaloss_core::{
    policy::{Cell, Certificate, Config, due},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{
    Capabilities, Certify, Finish, HasDecide, Memory, Note, Plain, portable::Portable,
};
use adaloss_oracle::{
    Limits, product,
    search::{Tensor, counts},
};

use self::simulated::Simulated;
use crate::{
    config::{config, counted},
    cpu,
    device::{download, succeeds, upload},
    input,
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

/// Checks that a device certifies, takes note and ends steps as a search over scales and a simulation say.
pub fn check_on<D: Memory + HasDecide>(device: &mut D, bytes: &[u8]) {
    input::run(bytes, |u| {
        let config = counted(config(u, Capabilities::ALL)?);
        let mut cell = config.cell();
        let mut simulated = Simulated::new(&config);
        for _ in 0..u.int_in_range(1..=STEPS)? {
            for _ in 0..u.int_in_range(0..=VISITS)? {
                let values = input::values(u, config.narrowing().format, MOST)?;
                let incoming = input::scale(u)?;
                let visit = Visit::of(&config, &values, incoming);
                let trigger = due(&config, &cell);
                assert_eq!(trigger, simulated.due(&config), "{config:?}");
                // A caller may ask early, and is told when it is due.
                if trigger.is_some() || u.ratio(1, 4)? {
                    let certificate = certify_on(device, &config, &visit, &mut cell);
                    simulated.certifies(&config, &visit, &certificate, &cell);
                }
                note_on(device, &config, &visit, &mut cell);
                simulated.notes(&config, &visit, &cell);
            }
            finish_on(device, &config, &mut cell);
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

fn certify_on<D: Memory + HasDecide>(
    device: &mut D,
    config: &Config,
    visit: &Visit,
    cell: &mut Cell,
) -> Certificate {
    let histogram = upload(device, &[visit.histogram]);
    let mut on_device = upload(device, &[*cell]);
    let mut certificate = upload(device, &[Certificate::zeroed()]);
    succeeds(device.run(Certify::<D::Space> {
        config,
        histogram: D::view(&histogram),
        cell: D::view_mut(&mut on_device),
        certificate: D::view_mut(&mut certificate),
    }));
    *cell = download(device, D::view(&on_device))[0];
    download(device, D::view(&certificate))[0]
}

fn note_on<D: Memory + HasDecide>(device: &mut D, config: &Config, visit: &Visit, cell: &mut Cell) {
    let outcome = upload(device, &[visit.outcome(config, cell.scale())]);
    let from = upload(device, &[Cell::at(visit.tensor.incoming)]);
    let mut on_device = upload(device, &[*cell]);
    succeeds(device.run(Note::<D::Space> {
        config,
        outcome: D::view(&outcome),
        from: D::view(&from),
        cell: D::view_mut(&mut on_device),
    }));
    *cell = download(device, D::view(&on_device))[0];
}

fn finish_on<D: Memory + HasDecide>(device: &mut D, config: &Config, cell: &mut Cell) {
    let mut on_device = upload(device, &[*cell]);
    succeeds(device.run(Finish::<D::Space> { config, cells: D::view_mut(&mut on_device) }));
    *cell = download(device, D::view(&on_device))[0];
}
