//! The default policy: as high as the largest magnitudes allow, at the price of a few replays.

use super::{
    Cell, Config, ConfigError, Fraction, Window,
    cell::{MEMORY, NOTHING, Seen},
    track::placed,
};
use crate::{
    format::{Encoding, Format},
    scale::Scale,
    statistics::Histogram,
};

/// Parameters of the `measured` policy.
///
/// An overflow costs one replay of one layer; what underflows is lost for good.  So the scale is as high
/// as one replay in some 128 steps allows.  The *ceiling* of a step is the greatest scale at which
/// its largest magnitude does not overflow.  Two guesses are made of the next step's ceiling, and the
/// higher of them is the scale:
///
/// * the *usual* ceiling, the second least of the last four, which one bad batch does not move, less a
///   headroom of `ceil(t / 128)` binades;
/// * the *least* ceiling of late, which creeps up by one binade in 64 steps, less `floor(u / 128)` binades.
///
/// At an overflow the guess that was in use pays: `t` grows by 128, one binade, up to `most_headroom`
/// binades; or `u` by 64.  In a step without one, `u` shrinks by 1, and `t` too if the usual guess was in use.
/// A step that overflows is replayed at its visit's ceiling, exactly; the scale itself moves between
/// steps only.
///
/// In `N` steps a cell overflows at most `N / 128 + N / 64 + 3 most_headroom` times, and once more per
/// step whose ceiling lies more than `most_headroom` binades below the guess in use.
///
/// Where nothing is replayed, because of [`Recovery::Skip`](super::Recovery::Skip) or because overflow
/// saturates, the scale is one binade below the least ceiling of late.
///
/// # Examples
///
/// A new cell; the ceilings of four steps are 10, 10, 7 (it overflows) and 10.
///
/// | step | scale | ceiling | usual guess for the next step | least guess for the next step |
/// |---|---|---|---|---|
/// | 1 | 9 | 10 | 10 - 1 | 10 - 0 |
/// | 2 | 10 | 10 | 10 - 1 | 10 - 0 |
/// | 3 | 10 | 7 | 7 - 1, the least while there are not four | 7 - 0 |
/// | 4 | 7 | 10 | 10 - 1 | 7 - 0 |
/// | 5 | 9 | | | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Measured {
    /// The tolerated share of nonzero elements that underflow: what a certificate promises.
    pub tolerance: Fraction,
    /// The most headroom, in binades: what leaps further is replayed.
    pub most_headroom: u8,
}

/// Steps of a guess's headroom in one binade.
const BINADE: u16 = 128;
/// By how much the headroom of the least guess grows at an overflow.
const LEAST_PAYS: u16 = 64;
/// By how much the least ceiling creeps up in a step, in 1/128 binade.
const CREEP: i16 = 2;
/// The ceilings that the usual guess is made from.
const RING: usize = 4;

/// What a cell remembers: 11 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    /// The last ceilings, the oldest at `next`; [`NOTHING`] in a place that was never used.
    ring: [i8; RING],
    /// The least ceiling of late, in 1/128 binade.
    least: i16,
    /// The headroom of the usual guess.
    t: u16,
    /// The headroom of the least guess.
    u: u16,
    next: u8,
    /// Whether the usual guess is in use.
    upper: bool,
}

impl Memory {
    const NEW: Self =
        Self { ring: [NOTHING; RING], least: i16::MAX, t: BINADE, u: 0, next: 0, upper: true };

    /// Lays it out: ring, least, t, u, the place in the ring with `upper` in bit 7, zeros.
    const fn to_bytes(self) -> [u8; MEMORY] {
        let Self { ring: [r0, r1, r2, r3], least, t, u, next, upper } = self;
        let ([l0, l1], [t0, t1], [u0, u1]) =
            (least.to_le_bytes(), t.to_le_bytes(), u.to_le_bytes());
        let (r0, r1, r2, r3) = (r0 as u8, r1 as u8, r2 as u8, r3 as u8);
        [r0, r1, r2, r3, l0, l1, t0, t1, u0, u1, next | (upper as u8) << 7, 0, 0, 0, 0, 0]
    }

    const fn from_bytes(bytes: [u8; MEMORY]) -> Self {
        let [r0, r1, r2, r3, l0, l1, t0, t1, u0, u1, place, ..] = bytes;
        Self {
            ring: [r0 as i8, r1 as i8, r2 as i8, r3 as i8],
            least: i16::from_le_bytes([l0, l1]),
            t: u16::from_le_bytes([t0, t1]),
            u: u16::from_le_bytes([u0, u1]),
            next: place & (RING as u8 - 1),
            upper: place >> 7 != 0,
        }
    }

