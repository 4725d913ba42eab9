//! LLVM's APFloat, as `rustc_apfloat` ports it: the oracle of encodings and of IEEE rounding.

use adaloss_core::format::{Encoding, Format, Subnormals};
use rustc_apfloat::{
    Float, FloatConvert,
    ieee::{BFloat, Double, Float8E4M3FN, Float8E5M2, Half, Quad, Single},
};

pub use rustc_apfloat::Round;

use crate::Limits;

/// Runs an expression with the type that APFloat has for an encoding.
macro_rules! with_float {
    ($encoding:expr, $float:ident => $body:expr) => {
        match $encoding {
            Encoding::Binary16 => {
                type $float = Half;
                $body
            }
            Encoding::BFloat16 => {
                type $float = BFloat;
                $body
            }
            Encoding::E5M2 => {
                type $float = Float8E5M2;
                $body
            }
            Encoding::E4M3 => {
                type $float = Float8E4M3FN;
                $body
            }
            Encoding::Binary32 => {
                type $float = Single;
                $body
            }
        }
    };
}

/// Returns the value of a bit pattern, NaN included.
pub fn decode(encoding: Encoding, bits: u32) -> f64 {
    with_float!(encoding, T => to_f64::<T>(bits))
}

/// Returns the value of a bit pattern as a format reads it: a subnormal is a zero of its sign where the
/// format flushes.
pub fn read(format: Format, bits: u32) -> f64 {
    let value = decode(format.encoding, bits);
    let flushes = format.subnormals == Subnormals::Flush;
    let is_small = value.abs() < Limits::of(format.encoding).smallest_normal;
    if flushes && is_small { 0.0_f64.copysign(value) } else { value }
}

/// Rounds an f32 that is no NaN and returns the bits.
pub fn round(encoding: Encoding, x: f32, round: Round) -> u32 {
    let x = single(x);
    with_float!(encoding, T => to_bits::<_, T>(x, round))
}

/// Rounds the exact product `2^k x`, which a binary128 holds for every `k` in `-16000..=16000`.
pub fn round_product(encoding: Encoding, x: f32, k: i32, round: Round) -> u32 {
    let product = <Single as FloatConvert<Quad>>::convert(single(x), &mut false).value.scalbn(k);
    with_float!(encoding, T => to_bits::<_, T>(product, round))
}

/// Returns `a * b + c` with one rounding to f32.
pub fn fused(a: f32, b: f32, c: f32) -> f32 {
    f32::from_bits(single(a).mul_add(single(b), single(c)).value.to_bits() as u32)
}

/// Returns `a * b + c` with two roundings to f32.
pub fn unfused(a: f32, b: f32, c: f32) -> f32 {
    let product = (single(a) * single(b)).value;
    f32::from_bits((product + single(c)).value.to_bits() as u32)
}

fn single(x: f32) -> Single {
    Single::from_bits(u128::from(x.to_bits()))
}

fn to_f64<T: FloatConvert<Double>>(bits: u32) -> f64 {
    let mut loses = false;
    let double = T::from_bits(u128::from(bits)).convert(&mut loses).value;
    f64::from_bits(double.to_bits() as u64)
}

fn to_bits<S: FloatConvert<T>, T: Float>(x: S, round: Round) -> u32 {
    x.convert_r(round, &mut false).value.to_bits() as u32
}
