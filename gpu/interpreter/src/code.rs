//! Instructions as they are executed: operands are numbers of registers, constants included.

use crate::{
    counts::Class,
    error::PtxError,
    operation::{
        Atomic, Binary, Compare, Conversion, FloatBinary, FloatUnary, Logic, Permutation, Shift,
        Shuffle, Small, Unary,
    },
    types::{Space, Type},
};

/// The number of a register in its file.
pub(crate) type Register = u16;

/// No register.
pub(crate) const NONE: Register = Register::MAX;

/// A file of registers: those of 16 and 32 bits, those of 64, and predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Words,
    Longs,
    Predicates,
}

/// A register and its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: File,
    pub(crate) register: Register,
}

/// An address: what a register holds, and a distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) file: File,
    pub(crate) base: Register,
    pub(crate) offset: i32,
}

/// What an instruction does with which registers.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Binary {
        what: Binary,
        bits: u8,
        to: Register,
        a: Register,
        b: Register,
    },
    /// What is carried, in and out, is a predicate of the thread's own, or none.
    Carried {
        subtracts: bool,
        bits: u8,
        to: Register,
        a: Register,
        b: Register,
        takes: Register,
        leaves: Register,
    },
    WidenHalf {
        to: Register,
        a: Register,
    },
    RoundPair {
        what: Small,
        to: Register,
        a: Register,
        b: Register,
    },
    WidenPair {
        what: Small,
        to: Register,
        a: Register,
    },
    Halves {
        what: Binary,
        to: Register,
        a: Register,
        b: Register,
    },
    MultiplyWide {
        element: Type,
        to: Register,
        a: Register,
        b: Register,
    },
    MultiplyAdd {
        bits: u8,
        to: Register,
        a: Register,
        b: Register,
        c: Register,
    },
    MultiplyAddWide {
        element: Type,
        to: Register,
        a: Register,
        b: Register,
        c: Register,
    },
    Unary {
        what: Unary,
        bits: u8,
        to: Register,
        a: Register,
    },
    Shift {
        what: Shift,
        bits: u8,
        to: Register,
        a: Register,
        by: Register,
    },
    Funnel {
        left: bool,
        wraps: bool,
        to: Register,
        a: Register,
        b: Register,
        by: Register,
    },
    Extract {
        element: Type,
        to: Register,
        a: Register,
        position: Register,
        count: Register,
    },
    Insert {
        bits: u8,
        to: Register,
        a: Register,
        b: Register,
        position: Register,
        count: Register,
    },
    Permute {
        how: Permutation,
        to: Register,
        a: Register,
        b: Register,
        which: Register,
    },
    FloatBinary {
        what: FloatBinary,
        bits: u8,
        flushes: bool,
        to: Register,
        a: Register,
        b: Register,
    },
    FloatUnary {
        what: FloatUnary,
        bits: u8,
        flushes: bool,
        to: Register,
        a: Register,
    },
    Fused {
        bits: u8,
        flushes: bool,
        to: Register,
        a: Register,
        b: Register,
        c: Register,
    },
    Logic {
        what: Logic,
        to: Register,
        a: Register,
        b: Register,
    },
    NotPredicate {
        to: Register,
        a: Register,
    },
    MovePredicate {
        to: Register,
        a: Register,
    },
    /// `other` is what becomes of the opposite; `join` has another predicate, and whether it is negated.
    SetPredicate {
        compare: Compare,
        join: Option<(Logic, Register, bool)>,
        to: Register,
        other: Register,
        a: Register,
        b: Register,
    },
    Set {
        compare: Compare,
        to_float: bool,
        to: Register,
        a: Register,
        b: Register,
    },
    Select {
        bits: u8,
        to: Register,
        a: Register,
        b: Register,
        which: Register,
    },
    Move {
        bits: u8,
        to: Register,
        a: Register,
    },
    /// Parts of so many bits become one register, the lowest first.
    Pack {
        part: u8,
        count: u8,
        to: Place,
        parts: [Register; 4],
    },
    Unpack {
        part: u8,
        count: u8,
        to: [Register; 4],
        a: Place,
    },
    Convert {
        what: Conversion,
        to: Place,
        to_bits: u8,
        a: Place,
    },
    ConvertAddress {
        to_space: bool,
        space: Space,
        to: Register,
        a: Register,
    },
    LoadParameter {
        offset: u32,
        element: Type,
        count: u8,
        to: [Register; 4],
        to_bits: u8,
    },
    Load {
        space: Space,
        is_constant: bool,
        element: Type,
        count: u8,
        address: Address,
        to: [Register; 4],
        to_bits: u8,
    },
    Store {
        space: Space,
        element: Type,
        count: u8,
        address: Address,
        from: [Register; 4],
        from_bits: u8,
    },
    /// `to` is none of a reduction.
    Atomic {
        what: Atomic,
        space: Space,
        element: Type,
        to: Register,
        address: Address,
        from: Register,
    },
    CopyAsync {
        size: u8,
        to: Address,
        from: Address,
        bytes: Register,
    },
    CommitGroup,
    /// Waits until so many groups are under way.
    WaitGroup(u32),
    WaitAll,
    Shuffle {
        how: Shuffle,
        to: Register,
        found: Register,
        a: Register,
        b: Register,
        c: Register,
        members: Register,
    },
    LoadMatrices {
        count: u8,
        transposes: bool,
        to: [Register; 4],
        address: Address,
    },
    MultiplyMatrices {
        is_bfloat: bool,
        registers: Box<Fragments>,
    },
    Barrier,
    WarpBarrier {
        members: Register,
    },
    Branch(u32),
    Return,
    Trap,
}

