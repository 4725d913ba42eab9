//! Random configurations, and steps over tensors of every kind.

use adaloss_core::{
    format::{Format, Overflow, Rounding},
    policy::{
        Amax, Backoff, Config, Fraction, Measured, Normal, Operands, Policy, Range, Recovery, Terms,
    },
    propagate::Scaled,
    scale::Scale,
    scaler::{Step, Visit},
    statistics::{LogStatistics, Statistics},
    unscale::{Unscaled, Verdict},
};
use adaloss_oracle::{formats, inputs::SplitMix64};

use super::{Bits, Scaler, narrow, run};

/// One of several things.
fn one<T: Copy>(of: &[T], generator: &mut SplitMix64) -> T {
    of[generator.below(of.len())]
}

/// A number from 0 to below 1.
fn share(generator: &mut SplitMix64) -> f64 {
    f64::from(generator.half_word()) / 4_294_967_296.0
}

fn any_scale(generator: &mut SplitMix64) -> Scale {
    Scale::saturating(generator.below(253) as i32 - 126)
}

/// Any legal configuration: every policy, format, rounding, treatment of overflow and recovery.
pub(crate) fn config(generator: &mut SplitMix64) -> Config {
    let format = one(&formats(), generator);
    let config = Config::for_format(format).with_policy(policy(format, generator));
    let period = one(&[1, 2, 3, 7, 12, Config::NEVER], generator);
    let max_skips = 1 + generator.below(5) as u32;
    let config = config.and_then(|config| config.with_period(period));
    let config = config.and_then(|config| config.with_max_skips(max_skips)).expect("legal");
    let roundings = [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic];
    config
        .with_rounding(one(&roundings, generator), generator.half_word())
        .with_overflow(one(&[Overflow::Infinity, Overflow::Saturate], generator))
        .with_recovery(one(&[Recovery::Replay, Recovery::Skip], generator))
}

fn policy(format: Format, generator: &mut SplitMix64) -> Policy {
    match generator.below(6) {
        0 => Policy::Fixed(any_scale(generator)),
        1 => Policy::Backoff(backoff(generator)),
        2 => Policy::Normal(normal(format, generator)),
        3 => {
            let Range { smallest, largest } = Range::new(format);
            Policy::Range(Range {
                smallest: one(&[smallest, f32::from_bits(1)], generator),
                largest: one(&[largest, f32::MAX], generator),
            })
        }
        4 => Policy::Amax(Amax {
            window: one(&[1, 2, 5, 12, 13, 1024, u16::MAX], generator),
            margin: one(&[0, 1, 3, 16], generator),
        }),
        _ => Policy::Measured(Measured {
            tolerance: Fraction::from_bits(generator.half_word() >> generator.below(32)),
            most_headroom: one(&[1, 2, 3, 8, 16], generator),
        }),
    }
}

/// A model with caps, and now and then with constants that no format has.
fn normal(format: Format, generator: &mut SplitMix64) -> Normal {
    let model = Normal::new(format, share(generator).max(1e-9)).expect("a share");
    let caps = [f32::INFINITY, 16.0, 1024.0, 1.0, f32::from_bits(1), f32::MAX];
    let model = Normal {
        layer_cap: one(&caps, generator),
        accumulated_cap: one(&caps, generator),
        ..model
    };
    if generator.below(3) > 0 {
        return model;
    }
    Normal {
        gaussian_factor: one(&[f64::from_bits(1), 1.0, f64::MAX, f64::INFINITY], generator),
        log_normal_factor: one(&[f64::MIN, -1.0, 0.0, f64::MAX], generator),
        smallest: one(&[model.smallest, f32::from_bits(1)], generator),
        largest: one(&[model.largest, f32::MAX], generator),
        ..model
    }
}

fn backoff(generator: &mut SplitMix64) -> Backoff {
    let mut bounds = [0; 3].map(|_: i32| (252.0 * share(generator) - 126.0).exp2());
    bounds.sort_by(f64::total_cmp);
    let [floor, initial, cap] = bounds;
    Backoff {
        initial,
        growth: 1.0 + 3.0 * share(generator),
        warm_up: one(&[1.0, 2.0], generator),
        shrink: one(&[0.5, 0.1, 0.999], generator),
        floor,
        cap,
        interval: 1 + generator.below(5) as u32,
    }
}

