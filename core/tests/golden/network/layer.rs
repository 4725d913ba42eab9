//! Linear layers and convolutions: the scale from operands, the arrays from the scale.

use adaloss_core::{
    apply::Apply,
    format::{Element, Format, Narrowing, Noise, f16},
    policy::Policy,
    propagate::Scaled,
    scale::Scale,
    statistics::Outcome,
    unscale::unscale,
};

use super::arithmetic::{self, Geometry};
use crate::{
    approximate,
    exceptions::NO_POWER_OF_TWO,
    extremes,
    json::Node,
    methods::{self, Stages},
    report::{Case, Checked},
    tensor::Tensor,
};

const NARROWING: Narrowing = Narrowing::to(Format::BINARY16);

/// One recorded node of a layer with a weight.
pub(super) struct Layer {
    pub(super) x: Tensor,
    pub(super) weight: Tensor,
    pub(super) gy: Tensor,
    /// The incoming scale, a power of two or not.
    pub(super) incoming: f64,
    /// The stride and padding of a convolution.
    geometry: Option<Geometry>,
}

impl Layer {
    pub(super) fn read(node: Node<'_>, params: Node<'_>) -> Result<Self, String> {
        let pair = |name| -> Result<Option<[usize; 2]>, String> {
            let Some(node) = node.optional(name) else { return Ok(None) };
            let pair = crate::tensor::read_shape(node)?;
            pair.try_into().map(Some).map_err(|_| format!("`{name}` is no pair"))
        };
        let weight = Tensor::read(params.field(node.field("param")?.text()?)?)?;
        let geometry = match (pair("stride")?, pair("pad")?) {
            (Some(stride), Some(pad)) => Some(Geometry { stride, pad }),
            _ if weight.shape.len() == 2 => None,
            _ => return Err(String::from("a convolution without stride and padding")),
        };
        Ok(Self {
            x: Tensor::read(node.field("x")?)?,
            weight,
            gy: Tensor::read(node.field("gy")?)?,
            incoming: node.field("prev_scale")?.scalar()?,
            geometry,
        })
    }

    /// Checks the scale from the recorded operands, and every array from the recorded ones.
    pub(super) fn check(
        &self,
        case: &mut Case,
        cfg: Node<'_>,
        node: Node<'_>,
        stages: &Stages,
    ) -> Checked {
        let outgoing = self.check_scale(case, cfg, node, stages)?;
        let gy_scaled = Tensor::read(node.field("gy_scaled")?)?;
        match (outgoing, methods::scale_of(self.incoming)) {
            (Some(outgoing), Some(incoming)) => {
                self.check_narrowing(case, incoming, outgoing, &gy_scaled)?;
            }
            _ => {
                // Their f32 product with a factor that is no power of two, narrowed by core.  The
                // node's own `scale` is a ratio of tags, which drift (Q15).
                case.except(NO_POWER_OF_TWO);
                let factor = stages.last.ok_or("no factor was recorded")? as f32;
                let ours = self.gy.values().into_iter().map(|g| arithmetic::narrow(g * factor));
                case.array("gy_scaled", bits(ours), &gy_scaled)?;
                let tag = arithmetic::narrow(self.incoming as f32).widen() * factor;
                let recorded = node.field("accum_scale")?.scalar()?;
                case.same("the drifting tag", f64::from(tag), recorded)?;
            }
        }
        let gx = match self.geometry {
            None => arithmetic::linear_input(&gy_scaled, &self.weight)?,
            Some(geometry) => {
                arithmetic::convolution_input(&gy_scaled, &self.weight, &self.x.shape, geometry)?
            }
        };
        case.array("gx", bits(gx), &Tensor::read(node.field("gx")?)?)?;
        self.check_weight(case, &Tensor::read(node.field("gW")?)?)?;
        match node.optional("gb") {
            None => Ok(()),
            Some(gb) => {
                let ours = arithmetic::bias(&self.gy)?.into_iter().map(|g| self.unscaled_half(g));
                case.array("gb", bits(ours), &Tensor::read(gb)?)
            }
        }
    }

