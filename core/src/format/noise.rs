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
}

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
            assert_eq!(Noise { seed, stream }.word(index), expected);
        }
    }
}