/// A tensor that is ordinary, or empty, long, zero, subnormal, huge, random bits, or a storm of
/// values that are not finite; now and then with one value that does not belong.
pub(crate) fn tensor(generator: &mut SplitMix64) -> Vec<f32> {
    let length = match generator.below(10) {
        0 => 0,
        1 => 1,
        2 => 2000 + generator.below(1500),
        _ => 1 + generator.below(40),
    };
    let (kind, centre) = (generator.below(12), generator.below(240) as i32 - 120);
    let mut values: Vec<f32> = (0..length)
        .map(|_| match kind {
            0 => one(&[0.0, -0.0], generator),
            1 => one(&[f32::NAN, -f32::NAN], generator),
            2 => one(&[f32::INFINITY, f32::NEG_INFINITY, 1.0], generator),
            3 => f32::from_bits(1 + generator.half_word() % 0x7f_ffff),
            4 => generator.between_binades(120, 127),
            5 => f32::from_bits(generator.half_word()),
            _ => generator.between_binades(centre, centre + 7),
        })
        .collect();
    if length > 0 && generator.below(6) == 0 {
        let strangers = [f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX, 1.0e-45, -0.0];
        values[generator.below(length)] = one(&strangers, generator);
    }
    values
}

fn operands(generator: &mut SplitMix64) -> Operands {
    let (gradient, weight) = (tensor(generator), tensor(generator));
    let fan_in = one(&[0, 1, 9, 4096, u32::MAX], generator);
    match generator.below(4) {
        0 => Operands::Cast(Statistics::of(&gradient)),
        1 => Operands::LogCast(LogStatistics::of(&gradient)),
        2 => Operands::Terms(Terms::of(&gradient, &weight, 1, fan_in).expect("columns of one")),
        _ => Operands::Product {
            gradient: Statistics::of(&gradient),
            weight: Statistics::of(&weight),
            fan_in,
        },
    }
}

/// What happened in a step, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Walk {
    pub(crate) events: Vec<Event>,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Values, as bits, that were narrowed in so many runs, to what, and what the step says of it.
    Visited { values: Bits, runs: u64, narrowed: Bits, scale: Scale, visit: Visit },
    /// A weight gradient was unscaled.
    Unscaled { id: usize, met: Unscaled },
}

/// Makes one step over random tensors: the loss, then layers, joins and weight gradients.
pub(crate) fn step(scaler: &mut Scaler, generator: &mut SplitMix64) -> Walk {
    let mut step = scaler.begin();
    let (mut events, mut gradients) = (Vec::new(), Vec::new());
    // Now and then more than one backward pass is accumulated.
    for nth in 0..1 + generator.below(6) {
        let kind = if nth == 0 { 0 } else { generator.below(10) };
        if kind == 1 {
            let nonfinite = u64::from(generator.below(8) == 0);
            let (id, met) = (generator.below(8), Unscaled { elements: 9, nonfinite, tiny: 1 });
            step.unscaled(id, &met);
            events.push(Event::Unscaled { id, met });
            continue;
        }
        let values = tensor(generator);
        let (gradient, runs) = visit(&mut step, kind, &gradients, &values, generator);
        let visit = step.last().expect("a visit");
        let values = values.into_iter().map(f32::to_bits).collect();
        let (narrowed, scale) = gradient.clone().into_parts();
        events.push(Event::Visited { values, runs, narrowed, scale, visit });
        gradients.push(gradient);
    }
    Walk { events, verdict: step.finish() }
}

/// Visits the loss, a layer with and without operands, or a join, whose f32 results are `values`.
fn visit(
    step: &mut Step<'_>,
    kind: usize,
    gradients: &[Scaled<Bits>],
    values: &[f32],
    generator: &mut SplitMix64,
) -> (Scaled<Bits>, u64) {
    let (id, operands) = (generator.below(8), operands(generator));
    let mut runs = 0;
    let branches: Vec<Scaled<()>> = gradients.iter().map(Scaled::tag).collect();
    let (visit, is_described) = match (kind, gradients) {
        (0, _) | (_, []) => (Ok(step.loss()), true),
        (2, [.., last]) => (step.layer(id, last), false),
        (3, [_, _, ..]) => (step.join(id, &branches), false),
        (_, [.., last]) => (step.layer(id, last), true),
    };
    let mut visit = visit.expect("a cell");
    if is_described && visit.wants_operands() {
        visit.describe(&operands);
    }
    let gradient = run(visit, |pass| {
        runs += 1;
        narrow(values, pass)
    });
    (gradient.expect("equal lengths"), runs)
}
