//! The rules of `measured` as the design words them, by a search over scales and elements.

use adaloss_core::{
    format::{Encoding, Narrowing, Rounding, Subnormals},
    policy::{Certificate, Measured, Rule},
    scale::Scale,
};

use num_rational::BigRational;
use num_traits::Zero;

use crate::{
    Limits,
    exact::{rational, sum},
    inputs::SplitMix64,
    pow2, product,
    tolerance::LOST_MASS_UNITS,
};

/// 2^32, the denominator of shares.
const WHOLE: f64 = 4_294_967_296.0;

/// A tensor of f32 values and the scale that it carries.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Finite values.
    pub values: Vec<f32>,
    /// The scale that they carry.
    pub incoming: Scale,
}

impl Tensor {
    /// The exact magnitudes at scale `2^k`.
    fn at(&self, k: i32) -> impl Iterator<Item = f64> {
        self.values.iter().map(move |x| product(x.abs(), k - self.incoming.log2()))
    }

    /// Draws a tensor of one of several shapes, most of them near the middle of the scales.
    pub fn draw(generator: &mut SplitMix64) -> Self {
        let incoming = Scale::saturating(generator.below(81) as i32 - 40);
        let most = if generator.below(10) == 0 { 2500 } else { 150 };
        let length = 1 + generator.below(most);
        let centre = generator.below(60) as i32 - 30 + incoming.log2();
        let width = generator.below(45) as i32;
        let mut values: Vec<f32> = (0..length)
            .map(|_| match generator.below(3) {
                // Sums of three: the bulk at the top, a tail below.
                0 => (0..3).map(|_| generator.between_binades(centre - 2, centre)).sum(),
                1 => generator.between_binades(centre - width, centre),
                _ => generator.between_binades(centre - 3, centre),
            })
            .filter(|&x: &f32| x != 0.0)
            .collect();
        if generator.below(4) == 0 {
            values.iter_mut().for_each(|x| *x = x.abs().log2().floor().exp2());
        }
        if generator.below(8) == 0 {
            values.push(generator.finite());
        }
        Self { values, incoming }
    }
}

/// What `measured` has to decide.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// The rule that decides.
    pub rule: Rule,
    /// The exponent of the scale.
    pub scale: i32,
    /// Whether the bound on growth kept it low.
    pub limited: bool,
    /// Whether it keeps underflow within the tolerance.
    pub promised: bool,
    /// Elements that may underflow.
    pub allowed: u64,
    /// The least and the greatest scale that keep the promise, 127 and -127 where there is none.
    pub window: (i32, i32),
    /// Underflow and overflow at the scale below, at the scale and at the one above.
    pub expected: [(u64, u64); 3],
}

impl Decision {
    /// Reads what a certificate says.
    pub fn of(certificate: &Certificate) -> Self {
        Self {
            rule: certificate.rule,
            scale: certificate.scale.log2(),
            limited: certificate.limited,
            promised: certificate.promised,
            allowed: certificate.allowed,
            window: (certificate.window.least.into(), certificate.window.greatest.into()),
            expected: certificate.expected.map(|at| (at.underflow, at.overflow)),
        }
    }
}

/// Returns how many elements of a tensor underflow and how many overflow at the scale `2^k`.
pub fn counts(narrowing: Narrowing, tensor: &Tensor, k: i32) -> (u64, u64) {
    let limits = Limits::of(narrowing.format.encoding);
    let count = |is: &dyn Fn(f64) -> bool| tensor.at(k).filter(|&v| is(v)).count() as u64;
    let underflow = count(&|v| v > 0.0 && limits.underflows(narrowing, v));
    (underflow, count(&|v| limits.overflows(narrowing, v)))
}

/// Returns the bound of the share of the mass that is lost at `2^k`, times 2^32: every element
/// stands for its binade, a lost one for the upper edge, a kept one for the lower edge.
fn lost_mass(narrowing: Narrowing, tensor: &Tensor, k: i32) -> f64 {
    let limits = Limits::of(narrowing.format.encoding);
    // At nearest even a power of two is lost together with the binade below it.
    let upper_edge_belongs = narrowing.rounding == Rounding::NearestEven
        && narrowing.format.subnormals == Subnormals::Gradual;
    let (mut lost, mut kept) = (0.0, 0.0);
    for v in tensor.at(k) {
        let edge = pow2((v.to_bits() >> 52) as i32 - 1023);
        let edge = if upper_edge_belongs && v == edge { edge / 2.0 } else { edge };
        if limits.underflows(narrowing, v) { lost += 2.0 * edge } else { kept += edge }
    }
    if lost == 0.0 { 0.0 } else { lost / (lost + kept) * WHOLE }
}

