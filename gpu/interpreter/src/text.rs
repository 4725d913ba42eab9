//! What a text says, before anybody asks what it means: variables, entries, statements and operands.
//!
//! Whatever is not known here is an error: nothing is passed over.

use crate::{error::PtxError, reader::Reader, types::Space};

/// A text.
#[derive(Clone, Debug, Default)]
pub struct Text<'t> {
    /// What `.target` names, as `sm_90a`.
    pub target: &'t str,
    /// Those outside of entries.
    pub variables: Vec<Variable<'t>>,
    /// In the order of the text.
    pub entries: Vec<EntryText<'t>>,
}

/// A variable in memory.
#[derive(Clone, Debug)]
pub struct Variable<'t> {
    /// Its line, from 1.
    pub line: u32,
    /// Where it is.
    pub space: Space,
    /// Its size is up to the launch.
    pub is_launched: bool,
    /// What its address is a multiple of.
    pub align: usize,
    /// Its name.
    pub name: &'t str,
    /// Its bytes in all.
    pub size: usize,
    /// The bytes that are given, zeros behind them left out.
    pub bytes: Vec<u8>,
}

/// A parameter of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'t> {
    /// Its name.
    pub name: &'t str,
    /// What its offset is a multiple of.
    pub align: usize,
    /// Its bytes.
    pub size: usize,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct EntryText<'t> {
    /// Its line, from 1.
    pub line: u32,
    /// Its name.
    pub name: &'t str,
    /// In the order of the text.
    pub parameters: Vec<Parameter<'t>>,
    /// The most threads of a block, if it says so.
    pub most_threads: Option<u32>,
    /// What is in its braces.
    pub statements: Vec<Statement<'t>>,
    /// The line of its opening brace, and the bytes of the text between the two.
    pub(crate) body: (u32, std::ops::Range<usize>),
}

/// A statement and its line, from 1.
#[derive(Clone, Debug)]
pub struct Statement<'t> {
    /// Its line, from 1.
    pub line: u32,
    /// What it says.
    pub what: What<'t>,
}

/// What a statement says.
#[derive(Clone, Debug)]
pub enum What<'t> {
    /// A place that branches go to.
    Label(&'t str),
    /// `.reg`: a type without its dot and names; `%r<4>` stands for `%r0` to `%r3`.
    Registers(&'t str, Vec<(&'t str, Option<u32>)>),
    /// A variable of the entry.
    Variable(Variable<'t>),
    /// `{`: what is declared up to its end is known there only.
    Open,
    /// `}`.
    Close,
    /// An instruction.
    Instruction(Instruction<'t>),
}

/// An instruction.
#[derive(Clone, Debug)]
pub struct Instruction<'t> {
    /// The predicate that it is executed under, and whether it is negated.
    pub guard: Option<(&'t str, bool)>,
    /// The operation with its modifiers, as `bar.sync`.
    pub operation: &'t str,
    /// Its operands, the written ones first.
    pub operands: Vec<Operand<'t>>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand<'t> {
    /// A register, a variable or a label; `_` is nothing.
    Name(&'t str),
    /// `!`: the opposite of a predicate.
    Not(&'t str),
    /// An integer; negative ones as their two's complement.
    Integer(u64),
    /// The bits of a `0f` number.
    Single(u32),
    /// The bits of a `0d` number.
    Double(u64),
    /// `[name+offset]`.
    Address(&'t str, i64),
    /// `{a, b}`.
    Vector(Vec<Operand<'t>>),
    /// `a|b`.
    Pair(&'t str, &'t str),
}

impl<'t> Text<'t> {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// It has something that is not known here, or ends too early.
    pub fn parse(text: &'t str) -> Result<Self, PtxError> {
        let mut reader = Reader::new(text, 1)?;
        let mut read = Self::default();
        while let Some(token) = reader.peek() {
            match token.text {
                ".version" => reader.version()?,
                ".target" => {
                    reader.next()?;
                    read.target = reader.word()?;
                }
                ".address_size" => {
                    reader.next()?;
                    if reader.number()? != 64 {
                        return Err(PtxError::new(token.line, "addresses of other than 64 bits"));
                    }
                }
                ".visible" | ".entry" => read.entries.push(reader.entry()?),
                ".global" | ".shared" | ".extern" => read.variables.push(reader.variable()?),
                _ => return Err(reader.unknown("an unknown directive", token)),
            }
        }
        Ok(read)
    }
}
