//! LLVM's APFloat, as `rustc_apfloat` ports it: the oracle of encodings and of IEEE rounding.

use adaloss_core::format::{Encoding, Format, Subnormals};
use rustc_apfloat::{
    Float, FloatConvert,
    ieee::{BFloat, Double, Float8E4M3FN, Float8E5M2, Half, Quad, Single},
};

pub use rustc_apfloat::Round;

use crate::Limits;

/// Returns the value of a bit pattern, NaN included.
pub fn decode(encoding: Encoding, bits: u32) -> f64 {
    match encoding {
        Encoding::Binary16 => to_f64::<Half>(bits),
        Encoding::BFloat16 => to_f64::<BFloat>(bits),
        Encoding::E5M2 => to_f64::<Float8E5M2>(bits),
        Encoding::E4M3 => to_f64::<Float8E4M3FN>(bits),
        Encoding::Binary32 => to_f64::<Single>(bits),
    }
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
    match encoding {
        Encoding::Binary16 => to_bits::<_, Half>(x, round),
        Encoding::BFloat16 => to_bits::<_, BFloat>(x, round),
        Encoding::E5M2 => to_bits::<_, Float8E5M2>(x, round),
        Encoding::E4M3 => to_bits::<_, Float8E4M3FN>(x, round),
        Encoding::Binary32 => x.to_bits() as u32,
    }
}

/// Rounds the exact product `2^k x`, which a binary128 holds for every `k` in `-16000..=16000`.
pub fn round_product(encoding: Encoding, x: f32, k: i32, round: Round) -> u32 {
    let product = <Single as FloatConvert<Quad>>::convert(single(x), &mut false).value.scalbn(k);
    match encoding {
        Encoding::Binary16 => to_bits::<_, Half>(product, round),
        Encoding::BFloat16 => to_bits::<_, BFloat>(product, round),
        Encoding::E5M2 => to_bits::<_, Float8E5M2>(product, round),
        Encoding::E4M3 => to_bits::<_, Float8E4M3FN>(product, round),
        Encoding::Binary32 => to_bits::<_, Single>(product, round),
    }
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
