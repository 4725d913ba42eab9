//! From tokens to what a text says: here numbers, names and what an operand is.

mod directives;
mod statements;

use crate::{
    error::PtxError,
    text::Operand,
    token::{Kind, Token, tokens},
    types::Type,
};

pub(crate) use statements::statements;

/// Reads tokens one after the other.
pub(crate) struct Reader<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    last_line: u32,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str, line: u32) -> Result<Self, PtxError> {
        let tokens = tokens(text, line)?;
        let last_line = tokens.last().map_or(line, |token| token.line);
        Ok(Self { tokens, at: 0, last_line })
    }

    pub(crate) fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.at).copied()
    }

    pub(crate) fn next(&mut self) -> Result<Token<'t>, PtxError> {
        let token =
            self.peek().ok_or_else(|| PtxError::new(self.last_line, "the text ends here"))?;
        self.at += 1;
        Ok(token)
    }

    pub(crate) fn unknown(&self, what: &str, token: Token<'_>) -> PtxError {
        PtxError::new(token.line, format!("{what}: {}", token.text))
    }

    /// Takes the next token if it is this one.
    pub(crate) fn takes(&mut self, text: &str) -> bool {
        let is = self.peek().is_some_and(|token| token.text == text);
        self.at += usize::from(is);
        is
    }

    pub(crate) fn expect(&mut self, text: &str) -> Result<(), PtxError> {
        let token = self.next()?;
        if token.text != text {
            return Err(self.unknown(&format!("not `{text}`"), token));
        }
        Ok(())
    }

    pub(crate) fn word(&mut self) -> Result<&'t str, PtxError> {
        let token = self.next()?;
        if token.kind != Kind::Word {
            return Err(self.unknown("not a name", token));
        }
        Ok(token.text)
    }

    /// Reads `.version 7.8`, of which nothing follows: what a later version adds is not known by its name.
    pub(crate) fn version(&mut self) -> Result<(), PtxError> {
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
    pub(crate) fn number(&mut self) -> Result<u64, PtxError> {
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
