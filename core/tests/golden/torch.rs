//! `torch.amp.GradScaler`, step by step, against the `backoff` policy.

use adaloss_core::{
    format::Format,
    policy::{Backoff, Cell, Config, Growth, Policy, step},
    propagate::Scaled,
    unscale::unscale,
};

use crate::{
    exceptions::{BEYOND_SCALES, ROUNDED_SCALE},
    json::Node,
    methods,
    report::{Case, Checked},
};

/// Checks one record of `dyn_torch_gradscaler`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let backoff = Backoff {
        initial: record.field("init_scale")?.scalar()?,
        growth: record.field("growth_factor")?.number()?,
        shrink: record.field("backoff_factor")?.number()?,
        interval: record.field("growth_interval")?.integer()? as u32,
        ..Backoff::GRAD_SCALER
    };
    let initial = backoff.initial.clamp(backoff.floor, backoff.cap);
    if initial != backoff.initial {
        case.except(BEYOND_SCALES);
    }
    let backoff = Backoff { initial, ..backoff };
    let mut run = Run::new(backoff, record.field("explicit_unscale")?.flag()?)?;
    let mut optimizer = Sgd::read(record.field("optimizer")?.text()?)?;
    for (i, step) in record.field("steps")?.list()?.into_iter().enumerate() {
        run.step(case, step, &mut optimizer).map_err(|message| format!("step {i}: {message}"))?;
    }
    Ok(())
}

/// Makes a configuration for a whole model under `backoff`.
pub(crate) fn configure(backoff: Backoff) -> Result<Config, String> {
    let config = Config::for_format(Format::BINARY16).with_policy(Policy::Backoff(backoff));
    config.map_err(|error| error.to_string())
}

/// Checks a recorded state dictionary against the policy and its cell.
pub(crate) fn check_state(
    case: &mut Case,
    state: Node<'_>,
    backoff: &Backoff,
    cell: &Cell,
) -> Checked {
    let number = |name| {
        let node = state.field(name)?;
        node.number().or_else(|_| node.scalar())
    };
    case.same("scale", Growth::of(cell).real_scale, number("scale")?)?;
    case.same("growth_factor", backoff.growth, number("growth_factor")?)?;
    case.same("backoff_factor", backoff.shrink, number("backoff_factor")?)?;
    case.same("growth_interval", f64::from(backoff.interval), number("growth_interval")?)?;
    case.same(
        "_growth_tracker",
        f64::from(Growth::of(cell).clean_steps),
        number("_growth_tracker")?,
    )
}

/// Checks that the power of two that is applied is the greatest below the real scale.
pub(crate) fn check_power(case: &mut Case, cell: &Cell) -> Checked {
    let log2 = methods::floor_log2(Growth::of(cell).real_scale);
    case.equal("the power of two", Some(cell.scale().log2()), log2)
}

/// One training run.
struct Run {
    backoff: Backoff,
    config: Config,
    cell: Cell,
    explicit_unscale: bool,
}

impl Run {
    fn new(backoff: Backoff, explicit_unscale: bool) -> Result<Self, String> {
        let config = configure(backoff)?;
        Ok(Self { backoff, config, cell: config.cell(), explicit_unscale })
    }

    fn step(&mut self, case: &mut Case, recorded: Node<'_>, optimizer: &mut Sgd) -> Checked {
        let before = recorded.field("scale_before")?.scalar()?;
        let after = recorded.field("scale_after")?.scalar()?;
        self.check_scale(case, before)?;

        let scaled = floats(recorded.field("grads_scaled")?)?;
        let unscaled = unscaled(case, &scaled, before)?;
        let usable = unscaled.iter().all(|x| x.is_finite());
        let kept = recorded.field("grads_after_step_call")?;
        check_floats(case, "an unscaled gradient", &unscaled, &floats(kept)?)?;
        let seen = if self.explicit_unscale { &unscaled } else { &scaled };
        let recorded_seen = floats(recorded.field("grads_seen_before_step_call")?)?;
        check_floats(case, "a gradient before the step", seen, &recorded_seen)?;

        let params = floats(recorded.field("params_after")?)?;
        optimizer.check(case, usable.then_some(&unscaled[..]), &params)?;
        case.equal("the step is applied", usable, recorded.field("params_changed")?.flag()?)?;

        step(&self.config, usable, &mut self.cell);
        let tracker = recorded.field("growth_tracker_after")?.integer()?;
        case.equal("the growth tracker", u64::from(Growth::of(&self.cell).clean_steps), tracker)?;
        self.follow(case, before, after)?;
        check_power(case, &self.cell)?;
        if Growth::of(&self.cell).real_scale == after {
            check_state(case, recorded.field("state_dict_after")?, &self.backoff, &self.cell)?;
        }
        Ok(())
    }

