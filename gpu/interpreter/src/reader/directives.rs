//! Variables, entries and their parameters.

use crate::{
    error::PtxError,
    reader::Reader,
    text::{EntryText, Operand, Parameter, Statement, Variable},
    types::{Space, Type},
};

impl<'t> Reader<'t> {
    /// Reads `.extern .shared .align 16 .b8 name[size] = {1, 2};`.
    pub(crate) fn variable(&mut self) -> Result<Variable<'t>, PtxError> {
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

    pub(crate) fn entry(&mut self) -> Result<EntryText<'t>, PtxError> {
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
}
