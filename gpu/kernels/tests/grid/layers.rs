//! Normalisation, pooling, dropout, embedding, convolution and attention on the simulated grid.

use std::ptr::null;

use adaloss_conformance::{self as conformance, Failure};
use adaloss_core::format::{E4M3, E5M2, Element, Encoding, Format, Narrowing, Noise, bf16, f16};
use adaloss_hal::{
    Device, Epilogue, Fitting, HostError, HostSpace, Plain, Run,
    network::{
        Attend, AttendInput, AveragePool, AveragePoolInput, Axis, Convolve, ConvolveInput,
        ConvolveWeight, Dropout, Embed, EmbedTable, HasEmbed, HasNormalise, MaxPool, MaxPoolInput,
        Moments, Normalisation, Normalise, NormaliseInput, NormaliseSums, Pick, Unpool,
    },
    portable::Portable,
};
use adaloss_kernels::{
    block::Factor,
    memory::Out,
    network::{
        attend,
        columns::{Columns, ROOM},
        convolve::{self, Direction},
        dropout,
        embed::{self, LINKED},
        implicit::{self, Implicit},
        normalise,
        operand::Operand,
        pool::{self, Sum},
        sliding::Sliding,
    },
};

use crate::device::{Simulated, named};

impl<E: Element + Plain> Run<Dropout<'_, '_, HostSpace, E>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Dropout<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Dropout { mask, input, to, epilogue } = operation.into_inner();
        let (below, gain, noise) = (mask.share.bits(), mask.gain(), mask.noise);
        let mask = dropout::Mask { below, gain, noise };
        let (input, to, epilogue) = (*input, Out::of(to), named(epilogue.reborrow()));
        // SAFETY: everything named is borrowed, and has its length: the operation fits. So in all of this file.
        self.grid().launch(|block| unsafe { dropout::dropout(block, mask, input, to, &epilogue) });
        Ok(())
    }
}

impl<W: Element + Plain> Run<Embed<'_, '_, HostSpace, W>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Embed<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Embed { width, tokens, table, to } = operation.into_inner();
        let (width, tokens, table, to) = (*width, *tokens, *table, Out::of(to));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { embed::embed(block, width, tokens, table, to) });
        Ok(())
    }
}

impl<G: Element + Plain> Run<EmbedTable<'_, '_, HostSpace, G>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, EmbedTable<'_, '_, HostSpace, G>>,
    ) -> Result<(), HostError> {
        let EmbedTable { width, tokens, gradient, to } = operation.into_inner();
        let (width, tokens, gradient) = (*width, *tokens, Operand::new(gradient.as_ptr()));
        to.fill(0.0);
        let (to, mut links) = (Out::of(to), vec![u32::MAX; LINKED]);
        let first_link = links.as_mut_ptr();
        for first in (0..tokens.len()).step_by(LINKED) {
            let linked = &tokens[first..tokens.len().min(first + LINKED)];
            // SAFETY: as above, and there is a link for each.
            unsafe {
                let links = Out::new(first_link, linked.len());
                self.grid().launch(|block| embed::embed_links(block, linked, links));
                self.grid().launch(|block| {
                    embed::embed_table(block, width, (tokens, first), first_link, gradient, to);
                });
            }
        }
        Ok(())
    }
}

/// Names what is normalised as kernels do.
fn normalised<W: Element>(of: Normalisation, input: &[W]) -> normalise::Normalisation {
    normalise::Normalisation {
        rows: of.rows,
        columns: of.columns,
        over_rows: of.axis == Axis::Rows,
        centred: of.centred,
        epsilon: of.epsilon,
        input: Operand::new(input.as_ptr()),
    }
}

fn extents(of: Normalisation) -> Columns {
    Columns { rows: of.rows, columns: of.columns }
}

fn forward<W: Element>(of: Normalisation, input: &[W], moments: &[f32]) -> normalise::Forward {
    normalise::Forward { of: normalised(of, input), moments: moments.as_ptr() }
}