    fn is_possible(&self, most_headroom: u8) -> bool {
        let (t, u) = most(most_headroom);
        let is_full = self.ring.iter().all(|&ceiling| ceiling != NOTHING);
        let filled = self.ring.iter().take_while(|&&ceiling| ceiling != NOTHING).count();
        let rest = self.ring.iter().skip(filled).all(|&ceiling| ceiling == NOTHING);
        self.t <= t && self.u <= u && (is_full || rest && filled == usize::from(self.next))
    }

    /// The second least of the ring; its least until it is full.
    fn usual(&self) -> i32 {
        let (mut least, mut second) = (NOTHING, NOTHING);
        for &ceiling in &self.ring {
            second = second.min(ceiling.max(least));
            least = least.min(ceiling);
        }
        let is_full = self.ring.iter().all(|&ceiling| ceiling != NOTHING);
        i32::from(if is_full { second } else { least })
    }
}

/// Returns the most that `t` and `u` may be.  With `128 H` exactly for `u`, an adversary overflows every
/// second step.
const fn most(most_headroom: u8) -> (u16, u16) {
    let t = BINADE * most_headroom as u16;
    (t, t + LEAST_PAYS - 1)
}

impl Measured {
    /// Returns the defaults for a format: a tolerance of 0.1 %, and at most 2 binades of headroom in
    /// E4M3, which has 18 in all, and 16 elsewhere.
    pub const fn for_format(format: Format) -> Self {
        let most_headroom = match format.encoding {
            Encoding::E4M3 => 2,
            Encoding::Binary16 | Encoding::BFloat16 | Encoding::E5M2 | Encoding::Binary32 => 16,
        };
        Self { tolerance: Fraction::PER_MILLE, most_headroom }
    }

    /// Returns the scales at which at most the tolerated share of a tensor underflows and nothing
    /// overflows.
    pub fn window(&self, histogram: &Histogram) -> Window {
        let allowed = self.tolerance.of(histogram.nonzero());
        Window::new(histogram.least_scale(allowed), histogram.greatest_scale())
    }

    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        if self.most_headroom == 0 {
            return Err(ConfigError::NoHeadroom);
        }
        ConfigError::headroom(self.most_headroom)
    }

    /// Returns the scale of a first visit: one binade of headroom.
    pub(super) fn first_scale(encoding: Encoding, ceiling: i8) -> Scale {
        placed(encoding, i32::from(ceiling) - 1)
    }

    /// Remembers a step's ceiling; returns the scale of the next step.
    pub(super) fn finish(&self, config: &Config, seen: Seen, cell: &mut Cell) -> Scale {
        let mut memory = Memory::from_bytes(cell.memory);
        if cell.has_no_memory() {
            memory = Memory::NEW;
        } else {
            let (most_t, most_u) = most(self.most_headroom);
            match (seen.overflowed, memory.upper) {
                (true, true) => {
                    memory.t = memory.t.saturating_add(BINADE).min(most_t);
                    memory.u = memory.u.saturating_sub(1);
                }
                (true, false) => memory.u = memory.u.saturating_add(LEAST_PAYS).min(most_u),
                (false, upper) => {
                    memory.u = memory.u.saturating_sub(1);
                    memory.t = memory.t.saturating_sub(upper.into());
                }
            }
        }
        if let Some(place) = memory.ring.get_mut(usize::from(memory.next)) {
            *place = seen.ceiling;
        }
        memory.next = (memory.next + 1) % RING as u8;
        let now = i16::from(seen.ceiling) * BINADE as i16;
        memory.least = memory.least.saturating_add(CREEP).min(now);

        let usual = memory.usual() - i32::from(memory.t.div_ceil(BINADE));
        let least = i32::from(memory.least >> 7);
        let lowered = least - i32::from(memory.u / BINADE);
        memory.upper = usual > lowered;
        cell.remember(memory.to_bytes());
        let greatest = if config.replays() { usual.max(lowered) } else { least - 1 };
        placed(config.narrowing().format.encoding, greatest)
    }

    /// Tells whether what a cell remembers can be this policy's.
    pub(super) fn could_remember(&self, cell: &Cell) -> bool {
        let memory = Memory::from_bytes(cell.memory);
        cell.has_memory(memory.to_bytes()) && memory.is_possible(self.most_headroom)
    }
}
