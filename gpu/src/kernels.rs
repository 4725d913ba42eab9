//! The entry points of the embedded PTX.

use std::sync::Arc;

use adaloss_core::format::Encoding;
use adaloss_kernels::tensor_cores::{self, SHARED_WORDS};
use cudarc::{
    driver::{
        CudaContext, CudaFunction, CudaModule, DeviceRepr,
        sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
    },
    nvrtc::Ptx,
};

use crate::GpuError;

/// What any GPU from compute capability 8.0 on compiles for itself, and what one of 9.0 takes.
const SM_80: &str = include_str!("../ptx/sm_80.ptx");
const SM_90A: &str = include_str!("../ptx/sm_90a.ptx");

/// The same, assembled for GPUs of 8.0 and later versions 8, of 8.9, and of 9.0.
const SM_80_CODE: &[u8] = include_bytes!("../ptx/sm_80.cubin");
const SM_89_CODE: &[u8] = include_bytes!("../ptx/sm_89.cubin");
const SM_90A_CODE: &[u8] = include_bytes!("../ptx/sm_90a.cubin");

/// Bytes of shared memory that a product is launched with.
const SHARED_BYTES: u32 = 4 * SHARED_WORDS as u32;

/// Threads of a block that does not multiply.
pub(crate) const THREADS: u32 = 256;

/// An entry point.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) function: CudaFunction,
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Bytes of shared memory that a launch asks for, beside what the kernel has.
    pub(crate) shared_bytes: u32,
    /// How many of its blocks a multiprocessor runs at a time: what registers and shared memory leave room for, as the
    /// driver reports it.
    pub(crate) resident: u32,
}

/// An entry point per encoding, in the order of [`Encoding::ALL`].
pub(crate) type PerEncoding = Vec<Kernel>;

/// The entry points.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Whether the driver has compiled them.
    pub(crate) are_compiled: bool,
    pub(crate) statistics: PerEncoding,
    pub(crate) apply: PerEncoding,
    pub(crate) propagate: PerEncoding,
    pub(crate) unscale: PerEncoding,
    pub(crate) unscale_all: PerEncoding,
    pub(crate) sgd: PerEncoding,
    pub(crate) widen: PerEncoding,
    pub(crate) narrow: PerEncoding,
    pub(crate) multiply: PerEncoding,
    /// For elements of 8 bits, by their encoding: factors of binary16, and of bfloat16.
    pub(crate) factors: Vec<(Encoding, [Kernel; 2])>,
    pub(crate) advance: Kernel,
    pub(crate) describe: Kernel,
    pub(crate) close: Kernel,
    pub(crate) judge: Kernel,
    pub(crate) conclude: Kernel,
    pub(crate) relu: PerEncoding,
    /// By the encoding of the gradient.
    pub(crate) relu_input: PerEncoding,
    pub(crate) dropout: PerEncoding,
    pub(crate) embed: PerEncoding,
    pub(crate) normalise: PerEncoding,
    pub(crate) normalise_input: PerEncoding,
    pub(crate) max_pool: PerEncoding,
    pub(crate) unpool: PerEncoding,
    pub(crate) pick: PerEncoding,
    pub(crate) pool: PerEncoding,
    pub(crate) convolve: PerEncoding,
    pub(crate) attend: PerEncoding,
    pub(crate) attend_input: PerEncoding,
    pub(crate) attend_totals: Kernel,
    pub(crate) moments: Kernel,
    pub(crate) moments_of_parts: Kernel,
    pub(crate) sums_of_parts: Kernel,
    pub(crate) normalise_sums: Kernel,
    pub(crate) embed_links: Kernel,
    pub(crate) embed_table: Kernel,
    pub(crate) accumulate: Kernel,
    pub(crate) blend: Kernel,
    pub(crate) loss_weights: Kernel,
    pub(crate) softmax_cross_entropy: Kernel,
    pub(crate) square_norm: Kernel,
    pub(crate) add_sums: Kernel,
    pub(crate) sgd_step: Kernel,
    pub(crate) adamw_step: Kernel,
    /// Of factors of binary16 and of bfloat16.
    pub(crate) on_tensor_cores: [OnTensorCores; 2],
    /// What adds up the parts of products, into binary16, bfloat16 and f32.
    pub(crate) add_parts: [Kernel; 3],
}

/// What tensor cores compute of factors of one format.
#[derive(Debug)]
pub(crate) struct OnTensorCores {
    /// Products, for each way that the operands may be stored: as `op(A)` and `op(B)` are, `B`
    /// transposed, `A` transposed, both.
    pub(crate) products: [Widths; 4],
    /// Convolutions, in each direction.
    pub(crate) convolutions: [Widths; 3],
}

