//! What a bit pattern means, and how rounding goes.

use core::ffi::c_void;

use adaloss_core::{
    format::{
        Element, Encoding, Fate, Format, Narrowed, Narrowing, Noise, Overflow, Rounding, Shifts,
        Subnormals,
    },
    with_element,
};

use crate::{
    ADALOSS_ERROR_FORMAT, ADALOSS_ERROR_SCALE, ADALOSS_NONE, adaloss_code,
    code::{Refused, code},
    memory::{Place, any_bytes, array, array_mut},
};

/// An encoding and its treatment of subnormals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_format {
    pub encoding: u8,
    pub subnormals: u8,
}

/// A format, a rounding, and what becomes of overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_narrowing {
    pub format: adaloss_format,
    pub rounding: u8,
    pub overflow: u8,
}

/// The random words of stochastic rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_noise {
    pub seed: u32,
    pub stream: u32,
}

/// The numbers that describe a format.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct adaloss_limits {
    pub bits: u32,
    pub precision: u32,
    pub min_subnormal_log2: i32,
    pub min_normal_log2: i32,
    pub max_log2: i32,
    pub max_finite: f32,
}

/// The shifts at which a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_shifts {
    pub least: i32,
    pub greatest: i32,
}

any_bytes!(adaloss_format, adaloss_narrowing, adaloss_noise, adaloss_limits, adaloss_shifts);

/// Reads an encoding.
pub(crate) fn parse_encoding(number: u32) -> Result<Encoding, Refused> {
    let known = Encoding::ALL.into_iter().find(|&known| known as u32 == number);
    known.ok_or(Refused(ADALOSS_ERROR_FORMAT))
}

impl adaloss_format {
    pub(crate) fn parse(self) -> Result<Format, Refused> {
        let encoding = parse_encoding(self.encoding.into())?;
        match self.subnormals {
            0 => Ok(Format::new(encoding, Subnormals::Gradual)),
            1 => Ok(Format::new(encoding, Subnormals::Flush)),
            _ => Err(Refused(ADALOSS_ERROR_FORMAT)),
        }
    }
}

impl adaloss_narrowing {
    pub(crate) fn parse(self) -> Result<Narrowing, Refused> {
        let rounding = match self.rounding {
            0 => Rounding::NearestEven,
            1 => Rounding::TowardZero,
            2 => Rounding::Stochastic,
            _ => return Err(Refused(ADALOSS_ERROR_FORMAT)),
        };
        let overflow = match self.overflow {
            0 => Overflow::Infinity,
            1 => Overflow::Saturate,
            _ => return Err(Refused(ADALOSS_ERROR_FORMAT)),
        };
        Ok(Narrowing { format: self.format.parse()?, rounding, overflow })
    }
}

impl From<Format> for adaloss_format {
    fn from(format: Format) -> Self {
        Self { encoding: format.encoding as u8, subnormals: format.subnormals as u8 }
    }
}

impl From<Narrowing> for adaloss_narrowing {
    fn from(narrowing: Narrowing) -> Self {
        Self {
            format: narrowing.format.into(),
            rounding: narrowing.rounding as u8,
            overflow: narrowing.overflow as u8,
        }
    }
}

impl From<adaloss_noise> for Noise {
    fn from(noise: adaloss_noise) -> Self {
        Self { seed: noise.seed, stream: noise.stream }
    }
}

impl From<Noise> for adaloss_noise {
    fn from(noise: Noise) -> Self {
        Self { seed: noise.seed, stream: noise.stream }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_format_limits(
    format: adaloss_format,
    limits: *mut adaloss_limits,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let limits = unsafe { Place::new(limits) }?;
        let encoding = format.parse()?.encoding;
        limits.set(adaloss_limits {
            bits: encoding.bits(),
            precision: encoding.precision(),
            min_subnormal_log2: encoding.min_subnormal_log2(),
            min_normal_log2: encoding.min_normal_log2(),
            max_log2: encoding.max_log2(),
            max_finite: encoding.widen(encoding.max_finite_bits()),
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_format_widen(
    format: adaloss_format,
    from: *const c_void,
    count: usize,
    to: *mut f32,
) -> adaloss_code {
    code(|| {
        let format = format.parse()?;
        with_element!(format.encoding, F => {
            // SAFETY: the header asks for two arrays of `count` elements, apart.
            let (from, to) = unsafe { (array(from.cast::<F>(), count)?, array_mut(to, count)?) };
            for (to, from) in to.iter_mut().zip(from) {
                *to = format.widen(Element::to_bits(*from));
            }
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_format_narrow(
    narrowing: adaloss_narrowing,
    x: f32,
    shift_log2: i32,
    word: u32,
    bits: *mut u32,
    fate: *mut u32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place, and for another one or NULL.
        let (bits, fate) = unsafe { (Place::new(bits)?, Place::optional(fate)?) };
        let narrowing = narrowing.parse()?;
        if !(-252..=252).contains(&shift_log2) {
            return Err(Refused(ADALOSS_ERROR_SCALE));
        }
        let narrowed: Narrowed = narrowing.narrow(x, shift_log2, word);
        bits.set(narrowed.bits);
        if let Some(fate) = fate {
            fate.set(match narrowed.fate {
                Fate::Zero => 0,
                Fate::Normal => 1,
                Fate::Subnormal => 2,
                Fate::Underflow => 3,
                Fate::Overflow => 4,
                Fate::NonFinite => 5,
            });
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_format_shifts(
    narrowing: adaloss_narrowing,
    x: f32,
    shifts: *mut adaloss_shifts,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(shifts) }?;
        let Shifts { least, greatest } =
            narrowing.parse()?.shifts(x).ok_or(Refused(ADALOSS_NONE))?;
        place.set(adaloss_shifts { least, greatest });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn adaloss_format_noise_word(noise: adaloss_noise, index: u64) -> u32 {
    Noise::from(noise).word_at(index)
}
