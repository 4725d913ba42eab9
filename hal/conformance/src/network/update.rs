//! Optimizers: norms in f64, and updates with and without clipping.

use crate::{
    Case, Failure,
    bench::{Bench, Predicate, Predicates, pattern},
    near::{Near, UNIT_F64},
    results::Expected,
    tensor::{Tensor, read_one, upload},
    values,
};
use adaloss_hal::{
    AddressSpace, ErrorKind, Memory,
    network::{AdamW, AdamWStep, HasUpdate, Sgd, SgdStep, SquareNorm},
};

/// Lengths around those of warps and blocks.
const LENGTHS: [usize; 7] = [0, 1, 2, 33, 64, 257, 1025];

/// What gradients are clipped to, and the square of their norm: not at all, not yet, by much, at the
/// point itself, and a norm whose square no f32 holds.
const CLIPS: [(Option<f32>, f64); 6] = [
    (None, 1.0e6),
    (Some(1.0), 0.25),
    (Some(1.0), 100.0),
    (Some(2.0), 4.0),
    (Some(3.0), 1.0e60),
    (Some(1.0), f64::INFINITY),
];

pub(super) fn check<D: Memory + HasUpdate>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    for (turn, length) in (0..).zip(LENGTHS) {
        check_square_norm(bench, "square_norm of integers", length, |index| {
            values::integer::<f32>(turn, index)
        })?;
        check_square_norm(bench, "square_norm", length, |index| {
            values::random(turn, index, -70, 80)
        })?;
        for (nth, (max_norm, square_norm)) in (0..).zip(CLIPS) {
            check_sgd(bench, length, 6 * turn + nth, max_norm, square_norm)?;
            check_adamw(bench, length, 6 * turn + nth, max_norm, square_norm)?;
        }
    }
    for x in [f32::NAN, f32::INFINITY] {
        let value = |index| if index == 17 { x } else { 1.0 };
        check_square_norm(bench, "square_norm of what is not finite", 33, value)?;
    }
    check_refusals(bench)
}

/// The sum of the squares, in f64: a sum of `n` terms may be wrong by `n` times [`UNIT_F64`] of itself.
fn check_square_norm<D: Memory + HasUpdate>(
    bench: &mut Bench<'_, D>,
    check: &'static str,
    length: usize,
    value: impl Fn(usize) -> f32,
) -> Result<(), Failure> {
    let case = Case::new(check, length);
    let before = 4.0;
    let gradient = Tensor::<D, f32>::filled(case, bench.device, length, &value)?;
    let mut to = case.succeeds(bench.device.zeroed::<f64>(1))?;
    case.succeeds(bench.device.write(&[before], D::view_mut(&mut to)))?;
    let of = SquareNorm::<D::Space> { gradient: gradient.view(case)?, to: D::view_mut(&mut to) };
    case.succeeds(bench.device.run(of))?;
    let found = read_one(case, bench.device, D::view(&to))?;
    let squares = (0..length).map(|index| f64::from(value(index)) * f64::from(value(index)));
    let sum = squares.fold(before, |sum, x| sum + x);
    let is_near = (found - sum).abs() <= (length + 1) as f64 * UNIT_F64 * sum;
    let is_right = found == sum || found.is_nan() && sum.is_nan() || sum.is_finite() && is_near;
    bench.report.operations += 1;
    case.whole("the sum of the squares", &true, &is_right)
}

/// The factor that gradients are clipped with.
fn clip(max_norm: Option<f32>, square_norm: f64) -> Near {
    let norm = libm::sqrt(square_norm);
    match max_norm {
        Some(_) if norm == f64::INFINITY => Near::exact(0.0),
        Some(max_norm) if norm > f64::from(max_norm) => {
            Near::exact(max_norm) / (Near::exact(1.0) * Near::exact(norm + 1.0e-6))
        }
        _ => Near::exact(1.0),
    }
}

/// The values of a weight, its gradient and its state.
#[derive(Clone, Copy)]
struct Weight {
    stream: u32,
}

impl Weight {
    fn weight(self, index: usize) -> f32 {
        values::random(self.stream, index, -6, 1)
    }

    fn gradient(self, index: usize) -> f32 {
        match index % 8 {
            7 => 0.0,
            _ => values::random(self.stream + 1000, index, -10, 4),
        }
    }

    /// Returns a moment; zero where the gradient is, and everywhere in every third tensor.
    fn moment(self, index: usize) -> f32 {
        match (index % 8, self.stream % 3) {
            (7, _) | (_, 0) => 0.0,
            _ => values::random(self.stream + 2000, index, -10, 4),
        }
    }
}

