//! `propagate`: joins of branches that carry scales of their own, and branches alone.

use core::array;

use adaloss_core::{
    format::Element,
    policy::Cell,
    propagate::{Scaled, join, shifted},
    scale::Scale,
};

use super::{
    Case, Failure,
    bench::{Bench, Pass},
    tensor::{Tensor, upload},
    values,
};
use adaloss_hal::{AddressSpace, Branch, BranchOf, ErrorKind, HasNarrow, Memory, Plain, Propagate};

/// The most branches of a join that are checked.
const MOST: usize = 4;

/// Scales of branches: alike, near, far, and beyond what an f32 factor can bring together.
const SCALES: [[i32; MOST]; 4] =
    [[0, 0, 0, 0], [3, -5, 10, 0], [-40, 12, 0, 17], [126, -126, 60, -3]];

/// The branches on the device.
struct Branches<D: Memory, F: Plain> {
    tensors: [Tensor<D, F>; MOST],
    cells: D::Buffer<Cell>,
}

impl<F: Element + Plain, D: Memory + HasNarrow<F>> Branches<D, F> {
    fn new(
        case: Case,
        device: &mut D,
        length: usize,
        value: impl Fn(usize, usize) -> F,
    ) -> Result<Self, Failure> {
        let mut tensor = |nth| Tensor::filled(case, device, length, |index| value(nth, index));
        Ok(Self {
            tensors: [tensor(0)?, tensor(1)?, tensor(2)?, tensor(3)?],
            cells: case.succeeds(device.zeroed(MOST))?,
        })
    }

    fn carry(&mut self, case: Case, device: &mut D, scales: [Scale; MOST]) -> Result<(), Failure> {
        upload(case, device, D::view_mut(&mut self.cells), &|nth| Cell::at(scales[nth]))
    }

    fn view(&self, case: Case) -> Result<[BranchOf<'_, D::Space, F>; MOST], Failure> {
        let view = |nth: usize| {
            let cell = case.finds(D::Space::part(D::view(&self.cells), nth..nth + 1))?;
            Ok(Branch { gradient: self.tensors[nth].view(case)?, cell })
        };
        Ok([view(0)?, view(1)?, view(2)?, view(3)?])
    }
}

pub(super) fn check<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    let capabilities = bench.report.capabilities;
    for (nth, length) in [0, 1, 33, 257, 1025].into_iter().enumerate() {
        // Where f32 flushes, sums are kept away from its subnormals.
        let anything = capabilities.subnormals && length == 257;
        let value = |branch: usize, index: usize| {
            let stream = (16 * nth + branch) as u32;
            if anything {
                F::from_bits(values::word(stream, index))
            } else {
                values::moderate(stream, index)
            }
        };
        let setup = Case::new("propagate (setup)", length);
        let mut branches = Branches::new(setup, bench.device, length, value)?;
        for scales in SCALES.iter().take(if capabilities.subnormals { 4 } else { 3 }) {
            let scales = scales.map(Scale::saturating);
            branches.carry(setup, bench.device, scales)?;
            for count in 1..=MOST {
                check_join(bench, &branches, &scales[..count], length, value)?;
            }
        }
    }
    check_refusals::<F, D>(bench)
}

/// Joins some branches in every format and compares the sums with the core's.
fn check_join<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
    branches: &Branches<D, F>,
    scales: &[Scale],
    length: usize,
    value: impl Fn(usize, usize) -> F + Copy,
) -> Result<(), Failure> {
    let setup = Case::new("propagate (setup)", length);
    let count = scales.len();
    let common = scales.iter().copied().min().unwrap_or_default();
    // To the common scale and, since a caller may, to another one.
    let other = Scale::saturating(common.log2() + 2);
    let mut to = Tensor::filled(setup, bench.device, length, |_| F::from_bits(0))?;
    let narrowings = values::narrowings(F::ENCODING, bench.report.capabilities);
    for (narrowing, pass) in narrowings.zip(Pass::ALL.into_iter().cycle()) {
        for (from, leaving) in [(common, common), (common, Scale::ONE), (other, other)] {
            let check =
                ["propagate of 1", "propagate of 2", "propagate of 3", "propagate of 4"][count - 1];
            let case = Case::narrowing(check, length, narrowing, (from, leaving));
            let views = branches.view(case)?;
            let branches = &views[..count];
            let sum = |index: usize| {
                let elements: [[F; 1]; MOST] = array::from_fn(|nth| [value(nth, index)]);
                if from == common && count > 1 {
                    let scaled: [_; MOST] = array::from_fn(|nth| {
                        let scale = scales.get(nth).copied().unwrap_or_default();
                        Scaled::new(&elements[nth][..], scale)
                    });
                    let mut sum = [0.0];
                    let joined = join(narrowing.format, &scaled[..count], &mut sum);
                    debug_assert_eq!(joined, Ok(common));
                    return sum[0];
                }
                let term = |nth: usize| {
                    let x = narrowing.format.widen(elements[nth][0].to_bits());
                    shifted(x, from / scales[nth])
                };
                (1..count).fold(term(0), |sum, nth| sum + term(nth))
            };
            bench.run(
                case,
                pass.computed(),
                &mut to,
                &|device, to, epilogue| device.run(Propagate::<_, F> { branches, to, epilogue }),
                &sum,
            )?;
        }
    }
    Ok(())
}

/// No branches, branches that do not fit, results and epilogues that do not fit.
fn check_refusals<F: Element + Plain, D: Memory + HasNarrow<F>>(
    bench: &mut Bench<'_, D>,
) -> Result<(), Failure> {
    let narrowing = values::plain(F::ENCODING, bench.report.capabilities);
    let scales = (Scale::ONE, Scale::ONE);
    let case = |check| Case::narrowing(check, 33, narrowing, scales);
    let none = case("propagate of none");
    let branches = Branches::new(none, bench.device, 33, |_, _| F::from_bits(0))?;
    let mut to = Tensor::filled(none, bench.device, 33, |_| F::from_bits(0))?;
    let views = branches.view(none)?;
    let (mut short, mut two_cells) = (views, views);
    short[1].gradient = none.finds(D::Space::part(views[1].gradient, 0..32))?;
    two_cells[1].cell = none.finds(D::Space::part(D::view(&branches.cells), 0..2))?;
    for (case, branches) in [
        (none, &views[..0]),
        (case("propagate of a shorter branch"), &short[..2]),
        (case("propagate with two cells for a branch"), &two_cells[..2]),
    ] {
        bench.refuses(case, ErrorKind::Shape, &mut to, &|device, to, epilogue| {
            device.run(Propagate::<_, F> { branches, to, epilogue })
        })?;
    }
    let (case, branches) = (case("propagate refused"), &views[..2]);
    bench.refuses_mutated(case, &mut to, &|device, to, epilogue, mutation| {
        device.run(mutation.apply(Propagate::<_, F> { branches, to, epilogue }))
    })
}
