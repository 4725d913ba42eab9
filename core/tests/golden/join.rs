//! Joins: the authors' `rescaling` and the sum behind it, against the target and the sum of core.

use adaloss_core::{
    format::{Element, Format, Narrowing, Subnormals, f16},
    policy::{join_target, paper_join_target},
    propagate::{self, Scaled},
    scale::Scale,
};
use adaloss_oracle::tolerance::SUM_OF_BRANCHES;

use crate::{
    exceptions::{
        ALIASED_SCALE, HALF_RATIO, NO_BRANCH_SCALE, NO_SCALE_ARRAY, NON_FINITE_BRANCH, SUM_OVERFLOW,
    },
    json::Node,
    methods,
    report::{Case, Checked},
    tensor::{Dtype, Tensor},
};

/// The authors' `u_max`.
const LARGEST: f32 = 65504.0;

/// Checks one record of `rescaling`.
pub(crate) fn check(record: Node<'_>, case: &mut Case) -> Checked {
    let scales = record.field("scales")?;
    if scales.scalars()?.into_iter().any(|scale| methods::scale_of(scale).is_none()) {
        case.except(NO_BRANCH_SCALE);
        return Ok(());
    }
    let branches = Branches::read(record.field("g")?, scales)?;
    let target = branches.target();
    if !branches.are_finite() {
        case.equal("the target of a branch that is not finite", target, None)?;
        case.except(NON_FINITE_BRANCH);
        // NaN fits nowhere or, in another order, everywhere: a candidate is recorded all the same.
        let recorded = record.optional("target").map(Node::scalar).transpose()?;
        let candidate = recorded.and_then(methods::scale_of);
        let scales = branches.scales.iter().copied();
        let reached = join_target(scales, |scale| Some(scale) == candidate);
        return case.equal("the candidate that was taken", reached, candidate);
    }
    let kinds = record.field("scale_kind")?.list()?;
    if let Some(raises) = record.optional("raises") {
        return match raises.field("type")?.text()? {
            "ValueError" => case.equal("the target where no scale fits", target, None),
            "AttributeError" => {
                let kinds: Result<Vec<_>, _> = kinds.iter().map(|kind| kind.text()).collect();
                case.holds("a scale is a Python float", kinds?.contains(&"float"))?;
                case.holds("core finds a target", target.is_some())?;
                case.except(NO_SCALE_ARRAY);
                Ok(())
            }
            other => Err(format!("no rule for {other}")),
        };
    }
    let target = target.ok_or("core finds no target")?;
    let recorded = record.field("target")?.scalar()?;
    case.same("the target", f64::from(target.factor()), recorded)?;
    for scale in record.field("new_scales")?.list()? {
        case.same("a new scale", scale.scalar()?, recorded)?;
    }

    let results = Tensor::read_list(record.field("result")?)?;
    let mut is_scaled_alike = true;
    for ((i, result), kind) in results.iter().enumerate().zip(kinds) {
        let is_aliased = kind.text()? == "ndarray"
            && target < branches.scales[i]
            && result.bits == branches.gradients[i].bits;
        if is_aliased {
            is_scaled_alike = false;
            case.except(ALIASED_SCALE);
        } else if branches.overflows_ratio(i, target) {
            is_scaled_alike = false;
            case.holds("an infinite ratio leaves nothing finite", all_nonfinite(result))?;
            case.except(HALF_RATIO);
        } else {
            case.array(format_args!("branch {i}"), branches.rescaled(i, target), result)?;
        }
    }
    let sum = Tensor::read(record.field("branch_sum")?)?;
    if is_scaled_alike {
        branches.check_sum(case, &results, target, &sum)?;
    }
    branches.check_fit(case, sum.dtype)
}

fn all_nonfinite(tensor: &Tensor) -> bool {
    tensor.values().iter().all(|x| !x.is_finite())
}

/// The gradients that meet in a join, with the scales that they carry.
pub(crate) struct Branches {
    pub(crate) gradients: Vec<Tensor>,
    pub(crate) scales: Vec<Scale>,
}

impl Branches {
    pub(crate) fn read(gradients: Node<'_>, scales: Node<'_>) -> Result<Self, String> {
        let gradients = Tensor::read_list(gradients)?;
        let scales: Vec<Scale> = scales
            .scalars()?
            .into_iter()
            .map(|factor| {
                methods::scale_of(factor).ok_or_else(|| format!("{factor} is no scale here"))
            })
            .collect::<Result<_, _>>()?;
        let same_shape = gradients.windows(2).all(|pair| pair[0].shape == pair[1].shape);
        if gradients.len() != scales.len() || gradients.len() < 2 || !same_shape {
            return Err(String::from("gradients and scales that form no join"));
        }
        Ok(Self { gradients, scales })
    }

    fn are_finite(&self) -> bool {
        self.gradients.iter().all(|gradient| gradient.max_abs().is_finite())
    }

    /// Returns the scale to which core brings the branches.
    pub(crate) fn target(&self) -> Option<Scale> {
        let maxima = self.gradients.iter().map(Tensor::max_abs);
        paper_join_target(maxima.zip(self.scales.iter().copied()), LARGEST)
    }

