//! Ranks that share steps decide as one scaler that saw everything, and find out where they are not alike.

use adaloss_core::{
    format::{Format, Overflow},
    policy::{Amax, Backoff, Cell, Config, Policy, Preset, Seen},
    propagate::Scaled,
    scale::Scale,
    scaler::{
        LossScaler, State, Step,
        device::{DeviceState, Entry, Evidence, Line},
        share::{self, CELL_BYTES, HEADER_BYTES, ShareError},
    },
    unscale::{Cause, Place, Unscaled, Verdict},
};
use adaloss_oracle::inputs::SplitMix64;

use super::visited;

const CELLS: usize = 6;
const BYTES: usize = share::message_bytes(CELLS);

type Scaler = LossScaler<CELLS>;
type Message = [u8; BYTES];

/// Something that makes a step unusable, or a scale lower.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// An infinity among the values of a layer.
    NonFinite(usize),
    /// A weight gradient that is not finite.
    Weight(usize),
    /// Something that the caller found.
    Rejected(Place, Cause),
    /// Sums of a layer's values that overflowed.
    Sums(usize),
    /// A visit that is left, with no other behind it.
    Left(usize),
    /// A visit of a layer that has no cell.
    NoCell(usize),
}

/// What a rank visits in a step: of each layer some values, or nothing.
#[derive(Clone, Debug, Default)]
struct Batch {
    loss: Option<Vec<f32>>,
    layers: [Option<Vec<f32>>; CELLS],
    trouble: Option<Trouble>,
}

fn batch(generator: &mut SplitMix64) -> Batch {
    let mut some = || (generator.below(3) > 0).then(|| generator.gradient());
    Batch { loss: some(), layers: std::array::from_fn(|_| some()), trouble: None }
}

fn trouble(generator: &mut SplitMix64) -> Trouble {
    let id = generator.below(CELLS);
    let place = [Place::Loss, Place::Layer(id), Place::Weight(id)][generator.below(3)];
    let causes = [Cause::NonFinite, Cause::Overflow, Cause::Failed, Cause::Length];
    match generator.below(7) {
        0 => Trouble::NonFinite(id),
        1 => Trouble::Weight(id + generator.below(2) * CELLS),
        2 => Trouble::Rejected(place, causes[generator.below(4)]),
        3 => Trouble::Left(id),
        4 => Trouble::NoCell(CELLS + id),
        _ => Trouble::Sums(id),
    }
}

/// Goes backward; every value arrives unscaled.
fn backward(step: &mut Step<'_>, batch: &Batch) {
    let unscaled = || Scaled::new((), Scale::ONE);
    if let Some(values) = &batch.loss {
        visited(step.loss(), values);
    }
    for (id, values) in batch.layers.iter().enumerate() {
        if let Some(values) = values {
            visited(step.layer(id, unscaled()).expect("a cell"), values);
        }
    }
    match batch.trouble {
        Some(Trouble::NonFinite(id)) => {
            visited(step.layer(id, unscaled()).expect("a cell"), &[1.0e-3, f32::INFINITY]);
        }
        Some(Trouble::Weight(id)) => {
            step.unscaled(id, &Unscaled { elements: 3, nonfinite: 1, tiny: 0 });
        }
        Some(Trouble::Rejected(place, cause)) => step.reject(place, cause),
        Some(Trouble::Sums(id)) => step.sums_overflowed(Place::Layer(id)),
        Some(Trouble::Left(id)) => {
            let _ = step.layer(id, unscaled()).expect("a cell").next_pass();
        }
        Some(Trouble::NoCell(id)) => {
            let _ = step.layer(id, unscaled()).expect_err("no cell");
        }
        None => {}
    }
}

fn packed(step: &mut Step<'_>) -> Message {
    let mut message = [0; BYTES];
    step.share().pack(&mut message).expect("room");
    message
}

