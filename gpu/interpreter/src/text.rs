//! What a text says, before anybody asks what it means: variables, entries, statements and operands.
//!
//! Whatever is not known here is an error: nothing is passed over.

use crate::{
    error::PtxError,
    token::{Kind, Token, tokens},
    types::{Space, Type},
};

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

/// Reads the statements of a body that begins in a line.
pub(crate) fn statements(body: &str, line: u32) -> Result<Vec<Statement<'_>>, PtxError> {
    let mut reader = Reader::new(body, line)?;
    let mut statements = Vec::new();
    while reader.peek().is_some() {
        reader.statement(&mut statements)?;
    }
    Ok(statements)
}

struct Reader<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    last_line: u32,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, line: u32) -> Result<Self, PtxError> {
        let tokens = tokens(text, line)?;
        let last_line = tokens.last().map_or(line, |token| token.line);
        Ok(Self { tokens, at: 0, last_line })
    }

    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Result<Token<'t>, PtxError> {
        let token =
            self.peek().ok_or_else(|| PtxError::new(self.last_line, "the text ends here"))?;
        self.at += 1;
        Ok(token)
    }

    fn unknown(&self, what: &str, token: Token<'_>) -> PtxError {
        PtxError::new(token.line, format!("{what}: {}", token.text))
    }

    /// Takes the next token if it is this one.
    fn takes(&mut self, text: &str) -> bool {
        let is = self.peek().is_some_and(|token| token.text == text);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, text: &str) -> Result<(), PtxError> {
        let token = self.next()?;
        if token.text != text {
            return Err(self.unknown(&format!("not `{text}`"), token));
        }
        Ok(())
    }

    fn word(&mut self) -> Result<&'t str, PtxError> {
        let token = self.next()?;
        if token.kind != Kind::Word {
            return Err(self.unknown("not a name", token));
        }
        Ok(token.text)
    }

    /// Reads `.version 7.8`, of which nothing follows: what a later version adds is not known by its name.
    fn version(&mut self) -> Result<(), PtxError> {
        self.expect(".version")?;
        self.number()?;
        // The fraction is a word: it begins with a dot.
        let fraction = self.word()?;
        let digits = fraction.strip_prefix('.').unwrap_or_default();
        match digits.parse::<u32>() {
            Ok(_) => Ok(()),
            Err(_) => Err(PtxError::new(self.last_line, format!("not a version: {fraction}"))),
        }
    }

    /// Reads an unsigned number.
    fn number(&mut self) -> Result<u64, PtxError> {
        let token = self.next()?;
        let number = integer(token.text).filter(|_| token.kind == Kind::Number);
        number.ok_or_else(|| self.unknown("not a number", token))
    }

    /// Reads a size: something that memory can have.
    fn size(&mut self) -> Result<usize, PtxError> {
        let (line, number) =
            (self.peek().map_or(self.last_line, |token| token.line), self.number()?);
        let size = usize::try_from(number).ok().filter(|&size| size <= 1 << 24);
        size.ok_or_else(|| PtxError::new(line, format!("{number} is too many")))
    }

    fn align(&mut self) -> Result<usize, PtxError> {
        let line = self.peek().map_or(self.last_line, |token| token.line);
        let align = self.size()?;
        if !align.is_power_of_two() || align > 256 {
            return Err(PtxError::new(line, format!("an alignment of {align}")));
        }
        Ok(align)
    }

    /// Reads a type with its dot.
    fn element(&mut self) -> Result<Type, PtxError> {
        let token = self.next()?;
        let element = token.text.strip_prefix('.').and_then(Type::named);
        element.ok_or_else(|| self.unknown("an unknown type", token))
    }

    /// Reads `.extern .shared .align 16 .b8 name[size] = {1, 2};`.
    fn variable(&mut self) -> Result<Variable<'t>, PtxError> {
        let is_launched = self.takes(".extern");
        let token = self.next()?;
        let space = token.text.strip_prefix('.').and_then(Space::named);
        let space = space.ok_or_else(|| self.unknown("an unknown space", token))?;
        if is_launched && space != Space::Shared {
            return Err(PtxError::new(token.line, "a variable of another module"));
        }
        let align = if self.takes(".align") { Some(self.align()?) } else { None };
        let element = self.element()?;
        let align = align.unwrap_or(element.bytes());
        let name = self.word()?;
        let mut count = Some(1);
        if self.takes("[") {
            count = if self.takes("]") { None } else { Some(self.size()?) };
            if count.is_some() {
                self.expect("]")?;
            }
        }
        if count.is_none() != is_launched {
            return Err(PtxError::new(token.line, format!("the size of {name}")));
        }
        let size = count.unwrap_or(0) * element.bytes();
        let bytes = if self.takes("=") { self.values(element)? } else { Vec::new() };
        if bytes.len() > size || !bytes.is_empty() && space != Space::Global {
            return Err(PtxError::new(token.line, format!("the values of {name}")));
        }
        self.expect(";")?;
        Ok(Variable { line: token.line, space, is_launched, align, name, size, bytes })
    }

    fn values(&mut self, element: Type) -> Result<Vec<u8>, PtxError> {
        let mut bytes = Vec::new();
        let is_list = self.takes("{");
        loop {
            let value = self.value(element)?;
            bytes.extend(&value.to_le_bytes()[..element.bytes()]);
            if !is_list || self.takes("}") {
                return Ok(bytes);
            }
            self.expect(",")?;
        }
    }

    /// Reads the bits of a value; one of another kind would have to be converted.
    fn value(&mut self, element: Type) -> Result<u64, PtxError> {
        let line = self.peek().map_or(self.last_line, |token| token.line);
        match self.scalar()? {
            Operand::Integer(value) if !element.is_float() => Ok(value),
            Operand::Single(bits) if element.bits == 32 => Ok(u64::from(bits)),
            Operand::Double(bits) if element.bits == 64 => Ok(bits),
            _ => Err(PtxError::new(line, "not a value of that type")),
        }
    }

    fn entry(&mut self) -> Result<EntryText<'t>, PtxError> {
        self.takes(".visible");
        let line = self.peek().map_or(self.last_line, |token| token.line);
        self.expect(".entry")?;
        let name = self.word()?;
        let mut parameters = Vec::new();
        if self.takes("(") && !self.takes(")") {
            loop {
                parameters.push(self.parameter()?);
                if self.takes(")") {
                    break;
                }
                self.expect(",")?;
            }
        }
        let most_threads = self.bounds()?;
        let brace = self.next()?;
        if brace.text != "{" {
            return Err(PtxError::new(brace.line, format!("the entry {name} has no body")));
        }
        let mut statements = Vec::new();
        let end = self.body(name, &mut statements)?;
        let body = (brace.line, brace.at + 1..end);
        Ok(EntryText { line, name, parameters, most_threads, statements, body })
    }

    /// Reads up to the brace that closes an entry; returns where it stands.
    fn body(&mut self, name: &str, to: &mut Vec<Statement<'t>>) -> Result<usize, PtxError> {
        let mut depth = 0_usize;
        loop {
            let Some(token) = self.peek() else {
                return Err(PtxError::new(
                    self.last_line,
                    format!("the entry {name} does not end"),
                ));
            };
            if token.text == "}" && depth == 0 {
                self.at += 1;
                return Ok(token.at);
            }
            match token.text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            self.statement(to)?;
        }
    }

    /// Reads `.param .align 8 .b8 name[40]` or `.param .u64 .ptr .align 1 name`.
    fn parameter(&mut self) -> Result<Parameter<'t>, PtxError> {
        self.expect(".param")?;
        let align = if self.takes(".align") { Some(self.align()?) } else { None };
        let element = self.element()?;
        if self.takes(".ptr") {
            // What it points to, and how that is aligned, is for an assembler's optimiser.
            _ = self.takes(".global");
            if self.takes(".align") {
                self.align()?;
            }
        }
        let name = self.word()?;
        let mut count = 1;
        if self.takes("[") {
            count = self.size()?;
            self.expect("]")?;
        }
        let align = align.unwrap_or(element.bytes());
        Ok(Parameter { name, align, size: count * element.bytes() })
    }

    /// Reads the bounds of a launch; returns the most threads.  What else is there tells an assembler how many registers
    /// to take.
    fn bounds(&mut self) -> Result<Option<u32>, PtxError> {
        let mut most_threads = None;
        loop {
            if self.takes(".maxntid") {
                let mut threads = self.size()?;
                while self.takes(",") {
                    threads = threads.saturating_mul(self.size()?);
                }
                most_threads = Some(u32::try_from(threads).unwrap_or(u32::MAX));
            } else if self.takes(".minnctapersm") || self.takes(".maxnreg") {
                self.number()?;
            } else {
                return Ok(most_threads);
            }
        }
    }

    fn statement(&mut self, to: &mut Vec<Statement<'t>>) -> Result<(), PtxError> {
        let token = self.next()?;
        let line = token.line;
        let what = match token.text {
            "{" => What::Open,
            "}" => What::Close,
            ".reg" => self.registers()?,
            ".local" | ".shared" => {
                self.at -= 1;
                What::Variable(self.variable()?)
            }
            // Of loops that an assembler is not to unroll: the same instructions are executed.
            ".pragma" => {
                let pragma = self.next()?;
                if pragma.text != "\"nounroll\"" {
                    return Err(self.unknown("an unknown pragma", pragma));
                }
                return self.expect(";");
            }
            text if text.starts_with('.') => {
                return Err(self.unknown("an unknown directive", token));
            }
            _ if token.kind == Kind::Word && self.takes(":") => What::Label(token.text),
            _ => {
                self.at -= 1;
                What::Instruction(self.instruction()?)
            }
        };
        to.push(Statement { line, what });
        Ok(())
    }

    fn registers(&mut self) -> Result<What<'t>, PtxError> {
        let token = self.next()?;
        let Some(element) = token.text.strip_prefix('.') else {
            return Err(self.unknown("an unknown type", token));
        };
        let mut names = Vec::new();
        loop {
            let name = self.word()?;
            let mut count = None;
            if self.takes("<") {
                count = Some(self.size()? as u32);
                self.expect(">")?;
            }
            names.push((name, count));
            if self.takes(";") {
                return Ok(What::Registers(element, names));
            }
            self.expect(",")?;
        }
    }

    fn instruction(&mut self) -> Result<Instruction<'t>, PtxError> {
        let mut guard = None;
        if self.takes("@") {
            let is_negated = self.takes("!");
            guard = Some((self.word()?, is_negated));
        }
        let operation = self.word()?;
        let mut operands = Vec::new();
        if !self.takes(";") {
            loop {
                operands.push(self.operand()?);
                if self.takes(";") {
                    break;
                }
                self.expect(",")?;
            }
        }
        Ok(Instruction { guard, operation, operands })
    }

    fn operand(&mut self) -> Result<Operand<'t>, PtxError> {
        let token = self.next()?;
        match (token.kind, token.text) {
            (Kind::Sign, "{") => {
                let mut parts = Vec::new();
                loop {
                    // A vector of vectors is none.
                    parts.push(self.scalar()?);
                    if self.takes("}") {
                        return Ok(Operand::Vector(parts));
                    }
                    self.expect(",")?;
                }
            }
            (Kind::Sign, "[") => {
                let name = self.word()?;
                let offset = if self.takes("+") { self.offset()? } else { 0 };
                self.expect("]")?;
                Ok(Operand::Address(name, offset))
            }
            (Kind::Word, name) if self.takes("|") => Ok(Operand::Pair(name, self.word()?)),
            _ => {
                self.at -= 1;
                self.scalar()
            }
        }
    }

    fn offset(&mut self) -> Result<i64, PtxError> {
        let line = self.last_line;
        let is_negative = self.takes("-");
        let number = i64::try_from(self.number()?).ok().filter(|&offset| offset < 1 << 31);
        let number = number.ok_or_else(|| PtxError::new(line, "an offset that is too large"))?;
        Ok(if is_negative { -number } else { number })
    }

    fn scalar(&mut self) -> Result<Operand<'t>, PtxError> {
        let token = self.next()?;
        match (token.kind, token.text) {
            (Kind::Word, name) => Ok(Operand::Name(name)),
            (Kind::Sign, "!") => Ok(Operand::Not(self.word()?)),
            (Kind::Sign, "-") => {
                let token = self.next()?;
                let number =
                    integer(token.text).ok_or_else(|| self.unknown("not a number", token))?;
                Ok(Operand::Integer(number.wrapping_neg()))
            }
            (Kind::Number, text) => {
                let number = float(text).or_else(|| integer(text).map(Operand::Integer));
                number.ok_or_else(|| self.unknown("not a number", token))
            }
            _ => Err(self.unknown("not an operand", token)),
        }
    }
}

/// Reads an integer as C writes it, with a `U` behind it or not.
fn integer(text: &str) -> Option<u64> {
    let text = text.strip_suffix('U').unwrap_or(text);
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => u64::from_str_radix(&text[2..], 16).ok(),
        [b'0', b'b' | b'B', ..] => u64::from_str_radix(&text[2..], 2).ok(),
        [b'0', _, ..] => u64::from_str_radix(&text[1..], 8).ok(),
        _ => text.parse().ok(),
    }
}

/// Reads the bits of a floating-point number: `0f` and 8 digits, or `0d` and 16.
fn float<'t>(text: &str) -> Option<Operand<'t>> {
    let digits = text.get(2..)?;
    if !text.starts_with('0') {
        return None;
    }
    match (text.as_bytes().get(1)?, digits.len()) {
        (b'f' | b'F', 8) => u32::from_str_radix(digits, 16).ok().map(Operand::Single),
        (b'd' | b'D', 16) => u64::from_str_radix(digits, 16).ok().map(Operand::Double),
        _ => None,
    }
}
