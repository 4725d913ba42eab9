//! Operations as values, and what is the same for all of them.

use core::fmt;

use adaloss_core::{
    format::{Element, Encoding, Narrowing, Rounding, Subnormals},
    policy::Cell,
};

use crate::{
    AddressSpace, Capabilities, Device, Epilogue, Error, ErrorKind, OperationKind, Plain,
    wrap::{Leaves, Shape},
};

/// An operation of a device, as a value: its operands by name, and where its results go.
///
/// [`operands`](Self::operands) is the one place that says what it takes.  The check in front of every device, the errors
/// and their text, the devices that wrap others, and what the conformance suite expects to be refused follow from it.
///
/// What an operation reads is named for one lifetime, and what it writes for another.  On a device that is known this goes by
/// itself.  On a generic one, names of another lifetime are shortened with [`AddressSpace::reborrow`],
/// [`reborrow_mut`](AddressSpace::reborrow_mut) and [`Epilogue::reborrow`]; where a device has an operation for several formats,
/// they are named, as in `Matmul::<_, A, B, F> { .. }`.
pub trait Operation {
    /// The memory that its operands are in.
    type Space: AddressSpace;

    /// Which operation it is.
    const KIND: OperationKind;

    /// Returns its shape, where it has one.
    fn shape(&self) -> Option<Shape> {
        None
    }

    /// Shows each operand to a visitor, with the elements that the operation needs of it; `usize::MAX` elements,
    /// which no tensor has, where there is no operation of that shape.
    fn operands(&mut self, visitor: &mut impl Visitor<Self::Space>);
}

