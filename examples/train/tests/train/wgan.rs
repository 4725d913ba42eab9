//! A generator and a critic learn from one loss, in opposite directions.

use adaloss_core::{
    format::{Format, Narrowing, Noise, f16},
    policy::{Config, Policy},
    scale::Scale,
    unscale::Verdict,
};
use adaloss_cpu::Cpu;
use adaloss_hal::portable::Portable;
use adaloss_train::{
    cost::cost,
    data::{Batch, Dataset, Input, Inputs, Source, digits},
    layer::{MicroBatch, NoObserver, NoSink, Shape},
    model::{Model, Wgan},
    network::{Mode, Network, Saved, Scalers},
    optimizer::{Optimizer, Update},
    task::Task,
    trainer::{Measurements, Settings, Trainer},
    unit::Units,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Reference = Network<Portable, f32, f32>;

const SMALL: Wgan =
    Wgan { latent: 3, hidden: 7, transposed: false, critic: 2, width: 5, clip: 0.25, rate: 0.5 };
const SAMPLES: usize = 4;
const IMAGE: [usize; 2] = [3, 2];

fn network() -> (Reference, Batch) {
    let mut generator = ChaCha8Rng::seed_from_u64(5);
    let input = Input::Image { height: IMAGE[0], width: IMAGE[1], channels: 1 };
    let narrowing = Narrowing::to(Format::BINARY32);
    let model = Model::Wgan(SMALL);
    let network = Network::new(&model, Portable, (input, 1), narrowing, Some(&mut generator));
    let values = (0..SAMPLES * IMAGE[0] * IMAGE[1]).map(|_| generator.random_range(-1.0..1.0));
    (network.unwrap(), Batch::of(Inputs::Images(values.collect()), SAMPLES))
}

fn scalers(network: &mut Reference) -> Scalers<Portable> {
    let config = Config::for_format(Format::BINARY32);
    let config = config.with_policy(Policy::Fixed(Scale::ONE)).unwrap();
    Scalers { first: network.scaler(config, 1).unwrap(), second: None }
}

const TRAINING: Mode<'_> = Mode {
    training: true,
    noise: Noise { seed: 3, stream: 9 },
    part: MicroBatch::ONLY,
    peers: None,
    taken_out: 0,
};

/// Does one step of plain gradient descent, and returns the loss and the gradients that it was made from.
fn step(network: &mut Reference, batch: &Batch, learning_rate: f32) -> (f64, Vec<Saved>) {
    let mut scalers = scalers(network);
    network.begin(&mut scalers, &NoObserver).unwrap();
    network.narrow_weights(&mut scalers).unwrap();
    let outputs = network.forward(&batch.inputs, TRAINING).unwrap();
    assert_eq!(outputs.first().unwrap().shape().elements(), 2 * SAMPLES);
    let loss = network.loss(&outputs, batch, &[], Units::default()).unwrap();
    let value = network.read_loss(&loss).unwrap().mean();
    network.judge_loss(&loss, &mut scalers).unwrap();
    network.backward(&loss.gradients, &mut scalers.first, TRAINING, &mut NoSink).unwrap();
    network.judge_gradients(&mut scalers).unwrap();
    network.conclude(&mut scalers).unwrap();
    let sgd =
        Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0, decays_all: false, bias_rate: 1.0 };
    network.update(&sgd, Update { learning_rate, max_norm: None }, &scalers).unwrap();
    let verdict = network.read_step(&mut scalers, &mut NoObserver).unwrap().0.end.verdict;
    assert_eq!(verdict, Verdict::Apply);
    (value, network.all_gradients().unwrap())
}

fn is_critic(saved: &Saved) -> bool {
    saved.name.starts_with("critic")
}