fn check_sgd<D: Memory + HasUpdate>(
    bench: &mut Bench<'_, D>,
    length: usize,
    turn: u32,
    max_norm: Option<f32>,
    square_norm: f64,
) -> Result<(), Failure> {
    let case = Case::new("sgd", length);
    let (momentum, weight_decay) =
        [(0.9, 0.0), (0.9, 0.01), (0.0, 0.5), (0.5, 0.0)][turn as usize % 4];
    let sgd = Sgd { learning_rate: 0.1, momentum, weight_decay, max_norm };
    let of = Weight { stream: turn };
    let gradient = Tensor::<D, f32>::filled(case, bench.device, length, |i| of.gradient(i))?;
    let square_norms = Tensor::<D, f64>::filled(case, bench.device, 1, |_| square_norm)?;
    let mut weight = Tensor::<D, f32>::filled(case, bench.device, length, |i| of.weight(i))?;
    let mut state = Tensor::<D, f32>::filled(case, bench.device, length, pattern)?;
    bench.prepare(case, &mut state, &|index| of.moment(index))?;
    let updated = |index| {
        let w = Near::exact(of.weight(index));
        let g = clip(max_norm, square_norm) * Near::exact(of.gradient(index))
            + Near::exact(sgd.weight_decay) * w;
        let m = Near::exact(sgd.momentum) * Near::exact(of.moment(index)) + g;
        [w - Near::exact(sgd.learning_rate) * m, m]
    };
    let (gradient, square_norm) = (gradient.view(case)?, square_norms.view(case)?);
    let mut moved = state.view_mut(case)?;
    let predicates = Predicates::new(case, bench.device)?;
    let when = Some(predicates.view(case, Predicate::On)?).filter(|_| turn.is_multiple_of(2));
    bench.writes(
        case,
        &mut weight,
        &|index| of.weight(index),
        move |device, mut weight| {
            let weight = D::Space::reborrow_mut(&mut weight);
            let momentum = D::Space::reborrow_mut(&mut moved);
            device.run(SgdStep { sgd, gradient, square_norm, weight, momentum, when })
        },
        &|index| Expected::Near(updated(index)[0]),
    )?;
    let case = Case { check: "the momentum of sgd", ..case };
    bench.agrees(case, &state, &|index| Expected::Near(updated(index)[1]))
}

fn check_adamw<D: Memory + HasUpdate>(
    bench: &mut Bench<'_, D>,
    length: usize,
    turn: u32,
    max_norm: Option<f32>,
    square_norm: f64,
) -> Result<(), Failure> {
    let case = Case::new("adamw", length);
    let (number, epsilon, weight_decay) =
        [(1, 1.0e-8, 0.01), (2, 1.0e-3, 0.0), (100, 1.0e-8, 0.1), (100_000, 1.0e-3, 0.01)]
            [turn as usize % 4];
    let betas = [0.9, 0.999];
    let adamw = AdamW { learning_rate: 0.05, betas, epsilon, weight_decay, max_norm };
    let of = Weight { stream: turn };
    let gradient = Tensor::<D, f32>::filled(case, bench.device, length, |i| of.gradient(i))?;
    let square_norms = Tensor::<D, f64>::filled(case, bench.device, 1, |_| square_norm)?;
    let updates = Tensor::<D, u32>::filled(case, bench.device, 1, |_| number)?;
    let mut weight = Tensor::<D, f32>::filled(case, bench.device, length, |i| of.weight(i))?;
    let mut state = Tensor::<D, f32>::filled(case, bench.device, 2 * length, pattern)?;
    let before = |index: usize| match index.checked_sub(length) {
        Some(index) => of.moment(index).abs(),
        None => of.moment(index),
    };
    bench.prepare(case, &mut state, &before)?;
    let updated = |index| {
        let g = clip(max_norm, square_norm) * Near::exact(of.gradient(index));
        adam(&adamw, number, of.weight(index), g, [before(index), before(length + index)])
    };
    let (gradient, square_norm) = (gradient.view(case)?, square_norms.view(case)?);
    let update = updates.view(case)?;
    let mut moved = state.view_mut(case)?;
    let predicates = Predicates::new(case, bench.device)?;
    let when = Some(predicates.view(case, Predicate::On)?).filter(|_| turn.is_multiple_of(2));
    bench.writes(
        case,
        &mut weight,
        &|index| of.weight(index),
        move |device, mut weight| {
            let weight = D::Space::reborrow_mut(&mut weight);
            let moments = D::Space::reborrow_mut(&mut moved);
            device.run(AdamWStep { adamw, gradient, square_norm, update, weight, moments, when })
        },
        &|index| Expected::Near(updated(index)[0]),
    )?;
    let case = Case { check: "the moments of adamw", ..case };
    bench.agrees(case, &state, &|index| match index.checked_sub(length) {
        Some(index) => Expected::Near(updated(index)[2]),
        None => Expected::Near(updated(index)[1]),
    })
}

