//! Mistakes of the caller's passes: none ends in a step that may reach the weights.

use adaloss_core::{
    apply::Pass,
    format::{Format, Rounding, f16},
    policy::{Backoff, Config, Policy, Seen},
    propagate::Scaled,
    scale::Scale,
    scaler::{LossScaler, Step, StepError},
    unscale::{Cause, Place, Unscaled, Verdict},
};

use super::{Bits, Scaler, configs, layer, loss, narrow};

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
            let refuse = |_: &mut Pass<'_>| Err::<Bits, _>("the device is gone");
            let failed = match place {
                Place::Layer(id) => {
                    let gradient = loss(&mut step, &[1.0e-3]).unwrap();
                    step.layer(id, &gradient, |_, pass| refuse(pass))
                }
                _ => step.loss(&(), |(), pass| refuse(pass)),
            };
            assert_eq!(failed.unwrap_err(), StepError::Pass("the device is gone"));
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
    let single = step.join(2, &[gradient.as_ref()], |_, pass| narrow(&[1.0], pass));
    assert_eq!(single.unwrap_err(), StepError::Branches { id: 2, count: 1 });
    assert_eq!(step.finish(), skip(Place::Layer(2), Cause::Failed));
}

/// A pass that casts by itself, and tells nobody of what became of the values.
#[test]
fn a_pass_that_narrows_nothing_is_in_the_verdict() {
    for config in configs(Format::BINARY16) {
        let mut scaler = lived(config);
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0e-3]).unwrap();
        let cast = step.layer(0, &gradient, |_, pass| {
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
        let visited = step.layer(0, &gradient, |_, pass| {
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
        let counted = step.loss(&(), |(), pass| {
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
        let visited = step.layer(0, &gradient, |_, pass| {
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
    let growing = step.loss(&(), |(), pass| {
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
        let silent = step.loss(&(), |(), _| Ok::<_, ()>(()));
        assert!(silent.is_ok());
        assert_eq!(step.finish(), skip(Place::Loss, Cause::Uncounted));
        assert_eq!(scale(&scaler), first);
    }
    clean(&mut scaler);
    assert_eq!(scale(&scaler), first + 1);
    let mut step = scaler.begin();
    let silent = step.loss(&(), |(), _| Ok::<_, ()>(()));
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
        let mut run = |pass: &mut Pass<'_>| {
            stream = pass.noise().stream;
            narrow(&[1.0e-3], pass)
        };
        let visited = match id {
            None => step.loss(&(), |(), pass| run(pass)),
            Some(id) => step.layer(id, &Scaled::new((), Scale::ONE), |(), pass| run(pass)),
        };
        visited.unwrap();
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