impl<W: Element + Plain> Run<Moments<'_, '_, HostSpace, W>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Moments<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Moments { normalisation, input, to } = operation.into_inner();
        let (of, to) = (normalised(*normalisation, input), Out::of(to));
        let (mut parts, extents) = (vec![f64::NAN; 2 * ROOM], extents(*normalisation));
        let parts = parts.as_mut_ptr();
        // SAFETY: as above, and the parts have their room.
        unsafe {
            self.grid().launch(|block| normalise::moments(block, of, parts, to));
            if of.over_rows && extents.parts() > 1 {
                self.grid().launch(|block| normalise::moments_of_parts(block, of, parts, to));
            }
        }
        Ok(())
    }
}

impl<W: Element + Plain> Run<Normalise<'_, '_, HostSpace, W>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Normalise<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Normalise { normalisation, input, moments, affine, to, epilogue } =
            operation.into_inner();
        let (forward, affine) = (forward(*normalisation, input, moments), affine.as_ptr());
        let (to, epilogue) = (Out::of(to), named(epilogue.reborrow()));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe {
            normalise::normalise(block, &forward, affine, to, &epilogue);
        });
        Ok(())
    }
}

impl<G: Element + Plain, W: Element + Plain> Run<NormaliseSums<'_, '_, HostSpace, G, W>>
    for Simulated
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseSums<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseSums { normalisation, gradient, input, moments, to } = operation.into_inner();
        let forward = forward(*normalisation, input, moments);
        let (gradient, to) = (Operand::new(gradient.as_ptr()), Out::of(to));
        let (mut parts, extents) = (vec![f64::NAN; 2 * ROOM], extents(*normalisation));
        let parts = parts.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            self.grid().launch(|block| {
                normalise::normalise_sums(block, &forward, gradient, parts, to);
            });
            if extents.parts() > 1 {
                self.grid().launch(|block| normalise::sums_of_parts(block, extents, parts, to));
            }
        }
        Ok(())
    }
}

impl<G: Element + Plain, W: Element + Plain> Run<NormaliseInput<'_, '_, HostSpace, G, W>>
    for Simulated
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseInput<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseInput { normalisation, gradient, input, moments, affine, sums, to, epilogue } =
            operation.into_inner();
        let (forward, gradient) = (forward(*normalisation, input, moments), *gradient);
        let (affine, sums) = (affine.as_ptr(), sums.as_ptr());
        let (to, epilogue) = (Out::of(to), named(epilogue.reborrow()));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe {
            normalise::normalise_input(block, &forward, gradient, affine, sums, to, &epilogue);
        });
        Ok(())
    }
}

/// Names windows along both axes as kernels do.
fn sliding(
    extent: [usize; 2],
    count: Option<[usize; 2]>,
    size: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> [Sliding; 2] {
    let count = count.expect("it fits");
    [0, 1].map(|axis| Sliding {
        extent: extent[axis],
        count: count[axis],
        size: size[axis],
        stride: stride[axis],
        padding: padding[axis],
    })
}

fn pooled(of: adaloss_hal::network::Pooling) -> pool::Pooling {
    let [rows, columns] = sliding(of.input, of.output(), of.window, of.stride, of.padding);
    pool::Pooling { channels: of.channels, rows, columns }
}

impl<E: Element + Plain> Run<MaxPool<'_, '_, HostSpace, E>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPool { pooling, input, to, indices } = operation.into_inner();
        let (of, input, to, indices) = (pooled(*pooling), *input, Out::of(to), Out::of(indices));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { pool::max_pool(block, &of, input, to, indices) });
        Ok(())
    }
}

impl<E: Element + Plain> Run<Unpool<'_, '_, HostSpace, E>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unpool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Unpool { pooling, input, indices, to } = operation.into_inner();
        to.fill(E::from_bits(0));
        let (of, input, indices, to) = (pooled(*pooling), *input, *indices, Out::of(to));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { pool::unpool(block, &of, input, indices, to) });
        Ok(())
    }
}

