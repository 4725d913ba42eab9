//! What a bit pattern means: a low-precision encoding is a handful of constants.

/// Makes [`Encoding`] of a table: a row for each, below the exponents that it shares with others.
macro_rules! encodings {
    ($(
        exponents $min_normal_log2:literal..=$max_log2:literal, has_infinity: $has_infinity:literal {$(
            $(#[doc = $doc:literal])+
            $encoding:ident = $number:literal {
                bits: $bits:literal, precision: $precision:literal, names: $name:literal, $short_name:literal
            }
        )+}
    )+) => {
        /// The layout of a floating-point bit pattern.
        ///
        /// An encoding is fixed by four numbers: the precision `p` (significand bits, the implicit one
        /// included), the exponents of the smallest and the largest normal binade, and whether the pattern
        /// after the largest finite one is infinity.  Everything else in this crate is derived from them.
        ///
        /// Sources: IEEE 754-2019 clause 3.6 (binary16, binary32), Intel's bfloat16 white paper (2018), and
        /// Micikevicius et al., "FP8 Formats for Deep Learning" (2022); `E4M3` is the variant without
        /// infinity that is also called E4M3FN.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Encoding {$($(
            $(#[doc = $doc])+
            #[doc = concat!(
                "\n\n", $bits, " bits, `p` = ", $precision, ", exponents ", $min_normal_log2, " to ", $max_log2, "."
            )]
            $encoding = $number,
        )+)+}

        impl Encoding {
            /// Every encoding, in the order of their discriminants.
            pub const ALL: [Self; [$($($number),+),+].len()] =
                in_order([$($(Self::$encoding),+),+]);

            /// Returns the name as its source writes it: `binary16`, `bfloat16`, `E5M2`.
            #[inline]
            pub const fn name(self) -> &'static str {
                match self {$($(Self::$encoding => $name,)+)+}
            }

            /// Returns the name of the element type in lower case: `f16`, `bf16`, `e5m2`.
            #[inline]
            pub const fn short_name(self) -> &'static str {
                match self {$($(Self::$encoding => $short_name,)+)+}
            }

            /// Returns the width of a bit pattern.
            #[inline]
            pub const fn bits(self) -> u32 {
                match self {$($(Self::$encoding => $bits,)+)+}
            }

            /// Returns the number of significand bits, the implicit one included.
            #[inline]
            pub const fn precision(self) -> u32 {
                match self {$($(Self::$encoding => $precision,)+)+}
            }

            /// Returns the exponent `m` of the smallest normal number, `2^m`.
            #[inline]
            pub const fn min_normal_log2(self) -> i32 {
                match self {$($(Self::$encoding)|+ => $min_normal_log2,)+}
            }

            /// Returns the exponent `E` of the binade that holds the largest finite number.
            #[inline]
            pub const fn max_log2(self) -> i32 {
                match self {$($(Self::$encoding)|+ => $max_log2,)+}
            }

            /// Tells whether the encoding has infinities; without them, overflow becomes NaN.
            #[inline]
            pub const fn has_infinity(self) -> bool {
                // Not a branch for each encoding: one comparison is left of it.
                true $(& ($has_infinity | !matches!(self, $(Self::$encoding)|+)))+
            }
        }
    };
}

encodings! {
    exponents -14..=15, has_infinity: true {
        /// IEEE 754 binary16 (half precision, fp16); the largest finite number is 65504.
        Binary16 = 0 { bits: 16, precision: 11, names: "binary16", "f16" }
        /// FP8 with five exponent bits, a truncated binary16; the largest finite number is 57344.
        E5M2 = 2 { bits: 8, precision: 3, names: "E5M2", "e5m2" }
    }
    exponents -6..=8, has_infinity: false {
        /// FP8 with four exponent bits, no infinity, and one NaN per sign; the largest finite number is 448.
        E4M3 = 3 { bits: 8, precision: 4, names: "E4M3", "e4m3" }
    }
    exponents -126..=127, has_infinity: true {
        /// bfloat16: the upper half of a binary32; the largest finite number is 3.39e38.
        BFloat16 = 1 { bits: 16, precision: 8, names: "bfloat16", "bf16" }
        /// IEEE 754 binary32: the baseline, and what weight gradients are kept in; the largest finite
        /// number is 3.40e38.
        Binary32 = 4 { bits: 32, precision: 24, names: "binary32", "f32" }
    }
}