    /// Tells whether the authors' ratio of the scales leaves binary16.
    fn overflows_ratio(&self, branch: usize, target: Scale) -> bool {
        let ratio = libm::ldexp(1.0, (target / self.scales[branch]).log2());
        let is_half = self.gradients[branch].dtype == Dtype::F16;
        is_half && f16::from_f32(ratio as f32).is_infinite()
    }

    /// Returns a branch brought to the target by core, each element rounded once.
    pub(crate) fn rescaled(&self, branch: usize, target: Scale) -> Vec<u32> {
        let gradient = &self.gradients[branch];
        let shift = (target / self.scales[branch]).log2();
        let narrowing = Narrowing::to(format(gradient.dtype));
        gradient.values().iter().map(|&x| narrowing.narrow(x, shift, 0).bits).collect()
    }

    /// Returns the sum that core makes, in f32, and the scale that it carries.
    fn sum(&self) -> Result<(Vec<f32>, Scale), String> {
        match self.gradients[0].dtype {
            Dtype::F16 => self.sum_of(&self.halves()?),
            Dtype::F32 => {
                let values: Vec<_> = self.gradients.iter().map(Tensor::values).collect();
                self.sum_of(&values)
            }
        }
    }

    fn sum_of<F: Element>(&self, gradients: &[Vec<F>]) -> Result<(Vec<f32>, Scale), String> {
        let branches: Vec<_> = gradients
            .iter()
            .zip(&self.scales)
            .map(|(g, &scale)| Scaled::new(&g[..], scale))
            .collect();
        let mut sum = vec![0.0; gradients[0].len()];
        let format = Format::new(F::ENCODING, Subnormals::Gradual);
        let scale = propagate::join(format, &branches, &mut sum).map_err(|e| e.to_string())?;
        Ok((sum, scale))
    }

    fn halves(&self) -> Result<Vec<Vec<f16>>, String> {
        self.gradients.iter().map(Tensor::halves).collect()
    }

    /// Checks core's sum, made in f32 and rounded once, against the authors', made in the storage
    /// type of the rescaled branches, starting from +0.
    pub(crate) fn check_sum(
        &self,
        case: &mut Case,
        rescaled: &[Tensor],
        target: Scale,
        recorded: &Tensor,
    ) -> Checked {
        let (sum, common) = self.sum()?;
        let shift = (target / common).log2();
        let narrowing = Narrowing::to(format(recorded.dtype));
        let branches: Vec<Vec<f32>> = rescaled.iter().map(Tensor::values).collect();
        for (i, &sum) in sum.iter().enumerate() {
            let addends = branches.iter().map(|branch| branch[i]);
            let (theirs, mut bound) = authors_sum(recorded.dtype, addends);
            let element = recorded.dtype.widen(recorded.bits[i]);
            case.same("the authors' sum", f64::from(theirs), f64::from(element))?;
            if !theirs.is_finite() {
                case.except(SUM_OVERFLOW);
                continue;
            }
            let exact = libm::ldexp(f64::from(sum), shift);
            let ours = recorded.dtype.widen(narrowing.narrow(sum, shift, 0).bits);
            let (ours, theirs) = (f64::from(ours), f64::from(theirs));
            if ours.is_infinite() && (exact - theirs).abs() <= bound {
                // Their roundings stayed just below what overflows.
                case.except(SUM_OVERFLOW);
                continue;
            }
            bound += recorded.dtype.half_ulp(ours as f32);
            case.within("an element of the sum", ours, theirs, bound, &SUM_OF_BRANCHES)?;
        }
        Ok(())
    }

    /// Checks that core, which looks at the sum, finds a scale at which it is finite (Q11).
    fn check_fit(&self, case: &mut Case, dtype: Dtype) -> Checked {
        let (sum, common) = self.sum()?;
        let narrowing = Narrowing::to(format(dtype));
        let fits = |scale: Scale| {
            let mut narrowed = sum.iter().map(|&x| narrowing.narrow(x, (scale / common).log2(), 0));
            narrowed.all(|x| narrowing.format.widen(x.bits).is_finite())
        };
        let fitting = join_target(self.scales.iter().copied(), fits);
        case.holds("a scale fits the sum", fitting.is_some_and(fits))
    }
}

/// Adds as the authors do, in the storage type and from +0, and bounds what roundings added up to:
/// every addition rounds, and every addend was rounded before.
pub(crate) fn authors_sum(dtype: Dtype, addends: impl Iterator<Item = f32>) -> (f32, f64) {
    addends.fold((0.0, 0.0), |(sum, bound), x| {
        let sum = dtype.widen(dtype.round(sum + x));
        (sum, bound + dtype.half_ulp(x) + dtype.half_ulp(sum))
    })
}

fn format(dtype: Dtype) -> Format {
    match dtype {
        Dtype::F16 => Format::BINARY16,
        Dtype::F32 => Format::BINARY32,
    }
}
