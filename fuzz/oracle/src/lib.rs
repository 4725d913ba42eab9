//! Independent references: nothing here calls the code under test.
//!
//! The types of `adaloss_core` serve as names only.  [`Grid`] rounds by the definition, between two
//! neighbours of a table; [`apfloat`] rounds with LLVM's arbitrary-precision floating point, and
//! [`Reference`] adds what the documented rules make of that, fast enough for every f32;
//! [`exact`] has the rational numbers; [`search`] finds what a certificate has to say; [`guesses`] chooses
//! the scales of `measured` and `amax` with the whole past at hand;
//! [`inputs`] generates what is tested with; [`tolerance`] says how far what is not exact may be off.

#![forbid(unsafe_code)]

pub mod apfloat;
pub mod exact;
mod grid;
pub mod guesses;
pub mod inputs;
mod limits;
mod reference;
pub mod search;
pub mod tolerance;

pub use grid::Grid;
pub use limits::{Limits, pow2, product};
pub use reference::{Reference, Rounded};
pub use tolerance::Tolerance;

use adaloss_core::format::{Encoding, Format, Narrowing, Overflow, Rounding, Subnormals};

/// Tells whether two results have the same bits; any NaN is as good as another.
pub fn is_same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Every encoding, each with gradual underflow and with flushing.
pub fn formats() -> Vec<Format> {
    let both = [Subnormals::Gradual, Subnormals::Flush];
    let pairs = Encoding::ALL.into_iter().flat_map(|e| both.map(|s| Format::new(e, s)));
    pairs.collect()
}

/// Every combination of format, rounding and overflow.
pub fn narrowings() -> Vec<Narrowing> {
    let mut all = Vec::new();
    for format in formats() {
        for rounding in [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic] {
            for overflow in [Overflow::Infinity, Overflow::Saturate] {
                all.push(Narrowing { format, rounding, overflow });
            }
        }
    }
    all
}

/// Every combination of format and deterministic rounding; overflow does not change a count.
pub fn counted_narrowings() -> Vec<Narrowing> {
    let of = |n: &Narrowing| n.overflow == Overflow::Infinity && n.rounding != Rounding::Stochastic;
    narrowings().into_iter().filter(of).collect()
}

/// Runs `job` on every item, on all cores, and returns the sum of what it counted.
pub fn in_parallel<T: Sync>(items: &[T], job: impl Fn(&T) -> u64 + Sync) -> u64 {
    use std::{
        panic::resume_unwind,
        sync::atomic::{AtomicUsize, Ordering},
    };
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut count = 0;
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            count += job(item);
        }
        count
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let counts =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|e| resume_unwind(e)));
        counts.sum()
    })
}
