//! A scaler on a device and one on the host hold the same bits over whole runs.

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Rounding, bf16, f16},
    policy::{Amax, Backoff, Cell, Config, Operands, Policy, Preset, Recovery},
    propagate::{Scaled, shifted},
    scale::Scale,
    scaler::{
        self, LossScaler, State, Step,
        device::{Entry, Line, StepEnd},
    },
    statistics::{Histogram, Statistics},
    unscale::{Cause, Place, Unscaled, Verdict},
};
use adaloss_hal::{
    Narrow, Plain, Run, Summarise,
    portable::Portable,
    scaler::{Carried, Described, Engine, EngineError, Evidence, OpenVisit},
};

use crate::random::{Random, record};

const STEPS: usize = 203;
/// Steps between two reads.
const WINDOW: usize = 7;
/// Two layers, their join, a further loss, and a layer below the join.
const CELLS: usize = 5;
const VISITS: usize = 6;
/// Steps have one micro-batch or two.
const LINES: usize = WINDOW * (2 * VISITS + 1);
const BYTES: usize = LossScaler::<CELLS>::CHECKPOINT_BYTES;
const FAN_IN: u32 = 32;

/// What happened in a run.
#[derive(Debug, Default)]
struct Happened {
    replays: u64,
    skips: u32,
    stops: u32,
    in_vain: u32,
    described: u32,
    /// Reads that met a replay, a step that was skipped, and one that stopped the run.
    all_at_once: u32,
}

