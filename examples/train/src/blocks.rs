//! Blocks of 32 elements that share a power of two, as OCP Microscaling (MX) has them, simulated in f32.
//!
//! The conversion is that of the OCP Microscaling Formats (MX) Specification 1.0, section 6.3: the shared exponent is
//! that of the block's largest magnitude less that of the element format's largest number, and elements are
//! rounded to nearest even and saturate.  So a block's largest magnitude is clipped where its significand is beyond
//! that of the largest number: in E4M3 between 448 and 512 times the shared scale.
//!
//! What it costs instead of measuring: 8 bits per 32 elements, and hardware that scales within a sum.  A product that
//! sums along the other axis, as that of a weight gradient does, needs the tensor quantised a second time along that
//! axis; here it takes what was quantised once, along the innermost.

use adaloss_core::{
    format::{E4M3, E5M2, Element, Encoding, Fate, Format, Narrowing},
    statistics::Outcome,
};
use anyhow::{Result, bail};

/// Elements that share a scale.
pub const BLOCK: usize = 32;

/// The shared scales that E8M0 has, as exponents.
const SCALES: [i32; 2] = [-127, 127];

/// An 8-bit element format whose scales are those of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    narrowing: Narrowing,
}

/// What rounding did to the elements of a tensor: counted and summed one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rounded {
    /// What became of them; those that overflow were clipped to the largest number of their block.
    pub outcome: Outcome,
    /// The sum of the finite magnitudes.
    pub mass: f64,
    /// The part of it that became zero.
    pub lost: f64,
    /// The part of it that was beyond the largest numbers.
    pub clipped: f64,
}

impl Rounded {
    /// Returns the share of the mass that became zero; 0 where there is none.
    pub fn lost_share(&self) -> f64 {
        if self.mass > 0.0 { self.lost / self.mass } else { 0.0 }
    }

    /// Returns the share of the mass that was clipped; 0 where there is none.
    pub fn clipped_share(&self) -> f64 {
        if self.mass > 0.0 { self.clipped / self.mass } else { 0.0 }
    }
}

impl Blocks {
    /// Makes blocks of a format.
    ///
    /// # Errors
    ///
    /// Elements of the format have other than 8 bits, or it flushes subnormals: MX has no such format.
    pub fn of(format: Format) -> Result<Self> {
        if format != Format::E4M3 && format != Format::E5M2 {
            bail!("mx has blocks of 8-bit elements: its formats are e4m3 and e5m2");
        }
        Ok(Self { narrowing: Narrowing::to(format).saturating() })
    }

    /// Returns how an element is rounded once its block's scale is taken out.
    pub const fn narrowing(self) -> Narrowing {
        self.narrowing
    }

    /// Rounds rows of `length` elements in place, each row in blocks of its own; the last one of a row may be
    /// shorter, as if zeros followed.
    ///
    /// Infinities and NaN stay as they are and have no part in the shared scale.
    pub fn round(self, length: usize, values: &mut [f32]) -> Rounded {
        let mut rounded = Rounded::default();
        let rows = values.chunks_mut(length.max(1));
        for block in rows.flat_map(|row| row.chunks_mut(BLOCK)) {
            self.round_block(block, &mut rounded);
        }
        rounded
    }

    fn round_block(self, block: &mut [f32], rounded: &mut Rounded) {
        let finite = block.iter().filter(|x| x.is_finite());
        let largest = finite.fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let encoding = self.narrowing.format.encoding;
        let shared = exponent(largest).map_or(0, |log2| log2 - encoding.max_log2());
        let shared = shared.clamp(SCALES[0], SCALES[1]);
        for x in block {
            let fate = self.narrowing.narrow(*x, -shared, 0).fate;
            rounded.outcome.record(*x, fate);
            if fate == Fate::NonFinite {
                continue;
            }
            let (before, after) = (f64::from(x.abs()), self.nearest(*x, shared));
            rounded.mass += before;
            match fate {
                Fate::Underflow => rounded.lost += before,
                Fate::Overflow => rounded.clipped += before - after.abs(),
                _ => {}
            }
            *x = after as f32; // exact: an element has few digits, and f32 the exponents of all scales
        }
    }

    /// Returns the element nearest to a value, times `2^shared`.
    fn nearest(self, x: f32, shared: i32) -> f64 {
        let element = match self.narrowing.format.encoding {
            Encoding::E5M2 => E5M2::narrow(x, self.narrowing, -shared, 0).widen(),
            _ => E4M3::narrow(x, self.narrowing, -shared, 0).widen(),
        };
        f64::from(element) * f64::from(shared).exp2()
    }
}

