//! The authors' methods as configurations of this crate, and the comparison of their scales.

use adaloss_core::{
    format::Format,
    policy::{
        Config, Normal, Operands, Policy, Preset, Range, Rule, decide_from_operands, outgoing,
    },
    scale::Scale,
};
use adaloss_oracle::tolerance::{GAUSSIAN_FACTOR, LOG_NORMAL_FACTOR, POWER_OF_TWO};

use crate::{
    exceptions::{
        CONSTANT, HALF_OVERFLOW, HALF_UNDERFLOW, INFINITE_FACTOR, NO_POWER_OF_TWO, NO_SCALE,
        NON_FINITE, ZERO_FACTOR,
    },
    json::Node,
    report::{Case, Checked},
};

/// What the authors' `get_loss_scale` went through.
pub(crate) struct Stages {
    /// The factor that the method asked for; missing where it raised before.
    pub(crate) unbound: Option<f64>,
    /// The factor within the caps; missing where they are not used.
    pub(crate) bound: Option<f64>,
    /// The factor that was applied; missing where the method raised.
    pub(crate) last: Option<f64>,
}

impl Stages {
    /// Reads an object with the fields `unbound`, `bound` and `final`.
    pub(crate) fn read(stages: Node<'_>) -> Result<Self, String> {
        let stage = |name| stages.optional(name).map(Node::scalar).transpose();
        let (floored, last) = (stage("power_of_two")?, stage("final")?);
        match floored.zip(last) {
            Some((floored, last)) if floored.to_bits() != last.to_bits() => {
                Err(format!("a floored factor of {floored}, of which {last} was applied"))
            }
            _ => Ok(Self { unbound: stage("unbound")?, bound: stage("bound")?, last }),
        }
    }
}

/// Reads the authors' configuration of `approx_range`.
pub(crate) fn normal(case: &mut Case, cfg: Node<'_>) -> Result<Normal, String> {
    let paper = Normal::paper(Format::BINARY16);
    let share = cfg.field("n_uf_threshold")?.number()?;
    let model = Normal::new(Format::BINARY16, share).map_err(|error| error.to_string())?;
    let model = Normal { smallest: paper.smallest, largest: paper.largest, ..model };
    let model = match cfg.optional("range") {
        None => model,
        Some(range) => {
            let [smallest, largest] = extremes(range)?;
            let own_extremes = ["u_min", "u_max"].iter().any(|name| cfg.optional(name).is_some());
            if cfg.field("dtype")?.text()? == "float16" && !own_extremes {
                case.equal("u_min", model.smallest, smallest)?;
                case.equal("u_max", model.largest, largest)?;
            }
            Normal { smallest, largest, ..model }
        }
    };
    if cfg.optional("use_bound").map(Node::flag).transpose()? == Some(false) {
        return Ok(model);
    }
    let [layer, accumulated] =
        ["scale_upper_bound", "accum_upper_bound"].map(|name| cfg.field(name));
    Ok(model.with_paper_caps(layer?.number()? as f32, accumulated?.number()? as f32))
}

/// Reads the scale that a gradient arrives with; none is 1.
pub(crate) fn incoming(record: Node<'_>) -> Result<f64, String> {
    record.optional("prev_scale").map_or(Ok(1.0), Node::scalar)
}

/// Returns the authors' name of the method.
pub(crate) fn name<'a>(cfg: Node<'a>) -> Result<&'a str, String> {
    cfg.optional("loss_scale_method").map_or(Ok("approx_range"), Node::text)
}

/// Returns the scale at which a layer with the authors' `fixed` method leaves: theirs is a factor
/// per layer, floored to a power of two, ours the scale itself.
pub(crate) fn fixed(
    case: &mut Case,
    cfg: Node<'_>,
    incoming: Scale,
    stages: &Stages,
) -> Result<Scale, String> {
    let factor = cfg.optional("fixed_loss_scale").map_or(Ok(1.0), Node::number)?;
    case.same("the fixed factor", factor, stages.unbound.unwrap_or(f64::NAN))?;
    let log2 = floor_log2(factor).ok_or_else(|| format!("a fixed factor of {factor}"))?;
    case.same("the factor floored", libm::ldexp(1.0, log2), stages.last.unwrap_or(f64::NAN))?;
    Scale::new(incoming.log2() + log2).map_err(|error| error.to_string())
}

