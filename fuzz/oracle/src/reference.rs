//! Rounding by APFloat, and what the documented rules make of it.

use adaloss_core::format::{
    Encoding, Fate, Narrowed, Narrowing, Overflow, Rounding, Shifts, Subnormals,
};

use super::{
    Grid, Limits,
    apfloat::{self, Round},
    pow2, product,
};

/// APFloat's rounding to one encoding.
///
/// APFloat rounds once, gradually and to infinity.  Whether a product is flushed, saturated or
/// rounded up by a random word follows from that and from the exact product, so that one call of
/// APFloat serves every narrowing that rounds alike.
pub struct Reference {
    encoding: Encoding,
    limits: Limits,
    numbers: Vec<f64>,
    first_normal: u32,
}

/// What APFloat says of one product `2^k x`.
#[derive(Clone, Copy, Debug)]
pub struct Rounded {
    /// The result with gradual underflow and infinity; under stochastic rounding, the number next
    /// to the product towards zero.
    low: Narrowed,
    /// Under stochastic rounding, the number after it.
    high: Narrowed,
    /// How many of the 2^32 random words round up.
    fraction: u32,
    /// Whether flushing makes it a zero: it is none, and lies below the smallest normal number
    /// before it is rounded.
    is_small: bool,
    is_nan: bool,
}

impl Rounded {
    /// Returns how many of the 2^32 random words round up, under stochastic rounding.
    #[inline]
    pub fn fraction(&self) -> u32 {
        self.fraction
    }
}

impl Reference {
    /// Decodes every number of an encoding.
    pub fn new(encoding: Encoding) -> Self {
        let Grid { limits, numbers, .. } = Grid::new(encoding);
        let first_normal = (limits.smallest_normal / limits.smallest) as u32;
        Self { encoding, limits, numbers, first_normal }
    }

    /// Returns the encoding.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Rounds the exact product `2^k x`.
    #[inline]
    pub fn round(&self, rounding: Rounding, x: f32, k: i32) -> Rounded {
        let sign = if x.is_sign_negative() { self.limits.sign_bit() } else { 0 };
        let of = |bits: u32, fate| Narrowed { bits: sign | bits, fate };
        let just = |low| Rounded { low, high: low, fraction: 0, is_small: false, is_nan: false };
        if x.is_nan() {
            return Rounded { is_nan: true, ..just(of(self.limits.nan_bits, Fate::NonFinite)) };
        }
        if x.is_infinite() {
            return just(of(self.limits.infinity_bits, Fate::NonFinite));
        }
        if x == 0.0 {
            return just(of(0, Fate::Zero));
        }
        let v = product(x.abs(), k);
        let is_small = v < self.limits.smallest_normal;
        if rounding == Rounding::Stochastic {
            let (bits, fraction) = self.lower_neighbour(x.abs(), k, v);
            let [low, high] = [bits, bits + 1].map(|bits| of(bits, self.fate(bits)));
            return Rounded { low, high, fraction, is_small, is_nan: false };
        }
        let bits = round_magnitude(self.encoding, rounding, x.abs(), k, v);
        let narrowing = Narrowing::to(self.encoding.into()).with_rounding(rounding);
        // Towards zero the largest number comes of itself and of everything beyond.
        let is_beyond = self.limits.overflows(narrowing, v);
        let fate = if is_beyond { Fate::Overflow } else { self.fate(bits) };
        Rounded { is_small, ..just(of(bits, fate)) }
    }

    /// Returns what the opposite number rounds to, since no rounding looks at signs.
    #[inline]
    pub fn negated(&self, rounded: Rounded) -> Rounded {
        let sign = self.limits.sign_bit();
        let [low, high] = [rounded.low, rounded.high]
            .map(|Narrowed { bits, fate }| Narrowed { bits: bits ^ sign, fate });
        Rounded { low, high, ..rounded }
    }

