//! One fault in one step, at every operation of the step.

use std::{cell::RefCell, rc::Rc};

use adaloss_core::{
    policy::Config,
    unscale::{Cause, Place, Verdict},
};
use adaloss_hal::{ErrorKind, OperationKind, fault::Injection};
use adaloss_train::{
    checkpoint::Checkpoint,
    layer::{Diverged, NoObserver},
    trainer::Stepped,
};
use anyhow::Result;

use super::lesson::{Breaks, Lesson, Run, bits};

/// A step in front of which everything is known, and what comes of it on a sound device.
struct Subject {
    lesson: Lesson,
    before: Checkpoint,
    /// Every operation of the step, and how many elements of it can be struck.
    operations: Vec<(OperationKind, usize)>,
    after: Vec<u32>,
}

/// The parts of a step, by the operation that each begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Forward,
    Back,
    Update,
}

impl Subject {
    /// Takes the step after `steps` others.
    fn new(lesson: Lesson, steps: u64) -> Self {
        let breaks = Breaks::default();
        let mut run = lesson.begin(&breaks);
        while run.step_count() < steps {
            assert_eq!(run.train_step(&mut NoObserver).unwrap().verdict, Verdict::Apply);
        }
        let before = run.checkpoint().unwrap();
        let asked = Rc::new(RefCell::new(Vec::new()));
        let to = asked.clone();
        breaks.by(move |operation, elements| {
            to.borrow_mut().push((operation, elements));
            None
        });
        assert_eq!(run.train_step(&mut NoObserver).unwrap().verdict, Verdict::Apply);
        breaks.never();
        let after = bits(&run.checkpoint().unwrap().pieces);
        drop(run);
        let operations = asked.borrow().clone();
        Self { lesson, before, operations, after }
    }

