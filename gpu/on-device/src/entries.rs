//! Every entry point once, on one block, beside what the portable device makes of the same operands.

use std::fmt::Debug;

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, bf16, f16},
    policy::{self, Amax, Cell, Certificate, Config, Policy},
    propagate::Scaled,
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::{Unscaled, unscale},
};
use adaloss_gpu::{Cuda, Gradient, Into, Weight};
use adaloss_hal::{
    AddressSpace, Branch, Certify, Epilogue, Finish, HasDecide, HasMatmul, HasNarrow, Matmul,
    Memory, Mut, Narrow, Note, Plain, Product, Propagate, Run, Summarise, Unscale, network,
    portable::Portable,
};
use serde_json::{Value, json};

use crate::{rows::Rows, setup::SGD};

/// Elements of a tensor, which one block takes: some chunks, and some that are in none.
const ELEMENTS: usize = 1003;

/// What an operation left behind, as text, by the names of its results.
type Readout = Vec<(&'static str, String)>;

/// Runs every entry point.
pub(crate) fn run(rows: &mut Rows, device: &mut Cuda) -> anyhow::Result<()> {
    of_elements::<f16>(rows, device, "f16")?;
    of_elements::<bf16>(rows, device, "bf16")?;
    of_elements::<E5M2>(rows, device, "e5m2")?;
    of_elements::<E4M3>(rows, device, "e4m3")?;
    of_elements::<f32>(rows, device, "f32")?;
    products::<f16>(rows, device, "f16")?;
    products::<bf16>(rows, device, "bf16")?;
    rows.row("adaloss_certify", || compare(certified(device)?, certified(&mut Portable)?))?;
    rows.row("adaloss_note", || compare(noted(device)?, noted(&mut Portable)?))?;
    rows.row("adaloss_finish", || compare(finished(device)?, finished(&mut Portable)?))
}

/// Runs the entry points of one element type.
fn of_elements<F: Element + Plain>(
    rows: &mut Rows,
    device: &mut Cuda,
    name: &str,
) -> anyhow::Result<()>
where
    Portable: HasNarrow<F>,
{
    let entry = |kernel: &str| format!("adaloss_{kernel}_{name}");
    rows.row(&entry("widen"), || compare(widened::<F>(device)?, widened_by_core::<F>()))?;
    rows.row(&entry("narrow"), || compare(narrowed::<F>(device)?, narrowed_by_core::<F>()))?;
    rows.row(&entry("statistics"), || {
        compare(statistics::<F, _>(device)?, statistics::<F, _>(&mut Portable)?)
    })?;
    rows.row(&entry("apply"), || {
        compare(applied::<F, _>(device)?, applied::<F, _>(&mut Portable)?)
    })?;
    rows.row(&entry("propagate"), || {
        compare(joined::<F, _>(device)?, joined::<F, _>(&mut Portable)?)
    })?;
    rows.row(&entry("unscale_one"), || {
        compare(unscaled::<F, _>(device)?, unscaled::<F, _>(&mut Portable)?)
    })?;
    rows.row(&entry("unscale"), || compare(all_unscaled::<F>(device)?, unscaled_by_core::<F>()?))?;
    rows.row(&entry("sgd"), || compare(updated::<F>(device)?, updated_by_core::<F>()?))
}

/// Runs the products of one element type.
fn products<E: Element + Plain>(
    rows: &mut Rows,
    device: &mut Cuda,
    name: &str,
) -> anyhow::Result<()>
where
    Cuda: HasMatmul<E, E, E> + HasMatmul<E, E, f32>,
    Portable: HasMatmul<E, E, E> + HasMatmul<E, E, f32>,
{
    for stored in ["nn", "nt", "tn", "tt"] {
        // Not a multiple of anything, and of one tile.
        let mut product = Product::new(45, 70, 33);
        product.transpose_a = stored.starts_with('t');
        product.transpose_b = stored.ends_with('t');
        rows.row(&format!("adaloss_matmul_{stored}_{name}"), || {
            compare(
                multiplied::<E, E, _>(device, product)?,
                multiplied::<E, E, _>(&mut Portable, product)?,
            )
        })?;
        rows.row(&format!("adaloss_matmul_{stored}_{name}_f32"), || {
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
fn elements<F: Element>(stream: u32) -> Vec<F> {
    values(stream, ELEMENTS).into_iter().map(|x| F::narrow(x, narrowing::<F>(), 2, 0)).collect()
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

fn widened<F: Element + Plain>(device: &mut Cuda) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(1))?;
    let mut to = device.zeroed::<f32>(ELEMENTS)?;
    device.widen(from.view(), to.view_mut())?;
    Ok(vec![("elements", bits(&take(device, &to, 0.0)?))])
}

fn widened_by_core<F: Element>() -> Readout {
    let wide: Vec<_> = elements::<F>(1).into_iter().map(Element::widen).collect();
    vec![("elements", bits(&wide))]
}

fn narrowed<F: Element + Plain>(device: &mut Cuda) -> anyhow::Result<Readout> {
    let from = put(device, &values(1, ELEMENTS))?;
    let mut to = device.zeroed::<F>(ELEMENTS)?;
    device.narrow(from.view(), to.view_mut(), narrowing::<F>(), Noise::default())?;
    Ok(vec![("elements", bits(&take(device, &to, F::from_bits(0))?))])
}

fn narrowed_by_core<F: Element>() -> Readout {
    let narrowed: Vec<_> =
        values(1, ELEMENTS).into_iter().map(|x| F::narrow(x, narrowing::<F>(), 0, 0)).collect();
    vec![("elements", bits(&narrowed))]
}

fn statistics<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(2))?;
    let mut to = put(device, &[Statistics::EMPTY])?;
    let summarise = Summarise::<D::Space, F> { input: D::view(&from), to: D::view_mut(&mut to) };
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
) -> anyhow::Result<Readout> {
    let from = put(device, &values(3, ELEMENTS))?;
    end::<F, _>(device, ELEMENTS, 9, |device, to, epilogue| {
        device.run(Narrow::<_, F> { input: D::view(&from), to, epilogue })
    })
}

fn joined<F: Element + Plain, D: Memory + HasNarrow<F>>(device: &mut D) -> anyhow::Result<Readout> {
    let branches = [put(device, &elements::<F>(4))?, put(device, &elements::<F>(5))?];
    let cells =
        [put(device, &[Cell::at(Scale::new(3)?)])?, put(device, &[Cell::at(Scale::new(5)?)])?];
    end::<F, _>(device, ELEMENTS, 4, |device, to, epilogue| {
        let branch =
            |nth: usize| Branch { gradient: D::view(&branches[nth]), cell: D::view(&cells[nth]) };
        let branches = &[branch(0), branch(1)];
        device.run(Propagate::<_, F> { branches, to, epilogue })
    })
}

fn unscaled<F: Element + Plain, D: Memory + HasNarrow<F>>(
    device: &mut D,
) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(6))?;
    let cell = put(device, &[Cell::at(Scale::new(7)?)])?;
    let mut to = device.zeroed::<f32>(ELEMENTS).map_err(failed)?;
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

fn all_unscaled<F: Element + Plain>(device: &mut Cuda) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(6))?;
    let cell = put(device, &[Cell::at(Scale::new(7)?)])?;
    let mut to = device.zeroed::<f32>(ELEMENTS)?;
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

