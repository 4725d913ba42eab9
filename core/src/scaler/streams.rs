//! Which random words the visits of a step take.

use crate::unscale::Place;

/// Which words stochastic rounding takes: those of a step, a place, a micro-batch, and of the visits of one place in
/// one micro-batch.
///
/// Nothing here depends on the values of a tensor, so that whoever asks a device for passes knows them beforehand.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Streams {
    /// Places that this micro-batch visited, each a bit that those share which are 256 apart.
    visited: [u64; 4],
    micro_batch: u32,
    /// Visits of this micro-batch at a place that was visited before.
    again: u32,
}

impl Streams {
    /// Begins a micro-batch; see [`Step::micro_batch`](super::Step::micro_batch).
    pub const fn of_micro_batch(index: u32) -> Self {
        Self { visited: [0; 4], micro_batch: index, again: 0 }
    }

    /// Returns the stream of the next visit, at `place`; `step` counts the finished steps.
    pub fn next(&mut self, step: u64, place: Place) -> u32 {
        let place = match place {
            Place::Loss => 0,
            Place::Layer(id) | Place::Weight(id) => (id as u32).wrapping_add(1),
        };
        let bit = 1 << (place % 64);
        let visited = &mut self.visited[(place / 64 % 4) as usize];
        let mut again = 0;
        if *visited & bit != 0 {
            self.again = self.again.wrapping_add(1);
            again = self.again;
        }
        *visited |= bit;
        let parts = [step as u32, place, self.micro_batch, again];
        parts.into_iter().fold(0, |stream: u32, part| fmix32(stream.wrapping_add(part)))
    }
}

/// The last lines of MurmurHash3 (Austin Appleby, public domain): different words become different words.
const fn fmix32(mut word: u32) -> u32 {
    word ^= word >> 16;
    word = word.wrapping_mul(0x85eb_ca6b);
    word ^= word >> 13;
    word = word.wrapping_mul(0xc2b2_ae35);
    word ^ (word >> 16)
}
