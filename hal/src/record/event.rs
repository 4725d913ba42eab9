//! One line of a record.

use core::fmt;

use crate::{error::ErrorKind, readout::Readout, wrap::Call};

/// One operation that a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event<'a> {
    /// The operation and its shape.
    pub call: Call,
    /// The kind of the error, if it returned one.
    pub failed: Option<ErrorKind>,
    /// What it left behind.
    pub left: Readout<'a>,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, failed, left } = self;
        call.fmt(f)?;
        match failed {
            Some(kind) => write!(f, ": {kind}"),
            None => left.fmt(f),
        }
    }
}
