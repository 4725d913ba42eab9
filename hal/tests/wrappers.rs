//! A device that is wrapped stays the device it was.

#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    rc::Rc,
    sync::LazyLock,
};

use adaloss_conformance as conformance;
use adaloss_conformance::{Failure, Report};
use adaloss_core::{
    format::{E5M2, Format, Narrowing, Noise, bf16, f16},
    policy::{Cell, Config, Fraction, Policy, Preset, Recovery, Rule},
    scale::Scale,
    scaler::device::{DeviceState, Entry, Line},
    statistics::Outcome,
    unscale::{Unscaled, Verdict},
};
use adaloss_hal::{
    Device, Epilogue, Error, ErrorKind, HostError, HostSpace, Matmul, Memory, Misfit, MisfitCause,
    Narrow, OperationKind, Product, Run,
    fault::{Fault, FaultError, Injection},
    network::{
        Accumulate, Attend, Attention, Axis, Blend, Convolution, Convolve, ConvolveWeight, Dropout,
        Embed, LossSum, Mask, MaxPool, Moments, Normalisation, Normalise, Pooling, Relu, Sgd,
        SgdStep, SoftmaxCrossEntropy, SquareNorm,
    },
    portable::Portable,
    record::{Event, Readout, Record},
    scaler::{
        Carried, DeviceScaler, Engine, EngineError, Evidence, Judge, MOST_EVIDENCE, OpenVisit,
    },
};

type Plan = Box<dyn FnMut(OperationKind, usize) -> Option<Injection>>;

/// The portable device that breaks by any plan: one type, as the suite is compiled for each.
type Broken = Fault<Portable, Plan>;

fn broken(plan: impl FnMut(OperationKind, usize) -> Option<Injection> + 'static) -> Broken {
    Fault::new(Portable, Box::new(plan))
}

#[test]
fn a_device_without_faults_conforms() -> Result<(), Failure> {
    let mut device = broken(|_, _| None);
    conformance::memory(&mut device)?;
    conformance::narrow::<bf16, _>(&mut device)?;
    conformance::scaler::<bf16, _>(&mut device)?;
    conformance::described::<f16, _>(&mut device)?;
    conformance::matmul::<bf16, f16, bf16, _>(&mut device)?;
    conformance::network::<f16, E5M2, _>(&mut device)?;
    assert_eq!(device.injected(), 0);
    Ok(())
}

/// What the lines of a scaler said, as far as the suite is to meet it.
#[derive(Debug, Default)]
struct Met {
    certified: BTreeSet<(u8, bool)>,
    triggers: BTreeSet<u8>,
    passes: BTreeSet<u8>,
    replayed: u32,
    skipped: u32,
    stopped: u32,
    halted: u32,
    refused: u32,
    losses: u32,
}

impl Met {
    fn take(&mut self, line: &Line) {
        // Only an engine knows the number.
        let entry = (0..2000).find_map(|serial| line.entry(serial));
        match entry.expect("a line that was written") {
            Entry::Visit(visit) => {
                if let Some(certificate) = visit.certificate {
                    self.certified.insert((certificate.rule as u8, certificate.promised));
                    self.triggers.insert(certificate.trigger as u8);
                }
                self.passes.insert(visit.passes);
                self.replayed += u32::from(visit.replayed);
            }
            Entry::Refused => self.refused += 1,
            Entry::Loss(_) => self.losses += 1,
            Entry::Step(end) => match end.verdict {
                Verdict::Apply => {}
                Verdict::Skip { .. } => self.skipped += 1,
                Verdict::Stop { .. } => self.stopped += 1,
            },
            Entry::Halted { .. } => self.halted += 1,
            _ => {}
        }
    }
}

