//! Dropout, from the random words of the mask.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Plain,
    network::{Dropout, Mask},
    portable::{Portable, PortableError, narrow::Sink, same_length},
};

impl<E: Element + Plain> Dropout<E> for Portable {
    fn dropout(
        &mut self,
        mask: Mask,
        input: &[E],
        to: &mut [E],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        same_length("what dropout leaves", input.len(), to.len())?;
        let gain = mask.gain();
        Sink::open(epilogue)?.each(0, to, |index| {
            if mask.drops(index as u64) { 0.0 } else { gain * input[index].widen() }
        })
    }
}
