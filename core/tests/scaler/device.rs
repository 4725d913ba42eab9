//! A scaler in a device's memory decides what a step on the host decides, and stops where it cannot go on.

use adaloss_core::{
    apply::{Apply, Pass},
    format::{Format, Noise},
    policy::{Cell, Config, Operands},
    propagate::Scaled,
    scale::Scale,
    scaler::{
        Purpose, State, Step, StepError, Streams,
        device::{Asked, Conclusion, DeviceState, Entry, Evidence, Line, Opening, StepEnd},
    },
    statistics::{Histogram, Outcome, Statistics},
    unscale::{Cause, LossSum, Place, Unscaled, Verdict},
};

use super::{Bits, FORMATS, Scaler, Tensors, configs, layer, loss, narrow, run, scale, widen};

const CELLS: usize = 8;

/// Every purpose, in the order of a visit.
const PURPOSES: [Purpose; 4] = [Purpose::Measure, Purpose::Store, Purpose::Join, Purpose::Replay];

/// A device that makes the passes that it is asked for, if it is to make them.
struct Device {
    config: Config,
    state: DeviceState,
    cells: [Cell; CELLS],
    outcome: Outcome,
    histogram: Histogram,
    streams: Streams,
    steps: u64,
    nth: u64,
}

impl Device {
    fn new(config: Config) -> Self {
        Self {
            config,
            state: DeviceState::new(&config),
            cells: [Cell::at(Scale::MAX); CELLS],
            outcome: Outcome::EMPTY,
            histogram: Histogram::new(config.narrowing()),
            streams: Streams::default(),
            steps: 0,
            nth: 0,
        }
    }

    fn state(&mut self) -> &mut DeviceState {
        self.nth += 1;
        self.state.numbered(self.nth)
    }

    fn advance(
        &mut self,
        opening: Option<Opening>,
        purpose: Option<Purpose>,
        sources: &[Scale],
    ) -> Option<[Scale; 2]> {
        self.nth += 1;
        let Self { config, state, cells, outcome, histogram, nth, .. } = self;
        let (asked, sources) = (Asked { opening, purpose }, sources.iter().copied());
        state.numbered(*nth).advance(config, cells, &asked, sources, outcome, histogram)
    }

    /// Visits values that are computed from gradients with these scales and origins.
    fn visit(
        &mut self,
        place: Place,
        values: &[f32],
        from: &[Scaled<()>],
        operands: Option<Operands>,
    ) -> (Scaled<Bits>, Option<Entry>) {
        let stream = self.streams.next(self.steps, place);
        let opening = Opening { place, elements: values.len() as u64, stream };
        let sources: Vec<Scale> = from.iter().map(Scaled::scale).collect();
        let wants = self.advance(Some(opening), None, &sources);
        assert!(wants.is_none() || self.config.policy().wants_operands());
        if let Some(operands) = operands {
            let config = self.config;
            self.state().describe(&config, &operands);
        }
        let mut stored = Bits::new();
        for purpose in PURPOSES {
            let Some([incoming, outgoing]) = self.advance(None, Some(purpose), &[]) else {
                continue;
            };
            if purpose == Purpose::Measure {
                self.histogram.observe(values, incoming);
                continue;
            }
            let noise = Noise { seed: self.config.seed(), stream };
            let narrowing = self.config.narrowing();
            let apply = Apply { narrowing, shift: outgoing / incoming, noise };
            let elements = (0..).zip(values);
            stored = elements.map(|(nth, &x)| apply.element(x, nth, &mut self.outcome)).collect();
        }
        let (mut line, config) = (Line::EMPTY, self.config);
        self.nth += 1;
        let Self { state, cells, outcome, histogram, nth, .. } = self;
        let origins = from.iter().filter_map(Scaled::origin);
        let to = (*nth, &mut line);
        let state = state.numbered(*nth);
        let carried = state.close(&config, cells, origins, outcome, histogram, to);
        (Scaled::from_cell(stored, carried, place), line.entry(*nth))
    }

    fn judge(&mut self, evidence: &Evidence, other: Option<&DeviceState>) {
        self.nth += 1;
        let Self { config, state, cells, nth, .. } = self;
        state.numbered(*nth).judge(config, cells, evidence, other);
    }

