//! The authors' scalar functions, one by one.

use adaloss_core::{
    format::{Element, Fate, Format, Narrowing, f16},
    policy::{Backoff, Config, ConfigError, Normal, Policy, Terms},
    propagate::Scaled,
    scale::Scale,
    unscale::unscale,
};
use adaloss_oracle::tolerance::SCIPY_ERFINV;

use crate::{
    exceptions::{
        FAN_IN, HALF_SCALE_OVERFLOW, NO_POWER_OF_TWO, NO_SCALE, NO_SHARE, NON_FINITE, NOT_POSITIVE,
    },
    json::Node,
    methods,
    report::{Case, Checked},
    tensor::{Dtype, Tensor, read_shape},
};

/// Checks one record of `scalar_functions`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    match record.field("fn")?.text()? {
        "bound_loss_scale_by_heuristics" => bound(record, case),
        "get_power_of_two_scale" => power_of_two(record, case),
        "get_fan_in" => fan_in(record, case),
        "t_uf_factor" => quantile(record, case),
        "get_scaled_gradient" => scaled(record, case),
        "get_unscaled_gradient" => unscaled(record, case),
        other => Err(format!("unknown function {other}")),
    }
}

/// The caps: [`Normal::bounded`].
fn bound(record: Node<'_>, case: &mut Case) -> Checked {
    let number = |name| record.field(name).and_then(Node::number);
    let caps = ["scale_upper_bound_requested", "accum_upper_bound_requested"].map(number);
    let [layer, accumulated] = [caps[0].clone()? as f32, caps[1].clone()? as f32];
    let model = Normal::paper(Format::BINARY16).with_paper_caps(layer, accumulated);
    for (ours, name) in
        [(model.layer_cap, "scale_upper_bound"), (model.accumulated_cap, "accum_upper_bound")]
    {
        case.same(name, f64::from(ours), record.field(name)?.scalar()?)?;
    }
    let factor = record.field("loss_scale")?.scalar()?;
    let Some(result) = record.optional("result") else {
        // A factor that is not finite never gets here: the model returns none, and a cell clamps.
        case.holds("the authors raise on a non-finite factor", !factor.is_finite())?;
        case.except(NON_FINITE);
        return Ok(());
    };
    let previous = methods::incoming(record)?;
    let bounded = match methods::scale_of(previous) {
        Some(incoming) => model.bounded(factor as f32, incoming),
        None => {
            case.except(NO_SCALE);
            let accumulated_cap = (f64::from(model.accumulated_cap) / previous) as f32;
            Normal { accumulated_cap, ..model }.bounded(factor as f32, Scale::ONE)
        }
    };
    case.same("the bound factor", f64::from(bounded), result.scalar()?)
}

/// The floor to a power of two, as the cell of a `backoff` policy starts with it.
fn power_of_two(record: Node<'_>, case: &mut Case) -> Checked {
    let factor = record.field("x")?.scalar()?;
    let result = record.field("result")?.scalar()?;
    let backoff = Backoff { initial: factor, ..Backoff::GRAD_SCALER };
    let config = Config::for_format(Format::BINARY16).with_policy(Policy::Backoff(backoff));
    let legal = f64::from(Scale::MIN.factor())..=f64::from(Scale::MAX.factor());
    if !legal.contains(&factor) {
        case.equal("the error", config.err(), Some(ConfigError::ScaleBounds))?;
        let is_none = methods::floor_log2(result).is_none();
        case.holds("the authors return no power of two", is_none || factor > 0.0)?;
        case.except(NOT_POSITIVE);
        return Ok(());
    }
    let scale = config.map_err(|error| error.to_string())?.cell().scale();
    case.equal("the exponent", Some(scale.log2()), methods::floor_log2(factor))?;
    methods::same_scale(case, scale.log2(), factor, result)
}

/// The number of products in one sum, which a layer tells core.
fn fan_in(record: Node<'_>, case: &mut Case) -> Checked {
    let shape = read_shape(record.field("W_shape")?)?;
    let recorded = record.field("result")?.scalar()?;
    let fan_in = methods::fan_in(&shape);
    case.same("the fan-in", f64::from(fan_in), recorded)?;
    if let [outputs, inputs] = shape[..] {
        let zeros = vec![f16::ZERO; outputs * inputs];
        let terms = Terms::of(&zeros[..outputs], &zeros, outputs, fan_in)
            .map_err(|error| error.to_string())?;
        case.same("the fan-in of a matrix", f64::from(terms.fan_in), recorded)
    } else {
        case.except(FAN_IN);
        Ok(())
    }
}

