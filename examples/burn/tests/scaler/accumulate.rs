//! Several micro-batches in one step.

use std::panic::{AssertUnwindSafe, catch_unwind};

use adaloss_burn::{Backward, Reduction, Scaler, ScalerError};
use adaloss_core::{
    format::{Format, Rounding},
    policy::Config,
    unscale::{Cause, Place},
};
use burn::{
    module::Param,
    optim::GradientsParams,
    tensor::{DType, Tensor, activation::relu},
};

use crate::{Weight, bits, by_burn, generator, matrix, of, scaler, tensor, weight};

/// Two layers, and 32 samples for them.
struct Net {
    weights: Vec<Weight>,
    samples: Tensor<2>,
}

impl Net {
    fn new() -> Self {
        let mut rng = generator();
        let weights = vec![weight(&mut rng, 16), weight(&mut rng, 16)];
        Self { weights, samples: matrix(&mut rng, 32, 16, 1.0) }
    }

    /// Returns micro-batch `nth` of four.
    fn part(&self, nth: usize) -> Tensor<2> {
        self.samples.clone().narrow(0, 8 * nth, 8)
    }

    /// Returns the squares of what the network puts out.
    fn squares(&self, samples: Tensor<2>, dtype: DType, scaler: &Scaler) -> Tensor<2> {
        let layer = |x: Tensor<2>, id: usize| x.matmul(self.weights[id].val().cast(dtype));
        let hidden = scaler.layer(0, relu(layer(samples.cast(dtype), 0)));
        scaler.output(layer(hidden, 1)).square()
    }

    /// Goes backward through the parts in the order given, a mean over each, made `factor` times as large.
    fn step(&self, scaler: &Scaler, order: [usize; 4], factor: f64) -> Backward {
        let mut step = scaler.begin(&self.weights).unwrap();
        for nth in order {
            let loss = || self.squares(self.part(nth), DType::F16, scaler).mean() * factor;
            step.accumulate(loss).unwrap();
        }
        step.finish(Reduction::Mean).unwrap()
    }
}

