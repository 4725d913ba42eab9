//! Several micro-batches in one step.

use adaloss_candle::{Backward, Reduction, Scaler};
use adaloss_core::{
    format::{Format, Rounding},
    policy::Config,
    unscale::{Cause, Place},
};
use candle_core::{DType, Device, Result, Tensor, Var, backprop::GradStore};

use crate::{assert_says, bits, generator, matrix, scaler, values, weight};

/// Two layers, and 32 samples for them.
struct Net {
    weights: [Var; 2],
    samples: Tensor,
}

impl Net {
    fn new() -> Result<Self> {
        let mut rng = generator();
        let weights = [weight(&mut rng, 16)?, weight(&mut rng, 16)?];
        Ok(Self { weights, samples: matrix(&mut rng, 32, 16, 1.0)? })
    }

    /// Returns micro-batch `nth` of four.
    fn part(&self, nth: usize) -> Result<Tensor> {
        self.samples.narrow(0, 8 * nth, 8)
    }

    /// Returns the squares of what the network puts out.
    fn squares(&self, samples: &Tensor, dtype: DType, scaler: &Scaler) -> Result<Tensor> {
        let weights = [self.weights[0].to_dtype(dtype)?, self.weights[1].to_dtype(dtype)?];
        let hidden = scaler.layer(0, &samples.to_dtype(dtype)?.matmul(&weights[0])?.relu()?)?;
        scaler.output(&hidden.matmul(&weights[1])?)?.sqr()
    }

    /// Goes backward through the parts in the order given, a mean over each, made `factor` times as large.
    fn step(&self, scaler: &Scaler, order: [usize; 4], factor: f64) -> Result<Backward> {
        let mut step = scaler.begin()?;
        for nth in order {
            let loss = self.squares(&self.part(nth)?, DType::F16, scaler)?.mean_all()?;
            step.accumulate(&(loss * factor)?)?;
        }
        step.finish(Reduction::Mean)
    }
}

fn applied(ended: Backward) -> GradStore {
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
fn the_mean_over_micro_batches_is_the_gradient_of_the_whole_batch() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    // Outside of a step: candle alone, in f32.
    let exact = net.squares(&net.samples, DType::F32, &scaler)?.mean_all()?.backward()?;
    // So small that candle alone has nothing but zeros in binary16.
    let tiny = 2.0_f64.powi(-30);
    for step in 1..=3 {
        let seen = applied(net.step(&scaler, [0, 1, 2, 3], tiny)?);
        for weight in &net.weights {
            let seen: Vec<f32> = values(seen.get(weight).unwrap());
            let seen: Vec<f32> = seen.iter().map(|x| x * 2.0_f32.powi(30)).collect();
            assert_close(&seen, &values(exact.get(weight).unwrap()));
        }
        assert_eq!(scaler.totals().steps, step);
    }
    Ok(())
}

#[test]
fn the_sum_is_that_of_the_steps_one_by_one_bit_for_bit() -> Result<()> {
    // At a scale of 1 throughout, so that steps do not differ in what they round.
    let config = Config::for_format(Format::BINARY32);
    let net = Net::new()?;
    let mut sums = vec![vec![0.0_f32; 256]; 2];
    for nth in 0..4 {
        let scaler = Scaler::new(config, 1)?;
        let step = scaler.begin()?;
        let loss = net.squares(&net.part(nth)?, DType::F32, &scaler)?.sum_all()?;
        let alone = applied(step.backward(&loss)?);
        for (sum, weight) in sums.iter_mut().zip(&net.weights) {
            let alone = values(alone.get(weight).unwrap());
            sum.iter_mut().zip(alone).for_each(|(sum, x)| *sum += x);
        }
    }
    for (reduction, divisor) in [(Reduction::Sum, 1.0), (Reduction::Mean, 4.0)] {
        let scaler = Scaler::new(config, 1)?;
        let mut step = scaler.begin()?;
        for nth in 0..4 {
            step.accumulate(&net.squares(&net.part(nth)?, DType::F32, &scaler)?.sum_all()?)?;
            assert_eq!(step.micro_batches(), nth as u32 + 1);
        }
        let seen = applied(step.finish(reduction)?);
        for (sum, weight) in sums.iter().zip(&net.weights) {
            let expected: Vec<u32> = sum.iter().map(|x| (x / divisor).to_bits()).collect();
            assert_eq!(bits(seen.get(weight).unwrap()), expected);
        }
    }
    Ok(())
}