    fn finish(&mut self, requires: bool) -> (Conclusion, Entry) {
        let (mut line, nth) = (Line::EMPTY, self.nth + 1);
        let Self { config, state, cells, .. } = self;
        let conclusion = state.numbered(nth).finish(config, cells, requires, (7, &mut line));
        (self.nth, self.streams) = (0, Streams::default());
        self.steps += u64::from(matches!(line.entry(7), Some(Entry::Step(_))));
        assert_eq!(line.entry(8), None);
        (conclusion, line.entry(7).expect("a line"))
    }

    fn end(&mut self) -> StepEnd {
        match self.finish(true) {
            (_, Entry::Step(end)) => end,
            other => panic!("{other:?}"),
        }
    }
}

/// Sums two branches, brought to the scale of the pass.
fn summed(format: Format, branches: [&Scaled<Bits>; 2], incoming: Scale) -> Vec<f32> {
    let parts = branches.map(|branch| {
        let shift = (incoming / branch.scale()).log2();
        let values = widen(format, branch.scaled());
        values.into_iter().map(move |x| x * 2.0_f32.powi(shift)).collect::<Vec<_>>()
    });
    parts[0].iter().zip(&parts[1]).map(|(x, y)| x + y).collect()
}

fn product(weight: f32) -> Operands {
    Operands::Product {
        gradient: Statistics::of(&[1.0e-3_f32, 2.0e-3]),
        weight: Statistics::of(&[weight, -weight]),
        fan_in: 4,
    }
}

/// Takes a step on both: a loss, a layer, a weight gradient, a join, and a further loss.
fn both(step: &mut Step<'_>, device: &mut Device, values: &[f32], weight: f32, met: Unscaled) {
    let config = device.config;
    let format = config.narrowing().format;
    let check = |step: &Step<'_>, here: &Scaled<Bits>, there: (Scaled<Bits>, Option<Entry>)| {
        let (there, entry) = there;
        assert_eq!(entry, step.last().map(Entry::Visit), "{config:?}");
        let of = |gradient: &Scaled<Bits>| (gradient.scaled().clone(), gradient.tag());
        assert_eq!(of(&there), of(here), "{config:?}");
    };
    let first = loss(step, values).unwrap();
    let cast = Operands::Cast(Statistics::of(values));
    check(step, &first, device.visit(Place::Loss, values, &[], Some(cast)));

    let second = layer(step, 0, &first, weight).unwrap();
    let results: Vec<f32> = widen(format, first.scaled()).iter().map(|g| g * weight).collect();
    let there = device.visit(Place::Layer(0), &results, &[first.tag()], Some(product(weight)));
    check(step, &second, there);

    step.unscale(4, &second, |_, _| ((), met));
    let (origin, elements) = (second.origin(), met.elements);
    device.judge(&Evidence::Gradient { id: 4, origin, elements, met }, None);

    let tags = [first.tag(), second.tag()];
    let branches = [&first, &second];
    let visit = step.join(2, &tags).unwrap();
    let sum = |pass: &mut Pass<'_>| narrow(&summed(format, branches, pass.incoming()), pass);
    let third = run(visit, sum).unwrap();
    let incoming = tags[0].scale().min(tags[1].scale());
    let sum = summed(format, branches, incoming);
    check(step, &third, device.visit(Place::Layer(2), &sum, &tags, None));

    let visit = step.loss_at(5).unwrap();
    let further = run(visit, |pass| narrow(values, pass)).unwrap();
    check(step, &further, device.visit(Place::Layer(5), values, &[], None));
}

#[test]
fn a_device_decides_what_a_step_decides() {
    let mut seen = [0; 3];
    for config in FORMATS.into_iter().flat_map(configs) {
        let (mut scaler, mut device) = (Scaler::new(config), Device::new(config));
        let mut tensors = Tensors(11);
        for nth in 0..30 {
            let mut values = tensors.next(20);
            if nth % 9 == 5 {
                values[nth % 20] = f32::INFINITY;
            }
            let weight = if nth % 7 == 3 { 1.0e6 } else { 1.5 };
            let met = Unscaled { elements: 20, nonfinite: u64::from(nth % 11 == 4), tiny: 2 };
            let mut step = scaler.begin();
            both(&mut step, &mut device, &values, weight, met);
            let verdict = step.finish();
            let end = device.end();
            assert_eq!((end.verdict, end.totals, end.tiny), (verdict, scaler.totals(), 2));
            seen[0] += u64::from(verdict == Verdict::Apply);
            seen[1] += u64::from(matches!(verdict, Verdict::Skip { .. }));
            let (state, updates) = (device.state.to_state(config), device.state.updates());
            assert_eq!(state.digest(&device.cells), scaler.digest());
            assert_eq!(u64::from(updates) + scaler.totals().skipped, nth as u64 + 1);
            if nth == 20 {
                // Through a checkpoint, as to another machine.
                let mut bytes = [0; State::checkpoint_bytes(CELLS)];
                state.save(&device.cells, &mut bytes).unwrap();
                let taken = State::restore(config, &bytes, &mut device.cells).unwrap();
                device.state = DeviceState::of(&taken, updates, 0);
            }
        }
        seen[2] += scaler.totals().recovered;
    }
    assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
}

