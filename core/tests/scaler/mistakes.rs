//! Mistakes of the caller's passes: none ends in a step that may reach the weights.

use adaloss_core::{
    format::{Format, Rounding, f16},
    policy::{Backoff, Config, Policy, Seen},
    scale::Scale,
    scaler::{LossScaler, Step, StepError},
    unscale::{Cause, Place, Unscaled, Verdict},
};

use super::{Bits, Scaler, configs, layer, loss, narrow, run};

const fn skip(layer: Place, cause: Cause) -> Verdict {
    Verdict::Skip { layer, cause }
}

/// A scaler whose loss and first layer have their scales.
fn lived(config: Config) -> Scaler {
    let mut scaler = Scaler::new(config);
    let mut step = scaler.begin();
    let gradient = loss(&mut step, &[1.0e-3, 2.0e-3]).unwrap();
    layer(&mut step, 0, &gradient, 0.5).unwrap();
    assert_eq!(step.finish(), Verdict::Apply);
    scaler
}

/// A visit that ends in an error makes the step unusable, under every policy, whichever pass it was and whatever
/// follows; the next step is usable again.
#[test]
fn a_pass_that_fails_is_in_the_verdict() {
    for config in configs(Format::BINARY16) {
        let mut scaler = lived(config);
        for place in [Place::Loss, Place::Layer(0), Place::Layer(3)] {
            let mut step = scaler.begin();
            let visit = match place {
                Place::Layer(id) => {
                    let gradient = loss(&mut step, &[1.0e-3]).unwrap();
                    step.layer(id, &gradient).unwrap()
                }
                _ => step.loss(),
            };
            let failed = run(visit, |_| Err::<Bits, _>("the device is gone"));
            assert_eq!(failed.unwrap_err(), "the device is gone");
            assert_eq!(step.first_bad(), Some((place, Cause::Failed)));
            // Visiting the place again does not mend the step.
            let gradient = loss(&mut step, &[1.0e-3]).unwrap();
            layer(&mut step, 3, &gradient, 0.5).unwrap();
            assert_eq!(step.finish(), skip(place, Cause::Failed), "{config:?}");
        }
        let mut step = scaler.begin();
        loss(&mut step, &[1.0e-3]).unwrap();
        assert_eq!(step.finish(), Verdict::Apply);
    }
}

/// A visit that was left open is found by the next one, by the step's end, and by whoever asks; its cell is as it was,
/// and nothing is mended by going on elsewhere.
#[test]
fn a_visit_that_was_left_open_is_in_the_verdict() {
    for config in configs(Format::BINARY16) {
        let mut scaler = lived(config);
        let cell = |scaler: &Scaler| *scaler.cell(Place::Layer(0)).unwrap();
        // Left before its first pass, in the middle, and after its last one.
        for passes in 0..=2 {
            for goes_on in [false, true] {
                let before = cell(&scaler);
                let mut step = scaler.begin();
                let gradient = loss(&mut step, &[1.0e-3]).unwrap();
                let mut visit = step.layer(0, &gradient).unwrap();
                for _ in 0..passes {
                    if let Some(mut pass) = visit.next_pass() {
                        narrow(&[0.5e-3], &mut pass).unwrap();
                    }
                }
                drop(visit);
                assert_eq!(step.first_bad(), Some((Place::Layer(0), Cause::Failed)));
                if goes_on {
                    loss(&mut step, &[1.0e-3]).unwrap();
                }
                assert_eq!(step.finish(), skip(Place::Layer(0), Cause::Failed), "{config:?}");
                assert_eq!(cell(&scaler), before);
                // The next step is usable.
                let mut step = scaler.begin();
                loss(&mut step, &[1.0e-3]).unwrap();
                assert_eq!(step.finish(), Verdict::Apply);
            }
        }
        // What is found while it is open comes after it, and what was found before stays first.
        for (before, expected) in [(false, Place::Layer(0)), (true, Place::Weight(9))] {
            let mut step = scaler.begin();
            loss(&mut step, &[1.0e-3]).unwrap();
            if before {
                step.reject(Place::Weight(9), Cause::NonFinite);
            }
            let _left = step.layer(0, Scale::ONE).unwrap();
            step.reject(Place::Weight(5), Cause::NonFinite);
            assert_eq!(step.first_bad().unwrap().0, expected);
            loss(&mut step, &[1.0e-3]).unwrap();
            assert!(matches!(step.finish(), Verdict::Skip { layer, .. } if layer == expected));
        }
        // A step that was dropped with a visit open is as if it had never been.
        let mut step = scaler.begin();
        let _left = step.loss();
        let mut step = scaler.begin();
        loss(&mut step, &[1.0e-3]).unwrap();
        assert_eq!(step.finish(), Verdict::Apply);
    }
}

