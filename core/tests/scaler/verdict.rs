//! Is the step usable, what was the first thing that was not, and does it ever loop.

use adaloss_core::{
    format::Format,
    policy::Config,
    unscale::{Cause, Place, Unscaled, Verdict},
};

use super::{FORMATS, Scaler, Tensors, configs, layer, loss};

const NAN: Verdict = Verdict::Skip { layer: Place::Loss, cause: Cause::NonFinite };

/// Non-finite values that no scale cures: reported with their place, in every format and by every
/// policy, never replayed, and the cell stays what it was.
#[test]
fn nan_and_infinity_are_reported_and_not_replayed() {
    for format in [Format::BINARY16, Format::BFLOAT16, Format::E5M2, Format::E4M3] {
        for config in configs(format) {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut scaler = Scaler::new(config);
                let mut step = scaler.begin();
                loss(&mut step, &[1.0e-3]).unwrap();
                assert_eq!(step.finish(), Verdict::Apply);
                let before = scaler.cell(Place::Loss).unwrap().scale();
                let mut step = scaler.begin();
                loss(&mut step, &[1.0e-3, bad]).unwrap();
                assert!(!step.last().unwrap().replayed);
                assert_eq!(step.finish(), NAN, "{bad} in {format:?} by {}", config.policy().name());
                if config.policy().name() != "backoff" {
                    assert_eq!(scaler.cell(Place::Loss).unwrap().scale(), before);
                }
            }
        }
    }
}

/// An overflow beside a NaN is not worth a replay.
#[test]
fn a_tensor_that_is_lost_anyway_is_not_replayed() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    for values in [[1.0e-9, 1.0e-9], [1.0, f32::NAN]] {
        let mut step = scaler.begin();
        loss(&mut step, &values).unwrap();
        let visit = step.last().unwrap();
        assert_eq!(visit.outcome.overflow, u64::from(visit.outcome.nonfinite > 0));
        assert!(!visit.replayed);
        let expected = if visit.outcome.nonfinite > 0 { NAN } else { Verdict::Apply };
        assert_eq!(step.finish(), expected);
    }
}

/// The first place in backward order is named, whatever comes after it.
#[test]
fn the_first_place_is_named() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    let gradient = loss(&mut step, &[1.0e-3]).unwrap();
    let gradient = layer(&mut step, 2, &gradient, 0.1).unwrap();
    let gradient = layer(&mut step, 5, &gradient, f32::NAN).unwrap();
    layer(&mut step, 6, &gradient, f32::INFINITY).unwrap();
    assert_eq!(step.first_bad(), Some((Place::Layer(5), Cause::NonFinite)));
    let verdict = step.finish();
    assert_eq!(verdict, Verdict::Skip { layer: Place::Layer(5), cause: Cause::NonFinite });
    let Verdict::Skip { layer, cause } = verdict else { unreachable!() };
    assert_eq!(format!("{cause} in {layer}"), "non-finite values in layer 5");
}

#[test]
fn a_weight_gradient_that_is_not_finite_is_named() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    loss(&mut step, &[1.0e-3]).unwrap();
    step.unscaled(4, &Unscaled { elements: 10, nonfinite: 0, tiny: 3 });
    assert_eq!((step.first_bad(), step.tiny()), (None, 3));
    step.unscaled(1, &Unscaled { elements: 10, nonfinite: 1, tiny: 0 });
    let expected = Verdict::Skip { layer: Place::Weight(1), cause: Cause::NonFinite };
    assert_eq!(step.finish(), expected);
}

/// What a caller finds itself counts like what the step met.
#[test]
fn what_the_caller_rejects_is_named() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16));
    let mut step = scaler.begin();
    step.reject(Place::Loss, Cause::NonFinite);
    let gradient = loss(&mut step, &[1.0e-3]).unwrap();
    layer(&mut step, 2, &gradient, f32::NAN).unwrap();
    assert_eq!(step.finish(), NAN);
    let mut step = scaler.begin();
    let gradient = loss(&mut step, &[1.0e-3]).unwrap();
    layer(&mut step, 2, &gradient, f32::NAN).unwrap();
    step.reject(Place::Weight(0), Cause::Overflow);
    let expected = Verdict::Skip { layer: Place::Layer(2), cause: Cause::NonFinite };
    assert_eq!(step.finish(), expected);
    assert_eq!((scaler.totals().steps, scaler.totals().skipped), (2, 2));
}

