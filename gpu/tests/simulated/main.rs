//! The host's side through the simulated driver: what is launched, with what, and when it waits.

#![cfg(target_os = "linux")]

mod conforms;
mod convolution;
mod engine;
mod errors;
mod launch;
mod product;
mod step;
mod text;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use adaloss_driver::Simulated;
use adaloss_gpu::{Cuda, GpuError};

static DRIVER: LazyLock<Simulated> =
    LazyLock::new(|| Simulated::open().expect("Cargo built the simulated driver"));

/// To open a GPU waits for all of its context, which is refused while any thread captures a graph.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a simulated GPU by its number.
fn open(ordinal: usize) -> Result<Cuda, GpuError> {
    LazyLock::force(&DRIVER);
    let _alone = alone();
    Cuda::new(ordinal)
}

/// Opens the first simulated GPU.
fn cuda() -> Cuda {
    open(0).expect("the simulated driver has a GPU")
}