/// What looks at the operands of an operation, one after the other; a method that is left out looks at none.
///
/// An operand whose elements are `None` may have any number of them.
pub trait Visitor<S: AddressSpace>: Sized {
    /// Takes a condition on the operation as a whole: what there must be, and whether it is there.
    fn needs(&mut self, _what: &'static str, _is_met: bool) {}

    /// Takes an operand that is read.
    fn input<T: Plain>(
        &mut self,
        _name: &'static str,
        _elements: Option<usize>,
        _operand: &mut S::Ref<'_, T>,
    ) {
    }

    /// Takes one of several operands of a kind that are read.
    ///
    /// It is handed over as it is, since the operation shares the list of them.
    fn listed<T: Plain>(&mut self, _name: &'static str, _elements: usize, _operand: S::Ref<'_, T>) {
    }

    /// Takes a tensor that is written.
    fn output<F: Element + Plain>(
        &mut self,
        _name: &'static str,
        _elements: Option<usize>,
        _operand: &mut S::Mut<'_, F>,
    ) {
    }

    /// Takes what is written as well, but is neither a tensor of elements nor what the operation leaves.
    fn written<T: Plain>(
        &mut self,
        _name: &'static str,
        _elements: usize,
        _operand: &mut S::Mut<'_, T>,
    ) {
    }

    /// Takes one element that the operation leaves something in besides tensors.
    fn left<C: Leaves>(&mut self, _name: &'static str, _operand: &mut S::Mut<'_, C>) {}

    /// Takes any number of cells whose step ends.
    fn cells(&mut self, _name: &'static str, _operand: &mut S::Mut<'_, Cell>) {}

    /// Takes the epilogue of results in `F`.
    fn epilogue<F: Element>(&mut self, _epilogue: &mut Epilogue<'_, S>) {}
}

/// A device that has the operation `O`.
///
/// Programs call [`run`](Self::run); a device implements [`execute`](Self::execute).
pub trait Run<O: Operation<Space = Self::Space>>: Device {
    /// Runs an operation whose operands fit: lengths need not be compared again.
    ///
    /// # Errors
    ///
    /// The device failed, or does not have this operation with these operands.
    fn execute(&mut self, operation: Fitting<'_, O>) -> Result<(), Self::Error>;

    /// Checks the operands of an operation and runs it, and leaves them to the caller.
    ///
    /// A device that wraps another hands the operation to this one's, which checks it.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    fn submit(&mut self, operation: &mut O) -> Result<(), Self::Error> {
        let fitting = Fitting::of(operation, self).map_err(Self::Error::misfit)?;
        self.execute(fitting)
    }

    /// Checks the operands of an operation and runs it.
    ///
    /// # Errors
    ///
    /// A [`Misfit`], before anything was written; or what the device returned.
    fn run(&mut self, mut operation: O) -> Result<(), Self::Error> {
        self.submit(&mut operation)
    }
}

/// Declares a trait of the devices that have some operations, and implements it for all of them.
macro_rules! has {
    ($(#[$doc:meta])* pub trait $name:ident $(<$($format:ident),+>)?: $($bounds:tt)+) => {
        $(#[$doc])*
        pub trait $name $(<$($format: Element + Plain),+>)?: $($bounds)+ {}

        impl<$($($format: Element + Plain,)+)? D> $name $(<$($format),+>)? for D
        where
            D: $($bounds)+
        {
        }
    };
}
pub(crate) use has;

/// An operation whose operands were found to fit: there is no other way to make one.
#[derive(Debug)]
#[must_use = "an operation that fits has not been run yet"]
pub struct Fitting<'o, O>(&'o mut O);

impl<'o, O> Fitting<'o, O> {
    /// Checks the operands of an operation, for a device.
    ///
    /// That they fit says how long they are.  What the device can do is checked as well, but another device may be able to do
    /// less, and `execute` can be called with what was checked for another.
    ///
    /// # Errors
    ///
    /// The first operand that does not fit.
    ///
    /// # Examples
    ///
    /// Nobody but the author of an operation says what fits it:
    ///
    /// ```compile_fail,E0119
    /// use adaloss_core::format::f16;
    /// use adaloss_hal::{HostSpace, Matmul, Operation, OperationKind, Visitor};
    /// impl Operation for Matmul<'_, '_, HostSpace, f16, f16, f32> {
    ///     type Space = HostSpace;
    ///     const KIND: OperationKind = OperationKind::Matmul;
    ///     fn operands(&mut self, _: &mut impl Visitor<HostSpace>) {}
    /// }
    /// ```
    pub fn of<D>(operation: &'o mut O, device: &D) -> Result<Self, Misfit>
    where
        O: Operation<Space = D::Space>,
        D: Device + ?Sized,
    {
        let capabilities = device.capabilities();
        let mut check = Check { kind: O::KIND, capabilities, misfit: None };
        operation.operands(&mut check);
        match check.misfit {
            Some(misfit) => Err(misfit),
            None => Ok(Self(operation)),
        }
    }

    /// Returns the operation.
    pub fn into_inner(self) -> &'o mut O {
        self.0
    }
}

/// Why the operands of an operation do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The operation.
    pub operation: OperationKind,
    /// What is wrong.
    pub cause: MisfitCause,
}

/// What is wrong with the operands of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MisfitCause {
    /// An operand has the wrong number of elements.
    Length {
        /// The operand.
        operand: &'static str,
        /// The elements that the operation needs.
        expected: usize,
        /// The elements that it has.
        found: usize,
    },
    /// There is no operation of that shape.
    Shape,
    /// Something that the operation needs is not there.
    Missing(&'static str),
    /// The epilogue narrows to another encoding than that of the elements.
    Encoding {
        /// The one that the epilogue asks for.
        asked: Encoding,
        /// That of the elements.
        given: Encoding,
    },
    /// The epilogue asks for something that the device cannot do.
    Unsupported(&'static str),
}

impl Misfit {
    /// Returns the kind that generic code can act on.
    pub const fn kind(&self) -> ErrorKind {
        match self.cause {
            MisfitCause::Length { .. } | MisfitCause::Shape | MisfitCause::Missing(_) => {
                ErrorKind::Shape
            }
            MisfitCause::Encoding { .. } | MisfitCause::Unsupported(_) => ErrorKind::Format,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, cause } = self;
        match cause {
            MisfitCause::Length { operand, expected, found } => {
                write!(f, "{operation}: {operand} needs {expected} elements and has {found}")
            }
            MisfitCause::Shape => {
                write!(f, "{operation}: there is no such operation of that shape")
            }
            MisfitCause::Missing(what) => write!(f, "{operation} needs {what}"),
            MisfitCause::Encoding { asked, given } => write!(
                f,
                "{operation}: the epilogue narrows to {asked:?}, and the elements are {given:?}"
            ),
            MisfitCause::Unsupported(what) => {
                write!(f, "{operation}: this device does not have {what}")
            }
        }
    }
}

impl core::error::Error for Misfit {}

/// Looks for the first operand that does not fit.
struct Check {
    kind: OperationKind,
    capabilities: Capabilities,
    misfit: Option<Misfit>,
}

impl Check {
    fn find(&mut self, cause: MisfitCause) {
        self.misfit.get_or_insert(Misfit { operation: self.kind, cause });
    }

    fn length(&mut self, operand: &'static str, expected: Option<usize>, found: usize) {
        match expected {
            Some(usize::MAX) => self.find(MisfitCause::Shape),
            Some(expected) if expected != found => {
                self.find(MisfitCause::Length { operand, expected, found });
            }
            _ => {}
        }
    }
}

// What it does not look at is checked nowhere.
#[deny(clippy::missing_trait_methods)]
impl<S: AddressSpace> Visitor<S> for Check {
    fn needs(&mut self, what: &'static str, is_met: bool) {
        if !is_met {
            self.find(MisfitCause::Missing(what));
        }
    }

    fn input<T: Plain>(
        &mut self,
        name: &'static str,
        elements: Option<usize>,
        operand: &mut S::Ref<'_, T>,
    ) {
        self.length(name, elements, S::len(*operand));
    }

    fn listed<T: Plain>(&mut self, name: &'static str, elements: usize, operand: S::Ref<'_, T>) {
        self.length(name, Some(elements), S::len(operand));
    }

    fn output<F: Element + Plain>(
        &mut self,
        name: &'static str,
        elements: Option<usize>,
        operand: &mut S::Mut<'_, F>,
    ) {
        self.length(name, elements, S::len(S::shared(operand)));
    }

    fn written<T: Plain>(
        &mut self,
        name: &'static str,
        elements: usize,
        operand: &mut S::Mut<'_, T>,
    ) {
        self.length(name, Some(elements), S::len(S::shared(operand)));
    }

    fn left<C: Leaves>(&mut self, name: &'static str, operand: &mut S::Mut<'_, C>) {
        self.length(name, Some(1), S::len(S::shared(operand)));
    }

    fn cells(&mut self, _: &'static str, _: &mut S::Mut<'_, Cell>) {}

    fn epilogue<F: Element>(&mut self, epilogue: &mut Epilogue<'_, S>) {
        let Narrowing { format, rounding, .. } = epilogue.narrowing;
        if format.encoding != F::ENCODING {
            self.find(MisfitCause::Encoding { asked: format.encoding, given: F::ENCODING });
        }
        if !self.capabilities.subnormals && matches!(format.subnormals, Subnormals::Gradual) {
            self.find(MisfitCause::Unsupported("subnormals: the format has to flush them"));
        }
        if !self.capabilities.stochastic_rounding && matches!(rounding, Rounding::Stochastic) {
            self.find(MisfitCause::Unsupported("stochastic rounding"));
        }
        self.length("the cell that results come from", Some(1), S::len(epilogue.from));
        self.length("the cell that results go to", Some(1), S::len(epilogue.to));
        self.length("the outcome", Some(1), S::len(S::shared(&epilogue.outcome)));
        if let Some(histogram) = &epilogue.histogram {
            self.length("the histogram", Some(1), S::len(S::shared(histogram)));
        }
    }
}
