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
        let MaxPool { pooling, input, to, indices } = operation.into_inner();
        let input = *input;
        let windows = Windows::of_output(*pooling);
        let size = windows.chunk(CHUNK);
        let chunks = to.chunks_mut(size.max(1)).zip(indices.chunks_mut(size.max(1)));
        self.each(chunks.collect::<Vec<_>>(), |nth, (to, indices)| {
            vectors(
                #[inline(always)]
                || windows.run(nth * size, to.len(), &mut Greatest { input, to, indices }),
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
        let Unpool { pooling, input, indices, to } = operation.into_inner();
        let (from, indices) = (*input, *indices);
        let windows = Windows::of_input(*pooling);
        let size = windows.chunk(CHUNK);
        self.each_chunk(to, size, |nth, to| {
            vectors(
                #[inline(always)]
                || windows.run(nth * size, to.len(), &mut Unpooled { from, indices, to }),
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
        let Pick { pooling, input, indices, to } = operation.into_inner();
        let (from, indices) = (*input, *indices);
        let windows = Windows::of_output(*pooling);
        let size = windows.chunk(CHUNK);
        self.each_chunk(to, size, |nth, to| {
            let indices = &indices[nth * size..][..to.len()];
            vectors(
                #[inline(always)]
                || windows.run(nth * size, to.len(), &mut Picked { from, indices, to }),
            );
        });
        Ok(())
    }
}

/// The greatest elements and their indices.
struct Greatest<'a, E> {
    input: &'a [E],
    /// The chunk's.
    to: &'a mut [E],
    indices: &'a mut [u32],
}

impl<E: Element> Pool for Greatest<'_, E> {
    /// What is kept of sixteen does not stay in registers: measured, three times as slow.
    const MOST: usize = 8;

    #[inline(always)]
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize) {
        let (mut ranks, mut greatest, mut indices) = ([i32::MIN; N], [0; N], [0; N]);
        window.each(
            channel,
            #[inline(always)]
            |element, position| {
                let elements = neighbours::<_, N>(self.input, element);
                for i in 0..N {
                    let rank = rank(elements[i]);
                    let is_greater = rank > ranks[i];
                    ranks[i] = if is_greater { rank } else { ranks[i] };
                    greatest[i] = if is_greater { elements[i].to_bits() } else { greatest[i] };
                    indices[i] = if is_greater { position } else { indices[i] };
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&greatest.map(E::from_bits));
        self.indices[first..first + N].copy_from_slice(&indices);
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
    indices: &'a [u32],
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
                let indices = neighbours::<_, N>(self.indices, element);
                for i in 0..N {
                    let x = from[i].to_bits();
                    bits[i] = if indices[i] == window.position { x } else { bits[i] };
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&bits.map(E::from_bits));
    }
}

/// The elements at indices.
struct Picked<'a, E> {
    from: &'a [E],
    /// The chunk's.
    indices: &'a [u32],
    to: &'a mut [E],
}

impl<E: Element> Pool for Picked<'_, E> {
    #[inline(always)]
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize) {
        let indices = *neighbours::<_, N>(self.indices, first);
        let mut bits = [0; N];
        window.each(
            channel,
            #[inline(always)]
            |element, position| {
                let from = neighbours::<_, N>(self.from, element);
                for i in 0..N {
                    let x = from[i].to_bits();
                    bits[i] = if indices[i] == position { x } else { bits[i] };
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&bits.map(E::from_bits));
    }
}
