//! Where a device differs from the core.

use core::fmt;

use adaloss_core::{
    format::{Element, Narrowing},
    scale::Scale,
};

use super::Shape;
use adaloss_hal::ErrorKind;

/// The first difference between a device and the core.
///
/// `Debug` says the same as `Display`: it is what a test that returns a failure prints.
#[derive(Clone, Copy, PartialEq)]
pub struct Failure {
    /// What was being checked.
    pub case: Case,
    /// What was wrong.
    pub discrepancy: Discrepancy,
}

/// One operation of the suite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// The check, by the name of the method and what is special about it.
    pub check: &'static str,
    /// The elements of the result.
    pub elements: usize,
    /// The scale that the f32 results carry.
    pub from: Scale,
    /// The scale that the narrowed results carry.
    pub to: Scale,
    /// Format, rounding and overflow, where the operation narrows.
    pub narrowing: Option<Narrowing>,
    /// The shape of the operation, where it has one.
    pub shape: Option<Shape>,
    /// What its epilogue asks for, or what is wrong with it; empty where there is none.
    pub epilogue: &'static str,
}

impl Case {
    /// A case without scales.
    pub(super) const fn new(check: &'static str, elements: usize) -> Self {
        Self {
            check,
            elements,
            from: Scale::ONE,
            to: Scale::ONE,
            narrowing: None,
            shape: None,
            epilogue: "",
        }
    }

    /// A case of an operation that narrows.
    pub(super) const fn narrowing(
        check: &'static str,
        elements: usize,
        narrowing: Narrowing,
        (from, to): (Scale, Scale),
    ) -> Self {
        Self { from, to, narrowing: Some(narrowing), ..Self::new(check, elements) }
    }

    /// The same case of an operation with a shape.
    pub(super) fn of(self, shape: impl Into<Shape>) -> Self {
        Self { shape: Some(shape.into()), ..self }
    }

    /// Returns how results of type `F` are narrowed.
    pub(super) fn narrowing_to<F: Element>(self) -> Narrowing {
        self.narrowing.unwrap_or(Narrowing::to(F::ENCODING.into()))
    }

    pub(super) const fn fails(self, discrepancy: Discrepancy) -> Failure {
        Failure { case: self, discrepancy }
    }
}

/// How a device differs from the core.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Discrepancy {
    /// An element of a result has other bits.
    Element {
        /// Which one.
        index: usize,
        /// The f32 it comes from, where the core knows it.
        operand: Option<f32>,
        /// The right bits.
        expected: u32,
        /// The device's bits.
        found: u32,
    },
    /// An element of a result is outside the bounds that the device has to keep.
    Bound {
        /// Which one.
        index: usize,
        /// The least value.
        least: f32,
        /// The greatest value.
        greatest: f32,
        /// The device's value.
        found: f32,
    },
    /// An element changed that the operation had no business with.
    Written {
        /// Which one, counted from the beginning of the buffer.
        index: usize,
        /// The bits it had.
        expected: u32,
        /// The bits it has.
        found: u32,
    },
    /// A counter, a scale or another number differs.
    Number {
        /// Which one.
        what: &'static str,
        /// The right number.
        expected: i64,
        /// The device's.
        found: i64,
    },
    /// The histogram counts a scale differently.
    Bin {
        /// What the counted elements do at the scale.
        what: &'static str,
        /// The scale.
        scale_log2: i32,
        /// The right count.
        expected: u64,
        /// The device's.
        found: u64,
    },
    /// A value differs in a part that has no name.
    Differs {
        /// Which value.
        what: &'static str,
    },
    /// The operation succeeded or failed where it should not, or failed with another kind.
    Error {
        /// The kind it has to fail with.
        expected: Option<ErrorKind>,
        /// The kind it failed with.
        found: Option<ErrorKind>,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.discrepancy)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Failure {}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, elements, from, to, narrowing, shape, epilogue } = self;
        write!(f, "{check}, {elements} elements")?;
        if let Some(shape) = shape {
            write!(f, " of {shape}")?;
        }
        if let Some(Narrowing { format, rounding, overflow }) = narrowing {
            write!(f, " from {from} to {to} in {:?} {:?}", format.encoding, format.subnormals)?;
            write!(f, " {rounding:?} {overflow:?}")?;
        }
        if !epilogue.is_empty() {
            write!(f, ", {epilogue}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Element { index, operand, expected, found } => {
                write!(f, "element {index}")?;
                if let Some(x) = operand {
                    write!(f, ", {x:e} ({:#010x}),", x.to_bits())?;
                }
                write!(f, " should be {expected:#x} and the device has {found:#x}")
            }
            Self::Bound { index, least, greatest, found } => {
                write!(
                    f,
                    "element {index} should be in {least:e}..={greatest:e} and the device has {found:e}"
                )
            }
            Self::Written { index, expected, found } => write!(
                f,
                "element {index} of the buffer should have kept {expected:#x} and the device has {found:#x}"
            ),
            Self::Number { what, expected, found } => {
                write!(f, "{what} should be {expected} and the device has {found}")
            }
            Self::Bin { what, scale_log2, expected, found } => {
                write!(f, "the number of elements {what} 2^{scale_log2} ")?;
                write!(f, "should be {expected} and the device has {found}")
            }
            Self::Differs { what } => write!(f, "{what} differs"),
            Self::Error { expected: Some(expected), found: Some(found) } => {
                write!(f, "the device should fail with {expected} and fails with {found}")
            }
            Self::Error { expected: Some(expected), found: None } => {
                write!(f, "the device should fail with {expected} and does not fail")
            }
            Self::Error { found: Some(found), .. } => write!(f, "should not fail: {found}"),
            Self::Error { .. } => f.write_str("should not fail"),
        }
    }
}
