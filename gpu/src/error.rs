//! What can go wrong on a GPU.

use std::{error, fmt};

use adaloss_core::format::Encoding;
use adaloss_hal::{Error, ErrorKind, Misfit};
use cudarc::driver::{DriverError, sys::CUresult};

/// An operation that a GPU did not do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GpuError {
    /// The CUDA driver is not installed: there is no `libcuda`.
    NoDriver,
    /// There is no GPU of that number.
    NoDevice {
        /// The number that was asked for, from 0.
        ordinal: usize,
        /// How many GPUs there are.
        count: usize,
    },
    /// The GPU is older than the kernels: they need a compute capability of at least 8.0.
    Capability {
        /// The GPU's, as major and minor number.
        found: (i32, i32),
    },
    /// The driver refused a call.
    Driver {
        /// What it was asked for.
        what: &'static str,
        /// What it answered.
        error: DriverError,
    },
    /// An operand or a result has the wrong number of elements.
    Length {
        /// Which one.
        what: &'static str,
        /// The elements that the operation needs.
        expected: usize,
        /// The elements it was given.
        found: usize,
    },
    /// The operands of an operation do not fit.
    Misfit(Misfit),
    /// A join has more branches than [`MOST_BRANCHES`](crate::Cuda::MOST_BRANCHES).
    Branches {
        /// How many there were.
        count: usize,
    },
    /// A convolution or pooling has extents that kernels do not count to: 2^32 pixels, windows or terms, or more.
    Extent {
        /// How many there are.
        count: usize,
    },
    /// A conversion narrows to another encoding than that of the elements.
    Encoding {
        /// The encoding that is asked for.
        asked: Encoding,
        /// That of the elements.
        given: Encoding,
    },
    /// A graph is captured, which can contain only work of the device: nothing that waits for it,
    /// allocates, or reads memory of the host.
    Captured {
        /// What was asked for meanwhile.
        what: &'static str,
    },
    /// A tensor is not the one that a table was built with.
    Table {
        /// The row of the table, from 0.
        row: usize,
    },
    /// The GPU's memory is exhausted.
    Memory {
        /// The bytes that were asked for.
        bytes: u64,
    },
}

impl GpuError {
    /// Says what the driver was asked for when it refused.
    pub(crate) fn of(what: &'static str) -> impl FnOnce(DriverError) -> Self {
        move |error| Self::Driver { what, error }
    }

    /// Refuses another number of elements.
    pub(crate) fn length(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }

    /// Refuses what kernels do not count to.
    pub(crate) fn extents(counts: &[usize]) -> Result<(), Self> {
        match counts.iter().find(|&&count| u32::try_from(count).is_err()) {
            Some(&count) => Err(Self::Extent { count }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver => {
                f.write_str("the CUDA driver is not installed: no libcuda.so was found")
            }
            Self::NoDevice { ordinal, count } => {
                write!(f, "there is no GPU {ordinal}: the driver knows {count}")
            }
            Self::Capability { found: (major, minor) } => {
                write!(f, "the GPU's compute capability is {major}.{minor}; 8.0 is needed")
            }
            // Its text comes from the driver, which may have none.
            Self::Driver { what, error } => write!(f, "the driver refused {what}: {:?}", error.0),
            Self::Length { what, expected, found } => {
                write!(f, "{what} needs {expected} elements and has {found}")
            }
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Branches { count } => write!(f, "{count} branches are too many for one join"),
            Self::Extent { count } => {
                write!(
                    f,
                    "{count} pixels, windows or terms are more than {} of one operation",
                    u32::MAX
                )
            }
            Self::Encoding { asked, given } => {
                write!(f, "elements of {given:?} cannot be narrowed as {asked:?}")
            }
            Self::Captured { what } => {
                write!(f, "the GPU refuses {what} while a graph is captured")
            }
            Self::Table { row } => {
                write!(f, "a tensor is not the one of row {row}, with which the table was built")
            }
            Self::Memory { bytes } => write!(f, "the GPU has no memory for {bytes} bytes"),
        }
    }
}

impl error::Error for GpuError {}

impl Error for GpuError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Length { .. }
            | Self::Branches { .. }
            | Self::Extent { .. }
            | Self::Table { .. } => ErrorKind::Shape,
            Self::Misfit(misfit) => misfit.kind(),
            Self::Encoding { .. } => ErrorKind::Format,
            Self::Captured { .. } => ErrorKind::Other,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Driver { error, .. } if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                ErrorKind::Memory
            }
            Self::NoDriver
            | Self::NoDevice { .. }
            | Self::Capability { .. }
            | Self::Driver { .. } => ErrorKind::Hardware,
        }
    }

    fn misfit(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}
