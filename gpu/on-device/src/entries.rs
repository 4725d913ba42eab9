//! Every entry point once, on one block, beside what the portable device makes of the same operands.

use std::fmt::Debug;

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, bf16, f16},
    policy::{Amax, Cell, Config, Policy},
    propagate::Scaled,
    scale::Scale,
    scaler::{
        Purpose,
        device::{Asked, DeviceState, Line, Opening},
    },
    statistics::{Histogram, Outcome, Statistics},
    unscale::{LossSum, Place, Unscaled, unscale},
};
use adaloss_gpu::{Cuda, Gradient, Into, Sgd, Weight};
use adaloss_hal::{
    AddressSpace, Branch, Epilogue, HasMatmul, HasNarrow, Matmul, Memory, Mut, Narrow, Plain,
    Product, Propagate, Run, Summarise, Unscale, network,
    portable::Portable,
    scaler::{Advance, Close, Conclude, DeviceScaler, Evidence, HasScaler, Judge},
};
use serde_json::{Value, json};

/// The update that is tried and timed.
pub const SGD: Sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4 };

/// What entry points are called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Elements of a tensor.
    pub elements: usize,
    /// The binary logarithm of the scale that values of 2^-19 to 2^4 are narrowed at.
    pub to_log2: i32,
    /// Rows, terms and columns of a product.
    pub product: [usize; 3],
}

impl Sizes {
    /// What one block takes: some chunks of elements, and some that are in none; a product of one tile, of which no
    /// side is a multiple of anything; in E4M3 some overflow.
    pub const ONE_BLOCK: Self = Self { elements: 1003, to_log2: 9, product: [45, 70, 33] };
}

/// What is done with an entry point, by its name: the work says what differs, if anything.
pub type Row<'r> =
    dyn FnMut(&str, &mut dyn FnMut() -> anyhow::Result<Value>) -> anyhow::Result<()> + 'r;

/// What an operation left behind, as text, by the names of its results.
type Readout = Vec<(&'static str, String)>;

/// Runs every entry point.
///
/// # Errors
///
/// Those of `row`.
pub fn run(device: &mut Cuda, sizes: Sizes, row: &mut Row<'_>) -> anyhow::Result<()> {
    let Sizes { elements, to_log2, product } = sizes;
    let of = (elements, to_log2);
    of_elements::<f16>(row, device, "f16", of)?;
    of_elements::<bf16>(row, device, "bf16", of)?;
    of_elements::<E5M2>(row, device, "e5m2", of)?;
    of_elements::<E4M3>(row, device, "e4m3", of)?;
    of_elements::<f32>(row, device, "f32", of)?;
    products::<f16>(row, device, "f16", product)?;
    products::<bf16>(row, device, "bf16", product)?;
    row("adaloss_advance", &mut || compare(advanced(device)?, advanced(&mut Portable)?))?;
    row("adaloss_close", &mut || compare(closed(device)?, closed(&mut Portable)?))?;
    row("adaloss_judge", &mut || compare(judged(device)?, judged(&mut Portable)?))?;
    row("adaloss_conclude", &mut || compare(concluded(device)?, concluded(&mut Portable)?))
}

/// Runs the entry points of one element type.
fn of_elements<F: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    (count, to_log2): (usize, i32),
) -> anyhow::Result<()>
where
    Portable: HasNarrow<F>,
{
    let entry = |kernel: &str| format!("adaloss_{kernel}_{name}");
    row(&entry("widen"), &mut || {
        compare(widened::<F>(device, count)?, widened_by_core::<F>(count))
    })?;
    row(&entry("narrow"), &mut || {
        compare(narrowed::<F>(device, count)?, narrowed_by_core::<F>(count))
    })?;
    row(&entry("statistics"), &mut || {
        compare(statistics::<F, _>(device, count)?, statistics::<F, _>(&mut Portable, count)?)
    })?;
    row(&entry("apply"), &mut || {
        compare(
            applied::<F, _>(device, count, to_log2)?,
            applied::<F, _>(&mut Portable, count, to_log2)?,
        )
    })?;
    row(&entry("propagate"), &mut || {
        compare(joined::<F, _>(device, count)?, joined::<F, _>(&mut Portable, count)?)
    })?;
    row(&entry("unscale_one"), &mut || {
        compare(unscaled::<F, _>(device, count)?, unscaled::<F, _>(&mut Portable, count)?)
    })?;
    row(&entry("unscale"), &mut || {
        compare(all_unscaled::<F>(device, count)?, unscaled_by_core::<F>(count)?)
    })?;
    row(&entry("sgd"), &mut || compare(updated::<F>(device, count)?, updated_by_core::<F>(count)?))
}