/// A visit that is finished before its last pass has no scale to give.
#[test]
fn a_visit_is_not_finished_before_its_last_pass() {
    let mut scaler = lived(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    loss(&mut step, &[1.0e-3]).unwrap();
    let error = step.layer(0, Scale::ONE).unwrap().finish(()).unwrap_err();
    assert_eq!(error, StepError::Unfinished { place: Place::Layer(0) });
    let text = "the visit of layer 0 has passes left: ask for the next one until there is none";
    assert_eq!(error.to_string(), text);
    assert_eq!(step.finish(), skip(Place::Layer(0), Cause::Failed));

    let mut step = scaler.begin();
    let mut visit = step.loss();
    let mut pass = visit.next_pass().expect("a first pass");
    narrow(&[1.0e-3], &mut pass).unwrap();
    // What became of the values is looked at when the next pass is asked for.
    assert_eq!(visit.finish(()), Err(StepError::Unfinished { place: Place::Loss }));
    assert_eq!(step.finish(), skip(Place::Loss, Cause::Failed));
}

/// A visit goes on where it was left, for callers that cannot hold it, part of a tensor by part.
#[test]
fn a_visit_goes_on_where_it_was_left() {
    let values = [1.0e-3_f32, 7.0e-5, -3.0e5];
    let config = Config::for_format(Format::BINARY16).with_rounding(Rounding::Stochastic, 5);
    let config = config.with_period(1).unwrap();
    let (mut whole, mut parted) = (lived(config), lived(config));
    let mut step = whole.begin();
    let expected = run(step.loss(), |pass| narrow(&values, pass)).unwrap();
    let expected_visit = step.last().unwrap();
    let _verdict = step.finish();

    let mut step = parted.begin();
    assert!(step.open_visit().is_none());
    let _left = step.loss();
    let mut stored = Bits::new();
    while step.open_visit().unwrap().next_pass().is_some() {
        stored.clear();
        for value in values {
            let mut visit = step.open_visit().unwrap();
            let mut pass = visit.pass().expect("the pass under way");
            stored.extend(narrow(&[value], &mut pass).unwrap());
        }
    }
    assert!(step.open_visit().unwrap().pass().is_none());
    assert_eq!(step.open_visit().unwrap().finish(stored).unwrap(), expected);
    assert_eq!(step.last(), Some(expected_visit));
    assert!(step.open_visit().is_none());
    assert_eq!(step.finish(), Verdict::Apply);
    assert_eq!(parted.digest(), whole.digest());
}

/// So does one whose cell or branches are not there.
#[test]
fn a_visit_that_cannot_be_made_is_in_the_verdict() {
    let mut scaler = lived(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let gradient = loss(&mut step, &[1.0e-3]).unwrap();
    assert!(layer(&mut step, 8, &gradient, 1.0).is_err());
    assert_eq!(step.finish(), skip(Place::Layer(8), Cause::Failed));
    let mut step = scaler.begin();
    let gradient = loss(&mut step, &[1.0e-3]).unwrap();
    let single = step.join(2, &[gradient.tag()]).map(drop);
    assert_eq!(single, Err(StepError::Branches { id: 2, count: 1 }));
    assert_eq!(step.finish(), skip(Place::Layer(2), Cause::Failed));
}

/// A pass that casts by itself, and tells nobody of what became of the values.
#[test]
fn a_pass_that_narrows_nothing_is_in_the_verdict() {
    for config in configs(Format::BINARY16) {
        let mut scaler = lived(config);
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0e-3]).unwrap();
        let cast = run(step.layer(0, &gradient).unwrap(), |pass| {
            let factor = pass.shift().factor().unwrap();
            Ok::<_, ()>([f16::from_f32(2.0e-3 * factor)])
        });
        assert!(cast.is_ok());
        assert_eq!(step.finish(), skip(Place::Layer(0), Cause::Uncounted), "{config:?}");
    }
}

/// Each pass of a visit counts: the one that measures, the first that stores, and the replay.
#[test]
fn one_pass_of_a_visit_that_narrows_nothing_is_enough() {
    let config = Config::for_format(Format::BINARY16).with_period(1).unwrap();
    for silent in 1..=3 {
        let mut scaler = lived(config);
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0e-3]).unwrap();
        let mut runs = 0;
        // A hundred thousand times what the layer had: it is replayed.
        let visited = run(step.layer(0, &gradient).unwrap(), |pass| {
            runs += 1;
            if runs == silent { Ok(Vec::new()) } else { narrow(&[3.0e5], pass) }
        });
        assert!(visited.is_ok());
        // Where the first that stores is silent, nothing shows that a replay is needed.
        assert_eq!(runs, if silent == 2 { 2 } else { 3 });
        assert_eq!(step.finish(), skip(Place::Layer(0), Cause::Uncounted), "pass {silent}");
    }
}

