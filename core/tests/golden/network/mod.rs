//! Whole backward passes: every node from what was recorded of it, and how nodes hang together.

mod arithmetic;
mod flow;
mod layer;
mod normalisation;
mod training;

pub(crate) use self::training::witness;
use self::{flow::Flow, layer::Layer};
use crate::{
    exceptions::{NON_FINITE, UNSCALED_BRANCHES},
    join::{Branches, authors_sum},
    json::Node,
    methods::{self, Stages},
    report::{Case, Checked},
    tensor::Tensor,
};

/// Checks one record of `e2e_mlp` or `e2e_conv`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let mut pass = Pass {
        record,
        cfg: record.field("cfg")?,
        decisions: decisions(record.field("recorder")?)?.into_iter(),
        flow: Flow::default(),
        gradients: Vec::new(),
        input: None,
        join: None,
    };
    for (i, node) in record.field("backward")?.list()?.into_iter().enumerate() {
        let name = node.field("node")?.text()?;
        let checked = match name {
            "LossScaling" => pass.loss(case, node),
            "AdaLossLinearFunction" | "AdaLossConvolution2DFunction" => pass.layer(case, node),
            "AdaLossBatchNormalization" => pass.normalisation(case, node),
            "AdaLossBranch.enter" => pass.enter_join(case, node),
            "AdaLossBranch" => pass.join(case, node),
            _ => Err(String::from("no rule for this node")),
        };
        checked.map_err(|message| format!("node {i}, {name}: {message}"))?;
    }
    if record.optional("raises").is_some() { pass.raised(case) } else { pass.finish(case) }
}

/// One backward pass on its way.
struct Pass<'a> {
    record: Node<'a>,
    cfg: Node<'a>,
    decisions: std::vec::IntoIter<Stages>,
    flow: Flow,
    /// Weight gradients by the parameter's path; those of a normalisation, whose parameters are
    /// not recorded, by the last word of it.
    gradients: Vec<(String, Tensor)>,
    /// The input of the last layer that was visited.
    input: Option<Tensor>,
    /// The branches that entered a join, until it leaves.
    join: Option<Branches>,
}

