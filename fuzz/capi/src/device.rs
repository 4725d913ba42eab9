//! A device of the program's own: it does what it is asked for, or makes a mistake.
//!
//! It watches the library meanwhile: every address has to be one that was given, every copy has to
//! lie within one allocation, and what was allocated has to be given back, as it was and once.

use std::{ffi::c_void, ptr, slice};

use adaloss::*;
use adaloss_core::{
    format::{Encoding, Format},
    propagate::sum_at,
    scale::Scale,
};
use arbitrary::{Result, Unstructured};

use crate::{
    argument::{encoding, pointer},
    memory::Memory,
};

/// Where its memory begins, in its addresses, and its size in bytes.
const FIRST: u64 = 1 << 40;
const BYTES: u64 = 1 << 18;

/// Calls after which it is out of order, so that every suite comes to an end soon.
const CALLS: u32 = 3000;

const FAILED: adaloss_code = ADALOSS_USER + 11;

/// What a device does instead of what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mistake {
    Fails,
    /// It says that it has done it.
    DoesNothing,
    /// What it reads is full of this; what it allocates lies there.
    Answers(u64),
}

pub(crate) struct Device {
    words: Vec<u64>,
    /// Address and bytes of what is allocated.
    allocated: Vec<(u64, u64)>,
    calls: u32,
    /// The mistake, and the call that it is made at.
    mistake: Option<(u32, Mistake)>,
    /// Whether a call failed, or a mistake was made.
    pub(crate) has_failed: bool,
    pub(crate) has_erred: bool,
}

