//! How high segments may go.

use adaloss_core::scale::Scale;

/// The greatest scale at which a segment is run, in 1/16 binade.
///
/// A segment that overflowed keeps a binade free above its results, and rises by a sixteenth of a binade a
/// step where they leave more.  A limit that followed the last results at once would be broken whenever they
/// double, since the scales of gradients leave next to nothing free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Limit(i16);

impl Limit {
    const STEPS: i16 = 16;

    /// Of a segment that never overflowed, or long ago.
    pub(crate) const NONE: Self = Self::at(Scale::MAX);

    pub(crate) const fn at(scale: Scale) -> Self {
        Self(Self::STEPS * scale.log2() as i16)
    }

    pub(crate) const fn scale(self) -> Scale {
        Scale::saturating(self.0.div_euclid(Self::STEPS) as i32)
    }

    /// Returns the limit of the next step, if results would have fit at `fits` in this one.
    pub(crate) fn after(self, fits: Scale) -> Self {
        if self == Self::NONE { self } else { Self(self.0 + 1).min(Self::at(fits)) }
    }

    pub(crate) const fn to_bytes(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` where no limit has these bytes.
    pub(crate) fn from_bytes(bytes: [u8; 2]) -> Option<Self> {
        let read = Self(i16::from_le_bytes(bytes));
        (Self::at(Scale::MIN)..=Self::NONE).contains(&read).then_some(read)
    }
}

/// The limit of each segment, the output's first: it moves between steps only, as scales do.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    now: Vec<Limit>,
    /// What the step under way has shown so far: the least that a micro-batch asks for.
    next: Vec<Option<Limit>>,
}

impl Limits {
    pub(crate) fn new(now: Vec<Limit>) -> Self {
        Self { next: vec![None; now.len()], now }
    }

    pub(crate) fn now(&self) -> &[Limit] {
        &self.now
    }

    /// Takes note of the limit that a micro-batch asks for in the next step.
    pub(crate) fn note(&mut self, slot: usize, limit: Limit) {
        let next = &mut self.next[slot];
        *next = Some(next.map_or(limit, |other| other.min(limit)));
    }

    /// Begins a step, which has shown nothing.
    pub(crate) fn begin(&mut self) {
        self.next.fill(None);
    }

    /// Ends a step; segments that were not run keep their limit.
    pub(crate) fn finish(&mut self) {
        for (now, next) in self.now.iter_mut().zip(&mut self.next) {
            *now = next.take().unwrap_or(*now);
        }
    }
}
