//! On to the next layer: a gradient and the scale it carries, inseparable.

use core::fmt;

use crate::{
    format::{Element, Format, Narrowing, arithmetic_is_default},
    scale::{Scale, Shift},
};

/// Where in a backward pass something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The gradient of the loss.
    Loss,
    /// The gradient that leaves the layer with this cell.
    Layer(usize),
    /// The weight gradient of the layer with this cell.
    Weight(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss => f.write_str("the loss gradient"),
            Self::Layer(cell) => write!(f, "layer {cell}"),
            Self::Weight(cell) => write!(f, "the weight gradient of layer {cell}"),
        }
    }
}

/// A gradient that carries the scale `2^K`.
///
/// The value inside is `2^K` times the true gradient.  It can be carried through operations that
/// keep a scale, joined with other branches, and unscaled; there is no way to clip it, to add it or
/// to step an optimizer with it by accident.
///
/// ```compile_fail
/// # use adaloss_core::{propagate::Scaled, scale::Scale};
/// let gradient = Scaled::new([3.0_f32, 4.0], Scale::ONE);
/// let clipped = gradient.map(|g| g.clamp(-1.0, 1.0)); // no iteration over scaled values
/// ```
///
/// ```compile_fail
/// # use adaloss_core::{propagate::Scaled, scale::Scale};
/// let (a, b) = (Scaled::new(1.0_f32, Scale::ONE), Scaled::new(1.0_f32, Scale::MAX));
/// let sum = a + b; // branches with different scales have to be joined
/// ```
///
/// # Examples
///
/// ```
/// use adaloss_core::{propagate::Scaled, scale::Scale};
/// let gradient = Scaled::new([32.0_f32, 0.0], Scale::new(5)?);
/// let behind_relu = gradient.carry(|g| g.map(|g| g.max(0.0)));
/// assert_eq!(behind_relu.unscale(|g, inverse| g[0] * inverse), 1.0);
/// # Ok::<(), adaloss_core::scale::ScaleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled<T> {
    value: T,
    scale: Scale,
    origin: Option<Place>,
}

impl<T> Scaled<T> {
    /// Vouches that `value` carries `scale`.
    ///
    /// The scaler makes these itself; a runtime with scales of its own makes them here.
    pub const fn new(value: T, scale: Scale) -> Self {
        Self { value, scale, origin: None }
    }

    /// Vouches that `value` left the cell of `origin`, which chose `scale`.
    pub const fn from_cell(value: T, scale: Scale, origin: Place) -> Self {
        Self { value, scale, origin: Some(origin) }
    }

    /// Returns whose cell chose the scale, if that is known: where sums of these values overflow f32, that
    /// cell's scale is too large.
    pub const fn origin(&self) -> Option<Place> {
        self.origin
    }

    /// Returns the values as they are, `2^K` times the true gradient: what a kernel reads.  Its f32 results carry the
    /// same scale.
    pub const fn scaled(&self) -> &T {
        &self.value
    }

    /// Returns the scale that the gradient carries.
    pub const fn scale(&self) -> Scale {
        self.scale
    }

    /// Borrows the gradient with its scale.
    pub const fn as_ref(&self) -> Scaled<&T> {
        Scaled { value: &self.value, scale: self.scale, origin: self.origin }
    }

    /// Returns the scale and whose cell chose it, without the values.
    pub const fn tag(&self) -> Scaled<()> {
        Scaled { value: (), scale: self.scale, origin: self.origin }
    }

    /// Carries the gradient through an operation that keeps its scale and rounds nothing: ReLU,
    /// reshape, max pooling without overlap, unpooling.
    pub fn carry<U>(self, operation: impl FnOnce(T) -> U) -> Scaled<U> {
        Scaled { value: operation(self.value), scale: self.scale, origin: self.origin }
    }

    /// Leaves the scaled world: `operation` gets the scaled gradient and the exact factor `2^-K`
    /// that its f32 result has to be multiplied by.
    ///
    /// This is where a weight gradient is computed, in f32 and unscaled before it is accumulated.
    pub fn unscale<U>(&self, operation: impl FnOnce(&T, f32) -> U) -> U {
        operation(&self.value, self.scale.inverse().factor())
    }

    /// Separates the gradient from its scale; the caller keeps them together from here on.
    pub fn into_parts(self) -> (T, Scale) {
        (self.value, self.scale)
    }
}

/// The scale that values carry; whose cell chose it is not known.
impl From<Scale> for Scaled<()> {
    fn from(scale: Scale) -> Self {
        Self::new((), scale)
    }
}

/// The scale that a gradient carries, and whose cell chose it.
impl<T> From<&Scaled<T>> for Scaled<()> {
    fn from(gradient: &Scaled<T>) -> Self {
        gradient.tag()
    }
}