/// Takes a step whose loss is infinite.
fn spoilt(device: &mut Device) -> Entry {
    device.visit(Place::Loss, &[f32::INFINITY], &[], None);
    device.finish(true).1
}

#[test]
fn after_a_stop_nothing_has_an_effect_until_the_host_goes_on() {
    let config = Config::for_format(Format::BINARY16).with_max_skips(2).unwrap();
    let mut device = Device::new(config);
    let (layer, cause) = (Place::Loss, Cause::NonFinite);
    for skipped in [0, 2] {
        let verdict = match skipped {
            0 => Verdict::Skip { layer, cause },
            _ => Verdict::Stop { layer, cause, skipped },
        };
        let Entry::Step(end) = spoilt(&mut device) else { panic!("a step") };
        assert_eq!(end.verdict, verdict);
    }
    let halted = Entry::Halted { place: layer, cause };
    assert_eq!(device.state.halted(), Some((layer, cause)));
    let (before, cells) = (device.state.to_state(config).totals(), device.cells);
    let (_, entry) = device.visit(Place::Layer(1), &[1.0], &[scale(3).into()], None);
    assert_eq!(entry, Some(halted));
    device.judge(&Evidence::WeightSquares { id: 0, sum: f64::NAN }, None);
    device.state().begin(&mut []);
    let (conclusion, entry) = device.finish(true);
    assert_eq!((conclusion.applies, entry), (false, halted));
    assert_eq!((device.state.to_state(config).totals(), device.cells), (before, cells));
    device.state.go_on(0);
    device.visit(Place::Loss, &[1.0], &[], None);
    assert_eq!(device.end().verdict, Verdict::Apply);
}

#[test]
fn a_step_that_was_begun_and_not_finished_is_as_if_it_had_never_been() {
    let squares = |sum| Evidence::Squares { id: 1, sum, is_gradient: true };
    for left in [1.0, f32::INFINITY] {
        let mut device = Device::new(Config::for_format(Format::BINARY16));
        device.visit(Place::Loss, &[left], &[], None);
        device.judge(&squares(f64::NAN), None);
        device.nth += 1;
        let Device { state, cells, nth, .. } = &mut device;
        state.numbered(*nth).begin(cells);
        device.visit(Place::Loss, &[1.0], &[], None);
        device.judge(&squares(2.0), None);
        let end = device.end();
        assert_eq!((end.verdict, end.square_norm), (Verdict::Apply, 2.0));
    }
}

#[test]
fn a_scaler_is_taken_over_between_two_operations() {
    let config = Config::for_format(Format::BINARY16);
    let mut device = Device::new(config);
    (device.state, device.nth) = (DeviceState::of(&State::new(config), 3, 5), 5);
    device.visit(Place::Loss, &[1.0], &[], None);
    assert_eq!((device.end().verdict, device.state.updates()), (Verdict::Apply, 4));
}

#[test]
fn an_operation_that_is_left_out_stops_the_device() {
    let mut device = Device::new(Config::for_format(Format::E4M3));
    device.visit(Place::Loss, &[1.0], &[], None);
    device.nth += 1; // what had this number was not done
    device.judge(&Evidence::Squares { id: 1, sum: 2.0, is_gradient: true }, None);
    let halted = Entry::Halted { place: Place::Loss, cause: Cause::Uncounted };
    assert_eq!(device.finish(true).1, halted);
    assert_eq!(device.state.updates(), 0);
}