/// Runs the products of one element type.
fn products<E: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    [rows, inner, columns]: [usize; 3],
) -> anyhow::Result<()>
where
    Cuda: HasMatmul<E, E, E> + HasMatmul<E, E, f32>,
    Portable: HasMatmul<E, E, E> + HasMatmul<E, E, f32>,
{
    for stored in ["nn", "nt", "tn", "tt"] {
        let mut product = Product::new(rows, inner, columns);
        product.transpose_a = stored.starts_with('t');
        product.transpose_b = stored.ends_with('t');
        row(&format!("adaloss_matmul_{stored}_{name}"), &mut || {
            compare(
                multiplied::<E, E, _>(device, product)?,
                multiplied::<E, E, _>(&mut Portable, product)?,
            )
        })?;
        row(&format!("adaloss_matmul_{stored}_{name}_f32"), &mut || {
            compare(
                multiplied::<E, f32, _>(device, product)?,
                multiplied::<E, f32, _>(&mut Portable, product)?,
            )
        })?;
    }
    Ok(())
}

/// Says what differs, if anything.
fn compare(found: Readout, expected: Readout) -> anyhow::Result<Value> {
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        if found != expected {
            let at =
                found.bytes().zip(expected.bytes()).take_while(|(one, other)| one == other).count();
            let around = |text: &str| -> String {
                text.chars().skip(at.saturating_sub(20)).take(60).collect()
            };
            let (found, expected) = (around(found), around(expected));
            return Ok(
                json!({ "difference": format!("{name}: ...{found}... and not ...{expected}...") }),
            );
        }
    }
    Ok(Value::Null)
}

/// Numbers of either sign over some twenty binades.
fn values(stream: u32, count: usize) -> Vec<f32> {
    let noise = Noise { seed: 11, stream };
    let value = |index| {
        let word = noise.word(index);
        let exponent = 108 + (word >> 23 & 0xf) + (word >> 27 & 0x7);
        f32::from_bits(word & 0x807f_ffff | exponent << 23)
    };
    (0..count as u32).map(value).collect()
}

fn narrowing<F: Element>() -> Narrowing {
    Narrowing::to(F::ENCODING.into())
}

/// Elements of a type, all of them numbers: the sign of a NaN that comes out of arithmetic may be any.
fn elements<F: Element>(stream: u32, count: usize) -> Vec<F> {
    values(stream, count).into_iter().map(|x| F::narrow(x, narrowing::<F>(), 2, 0)).collect()
}

fn put<T: Plain, D: Memory>(device: &mut D, values: &[T]) -> anyhow::Result<D::Buffer<T>> {
    let mut buffer = device.zeroed(values.len()).map_err(failed)?;
    device.write(values, D::view_mut(&mut buffer)).map_err(failed)?;
    Ok(buffer)
}

fn take<T: Plain, D: Memory>(
    device: &mut D,
    buffer: &D::Buffer<T>,
    like: T,
) -> anyhow::Result<Vec<T>> {
    let mut values = vec![like; D::Space::len(D::view(buffer))];
    device.read(D::view(buffer), &mut values).map_err(failed)?;
    Ok(values)
}

fn failed(error: impl Debug) -> anyhow::Error {
    anyhow::anyhow!("{error:?}")
}

/// Elements as their bits, which tell zeros apart.
fn bits<F: Element>(elements: &[F]) -> String {
    format!("{:x?}", elements.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
}

fn widened<F: Element + Plain>(device: &mut Cuda, count: usize) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(1, count))?;
    let mut to = device.zeroed::<f32>(count)?;
    device.widen(from.view(), to.view_mut())?;
    Ok(vec![("elements", bits(&take(device, &to, 0.0)?))])
}

