//! Loops as the widest vector code that the machine has.

use pulp::{Arch, Simd, WithSimd};

/// Runs a loop that the compiler turns into vectors.
///
/// It and all that it calls in the loop are to be `#[inline(always)]`.  That is also why it can be
/// called again: a closure that can, called as one that can not, goes through a function of the
/// compiler's that nothing makes inline.
#[inline(always)]
pub(super) fn vectors<R>(work: impl FnMut() -> R) -> R {
    Arch::new().dispatch(Loop(work))
}

struct Loop<F>(F);

impl<R, F: FnMut() -> R> WithSimd for Loop<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> R {
        (self.0)()
    }
}