#[test]
fn a_logged_device_conforms_and_is_told_what_the_suite_saw() -> Result<(), Failure> {
    let (mut narrowed, mut made, mut met) = (0, [0, 0], Met::default());
    let mut device = Record::logging(Portable, |event: &Event<'_>| match event.left {
        Readout::Counts { outcome, .. } => narrowed += u64::from(outcome.elements >= 1000),
        Readout::Predicate(is_made) => made[usize::from(is_made)] += 1,
        Readout::Line(line) => met.take(line),
        _ => {}
    });
    conformance::memory(&mut device)?;
    let narrow = conformance::narrow::<bf16, _>(&mut device)?;
    let matmul = conformance::matmul::<bf16, f16, bf16, _>(&mut device)?;
    let counts = *device.counts();
    let epilogues = [OperationKind::Apply, OperationKind::Propagate, OperationKind::Matmul];
    let ended: u64 = epilogues.into_iter().map(|operation| counts.of(operation)).sum();
    conformance::scaler::<f16, _>(&mut device)?;
    conformance::described::<f16, _>(&mut device)?;
    assert!(narrow.operations + matmul.operations <= counts.computations());
    assert!(narrowed > 0 && narrowed < ended); // refusals are told without counts
    // Passes that were made, and ones that might have been needed.
    assert!(made.iter().all(|&passes| passes > 1000), "{made:?}");
    // Rules of every policy, a promise that is kept and one that is not, and every trigger.
    use Rule::{Amax, Empty, Measured, NonFinite};
    let every = [(Measured, true), (Measured, false), (Amax, false), (Empty, false)];
    for (rule, promised) in every.into_iter().chain([(NonFinite, false)]) {
        assert!(met.certified.contains(&(rule as u8, promised)), "{rule:?}: {met:?}");
    }
    assert!(met.triggers.len() > 2 && met.passes.is_superset(&[1, 2, 3].into()), "{met:?}");
    let Met { replayed, skipped, stopped, halted, refused, losses, .. } = met;
    let all = [replayed, skipped, stopped, halted, refused, losses];
    assert!(all.iter().all(|&happened| happened > 10), "{all:?}");
    Ok(())
}

#[test]
fn a_logged_device_computes_layers_and_tells_what_they_left() -> Result<(), Failure> {
    let (mut narrowed, mut losses, mut norms, mut shapes) = (0, 0, 0, 0);
    let mut device = Record::logging(Portable, |event: &Event<'_>| {
        match event.left {
            Readout::Counts { outcome, .. } => narrowed += u64::from(outcome.elements >= 1000),
            Readout::Loss(_) => losses += 1,
            Readout::SquareNorm(_) => norms += 1,
            _ => {}
        }
        shapes += u64::from(event.call.shape.is_some());
    });
    let report = conformance::network::<f16, E5M2, _>(&mut device)?;
    let counts = *device.counts();
    assert!(report.operations <= counts.computations());
    let of_layers = OperationKind::ALL.iter().skip_while(|&&kind| kind != OperationKind::Convolve);
    assert!(of_layers.clone().count() > 20);
    assert!(of_layers.into_iter().all(|&operation| counts.of(operation) > 0));
    assert!(narrowed > 1000 && narrowed < shapes && shapes < counts.computations());
    let told = |of: u64, operation| of > 0 && of < counts.of(operation); // but for refusals
    assert!(
        told(losses, OperationKind::SoftmaxCrossEntropy) && told(norms, OperationKind::SquareNorm)
    );
    Ok(())
}

type Failed = EngineError<FaultError<HostError>>;

/// Makes the passes of a visit of two elements.
fn visited<const N: usize>(
    device: &mut Broken,
    mut visit: OpenVisit<'_, Broken, N>,
) -> Result<Carried<Broken>, Failed> {
    let mut to = [f16::ZERO; 2];
    while let Some(mut pass) = visit.next_pass(device)? {
        let (to, epilogue) = (&mut to[..], pass.epilogue());
        device.run(Narrow { input: &[1.0e-6, 2.0e-6][..], to, epilogue })?;
    }
    visit.finish(device)
}

/// Takes a step of a model with a loss, a layer and a join, and reads how it ended.
fn step(device: &mut Broken, engine: &mut Engine<Broken>) -> Result<Verdict, Failed> {
    let loss = engine.loss(device, 2)?;
    let loss = visited(device, loss)?;
    let layer = engine.layer(device, 0, 2, &loss)?;
    let layer = visited(device, layer)?;
    let join = engine.join(device, 1, 2, [&layer, &loss])?;
    visited(device, join)?;
    let mut counts = [Unscaled { elements: 4, nonfinite: 0, tiny: 0 }];
    let (id, origin, counts) = (0, Some(layer.origin()), &mut counts[..]);
    engine.judge(device, Evidence::Unscaled { id, origin, elements: 4, counts }, None)?;
    engine.conclude(device, None)?;
    let mut room = [Line::EMPTY; 4];
    match engine.read(device, &mut room)?.next_back() {
        Some(Ok(Entry::Step(end))) => Ok(end.verdict),
        other => panic!("{other:?}"),
    }
}