fn unscaled_by_core<F: Element>() -> anyhow::Result<Readout> {
    let (from, mut to) = (elements::<F>(6), vec![0.0; ELEMENTS]);
    let scaled = Scaled::new(&from[..], Scale::new(7)?);
    let met = unscale(F::ENCODING.into(), scaled, &mut to)?;
    Ok(vec![
        ("elements", bits(&to)),
        ("counts", format!("{:?}", [met])),
        ("not finite", format!("{:?}", [met.nonfinite])),
    ])
}

fn updated<F: Element + Plain>(device: &mut Cuda) -> anyhow::Result<Readout> {
    let gradient = put(device, &elements::<F>(6))?;
    let cell = put(device, &[Cell::at(Scale::new(2)?)])?;
    let (mut weight, mut momentum) =
        (put(device, &values(7, ELEMENTS))?, put(device, &values(8, ELEMENTS))?);
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
    device.sgd(&table, named!(), SGD, bad.view(), steps.view_mut())?;
    Ok(vec![
        ("weights", bits(&take(device, &weight, 0.0)?)),
        ("momenta", bits(&take(device, &momentum, 0.0)?)),
        ("steps", format!("{:?}", take(device, &steps, 0)?)),
    ])
}

fn updated_by_core<F: Element>() -> anyhow::Result<Readout> {
    let mut gradient = vec![0.0; ELEMENTS];
    let scaled = elements::<F>(6);
    unscale(F::ENCODING.into(), Scaled::new(&scaled[..], Scale::new(2)?), &mut gradient)?;
    let (mut weight, mut momentum) = (values(7, ELEMENTS), values(8, ELEMENTS));
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

fn certified<D: Memory + HasDecide>(device: &mut D) -> anyhow::Result<Readout> {
    let config = Config::for_format(Format::BINARY16);
    let mut histogram = Histogram::new(config.narrowing());
    values(9, ELEMENTS).into_iter().for_each(|x| histogram.observe_one(x * 1.0e-6, Scale::ONE));
    let seen = put(device, &[histogram])?;
    let mut cell = put(device, &[Cell::at(Scale::new(30)?)])?;
    let mut certificate = device.zeroed::<Certificate>(1).map_err(failed)?;
    let certify = Certify::<D::Space> {
        config: &config,
        histogram: D::view(&seen),
        cell: D::view_mut(&mut cell),
        certificate: D::view_mut(&mut certificate),
    };
    device.run(certify).map_err(failed)?;
    let certificate = take(device, &certificate, Certificate::zeroed())?;
    Ok(vec![
        ("cell", format!("{:?}", take(device, &cell, Cell::new())?)),
        ("certificate", format!("{certificate:?}")),
    ])
}

/// An outcome with overflow.
fn overflowed(largest: f32) -> Outcome {
    Outcome { elements: 1000, overflow: 3, max_bits: largest.to_bits(), ..Outcome::EMPTY }
}

fn noted<D: Memory + HasDecide>(device: &mut D) -> anyhow::Result<Readout> {
    let config = Config::for_format(Format::BINARY16);
    let outcome = put(device, &[overflowed(3.0e7)])?;
    let from = put(device, &[Cell::new()])?;
    let mut cell = put(device, &[Cell::at(Scale::new(10)?)])?;
    let mut after = Vec::new();
    // The first visit chooses a scale, the second one overflows.
    for _ in 0..2 {
        let note = Note::<D::Space> {
            config: &config,
            outcome: D::view(&outcome),
            from: D::view(&from),
            cell: D::view_mut(&mut cell),
        };
        device.run(note).map_err(failed)?;
        after.extend(take(device, &cell, Cell::new())?);
    }
    Ok(vec![("cell", format!("{after:?}"))])
}

/// Ends a step of cells that have up to twenty steps behind them, under either policy that remembers steps.
fn finished<D: Memory + HasDecide>(device: &mut D) -> anyhow::Result<Readout> {
    let measured = Config::for_format(Format::BINARY16);
    let amax = measured.with_policy(Policy::Amax(Amax { window: 16, margin: 1 }));
    let mut after = Vec::new();
    for config in [measured, amax.map_err(failed)?] {
        let before = |(nth, largest): (usize, f32)| {
            let mut cell = config.cell();
            for step in 0..=nth % 20 {
                let largest = if step % 3 == 0 { largest.abs() } else { 1.0e-3 };
                let _ = policy::note(&config, &overflowed(largest), Scale::ONE, &mut cell);
                if step < nth % 20 {
                    policy::finish(&config, &mut cell);
                }
            }
            cell
        };
        let cells: Vec<_> = values(10, 200).into_iter().enumerate().map(before).collect();
        let mut cells = put(device, &cells)?;
        let finish = Finish::<D::Space> { config: &config, cells: D::view_mut(&mut cells) };
        device.run(finish).map_err(failed)?;
        after.push(("cells", format!("{:?}", take(device, &cells, Cell::new())?)));
    }
    Ok(after)
}
