//! The operations of the corridor that work on tensors, and the product: each a value.

use adaloss_core::{format::Element, policy::Cell, statistics::Statistics, unscale::Unscaled};

use crate::{
    device::Device,
    epilogue::Epilogue,
    kind::OperationKind,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    space::AddressSpace,
};

/// Adds the statistics of a low-precision tensor to those that are there.
pub struct Summarise<'r, 'w, S: AddressSpace, F: Plain> {
    /// The tensor; any number of elements.
    pub input: S::Ref<'r, F>,
    /// The statistics; one element.
    pub to: S::Mut<'w, Statistics>,
    /// The predicate, if there is one; see [`Epilogue::when`].
    pub when: Option<S::Ref<'r, u32>>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Summarise<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Statistics;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.input("the input", None, &mut self.input);
        visitor.readout("the statistics", &mut self.to);
        visitor.predicate("the predicate", &mut self.when);
    }
}

/// Narrows f32 values as the epilogue says.
pub struct Narrow<'r, 'w, S: AddressSpace, F: Plain> {
    /// The values; any number of elements.
    pub input: S::Ref<'r, f32>,
    /// The narrowed values; as many elements.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Narrow<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Apply;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(self.input);
        visitor.input("the input", Some(elements), &mut self.input);
        visitor.output("the result", Some(elements), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

/// Sums branches in f32 in the order given, each brought from the scale of its cell to that of the epilogue's `from`, and narrows
/// the sum as the epilogue says.
///
/// A branch alone is a gradient that is brought from one scale to another, or measured, as it is.  Where the epilogue's format
/// flushes, subnormal elements are zero.
pub struct Propagate<'r, 'w, S: AddressSpace, F: Plain> {
    /// The branches: at least one, each of as many elements as the sum, with one cell.
    ///
    /// On a generic device they are in an array: what a vector names has to outlive it, and the list is named for as long as
    /// the branches are.
    pub branches: &'r [BranchOf<'r, S, F>],
    /// The narrowed sum.
    pub to: S::Mut<'w, F>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Propagate<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Propagate;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(S::shared(&self.to));
        visitor.needs("a branch", !self.branches.is_empty());
        for &Branch { gradient, cell } in self.branches {
            visitor.listed("a branch", elements, gradient);
            visitor.listed("the cell of a branch", 1, cell);
        }
        visitor.output("the sum", Some(elements), &mut self.to);
        visitor.epilogue::<F>(&mut self.epilogue);
    }
}

/// Widens a gradient that carries the scale of a cell and multiplies it by the inverse; adds to the counts of elements.
pub struct Unscale<'r, 'w, S: AddressSpace, F: Plain> {
    /// The gradient; any number of elements.
    pub gradient: S::Ref<'r, F>,
    /// The cell whose scale it carries; one element.
    pub cell: S::Ref<'r, Cell>,
    /// The unscaled gradient; as many elements.
    pub to: S::Mut<'w, f32>,
    /// The counts of elements and of non-finite ones; one element.
    pub counts: S::Mut<'w, Unscaled>,
}

impl<S: AddressSpace, F: Element + Plain> Operation for Unscale<'_, '_, S, F> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Unscale;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(self.gradient);
        visitor.input("the gradient", Some(elements), &mut self.gradient);
        visitor.input("the cell of the gradient", Some(1), &mut self.cell);
        visitor.output("the unscaled gradient", Some(elements), &mut self.to);
        visitor.readout("the counts", &mut self.counts);
    }
}

has! {
    /// A device that narrows to `F`: it has [`Summarise`], [`Narrow`], [`Propagate`] and [`Unscale`], the corridor without
    /// products.
    ///
    /// A device for one format has these for one element type.
    pub trait HasNarrow<F>:
        for<'r, 'w> Run<Summarise<'r, 'w, <Self as Device>::Space, F>>
        + for<'r, 'w> Run<Narrow<'r, 'w, <Self as Device>::Space, F>>
        + for<'r, 'w> Run<Propagate<'r, 'w, <Self as Device>::Space, F>>
        + for<'r, 'w> Run<Unscale<'r, 'w, <Self as Device>::Space, F>>
}

/// One branch of a join: `G` names its elements, `C` its cell, as the device names memory.
///
#[derive(Clone, Copy, Debug)]
pub struct Branch<G, C> {
    /// The elements.
    pub gradient: G,
    /// The cell whose scale they carry; one element.
    pub cell: C,
}

/// A branch in the memory `S`.
pub type BranchOf<'a, S, F> =
    Branch<<S as AddressSpace>::Ref<'a, F>, <S as AddressSpace>::Ref<'a, Cell>>;