/// What a device is asked for depends on the policy alone, so that it can be captured; the host waits once.
#[test]
fn a_step_asks_for_the_same_operations_each_time_and_reads_once() -> Result<(), Failed> {
    use OperationKind as O;
    let measured = Config::for_format(Format::BINARY16);
    let fixed = measured.with_policy(Policy::Fixed(Scale::ONE)).expect("a policy");
    let paper = Config::preset(Preset::Paper, Format::BINARY16);
    let replays = paper.with_recovery(Recovery::Replay);
    // How many passes a loss or a layer may need, and a join; and how many questions of operands there are.
    for (config, passes, of_a_join, questions) in
        [(measured, 3, 3, 0), (fixed, 1, 1, 0), (paper, 1, 2, 1), (replays, 2, 3, 1)]
    {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&asked);
        let mut device = broken(move |operation, _| {
            log.borrow_mut().push(operation);
            None
        });
        let mut engine = Engine::new(&mut device, config, 2, 4)?;
        // The end of a visit comes with the operation behind it.
        let visit = |passes, questions| {
            let mut asked = vec![O::Advance; questions];
            (0..passes).for_each(|_| asked.extend([O::Advance, O::Apply]));
            asked.push(O::Zeroed);
            asked
        };
        let (tensor, join) = (visit(passes, questions), visit(of_a_join, 0));
        let end = vec![O::Judge, O::Write, O::Conclude, O::Read];
        let expected = [tensor.clone(), tensor, join, end].concat();
        for _ in 0..3 {
            asked.borrow_mut().clear();
            assert_eq!(step(&mut device, &mut engine)?, Verdict::Apply);
            assert_eq!(*asked.borrow(), expected, "{}", config.policy().name());
        }
    }
    Ok(())
}

/// A graph may name the memory of an engine that ended a visit as it can be captured: from then on it stays where it is.
#[test]
fn an_engine_that_may_be_captured_ends_visits_by_themselves() -> Result<(), EngineError<HostError>>
{
    let mut device = Record::counting(Portable);
    let config = Config::for_format(Format::BINARY16);
    let mut engine = Engine::new(&mut device, config, 1, 8)?;
    let loss = engine.loss(&mut device, 0)?.finish(&mut device)?;
    engine.layer(&mut device, 0, 0, &loss)?.finish(&mut device)?;
    // Each came with the next visit, or comes with what ends the step.
    assert_eq!(device.counts().of(OperationKind::Close), 0);
    engine.conclude(&mut device, None)?;
    assert_eq!(device.counts().of(OperationKind::Close), 1);

    let mut carried = Carried::new(&mut device)?;
    engine.loss(&mut device, 0)?.finish_into(&mut device, &mut carried)?;
    assert_eq!(device.counts().of(OperationKind::Close), 2);
    engine.layer(&mut device, 0, 0, &carried)?.finish(&mut device)?;
    assert_eq!(device.counts().of(OperationKind::Close), 3);
    Ok(())
}

/// Evidence in a long list is judged by as few operations as devices have room for, and each piece of it.
#[test]
fn a_list_of_evidence_is_judged_in_parts() -> Result<(), EngineError<HostError>> {
    let mut device = Record::counting(Portable);
    let config = Config::for_format(Format::BINARY16);
    let mut engine = Engine::new(&mut device, config, 0, 1)?;
    for (pieces, operations) in [(0, 0), (1, 1), (MOST_EVIDENCE, 1), (2 * MOST_EVIDENCE + 1, 3)] {
        let squares: Vec<_> = (0..pieces).map(|nth| [nth as f64]).collect();
        let mut evidence = Vec::new();
        for (id, sum) in squares.iter().enumerate() {
            evidence.push(Evidence::Squares { id, is_gradient: true, sum: &sum[..] });
        }
        let before = device.counts().of(OperationKind::Judge);
        engine.judge_all(&mut device, &mut evidence, None)?;
        let judged = device.counts().of(OperationKind::Judge) - before;
        assert_eq!(judged, operations, "{pieces} pieces");
        engine.conclude(&mut device, None)?;
        let mut room = [Line::EMPTY];
        let Some(Ok(Entry::Step(end))) = engine.read(&mut device, &mut room)?.next() else {
            panic!("a step that was left out");
        };
        assert_eq!(end.square_norm, squares.iter().flatten().sum::<f64>(), "{pieces} pieces");
    }
    Ok(())
}