/// Each parameter moves by the step size times its gradient: that of the critic up the loss, that of the generator half as far down.
#[test]
fn the_critic_goes_up_and_the_generator_down() {
    let (mut network, batch) = network();
    let before = network.save().unwrap();
    // So short that no parameter reaches the magnitude to which the critic is clipped, where it has not already.
    let rate = 1e-3;
    let (_, gradients) = step(&mut network, &batch, rate);
    let after = network.save().unwrap();
    let mut moved = [0, 0];
    for ((before, after), gradient) in before.iter().zip(&after).zip(&gradients) {
        let by = if is_critic(before) { rate } else { -0.5 * rate };
        for ((x, y), g) in before.values.iter().zip(&after.values).zip(&gradient.values) {
            let expected = x + by * g;
            let expected = if is_critic(before) { expected.clamp(-0.25, 0.25) } else { expected };
            assert!((y - expected).abs() < 3e-7, "{}: {x} to {y}, gradient {g}", before.name);
            moved[usize::from(is_critic(before))] += usize::from(x != y);
        }
    }
    assert!(moved.iter().all(|&moved| moved > 10), "{moved:?}");
}

/// What each player does alone changes the loss as it should.
#[test]
fn each_player_gains_by_its_step() {
    let (mut network, batch) = network();
    let before = network.save().unwrap();
    let (loss, _) = step(&mut network, &batch, 0.02);
    let after = network.save().unwrap();
    let mut with = |critic_moves: bool| {
        let pick = |(before, after): (&Saved, &Saved)| {
            if is_critic(before) == critic_moves { after.clone() } else { before.clone() }
        };
        let saved: Vec<_> = before.iter().zip(&after).map(pick).collect();
        network.load(&saved).unwrap();
        step(&mut network, &batch, 0.0).0
    };
    let (critic, generator) = (with(true), with(false));
    assert!(critic > loss && generator < loss, "{generator} < {loss} < {critic}");
}

#[test]
fn the_critic_stays_within_its_magnitude() {
    let (mut network, batch) = network();
    for _ in 0..3 {
        let saved = network.save().unwrap();
        let greatest = |of: bool| {
            let values =
                saved.iter().filter(|saved| is_critic(saved) == of).flat_map(|s| &s.values);
            values.fold(0.0_f32, |most, value| most.max(value.abs()))
        };
        assert_eq!(greatest(true), SMALL.clip);
        assert!(greatest(false) > SMALL.clip);
        step(&mut network, &batch, 5.0);
    }
}

/// The loss is the mean score of real samples less that of generated ones, of which the backward pass has the shares.
#[test]
fn the_loss_is_a_difference_of_means() {
    let (mut network, batch) = network();
    network.refresh().unwrap();
    let outputs = network.forward(&batch.inputs, TRAINING).unwrap();
    let scores = network.read(outputs.first().unwrap()).unwrap();
    let units = Units { classes: 3, quantity: 3, common: 1, taken_out: 0 };
    let loss = network.loss(&outputs, &batch, &[], units).unwrap();
    let [generated, real] = [&scores[..SAMPLES], &scores[SAMPLES..]]
        .map(|half| half.iter().map(|&x| f64::from(x)).sum::<f64>() / SAMPLES as f64);
    let found = network.read_loss(&loss).unwrap().mean();
    assert!((found - 4.0 * (real - generated)).abs() < 1e-12, "{found}: {scores:?}");
    let gradient = network.read(loss.gradients.first().unwrap()).unwrap();
    assert_eq!(gradient, [[-2.0; SAMPLES], [2.0; SAMPLES]].concat());
}

#[test]
fn samples_follow_from_the_noise_of_the_pass() {
    let (mut network, batch) = network();
    network.refresh().unwrap();
    let mut made = |noise| {
        let outputs = network.forward(&batch.inputs, Mode { noise, ..Mode::default() }).unwrap();
        let images = outputs.first().unwrap();
        let [height, width] = IMAGE;
        assert_eq!(images.shape(), Shape { samples: SAMPLES, height, width, channels: 1 });
        network.read(images).unwrap()
    };
    let noise = Noise { seed: 1, stream: 2 };
    assert_eq!(made(noise), made(noise));
    assert_ne!(made(noise), made(Noise { stream: 3, ..noise }));
    assert_ne!(made(noise), made(Noise { seed: 2, ..noise }));
    // A loss is one of scores, which there are in training only.
    let outputs = network.forward(&batch.inputs, Mode::default()).unwrap();
    let error = network.loss(&outputs, &batch, &[], Units::default()).err().unwrap();
    assert!(error.to_string().contains("24 scores are not those of 4 generated"), "{error}");
}

