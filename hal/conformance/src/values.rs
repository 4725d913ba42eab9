//! Values on which implementations go wrong, and random ones, each a pure function of its index.

use adaloss_core::{
    format::{Element, Encoding, Format, Narrowing, Overflow, Rounding},
    scale::Scale,
};

use adaloss_hal::Capabilities;

/// Returns a random word: a hash of its place, `lowbias32` of Wellons' hash prospector.
pub(super) fn word(stream: u32, index: usize) -> u32 {
    let mut x = (index as u32).wrapping_add(stream.wrapping_mul(0x9e37_79b9));
    x = (x ^ x >> 16).wrapping_mul(0x21f0_aaad);
    x = (x ^ x >> 15).wrapping_mul(0xd35a_2d97);
    x ^ x >> 15
}

/// Returns a random number with an exponent in `low..=high`, subnormal f32 below -126.
pub(super) fn random(stream: u32, index: usize, low: i32, high: i32) -> f32 {
    let bits = word(stream, index);
    let exponent = low + (word(!stream, index) % (high - low + 1) as u32) as i32;
    let significand = f64::from(bits & 0x7f_ffff | 0x80_0000);
    let magnitude = (significand * exp2(exponent - 23)) as f32;
    if bits >> 31 == 1 { -magnitude } else { magnitude }
}

/// Returns a small integer that every format holds; sums of a few million products are exact.
pub(super) fn integer<E: Element>(stream: u32, index: usize) -> E {
    let integer = word(stream, index) % 9;
    E::narrow(integer as f32 - 4.0, Narrowing::to(Format::BINARY32), 0, 0)
}

/// Returns a random normal number with an exponent in -6..=6, or in as much of that as the format has.
pub(super) fn moderate<E: Element>(stream: u32, index: usize) -> E {
    between(stream, index, -6, 6)
}

/// Returns a random normal number with an exponent in `low..=high`, or in as much of that as the format has; where it has
/// none of them, in the binade that comes nearest.
pub(super) fn between<E: Element>(stream: u32, index: usize, low: i32, high: i32) -> E {
    let (word, encoding) = (word(stream, index), E::ENCODING);
    // Without infinity the last binade holds a NaN.
    let greatest = encoding.max_log2() - i32::from(!encoding.has_infinity());
    let [low, high] = [low, high].map(|log2| log2.clamp(encoding.min_normal_log2(), greatest));
    let exponent = (word >> 23 & 0xff) as i32 % (high - low + 1) + low;
    let field = (exponent - encoding.min_normal_log2() + 1) as u32;
    let unit = encoding.min_normal_bits();
    let sign = if word >> 31 == 1 { encoding.sign_bit() } else { 0 };
    E::from_bits(sign | (field * unit) | (word & (unit - 1)))
}

/// Keeps the words of a bias apart from those of the operands of other sums.
const BIAS: u32 = 0x0080_0000;

/// What the operands of sums of products are.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Small integers, whose sums are exact in any order.
    Integers,
    /// Small integers, and two elements of the left operand that are NaN and infinity.
    NonFinite,
    /// Numbers of all binades from 2^-6 to 2^6 that the format has.
    Reals,
}

impl Kind {
    /// Returns an element of the left operand.
    pub(super) fn left<A: Element>(self, stream: u32, index: usize) -> A {
        match (self, index) {
            (Self::NonFinite, 3) => A::from_bits(A::ENCODING.nan_bits()),
            (Self::NonFinite, 20) => A::from_bits(A::ENCODING.overflow_bits()),
            (Self::NonFinite | Self::Integers, _) => integer(stream, index),
            (Self::Reals, _) => moderate(stream, index),
        }
    }

    /// Returns an element of a bias.
    pub(super) fn bias(self, stream: u32, column: usize) -> f32 {
        let stream = stream.wrapping_add(BIAS);
        match (self, column) {
            (Self::NonFinite, 1) => f32::INFINITY,
            (Self::NonFinite | Self::Integers, _) => integer(stream, column),
            (Self::Reals, _) => moderate(stream, column),
        }
    }

    /// Returns an element of the right operand.
    pub(super) fn right<B: Element>(self, stream: u32, index: usize) -> B {
        match self {
            Self::NonFinite | Self::Integers => integer(!stream, index),
            Self::Reals => moderate(!stream, index),
        }
    }
}

/// Returns `2^log2` for every exponent of an f64.
pub(super) fn exp2(log2: i32) -> f64 {
    f64::from_bits(((log2.clamp(-1022, 1023) + 1023) as u64) << 52)
}

/// Returns every narrowing to an encoding that a device with these capabilities has.
pub(super) fn narrowings(
    encoding: Encoding,
    capabilities: Capabilities,
) -> impl Iterator<Item = Narrowing> + Clone {
    let format = Format::from(encoding);
    let formats = [Some(format).filter(|_| capabilities.subnormals), Some(format.flushing())];
    let stochastic = Some(Rounding::Stochastic).filter(|_| capabilities.stochastic_rounding);
    let roundings = [Some(Rounding::NearestEven), Some(Rounding::TowardZero), stochastic];
    let overflows = [Overflow::Infinity, Overflow::Saturate];
    formats.into_iter().flatten().flat_map(move |format| {
        roundings.into_iter().flatten().flat_map(move |rounding| {
            overflows.into_iter().map(move |overflow| Narrowing { format, rounding, overflow })
        })
    })
}

/// Returns the plainest narrowing that a device has.
pub(super) fn plain(encoding: Encoding, capabilities: Capabilities) -> Narrowing {
    Narrowing::to(native(encoding, capabilities))
}