/// The quantiles of the Gaussian and of the log-normal model.
fn quantile(record: Node<'_>, case: &mut Case) -> Checked {
    let share = record.field("n_uf_threshold")?.scalar()?;
    let model = Normal::new(Format::BINARY16, share);
    if !(share > 0.0 && share < 1.0) {
        case.equal("the error", model.err(), Some(ConfigError::Share))?;
        case.except(NO_SHARE);
        return Ok(());
    }
    let model = model.map_err(|error| error.to_string())?;
    let gaussian = record.field("normal_factor")?.scalar()?;
    case.close("sqrt(2) erfinv(T)", model.gaussian_factor, gaussian, &SCIPY_ERFINV)?;
    let rounded = record.field("lognormal_erfinv_f32")?.scalar()?;
    let expected = std::f64::consts::SQRT_2 * rounded;
    case.same("sqrt(2) erfinv(2T-1)", model.log_normal_factor, expected)
}

/// One rounding of `2^k g`: [`Element::narrow`].
fn scaled(record: Node<'_>, case: &mut Case) -> Checked {
    let gradient = Tensor::read(record.field("g")?)?;
    let factor = record.field("scale")?.scalar()?;
    let previous = methods::incoming(record)?;
    let incoming = methods::scale_of(previous);
    if incoming.is_none() {
        case.except(NO_SCALE);
    }
    let scale = methods::scale_of(factor);
    let outgoing = incoming.zip(scale).and_then(|(k, factor)| k.shifted(factor / Scale::ONE));
    let Some(result) = record.optional("result") else {
        // The authors assert that the product of the scales is finite in fp16.
        let product = f16::from_f32((factor * previous) as f32);
        case.holds("the product overflows fp16", product.is_infinite())?;
        case.holds("the product is a legal scale", outgoing.is_some() || incoming.is_none())?;
        case.except(HALF_SCALE_OVERFLOW);
        return Ok(());
    };
    let values = gradient.values();
    let bits: Vec<u32> = match scale {
        Some(scale) => values.iter().map(|&x| narrow(gradient.dtype, x, scale.log2())).collect(),
        None => {
            // Their f32 product is what core is given to narrow.
            case.except(NO_POWER_OF_TWO);
            values.iter().map(|&x| narrow(gradient.dtype, x * factor as f32, 0)).collect()
        }
    };
    case.array("the scaled gradient", bits, &Tensor::read(result)?)?;
    let recorded = record.field("new_loss_scale")?.scalar()?;
    match outgoing {
        Some(outgoing) => case.same("the outgoing scale", f64::from(outgoing.factor()), recorded),
        None => case.same("the product of the scales", factor * previous, recorded),
    }
}

fn narrow(dtype: Dtype, x: f32, shift_log2: i32) -> u32 {
    match dtype {
        Dtype::F16 => {
            u32::from(f16::narrow(x, Narrowing::to(Format::BINARY16), shift_log2, 0).to_bits())
        }
        Dtype::F32 => f32::narrow(x, Narrowing::to(Format::BINARY32), shift_log2, 0).to_bits(),
    }
}

/// The authors' unscaling into fp16, and the default into f32, which loses nothing (Q1).
fn unscaled(record: Node<'_>, case: &mut Case) -> Checked {
    let gradient = Tensor::read(record.field("g")?)?;
    let previous = methods::incoming(record)?;
    let recorded = Tensor::read(record.field("result")?)?;
    case.same("the scale left", 1.0, record.field("new_loss_scale")?.scalar()?)?;
    let values = gradient.values();
    let Some(incoming) = methods::scale_of(previous) else {
        case.except(NO_SCALE);
        let bits = values.iter().map(|&x| narrow(Dtype::F16, x / previous as f32, 0));
        return case.array("the unscaled gradient", bits, &recorded);
    };
    let compat = values.iter().map(|&x| narrow(Dtype::F16, x, -incoming.log2()));
    case.array("the gradient unscaled in fp16", compat, &recorded)?;

    let mut unscaled = vec![0.0; values.len()];
    let met = match gradient.dtype {
        Dtype::F16 => {
            let halves = gradient.halves()?;
            unscale(Format::BINARY16, Scaled::new(&halves[..], incoming), &mut unscaled)
        }
        Dtype::F32 => unscale(Format::BINARY32, Scaled::new(&values[..], incoming), &mut unscaled),
    }
    .map_err(|error| error.to_string())?;
    let mut tiny = 0;
    for (&x, &unscaled) in values.iter().zip(&unscaled) {
        let exact = libm::ldexp(f64::from(x), -incoming.log2());
        let is_tiny = x != 0.0 && exact.abs() < f64::from(f32::MIN_POSITIVE);
        tiny += u64::from(is_tiny);
        if x.is_finite() && !is_tiny {
            case.same("the gradient unscaled in f32", f64::from(unscaled), exact)?;
        }
    }
    case.equal("elements too small for f32", met.tiny, tiny)?;
    let lost = |x: f32| narrow_fate(x, -incoming.log2()) == Fate::Underflow;
    let rescued = values.iter().filter(|&&x| lost(x)).count();
    case.allow("Q1: elements that fp16 unscaling loses and f32 unscaling keeps", rescued);
    Ok(())
}

fn narrow_fate(x: f32, shift_log2: i32) -> Fate {
    Narrowing::to(Format::BINARY16).narrow(x, shift_log2, 0).fate
}
