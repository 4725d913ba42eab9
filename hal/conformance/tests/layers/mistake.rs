//! Ways to be wrong, each a mistake that was made in some kernel.

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Nothing.
    None,

    /// A kernel is mirrored, as in signal processing.
    MirrorsKernel,
    /// An image lies one column beside its padding.
    ShiftsPadding,
    /// Every filter sees the channels of the first group.
    IgnoresGroups,
    /// The elements of a kernel are neighbours, whatever the dilation.
    IgnoresDilation,
    /// Sums start at zero, whatever the bias.
    StartsAtZero,
    /// Of a sum in several parts, each starts at the bias.
    StartsEachPart,
    /// Results have the precision of a 16-bit accumulator.
    NarrowAccumulator,
    /// A weight gradient lacks the last image.
    ForgetsAnImage,
    /// A shape that does not exist is taken for an empty one.
    TakesImpossibleShapes,

    /// A maximum leaves NaN out, as `fmax` does.
    DropsNan,
    /// Of equal elements the last is taken.
    TakesTheLast,
    /// A window sees zeros in its padding.
    SeesPadding,
    /// Windows that overlap are unpooled all the same.
    UnpoolsOverlaps,
    /// A mean is one of the elements inside the image only.
    ForgetsPaddingInMeans,
    /// Of several windows that took a pixel, the last one's gradient is kept.
    OverwritesGradients,

    /// A variance is that of a sample.
    UnbiasedVariance,
    /// A variance is the mean of the squares less the square of the mean.
    OnePassVariance,
    /// Moments are about the mean, whatever the shape says.
    CentresMoments,
    /// An input gradient loses its mean, whatever the shape says.
    CentresGradients,
    /// No epsilon.
    ForgetsEpsilon,
    /// No offset.
    ForgetsOffset,
    /// A group is normalised with its neighbour's mean.
    WrongMoment,
    /// A gain's gradient takes the input as it is.
    SumsWithoutMean,
    /// An input gradient keeps its mean.
    KeepsMeanGradient,
    /// An input gradient keeps what moves the variance.
    KeepsVarianceGradient,

    /// -0 passes the rectifier.
    KeepsMinusZero,
    /// A NaN becomes zero in the rectifier.
    RectifiesNan,
    /// The gradient is gated by what is above zero, which a NaN is not.
    GatesNan,
    /// What is kept is not multiplied.
    ForgetsGain,
    /// Random words are counted from the beginning of a block instead of the tensor.
    RepeatsNoise,
    /// A bias is added to the first row only.
    FirstRowOnly,
    /// A share of the new is a share of the old.
    SwapsBlend,
    /// A token beyond the vocabulary is its last one.
    ClampsTokens,
    /// Of several rows with one token the last is kept.
    OverwritesRows,

    /// A token sees the one after it.
    SeesTheFuture,
    /// Exponentials are taken of the scores themselves.
    ForgetsMaximum,
    /// Scores are divided by the width, not by its root.
    DividesByWidth,
    /// The gradient of the keys lacks the root.
    ForgetsRoot,
    /// The gradients of keys and values are exchanged.
    SwapsKeysAndValues,

    /// A gradient is divided by the number of rows, not by the sum of the weights.
    DividesByRows,
    /// A greatest logit that is not alone counts as right.
    CountsTies,
    /// Labels that are no class are the first one.
    CountsIgnoredRows,
    /// Classes are not weighted.
    ForgetsWeights,
    /// Logits that are not finite are zero.
    HidesNan,
    /// The sum of the losses is f32.
    SumsInF32,

    /// Norms are summed in f32.
    NormInF32,
    /// No gradient is clipped.
    IgnoresClipping,
    /// Every gradient is brought to the greatest norm.
    AlwaysClips,
    /// A weight is moved by the momentum before the step.
    OldMomentum,
    /// Moments keep the bias of their first steps.
    ForgetsBias,
    /// The decay goes through the moments, as in Adam.
    CouplesDecay,
}