impl Device {
    pub(crate) fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let mistake = match u.int_in_range(0..=5)? {
            0 => None,
            1 | 2 => Some(Mistake::Fails),
            3 => Some(Mistake::DoesNothing),
            _ if u.arbitrary()? => Some(Mistake::Answers(u.int_in_range(0..=16)?)),
            _ => Some(Mistake::Answers(u.arbitrary()?)),
        };
        // Early ones are as likely as late ones.
        let magnitude = u.int_in_range(0..=10)?;
        let call = u.int_in_range(0..=CALLS >> magnitude)?;
        Ok(Self {
            words: vec![0; BYTES as usize / 8],
            allocated: Vec::new(),
            calls: 0,
            mistake: mistake.map(|mistake| (call, mistake)),
            has_failed: false,
            has_erred: false,
        })
    }

    /// Returns a table with everything in it.
    pub(crate) fn table(&mut self) -> adaloss_device {
        adaloss_device {
            context: ptr::from_mut(self).cast(),
            bytes: size_of::<adaloss_device>() as u32,
            capabilities: ADALOSS_SUBNORMALS
                | ADALOSS_STOCHASTIC_ROUNDING
                | ADALOSS_SEQUENTIAL_SUMS,
            allocate: Some(allocate),
            free: Some(free),
            read: Some(read),
            write: Some(write),
            statistics: Some(statistics),
            apply: Some(apply),
            propagate: Some(propagate),
            unscale: Some(unscale),
            matmul: Some(matmul),
        }
    }

    /// Allocates as the library would.
    pub(crate) fn allocate(&mut self, bytes: u64) -> u64 {
        let address = self.room(bytes).expect("it is empty");
        self.allocated.push((address, bytes));
        address
    }

    /// Tells whether nothing is allocated.
    pub(crate) fn is_empty(&self) -> bool {
        self.allocated.is_empty()
    }

    /// Counts a call; returns the mistake to make.
    fn turn(&mut self) -> Option<Mistake> {
        let made = match self.mistake {
            _ if self.calls >= CALLS => Some(Mistake::Fails),
            Some((call, mistake)) if call == self.calls => Some(mistake),
            _ => None,
        };
        self.calls += 1;
        self.has_failed |= made == Some(Mistake::Fails);
        self.has_erred |= made.is_some();
        made
    }

    /// Returns the code of a call that nothing is to be done in.
    fn refused(&mut self) -> Option<adaloss_code> {
        let mistake = self.turn()?;
        Some(if mistake == Mistake::Fails { FAILED } else { ADALOSS_OK })
    }

    /// Finds room: the lowest address where so many bytes are free.
    fn room(&self, bytes: u64) -> Option<u64> {
        let ends =
            self.allocated.iter().map(|&(address, bytes)| address + bytes.next_multiple_of(8));
        let inside = FIRST..FIRST + BYTES;
        let mut places: Vec<_> = ends.filter(|end| inside.contains(end)).chain([FIRST]).collect();
        places.sort_unstable();
        places.into_iter().find(|&place| {
            let fits = bytes <= FIRST + BYTES - place;
            let is_free = |&(other, length): &(u64, u64)| {
                other >= place.saturating_add(bytes) || other.saturating_add(length) <= place
            };
            fits && self.allocated.iter().all(is_free)
        })
    }

    /// Returns the place of an address that was given; `None` where there is no memory behind it.
    fn at(&mut self, address: u64, bytes: u64) -> Option<*mut u8> {
        if bytes == 0 {
            return Some(ptr::without_provenance_mut(8));
        }
        let within = |&(first, length): &(u64, u64)| {
            address >= first && bytes <= length && address - first <= length - bytes
        };
        assert!(self.allocated.iter().any(within), "{bytes} bytes at {address:#x}");
        let is_real = (FIRST..FIRST + BYTES).contains(&address);
        is_real
            .then(|| self.words.as_mut_ptr().cast::<u8>().wrapping_add((address - FIRST) as usize))
    }

    fn one<T>(&mut self, address: u64) -> Option<*mut T> {
        self.at(address, size_of::<T>() as u64).map(<*mut u8>::cast)
    }

    /// Names elements of an encoding.
    fn elements(&mut self, address: u64, encoding: u8, count: usize) -> Option<*mut c_void> {
        let width = Encoding::ALL[usize::from(encoding)].bits() / 8;
        self.at(address, u64::from(width) * count as u64).map(<*mut u8>::cast)
    }

    /// Does with f32 results what an epilogue says.
    ///
    /// What a mistake has left in memory may be refused.
    fn end(&mut self, results: &[f32], to: u64, epilogue: &adaloss_epilogue) -> Option<()> {
        let from = unsafe { (*self.one::<adaloss_cell>(epilogue.from)?).scale_log2 };
        let leaving = unsafe { (*self.one::<adaloss_cell>(epilogue.to)?).scale_log2 };
        let (values, count) = (results.as_ptr(), results.len());
        if epilogue.measures != 0 {
            let histogram = self.one(epilogue.histogram)?;
            let log2 = from.into();
            let code =
                unsafe { adaloss_statistics_histogram_observe(histogram, values, count, log2) };
            assert!(code == ADALOSS_OK || self.has_erred, "{code}");
        }
        if epilogue.stores != 0 {
            let to = self.elements(to, epilogue.narrowing.format.encoding, count)?;
            let outcome = self.one(epilogue.outcome)?;
            let shift = i32::from(leaving) - i32::from(from);
            let (how, noise) = (epilogue.narrowing, epilogue.noise);
            let code =
                unsafe { adaloss_apply_values(how, shift, noise, 0, values, count, to, outcome) };
            assert!(code == ADALOSS_OK || self.has_erred, "{code}");
        }
        Some(())
    }

    /// Widens elements.
    fn widened(&mut self, format: adaloss_format, address: u64, count: usize) -> Option<Vec<f32>> {
        let from = self.elements(address, format.encoding, count)?;
        let mut to = vec![0.0; count];
        let code = unsafe { adaloss_format_widen(format, from, count, to.as_mut_ptr()) };
        assert_eq!(code, ADALOSS_OK);
        Some(to)
    }
}

/// Runs an operation, unless a mistake is due.
///
/// # Safety
///
/// `context` is that of a table.
unsafe fn operate(
    context: *mut c_void,
    operation: impl FnOnce(&mut Device) -> Option<()>,
) -> adaloss_code {
    let device = unsafe { &mut *context.cast::<Device>() };
    device.refused().unwrap_or_else(|| {
        // Where there is no memory there is nothing to be done.
        let _ = operation(device);
        ADALOSS_OK
    })
}

