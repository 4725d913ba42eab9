//! What is tested with: the corners of f32 and of every format, and random bit patterns.

use adaloss_core::format::Format;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

use super::{Limits, pow2};

/// Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
pub struct SplitMix64(
    /// The state; any number is a seed.
    pub u64,
);

impl SplitMix64 {
    /// Returns 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns 32 random bits.
    pub fn half_word(&mut self) -> u32 {
        (self.word() >> 32) as u32
    }

    /// Returns a number below `bound`, which is small.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() >> 33) as usize % bound
    }

    /// Returns a random bit pattern that is finite and not zero.
    pub fn finite(&mut self) -> f32 {
        loop {
            let x = f32::from_bits(self.half_word());
            if x.is_finite() && x != 0.0 {
                return x;
            }
        }
    }

    /// Returns `m 2^e` of a random sign, with a random significand and `least <= e <= greatest`.
    pub fn between_binades(&mut self, least: i32, greatest: i32) -> f32 {
        let word = self.word();
        let exponent = least + self.below((greatest - least + 1) as usize) as i32;
        let significand = 1.0 + (word >> 41) as f64 / pow2(23);
        let x = (significand * pow2(exponent)) as f32;
        if word & 1 == 0 { x } else { -x }
    }

    /// Returns eight values of a gradient, whose magnitudes are now and then many binades above or below those of the one before, and
    /// now and then zero.
    pub fn gradient(&mut self) -> Vec<f32> {
        let centre = self.below(22) as i32 - 26;
        let zeros = self.below(12) == 0;
        let one = |_| if zeros { 0.0 } else { self.between_binades(centre - 5, centre) };
        (0..8).map(one).collect()
    }

    /// Puts items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A number of cases that are the same in every run.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x5eed),
        ..ProptestConfig::default()
    }
}

/// Returns the value and its two neighbours in f32, those that are finite and not zero.
pub fn with_neighbours(x: f32) -> impl Iterator<Item = f32> {
    [x.next_down(), x, x.next_up()].into_iter().filter(|x| x.is_finite() && *x != 0.0)
}

/// The f32 values at which counts change at some scale, with their neighbours: every power of two,
/// and in every binade the significands at which this format's largest numbers round.
pub fn corners(format: Format) -> Vec<f32> {
    let limits = Limits::of(format.encoding);
    let top = limits.beyond.log2().ceil() as i32 - 1;
    let mut values = Vec::new();
    for exponent in -149..=127 {
        let scale = pow2(exponent - top);
        for edge in [limits.largest, limits.tie(), limits.beyond] {
            values.extend(with_neighbours((edge * scale) as f32));
        }
        values.extend(with_neighbours(pow2(exponent) as f32));
        values.extend(with_neighbours((1.5 * pow2(exponent)) as f32));
    }
    values
}

/// The corners of a format with both signs, f32 subnormals, and random bit patterns.
pub fn adversarial(format: Format, random: usize, seed: u64) -> Vec<f32> {
    let mut generator = SplitMix64(seed);
    let mut values = corners(format);
    for _ in 0..random {
        values.push(generator.finite());
        values.push(f32::from_bits(1 + generator.half_word() % 0x7f_ffff));
    }
    for x in &mut values {
        if generator.word() & 1 == 1 {
            *x = -*x;
        }
    }
    generator.shuffle(&mut values);
    values
}
