//! Every tolerance, with its reason.  All else is compared bit for bit.

use crate::tensor::Dtype;

/// How far a number may be off, relative to what was recorded or to what the check says.
pub(crate) struct Tolerance {
    pub(crate) name: &'static str,
    pub(crate) relative: f64,
}

/// The factor of the Gaussian model.  The authors sum in f32, pairwise, and round the mean before
/// they subtract it; here sums are exact and round once.
pub(crate) const GAUSSIAN_FACTOR: Tolerance =
    Tolerance { name: "factor of the Gaussian model", relative: 1e-6 };

/// The factor of the log-normal model: an exponential of the mean and the deviation of logarithms
/// near 20, whose f32 sums are off by some 1e-6, and numpy's f32 logarithm is off by up to 4 ulp.
pub(crate) const LOG_NORMAL_FACTOR: Tolerance =
    Tolerance { name: "factor of the log-normal model", relative: 2e-5 };

/// Means and deviations that numpy computed in f64, in units of the deviation and the mean: its
/// sums round, ours do not.
pub(crate) const MOMENTS: Tolerance = Tolerance { name: "moments", relative: 1e-13 };

/// The same of logarithms, each of which is rounded to f32 here and not there.
pub(crate) const LOG_MOMENTS: Tolerance =
    Tolerance { name: "moments of logarithms", relative: 1e-7 };

/// The inverse error function of the scipy that was used, which is off by 6.6e-12 at 1e-5 (Q22).
pub(crate) const ERFINV: Tolerance = Tolerance { name: "inverse error function", relative: 1e-11 };

/// Within this distance of a power of two the authors' f32 logarithm rounds up to it (Q3).
pub(crate) const POWER_OF_TWO: f64 = 1e-6;

/// A sum of branches, in units of the bound that the check derives from each rounding on the way:
/// the authors add in binary16, core in f32.
pub(crate) const SUM_OF_BRANCHES: Tolerance =
    Tolerance { name: "sum of branches, of what its roundings can add up to", relative: 1.0 };

/// Returns the most that rounding to a storage type can move a number of this size.
pub(crate) fn half_ulp(dtype: Dtype, x: f32) -> f64 {
    let (precision, smallest_normal) = match dtype {
        Dtype::F16 => (11, -14),
        Dtype::F32 => (24, -126),
    };
    let binade = if x == 0.0 { smallest_normal } else { libm::ilogbf(x).max(smallest_normal) };
    libm::ldexp(1.0, binade - precision)
}

/// The gradient of a softmax, in units of what two roundings of a probability and of the result can
/// add up to: numpy's f32 exponential and logarithm are off by up to 4 ulp, which moves some.
pub(crate) const SOFTMAX: Tolerance =
    Tolerance { name: "softmax gradient, of what its roundings can add up to", relative: 1.0 };

/// Parameters after optimizer steps, in units of the largest velocity of their array: what the
/// softmax of one step leaves enters the next.
pub(crate) const TRAINING: Tolerance =
    Tolerance { name: "parameters, of the largest velocity", relative: 4e-3 };

/// Batch normalisation, in units of what the roundings of Chainer's operations, each to the type of
/// gamma, can add up to; the check rounds none of them.
pub(crate) const NORMALISATION: Tolerance =
    Tolerance { name: "batch normalisation, of what its roundings can add up to", relative: 1.0 };
