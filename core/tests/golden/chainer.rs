//! Chainer's dynamic and static loss scaling, step by step, against `backoff` and `fixed`.

use adaloss_core::{
    policy::{Backoff, Cell, Config, Growth, Policy, step},
    scale::Scale,
};

use crate::{
    exceptions::{NO_STATIC_SCALE, UNCHECKED_STATIC},
    json::Node,
    methods,
    report::{Case, Checked},
    tensor::{Dtype, Tensor},
    torch,
};

/// Checks one record of `dyn_chainer`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let config = configure(record, case)?;
    let mut run = Run {
        cell: config.cell(),
        config,
        optimizer: MomentumSgd::read(record)?,
        has_met_bad_step: false,
    };
    for (i, step) in record.field("steps")?.list()?.into_iter().enumerate() {
        run.step(case, i as u64, step).map_err(|message| format!("step {i}: {message}"))?;
    }
    Ok(())
}

/// Makes the configuration that follows Chainer's arguments.
fn configure(record: Node<'_>, case: &mut Case) -> Result<Config, String> {
    if let Some(factor) = record.optional("static_scale") {
        let factor = factor.number()?;
        let log2 = methods::floor_log2(factor).ok_or("a static scale without a logarithm")?;
        if methods::scale_of(factor).is_none() {
            case.except(NO_STATIC_SCALE);
        }
        let scale = Scale::new(log2).map_err(|error| error.to_string())?;
        return methods::config(Policy::Fixed(scale));
    }
    let backoff = match record.optional("interval") {
        Some(interval) => {
            Backoff::chainer(interval.integer()? as u32).map_err(|e| e.to_string())?
        }
        None => {
            case.holds("the interval is infinite", record.field("interval_is_inf")?.flag()?)?;
            let growing = Backoff::chainer(1).map_err(|error| error.to_string())?;
            Backoff { growth: 1.0, ..growing }
        }
    };
    case.same("2^(1/interval)", backoff.growth, record.field("multiplier")?.scalar()?)?;
    torch::configure(Backoff { cap: record.field("loss_scale_max")?.number()?, ..backoff })
}

/// One training run.
struct Run {
    config: Config,
    cell: Cell,
    optimizer: MomentumSgd,
    has_met_bad_step: bool,
}

impl Run {
    fn step(&mut self, case: &mut Case, index: u64, recorded: Node<'_>) -> Checked {
        let is_static = matches!(self.config.policy(), Policy::Fixed(_));
        let scale = recorded.field("scale_before")?.scalar()?;
        self.check_scale(case, scale)?;
        case.equal("Chainer's counter", index + 1, recorded.field("t")?.integer()?)?;

        let mut gradients = Tensor::read(recorded.field("grad_after_backward")?)?.values();
        if let Some(injected) = recorded.optional("injected") {
            // What the record shows is the gradient before a bad value took its first place.
            let bad = match injected.text()? {
                "inf" => f32::INFINITY,
                "-inf" => f32::NEG_INFINITY,
                "nan" => f32::NAN,
                other => return Err(format!("unknown injection {other}")),
            };
            *gradients.first_mut().ok_or("no gradient")? = bad;
        }
        let usable = gradients.iter().all(|x| x.is_finite());
        self.has_met_bad_step |= !usable;
        let changed = recorded.field("params_changed")?.flag()?;
        let after = Tensor::read(recorded.field("param_after")?)?;
        if is_static && self.has_met_bad_step {
            // Chainer does not look at the gradients of a static scale: the bad value stays in the
            // weights for ever.  Here the step would be skipped.
            let is_broken = after.values().iter().any(|x| !x.is_finite());
            case.holds("a bad value reached the weights", is_broken && changed)?;
            case.except(UNCHECKED_STATIC);
        } else {
            case.equal("the step is applied", usable, changed)?;
            let before = Tensor::read(recorded.field("param_before")?)?;
            self.optimizer.check(case, usable.then_some(&gradients[..]), scale, &before, &after)?;
        }
        step(&self.config, usable, &mut self.cell);
        self.check_scale(case, recorded.field("scale_after")?.scalar()?)
    }

    /// Checks the real scale bit for bit, and the power of two that is applied.
    fn check_scale(&self, case: &mut Case, recorded: f64) -> Checked {
        if let Policy::Fixed(_) = self.config.policy() {
            let log2 = methods::floor_log2(recorded);
            return case.equal("the fixed scale", Some(self.cell.scale().log2()), log2);
        }
        case.same("the real scale", Growth::of(&self.cell).real_scale, recorded)?;
        torch::check_power(case, &self.cell)?;
        case.holds("the power of two is legal", Scale::new(self.cell.scale().log2()).is_ok())
    }
}

/// Chainer's `MomentumSGD` in f32, on f32 parameters or on f32 masters of binary16 parameters.
struct MomentumSgd {
    rate: f32,
    momentum: f32,
    /// Parameters and velocities; empty before the first step.
    params: Vec<f32>,
    velocities: Vec<f32>,
}

impl MomentumSgd {
    fn read(record: Node<'_>) -> Result<Self, String> {
        let notation = record.field("optimizer")?.text()?;
        let setting = |name: &str| {
            let value = notation.split_whitespace().find_map(|word| word.strip_prefix(name));
            let value = value.ok_or_else(|| format!("no {name} in `{notation}`"))?;
            value.parse::<f32>().map_err(|error| format!("{value}: {error}"))
        };
        let is_half = record.field("dtype")?.text()? == "float16";
        if is_half && !record.field("use_fp32_update")?.flag()? {
            return Err(String::from("binary16 parameters are updated with f32 masters only"));
        }
        let (rate, momentum) = (setting("lr=")?, setting("momentum=")?);
        Ok(Self { rate, momentum, params: Vec::new(), velocities: Vec::new() })
    }

    fn check(
        &mut self,
        case: &mut Case,
        gradients: Option<&[f32]>,
        scale: f64,
        before: &Tensor,
        after: &Tensor,
    ) -> Checked {
        if self.params.is_empty() {
            self.params = before.values();
            self.velocities = vec![0.0; self.params.len()];
        }
        case.array("the parameters before", self.bits(before.dtype), before)?;
        if let Some(gradients) = gradients {
            for (i, gradient) in gradients.iter().enumerate() {
                let unscaled = gradient / scale as f32;
                self.velocities[i] = self.momentum * self.velocities[i] - self.rate * unscaled;
                self.params[i] += self.velocities[i];
            }
        }
        case.array("the parameters after", self.bits(after.dtype), after)
    }

    fn bits(&self, dtype: Dtype) -> Vec<u32> {
        self.params.iter().map(|&x| dtype.round(x)).collect()
    }
}
