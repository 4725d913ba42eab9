//! `update_per_n_iteration`: one cell over many visits, deciding at every n-th.

use adaloss_core::{
    apply::Apply,
    format::{Noise, f16},
    policy::{
        Cell, Config, Factor, Normal, Operands, Policy, Rule, decide_from_operands, due, note,
        outgoing,
    },
    scale::Scale,
    statistics::Outcome,
};
use adaloss_oracle::tolerance::GAUSSIAN_FACTOR;

use crate::{
    approximate,
    exceptions::SHARED_STATE,
    join::Branches,
    json::Node,
    methods::{self, Stages},
    report::{Case, Checked},
    tensor::Tensor,
};

/// Checks one record of `update_per_n`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let model = methods::normal(case, record.field("cfg")?)?;
    let period = record.field("period")?.integer()? as u32;
    let config = methods::config(Policy::Normal(model))?;
    let config = config.with_period(period).map_err(|error| error.to_string())?;
    let mut visits = Visits { model, cell: config.cell(), config, count: 0, stored_by_join: false };
    for (i, step) in record.field("steps")?.list()?.into_iter().enumerate() {
        let checked = match step.optional("op").map(Node::text).transpose()? {
            None | Some("get_loss_scale") => visits.layer(case, step),
            Some("rescaling") => visits.join(case, step),
            Some(other) => Err(format!("unknown operation {other}")),
        };
        checked.map_err(|message| format!("step {i}: {message}"))?;
    }
    Ok(())
}

/// A cell and what the authors' object would remember beside it.
struct Visits {
    config: Config,
    model: Normal,
    cell: Cell,
    /// The authors' `cur_iter`: calls of `get_loss_scale` so far.
    count: u64,
    /// Whether the last factor that their object stored is the target of a join (Q6).
    stored_by_join: bool,
}

impl Visits {
    /// Visits a layer as a training loop does: decide where it is due, narrow, take note.
    fn layer(&mut self, case: &mut Case, step: Node<'_>) -> Checked {
        let gradient = Tensor::read(step.field("g")?)?;
        let weight = step.optional("W").map(Tensor::read).transpose()?;
        let operands = approximate::operands(&gradient, weight.as_ref(), false);
        let incoming = methods::scale_of(methods::incoming(step)?)
            .ok_or("the incoming scale is no scale here")?;

        let is_due = due(&self.config, &self.cell).is_some();
        case.equal("whether the cell is due", is_due, self.count.is_multiple_of(self.period()))?;
        if let Some(recorded) = step.optional("is_updating_before") {
            case.equal("whether the authors update", is_due, recorded.flag()?)?;
        }
        if step.optional("raises").is_some() {
            return self.raised(case, &operands, incoming);
        }
        if is_due {
            decide_from_operands(&self.config, &operands, incoming, &mut self.cell);
            self.stored_by_join = false;
        }
        let scale = outgoing(&self.config, &self.cell, incoming);
        self.narrow(&gradient, incoming, scale)?;
        self.count += 1;
        case.equal("the number of visits", self.count, step.field("cur_iter_after")?.integer()?)?;
        if self.stored_by_join {
            // Their object would now reuse the target of a join.
            case.except(SHARED_STATE);
            return Ok(());
        }
        self.check_scale(case, step, (scale / incoming).log2(), incoming)
    }

    fn period(&self) -> u64 {
        u64::from(self.config.period())
    }

    /// A call that raises is no visit: the cell decides again at the next one.
    fn raised(&mut self, case: &mut Case, operands: &Operands, incoming: Scale) -> Checked {
        let certificate = decide_from_operands(&self.config, operands, incoming, &mut self.cell);
        case.equal("the rule", certificate.rule, Rule::NonFinite)
    }

    fn narrow(&mut self, gradient: &Tensor, incoming: Scale, scale: Scale) -> Checked {
        let values = gradient.values();
        let (mut narrowed, mut outcome) = (vec![f16::ZERO; values.len()], Outcome::EMPTY);
        let narrowing = self.config.narrowing();
        let apply = Apply { narrowing, shift: scale / incoming, noise: Noise::default() };
        apply.slice(&values, &mut narrowed, 0, &mut outcome).map_err(|e| e.to_string())?;
        note(&self.config, &outcome, incoming, &mut self.cell);
        Ok(())
    }

    /// Checks the factor that is kept and the scale that follows from it at this visit.
    fn check_scale(
        &self,
        case: &mut Case,
        step: Node<'_>,
        shift_log2: i32,
        incoming: Scale,
    ) -> Checked {
        let result = step.field("result")?.scalar()?;
        let kept = Factor::of(&self.cell).factor;
        let stages = match step.optional("stages") {
            Some(stages) => Stages::read(stages)?,
            None => {
                // Without stages, what is stored is at least recorded.
                let stored = step.field("loss_scales_after")?.scalars()?;
                let unbound = stored.last().copied();
                Stages { unbound, bound: None, last: Some(result) }
            }
        };
        let unbound = stages.unbound.ok_or("no factor was recorded")?;
        case.close("the factor kept", kept, unbound, &GAUSSIAN_FACTOR)?;
        let bounded = f64::from(self.model.bounded(kept as f32, incoming));
        let bound = stages.bound.unwrap_or(bounded);
        case.close("the bound factor", bounded, bound, &GAUSSIAN_FACTOR)?;
        methods::same_scale(case, shift_log2, bound, result)
    }

    /// Visits a join, which here has a state of its own and always decides.
    fn join(&mut self, case: &mut Case, step: Node<'_>) -> Checked {
        let branches = Branches::read(step.field("g")?, step.field("scales")?)?;
        let target = branches.target().ok_or("core finds no target")?;
        case.equal("the number of visits", self.count, step.field("cur_iter_after")?.integer()?)?;
        let new_scales = step.field("new_scales")?.scalars()?;
        let stored = step.field("loss_scales_after")?.scalars()?;
        case.holds("the authors use what they stored", new_scales.last() == stored.last())?;
        if !self.count.is_multiple_of(self.period()) {
            // Between updates the authors take the last stored factor for the target.
            let same = new_scales.iter().all(|&scale| scale == f64::from(target.factor()));
            if !same {
                case.except(SHARED_STATE);
                return Ok(());
            }
        } else {
            self.stored_by_join = true;
        }
        for scale in new_scales {
            case.same("the target", f64::from(target.factor()), scale)?;
        }
        for (i, result) in Tensor::read_list(step.field("result")?)?.iter().enumerate() {
            case.array(format_args!("branch {i}"), branches.rescaled(i, target), result)?;
        }
        Ok(())
    }
}
