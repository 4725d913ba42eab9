//! The entry points of normalisation, pooling, dropout, embedding, convolution and attention, beside the portable device.

use adaloss_core::{
    format::{E4M3, E5M2, Element, Noise, bf16, f16},
    policy::Fraction,
};
use adaloss_gpu::Cuda;
use adaloss_hal::{
    Memory, Plain,
    network::{
        Attend, AttendInput, Attention, AveragePool, Axis, Convolution, Convolve, ConvolveInput,
        ConvolveWeight, Dropout, Embed, EmbedTable, HasAttend, HasConvolve, HasDropout, HasEmbed,
        HasNormalise, HasPool, Mask, MaxPool, MaxPoolInput, Moments, Normalisation, Normalise,
        NormaliseInput, NormaliseSums, Pick, Pooling, Unpool,
    },
    portable::Portable,
};

use super::{Readout, Row, bits, compare, elements, elements_of, end, failed, put, take, values};

/// Channels of images, columns of a normalisation, and features of an embedding and of heads.
const CHANNELS: usize = 8;

/// Channels and filters of a convolution, as narrow layers of networks have.
const FILTERS: usize = 32;

/// Runs the entry points, over so many elements.
pub(super) fn run(device: &mut Cuda, count: usize, row: &mut Row<'_>) -> anyhow::Result<()> {
    of_elements::<f16>(row, device, "f16", count)?;
    of_elements::<bf16>(row, device, "bf16", count)?;
    of_elements::<E5M2>(row, device, "e5m2", count)?;
    of_elements::<E4M3>(row, device, "e4m3", count)?;
    of_elements::<f32>(row, device, "f32", count)?;
    row("adaloss_attend_totals", &mut || {
        compare(attended::<f16, _>(device, count)?, attended::<f16, _>(&mut Portable, count)?)
    })?;
    // One operation by two launches, as the next.
    for entry in ["adaloss_moments", "adaloss_moments_of_parts"] {
        row(entry, &mut || {
            compare(moments::<f16, _>(device, count)?, moments::<f16, _>(&mut Portable, count)?)
        })?;
    }
    for entry in ["adaloss_normalise_sums", "adaloss_sums_of_parts"] {
        row(entry, &mut || {
            compare(sums::<f16, _>(device, count)?, sums::<f16, _>(&mut Portable, count)?)
        })?;
    }
    // Again.
    for entry in ["adaloss_embed_links", "adaloss_embed_table"] {
        row(entry, &mut || {
            compare(table::<f16, _>(device, count)?, table::<f16, _>(&mut Portable, count)?)
        })?;
    }
    Ok(())
}

/// Runs the entry points of one element type.
fn of_elements<F: Element + Plain>(
    row: &mut Row<'_>,
    device: &mut Cuda,
    name: &str,
    count: usize,
) -> anyhow::Result<()> {
    macro_rules! rows {
        ($($kernel:literal $of:ident,)*) => {
            $(row(&format!("adaloss_{}_{name}", $kernel), &mut || {
                compare($of::<F, _>(device, count)?, $of::<F, _>(&mut Portable, count)?)
            })?;)*
        };
    }
    rows! {
        "dropout" dropped,
        "embed" embedded,
        "normalise" normalised,
        "normalise_input" normalised_back,
        "max_pool" max_pooled,
        "unpool" unpooled,
        "pick" picked,
        "pool" pooled,
        "convolve" convolved,
        "attend" attended,
        "attend_input" attended_back,
    }
    Ok(())
}

fn dropped<F: Element + Plain, D: Memory + HasDropout<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let input = put(device, &elements::<F>(31, count))?;
    let mask = Mask { share: Fraction::from_bits(1 << 30), noise: Noise { seed: 5, stream: 6 } };
    end::<F, _>(device, count, 1, |device, to, epilogue| {
        device.run(Dropout { mask, input: D::view(&input), to, epilogue })
    })
}

/// Tokens, of which some are beyond a table of 32 rows.
fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|nth| nth * 7 % 35).collect()
}

fn embedded<F: Element + Plain, D: Memory + HasEmbed<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let (rows, width) = (count / CHANNELS, CHANNELS);
    let (tokens, table) =
        (put(device, &tokens(rows))?, put(device, &elements::<F>(32, 32 * width))?);
    let mut to = device.zeroed::<F>(rows * width).map_err(failed)?;
    let (tokens, table) = (D::view(&tokens), D::view(&table));
    device.run(Embed { width, tokens, table, to: D::view_mut(&mut to) }).map_err(failed)?;
    elements_of(device, &to)
}