unsafe extern "C" fn allocate(context: *mut c_void, bytes: u64, to: *mut u64) -> adaloss_code {
    let device = unsafe { &mut *context.cast::<Device>() };
    assert_ne!(bytes, 0);
    let address = match device.turn() {
        Some(Mistake::Fails) => return FAILED,
        Some(Mistake::DoesNothing) => unsafe { *to },
        // Not where others have theirs.
        Some(Mistake::Answers(word)) if (FIRST..FIRST + BYTES).contains(&word) => word << 1,
        Some(Mistake::Answers(word)) => word,
        None => match device.room(bytes) {
            Some(address) => address,
            None => return ADALOSS_ERROR_MEMORY,
        },
    };
    device.allocated.push((address, bytes));
    if let Some(place) = device.at(address, bytes) {
        unsafe { place.write_bytes(0, bytes as usize) };
    }
    unsafe { to.write(address) };
    ADALOSS_OK
}

unsafe extern "C" fn free(context: *mut c_void, address: u64, bytes: u64) {
    let device = unsafe { &mut *context.cast::<Device>() };
    let found = device.allocated.iter().position(|&given| given == (address, bytes));
    device.allocated.swap_remove(found.expect("what was allocated"));
}

unsafe extern "C" fn read(
    context: *mut c_void,
    from: u64,
    to: *mut c_void,
    bytes: usize,
) -> adaloss_code {
    let device = unsafe { &mut *context.cast::<Device>() };
    assert_ne!(bytes, 0);
    let place = device.at(from, bytes as u64);
    let to = unsafe { slice::from_raw_parts_mut(to.cast::<u8>(), bytes) };
    match (device.turn(), place) {
        (Some(Mistake::Fails), _) => return FAILED,
        (Some(Mistake::Answers(word)), _) => {
            let filling = word.to_ne_bytes().into_iter().cycle();
            to.iter_mut().zip(filling).for_each(|(to, byte)| *to = byte);
        }
        (None, Some(place)) => unsafe { to.as_mut_ptr().copy_from(place, bytes) },
        (Some(Mistake::DoesNothing), _) | (None, None) => {}
    }
    ADALOSS_OK
}

unsafe extern "C" fn write(
    context: *mut c_void,
    from: *const c_void,
    to: u64,
    bytes: usize,
) -> adaloss_code {
    unsafe {
        operate(context, |device| {
            assert_ne!(bytes, 0);
            device.at(to, bytes as u64)?.copy_from(from.cast(), bytes);
            Some(())
        })
    }
}

unsafe extern "C" fn statistics(
    context: *mut c_void,
    format: adaloss_format,
    values: u64,
    count: usize,
    statistics: u64,
) -> adaloss_code {
    unsafe {
        operate(context, |device| {
            let values = device.elements(values, format.encoding, count)?;
            let code = adaloss_statistics_observe(device.one(statistics)?, format, values, count);
            assert!(code == ADALOSS_OK || device.has_erred, "{code}");
            Some(())
        })
    }
}

unsafe extern "C" fn apply(
    context: *mut c_void,
    values: u64,
    count: usize,
    to: u64,
    epilogue: *const adaloss_epilogue,
) -> adaloss_code {
    unsafe {
        operate(context, |device| {
            let values = device.at(values, 4 * count as u64)?.cast::<f32>();
            let values = slice::from_raw_parts(values, count).to_vec();
            device.end(&values, to, &*epilogue)
        })
    }
}

