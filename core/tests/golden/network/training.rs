//! A few optimizer steps of a multilayer perceptron: forward, loss, backward, f32 masters.

pub(crate) mod witness;

use adaloss_core::{
    format::{Element, Format, Narrowing, dot, f16},
    policy::{Config, Policy},
    scale::Scale,
};
use adaloss_oracle::tolerance::{SOFTMAX, TRAINING};

use super::arithmetic::{self, narrow};
use crate::{
    approximate,
    json::Node,
    methods,
    report::{Case, Checked},
    tensor::{Dtype, Tensor},
};

const NARROWING: Narrowing = Narrowing::to(Format::BINARY16);

/// Checks the recorded steps of a record's `train`.
pub(super) fn check(case: &mut Case, record: Node<'_>, train: Node<'_>) -> Checked {
    let model = methods::normal(case, record.field("cfg")?)?;
    let config = methods::config(Policy::Normal(model))?;
    let optimizer = train.field("optimizer")?.text()?;
    let mut network = Network::read(record, optimizer)?;
    for (i, step) in train.field("steps")?.list()?.into_iter().enumerate() {
        let scales = network.step(case, &config)?;
        let recorded = step.field("final_scales")?.scalars()?;
        let scales: Vec<f64> = scales.iter().map(|scale| f64::from(scale.factor())).collect();
        case.equal(format_args!("step {i}: the scales"), scales, recorded)?;
        network.compare(case, step).map_err(|message| format!("step {i}: {message}"))?;
    }
    Ok(())
}

/// The mean softmax cross entropy, times a factor, and the scale that its gradient is given.
pub(super) struct Loss {
    labels: Vec<usize>,
    factor: f32,
    init_scale: f64,
    /// Whether logarithms are off by a unit.
    is_moved: bool,
}

impl Loss {
    /// Reads the loss of a record, or `None` where the gradient of the output is given.
    pub(super) fn read(record: Node<'_>) -> Result<Option<Self>, String> {
        let Some(labels) = record.optional("labels") else { return Ok(None) };
        let labels = labels.list()?.into_iter().map(|label| label.integer().map(|l| l as usize));
        Ok(Some(Self {
            labels: labels.collect::<Result<_, _>>()?,
            factor: record.field("ymul")?.number()? as f32,
            init_scale: record.field("init_scale")?.number()?,
            is_moved: false,
        }))
    }

    /// Checks a recorded gradient of the output.
    pub(super) fn check(&self, case: &mut Case, y: &Tensor, recorded: &Tensor) -> Checked {
        let ours = self.elements(y);
        case.equal("elements of the loss gradient", ours.len(), recorded.len())?;
        for (ours, recorded) in ours.into_iter().zip(recorded.values()) {
            let bound = ours.reach + half_ulp(ours.value) + half_ulp(recorded);
            let (ours, recorded) = (f64::from(ours.value), f64::from(recorded));
            case.within("the loss gradient", ours, recorded, bound, &SOFTMAX)?;
        }
        Ok(())
    }

    /// Returns the gradient of the output, each operation rounded to binary16.
    fn gradient(&self, y: &Tensor) -> Tensor {
        let values: Vec<f32> = self.elements(y).iter().map(|element| element.value).collect();
        Tensor::round(Dtype::F16, &y.shape, &values)
    }

    /// Returns the gradient with what its roundings, but for the last one, may move each element.
    fn elements(&self, y: &Tensor) -> Vec<Rounded> {
        let half = |x: f32| narrow(x).widen();
        let exp = |x: f32| half(f64::from(x).exp() as f32);
        let share = half((f64::from(half(self.factor)) / self.labels.len() as f64) as f32);
        let scale = self.init_scale as f32;
        let mut elements = Vec::with_capacity(y.len());
        for (row, &label) in y.values().chunks(y.shape[1]).zip(&self.labels) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let terms: Vec<f32> = row.iter().map(|&x| exp(half(x - max))).collect();
            let sum = f64::from(half(arithmetic::pairwise(&terms)));
            let log = half(max + half(sum.ln() as f32));
            let log = if self.is_moved { next_up(log) } else { log };
            for (i, &x) in row.iter().enumerate() {
                let exponent = half(x - log);
                let probability = exp(exponent);
                let error = if i == label { half(probability - 1.0) } else { probability };
                let gradient = half(error * share);
                // Each may round to the neighbour, a unit away.
                let moved = (2.0 * (half_ulp(log) + half_ulp(exponent))).exp_m1();
                let reach = f64::from(probability) * moved + 2.0 * half_ulp(probability);
                let reach = (reach + 2.0 * half_ulp(error)) * f64::from(share);
                let reach = (reach + 2.0 * half_ulp(gradient)) * self.init_scale;
                elements.push(Rounded { value: half(gradient * scale), reach });
            }
        }
        elements
    }
}