/// An endless loop of skipped steps is impossible: the run is told to stop.
#[test]
fn skips_in_a_row_end_the_run() {
    let config = Config::for_format(Format::BINARY16).with_max_skips(3).unwrap();
    let mut scaler = Scaler::new(config);
    let mut verdict = |value: f32| {
        let mut step = scaler.begin();
        loss(&mut step, &[value]).unwrap();
        step.finish()
    };
    assert_eq!([verdict(f32::NAN), verdict(f32::NAN)], [NAN; 2]);
    assert_eq!(verdict(1.0), Verdict::Apply);
    assert_eq!([verdict(f32::NAN), verdict(f32::NAN)], [NAN; 2]);
    let stop = Verdict::Stop { layer: Place::Loss, cause: Cause::NonFinite, skipped: 3 };
    assert_eq!(verdict(f32::NAN), stop);
    // A run that goes on all the same starts to count anew.
    assert_eq!(verdict(f32::NAN), NAN);
    assert_eq!((scaler.totals().steps, scaler.totals().skipped), (7, 6));
}

/// Micro-batches are accumulated in one step: scales may differ between them, and one that is bad
/// discards the whole step.
#[test]
fn micro_batches_share_a_verdict() {
    let mut scaler = Scaler::new(Config::for_format(Format::BINARY16).with_period(1).unwrap());
    let mut step = scaler.begin();
    let mut total = 0.0;
    let mut scales = Vec::new();
    let values = [2.0_f32.powi(-30), 2.0];
    for value in values {
        let gradient = loss(&mut step, &[value]).unwrap();
        scales.push(gradient.scale());
        total += f64::from(gradient.unscale(|g, inverse| Format::BINARY16.widen(g[0]) * inverse));
    }
    assert_ne!(scales[0], scales[1]);
    assert_eq!(total, values.map(f64::from).iter().sum::<f64>());
    assert_eq!(step.finish(), Verdict::Apply);

    let mut step = scaler.begin();
    for value in [1.0e-9, f32::NAN, 2.0] {
        loss(&mut step, &[value]).unwrap();
    }
    assert_eq!(step.finish(), NAN);
    assert_eq!((scaler.totals().steps, scaler.totals().skipped), (2, 1));
}

/// Whatever tensors come, a step that is applied has seen no non-finite result, and a scale is
/// always an exact power of two in range.
#[test]
fn nothing_non_finite_passes_unseen() {
    for format in FORMATS {
        for config in configs(format) {
            let mut scaler = Scaler::new(config);
            let mut tensors = Tensors(7);
            for round in 0..200 {
                let mut values = tensors.next(40);
                if round % 17 == 3 {
                    values[round % 40] = [f32::NAN, f32::INFINITY, 1.0e38, 1.0e-44][round % 4];
                }
                let mut step = scaler.begin();
                let mut gradient = loss(&mut step, &values).unwrap();
                let mut finite = true;
                for (id, weight) in [(0, 2.0e3), (1, 1.0e-7), (2, 3.0e5)] {
                    let check = |bits: &Vec<u32>, inverse: f32| {
                        assert!(inverse.is_normal() && inverse.to_bits() & 0x7f_ffff == 0);
                        bits.iter().all(|&bits| format.widen(bits).is_finite())
                    };
                    finite &= gradient.unscale(check);
                    gradient = layer(&mut step, id, &gradient, weight).unwrap();
                    finite &= gradient.unscale(check);
                }
                let applied = step.finish() == Verdict::Apply;
                assert!(!applied || finite, "{format:?} by {}", config.policy().name());
            }
        }
    }
}
