//! Whole runs on a device with random faults: each ends trained, or with an error that names step and layer.

use std::{
    cell::{Cell, RefCell},
    env, fmt,
    rc::Rc,
    thread,
};

use adaloss_core::unscale::Verdict;
use adaloss_hal::{ErrorKind, OperationKind, fault::Injection};
use adaloss_oracle::tolerance::{FAULTS_ACCURACY, FAULTS_SPOILT};
use adaloss_train::layer::{Diverged, NoObserver};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::lesson::{Breaks, Lesson};

/// How many faults of each kind a run meets on average, if nothing ends it before.
#[derive(Clone, Copy)]
struct FaultRates {
    name: &'static str,
    flips: f64,
    nans: f64,
    infinities: f64,
    drops: f64,
    failures: f64,
    /// The operations that can be struck.
    strikes: fn(OperationKind) -> bool,
}

const NO_FAULTS: FaultRates = FaultRates {
    name: "no faults",
    flips: 0.0,
    nans: 0.0,
    infinities: 0.0,
    drops: 0.0,
    failures: 0.0,
    strikes: |_| true,
};

const FAULT_RATES: [FaultRates; 5] = [
    FaultRates { name: "bits that flip", flips: 10.0, ..NO_FAULTS },
    FaultRates { name: "values that are not finite", nans: 3.0, infinities: 3.0, ..NO_FAULTS },
    FaultRates { name: "operations left out", drops: 2.0, ..NO_FAULTS },
    // Of the optimizer, and of the running means.
    FaultRates {
        name: "updates left out",
        drops: 20.0,
        strikes: |operation| matches!(operation, OperationKind::Sgd | OperationKind::Blend),
        ..NO_FAULTS
    },
    FaultRates {
        name: "everything",
        flips: 3.0,
        nans: 0.5,
        infinities: 0.5,
        drops: 0.25,
        failures: 0.25,
        ..NO_FAULTS
    },
];

/// Operations of a run: all that can be struck, and those of them that write elements.
#[derive(Clone, Copy, Default)]
struct Operations {
    all: u64,
    writing: u64,
}

impl FaultRates {
    /// Draws what goes wrong with an operation of a run of so many, if anything.
    fn draw(
        &self,
        generator: &mut ChaCha8Rng,
        operation: OperationKind,
        elements: usize,
        of: Operations,
    ) -> Option<Injection> {
        let &Self { flips, nans, infinities, drops, failures, .. } = self;
        let index = generator.random_range(0..elements.max(1));
        let bit = generator.random_range(0..width(operation));
        let mut draw: f64 = generator.random();
        let mut is = |per_run: f64, operations: u64| {
            let share = per_run / operations as f64;
            draw -= share;
            (-share..0.0).contains(&draw)
        };
        let writing = if elements > 0 { of.writing } else { u64::MAX };
        match () {
            () if is(flips, writing) => Some(Injection::Flip { index, bit }),
            () if is(nans, writing) => Some(Injection::Nan { index }),
            () if is(infinities, writing) => Some(Injection::Infinity { index }),
            () if is(failures, of.all) => Some(Injection::Fail(ErrorKind::Hardware)),
            () if is(drops, of.all) && operation != OperationKind::Zeroed => Some(Injection::Drop),
            () => None,
        }
    }
}

/// Returns how many bits every element of an operation's result has: 32 where it is f32 for sure.
fn width(operation: OperationKind) -> u32 {
    use OperationKind as O;
    match operation {
        O::Unscale | O::ConvolveWeight | O::Moments | O::NormaliseSums => 32,
        O::SoftmaxCrossEntropy | O::Accumulate | O::Blend | O::Sgd => 32,
        _ => 16,
    }
}

/// How a run ended.
#[derive(PartialEq)]
enum End {
    /// The network has learnt: its accuracy.
    Trained(f64),
    /// With a verdict or an error that says where and why.
    Said(String),
    /// With a network that is finite and has not learnt.
    Spoilt(f64),
    /// With something that is not finite, and nothing said.
    Silent(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trained(accuracy) => write!(f, "trained to {accuracy}"),
            Self::Said(what) => f.write_str(what),
            Self::Spoilt(accuracy) => write!(f, "spoilt, with an accuracy of {accuracy}"),
            Self::Silent(what) => write!(f, "in silence: {what}"),
        }
    }
}

/// A run that is over.
struct Ended {
    end: End,
    operations: Operations,
    faults: Vec<Fault>,
}

/// A fault, and in which step.
type Fault = (u64, OperationKind, Injection);

/// What the device saw so far.
#[derive(Default)]
struct Seen {
    step: Cell<u64>,
    operations: Cell<Operations>,
    faults: RefCell<Vec<Fault>>,
}