/// Merges two messages at a time, any of them, some more than once.
fn merged(generator: &mut SplitMix64, mut messages: Vec<Message>) -> Message {
    while messages.len() > 1 {
        let from = messages.swap_remove(generator.below(messages.len()));
        let into = generator.below(messages.len());
        share::merge(&mut messages[into], &from).expect("one length");
        if generator.below(3) == 0 {
            share::merge(&mut messages[into], &from).expect("one length");
        }
    }
    messages[0]
}

/// What has to be the same on every rank.
fn parts(scaler: &mut Scaler) -> Vec<(Option<Place>, u64)> {
    let mut step = scaler.begin();
    let share = step.share();
    (0..).map_while(|index| share.part(index)).collect()
}

/// Takes a step on each rank.
fn together(ranks: &mut [Scaler], batches: &[Batch], generator: &mut SplitMix64) -> Vec<Verdict> {
    let mut steps: Vec<Step<'_>> = ranks.iter_mut().map(Scaler::begin).collect();
    let messages = steps.iter_mut().zip(batches).map(|(step, batch)| {
        backward(step, batch);
        packed(step)
    });
    let message = merged(generator, messages.collect());
    let finish = |mut step: Step<'_>| {
        step.share().unpack(&message).expect("ranks that are alike");
        step.finish()
    };
    steps.into_iter().map(finish).collect()
}

/// Configurations that ranks can share, with a certificate now and then.
fn configs() -> Vec<Config> {
    let [binary16, bfloat16, e4m3, e5m2] =
        [Format::BINARY16, Format::BFLOAT16, Format::E4M3, Format::E5M2].map(Config::for_format);
    let with = |config: Config, policy| config.with_policy(policy).unwrap();
    let backoff = Policy::Backoff(Backoff { interval: 5, ..Backoff::GRAD_SCALER });
    let chainer = Policy::Backoff(Backoff::chainer(9).unwrap());
    vec![
        binary16,
        binary16.with_period(3).unwrap(),
        bfloat16,
        e4m3.with_period(7).unwrap(),
        e5m2.with_overflow(Overflow::Saturate),
        with(e4m3, Policy::Amax(Amax { window: 6, margin: 0 })),
        with(binary16, backoff),
        with(e5m2.with_overflow(Overflow::Saturate), chainer),
        with(e5m2, Policy::Fixed(Scale::new(9).unwrap())),
    ]
}

/// Any number of ranks, merged by any tree, and one scaler for which they are micro-batches: the same verdicts and cells.
#[test]
fn ranks_decide_as_one_scaler_that_saw_everything() {
    let mut skips = 0;
    for (config, seed) in configs().into_iter().zip(0..) {
        for count in [1, 2, 3, 5, 8] {
            let mut generator = SplitMix64(seed * 100 + count as u64);
            let mut whole = Scaler::new(config);
            let mut ranks = vec![Scaler::new(config); count];
            for nth in 0..120 {
                let mut batches: Vec<Batch> = (0..count).map(|_| batch(&mut generator)).collect();
                // One at a time: a scaler names the first place that it comes to, ranks one in the order of places.
                if nth > 20 && nth % 4 == 0 {
                    batches[generator.below(count)].trouble = Some(trouble(&mut generator));
                }
                let mut step = whole.begin();
                batches.iter().for_each(|batch| {
                    backward(&mut step, &Batch { trouble: None, ..batch.clone() });
                });
                for batch in &batches {
                    backward(&mut step, &Batch { trouble: batch.trouble, ..Batch::default() });
                }
                let is_bad = step.first_bad().is_some();
                let expected = step.finish();
                let verdicts = together(&mut ranks, &batches, &mut generator);
                let is_named = batches.iter().any(|batch| batch.trouble.is_some()) || !is_bad;
                if is_named && config.narrowing().overflow == Overflow::Infinity && config.replays()
                {
                    assert_eq!(verdicts, vec![expected; count], "{config:?}, step {nth}");
                }
                skips += u32::from(expected != Verdict::Apply);
                assert!(verdicts.iter().all(|&verdict| kind(verdict) == kind(expected)));
                let expected = parts(&mut whole);
                for rank in &mut ranks {
                    assert_eq!(parts(rank), expected, "{config:?}, {count} ranks, step {nth}");
                    let scale = |scaler: &Scaler, place| scaler.cell(place).map(Cell::scale);
                    for place in (0..CELLS).map(Place::Layer).chain([Place::Loss]) {
                        assert_eq!(scale(rank, place), scale(&whole, place));
                    }
                }
            }
        }
    }
    assert!(skips > 300, "{skips}");
}

