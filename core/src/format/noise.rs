//! The random words of stochastic rounding: a pure function of a seed and a counter.

/// A stream of random words for stochastic rounding.
///
/// `word(i)` is the first output of Philox2x32-10 with the seed as key and `(i, stream)` as counter
/// (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).  A word depends on
/// nothing else, so any number of threads may round a tensor in any order to the same bits.
///
/// # Examples
///
/// ```
/// use adaloss_core::format::Noise;
/// let noise = Noise { seed: 0, stream: 0 };
/// assert_eq!(noise.word(0), 0xff1d_ae59); // known answer of the Random123 distribution
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Noise {
    /// The key: one per training run.
    pub seed: u32,
    /// The upper half of the counter: one per tensor and step.
    pub stream: u32,
}

impl Noise {
    /// Returns the random word of element `index`.
    #[inline]
    pub const fn word(self, index: u32) -> u32 {
        let (mut left, mut right, mut key) = (index, self.stream, self.seed);
        let mut round = 0;
        while round < 10 {
            let product = left as u64 * 0xd256_d193;
            left = (product >> 32) as u32 ^ key ^ right;
            right = product as u32;
            key = key.wrapping_add(0x9e37_79b9); // Weyl constant, 2^32 over the golden ratio
            round += 1;
        }
        left
    }

    /// Returns the random word of element `index` of a tensor that may have more than 2^32 of them.
    ///
    /// Below 2^32 it is [`word`](Self::word).  From there on the upper half of the index, times `0x85eb_ca6b`, changes the
    /// key by an exclusive or, so that no two elements of a run share a counter and a key.
    #[inline]
    pub const fn word_at(self, index: u64) -> u32 {
        let seed = self.seed ^ ((index >> 32) as u32).wrapping_mul(UPPER);
        Self { seed, ..self }.word(index as u32)
    }
}

/// Spreads the upper half of an index over the key: odd, so that no two halves give the same, and not the Weyl
/// constant, by which keys move from round to round (the first multiplier of MurmurHash3's `fmix32`).
const UPPER: u32 = 0x85eb_ca6b;

#[cfg(test)]
mod tests {
    use super::*;

    /// The three known answers for philox2x32 with 10 rounds in Random123's `kat_vectors`.
    #[test]
    fn known_answers() {
        let answers = [
            (0, 0, 0, 0xff1d_ae59),
            (u32::MAX, u32::MAX, u32::MAX, 0x2c3f_628b),
            (0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0xdd7c_e038),
        ];
        for (index, stream, seed, expected) in answers {
            let noise = Noise { seed, stream };
            assert_eq!((noise.word(index), noise.word_at(index.into())), (expected, expected));
        }
    }

    /// An index is a number of 64 bits, of which none is dropped.
    #[test]
    fn every_bit_of_an_index_changes_the_word() {
        let noise = Noise { seed: 17, stream: 3 };
        for index in [0, 5, 0xffff_ffff] {
            let mut words =
                (0..64).map(|bit| noise.word_at(index ^ (1 << bit))).collect::<std::vec::Vec<_>>();
            words.push(noise.word_at(index));
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), 65);
        }
        let key = 17 ^ 0x85eb_ca6b;
        assert_eq!(noise.word_at((1 << 32) + 9), Noise { seed: key, stream: 3 }.word(9));
    }
}
