//! The host's side through the simulated driver: what is launched, with what, and when it waits.

#![cfg(target_os = "linux")]

mod conforms;
mod errors;

use std::sync::LazyLock;

use adaloss_driver::Simulated;
use adaloss_gpu::{Cuda, GpuError};

static DRIVER: LazyLock<Simulated> =
    LazyLock::new(|| Simulated::open().expect("Cargo built the simulated driver"));

/// Opens a simulated GPU by its number.
fn open(ordinal: usize) -> Result<Cuda, GpuError> {
    LazyLock::force(&DRIVER);
    Cuda::new(ordinal)
}

/// Opens the first simulated GPU.
fn cuda() -> Cuda {
    open(0).expect("the simulated driver has a GPU")
}