fn applied(ended: Backward) -> GradientsParams {
    match ended {
        Backward::Apply(gradients) => gradients,
        other => panic!("{other:?}"),
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Ten roundings to 11 bits on the way, of which few add up.
#[track_caller]
fn assert_close(seen: &[f32], exact: &[f32]) {
    let error = seen.iter().zip(exact).map(|(a, b)| a - b).collect::<Vec<_>>();
    let relative = norm(&error) / norm(exact);
    assert!(relative < 2.0_f64.powi(-8), "{relative}");
}

#[test]
fn the_mean_over_micro_batches_is_the_gradient_of_the_whole_batch() {
    let (net, scaler) = (Net::new(), scaler(1));
    // Outside of a step: burn alone, in f32.
    let loss = net.squares(net.samples.clone(), DType::F32, &scaler).mean();
    let exact = by_burn(&net.weights, &loss);
    // So small that burn alone has nothing but zeros in binary16.
    let tiny = 2.0_f64.powi(-30);
    for step in 1..=3 {
        let seen = applied(net.step(&scaler, [0, 1, 2, 3], tiny));
        for weight in &net.weights {
            let seen: Vec<f32> = of(&seen, weight).iter().map(|x| x * 2.0_f32.powi(30)).collect();
            assert_close(&seen, &of(&exact, weight));
        }
        assert_eq!(scaler.totals().steps, step);
    }
}

#[test]
fn the_sum_is_that_of_the_steps_one_by_one_bit_for_bit() {
    // At a scale of 1 throughout, so that steps do not differ in what they round.
    let config = Config::for_format(Format::BINARY32);
    let net = Net::new();
    let mut sums = vec![vec![0.0_f32; 256]; 2];
    for nth in 0..4 {
        let scaler = Scaler::new(config, 1).unwrap();
        let loss = || net.squares(net.part(nth), DType::F32, &scaler).sum();
        let alone = applied(scaler.step(&net.weights, loss).unwrap());
        for (sum, weight) in sums.iter_mut().zip(&net.weights) {
            sum.iter_mut().zip(of(&alone, weight)).for_each(|(sum, x)| *sum += x);
        }
    }
    for (reduction, divisor) in [(Reduction::Sum, 1.0), (Reduction::Mean, 4.0)] {
        let scaler = Scaler::new(config, 1).unwrap();
        let mut step = scaler.begin(&net.weights).unwrap();
        for nth in 0..4 {
            step.accumulate(|| net.squares(net.part(nth), DType::F32, &scaler).sum()).unwrap();
            assert_eq!(step.micro_batches(), nth as u32 + 1);
        }
        let seen = applied(step.finish(reduction).unwrap());
        for (sum, weight) in sums.iter().zip(&net.weights) {
            let expected: Vec<f32> = sum.iter().map(|x| x / divisor).collect();
            assert_eq!(bits(&of(&seen, weight)), bits(&expected));
        }
    }
}

/// Scales and what they follow, step after step.
#[test]
fn scales_are_the_same_in_whatever_order_micro_batches_come() {
    let net = Net::new();
    let config = Config::for_format(Format::BINARY16).with_period(Config::NEVER).unwrap();
    let [one, other] = [(); 2].map(|()| Scaler::new(config, 1).unwrap());
    // Losses that grow and shrink by up to 40 binades, so that visits and segments overflow; one is not finite.
    let factors = [1.0, 1.0e-6, 1.0e6, 1.0e-3, f64::INFINITY, 1.0e-6, 1.0, 1.0];
    let mut replays = 0;
    for (step, factor) in factors.into_iter().enumerate() {
        for (scaler, order) in [(&one, [0, 1, 2, 3]), (&other, [2, 0, 3, 1])] {
            let ended = net.step(scaler, order, factor);
            assert_eq!(matches!(ended, Backward::Apply(_)), factor.is_finite(), "{ended:?}");
            replays += scaler.replays();
        }
        let [scales, others] = [&one, &other].map(|scaler| {
            [Place::Loss, Place::Layer(0)]
                .map(|place| scaler.cell(place).map(|cell| (cell.scale(), cell.seen())))
        });
        assert_eq!(scales, others, "step {step}");
    }
    assert!(replays > 0, "nothing overflowed");
}

/// In sums over samples no gradient at a mark depends on how samples are grouped.
#[test]
fn four_micro_batches_decide_the_scales_of_the_whole_batch() {
    let (net, whole, parts) = (Net::new(), scaler(1), scaler(1));
    for factor in [1.0, 1.0e-5, 3.0e4, 1.0] {
        let loss = |samples: Tensor<2>, scaler: &Scaler| {
            net.squares(samples, DType::F16, scaler).sum() * factor
        };
        let ended = whole.step(&net.weights, || loss(net.samples.clone(), &whole));
        let _ = applied(ended.unwrap());
        let mut step = parts.begin(&net.weights).unwrap();
        for nth in 0..4 {
            step.accumulate(|| loss(net.part(nth), &parts)).unwrap();
        }
        let _ = applied(step.finish(Reduction::Sum).unwrap());
        for place in [Place::Loss, Place::Layer(0)] {
            let scale = |scaler: &Scaler| scaler.cell(place).unwrap().scale();
            assert_eq!(scale(&parts), scale(&whole), "{place} at {factor}");
        }
    }
}

#[test]
fn scales_move_between_steps_only() {
    let (net, scaler) = (Net::new(), scaler(1));
    let _ = applied(net.step(&scaler, [0, 1, 2, 3], 1.0));
    let before = scaler.save().unwrap();
    let mut step = scaler.begin(&net.weights).unwrap();
    for nth in 0..4 {
        let loss = || net.squares(net.part(nth), DType::F16, &scaler).mean() * 1.0e-3;
        step.accumulate(loss).unwrap();
        // The step may still be dropped, and then never was.
        assert_eq!(scaler.save().unwrap(), before);
        let scales: Vec<_> = scaler.visits().iter().map(|v| (v.place, v.outgoing)).collect();
        assert_eq!(scales.len(), 2 * (nth + 1));
        assert_eq!(scales[..2], scales[2 * nth..], "micro-batch {nth}");
    }
    let _ = step.finish(Reduction::Mean).unwrap();
    assert_ne!(scaler.save().unwrap(), before);
}

#[test]
fn one_micro_batch_that_is_not_finite_rejects_the_step() {
    let net = Net::new();
    for bad in 0..4 {
        let scaler = scaler(1);
        let mut step = scaler.begin(&net.weights).unwrap();
        for nth in 0..4 {
            let factor = if nth == bad { f64::NAN } else { 1.0 };
            let loss = || net.squares(net.part(nth), DType::F16, &scaler).mean() * factor;
            step.accumulate(loss).unwrap();
            assert_eq!(step.is_usable(), nth < bad);
        }
        let ended = step.finish(Reduction::Mean).unwrap();
        let skip = Backward::Skip { layer: Place::Loss, cause: Cause::NonFinite };
        assert_eq!(format!("{ended:?}"), format!("{skip:?}"));
        assert_eq!((scaler.totals().steps, scaler.totals().skipped), (1, 1));
    }
}

#[test]
fn a_sum_over_micro_batches_that_leaves_f32_rejects_the_step() {
    let scaler = Scaler::new(Config::for_format(Format::BINARY32), 1).unwrap();
    let weight = Param::from_tensor(tensor(vec![1.0], [1]));
    let mut step = scaler.begin(&weight).unwrap();
    for _ in 0..2 {
        let loss = || scaler.output(scaler.layer(0, weight.val() * 1.0)).sum() * 2.0e38;
        step.accumulate(loss).unwrap();
    }
    assert!(!step.is_usable());
    let ended = step.finish(Reduction::Mean).unwrap();
    let expected = Backward::Skip { layer: Place::Weight(0), cause: Cause::NonFinite };
    assert_eq!(format!("{ended:?}"), format!("{expected:?}"));
}

/// Stochastic rounding takes other words for each of them.
#[test]
fn micro_batches_round_with_words_of_their_own() {
    let config = Config::for_format(Format::E5M2).with_rounding(Rounding::Stochastic, 7);
    let scaler = Scaler::new(config, 0).unwrap();
    let weight = Param::from_tensor(tensor(vec![1.0; 4096], [4096]));
    let mut step = scaler.begin(&weight).unwrap();
    for _ in 0..2 {
        step.accumulate(|| scaler.output(weight.val() * 1.0).sum() * 1.1).unwrap();
    }
    let seen = of(&applied(step.finish(Reduction::Sum).unwrap()), &weight);
    // 1.1 becomes 1 or 1.25, and the sum of two that of any two of these.
    for sum in [2.0, 2.25, 2.5] {
        assert!(seen.contains(&sum), "{sum}");
    }
}

#[test]
fn a_step_without_micro_batches_is_skipped() {
    let (net, scaler) = (Net::new(), scaler(1));
    let ended = scaler.begin(&net.weights).unwrap().finish(Reduction::Mean).unwrap();
    assert!(matches!(ended, Backward::Skip { cause: Cause::Nothing, .. }), "{ended:?}");
}

#[test]
fn between_micro_batches_marks_do_nothing_and_no_other_step_begins() {
    let (net, scaler) = (Net::new(), scaler(1));
    let step = scaler.begin(&net.weights).unwrap();
    assert_eq!(scaler.begin(&net.weights).map(drop), Err(ScalerError::UnderWay));
    // Burn alone goes through them.
    let loss = net.squares(net.part(0), DType::F32, &scaler).mean();
    assert_eq!(by_burn(&net.weights, &loss).len(), 2);
    drop(step);
    assert!(scaler.begin(&net.weights).is_ok());
}

#[test]
fn after_a_micro_batch_that_was_a_mistake_or_a_panic_nothing_is_handed_out() {
    let (net, scaler) = (Net::new(), scaler(1));
    let before = scaler.save().unwrap();
    let squares = |nth| net.squares(net.part(nth), DType::F16, &scaler);
    for panics in [false, true] {
        let mut step = scaler.begin(&net.weights).unwrap();
        step.accumulate(|| squares(0).mean()).unwrap();
        if panics {
            let gives_up = AssertUnwindSafe(|| step.accumulate(|| -> Tensor<1> { panic!("no") }));
            assert!(catch_unwind(gives_up).is_err());
        } else {
            let error = step.accumulate(|| squares(1)).unwrap_err();
            assert_eq!(error, ScalerError::LossShape { elements: 128 });
        }
        assert_eq!(step.accumulate(|| squares(2).mean()), Err(ScalerError::Failed));
        assert_eq!(step.finish(Reduction::Mean).map(drop), Err(ScalerError::Failed));
        assert_eq!(scaler.save().unwrap(), before);
    }
    let said = ScalerError::Failed.to_string();
    assert!(said.contains("a micro-batch of this step ended in an error"), "{said}");
}

/// What an earlier micro-batch found for the weights hides nothing.
#[test]
fn a_micro_batch_that_depends_on_no_weight_of_the_module_is_an_error() {
    let (net, scaler, other) = (Net::new(), scaler(1), weight(&mut generator(), 16));
    let mut step = scaler.begin(&net.weights).unwrap();
    step.accumulate(|| net.squares(net.part(0), DType::F16, &scaler).mean()).unwrap();
    let error = step.accumulate(|| scaler.output(other.val()).sum());
    assert_eq!(error, Err(ScalerError::NoWeight));
}