#[test]
fn backward_is_the_last_micro_batch_of_a_sum() -> Result<()> {
    let scaler = scaler(0);
    let weight = Var::new(&[2.0_f32], &Device::Cpu)?;
    let loss = |factor: f64| scaler.output(&weight)?.affine(factor, 0.0)?.sum_all();
    let mut step = scaler.begin()?;
    step.accumulate(&loss(1.0)?)?;
    let seen = applied(step.backward(&loss(2.0)?)?);
    assert_eq!(values(seen.get(&weight).unwrap()), [3.0]);
    Ok(())
}

/// Everything that the next steps depend on, byte for byte.
#[test]
fn scales_are_the_same_in_whatever_order_micro_batches_come() -> Result<()> {
    let net = Net::new()?;
    let config = Config::for_format(Format::BINARY16).with_period(Config::NEVER).unwrap();
    let (one, other) = (Scaler::new(config, 1)?, Scaler::new(config, 1)?);
    // Losses that grow and shrink by up to 40 binades, so that visits and segments overflow; one is not finite.
    let factors = [1.0, 1.0e-6, 1.0e6, 1.0e-3, f64::INFINITY, 1.0e-6, 1.0, 1.0];
    let mut replays = 0;
    for (step, factor) in factors.into_iter().enumerate() {
        for (scaler, order) in [(&one, [0, 1, 2, 3]), (&other, [2, 0, 3, 1])] {
            let ended = net.step(scaler, order, factor)?;
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
    Ok(())
}

/// In sums over samples no gradient at a mark depends on how samples are grouped.
#[test]
fn four_micro_batches_decide_the_scales_of_the_whole_batch() -> Result<()> {
    let (net, whole, parts) = (Net::new()?, scaler(1), scaler(1));
    for factor in [1.0, 1.0e-5, 3.0e4, 1.0] {
        let loss = |samples: &Tensor, scaler: &Scaler| {
            net.squares(samples, DType::F16, scaler)?.sum_all()? * factor
        };
        let step = whole.begin()?;
        let _ = applied(step.backward(&loss(&net.samples, &whole)?)?);
        let mut step = parts.begin()?;
        for nth in 0..4 {
            step.accumulate(&loss(&net.part(nth)?, &parts)?)?;
        }
        let _ = applied(step.finish(Reduction::Sum)?);
        for place in [Place::Loss, Place::Layer(0)] {
            let scale = |scaler: &Scaler| scaler.cell(place).unwrap().scale();
            assert_eq!(scale(&parts), scale(&whole), "{place} at {factor}");
        }
    }
    Ok(())
}

#[test]
fn scales_move_between_steps_only() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let _ = applied(net.step(&scaler, [0, 1, 2, 3], 1.0)?);
    let before = scaler.save().unwrap();
    let mut step = scaler.begin()?;
    for nth in 0..4 {
        let loss = net.squares(&net.part(nth)?, DType::F16, &scaler)?.mean_all()?;
        step.accumulate(&(loss * 1.0e-3)?)?;
        // The step may still be dropped, and then never was.
        assert_eq!(scaler.save().unwrap(), before);
        let scales: Vec<_> = scaler.visits().iter().map(|v| (v.place, v.outgoing)).collect();
        assert_eq!(scales.len(), 2 * (nth + 1));
        assert_eq!(scales[..2], scales[2 * nth..], "micro-batch {nth}");
    }
    let _ = step.finish(Reduction::Mean)?;
    assert_ne!(scaler.save().unwrap(), before);
    Ok(())
}

#[test]
fn one_micro_batch_that_is_not_finite_rejects_the_step() -> Result<()> {
    let net = Net::new()?;
    for bad in 0..4 {
        let scaler = scaler(1);
        let mut step = scaler.begin()?;
        for nth in 0..4 {
            let loss = net.squares(&net.part(nth)?, DType::F16, &scaler)?.mean_all()?;
            let loss = if nth == bad { (loss * f64::NAN)? } else { loss };
            step.accumulate(&loss)?;
            assert_eq!(step.is_usable(), nth < bad);
        }
        let ended = step.finish(Reduction::Mean)?;
        let skip = Backward::Skip { layer: Place::Loss, cause: Cause::NonFinite };
        assert_eq!(format!("{ended:?}"), format!("{skip:?}"));
        assert_eq!((scaler.totals().steps, scaler.totals().skipped), (1, 1));
    }
    Ok(())
}

#[test]
fn a_sum_over_micro_batches_that_leaves_f32_rejects_the_step() -> Result<()> {
    let scaler = Scaler::new(Config::for_format(Format::BINARY32), 1)?;
    let weight = Var::new(&[1.0_f32], &Device::Cpu)?;
    let mut step = scaler.begin()?;
    for _ in 0..2 {
        let output = scaler.output(&scaler.layer(0, &weight.affine(1.0, 0.0)?)?)?;
        step.accumulate(&(output.sum_all()? * 2.0e38)?)?;
    }
    assert!(!step.is_usable());
    let ended = step.finish(Reduction::Mean)?;
    let expected = Backward::Skip { layer: Place::Weight(0), cause: Cause::NonFinite };
    assert_eq!(format!("{ended:?}"), format!("{expected:?}"));
    Ok(())
}

/// Stochastic rounding takes other words for each of them.
#[test]
fn micro_batches_round_with_words_of_their_own() -> Result<()> {
    let config = Config::for_format(Format::E5M2).with_rounding(Rounding::Stochastic, 7);
    let scaler = Scaler::new(config, 0)?;
    let weight = Var::ones(4096, DType::F32, &Device::Cpu)?;
    let mut step = scaler.begin()?;
    let mut lost = Vec::new();
    for nth in 0..2 {
        step.accumulate(&(scaler.output(&weight.affine(1.0, 0.0)?)?.sum_all()? * 1.1)?)?;
        lost.push(scaler.visits()[nth].outcome);
    }
    let seen = values(applied(step.finish(Reduction::Sum)?).get(&weight).unwrap());
    // 1.1 becomes 1 or 1.25, and the sum of two that of any two of these.
    for sum in [2.0, 2.25, 2.5] {
        assert!(seen.contains(&sum), "{sum}");
    }
    Ok(())
}

#[test]
fn a_step_without_micro_batches_is_skipped() -> Result<()> {
    let scaler = scaler(1);
    let ended = scaler.begin()?.finish(Reduction::Mean)?;
    assert!(matches!(ended, Backward::Skip { cause: Cause::Nothing, .. }), "{ended:?}");
    Ok(())
}

#[test]
fn a_micro_batch_that_did_not_go_backward_is_an_error() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let before = scaler.save().unwrap();
    let mut step = scaler.begin()?;
    step.accumulate(&net.squares(&net.part(0)?, DType::F16, &scaler)?.mean_all()?)?;
    let loss = net.squares(&net.part(1)?, DType::F16, &scaler)?.mean_all()?;
    assert_says(loss.backward(), "Step::accumulate(&loss) for one of several micro-batches");
    let expected = "2 marks and nothing went backward from its loss: call Step::accumulate(&loss)";
    assert_says(step.finish(Reduction::Mean), expected);
    assert_eq!(scaler.save().unwrap(), before);
    Ok(())
}

#[test]
fn a_micro_batch_goes_backward_before_the_next_goes_forward() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let _step = scaler.begin()?;
    let _first = net.squares(&net.part(0)?, DType::F16, &scaler)?;
    let second = net.squares(&net.part(1)?, DType::F16, &scaler);
    assert_says(second, "each micro-batch goes backward, with Step::accumulate, before the next");
    Ok(())
}

#[test]
fn after_a_micro_batch_that_was_a_mistake_nothing_is_handed_out() -> Result<()> {
    let (net, scaler) = (Net::new()?, scaler(1));
    let before = scaler.save().unwrap();
    let mut step = scaler.begin()?;
    let squares = |nth| net.squares(&net.part(nth)?, DType::F16, &scaler);
    step.accumulate(&squares(0)?.mean_all()?)?;
    assert_says(step.accumulate(&squares(1)?), "a loss is one number");
    let expected = "a micro-batch of this step ended in an error, and its gradients are missing";
    assert_says(step.accumulate(&squares(2)?.mean_all()?), expected);
    assert_says(step.finish(Reduction::Mean), expected);
    assert_eq!(scaler.save().unwrap(), before);
    Ok(())
}
