//! Ranks with scalers of the C library share steps as those of core do: messages, verdicts and cells are the same, and
//! so is what is said where they are not alike.

use std::ptr::{null, null_mut};

use adaloss::*;
use adaloss_core::{
    apply::Pass,
    format::{Element, Encoding, Format},
    policy::{Cell, Config, Preset, Recovery},
    propagate::Scaled,
    scale::Scale,
    scaler::{
        LossScaler, OpenVisit, Step,
        device::{DeviceState, Evidence},
        share::{self, CELL_BYTES, HEADER_BYTES, ShareError},
    },
    unscale::{Cause, Place, Unscaled, Verdict},
    with_element,
};
use adaloss_oracle::inputs::SplitMix64;

use super::{config_of, configs, made_by, same_verdict};

const CELLS: usize = 5;
const BYTES: usize = share::message_bytes(CELLS);

type Scaler = LossScaler<CELLS>;
type Message = [u8; BYTES];
type Digests = [u64; 2 + CELLS];

/// A scaler of C's and its cells.
struct Rank {
    scaler: Box<adaloss_scaler>,
    cells: Vec<adaloss_cell>,
}

impl Rank {
    /// Makes a scaler, with a step under way.
    fn new(config: &Config, count: usize) -> Self {
        let mut cells = vec![config.cell().into(); count];
        let mut scaler = Box::new(adaloss_scaler { opaque: [0; ADALOSS_SCALER_WORDS] });
        let config = config_of(config);
        done(unsafe { adaloss_scaler_init(&mut *scaler, &config, cells.as_mut_ptr(), count) });
        let mut made = Self { scaler, cells };
        made.begin();
        made
    }

    fn begin(&mut self) {
        done(unsafe { adaloss_scaler_begin(&mut *self.scaler) });
    }

    fn finish(&mut self) -> adaloss_verdict {
        made_by(|to| unsafe { adaloss_scaler_finish(&mut *self.scaler, to) })
    }

    fn pack(&mut self) -> Vec<u8> {
        let mut message = vec![0xaa; share::message_bytes(self.cells.len())];
        let to = message.as_mut_ptr().cast();
        done(unsafe { adaloss_share_pack(&mut *self.scaler, to, message.len()) });
        message
    }

    fn matches(&mut self, message: &[u8]) -> adaloss_code {
        let from = message.as_ptr().cast();
        unsafe { adaloss_share_matches(&mut *self.scaler, from, message.len()) }
    }

    fn unpack(&mut self, message: &[u8]) -> adaloss_code {
        let from = message.as_ptr().cast();
        unsafe { adaloss_share_unpack(&mut *self.scaler, from, message.len()) }
    }

    fn digests(&mut self) -> Vec<u64> {
        let mut digests = vec![0; 2 + self.cells.len()];
        let to = digests.as_mut_ptr();
        done(unsafe { adaloss_share_digests(&mut *self.scaler, to, digests.len()) });
        digests
    }

    /// Whatever a kernel wrote, the histogram that is left is one.
    fn has_a_histogram(&self) {
        let histogram = made_by(|to| unsafe { adaloss_scaler_histogram(&*self.scaler, to) });
        made_by(|to| unsafe { adaloss_statistics_histogram_overflow(&histogram, 0, to) });
    }

    /// Hands values to the visit that was opened.
    fn narrow(&mut self, values: &[f32]) {
        let mut narrowed = vec![0_u32; values.len()];
        let (scaler, mut pass, mut log2) = (&raw mut *self.scaler, null_mut(), 0);
        while unsafe { adaloss_scaler_next_pass(scaler, &mut pass) } == ADALOSS_OK {
            let to = narrowed.as_mut_ptr().cast();
            done(unsafe { adaloss_apply_pass(pass, values.as_ptr(), values.len(), to) });
        }
        done(unsafe { adaloss_scaler_finish_visit(scaler, &mut log2) });
    }

