//! The entry points of the embedded PTX.

use std::sync::Arc;

use adaloss_core::format::Encoding;
use cudarc::{
    driver::{CudaContext, CudaFunction, CudaModule, DeviceRepr},
    nvrtc::Ptx,
};

use crate::GpuError;

/// What any GPU from compute capability 8.0 on compiles for itself, and what one of 9.0 takes.
const SM_80: &str = include_str!("../ptx/sm_80.ptx");
const SM_90A: &str = include_str!("../ptx/sm_90a.ptx");

/// An entry point per encoding, in the order of [`Encoding::ALL`].
pub(crate) type PerEncoding = [CudaFunction; Encoding::ALL.len()];

/// The entry points.
#[derive(Debug)]
pub(crate) struct Kernels {
    pub(crate) statistics: PerEncoding,
    pub(crate) apply: PerEncoding,
    pub(crate) propagate: PerEncoding,
    pub(crate) unscale: PerEncoding,
    pub(crate) decide: CudaFunction,
    pub(crate) note: CudaFunction,
}

impl Kernels {
    /// Loads the PTX for a device.
    pub(crate) fn load(context: &Arc<CudaContext>) -> Result<Self, GpuError> {
        let capability = context.compute_capability().map_err(GpuError::of("its version"))?;
        let text = match capability {
            (9, 0) => SM_90A,
            (8.., _) => SM_80,
            found => return Err(GpuError::Capability { found }),
        };
        let module = context.load_module(Ptx::from_src(text));
        let module = module.map_err(GpuError::of("to load the kernels"))?;
        Ok(Self {
            statistics: per_encoding(&module, "statistics")?,
            apply: per_encoding(&module, "apply")?,
            propagate: per_encoding(&module, "propagate")?,
            unscale: per_encoding(&module, "unscale_one")?,
            decide: entry(&module, "adaloss_decide")?,
            note: entry(&module, "adaloss_note")?,
        })
    }
}

fn entry(module: &Arc<CudaModule>, name: &str) -> Result<CudaFunction, GpuError> {
    module.load_function(name).map_err(GpuError::of("a kernel by its name"))
}

fn per_encoding(module: &Arc<CudaModule>, kernel: &str) -> Result<PerEncoding, GpuError> {
    let of = |encoding| {
        let name = match encoding {
            Encoding::Binary16 => "f16",
            Encoding::BFloat16 => "bf16",
            Encoding::E5M2 => "e5m2",
            Encoding::E4M3 => "e4m3",
            Encoding::Binary32 => "f32",
        };
        entry(module, &format!("adaloss_{kernel}_{name}"))
    };
    let [a, b, c, d, e] = Encoding::ALL.map(of);
    Ok([a?, b?, c?, d?, e?])
}

/// A parameter that is passed by value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Parameter<T>(pub(crate) T);

// SAFETY: only structures of the kernels are wrapped, which are `repr(C)` on either side.
unsafe impl<T: Copy> DeviceRepr for Parameter<T> {}