unsafe extern "C" fn propagate(
    context: *mut c_void,
    branches: *const adaloss_device_branch,
    branch_count: usize,
    count: usize,
    to: u64,
    epilogue: *const adaloss_epilogue,
) -> adaloss_code {
    unsafe {
        operate(context, |device| {
            assert!((1..=ADALOSS_DEVICE_BRANCHES).contains(&branch_count));
            let (branches, epilogue) = (slice::from_raw_parts(branches, branch_count), &*epilogue);
            let mut parts = Vec::new();
            for branch in branches {
                let scale = (*device.one::<adaloss_cell>(branch.cell)?).scale_log2;
                let format = epilogue.narrowing.format;
                parts.push((device.widened(format, branch.gradient, count)?, scale));
            }
            let common = (*device.one::<adaloss_cell>(epilogue.from)?).scale_log2;
            let mut sums = vec![0.0; count];
            let scale = |log2: i16| Scale::saturating(log2.into());
            let parts = parts.iter().map(|(part, log2)| (part.as_slice(), scale(*log2)));
            sum_at(Format::BINARY32, parts, scale(common), &mut sums);
            device.end(&sums, to, epilogue)
        })
    }
}

unsafe extern "C" fn unscale(
    context: *mut c_void,
    format: adaloss_format,
    gradient: u64,
    count: usize,
    cell: u64,
    to: u64,
    met: u64,
) -> adaloss_code {
    unsafe {
        operate(context, |device| {
            let gradient = device.elements(gradient, format.encoding, count)?;
            let log2 = (*device.one::<adaloss_cell>(cell)?).scale_log2.into();
            let (to, met) = (device.at(to, 4 * count as u64)?.cast(), device.one(met)?);
            let code = adaloss_unscale_values(format, gradient, count, log2, to, met);
            assert!(code == ADALOSS_OK || device.has_erred, "{code}");
            Some(())
        })
    }
}

unsafe extern "C" fn matmul(
    context: *mut c_void,
    product: *const adaloss_product,
    a: u64,
    b: u64,
    bias: u64,
    to: u64,
    epilogue: *const adaloss_epilogue,
) -> adaloss_code {
    unsafe {
        operate(context, |device| {
            let adaloss_product { rows, inner, columns, transpose_a, transpose_b, .. } = *product;
            let a = device.widened((*product).a, a, rows * inner)?;
            let b = device.widened((*product).b, b, inner * columns)?;
            let mut sums = vec![0.0; rows * columns];
            if (*product).has_bias != 0 {
                let binary32 = adaloss_format::from(Format::BINARY32);
                let bias = device.widened(binary32, bias, columns)?;
                sums.chunks_mut(columns.max(1)).for_each(|row| row.copy_from_slice(&bias));
            }
            for (nth, sum) in sums.iter_mut().enumerate() {
                let (row, column) = (nth / columns, nth % columns);
                for k in 0..inner {
                    let a = a[if transpose_a != 0 { k * rows + row } else { row * inner + k }];
                    let b =
                        b[if transpose_b != 0 { column * inner + k } else { k * columns + column }];
                    *sum += a * b;
                }
            }
            device.end(&sums, to, &*epilogue)
        })
    }
}

/// Runs a pass of the scaler on a device, as a program would; at first with addresses that no structure can have, if
/// they are to be `refused`.
///
/// # Safety
///
/// The pass is one that the scaler handed out, and the scaler still exists.
pub(crate) unsafe fn pass(
    device: &mut Device,
    pass: *mut adaloss_pass,
    values: &[f32],
    refused: bool,
) -> adaloss_code {
    let (table, count) = (device.table(), values.len());
    let mut epilogue = adaloss_epilogue {
        from: 0,
        to: 0,
        outcome: 0,
        histogram: 0,
        narrowing: adaloss_narrowing {
            format: adaloss_format { encoding: 0, subnormals: 0 },
            rounding: 0,
            overflow: 0,
        },
        noise: adaloss_noise { seed: 0, stream: 0 },
        stores: 0,
        measures: 0,
        reserved: 0,
    };
    unsafe {
        // Before anything is copied.
        let wrong = [(FIRST + 4, ADALOSS_ERROR_ALIGNMENT), (u64::MAX - 7, ADALOSS_ERROR_LENGTH)];
        for (wrong, code) in wrong.into_iter().filter(|_| refused) {
            assert_eq!(adaloss_device_write_pass(&table, pass, wrong, &mut epilogue), code);
        }
        let memory = device.allocate(size_of::<adaloss_device_pass>() as u64);
        let from = device.allocate(4 * count as u64 + 4);
        let to = device.allocate(4 * count as u64 + 4);
        if let Some(place) = device.at(from, 4 * count as u64) {
            place.cast::<f32>().copy_from(values.as_ptr(), count);
        }
        let mut code = adaloss_device_write_pass(&table, pass, memory, &mut epilogue);
        if code == ADALOSS_OK {
            code = apply(table.context, from, count, to, &epilogue);
        }
        if code == ADALOSS_OK {
            code = adaloss_device_read_pass(&table, pass, &epilogue);
        }
        assert!(code == ADALOSS_OK || device.has_erred, "{code}");
        assert!(code != ADALOSS_OK || !device.has_failed, "a failure was overlooked");
        code
    }
}

