//! Scalers that live on devices share steps as those on the host do, bit for bit.

use adaloss_core::{
    format::{Format, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scale::Scale,
    scaler::{
        LossScaler,
        device::{Entry, Line},
        share::message_bytes,
    },
    unscale::{Cause, Place, Unscaled, Verdict},
};
use adaloss_hal::{
    Narrow, Run,
    group::{Group, agree, meet},
    portable::Portable,
    scaler::{Engine, Evidence},
};
use adaloss_oracle::inputs::SplitMix64;
use adaloss_threads::Member;

use super::{LONG, ranks};

const CELLS: usize = 3;
const STEPS: u64 = 60;

/// The values of the loss, or of a layer.
type Values = (Option<usize>, [f32; 4]);

/// What a rank visits in a step; and whether a weight gradient is finite.
fn batch(nth: u64, rank: u64) -> (Vec<Values>, bool) {
    let mut generator = SplitMix64(500 * nth + rank);
    let mut visits = Vec::new();
    for place in [None, Some(0), Some(1), Some(2)] {
        let centre = generator.below(18) as i32 - 20;
        let values = [(); 4].map(|()| generator.between_binades(centre - 4, centre));
        if place.is_none() || generator.below(3) > 0 {
            visits.push((place, values));
        }
    }
    (visits, generator.below(30) > 0)
}

fn on_device(mut group: Member, config: Config) -> (Vec<Verdict>, u32) {
    let device = &mut Portable;
    let rank = group.rank() as u64;
    let mut engine = Engine::new(device, config, CELLS, 8).expect("memory");
    let mut cells = [Cell::new(); CELLS];
    let mut room = [0; message_bytes(CELLS)];
    let mut verdicts = Vec::new();
    engine.meet(device, &mut group, &mut cells, &mut room).expect("ranks that are alike");
    for nth in 0..STEPS {
        let (visits, is_finite) = batch(nth, rank);
        for (place, values) in visits {
            let mut narrowed = [f16::ZERO; 4];
            let mut passes = |device: &mut Portable, input: &[f32]| {
                // A layer is visited as a further loss: its values arrive unscaled.
                let mut visit = match place {
                    None => engine.loss(device, 4),
                    Some(id) => engine.loss_at(device, id, 4),
                }
                .expect("room");
                while let Some(mut pass) = visit.next_pass(device).expect("it fits") {
                    let (to, epilogue) = (&mut narrowed[..], pass.epilogue());
                    device.run(Narrow { input, to, epilogue }).expect("it fits");
                }
                visit.finish(device).expect("room");
            };
            passes(device, &values);
        }
        let met = Unscaled { elements: 4, nonfinite: u64::from(!is_finite), tiny: 0 };
        let mut counts = [met];
        let counts = &mut counts[..];
        let evidence = Evidence::Unscaled { id: 1, origin: None, elements: 4, counts };
        engine.judge(device, evidence, None).expect("it fits");
        engine.agree(device, &mut group, &mut cells, &mut room).expect("ranks that are alike");
        engine.conclude(device, None).expect("room");
        let mut lines = [Line::EMPTY; 8];
        match engine.read(device, &mut lines).expect("room").next_back() {
            Some(Ok(Entry::Step(end))) => verdicts.push(end.verdict),
            other => panic!("{other:?}"),
        }
    }
    let (state, _) = engine.save(device, &mut cells).expect("cells");
    (verdicts, state.digest(&cells))
}

fn on_host(mut group: Member, config: Config) -> (Vec<Verdict>, u32) {
    let rank = group.rank() as u64;
    let mut scaler = LossScaler::<CELLS>::new(config);
    let mut room = [0; message_bytes(CELLS)];
    let mut verdicts = Vec::new();
    meet(&scaler.begin().share(), &mut group, &mut room).expect("ranks that are alike");
    for nth in 0..STEPS {
        let (visits, is_finite) = batch(nth, rank);
        let mut step = scaler.begin();
        for (place, values) in visits {
            let visit = match place {
                None => step.loss(),
                Some(id) => step.loss_at(id).expect("a cell"),
            };
            visit.apply(&values, &mut [f16::ZERO; 4]).expect("one length");
        }
        let met = Unscaled { elements: 4, nonfinite: u64::from(!is_finite), tiny: 0 };
        step.unscale(1, &Scaled::new((), Scale::ONE), |(), _| ((), met));
        agree(&mut step.share(), &mut group, &mut room).expect("ranks that are alike");
        verdicts.push(step.finish());
    }
    (verdicts, scaler.digest())
}

#[test]
fn devices_share_steps_as_hosts_do() {
    let config = Config::for_format(Format::BINARY16).with_period(Config::NEVER).expect("never");
    for size in [1, 2, 4, 16] {
        let devices = ranks(size, LONG, |group| on_device(group, config));
        let hosts = ranks(size, LONG, |group| on_host(group, config));
        assert_eq!(devices, hosts);
        assert!(devices.iter().all(|device| *device == devices[0]));
        let skip = Verdict::Skip { layer: Place::Weight(1), cause: Cause::NonFinite };
        assert!(size == 1 || devices[0].0.contains(&skip));
    }
}

/// Hosts and devices in one group.
#[test]
fn hosts_and_devices_share_steps() {
    let config = Config::for_format(Format::BINARY16).with_period(Config::NEVER).expect("never");
    let mixed = ranks(4, LONG, |group| match group.rank() % 2 {
        0 => on_host(group, config),
        _ => on_device(group, config),
    });
    assert!(mixed.iter().all(|rank| *rank == mixed[0]));
}

/// A weight that is not finite on one device: nothing is done any more on any.
#[test]
fn a_device_that_does_nothing_any_more_ends_all() {
    let config = Config::for_format(Format::BINARY16);
    let said = ranks(3, LONG, |mut group| {
        let device = &mut Portable;
        let mut engine = Engine::new(device, config, CELLS, 8).expect("memory");
        let squares = [if group.rank() == 1 { f64::NAN } else { 1.0 }];
        let evidence = Evidence::WeightSquares { id: 7, sum: &squares[..] };
        engine.judge(device, evidence, None).expect("it fits");
        let (mut cells, mut room) = ([Cell::new(); CELLS], [0; message_bytes(CELLS)]);
        engine.agree(device, &mut group, &mut cells, &mut room).expect("ranks that are alike");
        engine.conclude(device, None).expect("room");
        let mut lines = [Line::EMPTY; 8];
        let mut lines = engine.read(device, &mut lines).expect("room");
        lines.next_back()
    });
    let halted = Entry::Halted { place: Place::Weight(7), cause: Cause::NonFinite };
    assert_eq!(said, [Some(Ok(halted)); 3]);
}