fn widened_by_core<F: Element>(count: usize) -> Readout {
    let wide: Vec<_> = elements::<F>(1, count).into_iter().map(Element::widen).collect();
    vec![("elements", bits(&wide))]
}

fn narrowed<F: Element + Plain>(device: &mut Cuda, count: usize) -> anyhow::Result<Readout> {
    let from = put(device, &values(1, count))?;
    let mut to = device.zeroed::<F>(count)?;
    device.narrow(from.view(), to.view_mut(), narrowing::<F>(), Noise::default())?;
    Ok(vec![("elements", bits(&take(device, &to, F::from_bits(0))?))])
}

fn narrowed_by_core<F: Element>(count: usize) -> Readout {
    let narrowed: Vec<_> =
        values(1, count).into_iter().map(|x| F::narrow(x, narrowing::<F>(), 0, 0)).collect();
    vec![("elements", bits(&narrowed))]
}

fn statistics<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(2, count))?;
    let mut to = put(device, &[Statistics::EMPTY])?;
    let summarise =
        Summarise::<D::Space, F> { input: D::view(&from), to: D::view_mut(&mut to), when: None };
    device.run(summarise).map_err(failed)?;
    Ok(vec![("statistics", format!("{:?}", take(device, &to, Statistics::EMPTY)?))])
}

/// Ends an operation in an epilogue, which stores and measures.
fn end<F: Element + Plain, D: Memory>(
    device: &mut D,
    count: usize,
    to_log2: i32,
    operation: impl for<'w> FnOnce(
        &mut D,
        Mut<'w, D, F>,
        Epilogue<'w, D::Space>,
    ) -> Result<(), D::Error>,
) -> anyhow::Result<Readout> {
    let cells = put(device, &[Cell::new(), Cell::at(Scale::new(to_log2)?)])?;
    let mut to = device.zeroed::<F>(count).map_err(failed)?;
    let mut outcome = put(device, &[Outcome::EMPTY])?;
    let empty = Histogram::new(narrowing::<F>());
    let mut histogram = put(device, &[empty])?;
    let cell = |nth: usize| D::Space::part(D::view(&cells), nth..nth + 1).expect("two cells");
    let epilogue = Epilogue {
        from: cell(0),
        to: cell(1),
        narrowing: narrowing::<F>(),
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: D::view_mut(&mut outcome),
        histogram: Some(D::view_mut(&mut histogram)),
    };
    operation(device, D::view_mut(&mut to), epilogue).map_err(failed)?;
    Ok(vec![
        ("elements", bits(&take(device, &to, F::from_bits(0))?)),
        ("outcome", format!("{:?}", take(device, &outcome, Outcome::EMPTY)?)),
        ("histogram", format!("{:?}", take(device, &histogram, empty)?)),
    ])
}

fn applied<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
    count: usize,
    to_log2: i32,
) -> anyhow::Result<Readout> {
    let from = put(device, &values(3, count))?;
    end::<F, _>(device, count, to_log2, |device, to, epilogue| {
        device.run(Narrow::<_, F> { input: D::view(&from), to, epilogue })
    })
}

fn joined<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let branches = [put(device, &elements::<F>(4, count))?, put(device, &elements::<F>(5, count))?];
    let cells =
        [put(device, &[Cell::at(Scale::new(3)?)])?, put(device, &[Cell::at(Scale::new(5)?)])?];
    end::<F, _>(device, count, 4, |device, to, epilogue| {
        let branch =
            |nth: usize| Branch { gradient: D::view(&branches[nth]), cell: D::view(&cells[nth]) };
        let branches = &[branch(0), branch(1)];
        device.run(Propagate::<_, F> { branches, to, epilogue })
    })
}

