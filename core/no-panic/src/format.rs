use adaloss_core::format::{
    E4M3, E5M2, Element, Encoding, Format, Narrowed, Narrowing, Noise, Rounding, Shifts,
    Subnormals, bf16, dot, f16,
};
use num_traits::{Bounded, ToPrimitive};

use crate::{each_element, entries};

entries! {
    "format::Encoding::name" => fn(Encoding) -> &'static str = Encoding::name;
    "format::Encoding::short_name" => fn(Encoding) -> &'static str = Encoding::short_name;
    "format::Encoding::bits" => fn(Encoding) -> u32 = Encoding::bits;
    "format::Encoding::precision" => fn(Encoding) -> u32 = Encoding::precision;
    "format::Encoding::min_normal_log2" => fn(Encoding) -> i32 = Encoding::min_normal_log2;
    "format::Encoding::min_subnormal_log2" => fn(Encoding) -> i32 = Encoding::min_subnormal_log2;
    "format::Encoding::max_log2" => fn(Encoding) -> i32 = Encoding::max_log2;
    "format::Encoding::has_infinity" => fn(Encoding) -> bool = Encoding::has_infinity;
    "format::Encoding::max_finite_bits" => fn(Encoding) -> u32 = Encoding::max_finite_bits;
    "format::Encoding::overflow_bits" => fn(Encoding) -> u32 = Encoding::overflow_bits;
    "format::Encoding::nan_bits" => fn(Encoding) -> u32 = Encoding::nan_bits;
    "format::Encoding::min_normal_bits" => fn(Encoding) -> u32 = Encoding::min_normal_bits;
    "format::Encoding::sign_bit" => fn(Encoding) -> u32 = Encoding::sign_bit;
    "format::Encoding::widen" => fn(Encoding, u32) -> f32 = Encoding::widen;

    "format::Format::new" => fn(Encoding, Subnormals) -> Format = Format::new;
    "format::Format::from" => fn(Encoding) -> Format = Format::from;
    "format::Format::flushing" => fn(Format) -> Format = Format::flushing;
    "format::Format::min_positive_log2" => fn(Format) -> i32 = Format::min_positive_log2;
    "format::Format::widen" => fn(Format, u32) -> f32 = Format::widen;

    "format::Narrowing::to" => fn(Format) -> Narrowing = Narrowing::to;
    "format::Narrowing::from" => fn(Format) -> Narrowing = Narrowing::from;
    "format::Narrowing::with_rounding" => fn(Narrowing, Rounding) -> Narrowing =
        Narrowing::with_rounding;
    "format::Narrowing::saturating" => fn(Narrowing) -> Narrowing = Narrowing::saturating;
    "format::Narrowing::narrow" => fn(Narrowing, f32, i32, u32) -> Narrowed = Narrowing::narrow;
    "format::Narrowing::shifts" => fn(Narrowing, f32) -> Option<Shifts> = Narrowing::shifts;

    "format::Noise::word" => fn(Noise, u32) -> u32 = Noise::word;
    "format::Noise::word_at" => fn(Noise, u64) -> u32 = Noise::word_at;
}

each_element! {
    "format::Element::to_bits" => fn(F) -> u32 = Element::to_bits;
    "format::Element::from_bits" => fn(u32) -> F = Element::from_bits;
    "format::Element::widen" => fn(F) -> f32 = Element::widen;
    "format::Element::nearest" => fn(f64) -> F = Element::nearest;
    "format::Element::narrow" => fn(f32, Narrowing, i32, u32) -> F = Element::narrow;
    "format::Element::mul_add" => fn(F, F, f32) -> f32 = Element::mul_add;
    "format::Element::min_value" => fn() -> F = Bounded::min_value;
    "format::Element::max_value" => fn() -> F = Bounded::max_value;
    "format::Element::to_i64" => fn(&F) -> Option<i64> = ToPrimitive::to_i64;
    "format::Element::to_u64" => fn(&F) -> Option<u64> = ToPrimitive::to_u64;
    "format::Element::to_f32" => fn(&F) -> Option<f32> = ToPrimitive::to_f32;
    "format::Element::to_f64" => fn(&F) -> Option<f64> = ToPrimitive::to_f64;
    "format::dot" => fn(&[F], &[F]) -> f32 = dot;
}