#[test]
fn a_visit_without_a_cell_or_with_a_pass_too_few_is_refused() {
    let config = Config::for_format(Format::BINARY16);
    let failed = |place| Verdict::Skip { layer: place, cause: Cause::Failed };
    let mut device = Device::new(config);
    let (carried, entry) = device.visit(Place::Layer(CELLS), &[1.0], &[scale(3).into()], None);
    assert_eq!((carried.scale(), entry), (Scale::ONE, Some(Entry::Refused)));
    assert_eq!(device.end().verdict, failed(Place::Layer(CELLS)));

    let mut scaler = Scaler::new(config);
    let refused = scaler.begin().layer(CELLS, scale(3)).err();
    assert_eq!(refused, Some(StepError::NoCell { id: CELLS, cells: CELLS }));

    // A first visit is measured, stored and stored again; here it is only opened.
    let opening = Opening { place: Place::Layer(1), elements: 2, stream: 0 };
    assert!(device.advance(Some(opening), Some(Purpose::Measure), &[scale(3)]).is_some());
    device.histogram.observe(&[1.0, 2.0], scale(3));
    let (mut line, Device { state, cells, outcome, histogram, nth, .. }) =
        (Line::EMPTY, &mut device);
    *nth += 1;
    let state = state.numbered(*nth);
    state.close(&config, cells, [], outcome, histogram, (3, &mut line));
    assert_eq!(line.entry(3), Some(Entry::Refused));
    assert_eq!(device.end().verdict, failed(Place::Layer(1)));
}

#[test]
fn passes_over_other_elements_are_found() {
    for (counted, cause) in [(0, Cause::Uncounted), (3, Cause::Length)] {
        let mut device =
            Device::new(Config::for_format(Format::E5M2).with_period(Config::NEVER).unwrap());
        let opening = Opening { place: Place::Loss, elements: 2, stream: 0 };
        assert!(device.advance(Some(opening), Some(Purpose::Store), &[]).is_some());
        device.outcome = Outcome { elements: counted, zero: counted, ..Outcome::EMPTY };
        assert_eq!(device.advance(None, Some(Purpose::Replay), &[]), None);
        let (mut line, config) = (Line::EMPTY, device.config);
        let Device { cells, outcome, histogram, nth, state, .. } = &mut device;
        *nth += 1;
        let state = state.numbered(*nth);
        state.close(&config, cells, [], outcome, histogram, (1, &mut line));
        assert_eq!(device.end().verdict, Verdict::Skip { layer: Place::Loss, cause });
    }
}

/// Takes a step of a loss, with something judged before its end.
fn judged(evidence: &[Evidence]) -> (Conclusion, Entry) {
    let mut device = Device::new(Config::for_format(Format::BINARY16));
    device.visit(Place::Loss, &[1.0], &[], None);
    evidence.iter().for_each(|evidence| device.judge(evidence, None));
    device.finish(true)
}

#[test]
fn weights_that_cannot_be_used_stop_the_device() {
    let counted =
        |elements, nonfinite, overflow| Outcome { elements, nonfinite, overflow, ..Outcome::EMPTY };
    let weight = |outcome, saturates| Evidence::Weight { id: 3, elements: 4, saturates, outcome };
    for (evidence, cause) in [
        (weight(counted(4, 0, 0), false), None),
        (weight(counted(4, 0, 1), true), None),
        (weight(counted(4, 0, 1), false), Some(Cause::Overflow)),
        (weight(counted(4, 1, 1), true), Some(Cause::NonFinite)),
        (weight(counted(0, 0, 0), true), Some(Cause::Uncounted)),
        (weight(counted(5, 1, 0), true), Some(Cause::Length)),
        (Evidence::WeightSquares { id: 3, sum: 1.0e300 }, None),
        (Evidence::WeightSquares { id: 3, sum: f64::INFINITY }, Some(Cause::NonFinite)),
    ] {
        let (conclusion, entry) = judged(&[evidence]);
        let place = Place::Weight(3);
        let expected = cause.map(|cause| Entry::Halted { place, cause });
        assert_eq!(expected, Some(entry).filter(|_| cause.is_some()), "{evidence:?}");
        assert_eq!(conclusion.applies, cause.is_none(), "{evidence:?}");
    }
}

