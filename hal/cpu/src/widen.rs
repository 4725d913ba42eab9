//! Elements to f32, as vectors.

use adaloss_core::format::Element;
use pulp::{Arch, Simd, WithSimd};

/// Widens as many elements as there are in the shorter of the two slices.
pub(crate) fn widen<E: Element>(from: &[E], to: &mut [f32]) {
    Arch::new().dispatch(Widen { from, to });
}

struct Widen<'a, E> {
    from: &'a [E],
    to: &'a mut [f32],
}

impl<E: Element> WithSimd for Widen<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = from.widen();
        }
    }
}