/// Returns the exponent of the binade of a magnitude; none of zero.
fn exponent(magnitude: f32) -> Option<i32> {
    // Exact in f64, in which no f32 is subnormal.
    let bits = f64::from(magnitude).to_bits();
    (magnitude > 0.0).then(|| (bits >> 52) as i32 - 1023)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn of(format: Format) -> Blocks {
        Blocks::of(format).unwrap()
    }

    /// The largest is 480, so the shared scale is 2^(8 - 8) and the elements are those of E4M3.
    #[test]
    fn a_block_of_e4m3_is_rounded_as_by_hand() {
        let tiny = 2.0_f32.powi(-10);
        let mut block = [480.0, -465.0, 464.0, 17.0, 19.0, 2.0 * tiny, 1.5 * tiny, tiny, 0.0, -0.0];
        let rounded = of(Format::E4M3).round(block.len(), &mut block);
        // 480 and 465 round to 480, which is beyond 448; 464 is halfway and rounds to the even 448.
        let expected = [448.0, -448.0, 448.0, 16.0, 20.0, 2.0 * tiny, 2.0 * tiny, 0.0, 0.0, -0.0];
        assert_eq!(block.map(f32::to_bits), expected.map(f32::to_bits));
        let outcome = Outcome {
            elements: 10,
            zero: 2,
            underflow: 1,
            subnormal: 2,
            overflow: 2,
            max_bits: 480.0_f32.to_bits(),
            ..Outcome::EMPTY
        };
        assert_eq!(rounded.outcome, outcome);
        let tiny = f64::from(tiny);
        assert_eq!((rounded.lost, rounded.clipped), (tiny, 32.0 + 17.0));
        assert_eq!(rounded.mass, 480.0 + 465.0 + 464.0 + 17.0 + 19.0 + 4.5 * tiny);
        assert_eq!(rounded.clipped_share(), rounded.clipped / rounded.mass);
    }

    /// 61440 is halfway between 57344, whose last digit is odd, and what would be 65536.
    #[test]
    fn a_block_of_e5m2_saturates() {
        let small = 2.0_f32.powi(-40);
        let mut block = [61440.0, 61439.0, 5.0, 1.25].map(|x| x * small);
        let rounded = of(Format::E5M2).round(4, &mut block);
        assert_eq!(block, [57344.0, 57344.0, 5.0, 1.25].map(|x| x * small));
        assert_eq!(rounded.outcome.overflow, 1);
        assert_eq!(rounded.clipped, 4096.0 * f64::from(small));
    }

    /// Blocks begin anew after 32 elements and in each row, and a block's scale is of no other.
    #[test]
    fn blocks_end_after_32_elements_and_with_their_row() {
        let (large, small) = (256.0, 2.0_f32.powi(-30));
        let mut row = [small; 40];
        row[31] = large;
        let mut values = [row, [small; 40]].concat();
        let rounded = of(Format::E4M3).round(40, &mut values);
        let mut expected = [[0.0; 40], [small; 40]].concat();
        expected[31] = large;
        expected[32..40].fill(small);
        assert_eq!(values, expected);
        assert_eq!((rounded.outcome.underflow, rounded.outcome.elements), (31, 80));
        // Rows of three: 32 elements in a row have nothing to do with each other.
        let mut values = [large, small, 0.0, small, small, small];
        of(Format::E4M3).round(3, &mut values);
        assert_eq!(values, [large, 0.0, 0.0, small, small, small]);
    }

    /// The least shared scale is 2^-127: what would want a lower one is rounded at that.
    #[test]
    fn shared_scales_end_where_those_of_e8m0_do() {
        let power = |log2: i32| 2.0_f64.powi(log2) as f32;
        let mut block = [power(-120), power(-136), power(-138), power(-149)];
        let rounded = of(Format::E4M3).round(4, &mut block);
        assert_eq!(block, [power(-120), power(-136), 0.0, 0.0]);
        assert_eq!((rounded.outcome.subnormal, rounded.outcome.underflow), (1, 2));
        let mut block = [f32::MAX, power(127), 1.0];
        of(Format::E4M3).round(3, &mut block);
        assert_eq!(block, [power(127) * 1.75, power(127), 0.0]);
        let mut block = [power(-149); 2];
        assert_eq!(of(Format::E5M2).round(2, &mut block).lost_share(), 1.0);
        assert_eq!(block, [0.0; 2]);
    }

    #[test]
    fn zeros_stay_zero_and_what_is_not_finite_stays_visible() {
        let mut block = [0.0, -0.0];
        let rounded = of(Format::E4M3).round(2, &mut block);
        assert_eq!(block.map(f32::to_bits), [0.0_f32, -0.0].map(f32::to_bits));
        assert_eq!((rounded.lost_share(), rounded.clipped_share()), (0.0, 0.0));
        let mut block = [f32::INFINITY, 3.0, f32::NAN, f32::NEG_INFINITY];
        let rounded = of(Format::E5M2).round(4, &mut block);
        assert!(block[0] == f32::INFINITY && block[2].is_nan() && block[3] == f32::NEG_INFINITY);
        assert_eq!((block[1], rounded.outcome.nonfinite, rounded.mass), (3.0, 3, 3.0));
        assert_eq!(of(Format::E5M2).round(0, &mut []), Rounded::default());
    }

    /// Every element becomes the nearest of all numbers that its block has, found by trying all 256 codes.
    #[test]
    fn elements_become_the_nearest_number_of_their_block() {
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        for format in [Format::E4M3, Format::E5M2] {
            for _ in 0..20 {
                let before: Vec<f32> = (0..BLOCK)
                    .map(|_| {
                        let (x, log2) = (generator.random_range(-1.0..1.0_f32), -40);
                        x * 2.0_f32.powi(generator.random_range(log2..0))
                    })
                    .collect();
                let mut after = before.clone();
                of(format).round(BLOCK, &mut after);
                let largest = before.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                let log2 = largest.log2().floor() as i32 - format.encoding.max_log2();
                let numbers = (0..=255).map(|bits| f64::from(format.widen(bits)));
                let numbers: Vec<f64> = numbers.filter(|x| x.is_finite()).collect();
                for (before, after) in before.into_iter().zip(after) {
                    let error = |x: f64| (x - f64::from(before)).abs();
                    let scale = 2.0_f64.powi(log2);
                    let least = numbers.iter().map(|x| error(x * scale)).fold(f64::MAX, f64::min);
                    assert_eq!(error(after.into()), least, "{before} became {after}");
                }
            }
        }
    }

    #[test]
    fn other_formats_have_no_blocks() {
        for format in [Format::BINARY16, Format::BINARY32, Format::E4M3.flushing()] {
            let error = Blocks::of(format).unwrap_err().to_string();
            assert!(error.contains("e4m3 and e5m2"), "{error}");
        }
    }
}
