//! Max pooling and unpooling: elements are compared and moved as bits.

use std::vec::Vec;

use adaloss_core::format::Element;

use super::{
    CHUNK, Cpu,
    pointwise::last_number,
    vectors,
    window::{Pool, Window, Windows, neighbours},
};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{MaxPool, Pick, Unpool},
};

impl<E: Element + Plain> Run<MaxPool<'_, '_, HostSpace, E>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPool { pooling, input, to, places } = operation.into_inner();
        let input = *input;
        let windows = Windows::of_output(*pooling);
        let size = windows.chunk(CHUNK);
        let chunks = to.chunks_mut(size.max(1)).zip(places.chunks_mut(size.max(1)));
        self.each(chunks.collect::<Vec<_>>(), |nth, (to, places)| {
            vectors(
                #[inline(always)]
                || windows.run(nth * size, to.len(), &mut Greatest { input, to, places }),
            );
        });
        Ok(())
    }
}

impl<E: Element + Plain> Run<Unpool<'_, '_, HostSpace, E>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unpool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Unpool { pooling, input, places, to } = operation.into_inner();
        let (from, places) = (*input, *places);
        let windows = Windows::of_input(*pooling);
        let size = windows.chunk(CHUNK);
        self.each_chunk(to, size, |nth, to| {
            vectors(
                #[inline(always)]
                || windows.run(nth * size, to.len(), &mut Unpooled { from, places, to }),
            );
        });
        Ok(())
    }
}

impl<E: Element + Plain> Run<Pick<'_, '_, HostSpace, E>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, Pick<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Pick { pooling, input, places, to } = operation.into_inner();
        let (from, places) = (*input, *places);
        let windows = Windows::of_output(*pooling);
        let size = windows.chunk(CHUNK);
        self.each_chunk(to, size, |nth, to| {
            let places = &places[nth * size..][..to.len()];
            vectors(
                #[inline(always)]
                || windows.run(nth * size, to.len(), &mut Picked { from, places, to }),
            );
        });
        Ok(())
    }
}

/// The greatest elements and their places.
struct Greatest<'a, E> {
    input: &'a [E],
    /// The chunk's.
    to: &'a mut [E],
    places: &'a mut [u32],
}

impl<E: Element> Pool for Greatest<'_, E> {
    /// What is kept of sixteen does not stay in registers: measured, three times as slow.
    const MOST: usize = 8;

    #[inline(always)]
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize) {
        let (mut ranks, mut greatest, mut places) = ([i32::MIN; N], [0; N], [0; N]);
        window.each(
            channel,
            #[inline(always)]
            |element, place| {
                let elements = neighbours::<_, N>(self.input, element);
                for i in 0..N {
                    let rank = rank(elements[i]);
                    let is_greater = rank > ranks[i];
                    ranks[i] = if is_greater { rank } else { ranks[i] };
                    greatest[i] = if is_greater { elements[i].to_bits() } else { greatest[i] };
                    places[i] = if is_greater { place } else { places[i] };
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&greatest.map(E::from_bits));
        self.places[first..first + N].copy_from_slice(&places);
    }
}

/// Returns a number that orders elements: zeros are equal, and so are NaNs, which are the greatest.
#[inline(always)]
fn rank<E: Element>(x: E) -> i32 {
    let bits = x.to_bits();
    let magnitude = (bits & (E::ENCODING.sign_bit() - 1)) as i32;
    let signed = if bits & E::ENCODING.sign_bit() == 0 { magnitude } else { -magnitude };
    if magnitude as u32 > last_number::<E>() { i32::MAX } else { signed }
}

/// The elements of windows that took a pixel.
struct Unpooled<'a, E> {
    from: &'a [E],
    places: &'a [u32],
    /// The chunk's.
    to: &'a mut [E],
}

impl<E: Element> Pool for Unpooled<'_, E> {
    #[inline(always)]
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize) {
        let mut bits = [0; N];
        window.each(
            channel,
            #[inline(always)]
            |element, _| {
                let from = neighbours::<_, N>(self.from, element);
                let places = neighbours::<_, N>(self.places, element);
                for i in 0..N {
                    let x = from[i].to_bits();
                    bits[i] = if places[i] == window.place { x } else { bits[i] };
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&bits.map(E::from_bits));
    }
}

/// The elements at places.
struct Picked<'a, E> {
    from: &'a [E],
    /// The chunk's.
    places: &'a [u32],
    to: &'a mut [E],
}

impl<E: Element> Pool for Picked<'_, E> {
    #[inline(always)]
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize) {
        let places = *neighbours::<_, N>(self.places, first);
        let mut bits = [0; N];
        window.each(
            channel,
            #[inline(always)]
            |element, place| {
                let from = neighbours::<_, N>(self.from, element);
                for i in 0..N {
                    let x = from[i].to_bits();
                    bits[i] = if places[i] == place { x } else { bits[i] };
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&bits.map(E::from_bits));
    }
}
