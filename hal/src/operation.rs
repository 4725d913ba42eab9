//! Operations as values, which describe their operands to a visitor.

use adaloss_core::format::Element;

use crate::{
    epilogue::Epilogue, kind::OperationKind, plain::Plain, readout::HasReadout, shape::Shape,
    space::AddressSpace,
};

/// An operation of a device, as a value: its operands by name, and where its results go.
///
/// [`operands`](Self::operands) is the only description of the operands and their lengths.  The check in front of every device, the errors
/// and their text, the devices that wrap others, and what the conformance suite expects to be refused follow from it.
///
/// Operands that are read have one lifetime, and operands that are written another.  On a concrete device the compiler
/// finds them.  On a generic one, operands of longer lifetimes are shortened with [`AddressSpace::reborrow`],
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

    /// Shows each operand to a visitor, with the number of elements that it has to have; `usize::MAX`, which no tensor has,
    /// where the shape is impossible.
    fn operands(&mut self, visitor: &mut impl Visitor<Self::Space>);
}

/// Visits the operands of an operation, one after the other.  The default of each method does nothing.
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
        _elements: Option<usize>,
        _operand: &mut S::Mut<'_, T>,
    ) {
    }

    /// Takes one element that the operation leaves something in besides tensors.
    fn readout<C: HasReadout>(&mut self, _name: &'static str, _operand: &mut S::Mut<'_, C>) {}

    /// Takes the predicate of an operation: a word that is 0 where nothing is to be done.
    ///
    /// That of an epilogue is the epilogue's.
    fn predicate(&mut self, _name: &'static str, _when: &mut Option<S::Ref<'_, u32>>) {}

    /// Takes the epilogue of results in `F`.
    fn epilogue<F: Element>(&mut self, _epilogue: &mut Epilogue<'_, S>) {}
}
