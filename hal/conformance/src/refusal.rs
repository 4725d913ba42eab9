//! Operations that do not fit, in every way there is: what a device has to refuse.

use core::cell::Cell;

use adaloss_core::{
    format::{Element, Format, Rounding},
    policy,
};

use adaloss_hal::{
    AddressSpace, Capabilities, Epilogue, ErrorKind, HasReadout, Operation, Plain, Visitor,
};

/// Makes an operation wrong in one of the ways that its operands give: an element fewer in one of them, or an epilogue
/// that asks for another encoding or for what the device cannot do.
pub(super) struct Mutation {
    capabilities: Capabilities,
    /// Which of the ways.
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

    /// Makes nothing wrong.
    pub(super) const fn none() -> Self {
        Self::new(Capabilities::ALL, usize::MAX)
    }

    /// Returns the operation made wrong.
    pub(super) fn apply<O: Operation>(&self, mut operation: O) -> O {
        self.count.set(0);
        operation.operands(&mut &*self);
        operation
    }

    /// Returns how many ways there are.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// Says what is wrong.
    pub(super) fn description(&self) -> &'static str {
        self.description.get()
    }

    /// Returns the kind of the error that is due.
    pub(super) fn kind(&self) -> ErrorKind {
        self.kind.get()
    }

    /// Tells whether the next way is the one that is taken.
    fn is_next(&self, description: &'static str, kind: ErrorKind) -> bool {
        let number = self.count.get();
        self.count.set(number + 1);
        if number == self.nth {
            self.description.set(description);
            self.kind.set(kind);
        }
        number == self.nth
    }

    /// Returns what is left of the elements of an operand.
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
    // A condition that is no length is the business of whoever checks the operation.
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

    // The list is shared: whoever checks the operation makes another one.
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

    fn written<T: Plain>(&mut self, name: &'static str, _: usize, operand: &mut S::Mut<'_, T>) {
        self.truncate::<S, T>(name, operand);
    }

    fn readout<C: HasReadout>(&mut self, name: &'static str, operand: &mut S::Mut<'_, C>) {
        self.truncate::<S, C>(name, operand);
    }

    // There is no wrong number of them.
    fn cells(&mut self, _: &'static str, _: &mut S::Mut<'_, policy::Cell>) {}

    fn epilogue<F: Element>(&mut self, epilogue: &mut Epilogue<'_, S>) {
        self.shorten::<S, _>("with no cell that results come from", &mut epilogue.from);
        self.shorten::<S, _>("with no cell that results go to", &mut epilogue.to);
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