    /// Goes backward, as [`backward`] does.
    fn backward(&mut self, batch: &Batch) {
        let scaler = &raw mut *self.scaler;
        if let Some(values) = &batch.loss {
            done(unsafe { adaloss_scaler_loss(scaler) });
            self.narrow(values);
        }
        for (id, values) in (0..).zip(&batch.layers) {
            if let Some(values) = values {
                done(unsafe { adaloss_scaler_layer(scaler, id, 0) });
                self.narrow(values);
            }
        }
        match batch.trouble {
            Some(Trouble::Weight(id)) => {
                let met = adaloss_unscaled { elements: 3, nonfinite: 1, tiny: 0 };
                done(unsafe { adaloss_scaler_unscaled(scaler, id, &met) });
            }
            Some(Trouble::Rejected(id)) => {
                let place = adaloss_place { kind: 1, cell: id };
                done(unsafe { adaloss_scaler_reject(scaler, place, 1) });
            }
            Some(Trouble::Sums(id)) => {
                let place = adaloss_place { kind: 1, cell: id };
                let code = unsafe { adaloss_scaler_sums_overflowed(scaler, place) };
                assert!(matches!(code, ADALOSS_OK | ADALOSS_NONE));
            }
            Some(Trouble::Left(id)) => {
                done(unsafe { adaloss_scaler_layer(scaler, id, 0) });
                let pass = made_by(|to| unsafe { adaloss_scaler_next_pass(scaler, to) });
                spoil(pass);
            }
            Some(Trouble::NoCell(id)) => {
                assert_eq!(unsafe { adaloss_scaler_layer(scaler, id, 0) }, ADALOSS_ERROR_NO_CELL);
            }
            None => {}
        }
    }
}

fn done(code: adaloss_code) {
    assert_eq!(code, ADALOSS_OK);
}

/// What a kernel that goes wrong writes to the counters of its pass.
fn spoil(pass: *mut adaloss_pass) {
    let request = made_by(|to| unsafe { adaloss_apply_request(pass, to) });
    unsafe {
        request.outcome.cast::<u8>().write_bytes(0xee, size_of::<adaloss_outcome>());
        if !request.histogram.is_null() {
            request.histogram.cast::<u8>().write_bytes(0xee, size_of::<adaloss_histogram>());
        }
    }
}

/// Something that makes a step unusable, or a scale lower.
#[derive(Clone, Copy)]
enum Trouble {
    /// A weight gradient that is not finite.
    Weight(u32),
    /// A layer that the caller found not to be finite.
    Rejected(u32),
    /// Sums of a layer's values that overflowed.
    Sums(u32),
    /// A visit that is left, its counters spoiled, with no other behind it.
    Left(u32),
    /// A visit of a layer that has no cell.
    NoCell(u32),
}

/// What a rank visits in a step: of each layer some values, or nothing.  Every value arrives unscaled.
#[derive(Clone, Default)]
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
    let id = generator.below(CELLS) as u32;
    match generator.below(6) {
        0 => Trouble::Weight(id + (generator.below(2) * CELLS) as u32),
        1 => Trouble::Rejected(id),
        2 => Trouble::Left(id),
        3 => Trouble::NoCell(CELLS as u32 + id),
        _ => Trouble::Sums(id),
    }
}

fn narrow(mut visit: OpenVisit<'_>, values: &[f32]) {
    fn into<F: Element>(pass: &mut Pass<'_>, values: &[f32]) {
        pass.apply(values, &mut vec![F::from_bits(0); values.len()]).expect("one length");
    }
    while let Some(mut pass) = visit.next_pass() {
        with_element!(pass.narrowing().format.encoding, F => into::<F>(&mut pass, values));
    }
    let _ = visit.finish(()).expect("no pass is left");
}

/// Goes backward with core.
fn backward(step: &mut Step<'_>, batch: &Batch) {
    let unscaled = || Scaled::new((), Scale::ONE);
    if let Some(values) = &batch.loss {
        narrow(step.loss(), values);
    }
    for (id, values) in batch.layers.iter().enumerate() {
        if let Some(values) = values {
            narrow(step.layer(id, unscaled()).expect("a cell"), values);
        }
    }
    match batch.trouble {
        Some(Trouble::Weight(id)) => {
            step.unscaled(id as usize, &Unscaled { elements: 3, nonfinite: 1, tiny: 0 });
        }
        Some(Trouble::Rejected(id)) => step.reject(Place::Layer(id as usize), Cause::NonFinite),
        Some(Trouble::Sums(id)) => step.sums_overflowed(Place::Layer(id as usize)),
        Some(Trouble::Left(id)) => {
            let _ = step.layer(id as usize, unscaled()).expect("a cell").next_pass();
        }
        Some(Trouble::NoCell(id)) => {
            let _ = step.layer(id as usize, unscaled()).expect_err("no cell");
        }
        None => {}
    }
}

fn packed(step: &mut Step<'_>) -> Message {
    let mut message = [0; BYTES];
    step.share().pack(&mut message).expect("room");
    message
}

fn digests(scaler: &mut Scaler) -> Digests {
    let mut step = scaler.begin();
    let share = step.share();
    std::array::from_fn(|index| share.part(index).expect("so many").1)
}