/// Returns the exact share of the sum of magnitudes that underflows at `2^k`, times 2^32; 0 of an
/// empty tensor.
pub fn lost_share(narrowing: Narrowing, tensor: &Tensor, k: i32) -> BigRational {
    let limits = Limits::of(narrowing.format.encoding);
    let mass = |is_counted: &dyn Fn(f64) -> bool| {
        let counted = tensor.values.iter().zip(tensor.at(k)).filter(|&(_, v)| is_counted(v));
        sum(counted.map(|(x, _)| rational(x.abs().into())))
    };
    let total = mass(&|_| true);
    if total.is_zero() {
        return total;
    }
    mass(&|v| limits.underflows(narrowing, v)) / total * rational(WHOLE)
}

/// Decides by search; `None` where mass decides and is so near its tolerance that rounding matters,
/// or is that of elements whose binades the histogram does not tell apart.
///
/// `before` is the exponent of a scale that was decided before, `current` that of the cell.
pub fn decide(
    measured: &Measured,
    narrowing: Narrowing,
    tensor: &Tensor,
    before: Option<i32>,
    current: i32,
) -> Option<Decision> {
    let every: Vec<(u64, u64)> = (-126..=126).map(|k| counts(narrowing, tensor, k)).collect();
    let at = |k: i32| every[(k.clamp(-126, 126) + 126) as usize];
    let nonzero = tensor.values.iter().filter(|x| **x != 0.0).count() as u128;
    let allowed = ((nonzero * u128::from(measured.tolerance.bits())) >> 32) as u64;
    let k_lo = (-126..=126).find(|&k| at(k).0 <= allowed);
    let k_hi = (-126..=126).rev().find(|&k| at(k).1 == 0);
    // No legal scale may leave the headroom: then the least one comes nearest.
    let top = k_hi.map_or(-126, |k| (k - i32::from(measured.headroom)).max(-126));

    // Where every legal scale overflows there is no window to be in.
    let in_window = |k: &i32| k_hi.is_some() && *k <= top;
    let (mut rule, mut least) = (Rule::Window, k_lo.filter(in_window));
    if least.is_none() {
        let beyond = [counts(narrowing, tensor, -127).0, counts(narrowing, tensor, 127).0];
        if beyond != [nonzero as u64, 0] {
            return None;
        }
        let tolerated = f64::from(measured.lost_mass.bits());
        let masses: Vec<f64> = (-126..=top).map(|k| lost_mass(narrowing, tensor, k)).collect();
        if masses.iter().any(|mass| (mass - tolerated).abs() < LOST_MASS_UNITS.most && *mass > 0.0)
        {
            return None;
        }
        rule = Rule::LostMass;
        let by_mass = (-126..).zip(masses).find(|&(_, mass)| mass <= tolerated);
        least = by_mass.map(|(k, _)| k).filter(in_window);
    }
    let middle = |least: i32| match narrowing.format.encoding {
        Encoding::BFloat16 | Encoding::Binary32 => 0.clamp(least, top),
        _ => (least + top).div_euclid(2),
    };
    let slack = i32::from(measured.slack);
    let mut scale = match least {
        Some(least) => middle(least),
        None => top,
    };
    let window_least = if rule == Rule::LostMass { least.or(k_lo) } else { k_lo };
    if least.is_none() {
        rule = Rule::Headroom;
    }
    if let (Some(before), Some(least)) = (before, least)
        && least + slack <= before
        && before <= top - slack
    {
        (rule, scale) = (Rule::Kept, before);
    }
    let bound = current + i32::from(measured.max_growth);
    let limited = before.is_some() && scale > bound;
    let scale = if limited { bound.min(126) } else { scale };
    Some(Decision {
        rule,
        scale,
        limited,
        promised: at(scale).0 <= allowed,
        allowed,
        window: (window_least.unwrap_or(127), k_hi.unwrap_or(-127)),
        expected: [at(scale - 1), at(scale), at(scale + 1)],
    })
}
