//! Dropout.

use adaloss_core::{
    format::{Element, Noise},
    policy::Fraction,
};

use crate::{Epilogue, Mut, Narrow, Plain, Ref};

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

/// A device that drops elements of type `E`, forward or on the way back: the same operation, with
/// the same noise.
pub trait Dropout<E: Element + Plain>: Narrow<E> {
    /// Drops elements, and multiplies the others by the gain.
    ///
    /// A dropped element is +0, whatever it was.
    ///
    /// # Errors
    ///
    /// `input` and `to` differ in length, a part of the epilogue is not one element, or its
    /// narrowing is not for `E`.
    fn dropout(
        &mut self,
        mask: Mask,
        input: Ref<'_, Self, E>,
        to: Mut<'_, Self, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), Self::Error>
    where
        Self: Sized;
}