/// Merges all messages into one, in some order.
fn merged(generator: &mut SplitMix64, mut messages: Vec<Vec<u8>>) -> Vec<u8> {
    while messages.len() > 1 {
        let from = messages.swap_remove(generator.below(messages.len()));
        let into = generator.below(messages.len());
        let greatest: Vec<u8> = from.iter().zip(&messages[into]).map(|(a, b)| *a.max(b)).collect();
        let to = messages[into].as_mut_ptr().cast();
        done(unsafe { adaloss_share_merge(to, from.as_ptr().cast(), from.len()) });
        assert_eq!(messages[into], greatest);
    }
    messages.remove(0)
}

/// The configurations that ranks can share.
fn shared() -> impl Iterator<Item = Config> {
    let all = [Format::BINARY16, Format::BFLOAT16, Format::E4M3.flushing()];
    all.into_iter().flat_map(configs).filter(|config| !config.policy().wants_operands())
}

/// Ranks in C, each beside one in Rust that visits the same, and one scaler of core's for which they are micro-batches.
#[test]
fn ranks_in_c_decide_as_one_scaler_that_saw_everything() {
    let (mut applied, mut skipped, mut left) = (0, 0, 0);
    for (config, seed) in shared().zip(0..) {
        let count = [1, 2, 3, 5][seed % 4];
        // Where an overflow is not replayed, a first scale that fits each part of a step may not fit all of them.
        let is_split_freely = config.recovery() == Recovery::Replay;
        let mut generator = SplitMix64(seed as u64);
        let mut whole = Scaler::new(config);
        let mut twins = vec![Scaler::new(config); count];
        let mut ranks: Vec<Rank> = (0..count).map(|_| Rank::new(&config, CELLS)).collect();
        for nth in 0..100 {
            let mut batches: Vec<Batch> = (0..count).map(|_| batch(&mut generator)).collect();
            if nth > 20 && nth % 3 == 0 {
                batches[generator.below(count)].trouble = Some(trouble(&mut generator));
            }
            let mut step = whole.begin();
            for batch in &batches {
                backward(&mut step, &Batch { trouble: None, ..batch.clone() });
            }
            // Behind them, since ranks name the first of places and a scaler the first it comes to.
            for batch in &batches {
                backward(&mut step, &Batch { trouble: batch.trouble, ..Batch::default() });
            }
            let expected = step.finish();

            let mut steps: Vec<Step<'_>> = twins.iter_mut().map(Scaler::begin).collect();
            let mut messages = Vec::new();
            for ((rank, step), batch) in ranks.iter_mut().zip(&mut steps).zip(&batches) {
                rank.backward(batch);
                backward(step, batch);
                messages.push(rank.pack());
                assert_eq!(messages.last().unwrap(), &packed(step), "{config:?}, step {nth}");
                left += u32::from(matches!(batch.trouble, Some(Trouble::Left(_))));
            }
            let message = merged(&mut generator, messages);
            for (rank, mut step) in ranks.iter_mut().zip(steps) {
                assert_eq!(rank.matches(&message[..HEADER_BYTES]), ADALOSS_OK);
                done(rank.unpack(&message));
                step.share().unpack(&message).expect("ranks that are alike");
                let verdict = step.finish();
                same_verdict(&rank.finish(), verdict);
                let applies = [verdict, expected].map(|verdict| matches!(verdict, Verdict::Apply));
                assert!(!is_split_freely || applies[0] == applies[1], "{config:?}, step {nth}");
                rank.has_a_histogram();
                rank.begin();
            }
            match expected {
                Verdict::Apply => applied += 1,
                _ => skipped += 1,
            }
            if !is_split_freely {
                let expected = digests(&mut twins[0]);
                assert!(ranks.iter_mut().all(|rank| rank.digests() == expected));
                continue;
            }
            let expected = digests(&mut whole);
            for rank in &mut ranks {
                assert_eq!(rank.digests(), expected, "{config:?}, {count} ranks, step {nth}");
                for (cell, id) in rank.cells.iter().zip(0..) {
                    if let Some(expected) = whole.cell(Place::Layer(id)) {
                        assert_eq!(i32::from(cell.scale_log2), expected.scale().log2());
                    }
                }
            }
        }
    }
    assert!(applied > 1000 && skipped > 200 && left > 50, "{applied}, {skipped}, {left}");
}