impl<E: Element + Plain> Run<Pick<'_, '_, HostSpace, E>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Pick<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Pick { pooling, input, indices, to } = operation.into_inner();
        let (of, input, indices, to) = (pooled(*pooling), *input, *indices, Out::of(to));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { pool::pick(block, &of, input, indices, to) });
        Ok(())
    }
}

/// Names a convolution as kernels do.
pub(crate) fn named_convolution(
    of: adaloss_hal::network::Convolution,
    bias: Option<&[f32]>,
) -> convolve::Convolution {
    let [rows, columns] = sliding(of.input, of.output(), of.kernel, of.stride, of.padding);
    convolve::Convolution {
        batch: of.batch,
        rows,
        columns,
        dilation: of.dilation,
        channels: of.channels,
        filters: of.filters,
        groups: of.groups,
        channels_of_group: of.channels / of.groups,
        filters_of_group: of.filters / of.groups,
        bias: bias.map_or(null(), <[_]>::as_ptr),
    }
}

impl Simulated {
    fn pool<E: Element>(
        &mut self,
        (pooling, sum): (adaloss_hal::network::Pooling, Sum),
        input: &[E],
        indices: Option<&[u32]>,
        to: &mut [E],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), HostError> {
        let (of, indices) = (pooled(pooling), indices.map_or(null(), <[_]>::as_ptr));
        let (to, epilogue) = (Out::of(to), named(epilogue));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe {
            pool::pool(block, &of, sum, input, indices, to, &epilogue);
        });
        Ok(())
    }

    fn convolve<F: Element>(
        &mut self,
        of: adaloss_hal::network::Convolution,
        direction: Direction,
        operands: [Operand; 2],
        bias: Option<&[f32]>,
        to: &mut [F],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), HostError> {
        let of = named_convolution(of, bias);
        let (to, epilogue) = (Out::of(to), named(epilogue));
        let is_on_tensor_cores = match operands.map(Operand::encoding) {
            [Encoding::Binary16, Encoding::Binary16] => {
                self.convolve_as::<f16, F>(&of, direction, operands, to, &epilogue)
            }
            [Encoding::BFloat16, Encoding::BFloat16] => {
                self.convolve_as::<bf16, F>(&of, direction, operands, to, &epilogue)
            }
            _ => false,
        };
        if !is_on_tensor_cores {
            // SAFETY: as above.
            self.tiles().launch(|block| unsafe {
                convolve::convolve(block, &of, direction, operands, to, &epilogue);
            });
        }
        Ok(())
    }

    /// Convolves on tensor cores, and tells whether they do it.
    fn convolve_as<E: Factor, F: Element>(
        &mut self,
        of: &convolve::Convolution,
        direction: Direction,
        operands: [Operand; 2],
        to: Out<'_, F>,
        epilogue: &adaloss_kernels::epilogue::Epilogue,
    ) -> bool {
        let operands = operands.map(|of| of.first().cast::<E>());
        // What begins elsewhere is copied by the host.
        let are_aligned = operands.iter().all(|first| first.addr().is_multiple_of(16));
        let has = are_aligned && Implicit::<E>::has(of, direction);
        if has {
            self.convolve_on_tensor_cores(of, direction, operands, to, epilogue);
        }
        has
    }

    /// Convolves what tensor cores do.
    pub(crate) fn convolve_on_tensor_cores<E: Factor, F: Element>(
        &mut self,
        of: &convolve::Convolution,
        direction: Direction,
        operands: [*const E; 2],
        to: Out<'_, F>,
        epilogue: &adaloss_kernels::epilogue::Epilogue,
    ) {
        for class in Implicit::<E>::classes(of, direction) {
            let of = Implicit::new(of, direction, class, operands);
            // SAFETY: as above.
            self.multiplies().launch(|block| unsafe {
                if of.is_slim(direction) {
                    implicit::convolve::<_, E, F, true>(block, &of, direction, to, epilogue);
                } else {
                    implicit::convolve::<_, E, F, false>(block, &of, direction, to, epilogue);
                }
            });
        }
    }
}