/// An empty tensor is one, as long as the pass says so.
#[test]
fn an_empty_tensor_is_legal() {
    for config in configs(Format::BINARY16) {
        let mut scaler = lived(config);
        let mut step = scaler.begin();
        loss(&mut step, &[]).unwrap();
        assert_eq!(step.finish(), Verdict::Apply, "{config:?}");
        // A kernel of one's own, which has nothing to count.
        let mut step = scaler.begin();
        let counted = run(step.loss(), |pass| {
            assert!(!pass.is_counted());
            let _ = pass.counters();
            Ok::<_, ()>(pass.is_counted())
        });
        assert!(counted.is_ok_and(|counted| counted.into_parts().0));
        assert_eq!(step.finish(), Verdict::Apply, "{config:?}");
    }
}

/// A tensor that has another length when it is measured, narrowed, or narrowed once more.
#[test]
fn passes_over_other_numbers_of_values_are_in_the_verdict() {
    let config = Config::for_format(Format::BINARY16).with_period(1).unwrap();
    for odd in 0..=3 {
        let mut scaler = lived(config);
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0e-3]).unwrap();
        let mut runs = 0;
        let visited = run(step.layer(0, &gradient).unwrap(), |pass| {
            runs += 1;
            narrow(if runs == odd { &[3.0e5, 1.0] } else { &[3.0e5] }, pass)
        });
        assert!(visited.is_ok() && runs == 3);
        let expected = if odd == 0 { Verdict::Apply } else { skip(Place::Layer(0), Cause::Length) };
        assert_eq!(step.finish(), expected, "pass {odd}");
    }
    // At a first visit as well, and at a join that moves.
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let mut length = 0;
    let growing = run(step.loss(), |pass| {
        length += 1;
        narrow(&vec![1.0e-3; length], pass)
    });
    assert!(growing.is_ok() && length == 3);
    assert_eq!(step.finish(), skip(Place::Loss, Cause::Length));
}

