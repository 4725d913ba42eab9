//! Policies that decide where no device does: `backoff` and `fixed` after a step, `normal` and `range`
//! from the operands of a layer.

use adaloss_core::{
    policy::{
        Backoff, Config, Factor, Growth, Operands, Policy, Recovery, Rule, Trigger,
        decide_from_operands, note, outgoing, recover, step,
    },
    scale::Scale,
    statistics::{Outcome, Statistics},
};
use adaloss_hal::Capabilities;
use adaloss_oracle::{pow2, tolerance::CEILING};
use arbitrary::{Result, Unstructured};

use super::MOST;
use crate::{config::config, input};

/// `backoff` and `fixed`: one scale for the whole model, moved after each step.
pub(super) fn check_whole_model(u: &mut Unstructured<'_>) -> Result<()> {
    let config = config(u, Capabilities::ALL)?;
    let mut cell = config.cell();
    let (mut real, mut clean_in_a_row, mut was_bad) = (Growth::of(&cell).real_scale, 0_u32, false);
    for _ in 0..u.int_in_range(0..=64)? {
        let clean = u.ratio(3, 4)?;
        let before = cell;
        step(&config, clean, &mut cell);
        let Policy::Backoff(backoff) = config.policy() else {
            assert_eq!(cell, before, "{config:?}");
            continue;
        };
        let Backoff { growth, warm_up, shrink, floor, cap, interval, .. } = *backoff;
        if !clean {
            (real, clean_in_a_row, was_bad) = (real * shrink, 0, true);
        } else if !was_bad && warm_up > 1.0 {
            real *= warm_up;
        } else {
            clean_in_a_row += 1;
            if clean_in_a_row == interval {
                (real, clean_in_a_row) = (real * growth, 0);
            }
        }
        real = real.max(floor).min(cap);
        assert_eq!(Growth::of(&cell).real_scale, real, "{config:?}");
        assert!((floor..=cap).contains(&Growth::of(&cell).real_scale), "{config:?}");
        let k = cell.scale().log2();
        assert!(pow2(k) <= real && real < pow2(k + 1), "2^{k} is not below {real:e}");
        assert_eq!(outgoing(&config, &cell, input::scale(u)?), cell.scale());
    }
    Ok(())
}

/// `normal` and `range`: whatever the operands, a legal scale within the model's own bounds.
pub(super) fn check_operands(u: &mut Unstructured<'_>) -> Result<()> {
    let config = config(u, Capabilities::ALL)?;
    let mut cell = config.cell();
    let incoming = input::scale(u)?;
    let gradient = input::values(u, config.narrowing().format, MOST)?;
    let weight = input::values(u, config.narrowing().format, MOST)?;
    let fan_in = u.int_in_range(1..=70_000)?;
    let operands = Operands::Product {
        gradient: Statistics::of(&gradient),
        weight: Statistics::of(&weight),
        fan_in,
    };
    let before = (cell, outgoing(&config, &cell, incoming));
    let certificate = decide_from_operands(&config, &operands, incoming, &mut cell);
    let left = outgoing(&config, &cell, incoming);
    assert_eq!((certificate.before, certificate.scale), (before.1, left), "{config:?}");
    let bad = gradient.iter().chain(&weight).any(|x| !x.is_finite());
    let (largest, caps) = match *config.policy() {
        Policy::Normal(model) => (model.largest, [model.layer_cap, model.accumulated_cap]),
        Policy::Range(range) => (range.largest, [f32::INFINITY; 2]),
        _ => {
            assert_eq!((certificate.rule, cell), (Rule::Unused, before.0));
            return Ok(());
        }
    };
    if bad {
        assert_eq!((certificate.rule, cell), (Rule::NonFinite, before.0));
        return Ok(());
    }
    let factor = Factor::of(&cell).factor;
    assert!(factor.is_finite() && factor > 0.0);
    assert!(cell.is_calibrated() && cell.trigger() == Trigger::None);
    // The bound that wins: no sum of products of the extremes leaves the format, but for the rounding
    // of the factor.
    let max = |values: &[f32]| values.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let most = f64::from(fan_in) * f64::from(max(&gradient) * max(&weight));
    let is_modelled = factor > f64::from(f32::MIN_POSITIVE) && factor != 1.0;
    let excess = (factor * most / f64::from(largest) - 1.0).max(0.0);
    assert!(
        !is_modelled || CEILING.allows(excess),
        "{factor:e} * {most:e} exceeds {largest:e}, {config:?}"
    );
    check_caps(&config, factor, caps, incoming, left);
    // An overflow lowers what was decided.
    let overflow = Outcome {
        elements: 1,
        overflow: 1,
        max_bits: input::value(u, config.narrowing().format)?.abs().to_bits(),
        ..Outcome::EMPTY
    };
    if f32::from_bits(overflow.max_bits).is_normal() {
        note(&config, &overflow, incoming, &mut cell);
        let moves = config.recovery() == Recovery::Replay;
        if let (true, Some(scale)) = (moves, recover(&config, &overflow, incoming)) {
            assert_eq!(cell.scale(), scale);
        }
    }
    Ok(())
}

/// The scale that a tensor leaves with is the greatest power of two within factor and caps.
///
/// The caps are that of a layer and that of the accumulated scale.
fn check_caps(config: &Config, factor: f64, caps: [f32; 2], incoming: Scale, left: Scale) {
    let [layer, accumulated] = caps.map(f64::from);
    let bounded = factor.min(layer).min(accumulated / f64::from(incoming.factor()));
    if bounded < f64::from(f32::MIN_POSITIVE) {
        return; // f32 has no number for it
    }
    let k = left.log2() - incoming.log2();
    let is_floor = pow2(k) <= bounded && bounded < pow2(k + 1);
    let is_end = [Scale::MIN, Scale::MAX].contains(&left);
    assert!(is_floor || is_end, "2^{k} for {bounded:e}, {config:?}");
}
