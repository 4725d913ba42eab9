//! The cast node end to end: an f32 gradient in, a binary16 gradient and its scale out.

use adaloss_core::{
    apply::Apply,
    format::{Format, Narrowing, Noise, f16},
    policy::Policy,
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use crate::{
    approximate,
    exceptions::NON_FINITE,
    json::Node,
    methods::{self, Stages},
    report::{Case, Checked},
    tensor::Tensor,
};

const NARROWING: Narrowing = Narrowing::to(Format::BINARY16);

/// Checks one record of `cast_function`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let cfg = record.field("cfg")?;
    let gradient = Tensor::read(record.field("gy")?)?;
    let stages = Stages::read(record.field("stages")?)?;
    let operands = approximate::operands(&gradient, None, record.field("lognormal")?.flag()?);
    let incoming = methods::scale_of(methods::incoming(record)?)
        .ok_or("the incoming scale is no scale here")?;

    let model = methods::normal(case, cfg)?;
    let policy = match methods::name(cfg)? {
        "fixed" => Policy::Fixed(methods::fixed(case, cfg, incoming, &stages)?),
        "approx_range" => {
            let previous = f64::from(incoming.factor());
            methods::check_normal(case, model, &operands, previous, &stages)?;
            Policy::Normal(model)
        }
        other => return Err(format!("no rule for the method {other}")),
    };
    if gradient.statistics().nonfinite > 0 {
        // Checked above; no scale came of it, so that nothing was cast.
        case.except(NON_FINITE);
        return case.holds("nothing was cast", record.optional("gx").is_none());
    }
    let outgoing = methods::decided(case, &methods::config(policy)?, &operands, incoming)?;
    let factor = f64::from(outgoing.factor());
    case.same("the outgoing scale", factor, record.field("gx_loss_scale")?.scalar()?)?;
    check_narrowing(record, case, &gradient, incoming, outgoing)
}

/// Checks the bits, the counts of what narrowing did, and what the histogram promised before.
fn check_narrowing(
    record: Node<'_>,
    case: &mut Case,
    gradient: &Tensor,
    incoming: Scale,
    outgoing: Scale,
) -> Checked {
    let values = gradient.values();
    let mut histogram = Histogram::new(NARROWING);
    histogram.observe(&values, incoming);
    for (scale, zeros) in [(incoming, "n_zero_gx_unscaled_cast"), (outgoing, "n_zero_gx")] {
        let apply =
            Apply { narrowing: NARROWING, shift: scale / incoming, noise: Noise::default() };
        let (mut narrowed, mut outcome) = (vec![f16::ZERO; values.len()], Outcome::EMPTY);
        apply.slice(&values, &mut narrowed, 0, &mut outcome).map_err(|e| e.to_string())?;
        let recorded_zeros = record.field(zeros)?.integer()?;
        case.equal(zeros, outcome.zero + outcome.underflow, recorded_zeros)?;
        case.equal("the promised underflow", histogram.underflow(scale), outcome.underflow)?;
        case.equal("the promised overflow", histogram.overflow(scale), outcome.overflow)?;
        if scale == outgoing {
            let recorded = Tensor::read(record.field("gx")?)?;
            case.array("gx", narrowed.iter().map(|x| u32::from(x.to_bits())), &recorded)?;
        }
    }
    Ok(())
}
