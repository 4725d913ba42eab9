//! The kernels' entry points for Rust-CUDA: those of [`adaloss_kernels::entries`], over [`cuda_std`].
//!
//! The block of threads is that of `gpu/entry`, the same file; what this compiler has otherwise (where a
//! thread is, the barrier, shared memory, counters) is in `machine`.  On a host it compiles, to be
//! checked, and nothing of it can be called.

#![no_std]
#![cfg_attr(target_os = "cuda", feature(asm_experimental_arch))]
#![allow(
    clippy::missing_safety_doc,
    reason = "the kernels say it, and no Rust calls an entry point"
)]

#[path = "../../entry/src/block.rs"]
#[cfg_attr(
    not(target_os = "cuda"),
    allow(unreachable_code, unused_variables, reason = "a host has a panic for each instruction")
)]
mod block;
mod machine;

use adaloss_kernels::entries::*;
use block::{EVERY, LAUNCHED, Ptx};
use cuda_std::kernel;

/// Makes an entry point of a kernel on such a block.
macro_rules! entry {
    (
        $shared:expr;
        fn $name:ident($block:ident $(, $parameter:ident: $type:ty)*) { $($call:tt)* }
    ) => {
        #[kernel]
        #[allow(improper_ctypes_definitions, reason = "Rust-CUDA passes structures by value")]
        pub unsafe fn $name($($parameter: $type),*) {
            let $block = &mut Ptx($shared);
            // SAFETY: the launcher's promise, which is that of the kernel.
            unsafe { $($call)* }
        }
    };
}

macro_rules! every {
    ($($entry:tt)*) => { entry! { EVERY; $($entry)* } };
}
macro_rules! product {
    ($($entry:tt)*) => { entry! { LAUNCHED; $($entry)* } };
}

adaloss_kernels::entries!(every);
adaloss_kernels::products!(product);
