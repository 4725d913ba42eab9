//! Reading a record: every accessor says which field is missing or malformed.

use serde_json::Value;

/// One JSON value and the name of the field it came from.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    name: &'a str,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, name: "record" }
    }

    pub(crate) fn name(self) -> &'a str {
        self.name
    }

    pub(crate) fn field(self, name: &'a str) -> Result<Self, String> {
        match self.value.get(name) {
            Some(value) => Ok(Self { value, name }),
            None => Err(format!("`{}` has no field `{name}`", self.name)),
        }
    }

    /// Returns a field, or `None` where it is missing or null.
    pub(crate) fn optional(self, name: &'a str) -> Option<Self> {
        self.value.get(name).filter(|value| !value.is_null()).map(|value| Self { value, name })
    }

    /// Follows several fields, outermost first.
    pub(crate) fn path(self, names: &[&'a str]) -> Result<Self, String> {
        names.iter().try_fold(self, |node, name| node.field(name))
    }

    pub(crate) fn text(self) -> Result<&'a str, String> {
        self.value.as_str().ok_or_else(|| self.no("a string"))
    }

    pub(crate) fn flag(self) -> Result<bool, String> {
        self.value.as_bool().ok_or_else(|| self.no("true or false"))
    }

    pub(crate) fn number(self) -> Result<f64, String> {
        self.value.as_f64().ok_or_else(|| self.no("a number"))
    }

    pub(crate) fn integer(self) -> Result<u64, String> {
        self.value.as_u64().ok_or_else(|| self.no("an unsigned integer"))
    }

    pub(crate) fn list(self) -> Result<Vec<Self>, String> {
        let list = self.value.as_array().ok_or_else(|| self.no("a list"))?;
        Ok(list.iter().map(|value| Self { value, name: self.name }).collect())
    }

    pub(crate) fn entries(self) -> Result<Vec<Self>, String> {
        let object = self.value.as_object().ok_or_else(|| self.no("an object"))?;
        Ok(object.iter().map(|(name, value)| Self { value, name }).collect())
    }

    /// Reads a scalar object `{t, hex, dec}`, or a string that is the hex notation itself.
    pub(crate) fn scalar(self) -> Result<f64, String> {
        let notation = match self.value {
            Value::String(text) => text.as_str(),
            _ => self.field("hex")?.text()?,
        };
        parse_hex(notation).ok_or_else(|| self.no("a C99 hexadecimal number"))
    }

    /// Reads lists of scalars, however deeply nested, in order.
    pub(crate) fn scalars(self) -> Result<Vec<f64>, String> {
        if self.value.is_array() {
            let nested: Result<Vec<_>, _> = self.list()?.into_iter().map(Self::scalars).collect();
            nested.map(|lists| lists.concat())
        } else {
            self.scalar().map(|scalar| vec![scalar])
        }
    }

    fn no(self, expected: &str) -> String {
        format!("`{}` is not {expected}", self.name)
    }
}

/// Parses C99 hexadecimal notation, exactly: a significand of at most 53 bits.
fn parse_hex(notation: &str) -> Option<f64> {
    let (negative, magnitude) = match notation.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, notation),
    };
    let value = match magnitude {
        "inf" => f64::INFINITY,
        "nan" => f64::NAN,
        _ => {
            let (digits, exponent) = magnitude.strip_prefix("0x")?.split_once('p')?;
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            let significand = u64::from_str_radix(&format!("{whole}{fraction}"), 16).ok()?;
            if significand >> 53 != 0 {
                return None;
            }
            let exponent: i32 = exponent.parse().ok()?;
            libm::ldexp(significand as f64, exponent - 4 * fraction.len() as i32)
        }
    };
    Some(if negative { -value } else { value })
}
