//! What a normalisation has to refuse.

use adaloss_core::format::Element;

use crate::{
    Case, Failure,
    bench::{Bench, pattern},
    refusal::Mutation,
    tensor::Tensor,
    values,
};
use adaloss_hal::{
    Epilogue, ErrorKind, Memory, Mut, Plain, Ref,
    network::{HasNormalise, Moments, Normalisation, Normalise, NormaliseInput, NormaliseSums},
};

/// A shape that no matrix has, operands that do not have theirs, and wrong epilogues.
pub(super) fn check<W, G, D>(bench: &mut Bench<'_, D>, shape: Normalisation) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasNormalise<W, G>,
{
    let shape = Normalisation { rows: 5, columns: 3, ..shape };
    let huge = Normalisation { rows: 1 << (usize::BITS - 1), columns: 2, ..shape };
    let setup = Case::new("normalise (setup)", 15).of(shape);
    let gradient = Tensor::<D, G>::filled(setup, bench.device, 15, |_| G::from_bits(0))?;
    let input = Tensor::<D, W>::filled(setup, bench.device, 15, |_| W::from_bits(0))?;
    let moments = Tensor::<D, f32>::filled(setup, bench.device, shape.moments(), |_| 1.0)?;
    let affine = Tensor::<D, f32>::filled(setup, bench.device, 6, |_| 1.0)?;
    let operands = Operands::<W, G, D> {
        gradient: gradient.view(setup)?,
        input: input.view(setup)?,
        moments: moments.view(setup)?,
        affine: affine.view(setup)?,
    };
    let capabilities = bench.report.capabilities;
    let case = Case::new("normalise refused", 15).of(shape);
    let to_w = Case { narrowing: Some(values::plain(W::ENCODING, capabilities)), ..case };
    let to_g = Case { narrowing: Some(values::plain(G::ENCODING, capabilities)), ..case };
    let unchanged = Mutation::none();

    let mut to = Tensor::filled(case, bench.device, shape.moments(), pattern)?;
    bench.refuses_write(case.of(huge), &mut to, |device, to| {
        operands.moments(device, huge, to, &unchanged)
    })?;
    bench.refuses_mutated_writes(case, &mut to, &mut |device, to, mutation| {
        operands.moments(device, shape, to, mutation)
    })?;
    let mut to = Tensor::filled(case, bench.device, 6, pattern)?;
    bench.refuses_write(case.of(huge), &mut to, |device, to| {
        operands.sums(device, huge, to, &unchanged)
    })?;
    bench.refuses_mutated_writes(case, &mut to, &mut |device, to, mutation| {
        operands.sums(device, shape, to, mutation)
    })?;
    let mut to = Tensor::filled(case, bench.device, 15, pattern)?;
    bench.refuses(to_w.of(huge), ErrorKind::Shape, &mut to, &|device, to, epilogue| {
        operands.forward(device, huge, to, epilogue, &unchanged)
    })?;
    bench.refuses_mutated(to_w, &mut to, &|device, to, epilogue, mutation| {
        operands.forward(device, shape, to, epilogue, mutation)
    })?;
    let mut to = Tensor::filled(case, bench.device, 15, pattern)?;
    bench.refuses(to_g.of(huge), ErrorKind::Shape, &mut to, &|device, to, epilogue| {
        operands.back(device, huge, to, epilogue, &unchanged)
    })?;
    bench.refuses_mutated(to_g, &mut to, &|device, to, epilogue, mutation| {
        operands.back(device, shape, to, epilogue, mutation)
    })
}

/// Operands for operations that have to be refused; sums have the shape of the affine parameters.
struct Operands<'r, W: Plain, G: Plain, D: Memory> {
    gradient: Ref<'r, D, G>,
    input: Ref<'r, D, W>,
    moments: Ref<'r, D, f32>,
    affine: Ref<'r, D, f32>,
}

impl<W, G, D> Operands<'_, W, G, D>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasNormalise<W, G>,
{
    fn moments(
        &self,
        device: &mut D,
        normalisation: Normalisation,
        to: Mut<'_, D, f32>,
        mutation: &Mutation,
    ) -> Result<(), D::Error> {
        device.run(mutation.apply(Moments { normalisation, input: self.input, to }))
    }

    fn forward<'w>(
        &self,
        device: &mut D,
        normalisation: Normalisation,
        to: Mut<'w, D, W>,
        epilogue: Epilogue<'w, D::Space>,
        mutation: &Mutation,
    ) -> Result<(), D::Error> {
        let &Self { input, moments, affine, .. } = self;
        device.run(mutation.apply(Normalise {
            normalisation,
            input,
            moments,
            affine,
            to,
            epilogue,
        }))
    }

    fn sums(
        &self,
        device: &mut D,
        normalisation: Normalisation,
        to: Mut<'_, D, f32>,
        mutation: &Mutation,
    ) -> Result<(), D::Error> {
        let &Self { gradient, input, moments, .. } = self;
        device.run(mutation.apply(NormaliseSums { normalisation, gradient, input, moments, to }))
    }

    fn back<'w>(
        &self,
        device: &mut D,
        normalisation: Normalisation,
        to: Mut<'w, D, G>,
        epilogue: Epilogue<'w, D::Space>,
        mutation: &Mutation,
    ) -> Result<(), D::Error> {
        let &Self { gradient, input, moments, affine } = self;
        device.run(mutation.apply(NormaliseInput {
            normalisation,
            gradient,
            input,
            moments,
            affine,
            sums: affine,
            to,
            epilogue,
        }))
    }
}
