//! What bytes stand for: formats, scales, and tensors on which implementations go wrong.

use adaloss_core::{
    format::{Element, Encoding, Format, Narrowing, Overflow, Rounding, Subnormals},
    scale::Scale,
};
use adaloss_hal::Capabilities;
use adaloss_oracle::{Limits, inputs::SplitMix64, pow2};
use arbitrary::{Result, Unstructured};

/// Bit patterns of f32 that no shift makes harmless.
const SPECIALS: [u32; 12] = [
    0x0000_0000, // 0
    0x8000_0000, // -0
    0x7f80_0000, // infinity
    0xff80_0000, // -infinity
    0x7fc0_0000, // the quiet NaN
    0x7f80_0001, // a signalling NaN
    0xffff_ffff, // a negative NaN of all ones
    0x0000_0001, // the smallest f32
    0x007f_ffff, // the largest subnormal
    0x0080_0000, // the smallest normal
    0x7f7f_ffff, // the largest f32
    0xff7f_ffff, // its negative
];

/// The most values of a tensor that are chosen one by one; the others are drawn from a seed.
const CHOSEN: usize = 24;

/// Hands bytes to a target as structured input.
///
/// Bytes that are too few for what the target asks for are no finding.
pub(crate) fn run(bytes: &[u8], target: impl FnOnce(&mut Unstructured<'_>) -> Result<()>) {
    let _ = target(&mut Unstructured::new(bytes));
}

/// Any encoding, binary32 among them.
pub(crate) fn encoding(u: &mut Unstructured<'_>) -> Result<Encoding> {
    u.choose(&Encoding::ALL).copied()
}

/// Any narrowing to an encoding that a device with these capabilities has.
pub(crate) fn narrowing(
    u: &mut Unstructured<'_>,
    encoding: Encoding,
    capabilities: Capabilities,
) -> Result<Narrowing> {
    let flushes = u.arbitrary()? || !capabilities.subnormals;
    let subnormals = if flushes { Subnormals::Flush } else { Subnormals::Gradual };
    let roundings = [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic];
    let roundings = if capabilities.stochastic_rounding { &roundings[..] } else { &roundings[..2] };
    Ok(Narrowing {
        format: Format::new(encoding, subnormals),
        rounding: *u.choose(roundings)?,
        overflow: *u.choose(&[Overflow::Infinity, Overflow::Saturate])?,
    })
}

/// Any legal scale; every other time one near 2^0, where training lives.
pub(crate) fn scale(u: &mut Unstructured<'_>) -> Result<Scale> {
    let log2 = if u.arbitrary()? { u.int_in_range(-126..=126)? } else { u.int_in_range(-16..=24)? };
    Ok(Scale::saturating(log2))
}

/// Any f32: random bits, a number at which a format decides, a plausible gradient, a special one.
pub(crate) fn value(u: &mut Unstructured<'_>, format: Format) -> Result<f32> {
    let x = match u.int_in_range(0..=6)? {
        0 => f32::from_bits(u.arbitrary()?),
        1 | 2 => {
            let limits = Limits::of(format.encoding);
            let Limits { smallest, smallest_normal, largest, beyond, .. } = limits;
            let ends = [smallest / 2.0, smallest, smallest_normal, largest, limits.tie(), beyond];
            (u.choose(&ends)? * pow2(u.int_in_range(-270..=270)?)) as f32
        }
        3 => pow2(u.int_in_range(-149..=127)?) as f32,
        4 => (f64::from(u.int_in_range(-64..=64)?) * pow2(u.int_in_range(-60..=20)?)) as f32,
        5 => f32::from_bits(*u.choose(&SPECIALS)?),
        _ => SplitMix64(u.arbitrary()?).between_binades(-40, 4),
    };
    let x = match u.int_in_range(0..=3)? {
        0 => x.next_down(),
        1 => x.next_up(),
        _ => x,
    };
    Ok(if u.arbitrary()? { -x } else { x })
}

/// A tensor of at most `most` values: a few that are chosen one by one, scattered among others that
/// are drawn from some binades.
pub(crate) fn values(u: &mut Unstructured<'_>, format: Format, most: usize) -> Result<Vec<f32>> {
    let chosen = u.int_in_range(0..=CHOSEN.min(most))?;
    let mut values: Vec<f32> = (0..chosen).map(|_| value(u, format)).collect::<Result<_>>()?;
    let drawn = match u.int_in_range(0..=3)? {
        0 => 0,
        1 | 2 => u.int_in_range(0..=(most - chosen).min(40))?,
        _ => u.int_in_range(0..=most - chosen)?,
    };
    let mut generator = SplitMix64(u.arbitrary()?);
    let least = u.int_in_range(-149..=127)?;
    let greatest = (least + u.int_in_range(0..=40)?).min(127);
    values.extend((0..drawn).map(|_| generator.between_binades(least, greatest)));
    generator.shuffle(&mut values);
    Ok(values)
}

/// Elements of a low-precision tensor: random bits, or numbers of a few binades around 1.
pub(crate) fn elements<F: Element>(u: &mut Unstructured<'_>, length: usize) -> Result<Vec<F>> {
    let (moderate, mut generator) = (u.arbitrary()?, SplitMix64(u.arbitrary()?));
    let mut elements: Vec<F> = (0..length)
        .map(|_| match moderate {
            true => {
                F::narrow(generator.between_binades(-6, 5), Narrowing::to(Format::BINARY32), 0, 0)
            }
            false => F::from_bits(generator.half_word()),
        })
        .collect();
    for _ in 0..u.int_in_range(0..=length.min(8))? {
        let bits: u32 = u.arbitrary()?;
        elements[generator.below(length)] = F::from_bits(bits);
    }
    Ok(elements)
}