fn kind(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Apply => 0,
        Verdict::Skip { .. } => 1,
        Verdict::Stop { .. } => 2,
    }
}

/// Whatever goes wrong, and on however many ranks at once, a verdict is everybody's, and so are the cells.
#[test]
fn ranks_stay_alike_through_any_trouble() {
    let (mut applied, mut skipped, mut stopped) = (0, 0, 0);
    for (config, seed) in configs().into_iter().zip(0..) {
        let config = config.with_max_skips(3).unwrap();
        for (count, period) in [(2, config.period()), (4, Config::NEVER), (7, 2)] {
            let config = config.with_period(period).unwrap();
            let mut generator = SplitMix64(7 * seed + count as u64);
            let mut ranks = vec![Scaler::new(config); count];
            for nth in 0..200 {
                let batches: Vec<Batch> = (0..count)
                    .map(|_| {
                        let trouble =
                            (generator.below(2 * count) == 0).then(|| trouble(&mut generator));
                        Batch { trouble, ..batch(&mut generator) }
                    })
                    .collect();
                let verdicts = together(&mut ranks, &batches, &mut generator);
                assert_eq!(verdicts, vec![verdicts[0]; count], "{config:?}, step {nth}");
                let expected = parts(&mut ranks[0]);
                for rank in &mut ranks {
                    assert_eq!(parts(rank), expected, "{config:?}, step {nth}");
                }
                match verdicts[0] {
                    Verdict::Apply => applied += 1,
                    Verdict::Skip { .. } => skipped += 1,
                    Verdict::Stop { .. } => stopped += 1,
                }
                // A step that every rank drops, on the way.
                if nth % 17 == 0 {
                    for rank in &mut ranks {
                        backward(&mut rank.begin(), &batch(&mut generator));
                    }
                }
            }
            if period == Config::NEVER {
                let digests: Vec<u32> = ranks.iter().map(Scaler::digest).collect();
                assert_eq!(digests, vec![digests[0]; count], "{config:?}");
            }
        }
    }
    assert!(applied > 1000 && skipped > 500 && stopped > 20, "{applied}, {skipped}, {stopped}");
}

/// A rank over the caller's cells, after some steps, with one under way.
fn rank(config: Config, steps: usize) -> (State, [Cell; CELLS]) {
    let (mut state, mut cells) = (State::new(config), [Cell::new(); CELLS]);
    let mut generator = SplitMix64(3);
    for _ in 0..steps {
        let mut step = state.begin(&mut cells);
        backward(&mut step, &Batch { loss: Some(generator.gradient()), ..batch(&mut generator) });
        let message = packed(&mut step);
        step.share().unpack(&message).expect("alone");
        let _ = step.finish();
    }
    let _ = state.begin(&mut cells);
    (state, cells)
}

/// What each of two ranks says of the message of both, which is the same.
fn both(
    (one, its): (&mut State, &mut [Cell]),
    (other, others): (&mut State, &mut [Cell]),
) -> Result<(), ShareError> {
    let (mut message, mut from) =
        (vec![0; share::message_bytes(its.len())], vec![0; share::message_bytes(others.len())]);
    one.resume(its).share().pack(&mut message).expect("room");
    other.resume(others).share().pack(&mut from).expect("room");
    // Of different lengths only the headers can be merged.
    if message.len() != from.len() {
        message.truncate(HEADER_BYTES);
        from.truncate(HEADER_BYTES);
    }
    share::merge(&mut message, &from).expect("one length");
    let said = one.resume(its).share().matches(&message);
    assert_eq!(other.resume(others).share().matches(&message).is_ok(), said.is_ok());
    if message.len() > HEADER_BYTES {
        assert_eq!(one.resume(its).share().unpack(&message), said);
    }
    said
}

