//! Overflow: replayed in one exact move, saturated, or skipped.

use adaloss_core::{
    format::{Format, Overflow},
    policy::{Config, Recovery},
    scale::Scale,
    scaler::LossScaler,
    unscale::{Cause, Place, Verdict},
};

use super::{FORMATS, Scaler, configs, loss, narrow, run, scale, visited};

/// Calibrates the loss cell for tiny values, so that the next ones overflow.
fn primed(config: Config) -> Scaler {
    let mut scaler = Scaler::new(config);
    let mut step = scaler.begin();
    loss(&mut step, &[1.0e-9, 1.0e-9]).unwrap();
    assert_eq!(step.finish(), Verdict::Apply);
    scaler
}

/// One replay is enough, at the greatest scale at which the tensor fits, in every format; the step is not lost,
/// and the cell's own scale stays for the rest of it.
#[test]
fn an_overflow_is_replayed_in_one_move() {
    for format in FORMATS {
        for largest in [1.0_f32, 123.456, 6.0e4, 1.0e30] {
            let mut scaler = primed(Config::for_format(format));
            let primed_scale = scaler.cell(Place::Loss).unwrap().scale();
            let mut step = scaler.begin();
            let mut runs = 0;
            run(step.loss(), |pass| {
                runs += 1;
                narrow(&[largest, -1.0e-3], pass)
            })
            .unwrap();
            let visit = step.last().unwrap();
            let max = f64::from(format.widen(format.encoding.max_finite_bits()));
            let at = |scale: Scale| f64::from(largest) * f64::from(scale.factor());
            let fits = at(primed_scale) < max;
            assert_eq!((runs, visit.replayed), if fits { (1, false) } else { (2, true) });
            assert_eq!((visit.outcome.overflow, visit.outcome.nonfinite), (0, 0));
            if !fits {
                // One binade more would overflow; what is just above `max` is rounded down to it.
                assert!(at(visit.outgoing) <= max * 1.06 && 2.0 * at(visit.outgoing) > max);
            }
            // Another micro-batch of the same step.
            loss(&mut step, &[1.0e-9]).unwrap();
            assert_eq!(step.last().unwrap().outgoing, primed_scale);
            assert_eq!(step.finish(), Verdict::Apply);
            assert_eq!(scaler.totals().recovered, u64::from(!fits));
        }
    }
}

/// Saturation is an option: the step stays usable, nothing is replayed, and the scale moves for the next step.
#[test]
fn saturation_moves_the_scale_and_keeps_the_step() {
    for format in [Format::E5M2, Format::E4M3] {
        let config = Config::for_format(format).with_overflow(Overflow::Saturate);
        let mut scaler = primed(config);
        let before = scaler.cell(Place::Loss).unwrap().scale();
        let mut step = scaler.begin();
        let gradient = loss(&mut step, &[1.0, -1.0e-9]).unwrap();
        let visit = step.last().unwrap();
        assert_eq!((visit.outcome.overflow, visit.replayed, visit.outgoing), (1, false, before));
        gradient.unscale(|bits, _| assert_eq!(bits[0], format.encoding.max_finite_bits()));
        assert_eq!(step.finish(), Verdict::Apply);
        assert!(scaler.cell(Place::Loss).unwrap().scale() < before);
        let mut step = scaler.begin();
        loss(&mut step, &[1.0, -1.0e-9]).unwrap();
        assert_eq!(step.last().unwrap().outcome.overflow, 0);
        assert_eq!(step.finish(), Verdict::Apply);
    }
}

/// Where overflow goes to infinity and no replay is wanted, the step is skipped and says why.
#[test]
fn without_replay_the_step_is_skipped() {
    let config = Config::for_format(Format::E5M2).with_recovery(Recovery::Skip);
    let mut scaler = primed(config);
    let mut step = scaler.begin();
    loss(&mut step, &[1.0]).unwrap();
    assert_eq!(step.first_bad(), Some((Place::Loss, Cause::Overflow)));
    assert_eq!(step.finish(), Verdict::Skip { layer: Place::Loss, cause: Cause::Overflow });
    assert_eq!((scaler.totals().skipped, scaler.totals().recovered), (1, 0));
}

/// PyTorch's rule: an overflow halves the scale of the whole model and skips the step, and a number
/// of usable steps doubles it.
#[test]
fn backoff_moves_after_the_step() {
    let config = configs(Format::BINARY16).into_iter().find(|c| c.policy().name() == "backoff");
    let mut scaler = LossScaler::<8>::new(config.unwrap());
    let mut scales = Vec::new();
    for gradient in [1.0, 0.9, 1.0e-3, 1.0e-3, 1.0e-3, 1.0e-3] {
        let mut step = scaler.begin();
        let leaving = loss(&mut step, &[gradient]).unwrap().scale();
        let usable = step.finish() == Verdict::Apply;
        scales.push((leaving.log2(), usable));
    }
    // 2^16 overflows at 1.0 and 2^15 does not; the interval of this test is three steps.
    let expected = [(16, false), (15, true), (15, true), (15, true), (16, true), (16, true)];
    assert_eq!(scales, expected);
    assert_eq!(scaler.cell(Place::Loss).unwrap().scale(), scale(16));
}

/// Saturation hides infinities, not that the scale is too large: it shrinks, and the step is used.
#[test]
fn backoff_shrinks_when_values_saturate() {
    let config = configs(Format::E4M3).into_iter().find(|c| c.policy().name() == "backoff");
    let config = config.unwrap().with_overflow(Overflow::Saturate);
    let mut scaler = LossScaler::<8>::new(config);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let mut step = scaler.begin();
        let leaving = loss(&mut step, &[5.0e-3]).unwrap().scale();
        seen.push((leaving.log2(), step.last().unwrap().outcome.overflow));
        assert_eq!(step.finish(), Verdict::Apply);
    }
    // Three clean steps double the scale; 2^17 times 5.0e-3 is beyond 448.
    assert_eq!(seen, [(16, 0), (16, 0), (16, 0), (17, 1), (16, 0)]);
}

/// A tensor that overflows at every legal scale ends in a skipped step and not in a loop.
#[test]
fn an_overflow_that_no_scale_cures_is_skipped() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let first = visited(step.layer(0, scale(-126)).unwrap(), &[3.0e38]);
    assert_eq!(first.scale(), scale(-126));
    let expected = Verdict::Skip { layer: Place::Layer(0), cause: Cause::Overflow };
    assert_eq!(step.finish(), expected);
}
