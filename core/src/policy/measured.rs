//! The default policy: as high as the largest magnitudes allow, at the price of a few replays.

use super::{
    Cell, Config, ConfigError, Fraction, Rule, Window,
    cell::{MEMORY, NOTHING, Seen},
    config::Writer,
    recipe::{Basis, Description, Recipe},
};
use crate::{format::Format, statistics::Histogram};

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

/// What a cell of this policy remembers, in 11 bytes: what both guesses are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Guesses {
    /// The last ceilings, the oldest at `next`; [`NOTHING`] in a place that was never used.
    ring: [i8; RING],
    /// The least ceiling of late, in 1/128 binade.
    least: i16,
    /// The headroom of the usual guess, in 1/128 binade.
    t: u16,
    /// The headroom of the least guess, in 1/128 binade.
    u: u16,
    /// The place in the ring of the next ceiling.
    next: u8,
    /// Whether the usual guess is in use.
    is_usual: bool,
}

impl Guesses {
    const NEW: Self =
        Self { ring: [NOTHING; RING], least: i16::MAX, t: BINADE, u: 0, next: 0, is_usual: true };

    /// Lays it out: ring, least, t, u, the place in the ring with `is_usual` in bit 7, zeros.
    const fn to_bytes(self) -> [u8; MEMORY] {
        let Self { ring: [r0, r1, r2, r3], least, t, u, next, is_usual } = self;
        let ([l0, l1], [t0, t1], [u0, u1]) =
            (least.to_le_bytes(), t.to_le_bytes(), u.to_le_bytes());
        let (r0, r1, r2, r3) = (r0 as u8, r1 as u8, r2 as u8, r3 as u8);
        [r0, r1, r2, r3, l0, l1, t0, t1, u0, u1, next | (is_usual as u8) << 7, 0, 0, 0, 0, 0]
    }

    const fn from_bytes(bytes: [u8; MEMORY]) -> Self {
        let [r0, r1, r2, r3, l0, l1, t0, t1, u0, u1, place, ..] = bytes;
        Self {
            ring: [r0 as i8, r1 as i8, r2 as i8, r3 as i8],
            least: i16::from_le_bytes([l0, l1]),
            t: u16::from_le_bytes([t0, t1]),
            u: u16::from_le_bytes([u0, u1]),
            next: place & (RING as u8 - 1),
            is_usual: place >> 7 != 0,
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
    /// Returns the defaults for a format: a tolerance of 0.1 %, and at most 16 binades of headroom, or 2 in an encoding
    /// of fewer than 32 binades, as E4M3 with its 18.
    pub const fn for_format(format: Format) -> Self {
        let encoding = format.encoding;
        let binades = encoding.max_log2() - encoding.min_subnormal_log2() + 1;
        Self { tolerance: Fraction::PER_MILLE, most_headroom: if binades < 32 { 2 } else { 16 } }
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

    pub(super) const fn tolerance(&self) -> Option<Fraction> {
        Some(self.tolerance)
    }
}

impl Recipe for Measured {
    const DESCRIPTION: Description =
        Description { name: "measured", number: 5, basis: Basis::Maxima, rule: Rule::Measured };

    fn usual(format: Format) -> Option<Self> {
        Some(Self::for_format(format))
    }

    fn write(&self, to: &mut Writer) {
        to.put(&[self.most_headroom]);
        to.put(&self.tolerance.bits().to_le_bytes());
    }

    fn first_headroom(&self) -> u8 {
        1
    }

    fn greatest_log2(&self, config: &Config, seen: Seen, cell: &mut Cell) -> i32 {
        let mut guesses = Guesses::from_bytes(cell.memory);
        if cell.has_no_memory() {
            guesses = Guesses::NEW;
        } else {
            let (most_t, most_u) = most(self.most_headroom);
            match (seen.overflowed, guesses.is_usual) {
                (true, true) => {
                    guesses.t = guesses.t.saturating_add(BINADE).min(most_t);
                    guesses.u = guesses.u.saturating_sub(1);
                }
                (true, false) => guesses.u = guesses.u.saturating_add(LEAST_PAYS).min(most_u),
                (false, is_usual) => {
                    guesses.u = guesses.u.saturating_sub(1);
                    guesses.t = guesses.t.saturating_sub(is_usual.into());
                }
            }
        }
        if let Some(place) = guesses.ring.get_mut(usize::from(guesses.next)) {
            *place = seen.ceiling;
        }
        guesses.next = (guesses.next + 1) % RING as u8;
        let now = i16::from(seen.ceiling) * BINADE as i16;
        guesses.least = guesses.least.saturating_add(CREEP).min(now);

        let usual = guesses.usual() - i32::from(guesses.t.div_ceil(BINADE));
        let least = i32::from(guesses.least >> 7);
        let lowered = least - i32::from(guesses.u / BINADE);
        guesses.is_usual = usual > lowered;
        cell.remember(guesses.to_bytes());
        if config.replays() { usual.max(lowered) } else { least - 1 }
    }

    fn could_remember(&self, cell: &Cell) -> bool {
        let guesses = Guesses::from_bytes(cell.memory);
        cell.has_memory(guesses.to_bytes()) && guesses.is_possible(self.most_headroom)
    }
}
