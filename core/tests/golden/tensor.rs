//! Recorded arrays: given bit by bit, or by a generator and a checksum.

use adaloss_core::{
    format::{Element, f16},
    statistics::{LogStatistics, Statistics},
};

use crate::json::Node;

/// The two storage types of the vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    F32,
}

impl Dtype {
    /// Widens with the `half` crate, not with what is tested.
    pub(crate) fn widen(self, bits: u32) -> f32 {
        match self {
            Self::F16 => f16::from_bits(bits as u16).to_f32(),
            Self::F32 => f32::from_bits(bits),
        }
    }

    /// Rounds with the `half` crate, not with what is tested.
    pub(crate) fn round(self, x: f32) -> u32 {
        match self {
            Self::F16 => u32::from(f16::from_f32(x).to_bits()),
            Self::F32 => x.to_bits(),
        }
    }

    /// Returns the most that rounding can move a number of this size.
    pub(crate) fn half_ulp(self, x: f32) -> f64 {
        let (precision, smallest_normal) = match self {
            Self::F16 => (11, -14),
            Self::F32 => (24, -126),
        };
        let binade = if x == 0.0 { smallest_normal } else { libm::ilogbf(x).max(smallest_normal) };
        libm::ldexp(1.0, binade - precision)
    }
}

/// An array in C order.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bits: Vec<u32>,
}

impl Tensor {
    pub(crate) fn read(node: Node<'_>) -> Result<Self, String> {
        let dtype = match node.field("dtype")?.text()? {
            "f16" => Dtype::F16,
            "f32" => Dtype::F32,
            other => return Err(format!("`{}` has the unknown dtype {other}", node.name())),
        };
        let shape = read_shape(node.field("shape")?)?;
        let elements = shape.iter().product();
        let bits = match node.optional("gen") {
            Some(generator) if generator.text()? == "ih12" => generate(node, elements)?,
            Some(generator) => return Err(format!("unknown generator {}", generator.text()?)),
            None => read_bits(node.field("bits")?.text()?, dtype)
                .ok_or_else(|| format!("`bits` of `{}` are not hexadecimal words", node.name()))?,
        };
        if bits.len() != elements {
            let (name, found) = (node.name(), bits.len());
            return Err(format!("`{name}` of shape {shape:?} has {found} elements"));
        }
        Ok(Self { dtype, shape, bits })
    }

    pub(crate) fn read_list(node: Node<'_>) -> Result<Vec<Self>, String> {
        node.list()?.into_iter().map(Self::read).collect()
    }

    /// Makes an array from f32 values, rounded with the `half` crate.
    pub(crate) fn round(dtype: Dtype, shape: &[usize], values: &[f32]) -> Self {
        let bits = values.iter().map(|&x| dtype.round(x)).collect();
        Self { dtype, shape: shape.to_vec(), bits }
    }

    pub(crate) fn len(&self) -> usize {
        self.bits.len()
    }

    /// Returns the elements as f32, exactly.
    pub(crate) fn values(&self) -> Vec<f32> {
        self.bits.iter().map(|&bits| self.dtype.widen(bits)).collect()
    }

    /// Returns the elements of a binary16 array.
    pub(crate) fn halves(&self) -> Result<Vec<f16>, String> {
        match self.dtype {
            Dtype::F16 => Ok(self.bits.iter().map(|&bits| f16::from_bits(bits as u16)).collect()),
            Dtype::F32 => Err(String::from("an f32 array where binary16 is expected")),
        }
    }

    /// Returns what core computes of the stored elements, widened by core.
    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::EMPTY;
        self.widened_by_core().for_each(|x| statistics.observe(x));
        statistics
    }

    /// Returns what core computes of the elements' logarithms, widened by core.
    pub(crate) fn log_statistics(&self) -> LogStatistics {
        let mut statistics = LogStatistics::EMPTY;
        self.widened_by_core().for_each(|x| statistics.observe(x));
        statistics
    }

    /// Returns the largest magnitude, or NaN where an element is not finite: a maximum that dropped
    /// NaN would hide what is looked for.
    pub(crate) fn max_abs(&self) -> f32 {
        let values = self.values();
        match values.iter().all(|x| x.is_finite()) {
            true => values.iter().fold(0.0, |max, x| x.abs().max(max)),
            false => f32::NAN,
        }
    }

    fn widened_by_core(&self) -> impl Iterator<Item = f32> + '_ {
        self.bits.iter().map(|&bits| match self.dtype {
            Dtype::F16 => <f16 as Element>::from_bits(bits).widen(),
            Dtype::F32 => <f32 as Element>::from_bits(bits).widen(),
        })
    }
}

/// Reads a list of lengths.
pub(crate) fn read_shape(node: Node<'_>) -> Result<Vec<usize>, String> {
    node.list()?.into_iter().map(|length| length.integer().map(|length| length as usize)).collect()
}

fn read_bits(text: &str, dtype: Dtype) -> Option<Vec<u32>> {
    let digits = match dtype {
        Dtype::F16 => 4,
        Dtype::F32 => 8,
    };
    if !text.is_ascii() || !text.len().is_multiple_of(digits) {
        return None;
    }
    text.as_bytes()
        .chunks(digits)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .collect()
}

/// Generates `ih12`: sums of twelve 16-bit numbers from a counting splitmix64, close to a Gaussian
/// and the same in every language.
fn generate(node: Node<'_>, elements: usize) -> Result<Vec<u32>, String> {
    let seed = node.field("seed")?.integer()?;
    let sigma = node.field("sigma_hex")?.scalar()?;
    let p_zero = node.field("p_zero")?.number()?;
    let bits: Vec<u32> = (0..elements as u64)
        .map(|element| {
            let [a, b, c, d] = [1, 2, 3, 4].map(|word| {
                mix(seed.wrapping_add((4 * element + word).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            });
            let sum: u64 = [a, b, c]
                .iter()
                .flat_map(|w| [w & 0xffff, w >> 16 & 0xffff, w >> 32 & 0xffff, w >> 48])
                .sum();
            let value = (sum as f64 - 393_210.0) * (sigma / 65536.0);
            let zero = ((d >> 11) as f64) * 2.0_f64.powi(-53) < p_zero;
            u32::from(f16::from_f32(if zero { 0.0 } else { to_odd(value) }).to_bits())
        })
        .collect();
    let checksum = bits
        .iter()
        .zip(1_u32..)
        .fold(0_u32, |sum, (&bits, i)| sum.wrapping_add(bits.wrapping_mul(i)));
    let recorded = node.field("checksum")?.integer()?;
    if u64::from(checksum) != recorded {
        return Err(format!("`{}` has the checksum {checksum}, recorded {recorded}", node.name()));
    }
    Ok(bits)
}

/// Rounds to f32 so that a second rounding, to binary16, is as if it were the only one: what is
/// inexact becomes odd, and so is no tie.  The `half` crate reads the upper half of an f64 alone.
fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let error = f64::from(nearest).abs() - x.abs();
    match error {
        0.0 => nearest,
        _ if error > 0.0 => f32::from_bits((nearest.to_bits() - 1) | 1),
        _ => f32::from_bits(nearest.to_bits() | 1),
    }
}

/// The finaliser of splitmix64.
fn mix(z: u64) -> u64 {
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