/// The code of what core says.
fn code_of(said: Result<(), ShareError>) -> adaloss_code {
    match said {
        Ok(()) => ADALOSS_OK,
        Err(ShareError::Room { .. }) => ADALOSS_ERROR_LENGTH,
        Err(ShareError::Operands) => ADALOSS_ERROR_POLICY,
        Err(ShareError::Version) => ADALOSS_ERROR_RANKS_VERSION,
        Err(ShareError::Cells) => ADALOSS_ERROR_RANKS_CELLS,
        Err(ShareError::Config) => ADALOSS_ERROR_RANKS_CONFIG,
        Err(ShareError::Step { .. }) => ADALOSS_ERROR_RANKS_STEP,
        Err(ShareError::Digest { .. }) => ADALOSS_ERROR_RANKS_DIGEST,
        Err(ShareError::Damaged) => ADALOSS_ERROR_MESSAGE,
        Err(ShareError::Halted { .. }) => ADALOSS_ERROR_HALTED,
        Err(error) => panic!("no code for {error}"),
    }
}

/// A rank after some steps that it took alone, with another under way.
fn after(config: &Config, steps: u64, count: usize) -> Rank {
    let (mut rank, mut generator) = (Rank::new(config, count), SplitMix64(5));
    for _ in 0..steps {
        let Batch { loss, mut layers, .. } = batch(&mut generator);
        layers[count.min(CELLS)..].fill(None);
        rank.backward(&Batch { loss, layers, trouble: None });
        let message = rank.pack();
        done(rank.unpack(&message));
        rank.finish();
        rank.begin();
    }
    rank
}

/// What each of two ranks says of their headers, merged and each other's alone: the same.
fn both(one: &mut Rank, other: &mut Rank) -> adaloss_code {
    let (from, mut header) = (other.pack(), one.pack());
    let alone = [one.matches(&from), other.matches(&header)];
    let to = header.as_mut_ptr().cast();
    done(unsafe { adaloss_share_merge(to, from.as_ptr().cast(), HEADER_BYTES) });
    header.truncate(HEADER_BYTES);
    let code = one.matches(&header);
    assert_eq!((other.matches(&header), alone), (code, [code; 2]));
    code
}

#[test]
fn ranks_that_are_not_alike_find_out_how() {
    let config = Config::for_format(Format::BINARY16);
    let rank = |steps| after(&config, steps, CELLS);
    assert_eq!(both(&mut rank(7), &mut rank(7)), ADALOSS_OK);
    assert_eq!(both(&mut rank(7), &mut rank(6)), ADALOSS_ERROR_RANKS_STEP);
    assert_eq!(both(&mut rank(7), &mut after(&config, 7, CELLS - 1)), ADALOSS_ERROR_RANKS_CELLS);
    let seeded = config.with_rounding(config.narrowing().rounding, 1);
    assert_eq!(both(&mut rank(7), &mut after(&seeded, 7, CELLS)), ADALOSS_ERROR_RANKS_CONFIG);
    // A step that was skipped on one of them alone.
    let (mut whole, mut other) = (rank(7), rank(6));
    other.backward(&Batch { trouble: Some(Trouble::Rejected(0)), ..Batch::default() });
    other.finish();
    other.begin();
    assert_eq!(both(&mut whole, &mut other), ADALOSS_ERROR_RANKS_DIGEST);
    assert_ne!(whole.digests()[0], other.digests()[0]);
}

/// A bit of a cell that decides is found where it is flipped: by the next message, and by the digest of that cell alone.
#[test]
fn a_flipped_bit_is_found_and_where() {
    let config = Config::for_format(Format::E4M3);
    let (mut noticed, mut own) = (0, 0);
    for bit in 0..8 * Cell::BYTES {
        let (mut whole, mut other) = (after(&config, 12, CELLS), after(&config, 12, CELLS));
        let flipped = unsafe {
            let byte = other.cells.as_mut_ptr().add(2).cast::<u8>().add(bit / 8);
            *byte ^= 1 << (bit % 8);
            Cell::from_bytes(&byte.sub(bit / 8).cast::<[u8; Cell::BYTES]>().read())
        };
        // What is no cell is noticed by the rank itself, as its next step begins.
        done(unsafe { adaloss_scaler_abandon(&mut *other.scaler) });
        let begun = unsafe { adaloss_scaler_begin(&mut *other.scaler) };
        if begun != ADALOSS_OK {
            assert_eq!(begun, ADALOSS_ERROR_CELL);
            continue;
        }
        assert!(flipped.is_some());
        let code = both(&mut whole, &mut other);
        let (here, there) = (whole.digests(), other.digests());
        let differ: Vec<usize> = (0..2 + CELLS).filter(|&i| here[i] != there[i]).collect();
        assert_eq!(code == ADALOSS_OK, differ.is_empty(), "bit {bit}");
        if code == ADALOSS_OK {
            own += 1;
        } else {
            assert_eq!((code, differ), (ADALOSS_ERROR_RANKS_DIGEST, vec![2 + 2]), "bit {bit}");
            noticed += 1;
        }
    }
    // When a certificate is due, and what the step at hand showed, are a rank's own.
    assert!(noticed > 60 && own < 60, "{noticed}, {own}");
}