/// More pieces than a device has room for are refused, and none is judged.
#[test]
fn too_much_evidence_is_refused() {
    let config = Config::for_format(Format::BINARY16);
    let (mut state, sum) = ([DeviceState::new(&config)], [2.0]);
    let piece = || Evidence::Squares { id: 0, is_gradient: true, sum: &sum[..] };
    let mut evidence: Vec<_> = (0..=MOST_EVIDENCE).map(|_| piece()).collect();
    let (state_of, cells) = (&mut state[..], &mut [][..]);
    let scaler = DeviceScaler { config: &config, state: state_of, cells, nth: 1 };
    let judge = Judge { ended: None, evidence: &mut evidence, scaler, other: None };
    let error = Portable.run(judge).expect_err("there is too much");
    assert_eq!(error.to_string(), "judge needs 64 pieces of evidence at most");
    assert_eq!(format!("{:?}", state[0]), format!("{:?}", DeviceState::new(&config)));
}

/// From the nine hundredth call on, an operation is dropped, or strikes an element.
#[test]
fn a_scaler_finds_what_goes_wrong() {
    use OperationKind as O;
    let flip = Injection::Flip { index: 0, bit: 3 };
    let wrong = [
        (O::Apply, flip),
        (O::Apply, Injection::Drop),
        (O::Advance, Injection::Drop),
        (O::Close, Injection::Drop),
        (O::Judge, Injection::Drop),
        (O::Conclude, Injection::Drop),
    ];
    for (operation, injection) in wrong {
        let mut calls = 0;
        let mut device = broken(move |asked, elements| {
            calls += u32::from(asked == operation);
            let has_some = asked != O::Apply || elements > 0;
            (asked == operation && calls >= 900 && has_some).then_some(injection)
        });
        let result = conformance::scaler::<f16, _>(&mut device);
        assert!(result.is_err() && device.injected() > 0, "{operation} {injection:?}");
    }
}

/// A device that refuses its first operation fails the suite there and then.
#[test]
fn a_failing_device_fails_the_suite() {
    let mut device = Fault::new(Portable, |operation, _| match operation {
        OperationKind::Propagate => Some(Injection::Fail(ErrorKind::Hardware)),
        _ => None,
    });
    let failure = conformance::narrow::<f16, _>(&mut device).unwrap_err();
    let said = "propagate of 1, 0 elements from 2^0 to 2^0 in Binary16 Gradual NearestEven \
                Infinity, storing: should not fail: device failure";
    assert_eq!(failure.to_string(), said);
}

type Check = fn(&mut Broken) -> Result<Report, Failure>;

/// The checks of the suite; what several of them run is looked for by the first.
const CHECKS: [Check; 15] = [
    conformance::memory,
    conformance::narrow::<bf16, _>,
    conformance::scaler::<bf16, _>,
    conformance::described::<f16, _>,
    conformance::matmul::<bf16, f16, bf16, _>,
    conformance::convolve::<E5M2, f16, E5M2, _>,
    conformance::normalise::<f16, E5M2, _>,
    conformance::pool::<f16, _>,
    conformance::pointwise::<f16, E5M2, _>,
    conformance::dropout::<E5M2, _>,
    conformance::accumulate,
    conformance::embed::<f16, E5M2, _>,
    conformance::attend::<f16, E5M2, _>,
    conformance::loss,
    conformance::update,
];

