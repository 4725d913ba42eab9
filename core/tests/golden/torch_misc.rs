//! `torch.amp.GradScaler`: its errors and its state, where they have a counterpart.

use adaloss_core::{
    format::Format,
    policy::{Backoff, Cell, Config, ConfigError, Growth, Policy, step},
    scale::Scale,
};

use crate::{
    exceptions::{DISABLED, GROWTH_OF_ONE, HALF_PARAMETERS, OPTIMIZER_CALLS},
    json::Node,
    report::{Case, Checked},
    torch,
};

/// Checks one record of `dyn_torch_gradscaler_misc`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    match record.optional("raises") {
        Some(_) => error(record, case),
        None => state(record, case),
    }
}

/// What raises, recognised by what PyTorch says.
fn error(record: Node<'_>, case: &mut Case) -> Checked {
    let name = record.field("case")?.text()?;
    let message = record.field("msg")?.text()?;
    let configured =
        |backoff| Config::for_format(Format::BINARY16).with_policy(Policy::Backoff(backoff));
    if message.contains("growth factor must be > 1.0") {
        let backoff = Backoff { growth: setting(name)?, interval: 1, ..Backoff::GRAD_SCALER };
        if backoff.growth == 1.0 {
            let config = configured(backoff).map_err(|error| error.to_string())?;
            let mut cell = config.cell();
            step(&config, true, &mut cell);
            case.equal(
                "the scale that does not grow",
                Growth::of(&cell).real_scale,
                backoff.initial,
            )?;
            case.except(GROWTH_OF_ONE);
            return Ok(());
        }
        case.equal("the error", configured(backoff).err(), Some(ConfigError::Factors))
    } else if message.contains("backoff factor must be < 1.0") {
        let backoff = Backoff { shrink: setting(name)?, ..Backoff::GRAD_SCALER };
        case.equal("the error", configured(backoff).err(), Some(ConfigError::Factors))
    } else if message.contains("source state dict is empty") {
        // An empty state holds no scale; nor do these bytes.
        let config = configured(Backoff::GRAD_SCALER).map_err(|error| error.to_string())?;
        let cell = Cell::from_bytes(&[0; Cell::BYTES]).filter(|cell| cell.is_possible(&config));
        case.equal("the cell of no state", cell, None)
    } else if message.contains("unscale FP16 gradients") {
        case.except(HALF_PARAMETERS);
        Ok(())
    } else if message.contains("has already been called") || message.contains("No inf checks") {
        case.except(OPTIMIZER_CALLS);
        Ok(())
    } else {
        Err(format!("no rule for the error `{message}`"))
    }
}

/// Returns the number in the name of a case, such as `growth_factor=1.0`.
fn setting(name: &str) -> Result<f64, String> {
    let (_, value) = name.split_once('=').ok_or_else(|| format!("no value in `{name}`"))?;
    value.trim_end_matches(')').parse().map_err(|error| format!("{value}: {error}"))
}

/// What a scaler says of itself.
fn state(record: Node<'_>, case: &mut Case) -> Checked {
    let state = record.field("state_dict")?;
    if state.entries()?.is_empty() {
        let one = Config::for_format(Format::BINARY16).with_policy(Policy::Fixed(Scale::ONE));
        let factor = one.map_err(|error| error.to_string())?.cell().scale().factor();
        case.same("the fixed scale", f64::from(factor), record.field("get_scale")?.number()?)?;
        case.same("3 scaled", f64::from(3.0 * factor), record.field("scale(3.0)")?.number()?)?;
        case.except(DISABLED);
        return Ok(());
    }
    let number = |name| state.field(name).and_then(Node::number);
    let backoff = Backoff {
        initial: number("scale")?,
        growth: number("growth_factor")?,
        shrink: number("backoff_factor")?,
        interval: state.field("growth_interval")?.integer()? as u32,
        ..Backoff::GRAD_SCALER
    };
    let name = record.field("case")?.text()?;
    if name.starts_with("defaults") {
        case.equal("the defaults", backoff, Backoff::GRAD_SCALER)?;
        case.same("get_scale", backoff.initial, record.field("get_scale")?.number()?)?;
    } else if name.starts_with("update(new_scale=") {
        let initial = setting(name)?;
        case.equal("a new scale", backoff, Backoff { initial, ..Backoff::GRAD_SCALER })?;
    }
    let config = torch::configure(backoff)?;
    let mut cell = config.cell();
    let tracker = state.field("_growth_tracker")?.integer()?;
    (0..tracker).for_each(|_| step(&config, true, &mut cell));
    let restored = Cell::from_bytes(&cell.to_bytes()).ok_or("a cell does not survive its bytes")?;
    torch::check_state(case, state, &backoff, &restored)?;
    torch::check_power(case, &restored)
}
