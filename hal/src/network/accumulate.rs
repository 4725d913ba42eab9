//! Sums of f32 tensors.

use crate::{
    device::Device,
    kind::OperationKind,
    operation::{Operation, Visitor},
    run::{Run, has},
    space::AddressSpace,
};

/// Adds a tensor to every row of another: a bias to a matrix, or a gradient to another of its length.
pub struct Accumulate<'r, 'w, S: AddressSpace> {
    /// What is added.
    pub input: S::Ref<'r, f32>,
    /// What it is added to; a multiple of its elements, of which only 0 is one of no elements.
    pub to: S::Mut<'w, f32>,
}

impl<S: AddressSpace> Operation for Accumulate<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Accumulate;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let (columns, elements) = (S::len(self.input), S::len(S::shared(&self.to)));
        visitor.needs("rows as long as what is added", elements.is_multiple_of(columns));
        visitor.input("what is added", None, &mut self.input);
        visitor.output("the sum", None, &mut self.to);
    }
}

/// Moves a tensor towards another: `to + share (input - to)`, for running means.
pub struct Blend<'r, 'w, S: AddressSpace> {
    /// How far it is moved.
    pub share: f32,
    /// What it is moved towards.
    pub input: S::Ref<'r, f32>,
    /// What is moved; as many elements.
    pub to: S::Mut<'w, f32>,
    /// The predicate, if there is one; see [`Epilogue::when`](crate::Epilogue::when).
    pub when: Option<S::Ref<'r, u32>>,
}

impl<S: AddressSpace> Operation for Blend<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Blend;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(self.input);
        visitor.input("the input", Some(elements), &mut self.input);
        visitor.output("the mean", Some(elements), &mut self.to);
        visitor.predicate("the predicate", &mut self.when);
    }
}

has! {
    /// A device that has [`Accumulate`] and [`Blend`].
    pub trait HasAccumulate:
        for<'r, 'w> Run<Accumulate<'r, 'w, <Self as Device>::Space>>
        + for<'r, 'w> Run<Blend<'r, 'w, <Self as Device>::Space>>
}