    /// Returns the bits of the number next to a product towards zero, and the share of the way from
    /// there to the number after it in units of 2^-32.
    #[inline]
    fn lower_neighbour(&self, x: f32, k: i32, v: f64) -> (u32, u32) {
        if v >= self.limits.beyond {
            return (self.limits.infinity_bits, 0);
        }
        let bits = round_magnitude(self.encoding, Rounding::TowardZero, x, k, v);
        let (low, high) = (self.number(bits), self.number(bits + 1));
        // A difference of numbers on a common grid and a quotient by a power of two: both exact.
        (bits, ((v - low) / (high - low) * 4_294_967_296.0) as u32)
    }

    #[inline]
    fn number(&self, bits: u32) -> f64 {
        if bits > self.limits.largest_bits {
            self.limits.beyond
        } else if self.encoding == Encoding::Binary32 {
            f64::from(f32::from_bits(bits))
        } else {
            self.numbers[bits as usize]
        }
    }

    /// Returns what became of a finite value other than zero, from the bits of its magnitude.
    #[inline]
    fn fate(&self, bits: u32) -> Fate {
        match bits {
            0 => Fate::Underflow,
            bits if bits < self.first_normal => Fate::Subnormal,
            bits if bits <= self.limits.largest_bits => Fate::Normal,
            _ => Fate::Overflow,
        }
    }

    /// Returns what a narrowing has to give, with the random word of stochastic rounding.
    ///
    /// The rules are those of `Narrowing::narrow`.
    #[inline]
    pub fn narrowed(&self, narrowing: Narrowing, rounded: Rounded, word: u32) -> Narrowed {
        let Narrowed { bits, fate } =
            if word < rounded.fraction { rounded.high } else { rounded.low };
        let sign = bits & self.limits.sign_bit();
        if rounded.is_small && narrowing.format.subnormals == Subnormals::Flush {
            return Narrowed { bits: sign, fate: Fate::Underflow };
        }
        if narrowing.overflow == Overflow::Saturate && !rounded.is_nan {
            return Narrowed { bits: sign | (bits - sign).min(self.limits.largest_bits), fate };
        }
        Narrowed { bits, fate }
    }

    /// Returns the shifts between which a value neither underflows nor overflows, `None` for zero,
    /// infinity and NaN; under stochastic rounding, whatever the word.
    ///
    /// A magnitude `f 2^e` with `1 <= f < 2` meets both ends of the format in one binade each: the
    /// one below the smallest number, and that of the largest.
    #[inline]
    pub fn shifts(&self, narrowing: Narrowing, x: f32) -> Option<Shifts> {
        if x == 0.0 || !x.is_finite() {
            return None;
        }
        let v = f64::from(x.abs());
        let e = floor_log2(v);
        let at = |binade: i32| v / pow2(e) * pow2(binade);
        let smallest = match narrowing.format.subnormals {
            Subnormals::Gradual => self.limits.smallest,
            Subnormals::Flush => self.limits.smallest_normal,
        };
        let (below, top) = (floor_log2(smallest) - 1, floor_log2(self.limits.largest));
        let underflows = self.limits.underflows(narrowing, at(below));
        let overflows = self.limits.overflows(narrowing, at(top));
        Some(Shifts {
            least: below - e + i32::from(underflows),
            greatest: top - e - i32::from(overflows),
        })
    }
}

/// Rounds a positive product `v = 2^k x` and returns its bits.
#[inline]
fn round_magnitude(encoding: Encoding, rounding: Rounding, x: f32, k: i32, v: f64) -> u32 {
    let round = match rounding {
        Rounding::NearestEven => Round::NearestTiesToEven,
        Rounding::TowardZero | Rounding::Stochastic => Round::TowardZero,
    };
    let single = v as f32;
    if f64::from(single) == v {
        // The product is an f32 itself: no need of a binary128.
        apfloat::round(encoding, single, round)
    } else {
        apfloat::round_product(encoding, x, k, round)
    }
}

/// Returns `floor(log2 v)` of a normal positive f64, which its exponent field is.
#[inline]
fn floor_log2(v: f64) -> i32 {
    (v.to_bits() >> 52) as i32 - 1023
}