impl Pass<'_> {
    /// The loss scaling multiplies the gradient of the model's output, in binary16.
    fn loss(&mut self, case: &mut Case, node: Node<'_>) -> Checked {
        let gradient = Tensor::read(node.field("g")?)?;
        let scale = node.field("init_scale")?.number()?;
        if let Some(given) = self.record.optional("y_grad") {
            let given = Tensor::read(given)?.values();
            let scaled = given.into_iter().map(|g| gradient.dtype.round(g * scale as f32));
            case.array("the scaled gradient", scaled, &gradient)?;
        }
        if let Some(loss) = training::Loss::read(self.record)? {
            let y = Tensor::read(self.record.field("y")?)?;
            loss.check(case, &y, &gradient)?;
        }
        self.flow.leave(gradient, scale, None);
        Ok(())
    }

    fn layer(&mut self, case: &mut Case, node: Node<'_>) -> Checked {
        let layer = Layer::read(node, self.record.field("params")?)?;
        self.flow.take(case, &layer.gy, layer.incoming)?;
        let stages = self.decisions.next().ok_or("fewer decisions than layers")?;
        layer.check(case, self.cfg, node, &stages)?;
        self.input = Some(layer.x.clone());
        let gx = Tensor::read(node.field("gx")?)?;
        self.flow.leave(gx, node.field("accum_scale")?.scalar()?, Some(layer.x.values()));
        let param = node.field("param")?.text()?;
        self.gradients.push((param.to_owned(), Tensor::read(node.field("gW")?)?));
        if let (Some(bias), Some(folder)) = (node.optional("gb"), param.strip_suffix('W')) {
            self.gradients.push((format!("{folder}b"), Tensor::read(bias)?));
        }
        Ok(())
    }

    fn normalisation(&mut self, case: &mut Case, node: Node<'_>) -> Checked {
        let scale = node.field("prev_scale")?.scalar()?;
        self.flow.take(case, &Tensor::read(node.field("gy")?)?, scale)?;
        normalisation::check(case, node)?;
        self.flow.leave(Tensor::read(node.field("gx")?)?, scale, None);
        for (name, field) in [("gamma", "ggamma_unscaled"), ("beta", "gbeta_unscaled")] {
            self.gradients.push((name.to_owned(), Tensor::read(node.field(field)?)?));
        }
        Ok(())
    }

    fn enter_join(&mut self, case: &mut Case, node: Node<'_>) -> Checked {
        let branches = Branches::read(node.field("g_in")?, node.field("scales")?)?;
        for (gradient, scale) in branches.gradients.iter().zip(&branches.scales) {
            self.flow.take(case, gradient, f64::from(scale.factor()))?;
        }
        self.join = Some(branches);
        Ok(())
    }

    fn join(&mut self, case: &mut Case, node: Node<'_>) -> Checked {
        let branches = self.join.take().ok_or("a join that nothing entered")?;
        let rescaled = Tensor::read_list(node.field("g_in_after_rescale")?)?;
        let sum = Tensor::read(node.field("g_out")?)?;
        let recorded = node.field("target_scale")?.scalar()?;
        let target = branches.target().ok_or("core finds no target")?;
        let is_left_alone = methods::name(self.cfg)? != "approx_range"
            && branches.scales.iter().any(|&scale| scale != branches.scales[0]);
        if is_left_alone {
            let tag = f64::from(branches.scales[0].factor());
            case.same("the scale of the first branch", tag, recorded)?;
            for (before, after) in branches.gradients.iter().zip(&rescaled) {
                case.array("a branch left alone", before.bits.clone(), after)?;
            }
            let values: Vec<_> = rescaled.iter().map(Tensor::values).collect();
            let sums =
                (0..sum.len()).map(|i| authors_sum(sum.dtype, values.iter().map(|v| v[i])).0);
            case.array("the sum of different scales", sums.map(|x| sum.dtype.round(x)), &sum)?;
            case.except(UNSCALED_BRANCHES);
        } else {
            case.same("the target", f64::from(target.factor()), recorded)?;
            for (i, result) in rescaled.iter().enumerate() {
                case.array(format_args!("branch {i}"), branches.rescaled(i, target), result)?;
            }
            branches.check_sum(case, &rescaled, target, &sum)?;
        }
        let activation = self.flow.activation(&branches.gradients);
        self.flow.leave(sum, recorded, activation);
        Ok(())
    }

    /// A pass that raised ended at a gradient which is not finite.
    fn raised(self, case: &mut Case) -> Checked {
        let (gradient, _) = self.flow.last().ok_or("no gradient was left")?;
        case.holds("the last gradient is not finite", !gradient.max_abs().is_finite())?;
        case.except(NON_FINITE);
        Ok(())
    }

    /// Checks what is left at the end: the input's gradient and every parameter's.
    fn finish(mut self, case: &mut Case) -> Checked {
        case.holds("every decision was visited", self.decisions.next().is_none())?;
        let (gradient, scale) = self.flow.last().ok_or("no gradient was left")?;
        let x_grad = Tensor::read(self.record.field("x_grad")?)?;
        case.array("the input's gradient", gradient.bits.clone(), &x_grad)?;
        let input = self.input.take().ok_or("no layer was visited")?;
        let x = Tensor::read(self.record.field("x")?)?;
        case.array("the input of the first layer", input.bits, &x)?;
        case.same("its scale", scale, self.record.field("x_grad_loss_scale")?.scalar()?)?;
        for recorded in self.record.field("grads")?.entries()? {
            let path = recorded.name();
            let tensor = Tensor::read(recorded)?;
            let is_it = |(name, gradient): &(String, Tensor)| {
                let is_named = name == path || path.rsplit('/').next() == Some(name.as_str());
                is_named && gradient.bits == tensor.bits
            };
            case.holds(format_args!("{path} was computed"), self.gradients.iter().any(is_it))?;
        }
        match self.record.optional("train") {
            Some(train) => training::check(case, self.record, train),
            None => Ok(()),
        }
    }
}

/// Reads what the authors' recorder noted: a list of (function, stage, factor) in which each
/// decision begins with its unbound factor.
fn decisions(recorder: Node<'_>) -> Result<Vec<Stages>, String> {
    let mut decisions: Vec<Stages> = Vec::new();
    let mut floored = None;
    for entry in recorder.list()? {
        let entry = entry.list()?;
        let [_, stage, factor] = entry[..] else {
            return Err(String::from("a recorder's entry is no triple"));
        };
        let factor = Some(factor.scalar()?);
        if stage.text()? == "unbound" {
            floored = None;
            decisions.push(Stages { unbound: factor, bound: None, last: None });
            continue;
        }
        let decision = decisions.last_mut().ok_or("a stage without a decision")?;
        match stage.text()? {
            "bound" => decision.bound = factor,
            "final" => decision.last = factor,
            "power_of_two" => floored = factor,
            other => return Err(format!("unknown stage {other}")),
        }
        if stage.text()? == "final" && floored.is_some() && floored != factor {
            return Err(String::from("the applied factor is not the floored one"));
        }
    }
    Ok(decisions)
}