/// An element of a gradient, and how far off it may be.
struct Rounded {
    value: f32,
    reach: f64,
}

fn half_ulp(x: f32) -> f64 {
    Dtype::F16.half_ulp(x)
}

/// Returns the next number of binary16 above a positive one.
fn next_up(x: f32) -> f32 {
    f16::from_bits(narrow(x).to_bits() + 1).to_f32()
}

/// A chain of linear layers with ReLU between them.
struct Network {
    x: Tensor,
    loss: Loss,
    rate: f32,
    momentum: f32,
    params: Vec<Param>,
}

/// A parameter in binary16, with its f32 master and velocity.
struct Param {
    path: String,
    stored: Tensor,
    master: Vec<f32>,
    velocity: Vec<f32>,
}

impl Param {
    fn new(path: &str, stored: Tensor) -> Self {
        let (master, velocity) = (stored.values(), vec![0.0; stored.len()]);
        Self { path: path.to_owned(), stored, master, velocity }
    }

    fn compare_masters(&self, case: &mut Case, recorded: impl Iterator<Item = f32>) -> Checked {
        let velocity = self.velocity.iter().fold(0.0_f64, |max, v| max.max(v.abs().into()));
        for (&ours, recorded) in self.master.iter().zip(recorded) {
            let what = format_args!("{}'s master", self.path);
            case.within(what, ours.into(), recorded.into(), velocity, &TRAINING)?;
        }
        Ok(())
    }
}

impl Network {
    fn read(record: Node<'_>, optimizer: &str) -> Result<Self, String> {
        let setting = |name: &str| {
            let value = optimizer.split(['(', ',', ' ', ')']).find_map(|w| w.strip_prefix(name));
            let value = value.ok_or_else(|| format!("no {name} in `{optimizer}`"))?;
            value.parse::<f32>().map_err(|error| format!("{value}: {error}"))
        };
        if record.path(&["model", "type"])?.text()? != "mlp" {
            return Err(String::from("no rule for training this network"));
        }
        let mut params = Vec::new();
        for param in record.field("params")?.entries()? {
            params.push(Param::new(param.name(), Tensor::read(param)?));
        }
        Ok(Self {
            x: Tensor::read(record.field("x")?)?,
            loss: Loss::read(record)?.ok_or("training without labels")?,
            rate: setting("lr=")?,
            momentum: setting("momentum=")?,
            params,
        })
    }

    fn param(&self, path: &str) -> Option<&Tensor> {
        self.params.iter().find(|param| param.path == path).map(|param| &param.stored)
    }

    fn weight(&self, layer: usize) -> Result<&Tensor, String> {
        let path = format!("/l{layer}/W");
        self.param(&path).ok_or_else(|| format!("no parameter {path}"))
    }

