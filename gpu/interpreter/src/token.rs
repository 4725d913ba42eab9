//! The words, numbers and signs of a text.

use crate::error::PtxError;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name, a directive or an operation, with its dots.
    Word,
    /// It begins with a digit.
    Number,
    /// What stands between quotes, and the quotes, so that it is taken for nothing else.
    String,
    /// One sign.
    Sign,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'t> {
    pub(crate) line: u32,
    pub(crate) kind: Kind,
    pub(crate) text: &'t str,
    /// The byte of the text that it begins at.
    pub(crate) at: usize,
}

/// Cuts a text that begins at a line, from 1, into tokens.
///
/// Comments are left out, and so are `.loc` and `.file`, which end with their line.
pub(crate) fn tokens(text: &str, line: u32) -> Result<Vec<Token<'_>>, PtxError> {
    let mut tokens = Vec::with_capacity(text.len() / 4);
    let mut lexer = Lexer { text, at: 0, line };
    while let Some(token) = lexer.next()? {
        if matches!(token.text, ".loc" | ".file") {
            lexer.skip_place()?;
        } else {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    line: u32,
}

impl<'t> Lexer<'t> {
    fn next(&mut self) -> Result<Option<Token<'t>>, PtxError> {
        self.skip_blanks()?;
        let Some(&first) = self.text.as_bytes().get(self.at) else { return Ok(None) };
        let (line, at) = (self.line, self.at);
        let (kind, text) = match first {
            b'"' => (Kind::String, self.string()?),
            b'0'..=b'9' => (Kind::Number, self.take(|letter| letter.is_ascii_alphanumeric())),
            _ if is_word(first) => (Kind::Word, self.take(is_word)),
            _ => (Kind::Sign, self.sign()?),
        };
        Ok(Some(Token { line, kind, text, at }))
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let rest = &self.text[self.at..];
        let bytes = rest.bytes().position(|letter| !belongs(letter)).unwrap_or(rest.len());
        self.at += bytes;
        &rest[..bytes]
    }

    fn sign(&mut self) -> Result<&'t str, PtxError> {
        let rest = &self.text[self.at..];
        let letter = rest.chars().next().unwrap_or_default();
        if !"{}[]()<>,;:=+-|!@".contains(letter) {
            return Err(PtxError::new(
                self.line,
                format!("a letter that stands nowhere: {letter:?}"),
            ));
        }
        self.at += letter.len_utf8();
        Ok(&rest[..letter.len_utf8()])
    }

    fn string(&mut self) -> Result<&'t str, PtxError> {
        let rest = &self.text[self.at..];
        let line = rest.lines().next().unwrap_or_default();
        let Some(bytes) = line[1..].find('"') else {
            return Err(PtxError::new(self.line, "quotes that do not end in their line"));
        };
        self.at += bytes + 2;
        Ok(&rest[..bytes + 2])
    }

    /// Skips the rest of a line that says where the source is, which has no statement behind it.
    fn skip_place(&mut self) -> Result<(), PtxError> {
        let first = self.at;
        self.skip_line();
        match self.text[first..self.at].contains(['{', '}', ';']) {
            true => Err(PtxError::new(self.line, "a statement behind the place of another")),
            false => Ok(()),
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    fn skip_blanks(&mut self) -> Result<(), PtxError> {
        loop {
            let rest = &self.text[self.at..];
            match rest.as_bytes() {
                [b'\n', ..] => {
                    self.line += 1;
                    self.at += 1;
                }
                [b' ' | b'\t' | b'\r', ..] => self.at += 1,
                [b'/', b'/', ..] => self.skip_line(),
                [b'/', b'*', ..] => {
                    // `/*/` begins one and does not end it.
                    let Some(end) = rest[2..].find("*/") else {
                        return Err(PtxError::new(self.line, "a comment that does not end"));
                    };
                    self.line += rest[..end + 2].matches('\n').count() as u32;
                    self.at += end + 4;
                }
                _ => return Ok(()),
            }
        }
    }
}

fn is_word(letter: u8) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'%' | b'$' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text, 1).expect("tokens").iter().map(|token| token.text).collect()
    }

    #[test]
    fn a_statement_is_cut_into_words_and_signs() {
        assert_eq!(
            words("@!%p1 ld.shared.u32 {%r1, _}, [%rd2+-16]; // why"),
            [
                "@",
                "!",
                "%p1",
                "ld.shared.u32",
                "{",
                "%r1",
                ",",
                "_",
                "}",
                ",",
                "[",
                "%rd2",
                "+",
                "-",
                "16",
                "]",
                ";"
            ]
        );
        assert_eq!(words("/*/ ret; /*/ \"a b\";"), ["\"a b\"", ";"]);
        assert_eq!(words(".loc 1 2 3\nret; /* two\nlines */ .reg"), ["ret", ";", ".reg"]);
    }

    #[test]
    fn lines_are_counted() {
        let of = tokens("a\n/* \n */ b\n\"c\" d", 5).expect("tokens");
        assert_eq!(of.iter().map(|token| token.line).collect::<Vec<_>>(), [5, 7, 8, 8]);
    }

    #[test]
    fn what_stands_nowhere_is_an_error() {
        for (text, what) in [
            ("a ~", "line 1: a letter that stands nowhere: '~'"),
            ("a ü", "line 1: a letter that stands nowhere: 'ü'"),
            ("\n\"open", "line 2: quotes that do not end in their line"),
            ("/* open", "line 1: a comment that does not end"),
            ("/*/", "line 1: a comment that does not end"),
            (".loc 1 2 3 ret;", "line 1: a statement behind the place of another"),
        ] {
            assert_eq!(tokens(text, 1).expect_err("an error").to_string(), what);
        }
    }
}
