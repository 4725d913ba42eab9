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
    /// A certificate is for the scale above the one that the tensor leaves with.
    CertifiesOneTooHigh,
    /// Certificates are written, and the cell does not remember it.
    ForgetsCertificates,
    /// Outcomes reach no cell.
    NotesNothing,
    /// A scale follows an overflow at once, in the middle of a step.
    MovesAtOverflow,
    /// The end of a step reaches no cell.
    FinishesNothing,
    /// The end of a step reaches the first of several cells.
    FinishesTheFirst,
    /// The end of a step reaches full blocks of cells, and not those after the last one.
    FinishesWholeBlocks,
    /// The end of a step reaches the cell after the last one, too.
    FinishesOneMore,
    /// A transposed operand is read as it lies.
    IgnoresTranspose,
    /// Sums are kept in binary16.
    NarrowAccumulator,
    /// NaN in an operand is read as zero.
    FlushesNan,
}
