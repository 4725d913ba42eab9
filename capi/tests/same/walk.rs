//! A run with the C library's scaler is one with core's, to the last bit.

use std::ptr::null_mut;

use adaloss::*;
use adaloss_core::{
    apply::{ApplyError, Pass},
    format::{Element, Encoding},
    policy::{Config, Operands, Seen},
    scaler::{LossScaler, Step, StepError, Totals},
    statistics::{LogStatistics, Statistics},
    unscale::{Cause, Place, Unscaled},
    with_element,
};
use adaloss_oracle::inputs::SplitMix64;

use super::{FORMATS, config_of, configs, made_by, made_or};

const CELLS: usize = 5;

type Scaler = LossScaler<CELLS>;

/// A tensor's bits, in whatever format, and its scale.
type Narrowed = (Vec<u32>, i32);

/// One visit of a walk, the same for both.
enum Visit {
    Loss { described: bool },
    LossAt { id: u32, described: bool },
    Layer { id: u32, incoming: i32, described: bool },
    Join { id: u32, branches: Vec<i32> },
}

/// What follows where a kernel fails.
#[derive(Clone, Copy, PartialEq)]
enum Failure {
    /// The visit is left.
    Left,
    /// It is finished all the same.
    Unfinished,
}

/// What is visited, and what happened to it.
struct Tensor {
    values: Vec<f32>,
    operands: Operands,
    /// In how many parts the values are handed over.
    parts: usize,
    fails: Option<Failure>,
    runs: u32,
    /// How often operands were asked for.
    asked: u32,
}

impl Tensor {
    /// The values as they are handed over.
    fn parts(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.values.len().div_ceil(self.parts).max(1))
    }
}

/// Narrows through a pass of core's into whatever the format is.
fn narrow(values: &[f32], pass: &mut Pass<'_>) -> Result<Vec<u32>, ApplyError> {
    fn into<F: Element>(values: &[f32], pass: &mut Pass<'_>) -> Result<Vec<u32>, ApplyError> {
        let mut narrowed = vec![F::from_bits(0); values.len()];
        pass.apply(values, &mut narrowed)?;
        Ok(narrowed.into_iter().map(F::to_bits).collect())
    }
    with_element!(pass.narrowing().format.encoding, F => into::<F>(values, pass))
}

/// Visits a tensor with core; `None` where the visit is left.
fn visit_core(
    step: &mut Step<'_>,
    visit: &Visit,
    tensor: &mut Tensor,
) -> Result<Option<Narrowed>, StepError> {
    let branches: Vec<_>;
    let (mut opened, described) = match visit {
        Visit::Loss { described } => (step.loss(), *described),
        Visit::LossAt { id, described } => (step.loss_at(*id as usize)?, *described),
        Visit::Layer { id, incoming, described } => {
            (step.layer(*id as usize, super::scale(*incoming))?, *described)
        }
        Visit::Join { id, branches: scales } => {
            branches = scales.iter().map(|&log2| super::scale(log2).into()).collect::<Vec<_>>();
            (step.join(*id as usize, &branches)?, false)
        }
    };
    if described {
        opened.describe(&tensor.operands);
    }
    let mut bits = Vec::new();
    while let Some(mut pass) = opened.next_pass() {
        tensor.runs += 1;
        match tensor.fails {
            Some(Failure::Left) => return Ok(None),
            Some(Failure::Unfinished) => break,
            None => {}
        }
        // A tensor of no values is no parts; the kernel in C asks for its counters too.
        let _ = pass.counters();
        bits.clear();
        for part in tensor.parts() {
            bits.extend(narrow(part, &mut pass).map_err(StepError::Apply)?);
        }
    }
    let finished = opened.finish(bits);
    if let Err(StepError::Unfinished { place }) = finished {
        // In C the visit may still be gone on with; what was refused stays refused.
        step.reject(place, Cause::Failed);
    }
    let (bits, scale) = finished?.into_parts();
    Ok(Some((bits, scale.log2())))
}

