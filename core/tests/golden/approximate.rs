//! `approx_range`, the paper's default: arrays in, scale out.

use adaloss_core::{policy::Operands, statistics::Moments};
use adaloss_oracle::tolerance::{NUMPY_LOGARITHMS, NUMPY_MOMENTS, SCIPY_ERFINV, Tolerance};

use crate::{
    exceptions::EMPTY,
    json::Node,
    methods::{self, Stages},
    report::{Case, Checked},
    tensor::Tensor,
};

/// Checks one record of `loss_scale_approx` or `loss_scale_approx_large`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let cfg = record.field("cfg")?;
    let model = methods::normal(case, cfg)?;
    let quantile = cfg.field("t_uf_factor")?.scalar()?;
    case.close("sqrt(2) erfinv(T)", model.gaussian_factor, quantile, &SCIPY_ERFINV)?;
    let gradient = Tensor::read(record.field("g")?)?;
    check_statistics(case, &gradient, record.field("g_stats")?)?;
    let weight = record.optional("W").map(Tensor::read).transpose()?;
    if let Some(weight) = &weight {
        check_statistics(case, weight, record.field("W_stats")?)?;
        let fan_in = f64::from(methods::fan_in(&weight.shape));
        case.equal("the fan-in", fan_in, record.field("fan_in")?.number()?)?;
    }
    let operands = operands(&gradient, weight.as_ref(), record.field("lognormal")?.flag()?);
    let is_empty = gradient.len() == 0 || weight.as_ref().is_some_and(|weight| weight.len() == 0);
    if record.optional("raises").is_some() && is_empty {
        case.equal("the factor of an empty operand", model.factor(&operands), Some(1.0))?;
        case.except(EMPTY);
        return Ok(());
    }
    let incoming = methods::incoming(record)?;
    let stages = Stages::read(record.field("stages")?)?;
    if let Some(result) = record.optional("result") {
        case.same("the recorded result", stages.last.unwrap_or_default(), result.scalar()?)?;
    }
    methods::check_normal(case, model, &operands, incoming, &stages)
}

/// Returns what the paper's policy decides from.
pub(crate) fn operands(gradient: &Tensor, weight: Option<&Tensor>, lognormal: bool) -> Operands {
    match weight {
        Some(weight) => Operands::Product {
            gradient: gradient.statistics(),
            weight: weight.statistics(),
            fan_in: methods::fan_in(&weight.shape),
        },
        None if lognormal => Operands::LogCast(gradient.log_statistics()),
        None => Operands::Cast(gradient.statistics()),
    }
}

/// Checks counts, extremes and moments of an array against what numpy made of it in f64.
pub(crate) fn check_statistics(case: &mut Case, tensor: &Tensor, recorded: Node<'_>) -> Checked {
    let statistics = tensor.statistics();
    let elements = statistics.nonfinite + statistics.moments.count();
    case.equal("elements", elements, recorded.field("n")?.integer()?)?;
    case.equal("zeros", statistics.zero, recorded.field("n_zero")?.integer()?)?;
    if statistics.nonfinite > 0 || elements == 0 {
        return Ok(());
    }
    check_moments(case, "", &statistics.moments, recorded, &NUMPY_MOMENTS)?;
    if let (Some((min, max)), Some(least)) = (statistics.extremes(), recorded.optional("absmin_nz"))
    {
        case.same("the least magnitude", f64::from(min), least.scalar()?)?;
        case.same("the greatest magnitude", f64::from(max), recorded.field("absmax")?.scalar()?)?;
    }
    if recorded.optional("logabs_mean_f64").is_some() {
        let moments = tensor.log_statistics().moments;
        check_moments(case, "logabs_", &moments, recorded, &NUMPY_LOGARITHMS)?;
    }
    Ok(())
}

fn check_moments(
    case: &mut Case,
    prefix: &str,
    moments: &Moments,
    recorded: Node<'_>,
    tolerance: &Tolerance,
) -> Checked {
    let [mean, deviation] = match prefix {
        "" => ["mean_f64", "std_f64"],
        _ => ["logabs_mean_f64", "logabs_std_f64"],
    }
    .map(|name| recorded.field(name).and_then(Node::scalar));
    let (mean, deviation) = (mean?, deviation?);
    let unit = mean.abs() + deviation;
    let ours = (moments.mean(), moments.standard_deviation());
    let (Some(our_mean), Some(our_deviation)) = ours else {
        return Err(String::from("no moments of a tensor with elements"));
    };
    case.within("the mean", our_mean, mean, unit, tolerance)?;
    case.within("the deviation", our_deviation, deviation, unit, tolerance)
}