    /// Checks the real scale, bit for bit; a scale that is not legal here is held at its bound.
    fn check_scale(&self, case: &mut Case, recorded: f64) -> Checked {
        case.same("the real scale", Growth::of(&self.cell).real_scale, self.bounded(recorded))
    }

    fn bounded(&self, scale: f64) -> f64 {
        scale.clamp(self.backoff.floor, self.backoff.cap)
    }

    /// Takes over what only PyTorch does to its scale: it is an f32, and may leave the legal range.
    fn follow(&mut self, case: &mut Case, before: f64, after: f64) -> Checked {
        let ours = Growth::of(&self.cell).real_scale;
        if ours == after {
            return Ok(());
        }
        let in_f32 = |scale: f64| f64::from(scale as f32);
        let (is_explained, reason) = if self.bounded(before) != before {
            let factors = [1.0, self.backoff.growth, self.backoff.shrink];
            (factors.iter().any(|factor| in_f32(before * factor) == after), BEYOND_SCALES)
        } else if self.bounded(after) != after {
            (ours == self.bounded(after), BEYOND_SCALES)
        } else {
            (in_f32(ours) == after, ROUNDED_SCALE)
        };
        case.holds(format_args!("a scale of {ours:e} becomes {after:e} in PyTorch"), is_explained)?;
        case.except(reason);
        self.restart(self.bounded(after))
    }

    /// Puts a cell with as many clean steps at another scale.
    fn restart(&mut self, scale: f64) -> Checked {
        let clean_steps = Growth::of(&self.cell).clean_steps;
        let config = configure(Backoff { initial: scale, ..self.backoff })?;
        self.cell = config.cell();
        (0..clean_steps).for_each(|_| step(&config, true, &mut self.cell));
        Ok(())
    }
}

/// Unscales with core where PyTorch's scale is a scale here, else with PyTorch's own arithmetic:
/// the inverse in f64, rounded to f32.
fn unscaled(case: &mut Case, scaled: &[f32], scale: f64) -> Result<Vec<f32>, String> {
    let Some(scale) = methods::scale_of(scale) else {
        return Ok(scaled.iter().map(|x| x * (1.0 / scale) as f32).collect());
    };
    let mut unscaled = vec![0.0; scaled.len()];
    let met = unscale(Format::BINARY32, Scaled::new(scaled, scale), &mut unscaled);
    let nonfinite = scaled.iter().filter(|x| !x.is_finite()).count() as u64;
    case.equal("non-finite gradients", met.map_err(|e| e.to_string())?.nonfinite, nonfinite)?;
    Ok(unscaled)
}

fn floats(node: Node<'_>) -> Result<Vec<f32>, String> {
    Ok(node.scalars()?.into_iter().map(|x| x as f32).collect())
}

fn check_floats(case: &mut Case, what: &str, ours: &[f32], recorded: &[f32]) -> Checked {
    case.equal("the number of gradients", ours.len(), recorded.len())?;
    let mut pairs = ours.iter().zip(recorded);
    pairs.try_for_each(|(&ours, &recorded)| case.same(what, f64::from(ours), f64::from(recorded)))
}

/// PyTorch's SGD in f32, with or without momentum.
struct Sgd {
    rate: f32,
    momentum: f32,
    /// Parameters and buffers; empty until they are known, for the first ones are not recorded.
    params: Vec<f32>,
    buffers: Vec<f32>,
}

impl Sgd {
    /// Reads the notation `sgdm lr=0.125 momentum=0.5`.
    fn read(notation: &str) -> Result<Self, String> {
        let setting = |name: &str| {
            let value = notation.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.map(|value| value.parse::<f32>().map_err(|error| format!("{value}: {error}")))
        };
        let rate = setting("lr=").ok_or_else(|| format!("no rate in `{notation}`"))??;
        let momentum = setting("momentum=").transpose()?.unwrap_or(0.0);
        Ok(Self { rate, momentum, params: Vec::new(), buffers: Vec::new() })
    }

    /// Steps with the gradients of a usable step, and checks the parameters after it.
    fn check(&mut self, case: &mut Case, gradients: Option<&[f32]>, recorded: &[f32]) -> Checked {
        if let Some(gradients) = gradients {
            if self.buffers.is_empty() {
                self.buffers = gradients.to_vec();
            } else {
                for (buffer, gradient) in self.buffers.iter_mut().zip(gradients) {
                    *buffer = self.momentum * *buffer + gradient;
                }
            }
            for (param, buffer) in self.params.iter_mut().zip(&self.buffers) {
                *param -= self.rate * buffer;
            }
        }
        if self.params.is_empty() {
            self.params = recorded.to_vec();
        }
        check_floats(case, "a parameter", &self.params, recorded)
    }
}