/// Returns the scale that branches are brought to before they are summed: the least of theirs.
///
/// Bringing a branch down never overflows.  It is exact in f32 while the scales of the branches
/// differ by at most 102 binades for binary16, 110 for E5M2 and 117 for E4M3; beyond that, and for
/// bfloat16 values near f32's smallest normal, what falls below 2^-149 is rounded once.
/// `None` of no branches.
pub fn common_scale(scales: impl Iterator<Item = Scale>) -> Option<Scale> {
    scales.min()
}

/// Brings the branches of a join to one scale and sums them in f32, in the order given.
///
/// Returns the scale that `sum` carries; it goes through the join's own cell next.
///
/// A sum of `n` branches differs from the exact one by at most `(n - 1) 2^-24` of the sum of the
/// magnitudes, while that stays within f32, and by `n 2^-149` more where branches are rounded on
/// their way to the common scale: in any order.  (S. M. Rump, "Error estimation of floating-point
/// summation and dot product", BIT, 2012.)  A branch that is not finite makes a sum that is not.
///
/// # Errors
///
/// There are fewer than two branches, or one differs in length from `sum`; nothing was written.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, propagate::{Scaled, join}, scale::Scale};
/// let (one, eight) = ([f16::ONE], [f16::from_f32(8.0)]);
/// let branches = [Scaled::new(&one[..], Scale::ONE), Scaled::new(&eight[..], Scale::new(2)?)];
/// let mut sum = [0.0];
/// assert_eq!(join(Format::BINARY16, &branches, &mut sum)?, Scale::ONE);
/// assert_eq!(sum, [3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn join<F: Element>(
    format: Format,
    branches: &[Scaled<&[F]>],
    sum: &mut [f32],
) -> Result<Scale, JoinError> {
    let common = match common_scale(branches.iter().map(Scaled::scale)) {
        Some(common) if branches.len() >= 2 => common,
        _ => return Err(JoinError::Branches { count: branches.len() }),
    };
    if let Some(index) = branches.iter().position(|branch| branch.value.len() != sum.len()) {
        let length = branches[index].value.len();
        return Err(JoinError::Length { index, length, expected: sum.len() });
    }
    sum_at(format, branches.iter().map(|branch| (branch.value, branch.scale)), common, sum);
    Ok(common)
}

/// Brings branches to the scale `common` and sums them in f32, in the order given.
///
/// Elements beyond the shorter of a branch and `sum` are left as they are; no branches leave `sum`
/// as it is.  The sums are those of the processor's mode: where it flushes, one below 2^-126 is zero.
#[inline(always)]
pub fn sum_at<'a, F: Element>(
    format: Format,
    branches: impl Iterator<Item = (&'a [F], Scale)>,
    common: Scale,
    sum: &mut [f32],
) {
    let is_default = arithmetic_is_default();
    for (nth, (branch, scale)) in branches.enumerate() {
        let shift = common / scale;
        let elements = sum.iter_mut().zip(branch.iter().map(|x| format.widen(x.to_bits())));
        if is_default {
            elements.for_each(|(sum, x)| add(nth, sum, shifted(x, shift)));
        } else {
            elements.for_each(|(sum, x)| add(nth, sum, shifted_exponent(x, shift)));
        }
    }
}

/// Adds an element of the branch `nth` to a sum, which begins with the first.
#[inline(always)]
fn add(nth: usize, sum: &mut f32, x: f32) {
    *sum = if nth == 0 { x } else { *sum + x };
}

/// Returns `2^d x` in f32, rounded once; infinities and NaN stay what they are.
///
/// This is a product, rounded as the processor rounds: one that was left in a mode that flushes reads and writes subnormals
/// as zeros.
#[inline]
pub fn shifted(x: f32, shift: Shift) -> f32 {
    match shift.factor() {
        Some(factor) => x * factor,
        None => shifted_exponent(x, shift),
    }
}

/// Returns what [`shifted`] does in the default mode, from integers: in every mode of the processor.
#[inline]
pub(crate) fn shifted_exponent(x: f32, shift: Shift) -> f32 {
    f32::narrow(x, Narrowing::to(Format::BINARY32), shift.log2(), 0)
}

/// Branches that cannot be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// A join has at least two branches.
    Branches {
        /// How many there were.
        count: usize,
    },
    /// A branch has another length than the sum.
    Length {
        /// Which branch, in the order given.
        index: usize,
        /// Its elements.
        length: usize,
        /// The elements of the sum.
        expected: usize,
    },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branches { count } => {
                write!(f, "a join needs two branches or more, and has {count}")
            }
            Self::Length { index, length, expected } => {
                write!(f, "branch {index} of a join has {length} elements instead of {expected}")
            }
        }
    }
}

impl core::error::Error for JoinError {}
