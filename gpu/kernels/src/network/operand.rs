//! Operands whose encoding the launch says, so that a kernel need not be compiled for each pair of types.

use adaloss_core::{
    format::{Element, Encoding},
    with_element,
};

use crate::memory::{self, CHUNK, read_chunk};

/// The elements of a tensor, which are read only.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Operand {
    first: *const u8,
    encoding: Encoding,
}

impl Operand {
    /// Names a tensor by its first element.
    pub const fn new<F: Element>(first: *const F) -> Self {
        Self { first: first.cast(), encoding: F::ENCODING }
    }

    /// Returns the address of the first element.
    pub const fn first(self) -> *const u8 {
        self.first
    }

    /// Returns how elements are encoded.
    pub const fn encoding(self) -> Encoding {
        self.encoding
    }

    /// Tells whether [chunks](CHUNK) of it can be read.
    #[inline(always)]
    pub(crate) fn has_chunks(self) -> bool {
        with_element!(self.encoding, F => memory::has_chunks(self.first.cast::<F>()))
    }

    /// Returns an element.
    ///
    /// # Safety
    ///
    /// As for [`is_zero`](Self::is_zero).
    #[inline(always)]
    pub(crate) unsafe fn read(self, index: usize) -> f32 {
        // SAFETY: the caller's promise.
        with_element!(self.encoding, F => unsafe { (*self.first.cast::<F>().add(index)).widen() })
    }

    /// Returns some elements, and zeros where there are none.
    ///
    /// # Safety
    ///
    /// As for [`is_zero`](Self::is_zero).
    #[inline(always)]
    pub(crate) unsafe fn read_all<const N: usize>(self, places: [Option<usize>; N]) -> [f32; N] {
        with_element!(self.encoding, F => {
            let one = |place: Option<usize>| match place {
                // SAFETY: the caller's promise.
                Some(place) => unsafe { *self.first.cast::<F>().add(place) },
                None => F::from_bits(0),
            };
            places.map(one).map(Element::widen)
        })
    }

    /// Returns a chunk of elements, or half of one, from each of several places.
    ///
    /// # Safety
    ///
    /// As for [`zeros`](Self::zeros), but that places are multiples of as many elements.
    #[inline(always)]
    pub(crate) unsafe fn read_chunks<const WIDTH: usize, const N: usize>(
        self,
        places: [usize; N],
    ) -> [[f32; WIDTH]; N] {
        with_element!(self.encoding, F => {
            // SAFETY: the caller's promise.
            let read = |place| unsafe { read_chunk::<F, WIDTH>(self.first.cast::<F>().add(place)) };
            places.map(read).map(|chunk| chunk.map(Element::widen))
        })
    }

    /// Tells whether an element is zero, of either sign.
    ///
    /// # Safety
    ///
    /// It is there, and nobody writes it during the launch.
    #[inline(always)]
    pub(crate) unsafe fn is_zero(self, index: usize) -> bool {
        // SAFETY: the caller's promise.
        with_element!(self.encoding, F => is_zero(unsafe { *self.first.cast::<F>().add(index) }))
    }

    /// Is [`is_zero`](Self::is_zero) of a chunk.
    ///
    /// # Safety
    ///
    /// As there, of each element; it [has chunks](Self::has_chunks), and `index` is a multiple of [`CHUNK`].
    #[inline(always)]
    pub(crate) unsafe fn zeros(self, index: usize) -> [bool; CHUNK] {
        with_element!(self.encoding, F => {
            // SAFETY: the caller's promise.
            let chunk: [F; CHUNK] = unsafe { read_chunk(self.first.cast::<F>().add(index)) };
            chunk.map(is_zero)
        })
    }
}

/// Tells whether no bit is set but that of the sign, which is the highest of every encoding.
#[inline(always)]
fn is_zero<F: Element>(x: F) -> bool {
    x.to_bits() & !F::ENCODING.sign_bit() == 0
}
