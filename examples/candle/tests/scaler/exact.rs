//! Behind f32 arithmetic every narrowing is core's, and every element that is lost is counted.

use adaloss_candle::Scaler;
use adaloss_core::{
    apply::Apply,
    format::{E4M3, Element, Format, Noise, f16},
    policy::Config,
    scale::Scale,
    statistics::Outcome,
    unscale::Place,
};
use candle_core::{DType, Result, Tensor, Var};
use rand::RngExt;

use crate::{bits, generator, gradients, matrix, weight};

/// Draws gradients over so many binades that no scale keeps all of them in E4M3.
fn spread(count: usize) -> Vec<f32> {
    let mut rng = generator();
    (0..count)
        .map(|_| rng.random_range(-1.0_f32..1.0) * 2.0_f32.powi(rng.random_range(-30..0)))
        .collect()
}

#[test]
fn a_model_in_f32_simulates_gradients_in_e4m3() -> Result<()> {
    let mut rng = generator();
    let samples = matrix(&mut rng, 64, 16, 1.0)?;
    let weight = weight(&mut rng, 16)?;
    let gradient = Tensor::from_vec(spread(64 * 16), (64, 16), samples.device())?;
    let config = Config::for_format(Format::E4M3);
    let scaler = Scaler::new(config, 0)?;
    let step = scaler.begin()?;
    let output = scaler.output(&samples.matmul(&weight)?)?;
    let seen = gradients(step, &(output * &gradient)?.sum_all()?);

    let [visit] = scaler.visits()[..] else { panic!("one mark") };
    let shift = visit.outgoing / Scale::ONE;
    let apply = Apply { narrowing: config.narrowing(), shift, noise: Noise::default() };
    let (mut narrowed, mut outcome) = (vec![E4M3::default(); 64 * 16], Outcome::EMPTY);
    apply.slice(&spread(64 * 16), &mut narrowed, 0, &mut outcome).unwrap();
    assert_eq!(visit.outcome, outcome);
    assert!(outcome.underflow > 100, "{outcome:?}");

    let widened = narrowed.iter().map(|x| x.widen()).collect();
    let widened = Tensor::from_vec(widened, (64, 16), samples.device())?;
    let inverse = f64::from(visit.outgoing.inverse().factor());
    let expected = samples.t()?.matmul(&widened)?.affine(inverse, 0.0)?;
    assert_eq!(bits(seen.get(&weight).unwrap()), bits(&expected));
    Ok(())
}

#[test]
fn a_mark_on_what_the_next_layer_reads_in_f32_counts_in_binary16() -> Result<()> {
    let mut rng = generator();
    let samples = matrix(&mut rng, 64, 16, 1.0)?;
    let weights: [Var; 2] = [weight(&mut rng, 16)?, weight(&mut rng, 16)?];
    let gradient = Tensor::from_vec(spread(64 * 16), (64, 16), samples.device())?;
    let scaler = Scaler::new(Config::for_format(Format::BINARY16), 1)?;
    let step = scaler.begin()?;
    let kept = samples.matmul(&weights[0])?.to_dtype(DType::F16)?;
    let read = scaler.layer(0, &kept.to_dtype(DType::F32)?)?;
    let output = scaler.output(&read.matmul(&weights[1])?)?;
    let _ = gradients(step, &(output * &gradient)?.sum_all()?);

    let [loss, layer] = scaler.visits()[..] else { panic!("two marks") };
    assert_eq!(layer.place, Place::Layer(0));
    // The same product by hand, of the gradient as it was narrowed.
    let narrowing = scaler.config().narrowing();
    let apply = |shift, values: &[f32]| {
        let apply = Apply { narrowing, shift, noise: Noise::default() };
        let (mut to, mut outcome) = (vec![f16::ZERO; values.len()], Outcome::EMPTY);
        apply.slice(values, &mut to, 0, &mut outcome).unwrap();
        (to.iter().map(|x| x.widen()).collect::<Vec<_>>(), outcome)
    };
    let (narrowed, outcome) = apply(loss.outgoing / Scale::ONE, &spread(64 * 16));
    assert_eq!(loss.outcome, outcome);
    let narrowed = Tensor::from_vec(narrowed, (64, 16), samples.device())?;
    let product = narrowed.matmul(&weights[1].t()?)?;
    let (_, outcome) = apply(layer.outgoing / loss.outgoing, &crate::values(&product));
    assert_eq!(layer.outcome, outcome);
    Ok(())
}