    /// Returns the scale that core decides, or `None` where the record's is no power of two.
    fn check_scale(
        &self,
        case: &mut Case,
        cfg: Node<'_>,
        node: Node<'_>,
        stages: &Stages,
    ) -> Result<Option<Scale>, String> {
        let fan_in = methods::fan_in(&self.weight.shape);
        let method = methods::name(cfg)?;
        let scale = node.field("scale")?.scalar()?;
        let operands = match method {
            "abs_range" | "element_wise_range" => {
                extremes::operands(method, &self.gy, &self.weight, fan_in)?
            }
            _ => approximate::operands(&self.gy, Some(&self.weight), false),
        };
        let incoming = methods::scale_of(self.incoming);
        let config = match method {
            "fixed" => {
                let incoming = incoming.ok_or("the incoming scale is no scale here")?;
                methods::config(Policy::Fixed(methods::fixed(case, cfg, incoming, stages)?))?
            }
            "approx_range" => {
                let model = methods::normal(case, cfg)?;
                methods::check_normal(case, model, &operands, self.incoming, stages)?;
                methods::config(Policy::Normal(model))?
            }
            _ => {
                let range = methods::range(cfg)?;
                let factor = f64::from(range.factor(&operands).unwrap_or(f32::NAN));
                case.same("the factor", factor, stages.unbound.ok_or("no factor was recorded")?)?;
                methods::config(Policy::Range(range))?
            }
        };
        if methods::scale_of(scale).is_none() {
            return Ok(None);
        }
        let Some(incoming) = incoming else { return Ok(None) };
        let outgoing = methods::decided(case, &config, &operands, incoming)?;
        case.same("the layer's factor", factor(outgoing) / factor(incoming), scale)?;
        case.same("the outgoing scale", factor(outgoing), node.field("accum_scale")?.scalar()?)?;
        Ok(Some(outgoing))
    }

    fn check_narrowing(
        &self,
        case: &mut Case,
        incoming: Scale,
        outgoing: Scale,
        gy_scaled: &Tensor,
    ) -> Checked {
        let apply =
            Apply { narrowing: NARROWING, shift: outgoing / incoming, noise: Noise::default() };
        let values = self.gy.values();
        let (mut narrowed, mut outcome) = (vec![f16::ZERO; values.len()], Outcome::EMPTY);
        apply.slice(&values, &mut narrowed, 0, &mut outcome).map_err(|e| e.to_string())?;
        case.array("gy_scaled", bits(narrowed), gy_scaled)
    }

    /// Checks the weight gradient as the authors unscale it, and that the default, which unscales
    /// the f32 sums into f32, loses nothing (Q1).
    fn check_weight(&self, case: &mut Case, recorded: &Tensor) -> Checked {
        let sums = match self.geometry {
            None => arithmetic::linear_weight(&self.gy, &self.x)?,
            Some(geometry) => {
                arithmetic::convolution_weight(&self.gy, &self.x, &self.weight.shape, geometry)?
            }
        };
        let compat = sums.iter().map(|&sum| self.unscaled_half(arithmetic::narrow(sum)));
        case.array("gW", bits(compat), recorded)?;
        let Some(incoming) = methods::scale_of(self.incoming) else { return Ok(()) };

        let mut unscaled = vec![0.0; sums.len()];
        let met = unscale(Format::BINARY32, Scaled::new(&sums[..], incoming), &mut unscaled);
        case.equal("gradients too small for f32", met.map_err(|e| e.to_string())?.tiny, 0)?;
        let mut rescued = 0;
        for ((sum, unscaled), half) in sums.iter().zip(&unscaled).zip(recorded.values()) {
            case.equal("a gradient scaled again", unscaled * incoming.factor(), *sum)?;
            rescued += usize::from(*unscaled != 0.0 && half == 0.0);
        }
        case.allow("Q1: elements of gW that fp16 unscaling loses and f32 unscaling keeps", rescued);
        Ok(())
    }

    /// Unscales as the authors do, in binary16.
    fn unscaled_half(&self, g: f16) -> f16 {
        match methods::scale_of(self.incoming) {
            Some(incoming) => f16::narrow(g.widen(), NARROWING, -incoming.log2(), 0),
            None => arithmetic::narrow(g.widen() / self.incoming as f32),
        }
    }
}

fn factor(scale: Scale) -> f64 {
    f64::from(scale.factor())
}

fn bits(halves: impl IntoIterator<Item = f16>) -> impl Iterator<Item = u32> {
    halves.into_iter().map(|half| u32::from(half.to_bits()))
}
