//! Every network's gradients are those of its loss.

use adaloss_core::{
    format::{Format, Narrowing, Noise},
    policy::{Config, Operands, Policy},
    scale::Scale,
    scaler::Visit,
    statistics::Histogram,
    unscale::{Place, Verdict},
};
use adaloss_hal::portable::Portable;
use adaloss_oracle::tolerance::{MICRO_BATCHES, SLOPE};
use adaloss_train::{
    data::{Batch, Input, Inputs},
    layer::{MicroBatch, NoObserver, NoSink, Observer},
    model::{Block, Model, Pinn, Resnet, Segnet, Shortcut, Transformer, Twin, Wgan},
    network::{Mode, Network, Saved, Scalers},
    unit::Units,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Reference = Network<Portable, f32, f32>;

/// A network, and samples with their labels.
struct Case {
    network: Reference,
    inputs: Inputs,
    labels: Vec<u32>,
    quantities: Vec<f32>,
    weights: Vec<f32>,
}

const MODE: Mode<'_> = Mode {
    training: true,
    noise: Noise { seed: 7, stream: 3 },
    part: MicroBatch::ONLY,
    peers: None,
    taken_out: 0,
};

/// The second of two losses counts eightfold.
const UNITS: Units = Units { classes: 0, quantity: 3, common: 0, taken_out: 0 };

fn batch(inputs: &Inputs, labels: &[u32]) -> Batch {
    Batch { labels: labels.to_vec(), ..Batch::of(inputs.clone(), labels.len()) }
}

/// Ends a step and returns its verdict.
fn concluded(network: &mut Reference, scalers: &mut Scalers<Portable>) -> Verdict {
    network.judge_gradients(scalers).unwrap();
    network.conclude(scalers).unwrap();
    network.read_step(scalers, &mut NoObserver).unwrap().0.end.verdict
}

impl Case {
    fn images(model: Model, [height, width, channels]: [usize; 3], classes: usize) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(5);
        let input = Input::Image { height, width, channels };
        let network = Network::new(
            &model,
            Portable,
            (input, classes),
            Narrowing::to(Format::BINARY32),
            Some(&mut generator),
        );
        let samples = 3;
        let values = (0..samples * height * width * channels)
            .map(|_| generator.random_range(-1.0..1.0))
            .collect();
        let labels = if model.is_per_pixel() { samples * height * width } else { samples };
        let labels = (0..labels).map(|_| generator.random_range(0..classes as u32)).collect();
        let weights = (0..classes).map(|class| 0.5 + class as f32).collect();
        let (network, inputs) = (network.unwrap(), Inputs::Images(values));
        Self { network, inputs, labels, quantities: Vec::new(), weights }
    }

    fn tokens(model: Model) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(6);
        let (length, vocabulary, samples) = (5, 7, 2);
        let input = Input::Tokens { length, vocabulary };
        let network = Network::new(
            &model,
            Portable,
            (input, vocabulary),
            Narrowing::to(Format::BINARY32),
            Some(&mut generator),
        );
        let mut draw = || -> Vec<u32> {
            (0..samples * length).map(|_| generator.random_range(0..vocabulary as u32)).collect()
        };
        let (tokens, labels) = (draw(), draw());
        let inputs = Inputs::Tokens(tokens);
        let (network, weights) = (network.unwrap(), Vec::new());
        Self { network, inputs, labels, quantities: Vec::new(), weights }
    }

    fn batch(&self) -> Batch {
        Batch { quantities: self.quantities.clone(), ..batch(&self.inputs, &self.labels) }
    }

    fn loss(&mut self) -> f64 {
        self.network.refresh().unwrap();
        let outputs = self.network.forward(&self.inputs, MODE).unwrap();
        let batch = self.batch();
        let loss = self.network.loss(&outputs, &batch, &self.weights, UNITS).unwrap();
        self.network.read_loss(&loss).unwrap().mean()
    }

    /// Returns the gradients of every weight, with their names.
    fn gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        let config = Config::for_format(Format::BINARY32);
        let config = config.with_policy(Policy::Fixed(Scale::ONE)).unwrap();
        let mut scalers = Scalers { first: self.network.scaler(config, 1).unwrap(), second: None };
        self.network.refresh().unwrap();
        let outputs = self.network.forward(&self.inputs, MODE).unwrap();
        let batch = self.batch();
        let loss = self.network.loss(&outputs, &batch, &self.weights, UNITS).unwrap();
        let first = &mut scalers.first;
        self.network.backward(&loss.gradients, first, MODE, &mut NoSink).unwrap();
        assert_eq!(concluded(&mut self.network, &mut scalers), Verdict::Apply);
        self.network.gradients().unwrap()
    }

    /// Returns the slope of the loss along one direction in the space of one weight.
    fn slope(&mut self, saved: &[Saved], piece: usize, direction: &[f32], reach: f32) -> f64 {
        let mut at = |sign: f32| {
            let mut moved = saved.to_vec();
            let values = moved[piece].values.iter_mut().zip(direction);
            values.for_each(|(value, direction)| *value += sign * reach * direction);
            self.network.load(&moved).unwrap();
            self.loss()
        };
        (at(1.0) - at(-1.0)) / (2.0 * f64::from(reach))
    }

    /// Compares slopes with gradients, weight by weight.
    fn check(mut self) {
        let saved = self.network.save().unwrap();
        let gradients = self.gradients();
        assert!(!gradients.is_empty());
        for (name, gradient) in &gradients {
            let piece = saved.iter().position(|saved| saved.name == *name).unwrap();
            // Along the gradient itself the slope is its norm: a wrong one is shorter, or has another direction.
            let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(norm > 1e-5, "{name} has no gradient");
            let along: Vec<f32> = gradient.iter().map(|g| g / norm).collect();
            // A long reach crosses kinks of the rectifiers, a short one drowns in rounding.
            let slopes = [1e-3, 3e-4, 1e-4].map(|reach| self.slope(&saved, piece, &along, reach));
            let error = |slope: f64| (slope / f64::from(norm) - 1.0).abs();
            let least = slopes.map(error).into_iter().fold(f64::INFINITY, f64::min);
            assert!(SLOPE.allows(least), "{name}: slopes {slopes:?}, gradient {norm}");
        }
    }
}

