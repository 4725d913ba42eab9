//! The arithmetic unit: integers, as they would be wires.

/// What a value became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    Zero,
    Normal,
    Vanished,
    Overflowed,
    NonFinite,
}

/// How the unit rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) truncates: bool,
    pub(crate) saturates: bool,
}

/// The bits of binary16.
const INFINITY: u32 = 0x7c00;
const QUIET_NAN: u32 = 0x7e00;
const LARGEST: u32 = 0x7bff;
/// The exponents of its smallest normal number and of its largest binade.
const LEAST: i32 = -14;
const GREATEST: i32 = 15;
/// The fraction bits of f32 that binary16 has no room for.
const DROPPED: u32 = 13;

impl Unit {
    /// Narrows the bits of an f32, times `2^shift`.
    pub(crate) fn narrow(self, bits: u32, shift: i32) -> (u16, Became) {
        let sign = bits >> 16 & 0x8000;
        let (magnitude, became) = self.magnitude(bits & 0x7fff_ffff, shift);
        ((sign | magnitude) as u16, became)
    }

    fn magnitude(self, bits: u32, shift: i32) -> (u32, Became) {
        match bits {
            0 => return (0, Became::Zero),
            0x7f80_0000 => return (self.beyond(INFINITY), Became::NonFinite),
            0x7f80_0001.. => return (QUIET_NAN, Became::NonFinite),
            _ => {}
        }
        let (exponent, significand) = split(bits);
        let exponent = exponent.saturating_add(shift);
        if exponent < LEAST {
            return (0, Became::Vanished);
        }
        let beyond = if self.truncates { LARGEST } else { self.beyond(INFINITY) };
        if exponent > GREATEST {
            return (beyond, Became::Overflowed);
        }
        // A carry out of the fraction moves into the exponent by itself.
        let kept = (significand + self.carry(significand)) >> DROPPED;
        let magnitude = (((exponent - LEAST) as u32) << 10) + kept;
        if magnitude > LARGEST {
            return (beyond, Became::Overflowed);
        }
        (magnitude, Became::Normal)
    }

    /// What is added before the low bits are dropped: half of the last bit kept, less one where that
    /// bit is even.
    fn carry(self, significand: u32) -> u32 {
        if self.truncates { 0 } else { (1 << (DROPPED - 1)) - 1 + (significand >> DROPPED & 1) }
    }

    fn beyond(self, otherwise: u32) -> u32 {
        if self.saturates { LARGEST } else { otherwise }
    }

    /// Returns the least shift at which a value does not vanish and the greatest at which it does not
    /// overflow; `None` of zero and of what is not finite.
    pub(crate) fn shifts(self, bits: u32) -> Option<(i32, i32)> {
        let bits = bits & 0x7fff_ffff;
        if bits == 0 || bits >= 0x7f80_0000 {
            return None;
        }
        let (exponent, significand) = split(bits);
        // From this fraction on the largest binade rounds out of the format.
        let carries = significand + self.carry(significand) >= 1 << 24;
        Some((LEAST - exponent, GREATEST - exponent - i32::from(carries)))
    }
}

/// Returns the exponent of nonzero finite bits, and the 24 bits of the significand.
fn split(bits: u32) -> (i32, u32) {
    if bits >= 1 << 23 {
        return ((bits >> 23) as i32 - 127, bits & 0x7f_ffff | 0x80_0000);
    }
    let up = bits.leading_zeros() - 8;
    (-126 - up as i32, bits << up)
}
