//! The entry points of a scaler: what each leaves of its state.

use adaloss_core::{
    format::Format,
    policy::{Amax, Cell, Config, Normal, Policy, Range},
    scale::Scale,
    scaler::{
        Purpose,
        device::{Asked, DeviceState, Line, Opening},
    },
    statistics::{Histogram, Outcome, Statistics},
    unscale::{LossSum, Place, Unscaled},
};
use adaloss_hal::{
    Device, Memory, Mut, Run,
    scaler::{
        Advance, Close, Conclude, Describe, Described, DeviceScaler, Ended, Ending, Evidence,
        HasScaler, Judge,
    },
};

use super::{Readout, failed, put, take, values};

/// Elements of a visit.
const VISITED: u64 = 1000;

/// The scaler of an entry point, on a device.
struct Scaler<D: Memory> {
    config: Config,
    state: D::Buffer<DeviceState>,
    cells: D::Buffer<Cell>,
    outcome: D::Buffer<Outcome>,
    histogram: D::Buffer<Histogram>,
    /// Operations so far.
    nth: u64,
}

/// A scaler on the host, after so many passes of a visit.
struct Host {
    config: Config,
    state: DeviceState,
    cells: [Cell; 4],
    outcome: Outcome,
    histogram: Histogram,
}

/// What a visit of a layer's gradient asks for at its first pass, and then.
fn asks() -> [Asked; 3] {
    let opening = Some(Opening { place: Place::Layer(2), elements: VISITED, stream: 7 });
    [
        Asked { opening, purpose: Some(Purpose::Measure) },
        Asked { opening: None, purpose: Some(Purpose::Store) },
        Asked { opening: None, purpose: Some(Purpose::Replay) },
    ]
}

/// What a pass counts: with overflow.
fn overflowed() -> Outcome {
    let max_bits = 3.0e7_f32.to_bits();
    Outcome { elements: VISITED, overflow: 3, max_bits, ..Outcome::EMPTY }
}

impl Host {
    fn new(config: Config) -> Self {
        let mut histogram = Histogram::new(config.narrowing());
        let observe = |x: f32| histogram.observe_one(x * 1.0e-6, Scale::ONE);
        values(9, VISITED as usize).into_iter().for_each(observe);
        let (state, cells) = (DeviceState::new(&config), [Cell::new(); 4]);
        Self { config, state, cells, outcome: Outcome::EMPTY, histogram }
    }

    /// Makes the passes of a visit.
    fn visited(config: Config) -> Self {
        let mut this = Self::new(config);
        let measured = this.histogram;
        for asked in asks() {
            let Self { config, state, cells, outcome, histogram } = &mut this;
            let _ = state.advance(config, cells, &asked, [Scale::ONE], outcome, histogram);
            (*outcome, *histogram) = (overflowed(), measured);
        }
        // The replay has none.
        this.outcome.overflow = 0;
        this
    }

    /// Ends the visit, too.
    fn closed(config: Config) -> Self {
        let mut this = Self::visited(config);
        let Self { config, state, cells, outcome, histogram } = &mut this;
        let _ = state.close(config, cells, [], outcome, histogram, (1, &mut Line::EMPTY.clone()));
        this
    }

    fn put<D: Memory>(self, device: &mut D) -> anyhow::Result<Scaler<D>> {
        let Self { config, state, cells, outcome, histogram } = self;
        Ok(Scaler {
            config,
            state: put(device, &[state])?,
            cells: put(device, &cells)?,
            outcome: put(device, &[outcome])?,
            histogram: put(device, &[histogram])?,
            nth: 0,
        })
    }
}

impl<D: Memory + HasScaler> Scaler<D> {
    /// Names the scaler for its next operation, and what its passes count and measure.
    #[allow(clippy::type_complexity, reason = "three operands of an operation")]
    fn named(
        &mut self,
    ) -> (DeviceScaler<'_, '_, D::Space>, Mut<'_, D, Outcome>, Mut<'_, D, Histogram>) {
        let Self { config, state, cells, outcome, histogram, nth } = self;
        *nth += 1;
        let (state, cells) = (D::view_mut(state), D::view_mut(cells));
        let scaler = DeviceScaler { config, state, cells, nth: *nth };
        (scaler, D::view_mut(outcome), D::view_mut(histogram))
    }

    fn left(&self, device: &mut D) -> anyhow::Result<Readout> {
        let Self { config, state, cells, outcome, histogram, .. } = self;
        let empty = Histogram::new(config.narrowing());
        Ok(vec![
            ("state", format!("{:?}", take(device, state, DeviceState::new(config))?)),
            ("cells", format!("{:?}", take(device, cells, Cell::new())?)),
            ("outcome", format!("{:?}", take(device, outcome, Outcome::EMPTY)?)),
            ("histogram", format!("{:?}", take(device, histogram, empty)?)),
        ])
    }
}

