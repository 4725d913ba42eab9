//! Every entry point once, on one block, beside what the portable device makes of the same operands.

mod convolutions;
mod decisions;
mod images;
mod layers;

use std::fmt::Debug;

use adaloss_core::{
    format::{E4M3, E5M2, Element, Narrowing, Noise, bf16, f16},
    policy::Cell,
    propagate::Scaled,
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::{Unscaled, unscale},
};
use adaloss_gpu::{Cuda, Gradient, Into, Sgd, Weight};
use adaloss_hal::{
    AddressSpace, Branch, Epilogue, HasMatmul, HasNarrow, Matmul, Memory, Mut, Narrow, Plain,
    Product, Propagate, Run, Summarise, Unscale, network, portable::Portable,
};
use serde_json::{Value, json};

use decisions::{advanced, closed, concluded, described, judged};

/// The update that is tried and timed.
pub const SGD: Sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4 };

/// What entry points are called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Elements of a tensor.
    pub elements: usize,
    /// The binary logarithm of the scale that values of 2^-19 to 2^4 are narrowed at.
    pub to_log2: i32,
    /// Rows, terms and columns of a product, more than 64.
    pub product: [usize; 3],
}

impl Sizes {
    /// What one block takes: some chunks of elements, and some that are in none; a product of one tile, of which no
    /// side is a multiple of anything; in E4M3 some overflow.
    pub const ONE_BLOCK: Self = Self { elements: 1003, to_log2: 9, product: [45, 70, 97] };
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
    multiplied_with_f32::<f16>(row, device, "f16", product)?;
    multiplied_with_f32::<bf16>(row, device, "bf16", product)?;
    multiplied_with_f32::<E5M2>(row, device, "e5m2", product)?;
    multiplied_with_f32::<E4M3>(row, device, "e4m3", product)?;
    multiplied_with_f32::<f32>(row, device, "f32", product)?;
    multiplied_as::<E5M2, f16>(row, device, "e5m2_f16", product)?;
    multiplied_as::<E5M2, bf16>(row, device, "e5m2_bf16", product)?;
    multiplied_as::<E4M3, f16>(row, device, "e4m3_f16", product)?;
    multiplied_as::<E4M3, bf16>(row, device, "e4m3_bf16", product)?;
    products::<f16>(row, device, "f16", product)?;
    products::<bf16>(row, device, "bf16", product)?;
    convolutions::run::<f16>(row, device, "f16", product)?;
    convolutions::run::<bf16>(row, device, "bf16", product)?;
    parts(row, device, elements)?;
    row("adaloss_advance", &mut || compare(advanced(device)?, advanced(&mut Portable)?))?;
    row("adaloss_describe", &mut || compare(described(device)?, described(&mut Portable)?))?;
    row("adaloss_close", &mut || compare(closed(device)?, closed(&mut Portable)?))?;
    row("adaloss_judge", &mut || compare(judged(device)?, judged(&mut Portable)?))?;
    row("adaloss_conclude", &mut || compare(concluded(device)?, concluded(&mut Portable)?))?;
    layers::run(device, elements, row)?;
    images::run(device, elements, row)
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

/// Runs the product of an element type and f32, which tensor cores have none of.
fn multiplied_with_f32<F: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    [rows, inner, columns]: [usize; 3],
) -> anyhow::Result<()>
where
    Portable: HasMatmul<F, f32, F>,
{
    let product = Product::new(rows, inner, columns);
    row(&format!("adaloss_multiply_{name}"), &mut || {
        compare(
            multiplied::<F, f32, F, _>(device, product)?,
            multiplied::<F, f32, F, _>(&mut Portable, product)?,
        )
    })
}

/// Runs what makes factors of elements of 8 bits, with a product that needs them.
fn multiplied_as<F: Element + Plain, E: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    [rows, inner, columns]: [usize; 3],
) -> anyhow::Result<()> {
    let product = Product::new(rows, inner, columns);
    row(&format!("adaloss_factors_{name}"), &mut || {
        compare(
            multiplied::<F, E, f32, _>(device, product)?,
            multiplied::<F, E, f32, _>(&mut Portable, product)?,
        )
    })
}

/// Returns a product of half the columns, and of 64 at most, whose tiles are half as wide.
fn slim([rows, inner, columns]: [usize; 3]) -> [usize; 3] {
    [rows, inner, (columns / 2).min(64)]
}

