//! A scaler over the caller's cells does what one with cells of its own does.

use adaloss_core::{
    format::Format,
    policy::{Cell, Config, Seen},
    scale::Scale,
    scaler::{CheckpointError, State, Step, StepError},
    unscale::{Cause, Place, Verdict},
};

use super::{Bits, Scaler, Tensors, checkpoint::crc32, configs, layer, loss};

const CELLS: usize = 8;

/// What memory may hold before the first visit.
const USED_BEFORE: [Cell; CELLS] = [Cell::at(Scale::MAX); CELLS];

/// A backward pass in parts; each is given the step it belongs to and the gradient so far.
const PARTS: [(usize, f32); 3] = [(0, 1.0e2), (5, 1.0e-5), (1, 7.0)];

/// Takes a loss gradient back through the layers; `visit` lends the step.
fn walk(values: &[f32], mut visit: impl FnMut(&mut dyn FnMut(&mut Step<'_>))) -> Vec<Bits> {
    let (mut gradient, mut bits) = (None, Vec::new());
    visit(&mut |step| gradient = Some(loss(step, values).unwrap()));
    let mut gradient = gradient.expect("the loss was visited");
    for (id, weight) in PARTS {
        visit(&mut |step| gradient = layer(step, id, &gradient, weight).unwrap());
        gradient.unscale(|g, _| bits.push(g.clone()));
    }
    bits
}

#[test]
fn the_callers_cells_serve_as_well() {
    for config in [Format::BINARY16, Format::E4M3.flushing()].into_iter().flat_map(configs) {
        let mut scaler = Scaler::new(config);
        let (mut state, mut cells) = (State::new(config), USED_BEFORE);
        let mut tensors = Tensors(7);
        for nth in 0..40 {
            let mut values = tensors.next(20);
            if nth % 9 == 8 {
                values[nth % 20] = f32::INFINITY;
            }
            let mut step = scaler.begin();
            let expected = walk(&values, |visit| visit(&mut step));
            let verdict = step.finish();

            // A step that is taken up again for every tensor.
            let _ = state.begin(&mut cells);
            let bits = walk(&values, |visit| visit(&mut state.resume(&mut cells)));
            assert_eq!(bits, expected);
            assert_eq!(state.resume(&mut cells).finish(), verdict);

            assert_eq!(state.totals(), scaler.totals());
            assert_eq!(state.digest(&cells), scaler.digest());
            for place in (0..CELLS).map(Place::Layer).chain([Place::Loss]) {
                assert_eq!(state.cell(&cells, place), scaler.cell(place));
            }
            let mut here = [0; Scaler::CHECKPOINT_BYTES];
            let mut there = [0; State::checkpoint_bytes(CELLS)];
            scaler.save(&mut here).unwrap();
            state.save(&cells, &mut there).unwrap();
            assert_eq!(there, here);
        }
    }
}

#[test]
fn a_step_that_was_left_is_forgotten_by_the_next() {
    let config = Config::for_format(Format::BINARY16);
    let (mut state, mut cells) = (State::new(config), USED_BEFORE);
    state.begin(&mut cells).reject(Place::Loss, Cause::NonFinite);
    assert_eq!(state.resume(&mut cells).first_bad(), Some((Place::Loss, Cause::NonFinite)));
    let step = state.begin(&mut cells);
    assert_eq!((step.first_bad(), step.last()), (None, None));
    let nothing = Verdict::Skip { layer: Place::Loss, cause: Cause::Nothing };
    assert_eq!(step.finish(), nothing);

    // And one that was finished is not the next one's.
    state.begin(&mut cells).reject(Place::Loss, Cause::NonFinite);
    let verdict = state.resume(&mut cells).finish();
    assert_eq!(verdict, Verdict::Skip { layer: Place::Loss, cause: Cause::NonFinite });
    assert_eq!(state.resume(&mut cells).finish(), nothing);
}

#[test]
fn a_cell_that_is_not_there_is_refused() {
    let config = Config::for_format(Format::BINARY16);
    let (mut state, mut cells) = (State::new(config), USED_BEFORE);
    let mut step = state.begin(&mut cells);
    let gradient = loss(&mut step, &[1.0e-3; 4]).unwrap();
    layer(&mut step, 5, &gradient, 1.0).unwrap();
    assert_eq!(
        layer(&mut step, 8, &gradient, 1.0).unwrap_err(),
        StepError::NoCell { id: 8, cells: 8 }
    );
    let failed = |id| Verdict::Skip { layer: Place::Layer(id), cause: Cause::Failed };
    assert_eq!(step.finish(), failed(8));
    // Cells beyond those visited are nobody's, whatever they hold; those before it came to be.
    assert_eq!(state.cell(&cells, Place::Layer(6)), None);
    assert_eq!(state.cell(&cells, Place::Layer(4)), Some(&config.cell()));

    // Fewer cells than before: the caller's mistake is an error, not a panic.
    let mut step = state.begin(&mut cells[..3]);
    assert_eq!(
        layer(&mut step, 5, &gradient, 1.0).unwrap_err(),
        StepError::NoCell { id: 5, cells: 3 }
    );
    assert_eq!(step.finish(), failed(5));
    assert_eq!(state.cell(&cells[..3], Place::Layer(5)), None);
    state.save(&cells[..3], &mut [0; State::checkpoint_bytes(3)]).unwrap();
    assert_eq!(state.digest(&cells[..6]), state.digest(&cells));
    assert_ne!(state.digest(&cells[..3]), state.digest(&cells));
}

#[test]
fn a_checkpoint_that_is_refused_leaves_the_cells_alone() {
    let config = Config::for_format(Format::BINARY16);
    let (mut state, mut cells) = (State::new(config), USED_BEFORE);
    let mut step = state.begin(&mut cells);
    walk(&[1.0e-3; 4], |visit| visit(&mut step));
    assert_eq!(step.finish(), Verdict::Apply);
    let mut bytes = vec![0; State::checkpoint_bytes(CELLS)];
    state.save(&cells, &mut bytes).unwrap();

    let mut into = USED_BEFORE;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(State::restore(config, &damaged, &mut into).is_err());
        assert_eq!(into, USED_BEFORE, "byte {at}");
    }
    // With the right checksum, the last cell that is in use, and one that is not.
    for (index, at, bits) in [(6, 68 + 6 * 28 + 27, 0x80), (8, 68 + 8 * 28, 0x10)] {
        let mut forged = bytes.clone();
        forged[at] ^= bits;
        let end = forged.len() - 4;
        let checksum = crc32(&forged[..end]);
        forged[end..].copy_from_slice(&checksum.to_le_bytes());
        let error = State::restore(config, &forged, &mut into).unwrap_err();
        assert_eq!(error, CheckpointError::Cell { index });
        assert_eq!(into, USED_BEFORE);
    }
    let fewer = State::restore(config, &bytes, &mut into[..7]).unwrap_err();
    assert_eq!(fewer, CheckpointError::Capacity { capacity: 8, expected: 7 });

    let restored = State::restore(config, &bytes, &mut into).unwrap();
    assert_eq!(restored.digest(&into), state.digest(&cells));
    assert_eq!((&into[..6], &into[6..]), (&cells[..6], &USED_BEFORE[6..]));
}

#[test]
fn a_checkpoint_is_read_where_a_scaler_is() {
    let config = Config::for_format(Format::BINARY16);
    let run = |values: &[f32]| {
        let (mut state, mut cells) = (State::new(config), USED_BEFORE);
        let mut step = state.begin(&mut cells);
        walk(values, |visit| visit(&mut step));
        let _ = step.finish();
        (state, cells)
    };
    let saved = |state: &State, cells: &[Cell]| {
        let mut bytes = [0; State::checkpoint_bytes(CELLS)];
        state.save(cells, &mut bytes).unwrap();
        bytes
    };
    let (good, cells) = run(&[1.0e-3; 4]);
    let bytes = saved(&good, &cells);

    // Of another past, a bad step last, and one step under way.
    let (mut state, mut cells) = run(&[f32::NAN; 4]);
    walk(&[f32::INFINITY; 4], |visit| visit(&mut state.resume(&mut cells)));
    let before = saved(&state, &cells);
    for at in 0..bytes.len() {
        let mut damaged = bytes;
        damaged[at] ^= 0x10;
        assert!(state.load(&damaged, &mut cells).is_err());
        assert_eq!(saved(&state, &cells), before, "byte {at}");
    }
    assert_ne!(state.resume(&mut cells).first_bad(), None);

    state.load(&bytes, &mut cells).unwrap();
    assert_eq!(saved(&state, &cells), bytes);
    let step = state.resume(&mut cells);
    assert_eq!((step.first_bad(), step.last(), step.tiny()), (None, None, 0));
    let fresh = State::new(config);
    assert_eq!(state.histogram(), fresh.histogram());
}

/// What a step had shown that was dropped, or saved while it was under way, counts in no other step.
#[test]
fn a_dropped_step_shows_nothing() {
    let config = Config::for_format(Format::BINARY16).with_period(Config::NEVER).unwrap();
    let (mut state, mut cells) = (State::new(config), [Cell::new(); CELLS]);
    let run = |state: &mut State, cells: &mut [Cell], value: f32| {
        let mut step = state.begin(cells);
        walk(&[value; 4], |visit| visit(&mut step));
        step.finish()
    };
    let _ = run(&mut state, &mut cells, 1.0e-3);
    let digest = state.digest(&cells);
    let mut step = state.begin(&mut cells);
    walk(&[1.0e4; 4], |visit| visit(&mut step));
    step.sums_overflowed(Place::Loss);
    drop(step);
    assert_ne!(state.digest(&cells), digest);
    let mut bytes = vec![0; State::checkpoint_bytes(CELLS)];
    state.save(&cells, &mut bytes).unwrap();
    let mut loaded = [Cell::new(); CELLS];
    let mut restored = State::restore(config, &bytes, &mut loaded).unwrap();
    for (state, cells) in [(&mut state, &mut cells), (&mut restored, &mut loaded)] {
        drop(state.begin(cells));
        assert_eq!(state.digest(cells), digest);
    }
}

/// What machines exchange has to be of a cell, and is of use where maxima decide.
#[test]
fn seen_is_of_cells_and_for_policies_that_follow_maxima() {
    let seen = Seen { ceiling: 3, visited: true, ..Seen::NOTHING };
    for config in configs(Format::E4M3) {
        let (mut state, mut cells) = (State::new(config), [Cell::new(); CELLS]);
        let mut step = state.begin(&mut cells);
        for id in [CELLS, usize::MAX] {
            let error = StepError::NoCell { id, cells: CELLS };
            assert_eq!(step.set_seen(Place::Layer(id), seen), Err(error));
        }
        let error = StepError::NoCell { id: 0, cells: CELLS };
        assert_eq!(step.set_seen(Place::Weight(0), seen), Err(error));
        assert_eq!(step.seen(Place::Weight(0)), Seen::NOTHING);
        step.set_seen(Place::Layer(1), seen).unwrap();
        let expected = if config.policy().follows_maxima() { seen } else { Seen::NOTHING };
        assert_eq!(step.seen(Place::Layer(1)), expected);
        let _verdict = step.finish();
        assert!(cells.iter().all(|cell| cell.seen() == Seen::NOTHING));
    }
}