/// Trains at some rates of faults, on a device that makes about so many operations in a run.
fn train(lesson: &Lesson, rates: FaultRates, seed: u64, of: Operations, bar: f64) -> Ended {
    let (breaks, seen) = (Breaks::default(), Rc::new(Seen::default()));
    let mut run = lesson.begin(&breaks);
    let (mut generator, at) = (ChaCha8Rng::seed_from_u64(seed), seen.clone());
    breaks.by(move |operation, elements| {
        if !(rates.strikes)(operation) {
            return None;
        }
        let Operations { all, writing } = at.operations.get();
        let writing = writing + u64::from(elements > 0);
        at.operations.set(Operations { all: all + 1, writing });
        let injection = rates.draw(&mut generator, operation, elements, of)?;
        at.faults.borrow_mut().push((at.step.get(), operation, injection));
        Some(injection)
    });
    let mut end = None;
    while end.is_none() && run.step_count() < run.last_step() {
        seen.step.set(run.step_count());
        end = match run.train_step(&mut NoObserver) {
            Err(error) => Some(End::Said(format!("{error:#}"))),
            Ok(stepped) => match stepped.verdict {
                Verdict::Apply if stepped.loss.is_finite() => None,
                Verdict::Apply => Some(End::Silent(format!("{stepped:?}"))),
                Verdict::Skip { .. } => None,
                Verdict::Stop { layer, cause, .. } => {
                    Some(End::Said(format!("{cause} in {layer}")))
                }
            },
        };
    }
    breaks.never();
    let end = end.unwrap_or_else(|| {
        match run.evaluate().and_then(|accuracy| Ok((accuracy, run.checkpoint()?))) {
            Ok((accuracy, _)) if accuracy >= bar => End::Trained(accuracy),
            Ok((accuracy, _)) => End::Spoilt(accuracy),
            Err(error) if error.is::<Diverged>() => End::Said(format!("{error:#}")),
            Err(error) => End::Silent(format!("{error:#}")),
        }
    });
    Ended { end, operations: seen.operations.get(), faults: seen.faults.take() }
}

/// Trains at the rates of each kind of fault, in threads of their own.
fn train_at_all_rates(lesson: &Lesson, seeds: u64) {
    thread::scope(|scope| {
        for rates in FAULT_RATES {
            scope.spawn(move || train_with_each_seed(lesson, rates, seeds));
        }
    });
}

/// Trains at the rates of one kind of fault, once with each seed.
fn train_with_each_seed(lesson: &Lesson, rates: FaultRates, seeds: u64) {
    let never = Operations { all: u64::MAX, writing: u64::MAX };
    let undisturbed =
        train(lesson, FaultRates { strikes: rates.strikes, ..NO_FAULTS }, 0, never, 0.0);
    let End::Trained(accuracy) = undisturbed.end else { panic!("{}", undisturbed.end) };
    let (mut trained, mut said, mut spoilt, mut struck) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let bar = accuracy - FAULTS_ACCURACY.most;
        let Ended { end, operations, faults } =
            train(lesson, rates, seed, undisturbed.operations, bar);
        let said_of = format!("{}, seed {seed}: {end} after {faults:?}", rates.name);
        // A tensor is replayed once at most.
        assert!(operations.all <= 2 * undisturbed.operations.all, "{said_of}");
        let leaves_finite = |(_, _, injection): &Fault| {
            matches!(injection, Injection::Flip { .. } | Injection::Drop)
        };
        match end {
            End::Trained(reached) => {
                assert!(FAULTS_ACCURACY.allows((accuracy - reached).max(0.0)), "{said_of}");
                trained += 1;
            }
            End::Said(_) => said += 1,
            End::Spoilt(_) if faults.iter().any(leaves_finite) => spoilt += 1,
            End::Spoilt(_) | End::Silent(_) => panic!("{said_of}"),
        }
        struck += faults.len();
    }
    let ends = format!(
        "{}: {struck} faults, {trained} trained, {said} said why not, {spoilt} spoilt",
        rates.name
    );
    println!("{ends}");
    assert!(struck as u64 >= seeds / 2 && trained > 0, "{ends}");
    assert!(FAULTS_SPOILT.allows(f64::from(spoilt) / seeds as f64), "{ends}");
    assert!(rates.name != "updates left out" || trained == seeds, "{ends}");
}

/// Returns how many seeds each kind of fault is tried with: `usual`, or as many times that as `ADALOSS_FAULTS` says.
fn seeds(usual: u64) -> u64 {
    let times = env::var("ADALOSS_FAULTS").map_or(1, |times| times.parse().expect("a number"));
    usual * times
}

#[test]
fn a_perceptron_is_trained_or_says_why_not() {
    train_at_all_rates(&Lesson::perceptron(5, 10), seeds(16));
    FAULTS_ACCURACY.assert_needed();
    FAULTS_SPOILT.assert_needed();
}

#[test]
fn a_residual_network_is_trained_or_says_why_not() {
    train_at_all_rates(&Lesson::residual(3), seeds(4));
}