/// A kernel for passes of the C library's scaler.
fn run(tensor: &Tensor, pass: *mut adaloss_pass) -> Vec<u32> {
    let request = made_by(|to| unsafe { adaloss_apply_request(pass, to) });
    let mut bits = Vec::new();
    for part in tensor.parts() {
        let mut words = vec![0_u32; part.len()];
        let to = words.as_mut_ptr().cast();
        let code = unsafe { adaloss_apply_pass(pass, part.as_ptr(), part.len(), to) };
        assert_eq!(code, ADALOSS_OK);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let encoding = Encoding::ALL[usize::from(request.narrowing.format.encoding)];
        bits.extend((0..part.len()).map(|i| match encoding.bits() {
            8 => bytes[i].into(),
            16 => u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]).into(),
            _ => words[i],
        }));
    }
    bits
}

/// Describes the operands of a tensor.
fn described(tensor: &Tensor) -> adaloss_operands {
    // SAFETY: the same structure, as the library's own tests of sizes say.
    let statistics =
        |of: &Statistics| unsafe { std::mem::transmute::<Statistics, adaloss_statistics>(*of) };
    // SAFETY: the structure is made of numbers; what is not read may be anything.
    let mut operands: adaloss_operands = unsafe { std::mem::zeroed() };
    match tensor.operands {
        Operands::Product { gradient, weight, fan_in } => {
            operands.kind = 0;
            operands.gradient = statistics(&gradient);
            operands.weight = statistics(&weight);
            operands.fan_in = fan_in;
        }
        Operands::Cast(gradient) => {
            operands.kind = 1;
            operands.gradient = statistics(&gradient);
        }
        Operands::LogCast(log) => {
            operands.kind = 2;
            // SAFETY: as above.
            operands.log_gradient =
                unsafe { std::mem::transmute::<LogStatistics, adaloss_log_statistics>(log) };
        }
        Operands::Terms(terms) => {
            operands.kind = 3;
            operands.terms = adaloss_terms {
                min_abs: terms.min_abs,
                max_abs: terms.max_abs,
                nonfinite: terms.nonfinite,
                fan_in: terms.fan_in,
                reserved: 0,
            };
        }
    }
    operands
}

/// Takes what a function of the library returned.
fn done(code: adaloss_code) -> Result<(), adaloss_code> {
    if code == ADALOSS_OK { Ok(()) } else { Err(code) }
}

/// Visits a tensor with the C library; `None` where the visit is left.
fn visit_c(
    scaler: &mut adaloss_scaler,
    visit: &Visit,
    tensor: &mut Tensor,
) -> Result<Option<Narrowed>, adaloss_code> {
    let (code, is_described) = unsafe {
        match visit {
            Visit::Loss { described } => (adaloss_scaler_loss(scaler), *described),
            Visit::LossAt { id, described } => (adaloss_scaler_loss_at(scaler, *id), *described),
            Visit::Layer { id, incoming, described } => {
                (adaloss_scaler_layer(scaler, *id, *incoming), *described)
            }
            Visit::Join { id, branches } => {
                (adaloss_scaler_join(scaler, *id, branches.as_ptr(), branches.len()), false)
            }
        }
    };
    done(code)?;
    let wants = made_by(|to| unsafe { adaloss_scaler_wants_operands(scaler, to) });
    tensor.asked += wants;
    if is_described {
        done(unsafe { adaloss_scaler_describe(scaler, &described(tensor)) })?;
        assert_eq!(made_by(|to| unsafe { adaloss_scaler_wants_operands(scaler, to) }), 0);
    }
    let mut bits = Vec::new();
    loop {
        match made_or(|to| unsafe { adaloss_scaler_next_pass(scaler, to) }) {
            Ok(pass) => {
                tensor.runs += 1;
                match tensor.fails {
                    Some(Failure::Left) => return Ok(None),
                    Some(Failure::Unfinished) => break,
                    None => {}
                }
                bits = run(tensor, pass);
            }
            Err(code) => {
                assert_eq!(code, ADALOSS_NONE);
                break;
            }
        }
    }
    Ok(Some((bits, made_or(|to| unsafe { adaloss_scaler_finish_visit(scaler, to) })?)))
}

