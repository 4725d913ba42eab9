//! What is random in the data, as pure functions.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// One pass over the training samples of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Of the run.
    pub seed: u64,
    /// The pass, from 0.
    pub epoch: u64,
}

impl View {
    /// Returns the order in which the pass visits its samples.
    pub fn order(self, samples: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..samples).collect();
        order.shuffle(&mut generator(b"order---", [self.seed, self.epoch, 0]));
        order
    }

    /// Returns the generator of all that happens to one sample in this pass.
    pub(crate) fn generator(self, sample: usize) -> ChaCha8Rng {
        generator(b"augment-", [self.seed, self.epoch, sample as u64])
    }
}

/// Returns a generator whose whole key is a purpose and three numbers: no two are related.
pub(crate) fn generator(purpose: &[u8; 8], numbers: [u64; 3]) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [*purpose].into_iter().chain(numbers.map(u64::to_le_bytes));
    key.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word));
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_visits_every_sample_once_and_differs_between_passes_and_seeds() {
        let order = |seed, epoch| View { seed, epoch }.order(100);
        let mut sorted = order(1, 2);
        assert_eq!(sorted, order(1, 2));
        assert_ne!(sorted, order(1, 3));
        assert_ne!(sorted, order(2, 1));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn no_order_of_nothing() {
        assert!(View { seed: 0, epoch: 0 }.order(0).is_empty());
    }
}