/// A bit that is flipped in a rank's cell is found by the next message, whichever bit it is, but where it says when a
/// certificate is due or what the step at hand showed.
#[test]
fn a_flipped_bit_is_found_by_the_next_message() {
    for config in configs() {
        let follows_maxima = config.policy().follows_maxima();
        let mut noticed = 0;
        for bit in 0..8 * Cell::BYTES {
            let (mut whole, mut cells) = rank(config, 12);
            let mut bytes = cells[2].to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Some(flipped) = Cell::from_bytes(&bytes) else { continue };
            let (mut state, mut others) = rank(config, 12);
            assert_eq!(others, cells);
            others[2] = flipped;
            let said = both((&mut whole, &mut cells), (&mut state, &mut others));
            let is_own = match bit / 8 {
                // The period and what makes it end early; the promise.
                16..20 | 24 => follows_maxima,
                25 => [2, 3, 4].contains(&(bit % 8)) || bit % 8 == 1 && follows_maxima,
                26 => true,
                _ => false,
            };
            let error = ShareError::Digest { step: 12 };
            assert_eq!(said, if is_own { Ok(()) } else { Err(error) }, "{config:?}, bit {bit}");
            // The part that differs is that of the cell.
            let (here, there) = (whole.resume(&mut cells), state.resume(&mut others));
            let ([mut here, mut there], mut differ) = ([here, there], Vec::new());
            for index in 0..2 + CELLS {
                let [here, there] = [&mut here, &mut there].map(|step| step.share().part(index));
                differ.extend((here != there).then_some(here));
            }
            let places: Vec<_> = differ.into_iter().flatten().map(|(place, _)| place).collect();
            assert_eq!(places.is_empty(), is_own);
            assert!(is_own || places == [Some(Place::Layer(2))]);
            noticed += u32::from(!is_own);
        }
        assert!(noticed > 140, "{noticed}");
    }
}

#[test]
fn ranks_that_are_not_alike_find_out_how() {
    let config = Config::for_format(Format::BINARY16);
    let (mut one, mut its) = rank(config, 5);
    let mut with = |(mut other, mut others): (State, [Cell; CELLS]), cells: usize| {
        both((&mut one, &mut its), (&mut other, &mut others[..cells]))
    };
    assert_eq!(with(rank(config, 5), CELLS), Ok(()));
    assert_eq!(with(rank(config, 4), CELLS), Err(ShareError::Step { step: 5 }));
    assert_eq!(with(rank(config, 5), CELLS - 1), Err(ShareError::Cells));
    let other = config.with_rounding(config.narrowing().rounding, 1);
    assert_eq!(with(rank(other, 5), CELLS), Err(ShareError::Config));
    // So many skipped in a row, of as many steps.
    let (mut skipped, mut cells) = rank(config, 4);
    let _ = skipped.resume(&mut cells).finish();
    cells = rank(config, 5).1;
    assert_eq!(with((skipped, cells), CELLS), Err(ShareError::Digest { step: 5 }));
}