impl Encoding {
    /// Returns the exponent `s` of the smallest subnormal number, `2^s`.
    #[inline]
    pub const fn min_subnormal_log2(self) -> i32 {
        self.min_normal_log2() + 1 - self.precision() as i32
    }

    /// Returns the bits of the largest finite number.
    #[inline]
    pub const fn max_finite_bits(self) -> u32 {
        let binades = (self.max_log2() - self.min_normal_log2()) as u32;
        (binades << (self.precision() - 1)) + self.max_significand()
    }

    /// Returns the bits that a positive overflow becomes: infinity, or NaN where there is none.
    #[inline]
    pub const fn overflow_bits(self) -> u32 {
        self.max_finite_bits() + 1
    }

    /// Returns the bits of the positive quiet NaN that this crate writes.
    #[inline]
    pub const fn nan_bits(self) -> u32 {
        if self.has_infinity() {
            self.overflow_bits() | (1 << (self.precision() - 2))
        } else {
            self.overflow_bits()
        }
    }

    /// Returns the bits of the smallest normal number.
    #[inline]
    pub const fn min_normal_bits(self) -> u32 {
        1 << (self.precision() - 1)
    }

    /// Returns the bit that holds the sign.
    #[inline]
    pub const fn sign_bit(self) -> u32 {
        1 << (self.bits() - 1)
    }

    /// Returns the significand of the largest finite number, in units of its last place.
    #[inline]
    pub(crate) const fn max_significand(self) -> u32 {
        let all_ones = (1 << self.precision()) - 1;
        if self.has_infinity() { all_ones } else { all_ones - 1 }
    }

    /// Widens a bit pattern to f32, exactly.
    ///
    /// Subnormals keep their value, infinities their sign; a NaN becomes a quiet NaN of the same
    /// sign.  Bits above the encoding's width are ignored.
    #[inline]
    pub const fn widen(self, bits: u32) -> f32 {
        if matches!(self, Self::Binary32) {
            return f32::from_bits(bits);
        }
        let sign = (bits & self.sign_bit()) << (32 - self.bits());
        let magnitude = bits & (self.sign_bit() - 1);
        // All cases are computed and one is selected: a branch per element costs more.
        // The exponent fields differ by their biases: 127 here, 1 - m there.
        let rebias = (126 + self.min_normal_log2()) as u32;
        let normal = (magnitude << (24 - self.precision())) + (rebias << 23);
        let subnormal = if rebias == 0 {
            normal // f32 has the same subnormals
        } else {
            (magnitude as f32 * exp2(self.min_subnormal_log2())).to_bits()
        };
        let special = if self.has_infinity() && magnitude == self.overflow_bits() {
            f32::INFINITY.to_bits()
        } else {
            f32::NAN.to_bits()
        };
        let finite = if magnitude < self.min_normal_bits() { subnormal } else { normal };
        let widened = if magnitude > self.max_finite_bits() { special } else { finite };
        f32::from_bits(sign | widened)
    }
}

/// Returns encodings in the order of their discriminants, each of which is the index of one.
const fn in_order<const N: usize>(listed: [Encoding; N]) -> [Encoding; N] {
    let mut ordered = listed;
    let mut nth = 0;
    while nth < N {
        ordered[listed[nth] as usize] = listed[nth];
        nth += 1;
    }
    ordered
}

/// Returns `2^log2` for every binade of normal f32.
#[inline]
pub(super) const fn exp2(log2: i32) -> f32 {
    f32::from_bits(((log2 + 127) as u32) << 23)
}
