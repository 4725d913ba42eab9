//! What stands in the braces of an entry.

use crate::{
    error::PtxError,
    reader::Reader,
    text::{Instruction, Operand, Statement, What},
    token::Kind,
};

/// Reads the statements of a body that begins in a line.
pub(crate) fn statements(body: &str, line: u32) -> Result<Vec<Statement<'_>>, PtxError> {
    let mut reader = Reader::new(body, line)?;
    let mut statements = Vec::new();
    while reader.peek().is_some() {
        reader.statement(&mut statements)?;
    }
    Ok(statements)
}

impl<'t> Reader<'t> {
    pub(super) fn statement(&mut self, to: &mut Vec<Statement<'t>>) -> Result<(), PtxError> {
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
}