/// Returns the first check that runs an operation, found by running each of them once.
fn check_of(operation: OperationKind) -> Check {
    static RUN: LazyLock<Vec<HashSet<OperationKind>>> = LazyLock::new(|| {
        let run = |check: Check| {
            let run = Rc::new(RefCell::new(HashSet::new()));
            let seen = Rc::clone(&run);
            let mut device = broken(move |asked, _| {
                seen.borrow_mut().insert(asked);
                None
            });
            check(&mut device).expect("nothing is broken");
            run.take()
        };
        CHECKS.map(run).into()
    });
    let runs = CHECKS.into_iter().zip(RUN.iter()).find(|(_, run)| run.contains(&operation));
    runs.unwrap_or_else(|| panic!("{operation} is checked nowhere")).0
}

#[test]
fn an_operation_that_is_dropped_is_found_by_the_suite() {
    for dropped in OperationKind::ALL {
        let mut device = broken(move |asked, _| (asked == dropped).then_some(Injection::Drop));
        assert!(check_of(dropped)(&mut device).is_err(), "{dropped}");
        // An allocation cannot be dropped, and fails.
        assert_eq!(device.injected() > 0, dropped != OperationKind::Zeroed, "{dropped}");
    }
}

/// Every operation that writes elements can be struck in them, and the suite finds it.
#[test]
fn an_element_that_is_struck_is_found_by_the_suite() {
    let mut struck = 0;
    for operation in OperationKind::ALL {
        let mut device = broken(move |asked, elements| {
            let is_struck = asked == operation && elements > 0;
            is_struck.then(|| Injection::Nan { index: elements - 1 })
        });
        let result = check_of(operation)(&mut device);
        assert_eq!(result.is_err(), device.injected() > 0, "{operation}: {result:?}");
        struck += u32::from(device.injected() > 0);
    }
    // All but the three of memory, statistics, the five of a scaler, and square_norm.
    assert_eq!(struck as usize, OperationKind::ALL.len() - 10);
}

/// The log of a first visit and a step, line by line.
#[test]
fn a_log_reads_like_this() -> Result<(), EngineError<HostError>> {
    let mut lines = Vec::new();
    let mut device = Record::logging(Portable, |event: &Event<'_>| lines.push(event.to_string()));
    let config = Config::for_format(Format::BINARY16);
    let mut engine = Engine::new(&mut device, config, 1, 3)?;
    let (a, b) = ([f16::ONE; 6], [f16::from_f32(0.125); 6]);
    let mut to = device.zeroed::<f16>(4)?;
    let product = Product::new(2, 3, 2).transpose_b();
    let mut visit = engine.loss(&mut device, 4)?;
    while let Some(mut pass) = visit.next_pass(&mut device)? {
        let epilogue = pass.epilogue();
        device.run(Matmul {
            product,
            a: &a[..],
            b: &b[..],
            bias: None,
            to: &mut to[..],
            epilogue,
        })?;
    }
    visit.finish(&mut device)?;
    let sum = [f64::INFINITY];
    let evidence = Evidence::Squares { id: 3, is_gradient: true, sum: &sum[..] };
    engine.judge(&mut device, evidence, None)?;
    engine.conclude(&mut device, None)?;
    let mut short = [f16::ZERO; 3];
    assert_eq!(device.read(&to, &mut short).map_err(|e| e.kind()), Err(ErrorKind::Shape));
    assert_eq!(device.counts().of(OperationKind::Read), 1);
    // The engine's own memory comes first.
    let own = lines.iter().position(|line| line == "zeroed of 4");
    assert_eq!(
        lines[own.expect("a line")..],
        [
            "zeroed of 4",
            "advance of 1: to be made",
            "matmul of 4, (2 x 3) (2 x 3)^T: of 0 narrowed 0 underflow, 0 overflow, 0 non-finite; \
             4 measured",
            "advance of 1: to be made",
            "matmul of 4, (2 x 3) (2 x 3)^T: of 4 narrowed 0 underflow, 0 overflow, 0 non-finite",
            "advance of 1: to be made",
            "matmul of 4, (2 x 3) (2 x 3)^T: of 4 narrowed 0 underflow, 0 overflow, 0 non-finite",
            "zeroed of 1",
            "judge of 1: the loss gradient from 2^0 to 2^16 in 3 passes: of 4 0 underflow, 0 overflow, \
             0 non-finite",
            "write of 1",
            "conclude of 1: step 1: the step has to be skipped: non-finite values in the weight gradient \
             of layer 3",
            "read of 3: shape mismatch",
        ]
    );
    Ok(())
}

/// Every record around a device hears of an operation that was refused, an inner one too.
#[test]
fn a_record_in_a_record_hears_of_refusals() {
    let mut device = Record::counting(Record::counting(Portable));
    let (cell, mut outcome) = ([Cell::at(Scale::ONE)], [Outcome::EMPTY]);
    let epilogue = ending(&cell, &mut outcome, Format::BINARY16);
    let (a, b, to) = (&[f16::ONE][..], &[f16::ONE][..], &mut [f16::ZERO; 2][..]);
    let error =
        device.run(Matmul { product: Product::new(1, 1, 1), a, b, bias: None, to, epilogue });
    let misfit = Misfit {
        operation: OperationKind::Matmul,
        cause: MisfitCause::Length { operand: "the result", expected: 1, found: 2 },
    };
    assert_eq!(error, Err(HostError::Misfit(misfit)));
    for counts in [device.counts(), device.device().counts()] {
        assert_eq!(counts.of(OperationKind::Matmul), 1);
    }
}

/// Returns the epilogue of an operation whose results are stored as they are.
fn ending<'a>(
    cell: &'a [Cell],
    outcome: &'a mut [Outcome],
    format: Format,
) -> Epilogue<'a, HostSpace> {
    let (narrowing, noise) = (Narrowing::to(format), Noise::default());
    Epilogue {
        from: cell,
        to: cell,
        narrowing,
        noise,
        stores: true,
        when: None,
        outcome,
        histogram: None,
    }
}