/// Layers whose sizes are easily counted: of the generator 3, 7, 7 and 6, of the critic 6, 5, 5 and 1.
#[test]
fn its_cost_is_counted() {
    let input = Input::Image { height: IMAGE[0], width: IMAGE[1], channels: 1 };
    let model = Model::Wgan(SMALL);
    let found = cost::<f16, f16>(&model, (input, 1), &Optimizer::RMSPROP, SAMPLES).unwrap();
    let [generator, critic] = [21 + 49 + 42, 30 + 25 + 5];
    assert_eq!(found.parameters, generator + 20 + critic + 11);
    // A sample that is made is not judged.
    assert_eq!(found.forward, generator);
    // The loss, what each layer of the critic passes on, and what the last two of the generator do.
    assert_eq!(found.cells, 1 + 3 + 2);
}

/// What is not finite shows that a run is lost, and stays.
#[test]
fn what_is_not_finite_is_not_clipped() {
    let (mut network, _) = network();
    let mut saved = network.save().unwrap();
    let critic = saved.iter().position(is_critic).unwrap();
    saved[critic].values[..4].copy_from_slice(&[f32::NAN, f32::INFINITY, -1e30, 0.125]);
    network.load(&saved).unwrap();
    let scalers = scalers(&mut network);
    // No step was concluded, so that no operation of the optimizer does anything.
    let update = Update { learning_rate: 1.0, max_norm: None };
    network.update(&Optimizer::RMSPROP, update, &scalers).unwrap();
    let values = &network.save().unwrap()[critic].values[..4];
    assert!(values[0].is_nan() && values[1..] == [f32::INFINITY, -0.25, 0.125], "{values:?}");
}

#[test]
fn a_transposed_convolution_needs_even_images() {
    let model = Model::Wgan(Wgan { transposed: true, ..SMALL });
    let input = Input::Image { height: 3, width: 2, channels: 1 };
    let narrowing = Narrowing::to(Format::BINARY32);
    let network = Reference::new(&model, Portable, (input, 1), narrowing, None);
    let error = network.err().unwrap().to_string();
    assert!(error.contains("3 x 2 are not even"), "{error}");
}

/// A few hundred steps make images that are nearer to digits than noise is.
#[test]
fn images_become_digits() {
    let mut task: Task = "digits-wgan".parse().unwrap();
    task.schedule.epochs = 24;
    let still = digits::Options { shift: Some(0.0), warp: Some(0.0), ..Default::default() };
    let source = Source::Unlabelled(Box::new(Source::Embedded(still)));
    let dataset: Box<dyn Dataset> = source.open().unwrap();
    let settings = Settings {
        format: "f32".parse().unwrap(),
        method: "f32".parse().unwrap(),
        seed: 1,
        period: 100,
    };
    let device = Cpu::new(1).unwrap();
    let mut trainer =
        Trainer::<_, f32, f32>::new(&task, &*dataset, settings, device.clone()).unwrap();
    assert_eq!(trainer.evaluate().unwrap(), 0.0);
    let measurements = Measurements { samples: 4, probes: 1, evaluations: 2 };
    let report = trainer.run(measurements, device, |_| Ok(())).unwrap();
    assert!(report.metric > 0.2, "{}", report.metric);
    assert!(report.curve.iter().all(|point| point.loss.is_some_and(|loss| loss > 0.0)));
    assert!(report.weights.iter().all(|weight| weight.relative_l2 == [Some(0.0)]));
}
