//! Work that many threads do in parts.
//!
//! The parts are the caller's and must depend on shapes alone, never on the number of threads: then
//! it makes no difference who does which.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    vec::Vec,
};

use rayon::prelude::*;

use super::Cpu;

impl Cpu {
    /// Calls `work` with each number below `count`, on all threads and in any order.
    ///
    /// The one place that knows of threads: what is generic stays outside, or every operation would
    /// bring its own copy of rayon's code.
    fn share(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        match &self.pool {
            Some(pool) if count > 1 => {
                pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(work));
            }
            _ => (0..count).for_each(work),
        }
    }

    /// Calls `work` with each part and its number, on all threads and in any order.
    pub(crate) fn each<T: Send>(&self, parts: Vec<T>, work: impl Fn(usize, T) + Sync) {
        self.each_part(parts, &work);
    }

    /// Is [`each`](Self::each), compiled once for each type of parts.
    fn each_part<T: Send>(&self, parts: Vec<T>, work: &(dyn Fn(usize, T) + Sync)) {
        let parts: Vec<_> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
        self.share(parts.len(), &|nth| {
            let part = parts[nth].lock().unwrap_or_else(PoisonError::into_inner).take();
            part.into_iter().for_each(|part| work(nth, part));
        });
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
    pub(crate) fn map<R: Send + Sync>(
        &self,
        count: usize,
        work: impl Fn(usize) -> R + Send + Sync,
    ) -> Vec<R> {
        let results: Vec<_> = (0..count).map(|_| OnceLock::new()).collect();
        self.share(count, &|nth| {
            results[nth].get_or_init(|| work(nth));
        });
        results.into_iter().filter_map(OnceLock::into_inner).collect()
    }
}