impl<E: Element + Plain> Run<AveragePool<'_, '_, HostSpace, E>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let AveragePool { pooling, input, to, epilogue } = operation.into_inner();
        self.pool((*pooling, Sum::Average), input, None, to, epilogue.reborrow())
    }
}

impl<E: Element + Plain> Run<AveragePoolInput<'_, '_, HostSpace, E>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let AveragePoolInput { pooling, gradient, to, epilogue } = operation.into_inner();
        self.pool((*pooling, Sum::AverageInput), gradient, None, to, epilogue.reborrow())
    }
}

impl<E: Element + Plain> Run<MaxPoolInput<'_, '_, HostSpace, E>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPoolInput { pooling, gradient, indices, to, epilogue } = operation.into_inner();
        self.pool((*pooling, Sum::MaxInput), gradient, Some(indices), to, epilogue.reborrow())
    }
}

/// Runs one direction of a convolution: an operation, its operands, and what it computes.
macro_rules! convolves {
    ($operation:ident, $a:ident, $b:ident $($bias:ident)?, $direction:ident) => {
        impl<A, B, F> Run<$operation<'_, '_, HostSpace, A, B, F>> for Simulated
        where
            A: Element + Plain,
            B: Element + Plain,
            F: Element + Plain,
        {
            fn execute(
                &mut self,
                operation: Fitting<'_, $operation<'_, '_, HostSpace, A, B, F>>,
            ) -> Result<(), HostError> {
                let $operation { convolution, $a, $b, $($bias,)? to, epilogue } =
                    operation.into_inner();
                let operands = [Operand::new($a.as_ptr()), Operand::new($b.as_ptr())];
                let (direction, bias) = (Direction::$direction, None$(.or(*$bias))?);
                self.convolve(*convolution, direction, operands, bias, to, epilogue.reborrow())
            }
        }
    };
}
convolves!(Convolve, input, weight bias, Output);
convolves!(ConvolveInput, gradient, weight, Input);
convolves!(ConvolveWeight, gradient, input, Weight);

fn attention<W: Element>(of: adaloss_hal::network::Attention, input: &[W]) -> attend::Attention {
    let input = Operand::new(input.as_ptr());
    let adaloss_hal::network::Attention { batch, tokens, heads, width } = of;
    attend::Attention { batch, tokens, heads, width, input }
}

impl Simulated {
    /// Computes the totals of queries, where they are asked for.
    fn totals(&mut self, of: &attend::Attention, gradient: Operand, when: *const u32) -> Vec<f32> {
        let mut totals = vec![f32::NAN; of.total_count()];
        let to = totals.as_mut_ptr();
        // SAFETY: as above.
        self.tiles().launch(|block| unsafe { attend::totals(block, of, gradient, to, when) });
        totals
    }
}

impl<W: Element + Plain> Run<Attend<'_, '_, HostSpace, W>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Attend<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Attend { attention: of, input, to, epilogue } = operation.into_inner();
        let (of, to, epilogue) = (attention(*of, input), Out::of(to), named(epilogue.reborrow()));
        if to.is_empty() {
            return Ok(());
        }
        let totals = self.totals(&of, Operand::new(null::<W>()), epilogue.when);
        // SAFETY: as above.
        self.tiles().launch(|block| unsafe {
            attend::attend(block, &of, totals.as_ptr(), to, &epilogue);
        });
        Ok(())
    }
}

impl<G: Element + Plain, W: Element + Plain> Run<AttendInput<'_, '_, HostSpace, G, W>>
    for Simulated
{
    fn execute(
        &mut self,
        operation: Fitting<'_, AttendInput<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let AttendInput { attention: of, gradient, input, to, epilogue } = operation.into_inner();
        let (of, to, epilogue) = (attention(*of, input), Out::of(to), named(epilogue.reborrow()));
        if to.is_empty() {
            return Ok(());
        }
        let gradient = Operand::new(gradient.as_ptr());
        let totals = self.totals(&of, gradient, epilogue.when);
        // SAFETY: as above.
        self.tiles().launch(|block| unsafe {
            attend::attend_input(block, &of, gradient, totals.as_ptr(), to, &epilogue);
        });
        Ok(())
    }
}

