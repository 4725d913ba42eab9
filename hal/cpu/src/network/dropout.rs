//! Dropout, from the random words of the mask.

use adaloss_core::format::Element;

use super::{CHUNK, Cpu, Scratch, Sink, vectors};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{Dropout, Mask},
};

impl<E: Element + Plain> Run<Dropout<'_, '_, HostSpace, E>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Dropout<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Dropout { mask, input, to, epilogue } = operation.into_inner();
        let (mask, input) = (*mask, *input);
        let sink = Sink::<E>::open(epilogue.reborrow())?;
        self.each_chunk(to, CHUNK, |nth, to| {
            let first = nth * CHUNK;
            let mut kept = Scratch::any(to.len());
            let input = &input[first..][..to.len()];
            vectors(
                #[inline(always)]
                || keep(mask, first as u64, input, &mut kept),
            );
            sink.put(first, &kept, to);
        });
        Ok(())
    }
}

/// Elements whose random words are computed at a time.
const LINE: usize = 64;

#[inline(always)]
fn keep<E: Element>(mask: Mask, first: u64, input: &[E], to: &mut [f32]) {
    let gain = mask.gain();
    let mut drops = [0; LINE];
    for (line, (to, input)) in to.chunks_mut(LINE).zip(input.chunks(LINE)).enumerate() {
        let first = first.wrapping_add((line * LINE) as u64);
        for (i, drops) in (0..LINE as u64).zip(&mut drops) {
            *drops = u32::from(mask.drops(first.wrapping_add(i)));
        }
        for ((to, x), drops) in to.iter_mut().zip(input).zip(drops) {
            let kept = gain * x.widen();
            *to = if drops != 0 { 0.0 } else { kept };
        }
    }
}
