//! What an instruction does, apart from its operands.

use crate::types::{Family, Space, Type};

/// What two integers of one width become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Binary {
    Add,
    Subtract,
    MultiplyLow,
    MultiplyHighUnsigned,
    MultiplyHighSigned,
    DivideUnsigned,
    DivideSigned,
    RemainderUnsigned,
    RemainderSigned,
    MinUnsigned,
    MinSigned,
    MaxUnsigned,
    MaxSigned,
    And,
    Or,
    Xor,
}

/// A sum or difference of integers wider than a register, of which this is one part: what is carried from one part to the next is in
/// a register of the thread's own that has no name in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// It is a difference, and what is carried is borrowed.
    pub subtracts: bool,
    /// What the part below carries is taken.
    pub takes: bool,
    /// What this part carries is left for the one above.
    pub leaves: bool,
}

/// What one integer becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Unary {
    Not,
    Negate,
    Absolute,
    CountLeadingZeros,
    CountOnes,
    ReverseBits,
}

impl Unary {
    /// Tells whether it counts bits, which 32 bits are enough for.
    pub const fn counts(self) -> bool {
        matches!(self, Self::CountLeadingZeros | Self::CountOnes)
    }
}

/// Which way bits are shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Shift {
    Left,
    RightUnsigned,
    RightSigned,
}

/// What two floating-point numbers become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum FloatBinary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Min,
    Max,
    /// A NaN wins.
    MinNan,
    /// A NaN wins.
    MaxNan,
    /// The second with the sign of the first.
    CopySign,
}

/// What one floating-point number becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum FloatUnary {
    Absolute,
    Negate,
    SquareRoot,
    Reciprocal,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Both are numbers.
    Numbers,
    /// One is a NaN.
    Nan,
}

/// A comparison, what it is of, and whether a NaN makes it true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// How values are compared.
    pub how: Comparison,
    /// It is true where one of them is a NaN.
    pub is_unordered: bool,
    /// What they are.
    pub element: Type,
    /// Subnormal numbers count as zeros.
    pub flushes: bool,
}

/// What two predicates become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Logic {
    And,
    Or,
    Xor,
}

/// How a conversion rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, to even at half way.
    Nearest,
    /// Toward zero.
    Zero,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
}

/// A conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// What it makes.
    pub to: Type,
    /// What it reads.
    pub from: Type,
    /// How it rounds.
    pub rounding: Rounding,
    /// Subnormal numbers become zeros.
    pub flushes: bool,
    /// What is too large for an integer becomes the largest.
    pub saturates: bool,
}

/// A floating-point number of 16 or 8 bits, of which two are converted at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Small {
    Half,
    Bfloat,
    E5M2,
    E4M3,
}

/// What an atomic operation makes of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Atomic {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
}

/// Which lane a shuffle reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// How the bytes of a permutation are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Permutation {
    Any,
    Forward4,
    Backward4,
    Replicate8,
    EdgeClampLeft,
    EdgeClampRight,
    Replicate16,
}

/// What an instruction does, apart from its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of PTX")]
pub enum Operation {
    Binary(Binary, Type),
    Carried(Carried, Type),
    /// `min` and `max` of each half: the second is for signed ones.
    Halves(Binary),
    MultiplyWide(Type),
    MultiplyAdd(Type),
    MultiplyAddWide(Type),
    Unary(Unary, Type),
    Shift(Shift, Type),
    Funnel {
        left: bool,
        wraps: bool,
    },
    Extract(Type),
    Insert(Type),
    Permute(Permutation),
    FloatBinary {
        what: FloatBinary,
        element: Type,
        flushes: bool,
    },
    FloatUnary {
        what: FloatUnary,
        element: Type,
        flushes: bool,
    },
    Fused {
        element: Type,
        flushes: bool,
    },
    Logic(Logic),
    NotPredicate,
    MovePredicate,
    /// A predicate of a comparison and, where another follows, of what is made of both.
    SetPredicate(Compare, Option<Logic>),
    /// All ones, or `1.0`, where a comparison is true.
    Set(Compare, Type),
    Select(Type),
    Move(Type),
    Convert(Conversion),
    /// A binary16 number becomes one of 32 bits.
    WidenHalf,
    /// Two numbers of 32 bits are rounded to the nearest; those of 8 bits become the largest where they are too large.
    RoundPair(Small),
    /// Two numbers of 8 bits become binary16 numbers.
    WidenPair(Small),
    /// An address of a space from a generic one, or the other way.
    ConvertAddress {
        to_space: bool,
        space: Space,
    },
    /// Constant is what nobody writes while it may be read.
    Load {
        space: Space,
        is_constant: bool,
        element: Type,
        count: usize,
    },
    Store {
        space: Space,
        element: Type,
        count: usize,
    },
    Atomic {
        what: Atomic,
        space: Space,
        element: Type,
    },
    Reduce {
        what: Atomic,
        space: Space,
        element: Type,
    },
    /// Of 16 bytes at most.
    CopyAsync {
        least_bytes: u64,
    },
    CommitGroup,
    WaitGroup,
    WaitAll,
    Shuffle(Shuffle),
    LoadMatrices {
        count: usize,
        transposes: bool,
    },
    MultiplyMatrices {
        is_bfloat: bool,
    },
    Barrier,
    WarpBarrier,
    Branch,
    Return,
    Trap,
}

impl Operation {
    /// Returns the type of the numbers that it reads, where it says one.
    pub fn reads(self) -> Option<Type> {
        Some(match self {
            Self::Binary(_, of)
            | Self::Carried(_, of)
            | Self::MultiplyWide(of)
            | Self::MultiplyAdd(of)
            | Self::MultiplyAddWide(of)
            | Self::Unary(_, of)
            | Self::Shift(_, of)
            | Self::Extract(of)
            | Self::Insert(of)
            | Self::Select(of)
            | Self::Move(of) => of,
            Self::FloatBinary { element, .. }
            | Self::FloatUnary { element, .. }
            | Self::Fused { element, .. }
            | Self::Store { element, .. }
            | Self::Atomic { element, .. }
            | Self::Reduce { element, .. } => element,
            Self::SetPredicate(compare, _) | Self::Set(compare, _) => compare.element,
            Self::Convert(what) => what.from,
            Self::RoundPair(_) => Type { family: Family::Float, bits: 32 },
            _ => return None,
        })
    }

    /// Tells whether the threads of a warp execute it together.
    pub const fn is_of_warp(self) -> bool {
        matches!(
            self,
            Self::Shuffle(_)
                | Self::LoadMatrices { .. }
                | Self::MultiplyMatrices { .. }
                | Self::WarpBarrier
        )
    }
}