#[test]
fn a_message_that_is_none_changes_nothing() {
    let (mut state, mut cells) = rank(Config::for_format(Format::E4M3), 5);
    let mut message = packed(&mut state.resume(&mut cells));
    let before = cells;
    let mut said = |message: &[u8]| {
        let error = state.resume(&mut cells).share().unpack(message);
        assert_eq!((cells, state.totals().steps), (before, 5));
        error
    };
    for length in [0, 1, HEADER_BYTES, BYTES - 1] {
        let room = ShareError::Room { expected: BYTES, length };
        assert_eq!(said(&message[..length]), Err(room));
    }
    let damages = [
        (0, 2, ShareError::Version),
        (1, 0xff, ShareError::Version),
        (8, 7, ShareError::Cells),
        (16, 6, ShareError::Step { step: 5 }),
        (33, 0, ShareError::Config),
        (47, 0, ShareError::Digest { step: 5 }),
        (2, 2, ShareError::Damaged),
        (3, 2, ShareError::Damaged),
        (4, 2, ShareError::Damaged),
        // Nothing is done any more, and nothing was found.
        (4, 1, ShareError::Damaged),
        (5, 7, ShareError::Damaged),
        (6, 1, ShareError::Damaged),
        (79, 1, ShareError::Damaged),
        (HEADER_BYTES + 2 * CELL_BYTES + 1, 4, ShareError::Damaged),
        (HEADER_BYTES + 2 * CELL_BYTES + 2, 2, ShareError::Damaged),
        (HEADER_BYTES + 2 * CELL_BYTES + 3, 254, ShareError::Damaged),
        (HEADER_BYTES + 2 * CELL_BYTES + 4, 7, ShareError::Damaged),
        (BYTES - 1, 7, ShareError::Damaged),
    ];
    for (at, byte, error) in damages {
        let kept = std::mem::replace(&mut message[at], byte);
        assert_ne!(kept, byte, "byte {at}");
        assert_eq!(said(&message), Err(error), "byte {at}");
        message[at] = kept;
    }
    assert!(share::merge(&mut message, &[0; BYTES - 1]).is_err());

    let short = &mut [0; BYTES - 1];
    let room = ShareError::Room { expected: BYTES, length: BYTES - 1 };
    assert_eq!(state.resume(&mut cells).share().pack(short), Err(room));
    assert_eq!(short, &[0; BYTES - 1]);
}

/// Messages of ranks that went wrong in any way are taken or refused, and nothing panics.
#[test]
fn any_bytes_are_taken_or_refused() {
    let mut generator = SplitMix64(9);
    let (mut taken, config) = (0, Config::for_format(Format::BINARY16));
    for _ in 0..3000 {
        let (mut state, mut cells) = rank(config, 1);
        let mut message = packed(&mut state.resume(&mut cells));
        for _ in 0..generator.below(6) {
            let at = generator.below(BYTES);
            message[at] = message[at].max(generator.below(8) as u8);
        }
        let mut step = state.resume(&mut cells);
        if step.share().unpack(&message).is_ok() {
            let _ = step.finish();
            taken += 1;
        }
    }
    assert!(taken > 300, "{taken}");
}

#[test]
fn policies_that_decide_from_operands_are_refused() {
    for name in ["normal", "range"] {
        let policy = Policy::named(name, Format::BINARY16).unwrap();
        let config = Config::preset(Preset::Paper, Format::BINARY16).with_policy(policy).unwrap();
        let mut scaler = Scaler::new(config);
        let mut step = scaler.begin();
        assert_eq!(step.share().pack(&mut [0; BYTES]), Err(ShareError::Operands));
        assert_eq!(step.share().unpack(&[0; BYTES]), Err(ShareError::Operands));
    }
}

/// Which of two findings is named, on both ranks.
#[test]
fn the_first_place_that_any_rank_found_is_named_on_all() {
    let config = Config::for_format(Format::BINARY16);
    let named = |found: [Option<(Place, Cause)>; 2]| {
        let mut ranks = [Scaler::new(config), Scaler::new(config)];
        let batches = found.map(|found| Batch {
            loss: Some(vec![1.0e-3]),
            trouble: found.map(|(place, cause)| Trouble::Rejected(place, cause)),
            ..Batch::default()
        });
        let verdicts = together(&mut ranks, &batches, &mut SplitMix64(0));
        assert_eq!(verdicts[0], verdicts[1]);
        match verdicts[0] {
            Verdict::Skip { layer, cause } => Some((layer, cause)),
            _ => None,
        }
    };
    // In the order in which they are named.
    let places = [
        Place::Loss,
        Place::Layer(0),
        Place::Layer(5),
        Place::Layer(CELLS),
        Place::Weight(0),
        Place::Weight(4),
        Place::Weight(usize::MAX),
    ];
    assert_eq!(named([None, None]), None);
    for (nth, first) in places.into_iter().enumerate() {
        let first = Some((first, Cause::NonFinite));
        assert_eq!(named([first, None]), first);
        assert_eq!(named([None, first]), first);
        for later in &places[nth + 1..] {
            let without_cell =
                |at: Place| matches!(at, Place::Layer(CELLS..) | Place::Weight(CELLS..));
            if without_cell(*later) && without_cell(places[nth]) {
                continue;
            }
            let later = Some((*later, Cause::Length));
            assert_eq!(named([first, later]), first);
            assert_eq!(named([later, first]), first);
        }
        // Of one place, the mistake rather than its consequence.
        let mistake = first.map(|(place, _)| (place, Cause::Uncounted));
        assert_eq!(named([first, mistake]), mistake);
    }
    // Of places without a cell whose numbers differ the first such is named.
    let [one, other] = [7, 300].map(|id| Some((Place::Weight(id), Cause::NonFinite)));
    assert_eq!(named([one, other]), Some((Place::Weight(CELLS), Cause::NonFinite)));
    assert_eq!(named([other, other]), other);
}