/// Checks a table, and puts the device through a part of the suite.
pub(crate) fn conform(u: &mut Unstructured<'_>, memory: &mut Memory) -> Result<()> {
    const NOTHING: adaloss_conformance = adaloss_conformance {
        operations: 1,
        refusals: 2,
        elements: 3,
        difference: [4; ADALOSS_DIFFERENCE_BYTES],
    };
    let mut device = Device::new(u)?;
    let mut table = device.table();
    let mut expected = ADALOSS_OK;
    let mut operation = ADALOSS_OK;
    match u.int_in_range(0..=15)? {
        0 => {
            table.bytes ^= 1 << u.int_in_range(0..=31)?;
            expected = ADALOSS_ERROR_LENGTH;
        }
        1 => {
            table.capabilities = 8 << u.int_in_range(0..=28)?;
            expected = ADALOSS_ERROR_ENUM;
        }
        2 => {
            match u.int_in_range(0..=3)? {
                0 => table.allocate = None,
                1 => table.free = None,
                2 => table.read = None,
                _ => table.write = None,
            }
            expected = ADALOSS_ERROR_NULL;
        }
        3 => {
            // No operation at all: the suite that needs one says so.
            (table.statistics, table.apply, table.propagate) = (None, None, None);
            (table.unscale, table.matmul) = (None, None);
            operation = ADALOSS_ERROR_OPERATION;
        }
        _ => table.capabilities = u.int_in_range(0..=7)?,
    }
    let named = pointer(u, &raw mut table)?;
    let is_named = !named.is_null() && named.is_aligned();
    let code = memory.call(|_| unsafe { adaloss_device_check(named) });
    assert!(if is_named { code == expected } else { code != ADALOSS_OK });

    let mut report = NOTHING;
    let to = pointer(u, &raw mut report)?;
    let encodings = [0; 3].map(|_| encoding(u).map(u32::from));
    let [a, b, encoding] = encodings;
    let (a, b, encoding) = (a?, b?, encoding?);
    let suite = u.int_in_range(0..=3)?;
    let code = memory.call(|_| unsafe {
        match suite {
            0 => adaloss_device_conform_memory(named, to),
            1 | 2 => adaloss_device_conform_narrow(named, encoding, to),
            _ => adaloss_device_conform_matmul(named, a, b, encoding, to),
        }
    });
    assert!(device.is_empty(), "{code}: not all was given back");
    match code {
        ADALOSS_OK => {
            assert!(!device.has_failed && report.difference[0] == 0 && report.operations > 0);
        }
        ADALOSS_ERROR_DIFFERS => {
            assert!(device.has_erred, "the device was right");
            let text = &report.difference;
            assert!(text[0] != 0 && text.contains(&0));
        }
        _ => {
            assert!(report == NOTHING && !device.has_failed, "{code}");
            let is_refused = !is_named
                || expected != ADALOSS_OK
                || operation != ADALOSS_OK
                || !ptr::eq(to, &report)
                || a.max(b).max(encoding) > 4
                || code == ADALOSS_ERROR_FORMAT;
            assert!(is_refused, "{code}");
        }
    }
    Ok(())
}
