//! The kernels' entry points on an NVIDIA GPU.
//!
//! Each is named `adaloss_` and the kernel, and the element type where there is one: `f16`, `bf16`,
//! `e5m2`, `e4m3` or `f32`.  Addresses are of the device's memory.  Blocks are of one dimension and have a
//! multiple of 32 threads; any number of blocks does the whole of the work.

#![no_std]
#![feature(abi_ptx, asm_experimental_arch, stdarch_nvptx)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the kernels say it, and no Rust calls an entry point"
)]

mod block;

use core::slice;

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, bf16, f16},
    statistics::Statistics,
};
use adaloss_kernels::{
    apply,
    epilogue::Epilogue,
    format as kernels,
    matmul::{self, Product},
    memory::Out,
    policy::{self, Decision, Note},
    propagate::{self, Branch},
    statistics,
    unscale::{self, Gradient, Into, Part},
    update::{self, Sgd, Weight},
};
use block::{EVERY, LAUNCHED, Ptx};

/// Names memory of the device; a tensor without elements may have any address.
///
/// # Safety
///
/// So many elements are there.
unsafe fn tensor<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(first, count) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it ends the kernel; no kernel has a path that comes here, which the build checks.
    unsafe { core::arch::nvptx::trap() }
}

/// Entry points for one element type.
macro_rules! entries {
    (
        $element:ty,
        $widen:ident,
        $narrow:ident,
        $statistics:ident,
        $apply:ident,
        $propagate:ident,
        $unscale:ident,
        $unscale_one:ident,
        $sgd:ident
    ) => {
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $widen(
            flushes: u32,
            values: *const $element,
            count: usize,
            to: *mut f32,
        ) {
            // SAFETY: the launcher's promise, which is that of the kernel.
            unsafe {
                let (format, to) = (format::<$element>(flushes), Out::new(to, count));
                kernels::widen(&mut Ptx(EVERY), format, tensor(values, count), to);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $narrow(
            values: *const f32,
            count: usize,
            to: *mut $element,
            narrowing: Narrowing,
            noise: Noise,
        ) {
            // SAFETY: as above.
            unsafe {
                let (values, to) = (tensor(values, count), Out::new(to, count));
                kernels::narrow(&mut Ptx(EVERY), narrowing, noise, values, to);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $statistics(
            flushes: u32,
            values: *const $element,
            count: usize,
            to: *mut Statistics,
        ) {
            // SAFETY: as above.
            unsafe {
                let format = format::<$element>(flushes);
                statistics::statistics(&mut Ptx(EVERY), format, tensor(values, count), to);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $apply(
            values: *const f32,
            count: usize,
            to: *mut $element,
            epilogue: Epilogue,
        ) {
            // SAFETY: as above.
            unsafe {
                let (values, to) = (tensor(values, count), Out::new(to, count));
                apply::apply(&mut Ptx(EVERY), values, to, &epilogue);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $propagate(
            branches: *const Branch<$element>,
            branch_count: u32,
            count: usize,
            to: *mut $element,
            epilogue: Epilogue,
        ) {
            // SAFETY: as above.
            unsafe {
                let branches = tensor(branches, branch_count as usize);
                propagate::propagate(&mut Ptx(EVERY), branches, Out::new(to, count), &epilogue);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $unscale(
            flushes: u32,
            gradients: *const Gradient<$element>,
            gradient_count: u32,
            parts: *const Part,
            part_count: usize,
            how: u32,
            bad: *mut u64,
        ) {
            // SAFETY: as above.
            unsafe {
                let format = format::<$element>(flushes);
                let gradients = tensor(gradients, gradient_count as usize);
                let parts = tensor(parts, part_count);
                unscale::unscale(&mut Ptx(EVERY), format, gradients, parts, into(how), bad);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $unscale_one(
            flushes: u32,
            gradient: Gradient<$element>,
            how: u32,
            bad: *mut u64,
        ) {
            // SAFETY: as above.
            unsafe {
                let format = format::<$element>(flushes);
                unscale::unscale_one(&mut Ptx(EVERY), format, &gradient, into(how), bad);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $sgd(
            flushes: u32,
            sgd: Sgd,
            weights: *const Weight<$element>,
            weight_count: u32,
            parts: *const Part,
            part_count: usize,
            bad: *const u64,
            steps: *mut u64,
        ) {
            // SAFETY: as above.
            unsafe {
                let format = format::<$element>(flushes);
                let weights = tensor(weights, weight_count as usize);
                let parts = tensor(parts, part_count);
                update::sgd(&mut Ptx(EVERY), format, sgd, weights, parts, bad, steps);
            }
        }
    };
}

/// Returns the format of elements that are read.
fn format<F: Element>(flushes: u32) -> Format {
    let gradual = Format::from(F::ENCODING);
    if flushes == 0 { gradual } else { gradual.flushing() }
}

/// Returns what becomes of unscaled gradients.
fn into(how: u32) -> Into {
    match how {
        0 => Into::Place,
        1 => Into::Sum,
        _ => Into::Nothing,
    }
}

entries!(
    f16,
    adaloss_widen_f16,
    adaloss_narrow_f16,
    adaloss_statistics_f16,
    adaloss_apply_f16,
    adaloss_propagate_f16,
    adaloss_unscale_f16,
    adaloss_unscale_one_f16,
    adaloss_sgd_f16
);
entries!(
    bf16,
    adaloss_widen_bf16,
    adaloss_narrow_bf16,
    adaloss_statistics_bf16,
    adaloss_apply_bf16,
    adaloss_propagate_bf16,
    adaloss_unscale_bf16,
    adaloss_unscale_one_bf16,
    adaloss_sgd_bf16
);
entries!(
    E5M2,
    adaloss_widen_e5m2,
    adaloss_narrow_e5m2,
    adaloss_statistics_e5m2,
    adaloss_apply_e5m2,
    adaloss_propagate_e5m2,
    adaloss_unscale_e5m2,
    adaloss_unscale_one_e5m2,
    adaloss_sgd_e5m2
);
entries!(
    E4M3,
    adaloss_widen_e4m3,
    adaloss_narrow_e4m3,
    adaloss_statistics_e4m3,
    adaloss_apply_e4m3,
    adaloss_propagate_e4m3,
    adaloss_unscale_e4m3,
    adaloss_unscale_one_e4m3,
    adaloss_sgd_e4m3
);
entries!(
    f32,
    adaloss_widen_f32,
    adaloss_narrow_f32,
    adaloss_statistics_f32,
    adaloss_apply_f32,
    adaloss_propagate_f32,
    adaloss_unscale_f32,
    adaloss_unscale_one_f32,
    adaloss_sgd_f32
);

/// Entry points of the product of matrices that are stored so: narrowed to the factors' format, and to f32,
/// which may be added to what is there.
macro_rules! products {
    ($element:ty, $transpose_a:literal, $transpose_b:literal, $narrowed:ident, $unscaled:ident) => {
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $narrowed(
            product: Product<$element>,
            to: *mut $element,
            epilogue: Epilogue,
        ) {
            // SAFETY: the launcher's promise, which is that of the kernel.
            unsafe {
                let to = Out::new(to, product.rows * product.columns);
                let transposed = [$transpose_a, $transpose_b];
                matmul::matmul(&mut Ptx(LAUNCHED), &product, transposed, to, &epilogue);
            }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $unscaled(
            product: Product<$element>,
            adds: u32,
            to: *mut f32,
            epilogue: Epilogue,
        ) {
            // SAFETY: as above.
            unsafe {
                let to = Out::new(to, product.rows * product.columns);
                let (transposed, adds) = ([$transpose_a, $transpose_b], adds != 0);
                matmul::matmul_into(&mut Ptx(LAUNCHED), &product, transposed, adds, to, &epilogue);
            }
        }
    };
}

products!(f16, false, false, adaloss_matmul_nn_f16, adaloss_matmul_nn_f16_f32);
products!(f16, false, true, adaloss_matmul_nt_f16, adaloss_matmul_nt_f16_f32);
products!(f16, true, false, adaloss_matmul_tn_f16, adaloss_matmul_tn_f16_f32);
products!(f16, true, true, adaloss_matmul_tt_f16, adaloss_matmul_tt_f16_f32);
products!(bf16, false, false, adaloss_matmul_nn_bf16, adaloss_matmul_nn_bf16_f32);
products!(bf16, false, true, adaloss_matmul_nt_bf16, adaloss_matmul_nt_bf16_f32);
products!(bf16, true, false, adaloss_matmul_tn_bf16, adaloss_matmul_tn_bf16_f32);
products!(bf16, true, true, adaloss_matmul_tt_bf16, adaloss_matmul_tt_bf16_f32);

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn adaloss_decide(decisions: *const Decision, count: usize) {
    // SAFETY: the launcher's promise, which is that of the kernel.
    unsafe { policy::decide(&mut Ptx(EVERY), tensor(decisions, count)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn adaloss_note(notes: *const Note, count: usize) {
    // SAFETY: as above.
    unsafe { policy::note(&mut Ptx(EVERY), tensor(notes, count)) }
}
