//! Operations whose operands do not fit, one mutation at a time: what a device has to refuse.

use core::cell::Cell;

use adaloss_core::format::{Element, Format, Rounding};

use adaloss_hal::{
    AddressSpace, Capabilities, Epilogue, ErrorKind, HasReadout, Operation, Plain, Visitor,
};

/// Makes an operation invalid in one way: one element fewer in an operand, or an epilogue that asks for another encoding
/// or for what the device cannot do.
///
/// An operation lists its operands to a visitor, so that the mutations of each follow from it: number 0 shortens the first operand, and
/// so on.  [`count`](Self::count) tells how many there are once one was applied.
pub(super) struct Mutation {
    capabilities: Capabilities,
    /// The number of the mutation that is applied.
    nth: usize,
    count: Cell<usize>,
    description: Cell<&'static str>,
    kind: Cell<ErrorKind>,
}

impl Mutation {
    pub(super) const fn new(capabilities: Capabilities, nth: usize) -> Self {
        let (count, description, kind) = (Cell::new(0), Cell::new(""), Cell::new(ErrorKind::Other));
        Self { capabilities, nth, count, description, kind }
    }

    /// Changes nothing.
    pub(super) const fn none() -> Self {
        Self::new(Capabilities::ALL, usize::MAX)
    }

    /// Returns the operation with the mutation applied.
    pub(super) fn apply<O: Operation>(&self, mut operation: O) -> O {
        self.count.set(0);
        operation.operands(&mut &*self);
        operation
    }

    /// Returns how many mutations the operation has.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// Returns what is wrong, for the text of a failure.
    pub(super) fn description(&self) -> &'static str {
        self.description.get()
    }

    /// Returns the kind of the error that the device has to return.
    pub(super) fn kind(&self) -> ErrorKind {
        self.kind.get()
    }

    /// Counts a mutation, and tells whether it is the one to apply.
    fn is_next(&self, description: &'static str, kind: ErrorKind) -> bool {
        let number = self.count.get();
        self.count.set(number + 1);
        if number == self.nth {
            self.description.set(description);
            self.kind.set(kind);
        }
        number == self.nth
    }

    /// Returns the length of an operand, one fewer if that is the mutation.
    fn rest(&self, name: &'static str, elements: usize) -> usize {
        match elements.checked_sub(1) {
            Some(fewer) if self.is_next(name, ErrorKind::Shape) => fewer,
            _ => elements,
        }
    }

    fn shorten<S: AddressSpace, T: Plain>(&self, name: &'static str, operand: &mut S::Ref<'_, T>) {
        if let Some(part) = S::part(*operand, 0..self.rest(name, S::len(*operand))) {
            *operand = part;
        }
    }

    fn truncate<S: AddressSpace, T: Plain>(&self, name: &'static str, operand: &mut S::Mut<'_, T>) {
        S::truncate(operand, self.rest(name, S::len(S::shared(operand))));
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: AddressSpace> Visitor<S> for &Mutation {
    // A condition that is no length is tested by the checks of the operation.
    fn needs(&mut self, _: &'static str, _: bool) {}

    fn input<T: Plain>(
        &mut self,
        name: &'static str,
        elements: Option<usize>,
        operand: &mut S::Ref<'_, T>,
    ) {
        if elements.is_some() {
            self.shorten::<S, T>(name, operand);
        }
    }

    // The list is shared and cannot be shortened here; the checks of the operation pass another one.
    fn listed<T: Plain>(&mut self, _: &'static str, _: usize, _: S::Ref<'_, T>) {}

    fn output<F: Element + Plain>(
        &mut self,
        name: &'static str,
        elements: Option<usize>,
        operand: &mut S::Mut<'_, F>,
    ) {
        if elements.is_some() {
            self.truncate::<S, F>(name, operand);
        }
    }

    fn written<T: Plain>(
        &mut self,
        name: &'static str,
        elements: Option<usize>,
        operand: &mut S::Mut<'_, T>,
    ) {
        if elements.is_some() {
            self.truncate::<S, T>(name, operand);
        }
    }

    fn readout<C: HasReadout>(&mut self, name: &'static str, operand: &mut S::Mut<'_, C>) {
        self.truncate::<S, C>(name, operand);
    }

    fn predicate(&mut self, name: &'static str, when: &mut Option<S::Ref<'_, u32>>) {
        if let Some(when) = when {
            self.shorten::<S, u32>(name, when);
        }
    }

    fn epilogue<F: Element>(&mut self, epilogue: &mut Epilogue<'_, S>) {
        self.shorten::<S, _>("with no cell that results come from", &mut epilogue.from);
        self.shorten::<S, _>("with no cell that results go to", &mut epilogue.to);
        Visitor::<S>::predicate(self, "with no predicate", &mut epilogue.when);
        self.truncate::<S, _>("with no outcome", &mut epilogue.outcome);
        if let Some(histogram) = &mut epilogue.histogram {
            self.truncate::<S, _>("with no histogram", histogram);
        }
        let narrowing = &mut epilogue.narrowing;
        let encoding = "narrowing to another encoding than that of the elements";
        if self.is_next(encoding, ErrorKind::Format) {
            let is_binary16 = F::ENCODING == Format::BINARY16.encoding;
            narrowing.format = if is_binary16 { Format::BFLOAT16 } else { Format::BINARY16 };
        }
        let subnormals = "with subnormals, which the device says it has not";
        if !self.capabilities.subnormals && self.is_next(subnormals, ErrorKind::Format) {
            narrowing.format = F::ENCODING.into();
        }
        let stochastic = "rounding stochastically, which the device says it does not";
        if !self.capabilities.stochastic_rounding && self.is_next(stochastic, ErrorKind::Format) {
            narrowing.rounding = Rounding::Stochastic;
        }
    }
}
