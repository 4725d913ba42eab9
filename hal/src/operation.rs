//! The calls of a device, as a value.

use core::fmt;

/// A call of a device that can fail or wait: what a fault plan and a record are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Device::read`](crate::Device::read).
    Read,
    /// [`Device::write`](crate::Device::write).
    Write,
    /// [`Memory::zeroed`](crate::Memory::zeroed).
    Zeroed,
    /// [`Narrow::statistics`](crate::Narrow::statistics).
    Statistics,
    /// [`Narrow::apply`](crate::Narrow::apply).
    Apply,
    /// [`Narrow::propagate`](crate::Narrow::propagate).
    Propagate,
    /// [`Narrow::unscale`](crate::Narrow::unscale).
    Unscale,
    /// [`Decide::certify`](crate::Decide::certify).
    Certify,
    /// [`Decide::note`](crate::Decide::note).
    Note,
    /// [`Decide::finish`](crate::Decide::finish).
    Finish,
    /// [`Matmul::matmul`](crate::Matmul::matmul).
    Matmul,
    /// [`Convolve::convolve`](crate::network::Convolve::convolve).
    Convolve,
    /// [`Convolve::convolve_input`](crate::network::Convolve::convolve_input).
    ConvolveInput,
    /// [`Convolve::convolve_weight`](crate::network::Convolve::convolve_weight).
    ConvolveWeight,
    /// [`Normalise::moments`](crate::network::Normalise::moments).
    Moments,
    /// [`Normalise::normalise`](crate::network::Normalise::normalise).
    Normalise,
    /// [`Normalise::normalise_sums`](crate::network::Normalise::normalise_sums).
    NormaliseSums,
    /// [`Normalise::normalise_input`](crate::network::Normalise::normalise_input).
    NormaliseInput,
    /// [`MaxPool::max_pool`](crate::network::MaxPool::max_pool).
    MaxPool,
    /// [`MaxPool::unpool`](crate::network::MaxPool::unpool).
    Unpool,
    /// [`MaxPool::pick`](crate::network::MaxPool::pick).
    Pick,
    /// [`SumPool::average_pool`](crate::network::SumPool::average_pool).
    AveragePool,
    /// [`SumPool::average_pool_input`](crate::network::SumPool::average_pool_input).
    AveragePoolInput,
    /// [`SumPool::max_pool_input`](crate::network::SumPool::max_pool_input).
    MaxPoolInput,
    /// [`Pointwise::relu`](crate::network::Pointwise::relu).
    Relu,
    /// [`Pointwise::relu_input`](crate::network::Pointwise::relu_input).
    ReluInput,
    /// [`Dropout::dropout`](crate::network::Dropout::dropout).
    Dropout,
    /// [`Accumulate::accumulate`](crate::network::Accumulate::accumulate).
    Accumulate,
    /// [`Accumulate::blend`](crate::network::Accumulate::blend).
    Blend,
    /// [`Embed::embed`](crate::network::Embed::embed).
    Embed,
    /// [`Embed::embed_table`](crate::network::Embed::embed_table).
    EmbedTable,
    /// [`Attend::attend`](crate::network::Attend::attend).
    Attend,
    /// [`Attend::attend_input`](crate::network::Attend::attend_input).
    AttendInput,
    /// [`Loss::softmax_cross_entropy`](crate::network::Loss::softmax_cross_entropy).
    SoftmaxCrossEntropy,
    /// [`Update::square_norm`](crate::network::Update::square_norm).
    SquareNorm,
    /// [`Update::sgd`](crate::network::Update::sgd).
    Sgd,
    /// [`Update::adamw`](crate::network::Update::adamw).
    AdamW,
}

impl Operation {
    /// Every operation, in the order of their discriminants.
    pub const ALL: [Self; 37] = [
        Self::Read,
        Self::Write,
        Self::Zeroed,
        Self::Statistics,
        Self::Apply,
        Self::Propagate,
        Self::Unscale,
        Self::Certify,
        Self::Note,
        Self::Finish,
        Self::Matmul,
        Self::Convolve,
        Self::ConvolveInput,
        Self::ConvolveWeight,
        Self::Moments,
        Self::Normalise,
        Self::NormaliseSums,
        Self::NormaliseInput,
        Self::MaxPool,
        Self::Unpool,
        Self::Pick,
        Self::AveragePool,
        Self::AveragePoolInput,
        Self::MaxPoolInput,
        Self::Relu,
        Self::ReluInput,
        Self::Dropout,
        Self::Accumulate,
        Self::Blend,
        Self::Embed,
        Self::EmbedTable,
        Self::Attend,
        Self::AttendInput,
        Self::SoftmaxCrossEntropy,
        Self::SquareNorm,
        Self::Sgd,
        Self::AdamW,
    ];

    /// Returns the name of the method.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Zeroed => "zeroed",
            Self::Statistics => "statistics",
            Self::Apply => "apply",
            Self::Propagate => "propagate",
            Self::Unscale => "unscale",
            Self::Certify => "certify",
            Self::Note => "note",
            Self::Finish => "finish",
            Self::Matmul => "matmul",
            Self::Convolve => "convolve",
            Self::ConvolveInput => "convolve_input",
            Self::ConvolveWeight => "convolve_weight",
            Self::Moments => "moments",
            Self::Normalise => "normalise",
            Self::NormaliseSums => "normalise_sums",
            Self::NormaliseInput => "normalise_input",
            Self::MaxPool => "max_pool",
            Self::Unpool => "unpool",
            Self::Pick => "pick",
            Self::AveragePool => "average_pool",
            Self::AveragePoolInput => "average_pool_input",
            Self::MaxPoolInput => "max_pool_input",
            Self::Relu => "relu",
            Self::ReluInput => "relu_input",
            Self::Dropout => "dropout",
            Self::Accumulate => "accumulate",
            Self::Blend => "blend",
            Self::Embed => "embed",
            Self::EmbedTable => "embed_table",
            Self::Attend => "attend",
            Self::AttendInput => "attend_input",
            Self::SoftmaxCrossEntropy => "softmax_cross_entropy",
            Self::SquareNorm => "square_norm",
            Self::Sgd => "sgd",
            Self::AdamW => "adamw",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