#[test]
fn gradients_are_counted_and_their_norm_is_that_of_all() {
    let squares = |id, sum, is_gradient| Evidence::Squares { id, sum, is_gradient };
    let (conclusion, entry) =
        judged(&[squares(0, 3.0, true), squares(1, 50.0, false), squares(2, 0.5, true)]);
    assert_eq!(conclusion, Conclusion { applies: true, updates: 1, square_norm: 3.5 });
    let Entry::Step(StepEnd { square_norm, .. }) = entry else { panic!("a step") };
    assert_eq!(square_norm, 3.5);
    // The last one that is not finite is the one that the backward pass comes to first.
    let bad = [squares(4, f64::NAN, true), squares(6, f64::INFINITY, false), squares(7, 1.0, true)];
    let Entry::Step(end) = judged(&bad).1 else { panic!("a step") };
    let (layer, cause) = (Place::Weight(6), Cause::NonFinite);
    assert_eq!(end.verdict, Verdict::Skip { layer, cause });
    // What counted other elements than there are was left out.
    for (elements, cause) in [(0, Cause::Uncounted), (1, Cause::Length)] {
        let met = Unscaled { elements, ..Unscaled::default() };
        let evidence = Evidence::Gradient { id: 2, origin: None, elements: 2, met };
        let Entry::Step(end) = judged(&[evidence]).1 else { panic!("a step") };
        assert_eq!(end.verdict, Verdict::Skip { layer: Place::Weight(2), cause });
    }
}

/// Judges a loss before the visit of its gradient, or beside another scaler after it.
fn lost(rows: u64, loss: f64, other: Option<&DeviceState>) -> (Entry, Entry) {
    let mut device = Device::new(Config::for_format(Format::BINARY16));
    let (mut line, sum) = (Line::EMPTY, LossSum { loss, weight: 2.0, rows: 2, correct: 1 });
    device.state().judge_loss(rows, &sum, other, (5, &mut line));
    device.visit(Place::Loss, &[1.0], &[], None);
    let evidence = Evidence::Squares { id: 1, sum: f64::NAN, is_gradient: true };
    device.judge(&evidence, other);
    (line.entry(5).expect("a line"), device.finish(true).1)
}

#[test]
fn a_loss_that_is_not_finite_skips_the_step_and_names_itself() {
    let sum = LossSum { loss: f64::INFINITY, weight: 2.0, rows: 2, correct: 1 };
    let skipped = |place, entry| {
        let Entry::Step(end) = entry else { panic!("a step") };
        assert_eq!(end.verdict, Verdict::Skip { layer: place, cause: Cause::NonFinite });
    };
    let other = DeviceState::new(&Config::for_format(Format::BINARY16));
    for other in [None, Some(&other)] {
        let (line, entry) = lost(2, sum.loss, other);
        assert_eq!(line, Entry::Loss(sum));
        skipped(Place::Loss, entry);
        skipped(Place::Weight(1), lost(2, 1.0, other).1);
        let halted = Entry::Halted { place: Place::Loss, cause: Cause::Length };
        assert_eq!(lost(3, 1.0, other).1, halted);
    }
    // Another scaler found out by itself whose loss it is.
    let mut knows = Device::new(Config::for_format(Format::BINARY16));
    knows.visit(Place::Loss, &[f32::NAN], &[], None);
    let Entry::Step(end) = lost(2, sum.loss, Some(&knows.state)).1 else { panic!("a step") };
    assert_eq!(end.verdict, Verdict::Apply);
}

#[test]
fn two_scalers_apply_together_or_not_at_all() {
    for requires in [false, true] {
        let mut device = Device::new(Config::for_format(Format::BINARY16));
        device.visit(Place::Loss, &[1.0], &[], None);
        let (conclusion, entry) = device.finish(requires);
        assert_eq!((conclusion.applies, conclusion.updates), (requires, requires.into()));
        let Entry::Step(end) = entry else { panic!("a step") };
        assert_eq!(end.verdict, Verdict::Apply);
    }
}

#[test]
fn lines_say_what_they_are() {
    let said = |entry: Entry| entry.to_string();
    assert_eq!(Line::EMPTY.to_string(), "nothing");
    assert_eq!(Line::default().entry(0), None);
    assert!(said(Entry::Refused).contains("could not be made"));
    let sum = LossSum { loss: 1.5, weight: 2.0, rows: 2, correct: 1 };
    assert_eq!(said(Entry::Loss(sum)), "a loss of 1.5 over a weight of 2");
    let halted = Entry::Halted { place: Place::Weight(2), cause: Cause::Overflow };
    assert!(said(halted).ends_with("overflow in the weight gradient of layer 2"));
    let mut device = Device::new(Config::for_format(Format::BINARY16));
    let (_, entry) = device.visit(Place::Layer(1), &[3.0, 0.0], &[scale(2).into()], None);
    let visit = said(entry.expect("a visit"));
    assert!(visit.starts_with("layer 1 from 2^2 to 2^"), "{visit}");
    assert_eq!(said(device.finish(true).1), "step 1: every gradient is finite");
}