#[test]
fn a_step_that_visited_nothing_is_not_usable() {
    for config in configs(Format::BINARY16) {
        let mut scaler = lived(config);
        assert_eq!(scaler.begin().finish(), skip(Place::Loss, Cause::Nothing), "{config:?}");
    }
    // Of no weight gradient either.
    let mut scaler = lived(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    step.unscaled(0, &Unscaled::default());
    assert_eq!(step.finish(), skip(Place::Loss, Cause::Nothing));
    let mut step = scaler.begin();
    step.unscaled(0, &Unscaled::of(&[1.0]));
    assert_eq!(step.finish(), Verdict::Apply);
    // A machine without a share of the step, which hears of the others', decides as they do.
    let mut scaler = lived(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let seen = Seen { ceiling: 11, visited: true, ..Seen::NOTHING };
    step.set_seen(Place::Loss, seen).unwrap();
    assert_eq!(step.finish(), Verdict::Apply);
    let mut step = scaler.begin();
    step.set_seen(Place::Loss, Seen::NOTHING).unwrap();
    assert_eq!(step.finish(), skip(Place::Loss, Cause::Nothing));
}

/// As many in a row as are allowed end the run, as other unusable steps do.
#[test]
fn mistakes_in_a_row_end_the_run() {
    let config = Config::for_format(Format::BINARY16).with_max_skips(2).unwrap();
    let mut scaler = Scaler::new(config);
    let verdicts = [scaler.begin().finish(), scaler.begin().finish()];
    let (layer, cause) = (Place::Loss, Cause::Nothing);
    assert_eq!(verdicts, [skip(layer, cause), Verdict::Stop { layer, cause, skipped: 2 }]);
    assert_eq!(scaler.totals().skipped, 2);
}

/// A mistake says nothing of the scale: one that serves the whole model neither shrinks nor grows by it, and what
/// overflows beside a mistake still shows.
#[test]
fn mistakes_do_not_move_the_scale_of_the_whole_model() {
    let backoff = Backoff { interval: 2, ..Backoff::GRAD_SCALER };
    let config = Config::for_format(Format::BINARY16).with_policy(Policy::Backoff(backoff));
    let mut scaler = Scaler::new(config.unwrap());
    let scale = |scaler: &Scaler| scaler.cell(Place::Loss).unwrap().scale().log2();
    let first = scale(&scaler);
    let clean = |scaler: &mut Scaler| {
        let mut step = scaler.begin();
        loss(&mut step, &[1.0e-6]).unwrap();
        assert_eq!(step.finish(), Verdict::Apply);
    };
    clean(&mut scaler);
    for _ in 0..5 {
        let mut step = scaler.begin();
        let silent = run(step.loss(), |_| Ok::<_, ()>(()));
        assert!(silent.is_ok());
        assert_eq!(step.finish(), skip(Place::Loss, Cause::Uncounted));
        assert_eq!(scale(&scaler), first);
    }
    clean(&mut scaler);
    assert_eq!(scale(&scaler), first + 1);
    let mut step = scaler.begin();
    let silent = run(step.loss(), |_| Ok::<_, ()>(()));
    assert!(silent.is_ok());
    loss(&mut step, &[f32::INFINITY]).unwrap();
    assert_eq!(step.finish(), skip(Place::Loss, Cause::Uncounted));
    assert_eq!(scale(&scaler), first);
}

#[test]
fn every_cause_has_a_sentence() {
    let sentences = [
        (Cause::NonFinite, "non-finite values in layer 5"),
        (Cause::Overflow, "overflow in layer 5"),
        (Cause::Failed, "a visit that failed in layer 5"),
        (Cause::Uncounted, "a pass that narrowed nothing in layer 5"),
        (Cause::Length, "passes over different numbers of values in layer 5"),
        (Cause::Nothing, "no gradient was visited"),
    ];
    for (cause, sentence) in sentences {
        let layer = Place::Layer(5);
        let verdict = skip(layer, cause).to_string();
        assert_eq!(verdict, format!("the step has to be skipped: {sentence}"));
        let verdict = Verdict::Stop { layer, cause, skipped: 7 }.to_string();
        assert_eq!(
            verdict,
            format!("training cannot go on: {sentence}, after 7 skipped steps in a row")
        );
    }
}

/// The stream of a visit, from its definition.
fn stream(parts: [u32; 4]) -> u32 {
    parts.into_iter().fold(0, |hash, part| {
        let mut h = u64::from(hash.wrapping_add(part));
        h ^= h >> 16;
        h = h * 0x85eb_ca6b % (1 << 32);
        h ^= h >> 13;
        h = h * 0xc2b2_ae35 % (1 << 32);
        (h ^ (h >> 16)) as u32
    })
}

/// Which words stochastic rounding takes depends on step, place and micro-batch, and on what came before in the
/// micro-batch at the same place; on nothing else that was visited.
#[test]
fn a_stream_of_noise_is_that_of_a_place() {
    fn visit(step: &mut Step<'_>, id: Option<usize>) -> u32 {
        let mut stream = 0;
        let visit = match id {
            None => step.loss(),
            Some(id) => step.layer(id, Scale::ONE).unwrap(),
        };
        run(visit, |pass| {
            stream = pass.noise().stream;
            narrow(&[1.0e-3], pass)
        })
        .unwrap();
        stream
    }
    let config = Config::for_format(Format::BINARY16).with_rounding(Rounding::Stochastic, 3);
    let mut scaler = LossScaler::<300>::new(config);
    for number in 0..3 {
        let mut step = scaler.begin();
        assert_eq!(visit(&mut step, Some(2)), stream([number, 3, 0, 0]));
        assert_eq!(visit(&mut step, None), stream([number, 0, 0, 0]));
        // A shared weight, and another one.
        assert_eq!(visit(&mut step, Some(2)), stream([number, 3, 0, 1]));
        assert_eq!(visit(&mut step, Some(2)), stream([number, 3, 0, 2]));
        assert_eq!(visit(&mut step, None), stream([number, 0, 0, 3]));
        assert_eq!(visit(&mut step, Some(63)), stream([number, 64, 0, 0]));
        // As far apart as places can be that are one in this.
        assert_eq!(visit(&mut step, Some(258)), stream([number, 259, 0, 4]));
        step.micro_batch(7);
        assert_eq!(visit(&mut step, None), stream([number, 0, 7, 0]));
        assert_eq!(visit(&mut step, Some(258)), stream([number, 259, 7, 0]));
        assert_eq!(visit(&mut step, Some(2)), stream([number, 3, 7, 1]));
        let _verdict = step.finish();
        // A step that is dropped counts for nothing, the micro-batch included.
        let mut dropped = scaler.begin();
        dropped.micro_batch(9);
        visit(&mut dropped, None);
    }
}