/// Returns a weight and its moments after an update, as the formula reads.
fn adam(adamw: &AdamW, update: u32, w: f32, g: Near, moments: [f32; 2]) -> [Near; 3] {
    let one = Near::exact(1.0);
    let [beta, gamma] = adamw.betas.map(Near::exact);
    let [m, v] = moments.map(Near::exact);
    let m = beta * m + (one - beta) * g;
    let v = gamma * v + (one - gamma) * (g * g);
    // Powers in f64, rounded once.
    let [first, second] = adamw
        .betas
        .map(|beta| one * Near::exact(1.0 - libm::pow(f64::from(beta), f64::from(update))));
    let rate = Near::exact(adamw.learning_rate);
    let decayed = (one - rate * Near::exact(adamw.weight_decay)) * Near::exact(w);
    let denominator = (v / second).sqrt() + Near::exact(adamw.epsilon);
    [decayed - rate * (m / first) / denominator, m, v]
}

/// Lengths that do not fit.
fn check_refusals<D: Memory + HasUpdate>(bench: &mut Bench<'_, D>) -> Result<(), Failure> {
    let case = Case::new("update refused", 9);
    let sgd = Sgd { learning_rate: 1.0, momentum: 0.5, weight_decay: 0.0, max_norm: None };
    let adamw = AdamW {
        learning_rate: 1.0,
        betas: [0.5; 2],
        epsilon: 1.0,
        weight_decay: 0.0,
        max_norm: None,
    };
    let gradient = Tensor::<D, f32>::filled(case, bench.device, 9, |_| 1.0)?;
    let square_norms = Tensor::<D, f64>::filled(case, bench.device, 1, |_| 1.0)?;
    let updates = Tensor::<D, u32>::filled(case, bench.device, 1, |_| 1)?;
    let (gradient, square_norm) = (gradient.view(case)?, square_norms.view(case)?);
    let predicates = Predicates::new(case, bench.device)?;
    let (update, when) = (updates.view(case)?, Some(predicates.view(case, Predicate::On)?));
    let off = predicates.view(case, Predicate::Off)?;
    let mut weight = Tensor::<D, f32>::filled(case, bench.device, 9, pattern)?;
    let mut state = Tensor::<D, f32>::filled(case, bench.device, 18, pattern)?;
    upload(case, bench.device, state.whole_mut(), &pattern::<f32>)?;
    let mut moments = state.view_mut(case)?;
    bench.refuses_mutated_writes(case, &mut weight, &mut |device, mut weight, mutation| {
        let weight = D::Space::reborrow_mut(&mut weight);
        let moments = D::Space::reborrow_mut(&mut moments);
        let of = AdamWStep { adamw, gradient, square_norm, update, weight, moments, when };
        device.run(mutation.apply(of))
    })?;
    bench.skips_write(Case { check: "adamw", ..case }, &mut weight, |device, mut weight| {
        let weight = D::Space::reborrow_mut(&mut weight);
        let moments = D::Space::reborrow_mut(&mut moments);
        let when = Some(off);
        device.run(AdamWStep { adamw, gradient, square_norm, update, weight, moments, when })
    })?;
    D::Space::truncate(&mut moments, 9);
    bench.refuses_mutated_writes(case, &mut weight, &mut |device, mut weight, mutation| {
        let weight = D::Space::reborrow_mut(&mut weight);
        let momentum = D::Space::reborrow_mut(&mut moments);
        let of = SgdStep { sgd, gradient, square_norm, weight, momentum, when };
        device.run(mutation.apply(of))
    })?;
    bench.skips_write(Case { check: "sgd", ..case }, &mut weight, |device, mut weight| {
        let weight = D::Space::reborrow_mut(&mut weight);
        let momentum = D::Space::reborrow_mut(&mut moments);
        let when = Some(off);
        device.run(SgdStep { sgd, gradient, square_norm, weight, momentum, when })
    })?;
    drop(moments);
    let case = Case { check: "the state of an update that is refused or off", ..case };
    bench.agrees(case, &state, &|index| Expected::Bits(pattern::<f32>(index + 1).to_bits()))?;
    let mut square_norms = case.succeeds(bench.device.zeroed::<f64>(2))?;
    for length in [0, 2] {
        let to = case.finds(D::Space::part_mut(D::view_mut(&mut square_norms), 0..length))?;
        let result = bench.device.run(SquareNorm::<D::Space> { gradient, to });
        bench.refused(case, ErrorKind::Shape, result)?;
    }
    let mut found = [1.0; 2];
    case.succeeds(bench.device.read(D::view(&square_norms), &mut found))?;
    case.whole("the sum of a refused norm", &[0.0; 2], &found)
}