    /// Takes the step with a fault at its operation `nth`, and hands what came of it on.
    fn strike(
        &self,
        nth: usize,
        injection: Injection,
        check: impl FnOnce(Run<'_>, Result<Stepped>),
    ) {
        let breaks = Breaks::default();
        let mut run = self.lesson.resume(&breaks, &self.before);
        let mut calls = 0..;
        breaks.by(move |_, _| (calls.next() == Some(nth)).then_some(injection));
        let stepped = run.train_step(&mut NoObserver);
        breaks.never();
        check(run, stepped);
    }

    /// Returns what part of the step an operation belongs to.
    fn part(&self, nth: usize) -> Part {
        let first = |is: fn(OperationKind) -> bool| {
            self.operations.iter().position(|&(operation, _)| is(operation)).unwrap()
        };
        match nth {
            nth if nth
                >= first(|operation| {
                    matches!(operation, OperationKind::Sgd | OperationKind::AdamW)
                }) =>
            {
                Part::Update
            }
            nth if nth >= first(|operation| operation == OperationKind::SoftmaxCrossEntropy) => {
                Part::Back
            }
            _ => Part::Forward,
        }
    }

    /// Returns the operations of a part that write elements, with their places in the step.
    fn writing(&self) -> impl Iterator<Item = (usize, OperationKind, usize)> {
        let all = self.operations.iter().enumerate();
        let all = all.map(|(nth, &(operation, elements))| (nth, operation, elements));
        all.filter(|&(_, _, elements)| elements > 0)
    }
}

/// A NaN and an infinity, each at the first, a middle and the last element.
fn values(elements: usize) -> impl Iterator<Item = Injection> {
    [0, elements / 2, elements - 1]
        .into_iter()
        .flat_map(|index| [Injection::Nan { index }, Injection::Infinity { index }])
}

/// A NaN or an infinity in any result: the step is skipped and nothing has changed, or no later operation
/// reads the element; one in a weight itself is found before the weight is used.
fn nothing_that_is_not_finite_passes(subject: &Subject, injections: fn(usize) -> Vec<Injection>) {
    let before = bits(&subject.before.pieces);
    let mut skipped = 0;
    for (nth, operation, elements) in subject.writing() {
        for injection in injections(elements) {
            let said = format!("{operation}, number {nth}, {injection:?}");
            subject.strike(nth, injection, |mut run, stepped| {
                let stepped = stepped.unwrap_or_else(|error| panic!("{said}: {error:#}"));
                match (stepped.verdict, subject.part(nth)) {
                    (Verdict::Skip { cause, .. }, Part::Forward | Part::Back) => {
                        assert_eq!(cause, Cause::NonFinite, "{said}");
                        assert!(bits(&run.checkpoint().unwrap().pieces) == before, "{said}");
                        skipped += 1;
                    }
                    // The rectifier makes a negative infinity zero.
                    (Verdict::Apply, Part::Forward) => {
                        assert!(stepped.loss.is_finite(), "{said}");
                        assert!(run.checkpoint().is_ok(), "{said}");
                    }
                    // The rectifier drops the gradient of elements that it set to zero.
                    (Verdict::Apply, Part::Back) => {
                        let after = bits(&run.checkpoint().unwrap().pieces);
                        assert!(after == subject.after, "{said}");
                    }
                    (Verdict::Apply, Part::Update) => {
                        assert!(run.checkpoint().unwrap_err().is::<Diverged>(), "{said}");
                        // The state of the optimizer reaches the weight with the next update.
                        let error = run
                            .train_step(&mut NoObserver)
                            .and_then(|_| run.train_step(&mut NoObserver))
                            .expect_err(&said);
                        assert!(error.is::<Diverged>(), "{said}: {error:#}");
                    }
                    (verdict, part) => panic!("{said}: {verdict:?} in {part:?}"),
                }
            });
        }
    }
    assert!(skipped > subject.writing().count() / 2, "{skipped} steps were skipped");
}

/// One NaN in the middle of the result, where there are many operations.
fn nan_inside(elements: usize) -> Vec<Injection> {
    vec![Injection::Nan { index: elements / 2 }]
}

#[test]
fn nothing_that_is_not_finite_passes_in_a_perceptron() {
    // With certificates and without; in the very first step, each tensor is narrowed twice.
    for (period, steps) in [(1, 2), (10, 2), (1, 0), (Config::NEVER, 0)] {
        let subject = Subject::new(Lesson::perceptron(2, period), steps);
        nothing_that_is_not_finite_passes(&subject, |elements| values(elements).collect());
    }
}

#[test]
fn nothing_that_is_not_finite_passes_in_a_residual_network() {
    let subject = Subject::new(Lesson::residual(1), 2);
    nothing_that_is_not_finite_passes(&subject, nan_inside);
}

#[test]
fn nothing_that_is_not_finite_passes_in_a_transformer() {
    let subject = Subject::new(Lesson::transformer(), 2);
    nothing_that_is_not_finite_passes(&subject, nan_inside);
}

/// What a fault in the backward pass of the perceptron is named by, operation by operation; nothing where
/// the result is measured and dropped.
#[test]
fn the_layer_that_was_struck_is_named() {
    use OperationKind::{Apply, Matmul, ReluInput, SoftmaxCrossEntropy};
    let [loss, head, hidden, stem] =
        [Place::Loss, Place::Weight(0), Place::Weight(1), Place::Weight(2)].map(Some);
    let plain = [
        (SoftmaxCrossEntropy, loss),
        (Apply, None), // a pass that measures is not needed, and what is struck is narrowed into
        (Apply, head), // the gradient of the loss, narrowed
        (Apply, head), // a replay is not needed, and the gradient is struck behind its counts
        (Matmul, head), // the gradient of the bias
        (Matmul, head), // the gradient of the weight
        (Matmul, None), // the gradient that leaves the layer: to be measured,
        (Matmul, hidden), // narrowed,
        (Matmul, hidden), // and replayed
        (ReluInput, hidden),
        (Matmul, hidden),
        (Matmul, None),
        (Matmul, stem),
        (Matmul, stem),
        (ReluInput, stem),
        (Matmul, stem),
    ];
    let certifying = [
        (SoftmaxCrossEntropy, loss),
        (Apply, None),
        (Apply, head),
        (Apply, head),
        (Matmul, head),
        (Matmul, head),
        (Matmul, Some(Place::Layer(0))), // in f32, to be measured and then narrowed
        (Apply, hidden),
        (Apply, hidden),
        (ReluInput, hidden),
        (Matmul, hidden),
        (Matmul, Some(Place::Layer(1))),
        (Apply, stem),
        (Apply, stem),
        (ReluInput, stem),
        (Matmul, stem),
    ];
    for (period, expected) in [(10, &plain[..]), (1, &certifying)] {
        let subject = Subject::new(Lesson::perceptron(2, period), 2);
        let back = subject.writing().filter(|&(nth, ..)| subject.part(nth) == Part::Back);
        let back: Vec<_> = back.collect();
        assert_eq!(back.len(), expected.len(), "{back:?}");
        for (&(nth, operation, elements), &(named, place)) in back.iter().zip(expected) {
            assert_eq!(operation, named, "number {nth}");
            let mut skipped = 0;
            for injection in
                values(elements).chain((0..20).map(|i| Injection::Nan { index: i % elements }))
            {
                subject.strike(nth, injection, |_, stepped| match stepped.unwrap().verdict {
                    Verdict::Apply => {} // the rectifier had set it to zero
                    verdict => {
                        let layer = place.unwrap();
                        assert_eq!(verdict, Verdict::Skip { layer, cause: Cause::NonFinite });
                        skipped += 1;
                    }
                });
            }
            assert_eq!(skipped > 0, place.is_some(), "{operation}, number {nth}");
        }
    }
}

/// A device that reports a failure ends the run with an error that says where, and of what kind.
#[test]
fn a_failure_is_an_error_that_names_its_place() {
    let subject = Subject::new(Lesson::perceptron(2, 10), 2);
    let mut places = Vec::new();
    for (nth, &(operation, _)) in subject.operations.iter().enumerate() {
        subject.strike(nth, Injection::Fail(ErrorKind::Hardware), |mut run, stepped| {
            let error = format!("{:#}", stepped.unwrap_err());
            let cause = format!(": injected into {operation}: device failure");
            let place = error.strip_suffix(&cause).unwrap_or_else(|| panic!("{error}"));
            if places.last().is_none_or(|last| last != place) {
                places.push(place.to_owned());
            }
            assert_eq!(run.step_count(), 2);
            if subject.part(nth) != Part::Update {
                let pieces = run.checkpoint().unwrap().pieces;
                assert!(bits(&pieces) == bits(&subject.before.pieces), "{error}");
            }
        });
    }
    assert_eq!(
        places,
        [
            "step 2: before the step",
            "step 2: before the step: stem",
            "step 2: before the step: hidden",
            "step 2: before the step: head",
            "step 2: before the step: head.bias",
            "step 2: before the step: the weights",
            "step 2: forward",
            "step 2: forward: stem",
            "step 2: forward: relu",
            "step 2: forward: hidden",
            "step 2: forward: relu",
            "step 2: forward: head",
            "step 2: the loss",
            "step 2: back: loss",
            "step 2: back: head",
            "step 2: back: relu",
            "step 2: back: hidden",
            "step 2: back: relu",
            "step 2: back: stem",
            "step 2: the gradients",
            "step 2: the gradients: stem",
            "step 2: the gradients: hidden",
            "step 2: the gradients: head",
            "step 2: the gradients: head.bias",
            "step 2: the gradients",
            "step 2: the update: stem",
            "step 2: the update: hidden",
            "step 2: the update: head",
            "step 2: the update: head.bias",
            "step 2: the verdict",
        ]
    );
}

/// An operation that is left out leaves finite values, or its results are missing from the counts, which is an error.
#[test]
fn an_operation_that_is_left_out_loses_no_network() {
    let perceptrons = [1, 10].map(|period| Lesson::perceptron(2, period));
    for lesson in perceptrons.into_iter().chain([Lesson::residual(1), Lesson::transformer()]) {
        let subject = Subject::new(lesson, 2);
        let mut missed = 0;
        for (nth, &(operation, elements)) in subject.operations.iter().enumerate() {
            if operation == OperationKind::Zeroed {
                continue;
            }
            let said = format!("{operation} of {elements}, number {nth}");
            subject.strike(nth, Injection::Drop, |mut run, stepped| match stepped {
                Ok(stepped) => {
                    let is_finite = stepped.loss.is_finite() || stepped.verdict != Verdict::Apply;
                    assert!(is_finite, "{said}: {stepped:?}");
                    assert!(run.checkpoint().is_ok(), "{said}");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    assert!(error.contains("the device left out an operation"), "{said}: {error}");
                    let before = match operation {
                        // The step was made, and nobody heard of it.
                        OperationKind::Read => subject.after.clone(),
                        _ => bits(&subject.before.pieces),
                    };
                    assert!(bits(&run.checkpoint().unwrap().pieces) == before, "{said}: {error}");
                    missed += 1;
                }
            });
        }
        assert!(missed > 20, "{missed} were missed");
    }
}

/// A loss can be infinite although every gradient is finite: between logits at both ends of f32.
#[test]
fn a_loss_that_is_not_finite_skips_the_step() {
    let lesson = Lesson::perceptron(2, 10);
    let breaks = Breaks::default();
    let mut before = lesson.begin(&breaks).checkpoint().unwrap();
    let bias = before.pieces.iter_mut().find(|piece| piece.name == "head.bias").unwrap();
    (bias.values[0], bias.values[1]) = (3.0e38, -3.0e38);
    let mut run = lesson.resume(&breaks, &before);
    let stepped = run.train_step(&mut NoObserver).unwrap();
    assert_eq!((stepped.loss, stepped.square_norm.is_finite()), (f64::INFINITY, true));
    let expected = Verdict::Skip { layer: Place::Loss, cause: Cause::NonFinite };
    assert_eq!(stepped.verdict, expected);
    assert!(bits(&run.checkpoint().unwrap().pieces) == bits(&before.pieces));
}

/// A network that is finite in every part and predicts nothing at all.
#[test]
fn a_network_whose_logits_are_not_finite_is_lost() {
    let lesson = Lesson::residual(1);
    let breaks = Breaks::default();
    let mut before = lesson.begin(&breaks).checkpoint().unwrap();
    let running = before.pieces.iter_mut().find(|piece| piece.name == "stem.norm.running").unwrap();
    running.values.fill(-1.0); // variances among them
    let error = lesson.resume(&breaks, &before).evaluate().unwrap_err();
    assert_eq!(format!("{error:#}"), "the logits: non-finite values, and the network is lost");
    assert!(error.is::<Diverged>());
}

/// However many tensors there are: what happened is read at the end, all of it at once.
#[test]
fn a_step_waits_for_the_device_once() {
    let lessons: [fn() -> Lesson; 3] =
        [|| Lesson::perceptron(2, 10), || Lesson::residual(1), Lesson::transformer];
    for lesson in lessons {
        for steps in [0, 2] {
            let operations = Subject::new(lesson(), steps).operations;
            let reads =
                operations.iter().filter(|(operation, _)| *operation == OperationKind::Read);
            assert_eq!(reads.count(), 1, "{} operations", operations.len());
        }
    }
}