/// A random visit and its tensor: of some exponents, with zeros and now and then something that is not finite.
fn random(generator: &mut SplitMix64) -> (Visit, Tensor) {
    let scale = |generator: &mut SplitMix64| generator.below(81) as i32 - 40;
    let described = generator.below(4) > 0;
    let id = generator.below(CELLS + 1) as u32;
    let visit = match generator.below(7) {
        0 => Visit::Loss { described },
        2 => Visit::LossAt { id, described },
        1 => {
            let branches = (0..generator.below(5)).map(|_| scale(generator)).collect();
            Visit::Join { id, branches }
        }
        _ => Visit::Layer { id, incoming: scale(generator), described },
    };
    let least = -60 + generator.below(90) as i32;
    let mut values: Vec<f32> = (0..generator.below(40))
        .map(|_| match generator.below(9) {
            0 => 0.0,
            _ => generator.between_binades(least, least + 12),
        })
        .collect();
    if let Some(value) = values.first_mut()
        && generator.below(12) == 0
    {
        *value = [f32::NAN, f32::INFINITY, f32::MAX][generator.below(3)];
    }
    let operands = match generator.below(4) {
        0 => Operands::Cast(Statistics::of(&values)),
        1 => Operands::LogCast(LogStatistics::of(&values)),
        _ => Operands::Product {
            gradient: Statistics::of(&values),
            weight: Statistics::of(&[0.5_f32, -0.25, 0.125]),
            fan_in: 1 + generator.below(9) as u32,
        },
    };
    let failures = [Some(Failure::Left), Some(Failure::Unfinished)];
    let fails = failures.get(generator.below(30)).copied().flatten();
    let parts = 1 + generator.below(3);
    (visit, Tensor { values, operands, parts, fails, runs: 0, asked: 0 })
}

/// What a walk leaves, in words that both can be put into.
fn compare_visits(step: &Step<'_>, scaler: &adaloss_scaler) {
    let last = made_or(|to| unsafe { adaloss_scaler_last(scaler, to) });
    let Some(here) = step.last() else {
        assert_eq!(last, Err(ADALOSS_NONE));
        return;
    };
    let there = last.unwrap();
    assert_eq!(there.place, place_of(here.place));
    assert_eq!(there.incoming_log2, here.incoming.log2());
    assert_eq!(there.outgoing_log2, here.outgoing.log2());
    assert_eq!(there.replayed, here.replayed.into());
    assert_eq!(there.passes, here.passes.into());
    assert_eq!(there.broke_promise, here.broke_promise.into());
    let outcome = here.outcome;
    let counts = [
        outcome.elements,
        outcome.nonfinite,
        outcome.zero,
        outcome.underflow,
        outcome.subnormal,
        outcome.overflow,
    ];
    let adaloss_outcome { elements, nonfinite, zero, underflow, subnormal, overflow, .. } =
        there.outcome;
    assert_eq!([elements, nonfinite, zero, underflow, subnormal, overflow], counts);
    assert_eq!(there.outcome.max_bits, outcome.max_bits);
    assert_eq!(there.certified, here.certificate.is_some().into());
    if let Some(certificate) = here.certificate {
        super::same_certificate(&there.certificate, &certificate);
    }
}

fn place_of(place: Place) -> adaloss_place {
    let (kind, cell) = match place {
        Place::Loss => (0, 0),
        Place::Layer(id) => (1, id),
        Place::Weight(id) => (2, id),
    };
    adaloss_place { kind, cell: cell as u32 }
}

fn saved(scaler: &adaloss_scaler) -> Vec<u8> {
    let mut bytes = vec![0; Scaler::CHECKPOINT_BYTES];
    let code = unsafe { adaloss_scaler_save(scaler, bytes.as_mut_ptr().cast(), bytes.len()) };
    assert_eq!(code, ADALOSS_OK);
    bytes
}

fn places() -> impl Iterator<Item = Place> {
    std::iter::once(Place::Loss).chain((0..CELLS).map(Place::Layer))
}