fn measured() -> Config {
    Config::for_format(Format::BINARY16)
}

pub(super) fn advanced<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
    let host = Host::new(measured());
    let measured = host.histogram;
    let mut scaler = host.put(device)?;
    let source = put(device, &[Cell::at(Scale::new(3)?)])?;
    let (mut from, mut to) = (put(device, &[Cell::new()])?, put(device, &[Cell::new()])?);
    let (mut when, mut after) = (put(device, &[7_u32])?, Vec::new());
    let mut line = put(device, &[Line::EMPTY])?;
    // Behind the passes of a visit comes another, which brings its end along.
    let [first, ..] = asks();
    let asked = asks().into_iter().map(|asked| (asked, false)).chain([(first, true)]);
    for (asked, ends) in asked {
        let source = [D::view(&source)];
        let (named, outcome, histogram) = scaler.named();
        let origins = [Some(Place::Layer(3)), None, Some(Place::Loss), None];
        let ending = ends.then(|| Ending { origins, serial: 41, line: D::view_mut(&mut line) });
        let advance = Advance::<D::Space> {
            ending,
            asked,
            sources: if asked.opening.is_some() { &source } else { &[] },
            scaler: named,
            outcome,
            histogram,
            from: D::view_mut(&mut from),
            to: D::view_mut(&mut to),
            when: D::view_mut(&mut when),
        };
        device.run(advance).map_err(failed)?;
        after.extend(scaler.left(device)?);
        let scales = [take(device, &from, Cell::new())?, take(device, &to, Cell::new())?];
        after.push(("scales", format!("{scales:?}")));
        after.push(("whether to make the pass", format!("{:?}", take(device, &when, 0)?)));
        after.push(("line", format!("{:?}", take(device, &line, Line::EMPTY)?)));
        device.write(&[overflowed()], D::view_mut(&mut scaler.outcome)).map_err(failed)?;
        device.write(&[measured], D::view_mut(&mut scaler.histogram)).map_err(failed)?;
    }
    Ok(after)
}

/// Describes a product and a cast to either policy that decides from operands.
pub(super) fn described<D>(device: &mut D) -> anyhow::Result<Readout>
where
    D: Memory + HasScaler,
    D: for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>,
{
    let of = |stream, scale: f32| {
        let values: Vec<_> = values(stream, 100).into_iter().map(|x| scale * x).collect();
        Statistics::of(&values)
    };
    let gradient = put(device, &[of(9, 1.0e-6)])?;
    let weight = put(device, &[of(10, 0.1)])?;
    let normal = Normal::new(Format::BINARY16, 0.001).map_err(failed)?;
    let policies = [Policy::Normal(normal), Policy::Range(Range::new(Format::BINARY16))];
    let opening = Some(Opening { place: Place::Layer(2), elements: VISITED, stream: 7 });
    let mut after = Vec::new();
    for (policy, is_product) in policies.into_iter().flat_map(|of| [(of, false), (of, true)]) {
        let mut host = Host::new(measured().with_policy(policy).map_err(failed)?);
        let Host { config, state, cells, outcome, histogram } = &mut host;
        let asked = Asked { opening, purpose: None };
        let _ = state.advance(config, cells, &asked, [Scale::ONE], outcome, histogram);
        let mut scaler = host.put(device)?;
        let (gradient, weight) = (D::view(&gradient), D::view(&weight));
        let described = match is_product {
            true => Described::Product { gradient, weight, fan_in: 50 },
            false => Described::Cast(gradient),
        };
        let (scaler_of, ..) = scaler.named();
        device.run(Describe::<D::Space> { described, scaler: scaler_of }).map_err(failed)?;
        after.extend(scaler.left(device)?);
    }
    Ok(after)
}

pub(super) fn closed<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
    let mut scaler = Host::visited(measured()).put(device)?;
    let (mut scale, mut line) = (put(device, &[Cell::new()])?, put(device, &[Line::EMPTY])?);
    let Scaler { config, state, cells, outcome, histogram, .. } = &mut scaler;
    let (state, cells) = (D::view_mut(state), D::view_mut(cells));
    let close = Close::<D::Space> {
        origins: &[Some(Place::Layer(3)), None, Some(Place::Loss)],
        scaler: DeviceScaler { config, state, cells, nth: 1 },
        outcome: D::view_mut(outcome),
        histogram: D::view(histogram),
        scale: D::view_mut(&mut scale),
        serial: 41,
        line: D::view_mut(&mut line),
    };
    device.run(close).map_err(failed)?;
    let mut after = scaler.left(device)?;
    after.push(("scale", format!("{:?}", take(device, &scale, Cell::new())?)));
    after.push(("line", format!("{:?}", take(device, &line, Line::EMPTY)?)));
    Ok(after)
}

