//! Work that many threads do in parts.
//!
//! The parts are the caller's and must depend on shapes alone, never on the number of threads: then
//! it makes no difference who does which.

use std::vec::Vec;

use rayon::prelude::*;

use super::Cpu;

impl Cpu {
    /// Calls `work` with each part and its number, on all threads and in any order.
    pub(crate) fn each<T: Send>(&self, parts: Vec<T>, work: impl Fn(usize, T) + Sync) {
        match &self.pool {
            Some(pool) if parts.len() > 1 => pool.install(|| {
                let parts = parts.into_par_iter().enumerate().with_max_len(1);
                parts.for_each(|(nth, part)| work(nth, part));
            }),
            _ => parts.into_iter().enumerate().for_each(|(nth, part)| work(nth, part)),
        }
    }

    /// Calls `work` with each chunk of `size` elements of a result and with its number; the last
    /// chunk may be shorter.
    pub(crate) fn each_chunk<T: Send>(
        &self,
        to: &mut [T],
        size: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        self.each(to.chunks_mut(size.max(1)).collect(), work);
    }

    /// Returns what `work` makes of each number below `count`, in the order of the numbers.
    ///
    /// Partial sums that are merged in this order do not depend on the threads.
    pub(crate) fn map<R: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> R + Send + Sync,
    ) -> Vec<R> {
        match &self.pool {
            Some(pool) if count > 1 => {
                pool.install(|| (0..count).into_par_iter().with_max_len(1).map(&work).collect())
            }
            _ => (0..count).map(&work).collect(),
        }
    }
}
