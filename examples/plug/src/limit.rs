//! How high a segment may go.

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