/// Whatever the bytes are, the library says of them what core does, and takes no part of what it refuses.
#[test]
fn bytes_that_are_no_message_are_refused_as_core_refuses_them() {
    let config = Config::for_format(Format::BINARY16);
    let mut generator = SplitMix64(2);
    let mut codes = std::collections::BTreeMap::new();
    for nth in 0..4000 {
        let (mut rank, mut twin) = (Rank::new(&config, CELLS), Scaler::new(config));
        let mut step = twin.begin();
        let batch = Batch { trouble: Some(trouble(&mut generator)), ..batch(&mut generator) };
        rank.backward(&batch);
        backward(&mut step, &batch);
        let mut message = rank.pack();
        for _ in 0..generator.below(3) {
            let at = match generator.below(3) {
                0 => generator.below(8),
                1 => generator.below(HEADER_BYTES),
                _ => HEADER_BYTES + generator.below(CELLS * CELL_BYTES),
            };
            message[at] = generator.below(256) as u8 >> generator.below(8);
        }
        if nth % 20 == 0 {
            message.truncate(generator.below(BYTES));
        }
        let before = (rank.scaler.opaque, rank.cells.clone());
        let code = rank.unpack(&message);
        assert_eq!(code, code_of(step.share().unpack(&message)));
        assert_eq!(rank.matches(&message), code_of(step.share().matches(&message)));
        if code != ADALOSS_OK {
            assert!((rank.scaler.opaque, rank.cells.clone()) == before);
        }
        assert_eq!(rank.pack(), packed(&mut step));
        same_verdict(&rank.finish(), step.finish());
        rank.has_a_histogram();
        *codes.entry(code).or_insert(0) += 1;
    }
    let all = [
        ADALOSS_OK,
        ADALOSS_ERROR_LENGTH,
        ADALOSS_ERROR_RANKS_VERSION,
        ADALOSS_ERROR_RANKS_CELLS,
        ADALOSS_ERROR_RANKS_CONFIG,
        ADALOSS_ERROR_RANKS_STEP,
        ADALOSS_ERROR_RANKS_DIGEST,
        ADALOSS_ERROR_MESSAGE,
        ADALOSS_ERROR_HALTED,
    ];
    assert!(all.iter().all(|code| codes.get(code).is_some_and(|&often| often > 5)), "{codes:?}");
}

#[test]
fn a_device_that_does_nothing_any_more_is_no_rank_to_go_on_with() {
    let config = Config::for_format(Format::BINARY16);
    let (mut device, mut cells) = (DeviceState::new(&config), [Cell::new(); CELLS]);
    let evidence = Evidence::WeightSquares { id: 3, sum: f64::INFINITY };
    device.judge(&config, &mut cells, &evidence, None);
    let mut from = [0; BYTES];
    device.share(&config, &mut cells).pack(&mut from).unwrap();
    let mut rank = Rank::new(&config, CELLS);
    let message = merged(&mut SplitMix64(0), vec![rank.pack(), from.to_vec()]);
    assert_eq!(rank.unpack(&message), ADALOSS_ERROR_HALTED);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let paper = Config::preset(Preset::Paper, Format::new(Encoding::Binary16, Default::default()));
    let mut rank = Rank::new(&paper, CELLS);
    let (scaler, mut bytes) = (&raw mut *rank.scaler, [0xaa_u8; BYTES]);
    let to = bytes.as_mut_ptr().cast();
    assert_eq!(unsafe { adaloss_share_pack(scaler, to, BYTES) }, ADALOSS_ERROR_POLICY);
    assert_eq!(unsafe { adaloss_share_unpack(scaler, to, BYTES) }, ADALOSS_ERROR_POLICY);
    assert_eq!(unsafe { adaloss_share_pack(scaler, null_mut(), 0) }, ADALOSS_ERROR_POLICY);
    assert_eq!(bytes, [0xaa; BYTES]);
    assert_eq!(unsafe { adaloss_share_merge(null_mut(), null(), 0) }, ADALOSS_OK);
}
