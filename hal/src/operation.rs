//! Operations as values: what each says of its operands.

use adaloss_core::{format::Element, policy::Cell};

use crate::{
    epilogue::Epilogue, kind::OperationKind, plain::Plain, readout::HasReadout, shape::Shape,
    space::AddressSpace,
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
    fn readout<C: HasReadout>(&mut self, _name: &'static str, _operand: &mut S::Mut<'_, C>) {}

    /// Takes any number of cells whose step ends.
    fn cells(&mut self, _name: &'static str, _operand: &mut S::Mut<'_, Cell>) {}

    /// Takes the epilogue of results in `F`.
    fn epilogue<F: Element>(&mut self, _epilogue: &mut Epilogue<'_, S>) {}
}
