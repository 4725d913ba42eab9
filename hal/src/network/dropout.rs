//! Dropout.

use adaloss_core::{
    format::{Element, Noise},
    policy::Fraction,
};

use crate::{
    device::Device,
    epilogue::Epilogue,
    kind::OperationKind,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Run, has},
    space::AddressSpace,
};

/// Which elements are dropped, and how the others make up for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The share that is dropped; less than 1.
    pub share: Fraction,
    /// Element `i` is dropped where its random word, of 2^32, is less than the share.
    pub noise: Noise,
}

impl Mask {
    /// Returns the factor that kept elements are multiplied by: `1 / (1 - share)`, rounded once to
    /// f64 and once to f32.
    pub fn gain(self) -> f32 {
        (1.0 / (1.0 - self.share.to_f64())) as f32
    }

    /// Tells whether element `index` is dropped.
    pub fn drops(self, index: u64) -> bool {
        self.noise.word_at(index) < self.share.bits()
    }
}

/// Drops elements, and multiplies the others by the gain; forward, or in the backward pass with the same noise.
///
/// A dropped element is +0, whatever it was.
pub struct Dropout<'r, 'w, S: AddressSpace, E: Plain> {
    /// Which elements are dropped.
    pub mask: Mask,
    /// What they are dropped from.
    pub input: S::Ref<'r, E>,
    /// What is left; as many elements.
    pub to: S::Mut<'w, E>,
    /// Where the results go.
    pub epilogue: Epilogue<'w, S>,
}

impl<S: AddressSpace, E: Element + Plain> Operation for Dropout<'_, '_, S, E> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Dropout;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        let elements = S::len(self.input);
        visitor.input("the input", Some(elements), &mut self.input);
        visitor.output("the result", Some(elements), &mut self.to);
        visitor.epilogue::<E>(&mut self.epilogue);
    }
}

has! {
    /// A device that has [`Dropout`] of elements of type `E`.
    pub trait HasDropout<E>: for<'r, 'w> Run<Dropout<'r, 'w, <Self as Device>::Space, E>>
}
