//! What a certificate has to say, by a search over scales and elements.

use adaloss_core::{
    format::{Narrowing, Rounding, Subnormals},
    policy::{Certificate, Fraction},
    scale::Scale,
};

use num_rational::BigRational;
use num_traits::Zero;

use crate::{
    Limits,
    exact::{rational, sum},
    inputs::SplitMix64,
    pow2, product,
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

/// What the exponents of a tensor promise for one scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Finite nonzero elements.
    pub nonzero: u64,
    /// Elements that may underflow.
    pub allowed: u64,
    /// Whether the scale keeps underflow within the tolerance.
    pub promised: bool,
    /// The least and the greatest scale that keep the promise, 127 and -127 where there is none.
    pub window: (i32, i32),
    /// Underflow and overflow at the scale below, at the scale and at the one above.
    pub expected: [(u64, u64); 3],
}

impl Evidence {
    /// Reads what a certificate says.
    pub fn of(certificate: &Certificate) -> Self {
        Self {
            nonzero: certificate.nonzero,
            allowed: certificate.allowed,
            promised: certificate.promised,
            window: (certificate.window.least.into(), certificate.window.greatest.into()),
            expected: certificate.expected.map(|at| (at.underflow, at.overflow)),
        }
    }

    /// Finds it for the scale `2^scale`, in a tensor with nonzero elements.
    pub fn find(tolerance: Fraction, narrowing: Narrowing, tensor: &Tensor, scale: i32) -> Self {
        let every: Vec<_> = (-126..=126).map(|k| counts(narrowing, tensor, k)).collect();
        let at = |k: i32| every[(k.clamp(-126, 126) + 126) as usize];
        let nonzero = tensor.values.iter().filter(|x| **x != 0.0).count() as u64;
        let share = u128::from(nonzero) * u128::from(tolerance.bits());
        let allowed = (share >> 32) as u64;
        let least = (-126..=126).find(|&k| at(k).0 <= allowed);
        let greatest = (-126..=126).rev().find(|&k| at(k).1 == 0);
        Self {
            nonzero,
            allowed,
            promised: at(scale).0 <= allowed,
            window: (least.unwrap_or(127), greatest.unwrap_or(-127)),
            expected: [at(scale - 1), at(scale), at(scale + 1)],
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
pub fn lost_mass(narrowing: Narrowing, tensor: &Tensor, k: i32) -> f64 {
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
