//! What cannot be read, and what a kernel must not do.

use std::{error, fmt};

/// What cannot be read in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl PtxError {
    pub(crate) fn new(line: u32, what: impl Into<String>) -> Self {
        Self { line: line as usize, what: what.into() }
    }
}

impl fmt::Display for PtxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl error::Error for PtxError {}

/// A kind of what a kernel, or who launches it, must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An instruction cannot be read: its operands do not fit it.
    Text,
    /// The launch does not fit the kernel.
    Launch,
    /// An address of nothing, or of what the instruction cannot reach.
    Address,
    /// An address that is not a multiple of what is accessed.
    Alignment,
    /// A constant table is written.
    Table,
    /// A register or shared memory is read that nobody wrote.
    Unwritten,
    /// Two threads access the same bytes, one of them writes, and nothing orders them.
    Race,
    /// Bytes are accessed that an asynchronous copy is under way to, or from.
    UnderWay,
    /// A barrier, or what a warp does together, that some threads cannot come to.
    Barrier,
    /// No thread can go on.
    Deadlock,
    /// More instructions than the launch allows.
    Limit,
    /// The kernel stops itself.
    Trap,
}

/// What a kernel does that it must not, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of fault it is.
    pub kind: FaultKind,
    /// The line of the text, from 1; that of the entry where no instruction is at fault.
    pub line: usize,
    /// The name of the entry.
    pub entry: String,
    /// The block.
    pub block: u32,
    /// The thread in its block, or the first of those at fault.
    pub thread: Option<u32>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}, block {}", self.entry, self.line, self.block)?;
        if let Some(thread) = self.thread {
            write!(f, ", thread {thread}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl error::Error for Fault {}

/// A fault where it happens: the launch adds the rest.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) kind: FaultKind,
    /// The lane of the warp that is at fault.
    pub(crate) lane: Option<u32>,
    /// The instruction, where it is not the one that is executed.
    pub(crate) at: Option<usize>,
    pub(crate) what: String,
}

impl Stop {
    pub(crate) fn new(kind: FaultKind, lane: u32, what: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, lane: Some(lane), at: None, what: what.into() })
    }
}

/// What an instruction answers.
pub(crate) type Step<T = ()> = Result<T, Box<Stop>>;
