//! Pooling by sums, and the gradients that are sums.

use adaloss_core::format::Element;

use super::{IMPOSSIBLE, SHAPES, TYPICAL, each_pair, placed};
use crate::{
    Case, Failure,
    bench::{Bench, Ending},
    near::{Near, Sum},
    refusal::Mutation,
    tensor::Tensor,
    values::{self, Kind},
};
use adaloss_hal::{
    Epilogue, ErrorKind, Memory, Mut, Plain, Ref,
    network::{AveragePool, AveragePoolInput, HasPool, MaxPoolInput, Pooling},
};

pub(super) fn check<E, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasPool<E>,
{
    for method in Method::ALL {
        for (stream, shape) in (0..).zip(SHAPES) {
            Sums::<E, D>::new(bench, method, shape, Kind::Integers, stream)?.check(bench)?;
            Sums::<E, D>::new(bench, method, shape, Kind::Reals, stream)?.check(bench)?;
        }
        Sums::<E, D>::new(bench, method, SHAPES[4], Kind::NonFinite, 0)?.check(bench)?;
        check_refusals::<E, D>(bench, method)?;
    }
    Ok(())
}

/// Which of the operations that sum.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    Average,
    AverageInput,
    MaxInput,
}

impl Method {
    const ALL: [Self; 3] = [Self::Average, Self::AverageInput, Self::MaxInput];

    fn check(self) -> &'static str {
        match self {
            Self::Average => "average_pool",
            Self::AverageInput => "average_pool_input",
            Self::MaxInput => "max_pool_input",
        }
    }

    /// Returns the elements of the operand and of the result.
    fn lengths(self, shape: Pooling) -> [usize; 2] {
        let [of_input, of_output] = shape.lengths();
        match self {
            Self::Average => [of_input, of_output],
            Self::AverageInput | Self::MaxInput => [of_output, of_input],
        }
    }

    fn run<'r, 'w, E: Element + Plain, D: Memory + HasPool<E>>(
        self,
        device: &mut D,
        pooling: Pooling,
        (from, indices): (Ref<'r, D, E>, Ref<'r, D, u32>),
        to: Mut<'w, D, E>,
        epilogue: Epilogue<'w, D::Space>,
        mutation: &Mutation,
    ) -> Result<(), D::Error> {
        match self {
            Self::Average => {
                device.run(mutation.apply(AveragePool { pooling, input: from, to, epilogue }))
            }
            Self::AverageInput => device.run(mutation.apply(AveragePoolInput {
                pooling,
                gradient: from,
                to,
                epilogue,
            })),
            Self::MaxInput => device.run(mutation.apply(MaxPoolInput {
                pooling,
                gradient: from,
                indices,
                to,
                epilogue,
            })),
        }
    }
}

/// Sums on the device and the functions that their operands were filled from.
struct Sums<E: Plain, D: Memory> {
    method: Method,
    shape: Pooling,
    kind: Kind,
    stream: u32,
    from: Tensor<D, E>,
    indices: Tensor<D, u32>,
}

impl<E: Element + Plain, D: Memory + HasPool<E>> Sums<E, D> {
    fn new(
        bench: &mut Bench<'_, D>,
        method: Method,
        shape: Pooling,
        kind: Kind,
        stream: u32,
    ) -> Result<Self, Failure> {
        let [length, _] = method.lengths(shape);
        let [_, windows] = shape.lengths();
        let case = Case::new("average_pool (setup)", length).of(shape);
        let position = |index| placed(shape, stream, index);
        let from = Tensor::filled(case, bench.device, length, |i| kind.left(stream, i))?;
        let indices = Tensor::filled(case, bench.device, windows, position)?;
        Ok(Self { method, shape, kind, stream, from, indices })
    }

    /// Calls `take` with the terms of one sum, in their order.
    fn each_term(&self, index: usize, mut take: impl FnMut(E)) {
        let by_pixel = self.method != Method::Average;
        each_pair(self.shape, index, by_pixel, |element, position| {
            let takes = self.method != Method::MaxInput
                || placed(self.shape, self.stream, element) == position as u32;
            if takes {
                take(self.kind.left(self.stream, element));
            }
        });
    }

    fn divisor(&self) -> f32 {
        match self.method {
            Method::MaxInput => 1.0,
            _ => (self.shape.window[0] * self.shape.window[1]) as f32,
        }
    }

    fn check(&self, bench: &mut Bench<'_, D>) -> Result<(), Failure> {
        let (method, shape) = (self.method, self.shape);
        let [_, length] = method.lengths(shape);
        let case = Case::new(method.check(), length).of(shape);
        let operands = (self.from.view(case)?, self.indices.view(case)?);
        let mut to = Tensor::filled(case, bench.device, length, |_| E::from_bits(0))?;
        let unchanged = Mutation::none();
        let run: &Ending<'_, D, E> =
            &|device, to, epilogue| method.run(device, shape, operands, to, epilogue, &unchanged);
        let in_order = bench.report.capabilities.sequential_sums;
        if in_order || !matches!(self.kind, Kind::Reals) {
            return bench.exactly(case, self.stream, &mut to, run, &|index| {
                let mut sum = 0.0;
                self.each_term(index, |x| sum += x.widen());
                sum / self.divisor()
            });
        }
        bench.within(case, self.stream, &mut to, run, &|index| {
            let mut sum = Sum::default();
            self.each_term(index, |x| sum.take(Near::exact(x.widen())));
            sum.finish() / Near::exact(self.divisor())
        })
    }
}

/// Operands of sums that do not fit, shapes that no pooling has, and wrong epilogues.
fn check_refusals<E, D>(bench: &mut Bench<'_, D>, method: Method) -> Result<(), Failure>
where
    E: Element + Plain,
    D: Memory + HasPool<E>,
{
    let narrowing = values::plain(E::ENCODING, bench.report.capabilities);
    let [_, length] = method.lengths(TYPICAL);
    let case = Case { narrowing: Some(narrowing), ..Case::new("average_pool refused", length) };
    let sums = Sums::<E, D>::new(bench, method, TYPICAL, Kind::Integers, 0)?;
    let operands = (sums.from.view(case)?, sums.indices.view(case)?);
    let mut to = Tensor::filled(case, bench.device, length, |_| E::from_bits(0))?;
    let unchanged = Mutation::none();
    for shape in IMPOSSIBLE {
        bench.refuses(case.of(shape), ErrorKind::Shape, &mut to, &|device, to, epilogue| {
            method.run(device, shape, operands, to, epilogue, &unchanged)
        })?;
    }
    bench.refuses_mutated(case.of(TYPICAL), &mut to, &|device, to, epilogue, mutation| {
        method.run(device, TYPICAL, operands, to, epilogue, mutation)
    })
}
