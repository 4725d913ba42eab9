//! Running an operation: its operands are checked first, for every device alike.

use adaloss_core::format::{Element, Narrowing, Rounding, Subnormals};

use crate::{
    device::{Capabilities, Device, Ref},
    epilogue::Epilogue,
    error::{Error, Misfit, MisfitCause},
    kind::OperationKind,
    operation::{Operation, Visitor},
    plain::Plain,
    readout::HasReadout,
    space::AddressSpace,
};

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

    /// Checks the operands of an operation and runs it unless its predicate says no, and leaves them to the caller.
    ///
    /// A device that wraps another hands the operation to this one's, which checks it.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    fn submit(&mut self, operation: &mut O) -> Result<(), Self::Error> {
        let fitting = Fitting::of(operation, self).map_err(Self::Error::misfit)?;
        let mut predicate = Predicate { device: &mut *self, is_off: Ok(false) };
        fitting.0.operands(&mut predicate);
        if predicate.is_off? { Ok(()) } else { self.execute(fitting) }
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
    /// What fits an operation is stated once, with the operation, and cannot be stated again:
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

/// Finds out whether an operation is not to be done.
struct Predicate<'d, D: Device + ?Sized> {
    device: &'d mut D,
    is_off: Result<bool, D::Error>,
}

impl<D: Device + ?Sized> Visitor<D::Space> for Predicate<'_, D> {
    fn predicate(&mut self, _: &'static str, when: &mut Option<Ref<'_, D, u32>>) {
        if let Some(when) = *when {
            self.is_off = self.device.is_off(when);
        }
    }

    fn epilogue<F: Element>(&mut self, epilogue: &mut Epilogue<'_, D::Space>) {
        self.predicate("the predicate", &mut epilogue.when);
    }
}

/// Finds the first operand that does not fit.
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

// An operand that it does not visit is checked nowhere.
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
        elements: Option<usize>,
        operand: &mut S::Mut<'_, T>,
    ) {
        self.length(name, elements, S::len(S::shared(operand)));
    }

    fn readout<C: HasReadout>(&mut self, name: &'static str, operand: &mut S::Mut<'_, C>) {
        self.length(name, Some(1), S::len(S::shared(operand)));
    }

    fn predicate(&mut self, name: &'static str, when: &mut Option<S::Ref<'_, u32>>) {
        if let Some(when) = *when {
            self.length(name, Some(1), S::len(when));
        }
    }

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
        Visitor::<S>::predicate(self, "the predicate", &mut epilogue.when);
        self.length("the outcome", Some(1), S::len(S::shared(&epilogue.outcome)));
        if let Some(histogram) = &epilogue.histogram {
            self.length("the histogram", Some(1), S::len(S::shared(histogram)));
        }
    }
}