/// Reads the authors' configuration of `abs_range` and `element_wise_range`.
pub(crate) fn range(cfg: Node<'_>) -> Result<Range, String> {
    let paper = Normal::paper(Format::BINARY16);
    let [smallest, largest] = match cfg.optional("range") {
        Some(range) => extremes(range)?,
        None => [paper.smallest, paper.largest],
    };
    Ok(Range { smallest, largest })
}

fn extremes(range: Node<'_>) -> Result<[f32; 2], String> {
    match range.list()?.as_slice() {
        [smallest, largest] => Ok([smallest.scalar()? as f32, largest.scalar()? as f32]),
        other => Err(format!("a range of {} numbers", other.len())),
    }
}

/// Makes the configuration that behaves as the authors' code: every visit decides, overflow is
/// left to the step.
pub(crate) fn config(policy: Policy) -> Result<Config, String> {
    let paper = Config::preset(Preset::Paper, Format::BINARY16);
    paper.with_policy(policy).map_err(|error| error.to_string())
}

/// Returns the number of products in one sum of a layer's input gradient: every dimension of the
/// weight but the inputs.
pub(crate) fn fan_in(weight_shape: &[usize]) -> u32 {
    let outputs: usize =
        weight_shape.iter().enumerate().filter(|&(i, _)| i != 1).map(|(_, n)| n).product();
    outputs as u32
}

/// Returns the scale of a legal power of two.
pub(crate) fn scale_of(factor: f64) -> Option<Scale> {
    let log2 = floor_log2(factor)?;
    (libm::ldexp(1.0, log2) == factor).then_some(Scale::new(log2).ok()?)
}

/// Returns `floor(log2(x))` of a positive finite number, from its representation.
pub(crate) fn floor_log2(x: f64) -> Option<i32> {
    (x > 0.0 && x.is_finite()).then(|| libm::ilogb(x))
}

/// Returns the scale that a fresh cell leaves with.
pub(crate) fn decided(
    case: &mut Case,
    config: &Config,
    operands: &Operands,
    incoming: Scale,
) -> Result<Scale, String> {
    let mut cell = config.cell();
    let certificate = decide_from_operands(config, operands, incoming, &mut cell);
    let scale = outgoing(config, &cell, incoming);
    case.holds("the certificate names a rule of the policy", certificate.rule != Rule::NonFinite)?;
    case.equal("the certificate's scale", certificate.scale, scale)?;
    Ok(scale)
}

/// Checks one decision of the paper's model from the operands to the scale.
pub(crate) fn check_normal(
    case: &mut Case,
    model: Normal,
    operands: &Operands,
    incoming: f64,
    stages: &Stages,
) -> Checked {
    let tolerance = match operands {
        Operands::LogCast(_) => &LOG_NORMAL_FACTOR,
        _ => &GAUSSIAN_FACTOR,
    };
    let config = config(Policy::Normal(model))?;
    let Some(factor) = model.factor(operands) else {
        return check_nonfinite(case, &config, operands, stages);
    };
    let unbound = stages.unbound.ok_or("no factor was recorded")?;
    if let Some(magnitude) = constant(operands) {
        let [smallest, largest] = [model.smallest, model.largest].map(f64::from);
        let kept = (smallest / magnitude).max(1.0).min(largest / magnitude) as f32;
        case.same("the factor of a constant", f64::from(factor), f64::from(kept))?;
        if f64::from(factor) != unbound {
            case.except(CONSTANT);
            return Ok(());
        }
    }
    case.close("the factor", f64::from(factor), unbound, tolerance)?;
    if unbound.is_infinite() && stages.last.is_none() {
        // The authors raise; here the caps, or the legal scales, bound it.
        case.except(INFINITE_FACTOR);
        return Ok(());
    }
    let (model, config, scale) = match scale_of(incoming) {
        Some(scale) => (model, config, scale),
        None => {
            // The authors divide the cap by the incoming scale; so does this model, beforehand.
            case.except(NO_SCALE);
            let cap = (f64::from(model.accumulated_cap) / incoming) as f32;
            let model = Normal { accumulated_cap: cap, ..model };
            (model, self::config(Policy::Normal(model))?, Scale::ONE)
        }
    };
    if let Some(bound) = stages.bound {
        case.close("the bound factor", f64::from(model.bounded(factor, scale)), bound, tolerance)?;
    }
    let shift = decided(case, &config, operands, scale)? / scale;
    let bound = stages.bound.unwrap_or(unbound);
    same_scale(case, shift.log2(), bound, stages.last.ok_or("no scale was recorded")?)
}

