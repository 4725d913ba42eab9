//! A C program's memory: one of everything that functions read and write, and two of most.

use std::{
    ffi::{CStr, c_void},
    mem::{MaybeUninit, offset_of},
    ops::{Deref, DerefMut},
    slice,
};

use adaloss::*;
use arbitrary::{Result, Unstructured};

/// Elements of a tensor, cells of a scaler.
pub(crate) const COUNT: usize = 24;
pub(crate) const CELLS: usize = 4;

/// The memory, which C's pointers point into while a function runs: named by a pointer itself, so that
/// no reference to it lives then.
pub(crate) struct Memory(*mut Contents);

impl Deref for Memory {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        // SAFETY: the pointer is that of a box, and references end before functions are called.
        unsafe { &*self.0 }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut Contents {
        // SAFETY: as above.
        unsafe { &mut *self.0 }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of a box, and nothing has another.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// All of it.  What comes before `checkpoint` may be overwritten in any way; cells and scalers are
/// the library's while they are in use.
#[repr(C)]
pub(crate) struct Contents {
    pub(crate) configs: [adaloss_config; 2],
    pub(crate) histograms: [adaloss_histogram; 2],
    pub(crate) outcomes: [adaloss_outcome; 2],
    pub(crate) statistics: [adaloss_statistics; 2],
    pub(crate) log_statistics: [adaloss_log_statistics; 2],
    pub(crate) operands: adaloss_operands,
    pub(crate) cell: adaloss_cell,
    pub(crate) record: adaloss_record,
    pub(crate) seen: [adaloss_seen; 2],
    pub(crate) certificate: adaloss_certificate,
    pub(crate) met: adaloss_unscaled,
    pub(crate) limits: adaloss_limits,
    pub(crate) visit: adaloss_visit,
    pub(crate) verdict: adaloss_verdict,
    pub(crate) totals: adaloss_totals,
    /// Places for single numbers.
    pub(crate) numbers: [u64; 4],
    pub(crate) values: [f32; COUNT],
    pub(crate) results: [f32; COUNT],
    /// Elements of any encoding, two tensors of them.
    pub(crate) elements: [[u32; COUNT]; 2],
    pub(crate) scales_log2: [i32; COUNT],
    pub(crate) checkpoint: [u64; BYTES.div_ceil(8)],
    /// What a rank brings to a step; with what others brought, once it was merged.
    pub(crate) message: [u64; MESSAGE.div_ceil(8)],
    pub(crate) digests: [u64; DIGESTS],
    pub(crate) cells: [adaloss_cell; CELLS],
    pub(crate) scaler: adaloss_scaler,
}

/// The size of a checkpoint.
pub(crate) const BYTES: usize = 100 + 28 * CELLS;
/// The size of a message of ranks, and how many digests there are.
pub(crate) const MESSAGE: usize = 80 + 6 * CELLS;
pub(crate) const DIGESTS: usize = 2 + CELLS;

impl Memory {
    pub(crate) fn zeroed() -> Self {
        // SAFETY: numbers, and structures of numbers.
        Self(Box::into_raw(Box::new(unsafe { MaybeUninit::zeroed().assume_init() })))
    }

    /// Writes over some of what no scaler has: a few bytes, or a value, or zeros.
    pub(crate) fn overwrite(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let end = offset_of!(Contents, checkpoint) / 8;
        // SAFETY: so many words lie before the checkpoint, and any bytes are legal there.
        let words = unsafe { slice::from_raw_parts_mut(self.0.cast::<u64>(), end) };
        let first = u.int_in_range(0..=end - 1)?;
        match u.int_in_range(0..=3)? {
            0 => words[first] = u.arbitrary()?,
            1 => words[first] ^= 1 << u.int_in_range(0..=63)?,
            2 => words[first] = words[u.int_in_range(0..=end - 1)?],
            _ => words[first..].iter_mut().take(u.int_in_range(0..=64)?).for_each(|word| *word = 0),
        }
        Ok(())
    }

    /// Calls a function of the library; it has to return a code that there is, and where that is an
    /// error, to leave everything as it was.
    pub(crate) fn call(
        &mut self,
        function: impl FnOnce(*mut Contents) -> adaloss_code,
    ) -> adaloss_code {
        let before = self.bytes().to_vec();
        let code = self.call_any(function);
        if code != ADALOSS_OK {
            self.is_as(&before, code);
        }
        code
    }

    /// The same for a function that may write where there is no value, too.
    pub(crate) fn call_for_some(
        &mut self,
        function: impl FnOnce(*mut Contents) -> adaloss_code,
    ) -> adaloss_code {
        let before = self.bytes().to_vec();
        let code = self.call_any(function);
        if code != ADALOSS_OK && code != ADALOSS_NONE {
            self.is_as(&before, code);
        }
        code
    }

    /// Finds what was written although a code says that nothing was.
    fn is_as(&self, before: &[u8], code: adaloss_code) {
        // Compared as a whole first: most calls leave everything as it was.
        if before != self.bytes() {
            let differs = before.iter().zip(self.bytes()).position(|(was, is)| was != is);
            panic!("code {code}, and yet something was written at byte {differs:?}");
        }
    }

    /// The same for a function of a visit: what is refused is noted in the scaler, and nowhere else.
    pub(crate) fn visits(
        &mut self,
        function: impl FnOnce(*mut Contents) -> adaloss_code,
    ) -> adaloss_code {
        let outside = offset_of!(Contents, scaler);
        let before = self.bytes()[..outside].to_vec();
        let code = self.call_any(function);
        assert!(code == ADALOSS_OK || before == self.bytes()[..outside], "code {code} wrote");
        code
    }

    /// The same for a function of which nothing is known but its codes.
    fn call_any(&mut self, function: impl FnOnce(*mut Contents) -> adaloss_code) -> adaloss_code {
        let code = function(self.0);
        // SAFETY: the text of a code, which is never NULL.
        let text = unsafe { CStr::from_ptr(adaloss_code_text(code)) };
        assert_ne!(text, c"no code of this library", "{code}");
        code
    }

    /// The same for a function that a legal call was made of.
    pub(crate) fn succeeds(&mut self, function: impl FnOnce(*mut Contents) -> adaloss_code) {
        assert_eq!(self.call(function), ADALOSS_OK);
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: no structure has padding, and what the library keeps in a scaler was zero before.
        unsafe { slice::from_raw_parts(self.0.cast(), size_of::<Contents>()) }
    }
}

/// Names elements of any type.
pub(crate) fn any<T>(elements: *mut T) -> *mut c_void {
    elements.cast()
}