/// The registers of a product of matrices.
#[derive(Clone, Debug)]
pub(crate) struct Fragments {
    pub(crate) to: [Register; 4],
    pub(crate) a: [Register; 4],
    pub(crate) b: [Register; 2],
    pub(crate) c: [Register; 4],
}

/// An instruction.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) op: Op,
    /// The predicate that it is executed under, or none, and whether it is negated.
    pub(crate) guard: Register,
    pub(crate) is_negated: bool,
    /// It is executed by a warp's threads together.
    pub(crate) is_of_warp: bool,
    pub(crate) class: Class,
    pub(crate) line: u32,
    /// What it reads: a part of [`Code::reads`].
    pub(crate) reads: (u32, u32),
}

/// What a thread or its launch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Thread,
    Threads,
    Block,
    Blocks,
    Lane,
    /// What is along the other axes: there is one of everything.
    Zero,
    One,
}

impl Special {
    /// Reads the name of a special register.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "%tid.x" => Self::Thread,
            "%ntid.x" => Self::Threads,
            "%ctaid.x" => Self::Block,
            "%nctaid.x" => Self::Blocks,
            "%laneid" => Self::Lane,
            "%tid.y" | "%tid.z" | "%ctaid.y" | "%ctaid.z" => Self::Zero,
            "%ntid.y" | "%ntid.z" | "%nctaid.y" | "%nctaid.z" => Self::One,
            _ => return None,
        })
    }
}

/// An entry that can be executed.
#[derive(Debug, Default)]
pub(crate) struct Code {
    /// In the order of the text, which is where threads meet again first; the last one returns.
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) reads: Vec<Place>,
    /// How many registers of each file there are, with constants.
    pub(crate) words: usize,
    pub(crate) longs: usize,
    pub(crate) predicates: usize,
    pub(crate) constant_words: Vec<(Register, u32)>,
    pub(crate) constant_longs: Vec<(Register, u64)>,
    pub(crate) constant_predicates: Vec<(Register, bool)>,
    pub(crate) specials: Vec<(Register, Special)>,
    /// Bytes of local memory that a thread has.
    pub(crate) local_bytes: usize,
    /// Bytes of shared memory in front of what a launch asks for.
    pub(crate) shared_bytes: usize,
    /// The least bytes that shared memory is accessed by.
    pub(crate) granule: usize,
    /// Words, longs and predicates as they were declared, in the order of their numbers.
    pub(crate) declared: [Vec<Declared>; 3],
}

/// Registers that were declared together.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) first: Register,
    /// How many, with numbers behind the name; none is one register of that name.
    pub(crate) count: Option<u32>,
    pub(crate) name: String,
}

impl Code {
    /// Returns the name of a register.
    pub(crate) fn name(&self, Place { file, register }: Place) -> String {
        let declared = &self.declared[file as usize];
        let behind = declared.partition_point(|of| of.first <= register);
        let of = behind.checked_sub(1).map(|at| &declared[at]);
        match of.map(|of| (of, u32::from(register - of.first))) {
            Some((Declared { count: None, name, .. }, 0)) => name.clone(),
            Some((Declared { count: Some(count), name, .. }, nth)) if nth < *count => {
                format!("{name}{nth}")
            }
            _ => "a constant".into(),
        }
    }
}

/// What a decoder answers.
pub(crate) type Decoded<T> = Result<T, PtxError>;