/// Returns the narrowing of values that `E` holds exactly.
pub(super) fn native_narrowing<E: Element>() -> Narrowing {
    Narrowing::to(E::ENCODING.into())
}

/// Returns the format as a device with these capabilities reads it.
pub(super) fn native(encoding: Encoding, capabilities: Capabilities) -> Format {
    let format = Format::from(encoding);
    if capabilities.subnormals { format } else { format.flushing() }
}

/// Returns a pair of scales whose ratio is `2^shift_log2`.
pub(super) fn scales(shift_log2: i32) -> (Scale, Scale) {
    let from = -shift_log2 / 2;
    (Scale::saturating(from), Scale::saturating(from + shift_log2))
}

/// Values that a shift brings to every point where the fate or the rounding of a value changes.
pub(super) struct Brink {
    points: [f64; POINTS],
    unshift: f64,
}

/// The points of a format, apart from their sign.
const POINTS: usize = 45;

/// Bit patterns that no shift makes harmless.
const SPECIALS: [u32; 16] = [
    0x0000_0000, // 0
    0x8000_0000, // -0
    0x7f80_0000, // infinity
    0xff80_0000, // -infinity
    0x7fc0_0000, // the quiet NaN
    0xffc0_0000, // the quiet NaN of most x86 operations
    0x7f80_0001, // a signalling NaN
    0xff81_2345, // a negative signalling NaN with a payload
    0x7fff_ffff, // a NaN of all ones
    0x0000_0001, // the smallest f32
    0x8000_0001, // its negative
    0x007f_ffff, // the largest subnormal f32
    0x0080_0000, // the smallest normal f32
    0x8080_0001, // the next one, negative
    0x7f7f_ffff, // the largest f32
    0xff7f_ffff, // its negative
];

impl Brink {
    /// The number of values.
    pub(super) const LEN: usize = 2 * POINTS + SPECIALS.len() + 1;

    pub(super) fn new(encoding: Encoding, shift_log2: i32) -> Self {
        let (p, e) = (encoding.precision() as i32, 1.0 / 8_388_608.0);
        let tiny = exp2(encoding.min_subnormal_log2());
        let normal = exp2(encoding.min_normal_log2());
        let unit = exp2(1 - p);
        let max = f64::from(encoding.widen(encoding.max_finite_bits()));
        let above = exp2(encoding.max_log2() + 1 - p);
        #[rustfmt::skip]
        let points = [
            // Zero or the smallest number, the tie with zero between them, and the ties after it.
            tiny * 0.25, tiny * 0.5 * (1.0 - e), tiny * 0.5, tiny * 0.5 * (1.0 + e), tiny * 0.75,
            tiny * (1.0 - e), tiny, tiny * (1.0 + e), tiny * 1.25, tiny * 1.5 * (1.0 - e),
            tiny * 1.5, tiny * 1.5 * (1.0 + e), tiny * 2.0, tiny * 2.5, tiny * 3.5,
            // The smallest normal number: rounding up to it, and flushing before rounding.
            normal - tiny, normal - tiny * 0.5, normal - tiny * 0.25, normal * (1.0 - e), normal,
            normal * (1.0 + e), normal + tiny * 0.5, normal + tiny, normal + tiny * 1.5,
            // In the middle: ties to even, up and down, and a carry into the next binade.
            1.0, 1.0 + unit, 1.0 + unit * 0.5, 1.0 + unit * 0.5 - e, 1.0 + unit * 0.5 + e,
            1.0 + unit * 1.5, 2.0 - unit * 0.5, 2.0 - unit * 0.5 - e, 2.0 - e,
            // The largest number, and the point where rounding overflows.
            max * (1.0 - e), max, max * (1.0 + e), max + above * 0.5 * (1.0 - unit),
            max + above * 0.5, max + above * 0.5 + max * e, max + above * 0.5 - max * e,
            max + above - max * e, max + above, max + above * 1.5, max * 2.0, max * 4.0,
        ];
        Self { points, unshift: exp2(-shift_log2) }
    }

    /// Returns one value; where f32 cannot hold the point, the value that it rounds to.
    pub(super) fn value(&self, index: usize) -> f32 {
        match (self.points.get(index / 2), SPECIALS.get(index.wrapping_sub(2 * POINTS))) {
            (Some(point), _) if index.is_multiple_of(2) => (point * self.unshift) as f32,
            (Some(point), _) => -(point * self.unshift) as f32,
            (None, Some(&bits)) => f32::from_bits(bits),
            (None, None) => 1.0,
        }
    }
}

/// How many bit patterns one tensor takes.
pub(super) const PATTERNS: usize = 4096;

/// Returns the first bits of tensors that hold every pattern of a format of up to 16 bits; of a
/// 32-bit one as many, spread over its range.
pub(super) fn patterns<E: Element>() -> impl Iterator<Item = u32> {
    let step = 1 << E::ENCODING.bits().saturating_sub(16);
    (0..1 << E::ENCODING.bits().min(16)).step_by(PATTERNS).map(move |first| first * step)
}

/// Returns a value of any kind: random bits, a special one, or a plausible gradient.
pub(super) fn any(stream: u32, index: usize) -> f32 {
    match word(stream, index) % 16 {
        0 => f32::from_bits(SPECIALS[(word(stream, index) >> 4) as usize % SPECIALS.len()]),
        1..6 => f32::from_bits(word(stream.rotate_left(16), index)),
        _ => random(stream, index, -40, 18),
    }
}