fn table<F: Element + Plain, D: Memory + HasEmbed<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let (width, rows) = (CHANNELS, 40);
    let tokens = put(device, &tokens(rows))?;
    let gradient = put(device, &elements::<F>(33, rows * width))?;
    let mut to = device.zeroed::<f32>(count / width * width).map_err(failed)?;
    let (tokens, gradient) = (D::view(&tokens), D::view(&gradient));
    device.run(EmbedTable { width, tokens, gradient, to: D::view_mut(&mut to) }).map_err(failed)?;
    elements_of(device, &to)
}

/// Columns of a normalisation that takes means over them.
const WIDTH: usize = 256;

/// Few columns with many rows, whose sums have several parts; or rows as long as those of a small transformer.
fn normalisation(count: usize, axis: Axis) -> Normalisation {
    let columns = match axis {
        Axis::Rows => CHANNELS,
        Axis::Columns => WIDTH,
    };
    Normalisation { rows: count.div_ceil(columns), columns, axis, centred: true, epsilon: 1.0e-5 }
}

fn moments<F: Element + Plain, D: Memory + HasNormalise<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let normalisation = normalisation(count, Axis::Rows);
    let input = put(device, &elements::<F>(34, normalisation.elements()))?;
    let mut to = device.zeroed::<f32>(normalisation.moments()).map_err(failed)?;
    let (input, moments) = (D::view(&input), D::view_mut(&mut to));
    device.run(Moments { normalisation, input, to: moments }).map_err(failed)?;
    elements_of(device, &to)
}

fn sums<F: Element + Plain, D: Memory + HasNormalise<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let normalisation = normalisation(count, Axis::Rows);
    let input = put(device, &elements::<F>(34, normalisation.elements()))?;
    let gradient = put(device, &elements::<F>(35, normalisation.elements()))?;
    let of_groups = put(device, &positive(36, normalisation.moments()))?;
    let mut to = device.zeroed::<f32>(normalisation.affine()).map_err(failed)?;
    let operation = NormaliseSums {
        normalisation,
        gradient: D::view(&gradient),
        input: D::view(&input),
        moments: D::view(&of_groups),
        to: D::view_mut(&mut to),
    };
    device.run(operation).map_err(failed)?;
    elements_of(device, &to)
}

fn positive(stream: u32, count: usize) -> Vec<f32> {
    values(stream, count).into_iter().map(f32::abs).collect()
}

fn normalised<F: Element + Plain, D: Memory + HasNormalise<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let normalisation = normalisation(count, Axis::Columns);
    let input = put(device, &elements::<F>(34, normalisation.elements()))?;
    let of_groups = put(device, &positive(36, normalisation.moments()))?;
    let affine = put(device, &values(37, normalisation.affine()))?;
    end::<F, _>(device, normalisation.elements(), 1, |device, to, epilogue| {
        let (input, moments) = (D::view(&input), D::view(&of_groups));
        let affine = D::view(&affine);
        device.run(Normalise { normalisation, input, moments, affine, to, epilogue })
    })
}

fn normalised_back<F: Element + Plain, D: Memory + HasNormalise<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let normalisation = normalisation(count, Axis::Columns);
    let input = put(device, &elements::<F>(34, normalisation.elements()))?;
    let gradient = put(device, &elements::<F>(35, normalisation.elements()))?;
    let of_groups = put(device, &positive(36, normalisation.moments()))?;
    let affine = put(device, &values(37, normalisation.affine()))?;
    let of_columns = put(device, &values(38, normalisation.affine()))?;
    end::<F, _>(device, normalisation.elements(), 1, |device, to, epilogue| {
        device.run(NormaliseInput {
            normalisation,
            gradient: D::view(&gradient),
            input: D::view(&input),
            moments: D::view(&of_groups),
            affine: D::view(&affine),
            sums: D::view(&of_columns),
            to,
            epilogue,
        })
    })
}

/// Images of one row of pixels, and of as many elements as there is room for; windows of two pixels.
fn pooling(count: usize) -> Pooling {
    Pooling::new(1, [1, count / CHANNELS], CHANNELS, [1, 2])
}

/// Where the windows of a pooling take their elements, and so elsewhere in an image of half the elements.
fn positions(output: usize) -> Vec<u32> {
    (0..output / CHANNELS * CHANNELS)
        .map(|index| (index / CHANNELS * 2 + index % 2) as u32)
        .collect()
}

fn max_pooled<F: Element + Plain, D: Memory + HasPool<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let pooling = pooling(count);
    let [input_count, output] = pooling.lengths();
    let input = put(device, &elements::<F>(39, input_count))?;
    let mut to = device.zeroed::<F>(output).map_err(failed)?;
    let mut indices = device.zeroed::<u32>(output).map_err(failed)?;
    let (to_mut, indices_mut) = (D::view_mut(&mut to), D::view_mut(&mut indices));
    let input = D::view(&input);
    device.run(MaxPool { pooling, input, to: to_mut, indices: indices_mut }).map_err(failed)?;
    Ok(vec![
        ("elements", bits(&take(device, &to, F::from_bits(0))?)),
        ("indices", format!("{:?}", take(device, &indices, 0)?)),
    ])
}

