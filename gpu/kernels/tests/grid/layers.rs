//! Normalisation, pooling, dropout, embedding, convolution and attention on the simulated grid.

use std::ptr::null;

use adaloss_conformance::{self as conformance, Failure};
use adaloss_core::format::{E4M3, E5M2, Element, bf16, f16};
use adaloss_hal::{
    Epilogue, Fitting, HostError, HostSpace, Plain, Run,
    network::{
        Attend, AttendInput, AveragePool, AveragePoolInput, Axis, Convolve, ConvolveInput,
        ConvolveWeight, Dropout, Embed, EmbedTable, MaxPool, MaxPoolInput, Moments, Normalise,
        NormaliseInput, NormaliseSums, Pick, Unpool,
    },
};
use adaloss_kernels::{
    memory::Out,
    network::{
        attend,
        convolve::{self, Direction},
        dropout, embed, normalise,
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
        let to = Out::of(to);
        // SAFETY: as above.
        self.grid()
            .launch(|block| unsafe { embed::embed_table(block, width, tokens, gradient, to) });
        Ok(())
    }
}

/// Names what is normalised as kernels do.
fn normalised<W: Element>(
    of: adaloss_hal::network::Normalisation,
    input: &[W],
) -> normalise::Normalisation {
    normalise::Normalisation {
        rows: of.rows,
        columns: of.columns,
        over_rows: of.axis == Axis::Rows,
        epsilon: of.epsilon,
        input: Operand::new(input.as_ptr()),
    }
}

fn forward<W: Element>(
    of: adaloss_hal::network::Normalisation,
    input: &[W],
    moments: &[f32],
) -> normalise::Forward {
    normalise::Forward { of: normalised(of, input), moments: moments.as_ptr() }
}

impl<W: Element + Plain> Run<Moments<'_, '_, HostSpace, W>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Moments<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Moments { normalisation, input, to } = operation.into_inner();
        let (of, to) = (normalised(*normalisation, input), Out::of(to));
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { normalise::moments(block, of, to) });
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
        // SAFETY: as above.
        self.grid().launch(|block| unsafe {
            normalise::normalise_sums(block, &forward, gradient, to);
        });
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
        to: &mut [F],
        epilogue: Epilogue<'_, HostSpace>,
    ) -> Result<(), HostError> {
        let [rows, columns] = sliding(of.input, of.output(), of.kernel, of.stride, of.padding);
        let of = convolve::Convolution {
            batch: of.batch,
            rows,
            columns,
            channels: of.channels,
            filters: of.filters,
            groups: of.groups,
            channels_of_group: of.channels / of.groups,
            filters_of_group: of.filters / of.groups,
        };
        let (to, epilogue) = (Out::of(to), named(epilogue));
        // SAFETY: as above.
        self.tiles().launch(|block| unsafe {
            convolve::convolve(block, &of, direction, operands, to, &epilogue);
        });
        Ok(())
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

impl<A, B, F> Run<Convolve<'_, '_, HostSpace, A, B, F>> for Simulated
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Convolve<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let Convolve { convolution, input, weight, to, epilogue } = operation.into_inner();
        let operands = [Operand::new(input.as_ptr()), Operand::new(weight.as_ptr())];
        self.convolve(*convolution, Direction::Output, operands, to, epilogue.reborrow())
    }
}

impl<A, B, F> Run<ConvolveInput<'_, '_, HostSpace, A, B, F>> for Simulated
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveInput<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let ConvolveInput { convolution, gradient, weight, to, epilogue } = operation.into_inner();
        let operands = [Operand::new(gradient.as_ptr()), Operand::new(weight.as_ptr())];
        self.convolve(*convolution, Direction::Input, operands, to, epilogue.reborrow())
    }
}

impl<A, B, F> Run<ConvolveWeight<'_, '_, HostSpace, A, B, F>> for Simulated
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, ConvolveWeight<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let ConvolveWeight { convolution, gradient, input, to, epilogue } = operation.into_inner();
        let operands = [Operand::new(gradient.as_ptr()), Operand::new(input.as_ptr())];
        self.convolve(*convolution, Direction::Weight, operands, to, epilogue.reborrow())
    }
}

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
