//! Behind f32 arithmetic every narrowing is core's, and every element that is lost is counted.

use adaloss_burn::Scaler;
use adaloss_core::{
    apply::Apply,
    format::{E4M3, Element, Format, Noise, f16},
    policy::Config,
    scale::Scale,
    statistics::Outcome,
    unscale::Place,
};
use burn::tensor::DType;
use rand::RngExt;

use crate::{bits, generator, gradients, matrix, of, tensor, values, weight};

/// Draws gradients over so many binades that no scale keeps all of them in E4M3.
fn spread(count: usize) -> Vec<f32> {
    let mut rng = generator();
    (0..count)
        .map(|_| rng.random_range(-1.0_f32..1.0) * 2.0_f32.powi(rng.random_range(-30..0)))
        .collect()
}

#[test]
fn a_model_in_f32_simulates_gradients_in_e4m3() {
    let mut rng = generator();
    let samples = matrix(&mut rng, 64, 16, 1.0);
    let weight = weight(&mut rng, 16);
    let gradient = tensor(spread(64 * 16), [64, 16]);
    let config = Config::for_format(Format::E4M3);
    let scaler = Scaler::new(config, 0).unwrap();
    let seen = gradients(&scaler, &weight, || {
        let output = scaler.output(samples.clone().matmul(weight.val()));
        (output * gradient.clone()).sum()
    });

    let [visit] = scaler.visits()[..] else { panic!("one mark") };
    let shift = visit.outgoing / Scale::ONE;
    let apply = Apply { narrowing: config.narrowing(), shift, noise: Noise::default() };
    let (mut narrowed, mut outcome) = (vec![E4M3::default(); 64 * 16], Outcome::EMPTY);
    apply.slice(&spread(64 * 16), &mut narrowed, 0, &mut outcome).unwrap();
    assert_eq!(visit.outcome, outcome);
    assert!(outcome.underflow > 100, "{outcome:?}");

    let widened = tensor(narrowed.iter().map(|x| x.widen()).collect(), [64, 16]);
    let inverse = visit.outgoing.inverse().factor();
    let expected = samples.transpose().matmul(widened) * inverse;
    assert_eq!(bits(&of(&seen, &weight)), bits(&values(expected)));
}

#[test]
fn a_mark_on_what_the_next_layer_reads_in_f32_counts_in_binary16() {
    let mut rng = generator();
    let samples = matrix(&mut rng, 64, 16, 1.0);
    let weights = vec![weight(&mut rng, 16), weight(&mut rng, 16)];
    let gradient = tensor(spread(64 * 16), [64, 16]);
    let scaler = Scaler::new(Config::for_format(Format::BINARY16), 1).unwrap();
    let _ = gradients(&scaler, &weights, || {
        let kept = samples.clone().matmul(weights[0].val()).cast(DType::F16);
        let read = scaler.layer(0, kept.cast(DType::F32));
        let output = scaler.output(read.matmul(weights[1].val()));
        (output * gradient.clone()).sum()
    });

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
    let product = tensor(narrowed, [64, 16]).matmul(weights[1].val().transpose());
    let (_, outcome) = apply(layer.outgoing / loss.outgoing, &values(product));
    assert_eq!(layer.outcome, outcome);
}