/// Two ranks that found different first scales, one of them with sums that overflowed: what follows is the same on both.
#[test]
fn first_scales_become_one() {
    let config = Config::for_format(Format::BINARY16);
    for sums in [false, true] {
        let mut ranks = vec![Scaler::new(config); 3];
        let values = [Some(vec![1.0e-6]), Some(vec![3.0e2]), None];
        let mut batches = values.map(|loss| Batch { loss, ..Batch::default() });
        batches[0].trouble = sums.then_some(Trouble::Rejected(Place::Weight(0), Cause::NonFinite));
        let mut steps: Vec<Step<'_>> = ranks.iter_mut().map(Scaler::begin).collect();
        let mut message = [0; BYTES];
        for (step, batch) in steps.iter_mut().zip(&batches) {
            backward(step, batch);
            if sums {
                step.sums_overflowed(Place::Loss);
            }
            share::merge(&mut message, &packed(step)).unwrap();
        }
        for mut step in steps {
            step.share().unpack(&message).unwrap();
            let _ = step.finish();
        }
        let cells: Vec<_> = ranks.iter().map(|rank| *rank.cell(Place::Loss).unwrap()).collect();
        assert!(cells.iter().all(|cell| cell.scale() == cells[1].scale() && cell.is_calibrated()));
        let expected = parts(&mut ranks[0]);
        assert!(ranks.iter_mut().all(|rank| parts(rank) == expected));
    }
}

/// A device on which nothing is done any more takes part, and halts the others.
#[test]
fn a_halted_device_halts_all() {
    let config = Config::for_format(Format::BINARY16);
    let mut devices = [DeviceState::new(&config), DeviceState::new(&config)];
    let mut cells = [[Cell::new(); CELLS]; 2];
    let evidence = Evidence::WeightSquares { id: 3, sum: f64::INFINITY };
    devices[1].judge(&config, &mut cells[1], &evidence, None);
    let found = (Place::Weight(3), Cause::NonFinite);
    let mut message = [0; BYTES];
    for (device, cells) in devices.iter_mut().zip(&mut cells) {
        let mut from = [0; BYTES];
        device.share(&config, cells).pack(&mut from).unwrap();
        share::merge(&mut message, &from).unwrap();
    }
    for (device, cells) in devices.iter_mut().zip(&mut cells) {
        device.share(&config, cells).unpack(&message).unwrap();
        assert_eq!(device.halted(), Some(found));
        let mut line = Line::EMPTY;
        let conclusion = device.finish(&config, cells, true, (1, &mut line));
        assert!(!conclusion.applies);
        assert_eq!(device.share(&config, cells).step(), 0);
    }
    // A scaler on the host has no way to do nothing any more: it says so.
    let mut host = Scaler::new(config);
    let halted = ShareError::Halted { place: found.0, cause: found.1 };
    assert_eq!(host.begin().share().unpack(&message), Err(halted));
}