/// What every tensor showed in the step under way; now and then another machine's is merged.  Where the step is not
/// usable, sums of some tensor's values overflowed.
fn exchange(step: &mut Step<'_>, scaler: &mut adaloss_scaler, generator: &mut SplitMix64) {
    for place in places() {
        let mut merged = step.seen(place);
        let mut seen = made_by(|to| unsafe { adaloss_scaler_seen(scaler, place_of(place), to) });
        assert_eq!(seen, super::seen_of(merged));
        if generator.below(20) > 0 {
            continue;
        }
        let ceiling = generator.below(60) as i8 - 30;
        let (overflowed, visited) = (generator.below(2) > 0, generator.below(4) > 0);
        let other = Seen { ceiling, overflowed, sums_overflowed: false, visited };
        merged.merge(&other);
        step.set_seen(place, merged).unwrap();
        let other = super::seen_of(other);
        assert_eq!(unsafe { adaloss_policy_seen_merge(&mut seen, &other) }, ADALOSS_OK);
        let place = place_of(place);
        assert_eq!(unsafe { adaloss_scaler_set_seen(scaler, place, &seen) }, ADALOSS_OK);
    }
    let (mut place, mut cause) = (adaloss_place { kind: 9, cell: 9 }, 9);
    let code = unsafe { adaloss_scaler_first_bad(scaler, &mut place, &mut cause) };
    match step.first_bad() {
        None => assert_eq!((code, place.kind, cause), (ADALOSS_NONE, 9, 9)),
        Some((first, found)) => {
            let number = super::cause_number(found);
            assert_eq!((code, place, cause), (ADALOSS_OK, place_of(first), number));
            let origin = places().nth(generator.below(1 + CELLS)).unwrap();
            let was_visited = step.seen(origin).visited;
            step.sums_overflowed(origin);
            let code = unsafe { adaloss_scaler_sums_overflowed(scaler, place_of(origin)) };
            assert!(code == ADALOSS_OK || code == ADALOSS_NONE && !was_visited);
        }
    }
    let seen = super::seen_of(Seen::NOTHING);
    let set =
        |scaler: &mut _, place| unsafe { adaloss_scaler_set_seen(scaler, place_of(place), &seen) };
    assert_eq!(set(scaler, Place::Layer(CELLS)), ADALOSS_ERROR_NO_CELL);
    assert_eq!(set(scaler, Place::Weight(0)), ADALOSS_ERROR_NO_CELL);
}

/// What the step leaves behind in a tensor's cell, before it is finished.
fn same_records(step: &Step<'_>, scaler: &adaloss_scaler) {
    for place in places().chain([Place::Layer(CELLS), Place::Weight(0)]) {
        let found = made_or(|to| unsafe { adaloss_scaler_record(scaler, place_of(place), to) });
        assert_eq!(found, step.record(place).map(super::record_of).ok_or(ADALOSS_NONE));
    }
}

/// Ends a step, or leaves it.
fn end(mut step: Step<'_>, scaler: &mut adaloss_scaler, generator: &mut SplitMix64) {
    match generator.below(8) {
        0 => {
            for place in
                places().filter(|&place| step.seen(place) != Seen::NOTHING).collect::<Vec<_>>()
            {
                step.set_seen(place, Seen::NOTHING).unwrap();
            }
            assert_eq!(unsafe { adaloss_scaler_abandon(scaler) }, ADALOSS_OK);
        }
        _ => {
            let verdict = made_by(|to| unsafe { adaloss_scaler_finish(scaler, to) });
            super::same_verdict(&verdict, step.finish());
        }
    }
}

fn totals_of(scaler: &adaloss_scaler) -> Totals {
    let adaloss_totals { steps, skipped, recovered, certificates, broken } =
        made_by(|to| unsafe { adaloss_scaler_totals(scaler, to) });
    Totals { steps, skipped, recovered, certificates, broken }
}

