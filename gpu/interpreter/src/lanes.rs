//! One value for each thread of a warp, and what is done with all of them: loops that compilers make one
//! operation of.

/// Threads of a warp.
pub(crate) const LANES: usize = 32;

/// A value of each thread of a warp.
pub(crate) type Lanes<T> = [T; LANES];

#[inline(always)]
pub(crate) fn map<A: Copy, R: Copy + Default>(a: &Lanes<A>, f: impl Fn(A) -> R) -> Lanes<R> {
    let mut results = [R::default(); LANES];
    for (result, &a) in results.iter_mut().zip(a) {
        *result = f(a);
    }
    results
}

#[inline(always)]
pub(crate) fn zip<A: Copy, B: Copy, R: Copy + Default>(
    a: &Lanes<A>,
    b: &Lanes<B>,
    f: impl Fn(A, B) -> R,
) -> Lanes<R> {
    let mut results = [R::default(); LANES];
    for lane in 0..LANES {
        results[lane] = f(a[lane], b[lane]);
    }
    results
}

#[inline(always)]
pub(crate) fn zip3<A: Copy, B: Copy, C: Copy, R: Copy + Default>(
    a: &Lanes<A>,
    b: &Lanes<B>,
    c: &Lanes<C>,
    f: impl Fn(A, B, C) -> R,
) -> Lanes<R> {
    let mut results = [R::default(); LANES];
    for lane in 0..LANES {
        results[lane] = f(a[lane], b[lane], c[lane]);
    }
    results
}

/// Returns one value where a lane's bit is set, and another one elsewhere.
#[inline(always)]
pub(crate) fn select<A: Copy + Default>(which: u32, a: &Lanes<A>, b: &Lanes<A>) -> Lanes<A> {
    let mut results = [A::default(); LANES];
    for lane in 0..LANES {
        results[lane] = if which >> lane & 1 == 1 { a[lane] } else { b[lane] };
    }
    results
}

/// Returns a bit for each lane of which something is true.
#[inline(always)]
pub(crate) fn mask<A: Copy, B: Copy>(a: &Lanes<A>, b: &Lanes<B>, f: impl Fn(A, B) -> bool) -> u32 {
    let mut mask = 0;
    for lane in 0..LANES {
        mask |= u32::from(f(a[lane], b[lane])) << lane;
    }
    mask
}

/// Returns the lanes of a mask, the lowest first.
pub(crate) fn lanes_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}