fn unscaled<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(6, count))?;
    let cell = put(device, &[Cell::at(Scale::new(7)?)])?;
    let mut to = device.zeroed::<f32>(count).map_err(failed)?;
    let mut met = put(device, &[Unscaled::default()])?;
    let unscale = Unscale::<D::Space, F> {
        gradient: D::view(&from),
        cell: D::view(&cell),
        to: D::view_mut(&mut to),
        counts: D::view_mut(&mut met),
    };
    device.run(unscale).map_err(failed)?;
    Ok(vec![
        ("elements", bits(&take(device, &to, 0.0)?)),
        ("counts", format!("{:?}", take(device, &met, Unscaled::default())?)),
    ])
}

fn all_unscaled<F: Element + Plain>(device: &mut Cuda, count: usize) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(6, count))?;
    let cell = put(device, &[Cell::at(Scale::new(7)?)])?;
    let mut to = device.zeroed::<f32>(count)?;
    let (mut met, mut bad) = (put(device, &[Unscaled::default()])?, device.zeroed::<u64>(1)?);
    // Named anew for each use.
    macro_rules! named {
        () => {
            [Gradient {
                from: from.view(),
                cell: cell.view(),
                to: Some(to.view_mut()),
                met: met.view_mut(),
            }]
        };
    }
    let table = device.gradients(named!())?;
    device.unscale_all(&table, named!(), Into::Place, bad.view_mut())?;
    Ok(vec![
        ("elements", bits(&take(device, &to, 0.0)?)),
        ("counts", format!("{:?}", take(device, &met, Unscaled::default())?)),
        ("not finite", format!("{:?}", take(device, &bad, 0)?)),
    ])
}

fn unscaled_by_core<F: Element>(count: usize) -> anyhow::Result<Readout> {
    let (from, mut to) = (elements::<F>(6, count), vec![0.0; count]);
    let scaled = Scaled::new(&from[..], Scale::new(7)?);
    let met = unscale(F::ENCODING.into(), scaled, &mut to)?;
    Ok(vec![
        ("elements", bits(&to)),
        ("counts", format!("{:?}", [met])),
        ("not finite", format!("{:?}", [met.nonfinite])),
    ])
}

fn updated<F: Element + Plain>(device: &mut Cuda, count: usize) -> anyhow::Result<Readout> {
    let gradient = put(device, &elements::<F>(6, count))?;
    let cell = put(device, &[Cell::at(Scale::new(2)?)])?;
    let (mut weight, mut momentum) =
        (put(device, &values(7, count))?, put(device, &values(8, count))?);
    let (bad, mut steps) = (device.zeroed::<u64>(1)?, put(device, &[41_u64])?);
    macro_rules! named {
        () => {
            [Weight {
                gradient: gradient.view(),
                cell: cell.view(),
                weight: weight.view_mut(),
                momentum: momentum.view_mut(),
            }]
        };
    }
    let table = device.weights(named!())?;
    device.sgd(&table, named!(), SGD, bad.view(), None, steps.view_mut())?;
    Ok(vec![
        ("weights", bits(&take(device, &weight, 0.0)?)),
        ("momenta", bits(&take(device, &momentum, 0.0)?)),
        ("steps", format!("{:?}", take(device, &steps, 0)?)),
    ])
}

fn updated_by_core<F: Element>(count: usize) -> anyhow::Result<Readout> {
    let mut gradient = vec![0.0; count];
    let scaled = elements::<F>(6, count);
    unscale(F::ENCODING.into(), Scaled::new(&scaled[..], Scale::new(2)?), &mut gradient)?;
    let (mut weight, mut momentum) = (values(7, count), values(8, count));
    let sgd = network::Sgd {
        learning_rate: SGD.learning_rate,
        momentum: SGD.momentum,
        weight_decay: SGD.weight_decay,
        max_norm: None,
    };
    let step = network::SgdStep {
        sgd,
        gradient: &gradient[..],
        square_norm: &[1.0][..],
        weight: &mut weight[..],
        momentum: &mut momentum[..],
        when: None,
    };
    Portable.run(step).map_err(failed)?;
    Ok(vec![
        ("weights", bits(&weight)),
        ("momenta", bits(&momentum)),
        ("steps", format!("{:?}", [42_u64])),
    ])
}

