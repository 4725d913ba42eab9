//! A device of the caller's own: a table of functions, and what this library does with it.

mod conformance;
mod memory;
mod operations;
mod pass;

use core::ffi::c_void;

pub use conformance::*;
pub use pass::*;

use memory::Foreign;

use crate::{
    ADALOSS_ERROR_ENUM, ADALOSS_ERROR_LENGTH, ADALOSS_ERROR_NULL, adaloss_code, adaloss_format,
    adaloss_narrowing, adaloss_noise,
    code::{Refused, code},
    memory::any_bytes,
};

/// Subnormals are numbers like any other.
pub const ADALOSS_SUBNORMALS: u32 = 1;

/// There is stochastic rounding.
pub const ADALOSS_STOCHASTIC_ROUNDING: u32 = 2;

/// A product sums its terms in the order of their index.
pub const ADALOSS_SEQUENTIAL_SUMS: u32 = 4;

/// The most branches of a join that a device is asked for.
pub const ADALOSS_DEVICE_BRANCHES: usize = 16;

/// Where the f32 results of an operation go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_epilogue {
    pub from: u64,
    pub to: u64,
    pub outcome: u64,
    pub histogram: u64,
    pub narrowing: adaloss_narrowing,
    pub noise: adaloss_noise,
    pub stores: u32,
    pub measures: u32,
    pub reserved: u32,
}

/// One branch of a join in the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_device_branch {
    pub gradient: u64,
    pub cell: u64,
}

/// A matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct adaloss_product {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    pub transpose_a: u8,
    pub transpose_b: u8,
    pub a: adaloss_format,
    pub b: adaloss_format,
    pub has_bias: u8,
    pub reserved: u8,
}

/// Gives memory of zero bytes.
pub type adaloss_device_allocate_function = Option<
    unsafe extern "C" fn(context: *mut c_void, bytes: u64, address: *mut u64) -> adaloss_code,
>;

/// Takes memory back.
pub type adaloss_device_free_function =
    Option<unsafe extern "C" fn(context: *mut c_void, address: u64, bytes: u64)>;

/// Waits, and copies to the host.
pub type adaloss_device_read_function = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        from: u64,
        to: *mut c_void,
        bytes: usize,
    ) -> adaloss_code,
>;

/// Copies from the host.
pub type adaloss_device_write_function = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        from: *const c_void,
        to: u64,
        bytes: usize,
    ) -> adaloss_code,
>;

/// Adds the statistics of a tensor.
pub type adaloss_device_statistics_function = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        format: adaloss_format,
        values: u64,
        count: usize,
        statistics: u64,
    ) -> adaloss_code,
>;

/// Narrows f32 values.
pub type adaloss_device_apply_function = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        values: u64,
        count: usize,
        to: u64,
        epilogue: *const adaloss_epilogue,
    ) -> adaloss_code,
>;

/// Sums branches, and narrows the sum.
pub type adaloss_device_propagate_function = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        branches: *const adaloss_device_branch,
        branch_count: usize,
        count: usize,
        to: u64,
        epilogue: *const adaloss_epilogue,
    ) -> adaloss_code,
>;

/// Widens a gradient and takes its scale away.
pub type adaloss_device_unscale_function = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        format: adaloss_format,
        gradient: u64,
        count: usize,
        cell: u64,
        to: u64,
        met: u64,
    ) -> adaloss_code,
>;

/// Multiplies matrices, and narrows the product.
pub type adaloss_device_matmul_function = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        product: *const adaloss_product,
        a: u64,
        b: u64,
        bias: u64,
        to: u64,
        epilogue: *const adaloss_epilogue,
    ) -> adaloss_code,
>;

/// A device of the caller's own.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct adaloss_device {
    pub context: *mut c_void,
    pub bytes: u32,
    pub capabilities: u32,
    pub allocate: adaloss_device_allocate_function,
    pub free: adaloss_device_free_function,
    pub read: adaloss_device_read_function,
    pub write: adaloss_device_write_function,
    pub statistics: adaloss_device_statistics_function,
    pub apply: adaloss_device_apply_function,
    pub propagate: adaloss_device_propagate_function,
    pub unscale: adaloss_device_unscale_function,
    pub matmul: adaloss_device_matmul_function,
}

any_bytes!(adaloss_epilogue, adaloss_device_branch, adaloss_product, adaloss_device);

impl adaloss_device {
    /// Refuses a table that no operation can be called from.
    fn check(&self) -> Result<(), Refused> {
        if self.bytes as usize != size_of::<Self>() {
            return Err(Refused(ADALOSS_ERROR_LENGTH));
        }
        let known = ADALOSS_SUBNORMALS | ADALOSS_STOCHASTIC_ROUNDING | ADALOSS_SEQUENTIAL_SUMS;
        if self.capabilities & !known != 0 {
            return Err(Refused(ADALOSS_ERROR_ENUM));
        }
        let Self { allocate, free, read, write, .. } = self;
        if allocate.is_none() || free.is_none() || read.is_none() || write.is_none() {
            return Err(Refused(ADALOSS_ERROR_NULL));
        }
        Ok(())
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_device_check(device: *const adaloss_device) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a table.
        unsafe { Foreign::new(device) }.map(drop)
    })
}
