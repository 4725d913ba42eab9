//! `approx_range` on the layers of the authors' ResNet-20: statistics in, scale out.

use adaloss_core::{policy::Operands, statistics::Statistics};

use crate::{
    json::Node,
    methods::{self, Stages},
    report::{Case, Checked},
    tensor::read_shape,
};

/// Checks one record of `resnet20_layer_stats`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let model = methods::normal(case, record.field("cfg")?)?;
    let fan_in = methods::fan_in(&read_shape(record.field("W_shape")?)?);
    case.equal("the fan-in", f64::from(fan_in), record.field("fan_in")?.number()?)?;
    let operands = Operands::Product {
        gradient: statistics(record.field("g_stats")?)?,
        weight: statistics(record.field("W_stats")?)?,
        fan_in,
    };
    let incoming = methods::incoming(record)?;
    let last = record.field("scale")?.scalar()?;
    let accumulated = record.field("accum_scale")?.scalar()?;
    case.same("the product of the recorded scales", last * incoming, accumulated)?;
    let stages = Stages { last: Some(last), ..Stages::read(record)? };
    methods::check_normal(case, model, &operands, incoming, &stages)
}

/// Makes statistics with the recorded mean, deviation and extremes.
///
/// Two values, mean plus and minus deviation, have just these moments; what f32 rounds off them is
/// below 1e-7 of the second moment, from which alone the model decides.
fn statistics(recorded: Node<'_>) -> Result<Statistics, String> {
    let number = |name| recorded.field(name).and_then(Node::scalar);
    let (mean, deviation) = (number("mean_f32")?, number("std_f32")?);
    let mut statistics = Statistics::EMPTY;
    for x in [mean - deviation, mean + deviation] {
        if x.is_finite() {
            statistics.moments.add(x as f32);
        } else {
            statistics.nonfinite += 1;
        }
    }
    statistics.zero = recorded.field("n_zero")?.integer()?;
    if let Some(least) = recorded.optional("absmin_nz") {
        statistics.min_bits = (least.scalar()? as f32).to_bits();
        statistics.max_bits = (number("absmax")? as f32).to_bits();
    }
    Ok(statistics)
}