#[test]
fn all_of_the_network_conforms() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::network::<f16, E5M2, _>(device)?;
    conformance::network::<bf16, bf16, _>(device)?;
    conformance::network::<E4M3, f16, _>(device)?;
    conformance::network::<f32, f32, _>(device)?;
    Ok(())
}

/// Moments and sums of columns or rows, more than one part of them where there are columns.
fn normalised_by<D>(device: &mut D, normalisation: Normalisation) -> Vec<u32>
where
    D: Device<Space = HostSpace, Error = HostError> + HasNormalise<f16, f32>,
{
    let Normalisation { rows, columns, .. } = normalisation;
    let random = |stream: u32, index: usize| {
        let word = Noise { seed: 14, stream }.word(index as u32);
        word as f32 / 2.0_f32.powi(31) - 0.75
    };
    let input: Vec<_> = (0..rows * columns)
        .map(|i| f16::narrow(3.0 + random(1, i), Narrowing::to(Format::BINARY16), 0, 0))
        .collect();
    let gradient: Vec<_> = (0..rows * columns).map(|i| random(2, i)).collect();
    let mut moments = vec![f32::NAN; normalisation.moments()];
    let (input, gradient) = (&input[..], &gradient[..]);
    device.run(Moments { normalisation, input, to: &mut moments[..] }).expect("it fits");
    let mut sums = vec![f32::NAN; 2 * columns];
    let (of_input, to) = (&moments[..], &mut sums[..]);
    let operation = NormaliseSums { normalisation, gradient, input, moments: of_input, to };
    device.run(operation).expect("it fits");
    moments.into_iter().chain(sums).map(f32::to_bits).collect()
}

/// Sums in f64 are added up in another order: they are rounded to the same f32.
#[test]
fn moments_and_sums_are_the_portable_devices_on_any_grid() {
    let device = &mut Simulated::default();
    let kinds = [Axis::Rows, Axis::Columns].map(|axis| [(axis, true), (axis, false)]);
    for [rows, columns] in [[1, 1], [3000, 5], [2100, 8], [700, 64], [300, 100], [40, 1000]] {
        for (axis, centred) in kinds.into_iter().flatten() {
            let shape = Normalisation { rows, columns, axis, centred, epsilon: 1.0e-5 };
            let expected = normalised_by(&mut Portable, shape);
            for _ in 0..3 {
                assert_eq!(normalised_by(device, shape), expected, "{shape}");
            }
        }
    }
}

/// The sums of a table, of more tokens than are linked at a time.
fn embedded_back<D>(device: &mut D, width: usize) -> Vec<u32>
where
    D: Device<Space = HostSpace, Error = HostError> + HasEmbed<f32, f32>,
{
    let count = LINKED + 1000;
    let word = |index: usize| Noise { seed: 15, stream: 0 }.word(index as u32);
    // Fewer and fewer of higher ones, and the last are beyond the table.
    let tokens: Vec<_> = (0..count).map(|nth| 1 << (word(nth) % 7) | word(nth) >> 30).collect();
    let gradient: Vec<_> = (0..width * count).map(|nth| word(nth + count) as f32).collect();
    let mut to = vec![f32::NAN; 60 * width];
    let (tokens, gradient, to_mut) = (&tokens[..], &gradient[..], &mut to[..]);
    device.run(EmbedTable { width, tokens, gradient, to: to_mut }).expect("it fits");
    to.into_iter().map(f32::to_bits).collect()
}

/// The sums of f32 are in the order of the tokens.
#[test]
fn a_tables_gradient_is_the_portable_devices() {
    let device = &mut Simulated::default();
    for width in [1, 4] {
        let expected = embedded_back(&mut Portable, width);
        for _ in 0..2 {
            assert!(embedded_back(device, width) == expected, "{width}");
        }
    }
}