/// Returns the magnitude of a gradient that is narrowed alone and has no deviation, zeros apart: numpy's deviation, of a
/// mean that was rounded, may have one.
fn constant(operands: &Operands) -> Option<f64> {
    let (moments, max_bits) = match operands {
        Operands::Cast(gradient) => (gradient.moments.standard_deviation(), gradient.max_bits),
        Operands::LogCast(gradient) => (gradient.moments.standard_deviation(), gradient.max_bits),
        Operands::Product { .. } | Operands::Terms(_) => return None,
    };
    (moments? as f32 == 0.0 && max_bits != 0).then(|| f64::from(f32::from_bits(max_bits)))
}

/// Checks that operands with non-finite elements are reported and move nothing.
fn check_nonfinite(
    case: &mut Case,
    config: &Config,
    operands: &Operands,
    stages: &Stages,
) -> Checked {
    let mut cell = config.cell();
    let before = cell;
    let certificate = decide_from_operands(config, operands, Scale::ONE, &mut cell);
    case.equal("the rule", certificate.rule, Rule::NonFinite)?;
    case.equal("the cell", cell, before)?;
    case.holds("the authors' factor is NaN", stages.unbound.is_some_and(f64::is_nan))?;
    case.holds("no scale came of it", stages.last.is_none_or(f64::is_nan))?;
    case.except(NON_FINITE);
    Ok(())
}

/// Checks a decided shift against the power of two that the authors made of a bound factor.
///
/// They take a logarithm in f32, which rounds up to an integer just below a power of two (Q3), and
/// round the power to binary16, which may overflow or underflow.  Our own factor may be off by its
/// tolerance and fall on the other side of a power of two.
pub(crate) fn same_scale(case: &mut Case, ours: i32, bound: f64, recorded: f64) -> Checked {
    if bound == 0.0 && recorded == 0.0 {
        case.equal("the shift of no factor", ours, Scale::MIN.log2())?;
        case.except(ZERO_FACTOR);
        return Ok(());
    }
    let floor = floor_log2(bound).ok_or_else(|| format!("a factor of {bound} has no logarithm"))?;
    let is_close_above = bound <= libm::ldexp(1.0, floor) * (1.0 + POWER_OF_TWO.most);
    let is_close_below = bound >= libm::ldexp(1.0, floor + 1) * (1.0 - POWER_OF_TWO.most);
    let theirs = if is_close_below { floor..=floor + 1 } else { floor..=floor };
    let least = if is_close_above { floor - 1 } else { floor };
    let is_floor = (least..=*theirs.end()).contains(&ours);
    case.holds(format_args!("a shift of 2^{ours} floors a factor of {bound:e}"), is_floor)?;
    if recorded == 0.0 || recorded.is_infinite() {
        let in_half = |log2| f64::from(half::f16::from_f64(libm::ldexp(1.0, log2)).to_f32());
        let is_explained = theirs.into_iter().any(|log2| in_half(log2) == recorded);
        case.holds(format_args!("fp16 makes {recorded} of the power of two"), is_explained)?;
        case.except(if recorded == 0.0 { HALF_UNDERFLOW } else { HALF_OVERFLOW });
        return Ok(());
    }
    let recorded_log2 = floor_log2(recorded).ok_or_else(|| format!("a scale of {recorded}"))?;
    if libm::ldexp(1.0, recorded_log2) != recorded {
        let rounded = f64::from(half::f16::from_f32(bound as f32).to_f32());
        case.equal("the factor rounded to fp16", rounded, recorded)?;
        case.except(NO_POWER_OF_TWO);
        return Ok(());
    }
    if ours != recorded_log2 && theirs.contains(&recorded_log2) {
        let power = libm::ldexp(1.0, ours.max(recorded_log2));
        case.within("what is rounded to a power of two", bound, power, power, &POWER_OF_TWO)?;
        case.allow("Q3: f32 logarithm rounded up to a power of two", 1);
        return Ok(());
    }
    case.equal("the shift's exponent", ours, recorded_log2)
}