    /// Runs one step and returns the scales that the layers left with, in backward order.
    fn step(&mut self, case: &mut Case, config: &Config) -> Result<Vec<Scale>, String> {
        let layers = (1..).take_while(|&layer| self.weight(layer).is_ok()).count();
        let mut inputs = vec![self.x.clone()];
        for layer in 1..=layers {
            inputs.push(self.forward(&inputs[layer - 1], layer, layer < layers)?);
        }
        let mut gradient = self.loss.gradient(&inputs[layers]);
        let mut scale =
            methods::scale_of(self.loss.init_scale).ok_or("an initial scale that is none")?;
        let (mut scales, mut gradients) = (Vec::new(), Vec::new());
        for layer in (1..=layers).rev() {
            let x = &inputs[layer - 1];
            let unscale = |g: f16| f16::narrow(g.widen(), NARROWING, -scale.log2(), 0);
            let sums = arithmetic::linear_weight(&gradient, x)?.into_iter();
            let by_weight = sums.map(|sum| unscale(narrow(sum))).collect();
            let by_bias = arithmetic::bias(&gradient)?.into_iter().map(unscale).collect();
            gradients.push((format!("/l{layer}/W"), by_weight));
            gradients.push((format!("/l{layer}/b"), by_bias));
            (gradient, scale) = self.backward(case, config, &gradient, scale, x, layer)?;
            scales.push(scale);
        }
        self.update(&gradients);
        Ok(scales)
    }

    /// Returns the gradient of what a layer's ReLU was given, and the scale it carries.
    fn backward(
        &self,
        case: &mut Case,
        config: &Config,
        gradient: &Tensor,
        incoming: Scale,
        x: &Tensor,
        layer: usize,
    ) -> Result<(Tensor, Scale), String> {
        let weight = self.weight(layer)?;
        let operands = approximate::operands(gradient, Some(weight), false);
        let outgoing = methods::decided(case, config, &operands, incoming)?;
        let shift = (outgoing / incoming).log2();
        let shifted = |g: &f32| NARROWING.narrow(*g, shift, 0).bits;
        let bits = gradient.values().iter().map(shifted).collect();
        let scaled = Tensor { bits, ..gradient.clone() };
        let gx = arithmetic::linear_input(&scaled, weight)?;
        let masked = |(g, x): (&f16, f32)| if x > 0.0 { g.widen() } else { 0.0 };
        let masked: Vec<f32> = gx.iter().zip(x.values()).map(masked).collect();
        Ok((Tensor::round(Dtype::F16, &x.shape, &masked), outgoing))
    }

    fn forward(&self, x: &Tensor, layer: usize, relu: bool) -> Result<Tensor, String> {
        let weight = self.weight(layer)?;
        let bias = self.param(&format!("/l{layer}/b")).map(Tensor::values);
        let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
        let (x_halves, w) = (x.halves()?, weight.halves()?);
        let mut y = Vec::new();
        for row in x_halves.chunks(inputs) {
            for (output, w) in w.chunks(inputs).enumerate() {
                let product = narrow(dot(row, w)).widen();
                let sum =
                    bias.as_ref().map_or(product, |bias| narrow(product + bias[output]).widen());
                y.push(if relu { sum.max(0.0) } else { sum });
            }
        }
        Ok(Tensor::round(Dtype::F16, &[x.shape[0], outputs], &y))
    }

    /// Chainer's `MomentumSGD` on f32 masters.
    fn update(&mut self, gradients: &[(String, Vec<f16>)]) {
        for param in &mut self.params {
            let found = gradients.iter().find(|(path, _)| *path == param.path);
            let Some((_, gradient)) = found else { continue };
            for (i, g) in gradient.iter().enumerate() {
                param.velocity[i] = param.velocity[i] * self.momentum - self.rate * g.widen();
                param.master[i] += param.velocity[i];
            }
            param.stored = Tensor::round(Dtype::F16, &param.stored.shape, &param.master);
        }
    }

    fn compare(&self, case: &mut Case, step: Node<'_>) -> Checked {
        for param in &self.params {
            let path = param.path.as_str();
            let find = |field| -> Result<Tensor, String> {
                let entries = step.field(field)?.entries()?;
                let entry = entries.into_iter().find(|entry| entry.name() == path);
                Tensor::read(entry.ok_or_else(|| format!("no {path} in `{field}`"))?)
            };
            let (master, stored) = (find("fp32_master_after")?, find("params_after")?);
            case.equal("elements of the master", param.master.len(), master.len())?;
            param.compare_masters(case, master.values().into_iter())?;
            let rounded = Tensor::round(Dtype::F16, &stored.shape, &master.values());
            case.array(path, rounded.bits, &stored)?;
        }
        Ok(())
    }
}
