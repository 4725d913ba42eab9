//! Addresses: which memory they are of, the device's memory, and the constant tables of a module.

use std::{borrow::Cow, collections::HashMap};

use crate::error::{FaultKind, Step, Stop};

/// The first address of shared memory in its own space: a GPU's system has the first KiB.
pub(crate) const SHARED_FIRST: u64 = 1024;

/// The first address of local memory in its own space: no variable is at zero.
pub(crate) const LOCAL_FIRST: u64 = 256;

/// Generic addresses of no memory that a host has: where tables, local and shared memory begin.
pub(crate) const TABLES_WINDOW: u64 = 0xfc00 << 48;
pub(crate) const LOCAL_WINDOW: u64 = 0xfd00 << 48;
pub(crate) const SHARED_WINDOW: u64 = 0xfe00 << 48;

/// The device's memory.
///
/// It answers whether all the bytes are there.  What is asked for is aligned already: one to sixteen bytes, or the
/// bytes of a whole warp, which are read or written one by one where they are refused.
pub trait GlobalMemory {
    /// Reads bytes.
    ///
    /// # Errors
    ///
    /// There are none, or not so many, or they may not be read.
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Refused>;

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// There are none, or not so many, or they may not be written.
    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Refused>;
}

/// Why memory was not accessed, as it is said after "8 bytes at 0x7f0000: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Cow<'static, str>);

impl Refused {
    /// There is no such memory.
    pub const NOWHERE: Self = Self(Cow::Borrowed("in no allocation"));
}

/// Which memory an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    Device,
    Tables,
    Shared,
    Local,
}

impl Area {
    /// Returns the area of a generic address, and its address there.
    #[inline(always)]
    pub(crate) fn of(address: u64) -> (Self, u64) {
        let within = address & (u64::MAX >> 16);
        match address - within {
            TABLES_WINDOW => (Self::Tables, within),
            LOCAL_WINDOW => (Self::Local, within),
            SHARED_WINDOW => (Self::Shared, within),
            _ => (Self::Device, address),
        }
    }
}

/// Bytes between tables, which belong to none.
const GAP: usize = 256;

/// The constant tables of a module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    bytes: Vec<u8>,
    /// Where each begins, and its bytes, in the order of addresses.
    extents: Vec<(usize, usize)>,
    names: HashMap<String, u64>,
}

impl Tables {
    /// Adds a table.
    pub(crate) fn add(&mut self, name: &str, align: usize, size: usize, values: &[u8]) {
        let first = (self.bytes.len() + GAP).next_multiple_of(align);
        self.bytes.resize(first, 0);
        self.bytes.extend(values);
        self.bytes.resize(first + size, 0);
        self.extents.push((first, size));
        self.names.insert(name.into(), TABLES_WINDOW + first as u64);
    }

    /// Returns the address of a table.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// Returns bytes at an address within the window, if they are of one table.
    pub(crate) fn read(&self, address: u64, bytes: usize) -> Option<&[u8]> {
        let address = usize::try_from(address).ok()?;
        let nth = self.extents.partition_point(|&(first, _)| first <= address).checked_sub(1)?;
        let (first, size) = self.extents[nth];
        let is_within = address - first + bytes <= size;
        is_within.then(|| &self.bytes[address..address + bytes])
    }
}

/// Says of which bytes something is.
pub(crate) fn bytes_at(bytes: usize, address: u64) -> String {
    format!("{bytes} bytes at {address:#x}")
}

/// Tells a lane that its address is wrong.
pub(crate) fn refuse<T>(lane: usize, bytes: usize, address: u64, why: &str) -> Step<T> {
    let what = format!("{}: {why}", bytes_at(bytes, address));
    Err(Stop::new(FaultKind::Address, lane as u32, what))
}