/// Shows a scaler each kind of evidence, alone and in a list: what is fine, and then a weight that is not.
pub(super) fn judged<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
    let mut scaler = Host::visited(measured()).put(device)?;
    let other = put(device, &[DeviceState::new(&measured())])?;
    let bad = Outcome { nonfinite: 1, ..overflowed() };
    let mut outcome = put(device, &[bad])?;
    let mut counts = put(device, &[Unscaled { elements: VISITED, nonfinite: 0, tiny: 5 }])?;
    let sum = put(device, &[LossSum { loss: 1.5, weight: 2.0, rows: 3, correct: 1 }])?;
    let (squares, weight_squares) = (put(device, &[2.25_f64])?, put(device, &[3.5_f64])?);
    let weight = put(device, &[bad])?;
    let (mut line, mut after) = (put(device, &[Line::EMPTY])?, Vec::new());
    let mut last_line = put(device, &[Line::EMPTY])?;
    let (elements, origin) = (VISITED, Some(Place::Layer(2)));
    for nth in 0..7 {
        let other = (nth % 2 == 0).then(|| D::view(&other));
        {
            let squares = Evidence::Squares { id: 5, is_gradient: true, sum: D::view(&squares) };
            let weight_squares = Evidence::WeightSquares { id: 6, sum: D::view(&weight_squares) };
            let loss = Evidence::Loss {
                rows: 3,
                sum: D::view(&sum),
                serial: 42 + nth,
                line: D::view_mut(&mut line),
            };
            let taken = D::view_mut(&mut counts);
            let unscaled = Evidence::Unscaled { id: 3, origin, elements, counts: taken };
            let taken = D::view_mut(&mut outcome);
            let gradient = Evidence::Gradient { id: 4, origin, elements, outcome: taken };
            let weight = D::view(&weight);
            let weight = Evidence::Weight { id: 7, elements, saturates: false, outcome: weight };
            let evidence = &mut match nth {
                0 => vec![squares],
                1 => vec![weight_squares],
                2 => vec![loss],
                3 => vec![unscaled],
                4 => vec![gradient],
                5 => vec![squares, weight_squares, gradient, loss, unscaled],
                _ => vec![weight],
            };
            let Scaler { config, state, cells, outcome, histogram, .. } = &mut scaler;
            let (state, cells) = (D::view_mut(state), D::view_mut(cells));
            let named = DeviceScaler { config, state, cells, nth: nth + 1 };
            // The visit ends with the first.
            let ended = (nth == 0).then(|| Ended {
                ending: Ending {
                    origins: [Some(Place::Layer(3)), None, Some(Place::Loss), None],
                    serial: 41,
                    line: D::view_mut(&mut last_line),
                },
                outcome: D::view_mut(outcome),
                histogram: D::view(histogram),
            });
            let judge = Judge::<D::Space> { ended, evidence, scaler: named, other };
            device.run(judge).map_err(failed)?;
        }
        after.extend(scaler.left(device)?);
        after.push(("line", format!("{:?}", take(device, &line, Line::EMPTY)?)));
        after.push(("last line", format!("{:?}", take(device, &last_line, Line::EMPTY)?)));
        after.push(("counts", format!("{:?}", take(device, &counts, Unscaled::default())?)));
        after.push(("outcome", format!("{:?}", take(device, &outcome, Outcome::EMPTY)?)));
    }
    Ok(after)
}

/// Ends steps, under either policy that remembers steps, as another scaler allows it or not.
pub(super) fn concluded<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
    let amax = measured().with_policy(Policy::Amax(Amax { window: 16, margin: 1 }));
    let mut after = Vec::new();
    for (config, allows) in [(measured(), None), (amax.map_err(failed)?, Some([0_u32]))] {
        let mut scaler = Host::closed(config).put(device)?;
        let requires = allows.map(|word| put(device, &word)).transpose()?;
        let (mut applies, mut updates) = (put(device, &[7_u32])?, put(device, &[7_u32])?);
        let (mut norm, mut line) = (put(device, &[0.5_f64])?, put(device, &[Line::EMPTY])?);
        let (named, ..) = scaler.named();
        let conclude = Conclude::<D::Space> {
            scaler: named,
            requires: requires.as_ref().map(D::view),
            applies: D::view_mut(&mut applies),
            updates: D::view_mut(&mut updates),
            square_norm: D::view_mut(&mut norm),
            serial: 43,
            line: D::view_mut(&mut line),
        };
        device.run(conclude).map_err(failed)?;
        after.extend(scaler.left(device)?);
        after.push(("whether it applies", format!("{:?}", take(device, &applies, 0)?)));
        after.push(("updates", format!("{:?}", take(device, &updates, 0)?)));
        after.push(("squares", format!("{:?}", take(device, &norm, 0.0)?)));
        after.push(("line", format!("{:?}", take(device, &line, Line::EMPTY)?)));
    }
    Ok(after)
}
