//! What layers need beyond the corridor, in chunks of whole rows.
//!
//! With the channels last, what is done per channel is done for neighbouring elements.  Where there
//! are few channels, several rows are taken as one (`tile`), and a pooling takes some channels of a
//! pixel at a time (`window`).  Sums over rows are f32 within a chunk, in a few lanes, and f64 from
//! chunk to chunk.

mod accumulate;
mod attend;
mod batch;
mod dropout;
mod embed;
mod exponential;
mod head;
mod lanes;
mod layer;
mod loss;
mod max_pool;
mod normalise;
mod pointwise;
mod sum_pool;
mod tile;
mod update;
mod vectors;
mod window;

use core::ops::Range;

use self::vectors::vectors;
use super::{CHUNK, Cpu, Scratch, Sink, widen};
use adaloss_hal::host::filled;

/// Returns the elements of chunk `nth`, where chunks have `size` and there are `length` in all.
fn chunk(nth: usize, size: usize, length: usize) -> Range<usize> {
    nth * size..length.min((nth + 1) * size)
}
