//! Whether a device does what core says, and if not, where.

use core::{
    ffi::c_char,
    fmt::{self, Write},
};

use ::adaloss_conformance::{self as conformance, Failure, Report};
use adaloss_core::{
    format::{E4M3, E5M2, Encoding, bf16, f16},
    with_element,
};

use super::{
    adaloss_device,
    memory::{Foreign, function},
};
use crate::{
    ADALOSS_ERROR_DIFFERS, ADALOSS_ERROR_FORMAT, adaloss_code,
    code::{Refused, code},
    format::parse_encoding,
    memory::{Place, any_bytes},
};

/// The most characters of a difference, and the zero that ends it.
pub const ADALOSS_DIFFERENCE_BYTES: usize = 256;

/// What was compared, or where a device differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_conformance {
    pub operations: u64,
    pub refusals: u64,
    pub elements: u64,
    pub difference: [c_char; ADALOSS_DIFFERENCE_BYTES],
}

any_bytes!(adaloss_conformance);

impl From<Report> for adaloss_conformance {
    fn from(report: Report) -> Self {
        let Report { operations, refusals, elements, .. } = report;
        Self { operations, refusals, elements, difference: [0; ADALOSS_DIFFERENCE_BYTES] }
    }
}

impl From<Failure> for adaloss_conformance {
    fn from(failure: Failure) -> Self {
        let mut text = Text { characters: [0; ADALOSS_DIFFERENCE_BYTES], length: 0 };
        // Where there is no room for the rest of it, the beginning has to do.
        let _ = write!(text, "{failure}");
        Self { operations: 0, refusals: 0, elements: 0, difference: text.characters }
    }
}

/// A text in memory of a fixed size, which ends in a zero.
struct Text {
    characters: [c_char; ADALOSS_DIFFERENCE_BYTES],
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = ADALOSS_DIFFERENCE_BYTES - 1 - self.length;
        let places = self.characters[self.length..].iter_mut().take(room);
        places.zip(text.bytes()).for_each(|(place, byte)| *place = byte as c_char);
        self.length += text.len().min(room);
        if text.len() <= room { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Puts a device through a part of the suite; `needs` refuses one that has not its functions.
///
/// # Safety
///
/// `device` and `report` are what the header asks for: a table, and a place.
unsafe fn conform(
    device: *const adaloss_device,
    report: *mut adaloss_conformance,
    needs: impl FnOnce(&adaloss_device) -> Result<(), Refused>,
    suite: impl FnOnce(&mut Foreign) -> Result<Report, Failure>,
) -> Result<(), Refused> {
    // SAFETY: the caller's promise.
    let (mut device, place) = unsafe { (Foreign::new(device)?, Place::new(report)?) };
    needs(&device.table)?;
    match suite(&mut device) {
        Ok(report) => place.set(report.into()),
        Err(failure) => {
            place.set(failure.into());
            return Err(Refused(ADALOSS_ERROR_DIFFERS));
        }
    }
    Ok(())
}

fn narrows(table: &adaloss_device) -> Result<(), Refused> {
    function(table.statistics)?;
    function(table.apply)?;
    function(table.propagate)?;
    function(table.unscale)?;
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_device_conform_memory(
    device: *const adaloss_device,
    report: *mut adaloss_conformance,
) -> adaloss_code {
    // SAFETY: the header asks for what `conform` needs.
    code(|| unsafe { conform(device, report, |_| Ok(()), conformance::memory) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_device_conform_narrow(
    device: *const adaloss_device,
    encoding: u32,
    report: *mut adaloss_conformance,
) -> adaloss_code {
    code(|| {
        with_element!(parse_encoding(encoding)?, F => {
            // SAFETY: as above.
            unsafe { conform(device, report, narrows, conformance::narrow::<F, _>) }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_device_conform_matmul(
    device: *const adaloss_device,
    a_encoding: u32,
    b_encoding: u32,
    encoding: u32,
    report: *mut adaloss_conformance,
) -> adaloss_code {
    let multiplies = |table: &adaloss_device| function(table.matmul).map(drop);
    code(|| {
        let encodings =
            [parse_encoding(a_encoding)?, parse_encoding(b_encoding)?, parse_encoding(encoding)?];
        let suite = products(encodings).ok_or(Refused(ADALOSS_ERROR_FORMAT))?;
        // SAFETY: as above.
        unsafe { conform(device, report, multiplies, suite) }
    })
}

type Suite = fn(&mut Foreign) -> Result<Report, Failure>;

/// Returns the checks of products of two encodings that are narrowed to a third.
///
/// Operands of one width, and results in an encoding of theirs or in binary32, are what a backward
/// pass has.  All 125 would make the library several times as large.
fn products(encodings: [Encoding; 3]) -> Option<Suite> {
    use Encoding::{BFloat16, Binary16, Binary32, E4M3 as P3, E5M2 as P2};
    Some(match encodings {
        [Binary16, Binary16, Binary16] => conformance::matmul::<f16, f16, f16, _>,
        [Binary16, Binary16, Binary32] => conformance::matmul::<f16, f16, f32, _>,
        [BFloat16, BFloat16, BFloat16] => conformance::matmul::<bf16, bf16, bf16, _>,
        [BFloat16, BFloat16, Binary32] => conformance::matmul::<bf16, bf16, f32, _>,
        [P2, P2, P2] => conformance::matmul::<E5M2, E5M2, E5M2, _>,
        [P2, P2, Binary32] => conformance::matmul::<E5M2, E5M2, f32, _>,
        [P2, P3, P2] => conformance::matmul::<E5M2, E4M3, E5M2, _>,
        [P2, P3, P3] => conformance::matmul::<E5M2, E4M3, E4M3, _>,
        [P2, P3, Binary32] => conformance::matmul::<E5M2, E4M3, f32, _>,
        [P3, P2, P2] => conformance::matmul::<E4M3, E5M2, E5M2, _>,
        [P3, P2, P3] => conformance::matmul::<E4M3, E5M2, E4M3, _>,
        [P3, P2, Binary32] => conformance::matmul::<E4M3, E5M2, f32, _>,
        [P3, P3, P3] => conformance::matmul::<E4M3, E4M3, E4M3, _>,
        [P3, P3, Binary32] => conformance::matmul::<E4M3, E4M3, f32, _>,
        [Binary32, Binary32, Binary32] => conformance::matmul::<f32, f32, f32, _>,
        _ => return None,
    })
}