/// One kernel for tiles of either width: narrowing to the format of the operands, and into f32, which may be added to what is
/// there.
#[derive(Debug)]
pub(crate) struct Widths {
    wide: [Kernel; 2],
    /// There is none where results are hardly ever so few columns.
    slim: Option<[Kernel; 2]>,
}

impl Widths {
    /// Returns the kernels for sums of few columns, or of any number.
    pub(crate) fn of(&self, is_slim: bool) -> [&Kernel; 2] {
        self.slim.as_ref().filter(|_| is_slim).unwrap_or(&self.wide).each_ref()
    }

    fn all(&self) -> impl Iterator<Item = &Kernel> {
        self.wide.iter().chain(self.slim.iter().flatten())
    }
}

impl Kernels {
    /// Loads the kernels for a device: machine code where there is some and it is not to be left aside, and the
    /// PTX where there is none or the driver refuses it.
    pub(crate) fn load(context: &Arc<CudaContext>, from_text: bool) -> Result<Self, GpuError> {
        let capability = context.compute_capability().map_err(GpuError::of("its version"))?;
        let (text, code) = match capability {
            (9, 0) => (SM_90A, Some(SM_90A_CODE)),
            (8, 9) => (SM_80, Some(SM_89_CODE)),
            (8, _) => (SM_80, Some(SM_80_CODE)),
            (9.., _) => (SM_80, None),
            found => return Err(GpuError::Capability { found }),
        };
        let code = code.filter(|_| !from_text).map(|code| Ptx::from_binary(code.into()));
        let assembled = code.and_then(|code| context.load_module(code).ok());
        let are_compiled = assembled.is_none();
        let module = match assembled {
            Some(module) => module,
            None => context
                .load_module(Ptx::from_src(text))
                .map_err(GpuError::of("to load the kernels"))?,
        };
        Ok(Self {
            are_compiled,
            statistics: per_encoding(&module, "statistics")?,
            apply: per_encoding(&module, "apply")?,
            propagate: per_encoding(&module, "propagate")?,
            unscale: per_encoding(&module, "unscale_one")?,
            unscale_all: per_encoding(&module, "unscale")?,
            sgd: per_encoding(&module, "sgd")?,
            widen: per_encoding(&module, "widen")?,
            narrow: per_encoding(&module, "narrow")?,
            multiply: per_encoding(&module, "multiply")?,
            factors: factors(&module)?,
            advance: kernel(&module, "adaloss_advance", 0)?,
            describe: kernel(&module, "adaloss_describe", 0)?,
            close: kernel(&module, "adaloss_close", 0)?,
            judge: kernel(&module, "adaloss_judge", 0)?,
            conclude: kernel(&module, "adaloss_conclude", 0)?,
            relu: per_encoding(&module, "relu")?,
            relu_input: per_encoding(&module, "relu_input")?,
            dropout: per_encoding(&module, "dropout")?,
            embed: per_encoding(&module, "embed")?,
            normalise: per_encoding(&module, "normalise")?,
            normalise_input: per_encoding(&module, "normalise_input")?,
            max_pool: per_encoding(&module, "max_pool")?,
            unpool: per_encoding(&module, "unpool")?,
            pick: per_encoding(&module, "pick")?,
            pool: per_encoding(&module, "pool")?,
            convolve: per_encoding(&module, "convolve")?,
            attend: per_encoding(&module, "attend")?,
            attend_input: per_encoding(&module, "attend_input")?,
            attend_totals: kernel(&module, "adaloss_attend_totals", 0)?,
            moments: kernel(&module, "adaloss_moments", 0)?,
            moments_of_parts: kernel(&module, "adaloss_moments_of_parts", 0)?,
            sums_of_parts: kernel(&module, "adaloss_sums_of_parts", 0)?,
            normalise_sums: kernel(&module, "adaloss_normalise_sums", 0)?,
            embed_links: kernel(&module, "adaloss_embed_links", 0)?,
            embed_table: kernel(&module, "adaloss_embed_table", 0)?,
            accumulate: kernel(&module, "adaloss_accumulate", 0)?,
            blend: kernel(&module, "adaloss_blend", 0)?,
            loss_weights: kernel(&module, "adaloss_loss_weights", 0)?,
            softmax_cross_entropy: kernel(&module, "adaloss_softmax_cross_entropy", 0)?,
            square_norm: kernel(&module, "adaloss_square_norm", 0)?,
            add_sums: kernel(&module, "adaloss_add_sums", 0)?,
            sgd_step: kernel(&module, "adaloss_sgd_step", 0)?,
            adamw_step: kernel(&module, "adaloss_adamw_step", 0)?,
            on_tensor_cores: [on_tensor_cores(&module, "f16")?, on_tensor_cores(&module, "bf16")?],
            add_parts: [
                kernel(&module, "adaloss_add_parts_f16", 0)?,
                kernel(&module, "adaloss_add_parts_bf16", 0)?,
                kernel(&module, "adaloss_add_parts_f32", 0)?,
            ],
        })
    }
}

