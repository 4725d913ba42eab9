//! What a normalisation has to refuse.

use adaloss_core::format::Element;

use crate::{
    ErrorKind, Memory, Plain,
    conformance::{
        Case, Failure,
        bench::{Bench, pattern},
        tensor::Tensor,
        values,
    },
    network::{Normalisation, Normalise, Normalised, NormalisedOn},
};

/// Elements of the operands of `normalise_input` and of its result.
#[derive(Clone, Copy)]
struct Lengths {
    gradient: usize,
    input: usize,
    moments: usize,
    affine: usize,
    sums: usize,
    to: usize,
}

/// Operands that do not have their shape, and wrong epilogues.
pub(super) fn check<W, G, D>(bench: &mut Bench<'_, D>, shape: Normalisation) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + Normalise<W, G>,
{
    let shape = Normalisation { rows: 5, columns: 3, ..shape };
    let moments = shape.moments();
    let right = Lengths { gradient: 15, input: 15, moments, affine: 6, sums: 6, to: 15 };
    let huge = Normalisation { rows: 1 << (usize::BITS - 1), columns: 2, ..shape };
    Operands::<W, G, D>::new(bench, huge, right)?.check(bench, [true; 4])?;
    // What is wrong for moments, normalise, normalise_sums and normalise_input.
    let wrong = [
        (Lengths { gradient: 14, ..right }, [false, false, true, true]),
        (Lengths { input: 14, ..right }, [true; 4]),
        (Lengths { moments: moments - 1, ..right }, [true; 4]),
        (Lengths { affine: 5, ..right }, [false, true, false, true]),
        (Lengths { sums: 5, ..right }, [false, false, true, true]),
        (Lengths { to: 14, ..right }, [false, true, false, true]),
        (Lengths { to: 16, ..right }, [false, true, false, true]),
    ];
    for (lengths, refused) in wrong {
        Operands::<W, G, D>::new(bench, shape, lengths)?.check(bench, refused)?;
    }
    Operands::<W, G, D>::new(bench, shape, right)?.check_epilogues(bench)
}

/// Operands for operations that have to be refused.
struct Operands<W: Plain, G: Plain, D: Memory> {
    shape: Normalisation,
    gradient: Tensor<D, G>,
    input: Tensor<D, W>,
    moments: Tensor<D, f32>,
    affine: Tensor<D, f32>,
    sums: Tensor<D, f32>,
    /// Elements of the result.
    to: usize,
}

impl<W, G, D> Operands<W, G, D>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + Normalise<W, G>,
{
    fn new(
        bench: &mut Bench<'_, D>,
        shape: Normalisation,
        lengths: Lengths,
    ) -> Result<Self, Failure> {
        let Lengths { gradient, input, moments, affine, sums, to } = lengths;
        let case = Case::new("normalise (setup)", 15).of(shape);
        let device = &mut *bench.device;
        Ok(Self {
            shape,
            gradient: Tensor::filled(case, device, gradient, |_| G::from_bits(0))?,
            input: Tensor::filled(case, device, input, |_| W::from_bits(0))?,
            moments: Tensor::filled(case, device, moments, |_| 1.0)?,
            affine: Tensor::filled(case, device, affine, |_| 1.0)?,
            sums: Tensor::filled(case, device, sums, |_| 1.0)?,
            to,
        })
    }

    fn forward(&self, case: Case) -> Result<NormalisedOn<'_, D, W>, Failure> {
        Ok(Normalised {
            input: self.input.view(case)?,
            moments: self.moments.view(case)?,
            affine: self.affine.view(case)?,
            sums: self.sums.view(case)?,
        })
    }

    fn case<E: Element>(&self, bench: &Bench<'_, D>) -> Case {
        let narrowing = values::plain(E::ENCODING, bench.report.capabilities);
        let case = Case::new("normalise refused", 15).of(self.shape);
        Case { narrowing: Some(narrowing), ..case }
    }

    /// Runs the operations that have to be refused.
    fn check(self, bench: &mut Bench<'_, D>, refused: [bool; 4]) -> Result<(), Failure> {
        let (shape, case) = (self.shape, self.case::<W>(bench));
        let (gradient, forward) = (self.gradient.view(case)?, self.forward(case)?);
        let Normalised { input, moments, affine, .. } = forward;
        if refused[0] {
            let mut to = Tensor::filled(case, bench.device, self.moments.elements(), pattern)?;
            bench.spares(case, &mut to, |device, to| device.moments(shape, input, to))?;
        }
        if refused[1] {
            let mut to = Tensor::filled(case, bench.device, self.to, pattern)?;
            bench.refuses(case, ErrorKind::Shape, &mut to, &|device, to, end| {
                device.normalise(shape, input, moments, affine, to, end)
            })?;
        }
        if refused[2] {
            let mut to = Tensor::filled(case, bench.device, self.sums.elements(), pattern)?;
            bench.spares(case, &mut to, |device, to| {
                device.normalise_sums(shape, gradient, input, moments, to)
            })?;
        }
        let case = self.case::<G>(bench);
        let mut to = Tensor::filled(case, bench.device, self.to, pattern)?;
        bench.refuses(case, ErrorKind::Shape, &mut to, &|device, to, end| {
            device.normalise_input(shape, gradient, forward, to, end)
        })
    }

    /// Runs operations on operands that are right, with epilogues that are not.
    fn check_epilogues(self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let (shape, case) = (self.shape, self.case::<W>(bench));
        let (gradient, forward) = (self.gradient.view(case)?, self.forward(case)?);
        let Normalised { input, moments, affine, .. } = forward;
        let narrowing = case.narrowing_to::<W>();
        let mut to = Tensor::filled(case, bench.device, self.to, pattern)?;
        bench.refuses_epilogues(case, narrowing, &mut to, &|device, to, end| {
            device.normalise(shape, input, moments, affine, to, end)
        })?;
        let case = self.case::<G>(bench);
        let narrowing = case.narrowing_to::<G>();
        let mut to = Tensor::filled(case, bench.device, self.to, pattern)?;
        bench.refuses_epilogues(case, narrowing, &mut to, &|device, to, end| {
            device.normalise_input(shape, gradient, forward, to, end)
        })
    }
}