/// The log of a few operations of layers, line by line.
#[test]
fn a_log_of_layers_reads_like_this() -> Result<(), HostError> {
    let mut lines = Vec::new();
    let mut device = Record::logging(Portable, |event: &Event<'_>| lines.push(event.to_string()));
    let (cell, mut outcome) = ([Cell::at(Scale::ONE)], [Outcome::EMPTY; 5]);
    let [convolved, normalised, attended, dropped, summed] = &mut outcome;
    let binary16 = Format::BINARY16;
    let ones = [f16::ONE; 27];

    let convolution = Convolution::new(1, [3, 3], 1, 2, [2, 2]);
    let mut images = [f16::ZERO; 8];
    let epilogue = ending(&cell, std::slice::from_mut(convolved), binary16);
    let (input, weight, to) = (&ones[..9], &ones[..8], &mut images[..]);
    device.run(Convolve { convolution, input, weight, bias: None, to, epilogue })?;
    let normalisation =
        Normalisation { rows: 4, columns: 2, axis: Axis::Rows, centred: true, epsilon: 1.0 };
    let mut moments = [0.0; 4];
    device.run(Moments { normalisation, input: &images[..], to: &mut moments[..] })?;
    let affine = [1.0, 1.0, f32::INFINITY, 0.5];
    let mut output = [f16::ZERO; 8];
    let epilogue = ending(&cell, std::slice::from_mut(normalised), binary16);
    device.run(Normalise {
        normalisation,
        input: &images[..],
        moments: &moments[..],
        affine: &affine[..],
        to: &mut output[..],
        epilogue,
    })?;
    device.run(Relu { values: &mut output[..] })?;
    let pooling = Pooling::new(1, [2, 2], 2, [2, 2]);
    let (to, indices) = (&mut [f16::ZERO; 2][..], &mut [0; 2][..]);
    device.run(MaxPool { pooling, input: &output[..], to, indices })?;
    let mask = Mask { share: Fraction::from_bits(1 << 31), noise: Noise::default() };
    let epilogue = ending(&cell, std::slice::from_mut(dropped), binary16);
    device.run(Dropout { mask, input: &ones[..8], to: &mut output[..], epilogue })?;

    let (tokens, table, to) = (&[1, 0][..], &ones[..6], &mut [f16::ZERO; 6][..]);
    device.run(Embed { width: 3, tokens, table, to })?;
    let attention = Attention { batch: 1, tokens: 3, heads: 1, width: 3 };
    let epilogue = ending(&cell, std::slice::from_mut(attended), binary16);
    let to = &mut [f16::ZERO; 9][..];
    device.run(Attend { attention, input: &ones[..], to, epilogue })?;
    let epilogue = ending(&cell, std::slice::from_mut(summed), Format::BINARY32);
    let (gradient, input, to) = (&ones[..8], &ones[..9], &mut [0.0_f32; 8][..]);
    device.run(ConvolveWeight { convolution, gradient, input, to, epilogue })?;

    let (mut gradient, mut sum) = ([0.0; 4], [LossSum::default()]);
    let logits = [0.0, -200.0, 0.0, -200.0];
    device.run(SoftmaxCrossEntropy {
        classes: 2,
        logits: &logits[..],
        labels: &[0, 1][..],
        weights: None,
        gradient: &mut gradient[..],
        sum: &mut sum[..],
    })?;
    device.run(Accumulate { input: &[2.0, -2.0][..], to: &mut gradient[..] })?;
    device.run(Blend { share: 0.5, input: &[0.0; 4][..], to: &mut gradient[..], when: None })?;
    let mut square_norm = [0.0];
    device.run(SquareNorm { gradient: &[3.0, 4.0][..], to: &mut square_norm[..] })?;
    let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, max_norm: None };
    let (mut weight, mut momentum) = ([0.0; 2], [0.0; 2]);
    let mut step = |gradient| {
        let (weight, momentum) = (&mut weight[..], &mut momentum[..]);
        let square_norm = &square_norm[..];
        device.run(SgdStep { sgd, gradient, square_norm, weight, momentum, when: None })
    };
    step(&[3.0, 4.0][..])?;
    assert!(step(&[3.0][..]).is_err());
    assert_eq!(
        lines,
        [
            "convolve of 8, 1 x 3x3x1 * 2 x 2x2, stride [1, 1], padding [0, 0], 1 groups: of 8 \
             narrowed 0 underflow, 0 overflow, 0 non-finite",
            "moments of 4, 4 x 2 over the rows",
            "normalise of 8, 4 x 2 over the rows: of 8 narrowed 0 underflow, 0 overflow, 4 \
             non-finite",
            "relu of 8",
            "max_pool of 2, 1 x 2x2x2 by [2, 2], stride [2, 2], padding [0, 0]",
            "dropout of 8: of 8 narrowed 0 underflow, 0 overflow, 0 non-finite",
            "embed of 6, rows of 3",
            "attend of 9, 1 x 3 tokens, 1 heads of 3: of 9 narrowed 0 underflow, 0 overflow, 0 \
             non-finite",
            "convolve_weight of 8, 1 x 3x3x1 * 2 x 2x2, stride [1, 1], padding [0, 0], 1 groups: \
             of 8 narrowed 0 underflow, 0 overflow, 0 non-finite",
            "softmax_cross_entropy of 4, 2 classes: loss 200 of weight 2, 1 of 2 rows right",
            "accumulate of 4",
            "blend of 4",
            "square_norm of 2: 25",
            "sgd of 2",
            "sgd of 2: shape mismatch",
        ]
    );
    Ok(())
}

#[test]
fn a_trace_tells_shapes_and_reads_nothing() -> Result<(), HostError> {
    let mut reads = 0;
    let counted = Fault::new(Portable, |operation, _| {
        reads += u64::from(operation == OperationKind::Read);
        None
    });
    let mut shapes = Vec::new();
    let mut device = Record::tracing(counted, |event: &Event<'_>| {
        shapes.push((event.call.operation, event.call.elements, event.left == Readout::Unread));
    });
    let (cell, mut outcome) = ([Cell::new()], [Outcome::EMPTY]);
    let mut to = [f16::ZERO; 2];
    let epilogue = Epilogue {
        from: &cell[..],
        to: &cell[..],
        narrowing: Narrowing::to(Format::BINARY16),
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: &mut outcome[..],
        histogram: None,
    };
    let done = device.run(Narrow { input: &[1.0, 2.0][..], to: &mut to[..], epilogue });
    assert_eq!(done, Ok::<(), FaultError<HostError>>(()));
    assert_eq!(shapes, [(OperationKind::Apply, 2, true)]);
    assert_eq!(reads, 0);
    Ok(())
}