/// Returns what happened, and how often operands were asked for.
fn walk(config: Config, seed: u64) -> (Totals, u32) {
    let (mut generator, mut asked) = (SplitMix64(seed), 0);
    let mut core = Scaler::new(config);
    let c_config = config_of(&config);
    let mut cells = made_by(|to: *mut [adaloss_cell; CELLS]| {
        unsafe { to.write_bytes(0xab, 1) };
        ADALOSS_OK
    });
    let mut scaler = Box::new(adaloss_scaler { opaque: [0; ADALOSS_SCALER_WORDS] });
    let init = |scaler: &mut adaloss_scaler, cells: &mut [adaloss_cell; CELLS]| unsafe {
        adaloss_scaler_init(scaler, &c_config, cells.as_mut_ptr(), CELLS)
    };
    assert_eq!(init(&mut scaler, &mut cells), ADALOSS_OK);
    for _ in 0..12 {
        let mut step = core.begin();
        assert_eq!(unsafe { adaloss_scaler_begin(&mut *scaler) }, ADALOSS_OK);
        for _ in 0..generator.below(7) {
            let (visit, mut tensor) = random(&mut generator);
            let expected = visit_core(&mut step, &visit, &mut tensor);
            let runs = std::mem::take(&mut tensor.runs);
            let found = visit_c(&mut scaler, &visit, &mut tensor);
            match (&expected, &found) {
                (Ok(expected), Ok(found)) => assert_eq!(found, expected),
                (Err(StepError::Unfinished { .. }), Err(ADALOSS_ERROR_UNFINISHED))
                | (Err(StepError::NoCell { .. }), Err(ADALOSS_ERROR_NO_CELL))
                | (Err(StepError::Branches { .. }), Err(ADALOSS_ERROR_BRANCHES)) => {}
                _ => panic!("{expected:?} and {found:?}"),
            }
            assert_eq!(tensor.runs, runs);
            asked += tensor.asked;
            compare_visits(&step, &scaler);
        }
        if generator.below(6) == 0 {
            let (elements, tiny, nonfinite) = (9, 2, generator.below(2) as u64);
            step.unscaled(1, &Unscaled { elements, nonfinite, tiny });
            let met = adaloss_unscaled { elements, nonfinite, tiny };
            assert_eq!(unsafe { adaloss_scaler_unscaled(&mut *scaler, 1, &met) }, ADALOSS_OK);
        }
        if generator.below(20) == 0 {
            step.reject(Place::Loss, Cause::NonFinite);
            let loss = adaloss_place { kind: 0, cell: 0 };
            assert_eq!(unsafe { adaloss_scaler_reject(&mut *scaler, loss, 1) }, ADALOSS_OK);
        }
        exchange(&mut step, &mut scaler, &mut generator);
        same_records(&step, &scaler);
        end(step, &mut scaler, &mut generator);

        assert_eq!(totals_of(&scaler), core.totals());
        assert_eq!(made_by(|to| unsafe { adaloss_scaler_digest(&*scaler, to) }), core.digest());
        let mut bytes = vec![0; Scaler::CHECKPOINT_BYTES];
        core.save(&mut bytes).unwrap();
        assert_eq!(saved(&scaler), bytes);
        for place in places() {
            let cell = made_or(|to| unsafe { adaloss_scaler_cell(&*scaler, place_of(place), to) });
            match core.cell(place) {
                Some(expected) => super::same_cell(&cell.unwrap(), expected),
                None => assert_eq!(cell, Err(ADALOSS_NONE)),
            }
        }
        // Now and then the run goes on from its checkpoint, in a scaler of its own.
        if generator.below(4) == 0 {
            assert_eq!(unsafe { adaloss_scaler_clear(&mut *scaler) }, ADALOSS_OK);
            assert_eq!(scaler.opaque, [0; ADALOSS_SCALER_WORDS]);
            assert_eq!(init(&mut scaler, &mut cells), ADALOSS_OK);
            let (from, length) = (bytes.as_ptr().cast(), bytes.len());
            let code = unsafe { adaloss_scaler_restore(&mut *scaler, from, length) };
            assert_eq!(code, ADALOSS_OK);
        }
    }
    assert_eq!(unsafe { adaloss_scaler_totals(&*scaler, null_mut()) }, ADALOSS_ERROR_NULL);
    (core.totals(), asked)
}

#[test]
fn runs_are_the_same() {
    let (mut all, mut all_asked) = (Totals::default(), 0);
    for config in FORMATS.into_iter().flat_map(configs) {
        for seed in 0..12 {
            let (Totals { steps, skipped, recovered, certificates, broken }, asked) =
                walk(config, seed);
            all_asked += asked;
            all.steps += steps;
            all.skipped += skipped;
            all.recovered += recovered;
            all.certificates += certificates;
            all.broken += broken;
        }
    }
    // All of it happens, and often.
    let Totals { steps, skipped, recovered, certificates, broken } = all;
    assert!([steps, skipped, recovered, certificates, broken].iter().all(|&of| of > 50), "{all:?}");
    assert!(all_asked > 50, "{all_asked}");
}
