//! `abs_range` and `element_wise_range`: the extremes of operands, and of products.

use adaloss_core::{
    format::f16,
    policy::{Operands, Policy, Range, Terms},
};

use crate::{
    approximate::check_statistics,
    exceptions::{ALL_ZERO, INFINITE_OPERAND, RESCUE_RATIO},
    json::Node,
    methods::{self, Stages},
    report::{Case, Checked},
    tensor::Tensor,
};

/// Checks one record of `loss_scale_abs_elementwise`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let gradient = Tensor::read(record.field("g")?)?;
    let weight = Tensor::read(record.field("W")?)?;
    check_statistics(case, &gradient, record.field("g_stats")?)?;
    check_statistics(case, &weight, record.field("W_stats")?)?;
    let fan_in = methods::fan_in(&weight.shape);
    case.equal("the fan-in", f64::from(fan_in), record.field("fan_in")?.number()?)?;
    let range = methods::range(record.field("cfg")?)?;
    let stages = Stages::read(record.field("stages")?)?;
    if let (Some(last), Some(result)) = (stages.last, record.optional("result")) {
        case.same("the recorded result", last, result.scalar()?)?;
    }
    let direct = record.optional("direct_no_fan_in").map(Node::scalar).transpose()?;
    let ratio = record.optional("max_rescue_ratio").map(Node::number).transpose()?;
    let method = record.field("method")?.text()?;
    let operands = |fan_in| operands(method, &gradient, &weight, fan_in);
    let factor = range.factor(&operands(fan_in)?);

    let finite = gradient.statistics().nonfinite + weight.statistics().nonfinite == 0;
    if !finite {
        case.equal("the factor of non-finite operands", factor, None)?;
        case.holds("the authors raise or give 0", stages.unbound.is_none_or(|s| s == 0.0))?;
        case.except(INFINITE_OPERAND);
        return Ok(());
    }
    let factor = factor.ok_or("no factor of finite operands")?;
    if method == "element_wise_range" {
        let products = Products::of(&gradient, &weight)?;
        let all = products.factor(&range, fan_in, None).unwrap_or(1.0);
        case.same("the factor of all products", f64::from(factor), f64::from(all))?;
        if let Some(direct) = direct {
            let factor = products.factor(&range, 1, ratio).map(f64::from);
            case.equal("the authors' factor without a fan-in", factor, Some(direct))?;
        }
        if is_explained(case, &products, &range, fan_in, ratio, factor, &stages)? {
            return Ok(());
        }
    }
    // The authors' functions, called by themselves, know of no fan-in.
    if let (Some(direct), None) = (direct, ratio) {
        let factor = range.factor(&operands(1)?).unwrap_or(f32::NAN);
        case.same("the factor without a fan-in", f64::from(factor), direct)?;
    }
    let unbound = stages.unbound.ok_or("no factor was recorded")?;
    case.same("the factor", f64::from(factor), unbound)?;
    let config = methods::config(Policy::Range(range))?;
    let incoming = methods::scale_of(methods::incoming(record)?)
        .ok_or("the incoming scale is no scale here")?;
    let shift = methods::decided(case, &config, &operands(fan_in)?, incoming)? / incoming;
    same_scale(case, shift.log2(), unbound, &stages)
}

fn same_scale(case: &mut Case, ours: i32, unbound: f64, stages: &Stages) -> Checked {
    methods::same_scale(case, ours, unbound, stages.last.ok_or("no scale was recorded")?)
}

/// Tells whether a quirk of `element_wise_range` explains what was recorded, and excepts it.
fn is_explained(
    case: &mut Case,
    products: &Products,
    range: &Range,
    fan_in: u32,
    ratio: Option<f64>,
    factor: f32,
    stages: &Stages,
) -> Result<bool, String> {
    if products.0.is_empty() {
        case.equal("the factor of zeros", factor, 1.0)?;
        case.holds("the authors raise", stages.unbound.is_none())?;
        case.except(ALL_ZERO);
        return Ok(true);
    }
    let Some(ratio) = ratio else { return Ok(false) };
    // With the ratio applied here, the recorded factor has to come out; without it, ours.
    let rescued = products.factor(range, fan_in, Some(ratio)).map(f64::from);
    case.equal("the factor of the rescued products", rescued, stages.unbound)?;
    if rescued == Some(f64::from(factor)) {
        return Ok(false);
    }
    case.holds("a ratio asks for less", rescued.is_none_or(|rescued| rescued < f64::from(factor)))?;
    case.except(RESCUE_RATIO);
    Ok(true)
}

/// Returns what the `range` policy decides from.
pub(crate) fn operands(
    method: &str,
    gradient: &Tensor,
    weight: &Tensor,
    fan_in: u32,
) -> Result<Operands, String> {
    match method {
        "abs_range" => {
            let (gradient, weight) = (gradient.statistics(), weight.statistics());
            Ok(Operands::Product { gradient, weight, fan_in })
        }
        "element_wise_range" => {
            let rows = rows(gradient)?;
            let terms = Terms::of(&rows, &weight.halves()?, weight.shape[0], fan_in);
            Ok(Operands::Terms(terms.map_err(|error| error.to_string())?))
        }
        other => Err(format!("unknown method {other}")),
    }
}

/// Returns the gradient with one row per sample or pixel: (N, K, H, W) becomes (N H W, K).
fn rows(gradient: &Tensor) -> Result<Vec<f16>, String> {
    let halves = gradient.halves()?;
    let [n, k, pixels] = match gradient.shape[..] {
        [n, k] => [n, k, 1],
        [n, k, h, w] => [n, k, h * w],
        _ => return Err(format!("a gradient of shape {:?}", gradient.shape)),
    };
    let place = |row: usize, column: usize| (row / pixels * k + column) * pixels + row % pixels;
    Ok((0..n * pixels * k).map(|i| halves[place(i / k, i % k)]).collect())
}

/// The magnitudes of all products whose operands are not zero, one by one.
struct Products(Vec<f32>);

impl Products {
    fn of(gradient: &Tensor, weight: &Tensor) -> Result<Self, String> {
        let inner = weight.shape[0];
        let (gradient, weight) = (rows(gradient)?, weight.values());
        let columns = weight.len() / inner.max(1);
        let mut products = Vec::new();
        for (i, g) in gradient.iter().map(|g| g.to_f32()).enumerate().filter(|(_, g)| *g != 0.0) {
            let row = &weight[i % inner * columns..][..columns];
            products.extend(row.iter().filter(|w| **w != 0.0).map(|w| (g * w).abs()));
        }
        Ok(Self(products))
    }

    /// Returns the authors' factor, or `None` where nothing is left to decide from.
    ///
    /// A ratio keeps that share of the products, those that need the smallest factors.
    fn factor(&self, range: &Range, fan_in: u32, ratio: Option<f64>) -> Option<f32> {
        let mut wanted: Vec<f32> = self.0.iter().map(|p| (range.smallest / p).max(1.0)).collect();
        if let Some(ratio) = ratio {
            wanted.sort_by(f32::total_cmp);
            wanted.truncate((wanted.len() as f64 * ratio) as usize);
        }
        let limit = self.0.iter().map(|p| range.largest / p / fan_in as f32).reduce(f32::min)?;
        Some(wanted.into_iter().reduce(f32::max)?.min(limit))
    }
}
