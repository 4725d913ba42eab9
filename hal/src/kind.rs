//! The calls of a device, by kind.

use core::fmt;

/// Declares the kinds: each with its documentation, and its name in logs.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)+) => {
        /// A call of a device that can fail or wait: what a fault plan and a record are told.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum OperationKind {
            $($(#[$doc])* $kind,)+
        }

        impl OperationKind {
            /// Every kind, in the order of their discriminants.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Returns the name in logs; it stays where the value has got another one.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// [`Device::read`](crate::Device::read).
    Read = "read",
    /// [`Device::write`](crate::Device::write).
    Write = "write",
    /// [`Memory::zeroed`](crate::Memory::zeroed).
    Zeroed = "zeroed",
    /// [`Summarise`](crate::Summarise).
    Statistics = "statistics",
    /// [`Narrow`](crate::Narrow).
    Apply = "apply",
    /// [`Propagate`](crate::Propagate).
    Propagate = "propagate",
    /// [`Unscale`](crate::Unscale).
    Unscale = "unscale",
    /// [`Advance`](crate::scaler::Advance).
    Advance = "advance",
    /// [`Describe`](crate::scaler::Describe).
    Describe = "describe",
    /// [`Close`](crate::scaler::Close).
    Close = "close",
    /// [`Judge`](crate::scaler::Judge).
    Judge = "judge",
    /// [`Conclude`](crate::scaler::Conclude).
    Conclude = "conclude",
    /// [`Matmul`](crate::Matmul).
    Matmul = "matmul",
    /// [`Convolve`](crate::network::Convolve).
    Convolve = "convolve",
    /// [`ConvolveInput`](crate::network::ConvolveInput).
    ConvolveInput = "convolve_input",
    /// [`ConvolveWeight`](crate::network::ConvolveWeight).
    ConvolveWeight = "convolve_weight",
    /// [`Moments`](crate::network::Moments).
    Moments = "moments",
    /// [`Normalise`](crate::network::Normalise).
    Normalise = "normalise",
    /// [`NormaliseSums`](crate::network::NormaliseSums).
    NormaliseSums = "normalise_sums",
    /// [`NormaliseInput`](crate::network::NormaliseInput).
    NormaliseInput = "normalise_input",
    /// [`MaxPool`](crate::network::MaxPool).
    MaxPool = "max_pool",
    /// [`Unpool`](crate::network::Unpool).
    Unpool = "unpool",
    /// [`Pick`](crate::network::Pick).
    Pick = "pick",
    /// [`AveragePool`](crate::network::AveragePool).
    AveragePool = "average_pool",
    /// [`AveragePoolInput`](crate::network::AveragePoolInput).
    AveragePoolInput = "average_pool_input",
    /// [`MaxPoolInput`](crate::network::MaxPoolInput).
    MaxPoolInput = "max_pool_input",
    /// [`Relu`](crate::network::Relu).
    Relu = "relu",
    /// [`ReluInput`](crate::network::ReluInput).
    ReluInput = "relu_input",
    /// [`Dropout`](crate::network::Dropout).
    Dropout = "dropout",
    /// [`Accumulate`](crate::network::Accumulate).
    Accumulate = "accumulate",
    /// [`Blend`](crate::network::Blend).
    Blend = "blend",
    /// [`Embed`](crate::network::Embed).
    Embed = "embed",
    /// [`EmbedTable`](crate::network::EmbedTable).
    EmbedTable = "embed_table",
    /// [`Attend`](crate::network::Attend).
    Attend = "attend",
    /// [`AttendInput`](crate::network::AttendInput).
    AttendInput = "attend_input",
    /// [`SoftmaxCrossEntropy`](crate::network::SoftmaxCrossEntropy).
    SoftmaxCrossEntropy = "softmax_cross_entropy",
    /// [`SquareNorm`](crate::network::SquareNorm).
    SquareNorm = "square_norm",
    /// [`SgdStep`](crate::network::SgdStep).
    Sgd = "sgd",
    /// [`AdamWStep`](crate::network::AdamWStep).
    AdamW = "adamw",
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