/// The gradient of a step is the mean of its micro-batches', each unscaled with the scale it carried.
#[test]
fn of_micro_batches_are_averaged() {
    let mut case = Case::images(Model::Mlp { hidden: 9 }, [3, 4, 1], 4);
    case.weights.clear();
    // Three samples, taken twice: as one batch of six, and as two of three.
    let Inputs::Images(pixels) = case.inputs.clone() else { unreachable!("images") };
    let labels = case.labels.clone();
    let config = Config::for_format(Format::BINARY32);
    let config = config.with_policy(Policy::Fixed(Scale::ONE)).unwrap();
    let mut scalers = Scalers { first: case.network.scaler(config, 2).unwrap(), second: None };
    case.network.refresh().unwrap();
    let mut run = |batches: &[(Vec<f32>, Vec<u32>)]| {
        for (part, (pixels, labels)) in MicroBatch::all(batches.len()).zip(batches) {
            let inputs = Inputs::Images(pixels.clone());
            let outputs = case.network.forward(&inputs, Mode { part, ..MODE }).unwrap();
            let batch = batch(&inputs, labels);
            let loss = case.network.loss(&outputs, &batch, &[], UNITS).unwrap();
            let first = &mut scalers.first;
            case.network
                .backward(&loss.gradients, first, Mode { part, ..MODE }, &mut NoSink)
                .unwrap();
        }
        case.network.average(batches.len()).unwrap();
        assert_eq!(concluded(&mut case.network, &mut scalers), Verdict::Apply);
        case.network.gradients().unwrap()
    };
    let other: Vec<f32> = pixels.iter().map(|x| 0.5 - x).collect();
    let both = ([&pixels[..], &other].concat(), [&labels[..], &labels].concat());
    let whole = run(&[both]);
    let parts = run(&[(pixels, labels.clone()), (other, labels)]);
    for ((name, whole), (_, parts)) in whole.iter().zip(&parts) {
        let greatest = whole.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let near = |(x, y): (&f32, &f32)| {
            MICRO_BATCHES.allows_of(f64::from(*x) - f64::from(*y), greatest.into())
        };
        assert!(whole.iter().zip(parts).all(near), "{name}: {whole:?} and {parts:?}");
    }
    MICRO_BATCHES.assert_needed();
}