fn unpooled<F: Element + Plain, D: Memory + HasPool<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let pooling = pooling(count);
    let [input_count, output] = pooling.lengths();
    let input = put(device, &elements::<F>(39, output))?;
    let indices = put(device, &positions(output))?;
    let mut to = put(device, &elements::<F>(40, input_count))?;
    let (input, indices, to_mut) = (D::view(&input), D::view(&indices), D::view_mut(&mut to));
    device.run(Unpool { pooling, input, indices, to: to_mut }).map_err(failed)?;
    elements_of(device, &to)
}

fn picked<F: Element + Plain, D: Memory + HasPool<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let pooling = pooling(count);
    let [input_count, output] = pooling.lengths();
    let input = put(device, &elements::<F>(39, input_count))?;
    let indices = put(device, &positions(output))?;
    let mut to = device.zeroed::<F>(output).map_err(failed)?;
    let (input, indices, to_mut) = (D::view(&input), D::view(&indices), D::view_mut(&mut to));
    device.run(Pick { pooling, input, indices, to: to_mut }).map_err(failed)?;
    elements_of(device, &to)
}

/// Means of windows, and the way back of maxima.
fn pooled<F: Element + Plain, D: Memory + HasPool<F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let pooling = pooling(count);
    let [input_count, output] = pooling.lengths();
    let input = put(device, &elements::<F>(39, input_count))?;
    let gradient = put(device, &elements::<F>(41, output))?;
    let indices = put(device, &positions(output))?;
    let mut found = end::<F, _>(device, output, 1, |device, to, epilogue| {
        device.run(AveragePool { pooling, input: D::view(&input), to, epilogue })
    })?;
    found.extend(end::<F, _>(device, input_count, 1, |device, to, epilogue| {
        let (gradient, indices) = (D::view(&gradient), D::view(&indices));
        device.run(MaxPoolInput { pooling, gradient, indices, to, epilogue })
    })?);
    Ok(found)
}

/// Windows of three pixels, in all directions, with an operand of f32, which tensor cores have none of: of the weight there are few sums
/// of many terms.
fn convolved<F: Element + Plain, D: Memory + HasConvolve<F, f32, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let convolution =
        Convolution::new(1, [1, count / FILTERS], FILTERS, FILTERS, [1, 3]).padding([0, 1]);
    let [input_count, weight_count, output] = convolution.lengths();
    let input = put(device, &elements::<F>(42, input_count))?;
    let wide = put(device, &elements::<f32>(42, input_count))?;
    let weight = put(device, &elements::<f32>(43, weight_count))?;
    let gradient = put(device, &elements::<F>(44, output))?;
    let (weight, gradient) = (D::view(&weight), D::view(&gradient));
    let mut found = end::<F, _>(device, output, -3, |device, to, epilogue| {
        device.run(Convolve {
            convolution,
            input: D::view(&input),
            weight,
            bias: None,
            to,
            epilogue,
        })
    })?;
    found.extend(end::<F, _>(device, input_count, -3, |device, to, epilogue| {
        device.run(ConvolveInput { convolution, gradient, weight, to, epilogue })
    })?);
    found.extend(end::<F, _>(device, weight_count, -7, |device, to, epilogue| {
        device.run(ConvolveWeight { convolution, gradient, input: D::view(&wide), to, epilogue })
    })?);
    Ok(found)
}

/// Sequences of two tiles of tokens, as many as there is room for; or one of a token more than a tile has.
fn attention(count: usize) -> Attention {
    let (tokens, heads, width) = if count < 1 << 14 { (33, 2, 5) } else { (64, 2, 32) };
    Attention { batch: count / (3 * tokens * heads * width), tokens, heads, width }
}

fn attended<F: Element + Plain, D: Memory + HasAttend<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let attention = attention(count);
    let [input_count, output] = attention.lengths();
    let input = put(device, &elements::<F>(45, input_count))?;
    end::<F, _>(device, output, 1, |device, to, epilogue| {
        device.run(Attend { attention, input: D::view(&input), to, epilogue })
    })
}

fn attended_back<F: Element + Plain, D: Memory + HasAttend<F, F>>(
    device: &mut D,
    count: usize,
) -> anyhow::Result<Readout> {
    let attention = attention(count);
    let [input_count, output] = attention.lengths();
    let input = put(device, &elements::<F>(45, input_count))?;
    let gradient = put(device, &elements::<F>(46, output))?;
    end::<F, _>(device, input_count, 1, |device, to, epilogue| {
        let (gradient, input) = (D::view(&gradient), D::view(&input));
        device.run(AttendInput { attention, gradient, input, to, epilogue })
    })
}