/// What only the end of a device's step would show is agreed on too.
#[test]
fn what_a_device_kept_for_the_end_is_shared() {
    let config = Config::for_format(Format::BINARY16);
    let mut devices = [DeviceState::new(&config), DeviceState::new(&config)];
    let mut cells = [[Cell::new(); CELLS]; 2];
    let squares = Evidence::Squares { id: 9, sum: f64::NAN, is_gradient: true };
    devices[0].judge(&config, &mut cells[0], &squares, None);
    let mut message = [0; BYTES];
    for (device, cells) in devices.iter_mut().zip(&mut cells) {
        let met = Unscaled { elements: 4, nonfinite: 0, tiny: 0 };
        let gradient = Evidence::Gradient { id: 9, origin: None, elements: 4, met };
        device.judge(&config, cells, &gradient, None);
        let mut from = [0; BYTES];
        device.share(&config, cells).pack(&mut from).unwrap();
        share::merge(&mut message, &from).unwrap();
    }
    assert_eq!(message[2], 1);
    for (device, cells) in devices.iter_mut().zip(&mut cells) {
        device.share(&config, cells).unpack(&message).unwrap();
        let mut line = Line::EMPTY;
        assert!(!device.finish(&config, cells, true, (1, &mut line)).applies);
        let Some(Entry::Step(end)) = line.entry(1) else { panic!("{line:?}") };
        let layer = Place::Weight(9);
        assert_eq!(end.verdict, Verdict::Skip { layer, cause: Cause::NonFinite });
    }
}

/// The bytes of one message, as long as [`share::VERSION`] is 1.
#[test]
fn a_message_is_these_bytes() {
    let config = Config::for_format(Format::BINARY16);
    let mut scaler = LossScaler::<3>::new(config);
    let _ = scaler.begin().finish();
    let mut step = scaler.begin();
    visited(step.loss(), &[1.0]);
    visited(step.layer(1, Scaled::new((), Scale::ONE)).unwrap(), &[f32::INFINITY]);
    step.sums_overflowed(Place::Layer(1));
    step.unscaled(2, &Unscaled { elements: 1, nonfinite: 1, tiny: 0 });
    let mut message = [0xaa; share::message_bytes(3)];
    step.share().pack(&mut message).unwrap();
    let shown: Vec<String> = message
        .chunks(8)
        .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    assert_eq!(shown.join(" "), GOLDEN);
    assert_eq!(share::message_bytes(0), HEADER_BYTES);
    assert_eq!([100, 1000, 10_000].map(share::message_bytes), [680, 6080, 60_080]);
}

const GOLDEN: &str = "01fe010100000000 03000000fcffffff 0100000000000000 feffffffffffffff 4b760cc8b489f337 \
    22c9af59f4fa1f0c dd3650a60b05e0f3 0000000000000000 0000000000000000 \
    7002007100000000 0001000000000002 0100010000000000 0000";

/// Every ceiling, and every state of a tensor, survives the message.
#[test]
fn what_tensors_show_merges_as_ever() {
    let config = Config::for_format(Format::E5M2);
    let mut generator = SplitMix64(1);
    let all: Vec<Seen> = (i8::MIN..=i8::MAX)
        .flat_map(|ceiling| {
            [0, 1, 2, 3].map(|bits| {
                let (overflowed, sums_overflowed) = (bits & 1 != 0, bits & 2 != 0);
                Seen { ceiling, overflowed, sums_overflowed, visited: true }
            })
        })
        .chain([Seen::NOTHING, Seen { sums_overflowed: true, ..Seen::NOTHING }])
        .collect();
    for &one in &all {
        let other = all[generator.below(all.len())];
        let mut expected = one;
        expected.merge(&other);
        let mut ranks = [Scaler::new(config), Scaler::new(config)];
        let mut steps = ranks.each_mut().map(Scaler::begin);
        let mut message = [0; BYTES];
        for (step, seen) in steps.iter_mut().zip([one, other]) {
            step.set_seen(Place::Layer(4), seen).unwrap();
            share::merge(&mut message, &packed(step)).unwrap();
        }
        for step in &mut steps {
            step.share().unpack(&message).unwrap();
            assert_eq!(step.seen(Place::Layer(4)), expected, "{one:?}, {other:?}");
        }
    }
}
