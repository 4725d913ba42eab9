//! Ways to be wrong, each a mistake that was made in some kernel.

/// What is wrong with a sabotaged accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Nothing.
    None,
    /// A copy goes to the beginning of a buffer instead of to the part that was named.
    IgnoresOffsets,
    /// A value halfway between two numbers becomes the larger one.
    TiesUp,
    /// NaN and infinity pass uncounted.
    DropsNonFinite,
    /// Every shift is one too many.
    ShiftOffByOne,
    /// The shift is a multiplication in f32 before the conversion.
    MultipliesInF32,
    /// Random words are counted from the beginning of a block instead of the tensor.
    RepeatsNoise,
    /// A pass that only measures stores as well.
    StoresWhenMeasuring,
    /// Counts replace what was there instead of being added to it.
    OverwritesOutcome,
    /// Counters have 16 bits, and keep what was above them.
    NarrowCounters,
    /// Counters of statistics have 32 bits, and keep what was above them.
    NarrowStatistics,
    /// Counters of unscaling have 32 bits, and keep what was above them.
    NarrowUnscaled,
    /// One lane's histogram is not merged into the others'.
    ForgetsHistogram,
    /// Histograms count scaled values as if they were not.
    IgnoresIncomingScale,
    /// A join adds branches without bringing them to one scale.
    JoinsWithoutScales,
    /// Unscaling multiplies with the scale instead of its inverse.
    UnscalesTheWrongWay,
    /// Least magnitudes include zero.
    LeastIsZero,
    /// Operations are made whatever their predicate says.
    IgnoresPredicates,
    /// Counts that a scaler took are left as they were.
    KeepsCounts,
    /// A join is at the scale of its first branch.
    JoinsAtTheFirst,
    /// What a visit found reaches no cell.
    ForgetsCells,
    /// The end of a step reaches the first of several cells.
    FinishesTheFirst,
    /// The weights are updated whatever was found.
    AppliesAlways,
    /// What another scaler found is not looked at.
    IgnoresTheOther,
    /// A transposed operand is read as it lies.
    IgnoresTranspose,
    /// Sums start at zero, whatever the bias.
    StartsAtZero,
    /// Of a sum in several parts, each starts at the bias.
    StartsEachPart,
    /// Sums are kept in binary16.
    NarrowAccumulator,
    /// NaN in an operand is read as zero.
    FlushesNan,
}