/// What was visited, with the number of its cell.
#[derive(Default)]
struct Places(Vec<(String, Place)>, u64);

impl Observer for Places {
    fn visited(&mut self, name: &str, visit: &Visit, _: &Histogram, _: Option<&Operands>) {
        self.0.push((name.into(), visit.place));
        self.1 += u64::from(visit.passes) - 1;
    }
}

/// Two losses that go back one by one leave the gradients of their sum, those of shared layers summed in another
/// order; over micro-batches, too.
#[test]
fn of_two_losses_one_by_one_are_those_of_both() {
    let twin = |shared| Case::images(Model::Twin(Twin { hidden: 9, shared }), [3, 4, 1], 4);
    for (mut case, shared, batches) in [
        (twin(true), true, 1),
        (twin(true), true, 3),
        (twin(false), false, 1),
        (twin(false), false, 2),
        (field(), false, 1),
        (field(), false, 3),
    ] {
        case.weights.clear();
        let Inputs::Images(pixels) = case.inputs.clone() else { unreachable!("images") };
        let config = Config::for_format(Format::BINARY32);
        let config = config.with_policy(Policy::Fixed(Scale::ONE)).unwrap();
        let [first, second] = [(); 2].map(|()| case.network.scaler(config, batches).unwrap());
        let mut scalers = Scalers { first, second: Some(second) };
        case.network.refresh().unwrap();
        let mut run = |one_by_one: bool| {
            let mut places = Places::default();
            case.network.begin(&mut scalers, &places).unwrap();
            for part in MicroBatch::all(batches) {
                let pixels = pixels.iter().map(|x| x + part.nth as f32).collect();
                let quantities = case.quantities.clone();
                let batch = Batch { quantities, ..batch(&Inputs::Images(pixels), &case.labels) };
                let outputs = case.network.forward(&batch.inputs, Mode { part, ..MODE }).unwrap();
                let loss = case.network.loss(&outputs, &batch, &[], UNITS).unwrap();
                let Scalers { first, second } = &mut scalers;
                match (one_by_one, second) {
                    (true, Some(second)) => {
                        let steps = [first, second];
                        let gradients = &loss.gradients;
                        case.network
                            .backward_each(gradients, steps, Mode { part, ..MODE }, &mut NoSink)
                            .unwrap();
                    }
                    _ => {
                        let gradients = &loss.gradients;
                        case.network
                            .backward(gradients, first, Mode { part, ..MODE }, &mut NoSink)
                            .unwrap();
                    }
                }
            }
            case.network.average(batches).unwrap();
            case.network.judge_gradients(&mut scalers).unwrap();
            case.network.conclude(&mut scalers).unwrap();
            let (first, second) = case.network.read_step(&mut scalers, &mut places).unwrap();
            assert_eq!(first.end.verdict, Verdict::Apply);
            assert_eq!(second.unwrap().end.verdict == Verdict::Apply, one_by_one);
            (case.network.gradients().unwrap(), places)
        };
        let (both, together) = run(false);
        let (one_by_one, apart) = run(true);
        for ((name, both), (_, sum)) in both.iter().zip(&one_by_one) {
            let greatest = both.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            let near = |(x, y): (&f32, &f32)| {
                let is_shared = name.starts_with("trunk");
                x == y || is_shared && MICRO_BATCHES.allows_of((x - y).into(), greatest.into())
            };
            assert!(greatest > 0.0 && both.iter().zip(sum).all(near), "{name}: {both:?}, {sum:?}");
        }
        // A visit bears the number of its cell either way; shared layers are visited once more.
        let again: Vec<_> = apart.0.iter().filter(|(name, _)| name.ends_with(" again")).collect();
        assert_eq!((again.len(), apart.1), (usize::from(shared) * batches, again.len() as u64));
        for (name, place) in &apart.0 {
            let name = name.trim_end_matches(" again");
            assert!(together.0.contains(&(name.into(), *place)), "{name}: {:?}", together.0);
        }
        assert_eq!(together.0.len(), apart.0.len());
    }
}