/// Runs the products of one element type on tensor cores.
fn products<E: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    product: [usize; 3],
) -> anyhow::Result<()>
where
    Cuda: HasMatmul<E, E, E> + HasMatmul<E, E, f32>,
    Portable: HasMatmul<E, E, E> + HasMatmul<E, E, f32>,
{
    for (width, [rows, inner, columns]) in [("", product), ("slim_", slim(product))] {
        for stored in ["nn", "nt", "tn", "tt"] {
            let mut product = Product::new(rows, inner, columns);
            product.transpose_a = stored.starts_with('t');
            product.transpose_b = stored.ends_with('t');
            row(&format!("adaloss_matmul_{width}{stored}_{name}"), &mut || {
                compare(
                    multiplied::<E, E, E, _>(device, product)?,
                    multiplied::<E, E, E, _>(&mut Portable, product)?,
                )
            })?;
            row(&format!("adaloss_matmul_{width}{stored}_{name}_f32"), &mut || {
                compare(
                    multiplied::<E, E, f32, _>(device, product)?,
                    multiplied::<E, E, f32, _>(&mut Portable, product)?,
                )
            })?;
        }
    }
    Ok(())
}

/// Terms of sums that are cut into two parts.
const TERMS_OF_PARTS: usize = 2048;

/// Runs the entry points that add up parts of products, each with so many results; of a tile, where there is one block.
fn parts(row: &mut Row<'_>, device: &mut Cuda, count: usize) -> anyhow::Result<()> {
    let columns = if count.is_multiple_of(128) { 128 } else { 59 };
    let product = Product::new(count / columns, TERMS_OF_PARTS, columns);
    row("adaloss_add_parts_f16", &mut || {
        compare(
            multiplied::<f16, f16, f16, _>(device, product)?,
            multiplied::<f16, f16, f16, _>(&mut Portable, product)?,
        )
    })?;
    row("adaloss_add_parts_bf16", &mut || {
        compare(
            multiplied::<bf16, bf16, bf16, _>(device, product)?,
            multiplied::<bf16, bf16, bf16, _>(&mut Portable, product)?,
        )
    })?;
    row("adaloss_add_parts_f32", &mut || {
        compare(
            multiplied::<f16, f16, f32, _>(device, product)?,
            multiplied::<f16, f16, f32, _>(&mut Portable, product)?,
        )
    })
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

/// Reads elements back, and nothing else.
fn elements_of<F: Element + Plain, D: Memory>(
    device: &mut D,
    buffer: &D::Buffer<F>,
) -> anyhow::Result<Readout> {
    Ok(vec![("elements", bits(&take(device, buffer, F::from_bits(0))?))])
}

fn widened<F: Element + Plain>(device: &mut Cuda, count: usize) -> anyhow::Result<Readout> {
    let from = put(device, &elements::<F>(1, count))?;
    let mut to = device.zeroed::<f32>(count)?;
    device.widen(from.view(), to.view_mut())?;
    elements_of(device, &to)
}

fn widened_by_core<F: Element>(count: usize) -> Readout {
    let wide: Vec<_> = elements::<F>(1, count).into_iter().map(Element::widen).collect();
    vec![("elements", bits(&wide))]
}

fn narrowed<F: Element + Plain>(device: &mut Cuda, count: usize) -> anyhow::Result<Readout> {
    let from = put(device, &values(1, count))?;
    let mut to = device.zeroed::<F>(count)?;
    device.narrow(from.view(), to.view_mut(), narrowing::<F>(), Noise::default())?;
    elements_of(device, &to)
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

fn integers<F: Element>(stream: u32, count: usize) -> Vec<F> {
    let noise = Noise { seed: 12, stream };
    let integer = |index| (noise.word(index) % 7) as f32 - 3.0;
    (0..count as u32).map(|index| F::narrow(integer(index), narrowing::<F>(), 0, 0)).collect()
}

/// Small integers, whose sums are exact in any order.
fn multiplied<A, B, F, D>(device: &mut D, product: Product) -> anyhow::Result<Readout>
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
    D: Memory + HasMatmul<A, B, F>,
{
    let [left, right, result] = product.lengths();
    let (a, b) = (put(device, &integers::<A>(1, left))?, put(device, &integers::<B>(2, right))?);
    end::<F, _>(device, result, 1, |device, mut to, mut epilogue| {
        let (to, epilogue) = (D::Space::reborrow_mut(&mut to), epilogue.reborrow());
        device.run(Matmul { product, a: D::view(&a), b: D::view(&b), bias: None, to, epilogue })
    })
}