/// What the visit of a tensor is of.
#[derive(Clone, Copy)]
enum Of<'l> {
    Loss,
    LossAt(usize),
    Layer(usize, &'l Link),
    Join(usize, [&'l Link; 2]),
}

/// A gradient on both sides.
struct Link {
    carried: Carried<Portable>,
    gradient: Scaled<()>,
    bits: Vec<u32>,
}

/// Both scalers.
struct Twin<F: Element + Plain> {
    engine: Engine<Portable>,
    expected: Vec<Entry>,
    halted: Option<(Place, Cause)>,
    updates: u32,
    random: Random,
    centers: [i32; VISITS],
    happened: Happened,
    element: std::marker::PhantomData<F>,
}

impl<F: Element + Plain> Twin<F> {
    fn new(config: Config, seed: u64) -> Self {
        let mut random = Random(seed);
        let centers = std::array::from_fn(|_| -random.below(30));
        Self {
            engine: Engine::new(&mut Portable, config, CELLS, LINES).expect("memory"),
            expected: Vec::new(),
            halted: None,
            updates: 0,
            random,
            centers,
            happened: Happened::default(),
            element: std::marker::PhantomData,
        }
    }

    /// Draws the results of a visit, which carry no scale.
    fn tensor(&mut self, nth: usize, elements: usize, step: usize) -> Vec<f32> {
        let center = &mut self.centers[nth];
        *center = (*center + self.random.below(3) - 1).clamp(-40, 8);
        match self.random.below(60) {
            0 => *center = (*center + 20).min(8),
            1 => *center -= 20,
            2 => return vec![0.0; elements],
            _ => {}
        }
        let center = *center;
        let mut values: Vec<f32> = (0..elements).map(|_| self.random.real(center, 6)).collect();
        // In every fourth window something overflows, and three steps in a row are not finite.
        let (window, place) = (step / WINDOW % 4, step % WINDOW);
        match (window, place, values.last_mut()) {
            (1, 1, Some(last)) => *last = shifted(*last, Scale::saturating(20) / Scale::ONE),
            (1, 2..5, Some(last)) if nth == 1 => *last = f32::NAN,
            _ => {}
        }
        values
    }

    fn step(&mut self, scaler: &mut LossScaler<CELLS>, step: usize) {
        let elements = match (step / WINDOW % 4, step % WINDOW) {
            (1, 1..5) => 64,
            _ => [0, 3, 64, 200][self.random.below(4) as usize],
        };
        let mut there = (self.halted.is_none()).then(|| scaler.begin());
        for index in 0..1 + u32::from(step.is_multiple_of(11)) {
            self.engine.micro_batch(index);
            if let Some(there) = &mut there {
                there.micro_batch(index);
            }
            let there = &mut there;
            let loss = self.visit(there, Of::Loss, (0, elements), step);
            let first = self.visit(there, Of::Layer(0, &loss), (1, elements), step);
            let second = self.visit(there, Of::Layer(1, &first), (2, elements), step);
            let block = self.visit(there, Of::Join(2, [&second, &loss]), (3, elements), step);
            self.visit(there, Of::LossAt(3), (4, elements / 2), step);
            self.visit(there, Of::Layer(4, &block), (5, elements), step);
            self.weight_gradient(there, &block);
        }
        self.engine.conclude(&mut Portable, None).expect("room");
        let Some(there) = there else {
            let (place, cause) = self.halted.expect("it is why nothing is done");
            self.expected.push(Entry::Halted { place, cause });
            self.happened.in_vain += 1;
            return;
        };
        let tiny = there.tiny();
        let verdict = there.finish();
        match verdict {
            Verdict::Apply => self.updates += 1,
            Verdict::Skip { .. } => self.happened.skips += 1,
            Verdict::Stop { layer, cause, .. } => {
                self.halted = Some((layer, cause));
                self.happened.stops += 1;
            }
        }
        let totals = scaler.totals();
        self.expected.push(Entry::Step(StepEnd { verdict, square_norm: 0.0, tiny, totals }));
    }

    /// Tells both of a weight gradient.
    fn weight_gradient(&mut self, there: &mut Option<Step<'_>>, from: &Link) {
        let nonfinite = u64::from(self.random.below(40) == 0);
        let met = Unscaled { elements: 9, nonfinite, tiny: self.random.below(3) as u64 };
        let (id, origin, elements) = (7, Some(from.carried.origin()), 9);
        let mut counted = [met];
        let evidence = Evidence::Unscaled { id, origin, elements, counts: &mut counted[..] };
        self.engine.judge(&mut Portable, evidence, None).expect("it fits");
        if let Some(step) = there {
            step.unscale(id, &from.gradient, |(), _| ((), met));
        }
    }

    fn visit(
        &mut self,
        there: &mut Option<Step<'_>>,
        of: Of<'_>,
        (nth, elements): (usize, usize),
        step: usize,
    ) -> Link {
        let incoming = match of {
            Of::Loss | Of::LossAt(_) => Scale::ONE,
            Of::Layer(_, from) => from.gradient.scale(),
            Of::Join(_, [a, b]) => a.gradient.scale().min(b.gradient.scale()),
        };
        let unscaled = self.tensor(nth, elements, step);
        let shift = incoming / Scale::ONE;
        let values: Vec<f32> = unscaled.into_iter().map(|x| shifted(x, shift)).collect();
        let described = self.described(of);

        let mut narrowed = vec![F::from_bits(0); elements];
        let engine = &mut self.engine;
        let device = &mut Portable;
        let carried = match of {
            Of::Loss => passes(engine.loss(device, elements), &values, &mut narrowed, &described),
            Of::LossAt(id) => {
                passes(engine.loss_at(device, id, elements), &values, &mut narrowed, &described)
            }
            Of::Layer(id, from) => {
                let visit = engine.layer(device, id, elements, &from.carried);
                passes(visit, &values, &mut narrowed, &described)
            }
            Of::Join(id, from) => {
                let branches = from.map(|from| &from.carried);
                let visit = engine.join(device, id, elements, branches);
                passes(visit, &values, &mut narrowed, &described)
            }
        };
        let bits = narrowed.iter().map(|x| x.to_bits()).collect();
        let Some(there) = there else {
            let (place, cause) = self.halted.expect("it is why nothing is done");
            self.expected.push(Entry::Halted { place, cause });
            assert!(narrowed.iter().all(|x| x.to_bits() == 0), "written in vain");
            return Link { carried, gradient: Scaled::new((), Scale::ONE), bits };
        };
        let mut by_hand = vec![F::from_bits(0); elements];
        let (gradient, is_described) = on_host(there, of, &values, &mut by_hand, &described);
        let visit = there.last().expect("it was finished");
        self.happened.described += u32::from(is_described);
        self.happened.replays += u64::from(visit.replayed);
        self.expected.push(Entry::Visit(visit));
        let by_hand: Vec<u32> = by_hand.into_iter().map(F::to_bits).collect();
        assert_eq!(bits, by_hand, "{:?}, step {step}", visit.place);
        Link { carried, gradient, bits }
    }

    /// Describes the operands of a visit.
    fn described(&mut self, of: Of<'_>) -> Operands {
        let mut weight = Statistics::EMPTY;
        (0..7).for_each(|_| weight.observe(self.random.real(-5, 4)));
        match of {
            Of::Layer(_, from) => {
                let values: Vec<F> = from.bits.iter().map(|&bits| F::from_bits(bits)).collect();
                let gradient = Statistics::of(&values);
                Operands::Product { gradient, weight, fan_in: FAN_IN }
            }
            _ => Operands::Cast(weight),
        }
    }

    /// Reads what happened, and compares it.
    fn read(&mut self, scaler: &LossScaler<CELLS>, before: (u64, u32, u32)) {
        let mut room = vec![Line::EMPTY; LINES];
        let lines = self.engine.read(&mut Portable, &mut room).expect("room");
        let entries: Vec<Entry> = lines.map(|entry| entry.expect("written")).collect();
        assert_eq!(entries, std::mem::take(&mut self.expected));
        let mut cells = [Cell::new(); CELLS];
        let (state, updates) = self.engine.save(&mut Portable, &mut cells).expect("cells");
        assert_eq!(state.digest(&cells), scaler.digest());
        assert_eq!((state.totals(), updates), (scaler.totals(), self.updates));
        let (mut here, mut there) = ([0; BYTES], [0; BYTES]);
        scaler.save(&mut here).expect("room");
        state.save(&cells, &mut there).expect("room");
        assert_eq!(here, there);
        if self.halted.take().is_some() {
            self.engine.go_on(&mut Portable).expect("memory");
        }
        let Happened { replays, skips, stops, .. } = self.happened;
        let all = replays > before.0 && skips > before.1 && stops > before.2;
        self.happened.all_at_once += u32::from(all);
    }
}

/// Makes the passes of a visit on the device.
fn passes<F: Element + Plain, const N: usize>(
    visit: Result<OpenVisit<'_, Portable, N>, EngineError<adaloss_hal::HostError>>,
    values: &[f32],
    narrowed: &mut [F],
    operands: &Operands,
) -> Carried<Portable> {
    let device = &mut Portable;
    let mut visit = visit.expect("room");
    if visit.wants_operands() {
        let (gradient, weight) = match *operands {
            Operands::Product { gradient, weight, .. } => (gradient, weight),
            Operands::Cast(gradient) => (gradient, gradient),
            _ => unreachable!("no other operands are drawn"),
        };
        let described = match N {
            0 => Described::Cast(&[gradient][..]),
            _ => Described::Product {
                gradient: &[gradient][..],
                weight: &[weight][..],
                fan_in: FAN_IN,
            },
        };
        visit.describe(device, &described).expect("it fits");
    }
    while let Some(mut pass) = visit.next_pass(device).expect("it fits") {
        let (to, epilogue) = (&mut *narrowed, pass.epilogue());
        device.run(Narrow { input: values, to, epilogue }).expect("it fits");
    }
    visit.finish(device).expect("room")
}

/// Makes the passes of a visit on the host; tells whether its operands were wanted.
fn on_host<F: Element>(
    step: &mut Step<'_>,
    of: Of<'_>,
    values: &[f32],
    narrowed: &mut [F],
    operands: &Operands,
) -> (Scaled<()>, bool) {
    let branches;
    let mut visit: scaler::OpenVisit<'_> = match of {
        Of::Loss => step.loss(),
        Of::LossAt(id) => step.loss_at(id).expect("a cell"),
        Of::Layer(id, from) => step.layer(id, from.gradient).expect("a cell"),
        Of::Join(id, from) => {
            branches = from.map(|from| from.gradient);
            step.join(id, &branches).expect("a cell")
        }
    };
    let is_described = visit.wants_operands();
    if is_described {
        visit.describe(operands);
    }
    (visit.apply(values, narrowed).expect("every pass was made").tag(), is_described)
}

/// Takes both scalers through a run, and each of them over from the other on the way.
fn run<F: Element + Plain>(config: Config, seed: u64) -> Happened {
    let config = config.with_max_skips(3).expect("some");
    let mut twin = Twin::<F>::new(config, seed);
    let mut scaler = LossScaler::<CELLS>::new(config);
    let mut before = (0, 0, 0);
    for step in 0..STEPS {
        twin.step(&mut scaler, step);
        if (step + 1).is_multiple_of(WINDOW) {
            twin.read(&scaler, before);
            let Happened { replays, skips, stops, .. } = twin.happened;
            before = (replays, skips, stops);
        }
        let mut bytes = [0; BYTES];
        match step {
            69 => {
                let mut cells = [Cell::new(); CELLS];
                let (state, _) = twin.engine.save(&mut Portable, &mut cells).expect("cells");
                state.save(&cells, &mut bytes).expect("room");
                scaler = LossScaler::restore(config, &bytes).expect("a checkpoint");
            }
            139 => {
                let mut cells = [Cell::new(); CELLS];
                scaler.save(&mut bytes).expect("room");
                let state = State::restore(config, &bytes, &mut cells).expect("a checkpoint");
                twin.engine = Engine::new(&mut Portable, config, CELLS, LINES).expect("memory");
                let device = &mut Portable;
                twin.engine.load(device, &state, &cells, twin.updates).expect("cells");
            }
            _ => {}
        }
    }
    twin.happened
}

/// Every format in turn, one after the other.
fn in_every_format(config: impl Fn(Format) -> Config) -> [Happened; 4] {
    [
        run::<f16>(config(Format::BINARY16), 1),
        run::<bf16>(config(Format::BFLOAT16), 2),
        run::<E5M2>(config(Format::E5M2), 3),
        run::<E4M3>(config(Format::E4M3), 4),
    ]
}

fn measured(format: Format) -> Config {
    Config::for_format(format).with_period(9).expect("a period")
}

#[test]
fn measured_scales_are_the_same_bits() {
    for (nth, happened) in in_every_format(measured).iter().enumerate() {
        assert!(happened.stops > 3 && happened.in_vain > 3, "{happened:?}");
        // Nothing overflows bfloat16.
        assert_eq!(nth != 1, happened.all_at_once > 3 && happened.replays > 10, "{happened:?}");
    }
}

#[test]
fn scales_under_stochastic_rounding_are_the_same_bits() {
    let stochastic = |format| measured(format).with_rounding(Rounding::Stochastic, 77);
    for (nth, happened) in in_every_format(stochastic).iter().enumerate() {
        assert_eq!(nth != 1, happened.all_at_once > 3, "{happened:?}");
    }
}

#[test]
fn amax_scales_are_the_same_bits() {
    let amax = |format| {
        let policy = Policy::Amax(Amax { window: 12, margin: 1 });
        measured(format).with_policy(policy).expect("a policy")
    };
    for happened in in_every_format(amax) {
        assert!(happened.stops > 3, "{happened:?}");
    }
}

#[test]
fn fixed_and_backed_off_scales_are_the_same_bits() {
    let fixed = |format| {
        let policy = Policy::Fixed(Scale::saturating(6));
        measured(format).with_policy(policy).expect("a policy")
    };
    let backoff = |format| {
        let policy = Policy::Backoff(Backoff::GRAD_SCALER);
        measured(format).with_policy(policy).expect("a policy")
    };
    for happened in in_every_format(fixed).into_iter().chain(in_every_format(backoff)) {
        assert!(happened.stops > 3 && happened.replays == 0, "{happened:?}");
    }
}

#[test]
fn scales_that_are_decided_from_operands_are_the_same_bits() {
    for name in ["normal", "range"] {
        let decided = |format| {
            let policy = Policy::named(name, format).expect("its name");
            let config = Config::preset(Preset::Paper, format).with_policy(policy);
            let config = config.expect("a policy").with_recovery(Recovery::Replay);
            config.with_period(5).expect("a period")
        };
        for happened in in_every_format(decided) {
            assert!(happened.described > 100 && happened.stops > 3, "{name}: {happened:?}");
        }
    }
}

/// What a step had shown that was not finished is of no use to a scaler that is taken over.
#[test]
fn a_step_under_way_is_left_where_a_device_takes_a_scaler_over() {
    let config = Config::for_format(Format::BINARY16);
    let mut scaler = LossScaler::<CELLS>::new(config);
    let mut narrowed = [f16::ZERO; 2];
    for _ in 0..3 {
        let mut step = scaler.begin();
        step.loss().apply(&[1.0, 2.0], &mut narrowed).expect("room");
        let _ = step.finish();
    }
    let mut step = scaler.begin();
    let loss = step.loss().apply(&[0.0, 3.0e20], &mut narrowed).expect("room").tag();
    step.layer(1, loss).expect("a cell").apply(&[0.0, 3.0], &mut narrowed).expect("room");
    let mut bytes = [0; BYTES];
    scaler.save(&mut bytes).expect("room");
    let (device, mut cells) = (&mut Portable, [Cell::new(); CELLS]);
    let state = State::restore(config, &bytes, &mut cells).expect("a checkpoint");
    let mut engine = Engine::new(device, config, CELLS, 8).expect("memory");
    engine.load(device, &state, &cells, 3).expect("cells");

    let step = scaler.begin();
    assert!(matches!(step.finish(), Verdict::Skip { cause: Cause::Nothing, .. }));
    engine.conclude(device, None).expect("room");
    let (state, _) = engine.save(device, &mut cells).expect("cells");
    assert_eq!(state.digest(&cells), scaler.digest());
}

#[test]
fn an_engine_says_what_it_has_no_room_for() {
    let config = Config::for_format(Format::BINARY16);
    let device = &mut Portable;
    let mut engine = Engine::new(device, config, 2, 1).expect("memory");
    let refused = engine.loss_at(device, 2, 1).err();
    assert_eq!(refused, Some(EngineError::NoCell { id: 2, cells: 2 }));
    engine.conclude(device, None).expect("room for one line");
    assert_eq!(engine.conclude(device, None), Err(EngineError::Full { lines: 1 }));
    assert_eq!(engine.loss(device, 1).err(), Some(EngineError::Full { lines: 1 }));
    let room = EngineError::Room { written: 1, lines: 0 };
    assert_eq!(engine.read(device, &mut []).err(), Some(room));
    assert_eq!(engine.written(), 1);
    assert!(engine.read(device, &mut [Line::EMPTY]).is_ok_and(|mut lines| lines.next().is_some()));
    engine.conclude(device, None).expect("the line was read");
}

/// Statistics of operands are computed where a decision is due, and nowhere else.
#[test]
fn operands_are_summarised_where_they_are_wanted() {
    let config = Config::preset(Preset::Paper, Format::BINARY16).with_period(100);
    let config = config.expect("a period");
    let device = &mut Portable;
    let mut engine = Engine::new(device, config, 1, 8).expect("memory");
    for is_due in [true, false] {
        let mut statistics = [Statistics::EMPTY];
        let mut visit = engine.loss(device, 2).expect("room");
        let (to, when) = (&mut statistics[..], Some(visit.operands_predicate()));
        device.run(Summarise { input: &[1.0_f32, 2.0][..], to, when }).expect("it fits");
        assert_eq!(statistics[0].moments.count() > 0, is_due);
        visit.describe(device, &Described::Cast(&statistics[..])).expect("it fits");
        let mut narrowed = [f16::ZERO; 2];
        while let Some(mut pass) = visit.next_pass(device).expect("it fits") {
            let (to, epilogue) = (&mut narrowed[..], pass.epilogue());
            device.run(Narrow { input: &[1.0, 2.0][..], to, epilogue }).expect("it fits");
        }
        visit.finish(device).expect("room");
        engine.conclude(device, None).expect("room");
    }
}

#[test]
fn histograms_merge_in_any_order_to_the_same_bits() {
    let recorded = record(5, 8, 8);
    let parts: Vec<Histogram> = recorded
        .iter()
        .map(|recorded| {
            let mut part = Histogram::new(measured(Format::BINARY16).narrowing());
            part.observe(&recorded.values, recorded.incoming);
            part
        })
        .collect();
    let merge = |mut into: Histogram, part: &Histogram| {
        into.merge(part).expect("one format");
        into
    };
    let empty = Histogram::new(measured(Format::BINARY16).narrowing());
    let forwards = parts.iter().fold(empty, merge);
    let backwards = parts.iter().rev().fold(empty, merge);
    let halves = parts.chunks(7).map(|half| half.iter().fold(empty, merge));
    let pairwise = halves.rev().fold(empty, |into, half| merge(half, &into));
    assert_eq!(forwards, backwards);
    assert_eq!(forwards, pairwise);
}

#[test]
fn a_restart_takes_the_count_of_steps_from_the_device() {
    let config = Config::for_format(Format::BINARY16).with_max_skips(1).expect("one");
    let device = &mut Portable;
    let mut engine = Engine::new(device, config, CELLS, LINES).expect("memory");
    // A step without a visit stops the run; the two after it are asked for in vain.
    for _ in 0..3 {
        engine.conclude(device, None).expect("room");
    }
    engine.restart(device, &mut [Cell::new(); CELLS]).expect("memory");
    let mut visit = engine.loss(device, 1).expect("room");
    let mut pass = visit.next_pass(device).expect("memory").expect("a first pass");
    let expected = scaler::Streams::default().next(1, Place::Loss);
    assert_eq!(pass.epilogue().noise.stream, expected);
}