/// Small integers, whose sums are exact in any order.
fn multiplied<E, F, D>(device: &mut D, product: Product) -> anyhow::Result<Readout>
where
    E: Element + Plain,
    F: Element + Plain,
    D: Memory + HasMatmul<E, E, F>,
{
    let [left, right, result] = product.lengths();
    let integers = |stream, count: usize| -> Vec<E> {
        let noise = Noise { seed: 12, stream };
        let integer = |index| (noise.word(index) % 7) as f32 - 3.0;
        (0..count as u32).map(|index| E::narrow(integer(index), narrowing::<E>(), 0, 0)).collect()
    };
    let (a, b) = (put(device, &integers(1, left))?, put(device, &integers(2, right))?);
    end::<F, _>(device, result, 1, |device, mut to, mut epilogue| {
        let (to, epilogue) = (D::Space::reborrow_mut(&mut to), epilogue.reborrow());
        device.run(Matmul { product, a: D::view(&a), b: D::view(&b), to, epilogue })
    })
}

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

fn advanced<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
    let host = Host::new(measured());
    let measured = host.histogram;
    let mut scaler = host.put(device)?;
    let source = put(device, &[Cell::at(Scale::new(3)?)])?;
    let (mut from, mut to) = (put(device, &[Cell::new()])?, put(device, &[Cell::new()])?);
    let (mut when, mut after) = (put(device, &[7_u32])?, Vec::new());
    for asked in asks() {
        let source = [D::view(&source)];
        let (named, outcome, histogram) = scaler.named();
        let advance = Advance::<D::Space> {
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
        device.write(&[overflowed()], D::view_mut(&mut scaler.outcome)).map_err(failed)?;
        device.write(&[measured], D::view_mut(&mut scaler.histogram)).map_err(failed)?;
    }
    Ok(after)
}

fn closed<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
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

/// Shows a scaler each kind of evidence: what is fine, and then a weight that is not.
fn judged<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
    let mut scaler = Host::closed(measured()).put(device)?;
    let other = put(device, &[DeviceState::new(&measured())])?;
    let bad = Outcome { nonfinite: 1, ..overflowed() };
    let mut outcome = put(device, &[bad])?;
    let mut counts = put(device, &[Unscaled { elements: VISITED, nonfinite: 0, tiny: 5 }])?;
    let sum = put(device, &[LossSum { loss: 1.5, weight: 2.0, rows: 3, correct: 1 }])?;
    let (squares, weight) = (put(device, &[2.25_f64])?, put(device, &[bad])?);
    let (mut line, mut after) = (put(device, &[Line::EMPTY])?, Vec::new());
    let (elements, origin) = (VISITED, Some(Place::Layer(2)));
    for nth in 0..6 {
        let evidence = match nth {
            0 => Evidence::Squares { id: 5, is_gradient: true, sum: D::view(&squares) },
            1 => Evidence::WeightSquares { id: 6, sum: D::view(&squares) },
            2 => {
                let (sum, line) = (D::view(&sum), D::view_mut(&mut line));
                Evidence::Loss { rows: 3, sum, serial: 42, line }
            }
            3 => {
                let counts = D::view_mut(&mut counts);
                Evidence::Unscaled { id: 3, origin, elements, counts }
            }
            4 => {
                let outcome = D::view_mut(&mut outcome);
                Evidence::Gradient { id: 4, origin, elements, outcome }
            }
            _ => {
                let outcome = D::view(&weight);
                Evidence::Weight { id: 7, elements, saturates: false, outcome }
            }
        };
        let (named, ..) = scaler.named();
        let other = (nth % 2 == 0).then(|| D::view(&other));
        device.run(Judge::<D::Space> { evidence, scaler: named, other }).map_err(failed)?;
        after.extend(scaler.left(device)?);
        after.push(("line", format!("{:?}", take(device, &line, Line::EMPTY)?)));
        after.push(("counts", format!("{:?}", take(device, &counts, Unscaled::default())?)));
        after.push(("outcome", format!("{:?}", take(device, &outcome, Outcome::EMPTY)?)));
    }
    Ok(after)
}

/// Ends steps, under either policy that remembers steps, as another scaler allows it or not.
fn concluded<D: Memory + HasScaler>(device: &mut D) -> anyhow::Result<Readout> {
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
