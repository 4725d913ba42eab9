//! Back to float, and whether a step is usable.

use core::{
    ffi::{c_char, c_void},
    fmt::{self, Write},
};

use adaloss_core::{
    propagate::Scaled,
    unscale::{Cause, Place as CorePlace, Unscaled, Verdict, unscale},
    with_element,
};

use crate::{
    ADALOSS_ERROR_ENUM, ADALOSS_ERROR_LENGTH, ADALOSS_ERROR_OUTCOME, adaloss_code, adaloss_format,
    code::{Refused, code},
    memory::{any_bytes, array, array_mut, exclusive, shared},
    scale,
    statistics::has_room,
};

/// What unscaling met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_unscaled {
    pub elements: u64,
    pub nonfinite: u64,
    pub tiny: u64,
}

/// A place in a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_place {
    pub kind: u32,
    pub cell: u32,
}

/// Whether the gradients of a step may reach the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_verdict {
    pub kind: u32,
    pub cause: u32,
    pub place: adaloss_place,
    pub skipped: u32,
    pub reserved: u32,
}

any_bytes!(adaloss_unscaled, adaloss_place, adaloss_verdict);

impl adaloss_unscaled {
    pub(crate) fn parse(&self) -> Result<Unscaled, Refused> {
        let Self { elements, nonfinite, tiny } = *self;
        let is_legal = elements <= 1 << 63
            && nonfinite.checked_add(tiny).is_some_and(|apart| apart <= elements);
        if is_legal {
            Ok(Unscaled { elements, nonfinite, tiny })
        } else {
            Err(Refused(ADALOSS_ERROR_OUTCOME))
        }
    }
}

impl From<Unscaled> for adaloss_unscaled {
    fn from(met: Unscaled) -> Self {
        Self { elements: met.elements, nonfinite: met.nonfinite, tiny: met.tiny }
    }
}

impl adaloss_place {
    pub(crate) fn parse(self) -> Result<CorePlace, Refused> {
        let cell = self.cell as usize;
        match self.kind {
            0 => Ok(CorePlace::Loss),
            1 => Ok(CorePlace::Layer(cell)),
            2 => Ok(CorePlace::Weight(cell)),
            _ => Err(Refused(ADALOSS_ERROR_ENUM)),
        }
    }
}

impl From<CorePlace> for adaloss_place {
    fn from(place: CorePlace) -> Self {
        match place {
            CorePlace::Loss => Self { kind: 0, cell: 0 },
            CorePlace::Layer(cell) => Self { kind: 1, cell: cell as u32 },
            CorePlace::Weight(cell) => Self { kind: 2, cell: cell as u32 },
        }
    }
}

/// Reads a cause that a caller found.
pub(crate) fn parse_cause(cause: u32) -> Result<Cause, Refused> {
    match cause {
        1 => Ok(Cause::NonFinite),
        2 => Ok(Cause::Overflow),
        3 => Ok(Cause::Failed),
        4 => Ok(Cause::Uncounted),
        5 => Ok(Cause::Length),
        6 => Ok(Cause::Nothing),
        _ => Err(Refused(ADALOSS_ERROR_ENUM)),
    }
}

/// Writes a cause as a number.
pub(crate) const fn cause_number(cause: Cause) -> u32 {
    match cause {
        Cause::NonFinite => 1,
        Cause::Overflow => 2,
        Cause::Failed => 3,
        Cause::Uncounted => 4,
        Cause::Length => 5,
        Cause::Nothing => 6,
    }
}

impl From<Verdict> for adaloss_verdict {
    fn from(verdict: Verdict) -> Self {
        let (kind, found, skipped) = match verdict {
            Verdict::Apply => (0, None, 0),
            Verdict::Skip { layer, cause } => (1, Some((layer, cause)), 0),
            Verdict::Stop { layer, cause, skipped } => (2, Some((layer, cause)), skipped),
        };
        let cause = found.map_or(0, |(_, cause)| cause_number(cause));
        let place = found.map_or(CorePlace::Loss, |(place, _)| place).into();
        Self { kind, cause, place, skipped, reserved: 0 }
    }
}

impl adaloss_verdict {
    fn parse(&self) -> Result<Verdict, Refused> {
        let found = || Ok((self.place.parse()?, parse_cause(self.cause)?));
        match self.kind {
            0 => Ok(Verdict::Apply),
            1 => found().map(|(layer, cause)| Verdict::Skip { layer, cause }),
            2 => {
                found().map(|(layer, cause)| Verdict::Stop { layer, cause, skipped: self.skipped })
            }
            _ => Err(Refused(ADALOSS_ERROR_ENUM)),
        }
    }
}

/// More than any verdict's sentence takes, with the zero that ends it.
pub const ADALOSS_VERDICT_TEXT_BYTES: usize = 160;

/// A sentence of ASCII letters that becomes a C string; the last byte stays zero.
struct Sentence {
    bytes: [u8; ADALOSS_VERDICT_TEXT_BYTES],
    len: usize,
}

impl Write for Sentence {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.len + part.len();
        let room = self.bytes[..ADALOSS_VERDICT_TEXT_BYTES - 1]
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_verdict_text(
    verdict: *const adaloss_verdict,
    text: *mut c_char,
    size: usize,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a verdict and for an array of `size` bytes.
        let (verdict, text) =
            unsafe { (shared(verdict)?.parse()?, array_mut(text.cast::<u8>(), size)?) };
        let mut sentence = Sentence { bytes: [0; ADALOSS_VERDICT_TEXT_BYTES], len: 0 };
        write!(sentence, "{verdict}").map_err(|_| Refused(ADALOSS_ERROR_LENGTH))?;
        let with_zero = sentence.bytes.get(..=sentence.len);
        let (Some(to), Some(from)) = (text.get_mut(..=sentence.len), with_zero) else {
            return Err(Refused(ADALOSS_ERROR_LENGTH));
        };
        to.copy_from_slice(from);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_unscale_values(
    format: adaloss_format,
    from: *const c_void,
    count: usize,
    scale_log2: i32,
    to: *mut f32,
    met: *mut adaloss_unscaled,
) -> adaloss_code {
    code(|| {
        let (format, scale) = (format.parse()?, scale::parse(scale_log2)?);
        // SAFETY: the header asks for two arrays of `count` elements and a count, all apart.
        let (to, met) = unsafe { (array_mut(to, count)?, exclusive(met)?) };
        let mut all = met.parse()?;
        has_room(all.elements, count as u64)?;
        with_element!(format.encoding, F => {
            // SAFETY: as above.
            let from = unsafe { array(from.cast::<F>(), count) }?;
            all.merge(&unscale(format, Scaled::new(from, scale), to)?);
        });
        *met = all.into();
        Ok(())
    })
}