#[test]
fn separate_backward_passes_need_two_losses() {
    let mut case = Case::images(Model::Mlp { hidden: 9 }, [3, 4, 1], 4);
    let config = Config::for_format(Format::BINARY32);
    let [mut first, mut second] = [(); 2].map(|()| case.network.scaler(config, 1).unwrap());
    case.network.refresh().unwrap();
    let outputs = case.network.forward(&case.inputs, MODE).unwrap();
    let steps = [&mut first, &mut second];
    let error = case.network.backward_each(&outputs, steps, MODE, &mut NoSink).unwrap_err();
    assert!(error.to_string().contains("one loss"), "{error}");
}

#[test]
fn of_a_perceptron() {
    Case::images(Model::Mlp { hidden: 9 }, [3, 4, 1], 4).check();
}

/// The sum of two losses, of classes and of a quantity, with a trunk and without.
#[test]
fn of_two_tasks() {
    for shared in [true, false] {
        Case::images(Model::Twin(Twin { hidden: 9, shared }), [3, 4, 1], 4).check();
    }
}

/// The scores of a critic, through it and through the generator whose samples it sees.
#[test]
fn of_a_generator_and_its_critic() {
    for transposed in [false, true] {
        let wgan =
            Wgan { latent: 4, hidden: 9, transposed, critic: 3, width: 8, clip: 4.0, rate: 1.0 };
        Case::images(Model::Wgan(wgan), [4, 6, 2], 1).check();
    }
}

/// The squared error of a quantity alone.
#[test]
fn of_a_quantity() {
    let mut case = Case::images(Model::Mlp { hidden: 9 }, [1, 1, 12], 1);
    case.quantities = vec![0.25, -3.0, 40.0];
    case.check();
}

/// A network that learns a field from its equation, and three points where it is given.
fn field() -> Case {
    let mut case = Case::images(Model::Pinn(Pinn { hidden: 7, depth: 3 }), [1, 2, 2], 1);
    case.quantities = vec![0.5, -1.0, 2.0];
    case
}

/// Both losses of a field, that of its equation by way of second derivatives.
#[test]
fn of_a_field() {
    field().check();
}

/// What the loss of the equation is given in is taken out of its gradients alone.
#[test]
fn of_a_field_are_the_same_in_any_unit() {
    let gradients = |quantity: i32, taken_out: i32| {
        let mut case = field();
        let batch = case.batch();
        let config = Config::for_format(Format::BINARY32);
        let config = config.with_policy(Policy::Fixed(Scale::ONE)).unwrap();
        let mut scaler = case.network.scaler(config, 1).unwrap();
        case.network.refresh().unwrap();
        let outputs = case.network.forward(&case.inputs, MODE).unwrap();
        let units = Units { quantity, taken_out, ..UNITS };
        let loss = case.network.loss(&outputs, &batch, &[], units).unwrap();
        let mode = Mode { taken_out, ..MODE };
        case.network.backward(&loss.gradients, &mut scaler, mode, &mut NoSink).unwrap();
        (case.network.read_loss(&loss).unwrap().mean(), case.network.gradients().unwrap())
    };
    let expected = gradients(0, 0);
    assert!(gradients(40, 40) == expected && gradients(-12, -12) == expected);
    assert!(gradients(1, 0) != expected);
}

#[test]
fn of_residual_networks() {
    let small = Resnet { width: 4, ..Resnet::small(8, Block::Basic).unwrap() };
    for (shortcut, preactivation) in [
        (Shortcut::Padded, false),
        (Shortcut::Padded, true),
        (Shortcut::Projected, false),
        (Shortcut::Projected, true),
    ] {
        let resnet = Resnet { shortcut, preactivation, ..small };
        Case::images(Model::Resnet(resnet), [8, 8, 2], 4).check();
    }
}

#[test]
fn of_a_segmentation_network() {
    for (convolutions, rectified) in [(1, false), (2, true)] {
        let segnet = Segnet { widths: [4, 6, 5, 0, 0], kernel: 3, convolutions, rectified };
        Case::images(Model::Segnet(segnet), [8, 16, 3], 5).check();
    }
    SLOPE.assert_needed();
}

#[test]
fn of_a_transformer() {
    let transformer = Transformer { blocks: 2, heads: 2, width: 8, dropout: 0.25 };
    Case::tokens(Model::Transformer(transformer)).check();
}
