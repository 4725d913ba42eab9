//! Recorded tensors: what a run over many layers and steps could have met.

use adaloss_core::scale::Scale;

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: i32) -> i32 {
        (self.next() % end as u64) as i32
    }

    /// Returns a number of either sign within `spread` binades of `2^center`.
    pub(crate) fn real(&mut self, center: i32, spread: i32) -> f32 {
        let exponent = center - spread + self.below(2 * spread + 1);
        let fraction = 1.0 + (self.next() >> 41) as f32 / 8_388_608.0;
        let sign = if self.next().is_multiple_of(2) { 1.0 } else { -1.0 };
        (f64::from(sign * fraction) * f64::exp2(f64::from(exponent))) as f32
    }
}

/// The f32 results of one layer at one step, before they are narrowed.
pub(crate) struct Recorded {
    pub(crate) incoming: Scale,
    pub(crate) values: Vec<f32>,
}

/// Records tensors whose magnitudes drift and sometimes jump; some are empty, zero or broken.
pub(crate) fn record(seed: u64, cells: usize, visits: usize) -> Vec<Recorded> {
    let mut random = Random(seed);
    let mut centers: Vec<i32> = (0..cells).map(|_| -random.below(36)).collect();
    let mut recorded = Vec::new();
    for _ in 0..visits {
        for center in &mut centers {
            *center = (*center + random.below(3) - 1).clamp(-120, 100);
            let incoming = Scale::saturating(random.below(30) - 5);
            let (kind, length) = (random.below(64), random.below(120) as usize);
            match kind {
                0 => *center = (*center + 30).min(100),  // overflow
                1 => *center = (*center - 30).max(-120), // underflow
                _ => {}
            }
            let mut values: Vec<f32> = match kind {
                2 => Vec::new(),
                3..6 => vec![0.0; length],
                _ => (0..length).map(|_| random.real(*center + incoming.log2(), 6)).collect(),
            };
            let place = random.next() as usize % length.max(1);
            match (kind, values.get_mut(place)) {
                (6, Some(x)) => *x = f32::NAN,
                (7, Some(x)) => *x = f32::NEG_INFINITY,
                (8, Some(x)) => *x = f32::from_bits(1),
                (9, Some(x)) => *x = -0.0,
                _ => {}
            }
            recorded.push(Recorded { incoming, values });
        }
    }
    recorded
}
