//! Gradients that binary16 cannot hold arrive.

use adaloss_candle::Scaler;
use adaloss_core::{format::Format, policy::Config, scale::Scale, unscale::Place};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::{generator, gradients, matrix, scaler, values, weight};

/// Small enough that candle's own backward pass in binary16 returns nothing but zeros.
const TINY: f64 = 1.0e-9;

/// Returns a loss of three layers; `mark` is called behind each.
fn loss(
    samples: &Tensor,
    weights: &[Var; 3],
    dtype: DType,
    mark: impl Fn(usize, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut x = samples.to_dtype(dtype)?;
    for (id, weight) in weights.iter().enumerate() {
        x = mark(id, &x.matmul(&weight.to_dtype(dtype)?)?.relu()?)?;
    }
    x.to_dtype(DType::F32)?.sqr()?.mean_all()? * TINY
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn tiny_gradients_are_those_of_f32_up_to_rounding() -> Result<()> {
    let mut rng = generator();
    let weights = [weight(&mut rng, 32)?, weight(&mut rng, 32)?, weight(&mut rng, 32)?];
    let samples = matrix(&mut rng, 16, 32, 1.0)?;
    let exact = loss(&samples, &weights, DType::F32, |_, x| Ok(x.clone()))?.backward()?;
    let lost = loss(&samples, &weights, DType::F16, |_, x| Ok(x.clone()))?.backward()?;

    let scaler = scaler(2);
    // The second step uses the scales that the first one decided.
    for _ in 0..2 {
        let step = scaler.begin()?;
        let loss = loss(&samples, &weights, DType::F16, |id, x| match id {
            2 => scaler.output(x),
            _ => scaler.layer(id, x),
        })?;
        let seen = gradients(step, &loss);
        for weight in &weights {
            let of = |store: &candle_core::backprop::GradStore| values(store.get(weight).unwrap());
            assert_eq!(norm(&of(&lost)), 0.0, "there is nothing to rescue");
            let (seen, exact) = (of(&seen), of(&exact));
            let error = seen.iter().zip(&exact).map(|(a, b)| a - b).collect::<Vec<_>>();
            // Some ten roundings to 11 bits on the way, of which few add up.
            assert!(norm(&error) < norm(&exact) * 2.0_f64.powi(-8), "{}", norm(&error));
        }
    }
    assert_eq!(scaler.totals().steps, 2);
    Ok(())
}

#[test]
fn every_mark_reports_the_scale_that_its_gradient_left_with() -> Result<()> {
    let mut rng = generator();
    let weights = [weight(&mut rng, 32)?, weight(&mut rng, 32)?, weight(&mut rng, 32)?];
    let samples = matrix(&mut rng, 16, 32, 1.0)?;
    let scaler = scaler(2);
    let step = scaler.begin()?;
    let loss = loss(&samples, &weights, DType::F16, |id, x| match id {
        2 => scaler.output(x),
        _ => scaler.layer(id, x),
    })?;
    let _ = gradients(step, &loss);
    let visits = scaler.visits();
    let places = visits.iter().map(|visit| visit.place).collect::<Vec<_>>();
    assert_eq!(places, [Place::Loss, Place::Layer(1), Place::Layer(0)]);
    for visit in &visits {
        assert!(visit.outgoing > Scale::new(16).unwrap(), "{visit:?}");
        // The first scale leaves a binade free, that of the next step none.
        let next = scaler.cell(visit.place).unwrap().scale();
        assert_eq!(next.log2(), visit.outgoing.log2() + 1);
        assert_eq!((visit.outcome.underflow, visit.outcome.overflow), (0, 0));
    }
    // Sums of products overflow once in two of the segments: their gradients are next to overflow themselves.
    assert_eq!(scaler.replays(), 2);
    assert_eq!(visits[1].incoming.log2(), visits[0].outgoing.log2() - 8);
    assert_eq!(scaler.totals().certificates, 3);
    Ok(())
}

#[test]
fn a_weight_of_several_segments_has_all_of_its_gradient() -> Result<()> {
    let mut rng = generator();
    let shared = weight(&mut rng, 8)?;
    let bias = Var::zeros((1, 8), DType::F32, &Device::Cpu)?;
    let samples = matrix(&mut rng, 4, 8, 1.0)?;
    let scaler = scaler(1);
    let loss = |dtype: DType, marks: bool| -> Result<Tensor> {
        let mark = |x: Tensor| if marks { scaler.layer(0, &x) } else { Ok(x) };
        let weight = shared.to_dtype(dtype)?;
        let x = mark(samples.to_dtype(dtype)?.matmul(&weight)?)?;
        let x = x.matmul(&weight)?;
        let x = if marks { scaler.output(&x)? } else { x.to_dtype(DType::F32)? };
        // The third use and the bias are between the output and the loss, where nothing is scaled.
        x.broadcast_add(&bias)?.matmul(&shared)?.sqr()?.mean_all()
    };
    let exact = loss(DType::F32, false)?.backward()?;
    let step = scaler.begin()?;
    let seen = gradients(step, &loss(DType::F16, true)?);
    for weight in [&shared, &bias] {
        let (seen, exact) = (values(seen.get(weight).unwrap()), values(exact.get(weight).unwrap()));
        let error = seen.iter().zip(&exact).map(|(a, b)| a - b).collect::<Vec<_>>();
        assert!(norm(&error) < norm(&exact) * 2.0_f64.powi(-8), "{seen:?} {exact:?}");
    }
    Ok(())
}

#[test]
fn a_model_in_bf16_has_gradients_in_bf16() -> Result<()> {
    let mut rng = generator();
    let weights = [weight(&mut rng, 32)?, weight(&mut rng, 32)?, weight(&mut rng, 32)?];
    let samples = matrix(&mut rng, 16, 32, 1.0)?;
    let exact = loss(&samples, &weights, DType::F32, |_, x| Ok(x.clone()))?.backward()?;
    let scaler = Scaler::new(Config::for_format(Format::BFLOAT16), 2)?;
    let step = scaler.begin()?;
    let loss = loss(&samples, &weights, DType::BF16, |id, x| match id {
        2 => scaler.output(x),
        _ => scaler.layer(id, x),
    })?;
    let seen = gradients(step, &loss);
    for weight in &weights {
        let (seen, exact) = (values(seen.get(weight).unwrap()), values(exact.get(weight).unwrap()));
        let error = seen.iter().zip(&exact).map(|(a, b)| a - b).collect::<Vec<_>>();
        // As in binary16, with three bits less.
        assert!(norm(&error) < norm(&exact) * 2.0_f64.powi(-5), "{}", norm(&error));
    }
    Ok(())
}

#[test]
fn convolutions_of_a_residual_block_have_their_gradients_too() -> Result<()> {
    let mut rng = generator();
    let kernel = |rng: &mut _, from: usize| -> Result<Var> {
        let bound = (3.0 / (9 * from) as f32).sqrt();
        Var::from_tensor(&matrix(rng, 8 * from, 9, bound)?.reshape((8, from, 3, 3))?)
    };
    let kernels = [kernel(&mut rng, 3)?, kernel(&mut rng, 8)?, kernel(&mut rng, 8)?];
    let samples = matrix(&mut rng, 4 * 3, 64, 1.0)?.reshape((4, 3, 8, 8))?;
    let loss = |dtype: DType, mark: &dyn Fn(usize, &Tensor) -> Result<Tensor>| -> Result<Tensor> {
        let layer = |x: &Tensor, id: usize, stride: usize| {
            x.conv2d(&kernels[id].to_dtype(dtype)?, 1, stride, 1, 1)?.relu()
        };
        let stem = mark(0, &layer(&samples.to_dtype(dtype)?, 0, 2)?)?;
        let branch = mark(1, &layer(&stem, 1, 1)?)?;
        let sum = mark(2, &(layer(&branch, 2, 1)? + &stem)?)?;
        sum.to_dtype(DType::F32)?.sqr()?.mean_all()? * TINY
    };
    let exact = loss(DType::F32, &|_, x| Ok(x.clone()))?.backward()?;
    let scaler = scaler(2);
    let step = scaler.begin()?;
    let loss = loss(DType::F16, &|id, x| match id {
        2 => scaler.output(x),
        _ => scaler.layer(id, x),
    })?;
    let seen = gradients(step, &loss);
    for kernel in &kernels {
        let (seen, exact) = (values(seen.get(kernel).unwrap()), values(exact.get(kernel).unwrap()));
        let error = seen.iter().zip(&exact).map(|(a, b)| a - b).collect::<Vec<_>>();
        assert!(norm(&error) < norm(&exact) * 2.0_f64.powi(-8), "{}", norm(&error));
    }
    Ok(())
}
