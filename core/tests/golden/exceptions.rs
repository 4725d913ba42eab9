//! Every reason for which a record may differ from what was recorded.
//!
//! A record is excepted only where a predicate on its inputs holds, and what is not affected is
//! checked all the same.  Qn are the quirks of the authors' code that the README of the vectors
//! lists; the other reasons are rules of this crate, or of PyTorch and Chainer.

use std::fmt;

/// Why a record is excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reason(&'static str);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The operands hold infinities or NaN.
pub(crate) const NON_FINITE: Reason = Reason(
    "Q4: non-finite operands raise or give a scale of NaN; here they are reported, the scale stays",
);
/// A gradient without elements, with a weight.
pub(crate) const EMPTY: Reason =
    Reason("an empty operand raises a TypeError; here the factor is 1, as the authors' without W");
/// `power_of_two=False`.
pub(crate) const NO_POWER_OF_TWO: Reason = Reason(
    "Q15: power_of_two=False; a scale is a power of two here, the greatest below the factor",
);
/// The incoming scale is not a power of two.
pub(crate) const NO_SCALE: Reason =
    Reason("the incoming scale is no power of two, so no scale here; bounds checked by themselves");
/// The result of the authors' rounding to binary16.
pub(crate) const HALF_OVERFLOW: Reason =
    Reason("fp16 cannot hold the scale and gives infinity; here it is a legal power of two");
/// The same at the other end.
pub(crate) const HALF_UNDERFLOW: Reason =
    Reason("fp16 cannot hold the scale and gives zero; here it is a legal power of two");
/// `element_wise_range` without a nonzero product.
pub(crate) const ALL_ZERO: Reason =
    Reason("Q17: element_wise_range raises where no product is nonzero; here the factor is 1");
/// `max_rescue_ratio`.
pub(crate) const RESCUE_RATIO: Reason =
    Reason("Q16: max_rescue_ratio is not taken over; the recorded factor follows from it");
/// `abs_range` and `element_wise_range` of infinities.
pub(crate) const INFINITE_OPERAND: Reason =
    Reason("Q13: non-finite operands give a factor of 0 or raise; here they are reported");
/// A gradient of one magnitude and sign.
pub(crate) const CONSTANT: Reason = Reason(
    "a constant's factor is 1, or follows from rounding noise; here the constant is brought to u_min",
);
/// A factor that has no logarithm.
pub(crate) const NOT_POSITIVE: Reason =
    Reason("a factor of 0, infinity, NaN, below 0 or beyond 2^±126 is no scale: an error here");
/// An infinite factor.
pub(crate) const INFINITE_FACTOR: Reason =
    Reason("Q4: an infinite factor raises; here the caps and the legal scales bound it");
/// A factor of zero.
pub(crate) const ZERO_FACTOR: Reason =
    Reason("a factor of 0, of products beyond f32, is no scale; here it is the least one");
/// A threshold that is no share.
pub(crate) const NO_SHARE: Reason =
    Reason("a tolerated share of 0, 1 or beyond is a configuration error here");
/// A join of scales of which one is not a power of two.
pub(crate) const NO_BRANCH_SCALE: Reason =
    Reason("a branch's scale is no power of two, so no scale here");
/// `get_fan_in` of a convolution.
pub(crate) const FAN_IN: Reason = Reason(
    "a convolution's fan-in is given to core; the rule of these tests gives the recorded one",
);
/// The assertion in `get_scaled_gradient`.
pub(crate) const HALF_SCALE_OVERFLOW: Reason =
    Reason("the accumulated scale overflows fp16 and fails an assertion; here it is a legal scale");
/// `rescaling` of branches with infinities or NaN.
pub(crate) const NON_FINITE_BRANCH: Reason =
    Reason("Q9: a branch that is not finite raises or passes unseen; here the join has no target");
/// `rescaling` of scales that are Python floats.
pub(crate) const NO_SCALE_ARRAY: Reason =
    Reason("rescaling of Python floats raises an AttributeError; here every scale has a target");
/// `rescaling` of 0-d arrays.
pub(crate) const ALIASED_SCALE: Reason = Reason(
    "Q10: a 0-d scale is halved in place, so that its own branch is not rescaled; here it is",
);
/// The ratio of two scales in binary16.
pub(crate) const HALF_RATIO: Reason =
    Reason("Q11: the ratio of the scales overflows fp16; here a shift of the exponent is exact");
/// The sum behind `rescaling`.
pub(crate) const SUM_OVERFLOW: Reason = Reason(
    "Q11: only branches are looked at and their fp16 sum overflows; here the sum has to fit",
);
/// One object for layers and joins.
pub(crate) const SHARED_STATE: Reason =
    Reason("Q6: layers and joins share one state, so that one takes the other's stored factor");
/// PyTorch's scale has no bounds.
pub(crate) const BEYOND_SCALES: Reason =
    Reason("PyTorch's scale leaves 2^-126..=2^126, the legal scales; here it stays at the bound");
/// PyTorch's scale is an f32.
pub(crate) const ROUNDED_SCALE: Reason = Reason(
    "PyTorch rounds its scale to f32 after each product; here it is f64, each product checked",
);
/// `growth_factor=1.0`.
pub(crate) const GROWTH_OF_ONE: Reason =
    Reason("a growth of 1 raises in PyTorch; here it is legal, Chainer's interval=inf asks for it");
/// `enabled=False`.
pub(crate) const DISABLED: Reason =
    Reason("a disabled GradScaler has no state; here the counterpart is the fixed scale 2^0");
/// `unscale_` of binary16 gradients.
pub(crate) const HALF_PARAMETERS: Reason =
    Reason("PyTorch refuses to unscale fp16 gradients in place; here unscaling always gives f32");
/// Calls of PyTorch's methods out of order.
pub(crate) const OPTIMIZER_CALLS: Reason =
    Reason("calls out of order on a GradScaler and its optimizer; core has no such calls");
/// Chainer's static scale.
pub(crate) const UNCHECKED_STATIC: Reason = Reason(
    "Chainer checks no gradient of a static scale and breaks its weights; here it is skipped",
);
/// A static scale that is not a power of two.
pub(crate) const NO_STATIC_SCALE: Reason =
    Reason("Chainer's static scale is no power of two; here it is the greatest one below");
/// Branches that are summed as they are.
pub(crate) const UNSCALED_BRANCHES: Reason = Reason(
    "Q7: only approx_range rescales branches; others sum different scales, here they are joined",
);
