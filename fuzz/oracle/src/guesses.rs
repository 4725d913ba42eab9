//! The scales of `measured` and `amax` as their documentation words them, with the whole past at hand.

use std::collections::VecDeque;

use adaloss_core::format::Encoding;

/// What one step of a tensor showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The greatest exponent at which nothing overflowed, as an unbounded number.
    pub ceiling: i32,
    /// Whether a visit overflowed.
    pub overflowed: bool,
}

/// `measured`, replaying: two guesses of the next ceiling, of which the higher counts.
#[derive(Clone, Debug)]
pub struct TwoGuesses {
    most_headroom: i32,
    /// All ceilings so far, the latest last.
    past: Vec<i32>,
    /// The least ceiling of late, in 1/128 binade.
    least: i32,
    t: i32,
    u: i32,
    usual_is_in_use: bool,
}

impl TwoGuesses {
    /// A new cell with at most so many binades of headroom.
    pub fn new(most_headroom: i32) -> Self {
        Self { most_headroom, past: vec![], least: i32::MAX, t: 128, u: 0, usual_is_in_use: true }
    }

    /// Ends a step; the first step of a cell pays for nothing, as its scale was no guess.
    pub fn finish(&mut self, shown: Shown) {
        if !self.past.is_empty() {
            if !shown.overflowed {
                self.u = (self.u - 1).max(0);
                if self.usual_is_in_use {
                    self.t = (self.t - 1).max(0);
                }
            } else if self.usual_is_in_use {
                self.t = (self.t + 128).min(128 * self.most_headroom);
                self.u = (self.u - 1).max(0);
            } else {
                self.u = (self.u + 64).min(128 * self.most_headroom + 63);
            }
        }
        self.past.push(shown.ceiling);
        self.least = self.least.saturating_add(2).min(128 * shown.ceiling);
        self.usual_is_in_use = self.usual() > self.lowered();
    }

    /// The second least of the last four ceilings.
    fn usual_ceiling(&self) -> i32 {
        let mut last = self.past[self.past.len().saturating_sub(4)..].to_vec();
        last.sort_unstable();
        if last.len() == 4 { last[1] } else { last[0] }
    }

    /// The usual ceiling, less its headroom.
    fn usual(&self) -> i32 {
        self.usual_ceiling() - (f64::from(self.t) / 128.0).ceil() as i32
    }

    /// Returns the ceiling that the guess in use expects, headroom not subtracted.
    pub fn expected(&self) -> i32 {
        if self.usual_is_in_use { self.usual_ceiling() } else { self.floor_of_least() }
    }

    /// The least ceiling of late, less its headroom.
    fn lowered(&self) -> i32 {
        self.floor_of_least() - (f64::from(self.u) / 128.0).floor() as i32
    }

    fn floor_of_least(&self) -> i32 {
        (f64::from(self.least) / 128.0).floor() as i32
    }

    /// The exponent for the next step.
    pub fn greatest(&self) -> i32 {
        self.usual().max(self.lowered())
    }

    /// The exponent for the next step where nothing is replayed.
    pub fn greatest_without_replay(&self) -> i32 {
        self.floor_of_least() - 1
    }
}

/// `amax`: the least of the last ceilings, less the margin.
#[derive(Clone, Debug)]
pub struct Window {
    /// How many steps count.
    pub steps: usize,
    /// Binades left free.
    pub margin: i32,
    past: VecDeque<i32>,
}

impl Window {
    /// A window of so many steps.
    pub const fn new(steps: usize, margin: i32) -> Self {
        Self { steps, margin, past: VecDeque::new() }
    }

    /// Ends a step.
    pub fn finish(&mut self, ceiling: i32) {
        self.past.push_back(ceiling);
    }

    /// The exponents between which the next step's has to be: one number for up to twelve steps; a longer
    /// window forgets late, by two slots at most, and never early.
    pub fn bounds(&self) -> (i32, i32) {
        let least = |back: usize| {
            self.past.iter().rev().take(back).min().map_or(i32::MAX, |least| least - self.margin)
        };
        let late = if self.steps <= 12 { 0 } else { 2 * (self.steps - 1).div_ceil(11) };
        (least(self.steps + late), least(self.steps))
    }
}

/// The part of a ceiling that counts: beyond it lie those that no legal scale reaches, or, in a format with f32's
/// range, those that are far from any.
pub fn kept(encoding: Encoding, ceiling: i32) -> i32 {
    match encoding {
        Encoding::BFloat16 | Encoding::Binary32 => ceiling.clamp(23, 276),
        _ => ceiling.clamp(-127, 126),
    }
}

/// Where the greatest exponent that a policy allows puts a tensor: there, or, in a format with f32's range, as
/// near to 2^0 as keeps the largest magnitude at 2^-100 or above.
pub fn placed(encoding: Encoding, greatest: i32) -> i32 {
    let placed = match encoding {
        Encoding::BFloat16 | Encoding::Binary32 if greatest <= 0 => greatest,
        Encoding::BFloat16 | Encoding::Binary32 => (greatest - 227).max(0),
        _ => greatest,
    };
    placed.clamp(-126, 126)
}