impl Kernels {
    /// Returns all entry points.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Kernel> {
        let per_encoding = [
            &self.statistics,
            &self.apply,
            &self.propagate,
            &self.unscale,
            &self.unscale_all,
            &self.sgd,
            &self.widen,
            &self.narrow,
            &self.multiply,
            &self.relu,
            &self.relu_input,
            &self.dropout,
            &self.embed,
            &self.normalise,
            &self.normalise_input,
            &self.max_pool,
            &self.unpool,
            &self.pick,
            &self.pool,
            &self.convolve,
            &self.attend,
            &self.attend_input,
        ];
        let of_layers = [
            &self.attend_totals,
            &self.moments,
            &self.moments_of_parts,
            &self.sums_of_parts,
            &self.normalise_sums,
            &self.embed_links,
            &self.embed_table,
            &self.accumulate,
            &self.blend,
            &self.loss_weights,
            &self.softmax_cross_entropy,
            &self.square_norm,
            &self.add_sums,
            &self.sgd_step,
            &self.adamw_step,
        ];
        let products = self
            .on_tensor_cores
            .iter()
            .flat_map(|of| of.products.iter().chain(&of.convolutions).flat_map(Widths::all));
        let of_scalers = [&self.advance, &self.describe, &self.close, &self.judge, &self.conclude];
        let factors = self.factors.iter().flat_map(|(_, kernels)| kernels);
        let of_parts = self.add_parts.iter().chain(products).chain(factors);
        per_encoding.into_iter().flatten().chain(of_scalers).chain(of_layers).chain(of_parts)
    }
}

fn factors(module: &Arc<CudaModule>) -> Result<Vec<(Encoding, [Kernel; 2])>, GpuError> {
    let of_8_bits = Encoding::ALL.into_iter().filter(|encoding| encoding.bits() == 8);
    let kernels = |encoding: Encoding| {
        let to = |factor| {
            let element = encoding.short_name();
            kernel(module, &format!("adaloss_factors_{element}_{factor}"), 0)
        };
        Ok((encoding, [to("f16")?, to("bf16")?]))
    };
    of_8_bits.map(kernels).collect()
}

fn on_tensor_cores(module: &Arc<CudaModule>, element: &str) -> Result<OnTensorCores, GpuError> {
    let both = |name: String| {
        let to = |to: &str| kernel(module, &format!("adaloss_{name}_{element}{to}"), SHARED_BYTES);
        Ok::<_, GpuError>([to("")?, to("_f32")?])
    };
    let product = |stored| {
        let slim = both(format!("matmul_slim_{stored}"))?;
        Ok::<_, GpuError>(Widths { wide: both(format!("matmul_{stored}"))?, slim: Some(slim) })
    };
    let convolution = |direction, has_slim| {
        let slim = match has_slim {
            true => Some(both(format!("implicit_slim_{direction}"))?),
            false => None,
        };
        Ok::<_, GpuError>(Widths { wide: both(format!("implicit_{direction}"))?, slim })
    };
    Ok(OnTensorCores {
        products: [product("nn")?, product("nt")?, product("tn")?, product("tt")?],
        convolutions: [
            convolution("output", true)?,
            convolution("input", true)?,
            convolution("weight", false)?,
        ],
    })
}

/// Finds a kernel, and allows it the shared memory that it is launched with.
fn kernel(module: &Arc<CudaModule>, name: &str, shared_bytes: u32) -> Result<Kernel, GpuError> {
    let function = module.load_function(name).map_err(GpuError::of("a kernel by its name"))?;
    let threads = if shared_bytes > 0 {
        // It may be more than a kernel has unasked.
        function
            .set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes as i32)
            .map_err(GpuError::of("the shared memory of a product"))?;
        tensor_cores::THREADS
    } else {
        THREADS
    };
    let resident = function
        .occupancy_max_active_blocks_per_multiprocessor(threads, shared_bytes as usize, None)
        .map_err(GpuError::of("how many blocks fit"))?;
    Ok(Kernel { name: name.into(), function, threads, shared_bytes, resident: resident.max(1) })
}

fn per_encoding(module: &Arc<CudaModule>, room: &str) -> Result<PerEncoding, GpuError> {
    let name = |encoding: Encoding| format!("adaloss_{room}_{}", encoding.short_name());
    Encoding::ALL.into_iter().map(|encoding| kernel(module, &name(encoding), 0)).collect()
}

/// A parameter that is passed by value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Parameter<T>(pub(crate) T);

// SAFETY: only structures of the kernels are wrapped, which are `repr(C)` on either side.
unsafe impl<T: Copy> DeviceRepr for Parameter<T> {}
