//! The kernels' entry points on an NVIDIA GPU: those of [`adaloss_kernels::entries`].
//!
//! Built for anything else, as with the rest of the workspace, this is empty.

#![cfg(target_arch = "nvptx64")]
#![no_std]
#![feature(abi_ptx, asm_experimental_arch, stdarch_nvptx)]
#![allow(
    missing_docs,
    clippy::missing_safety_doc,
    reason = "the kernels say it, and no Rust calls an entry point"
)]

mod block;
mod machine;

use adaloss_kernels::entries::*;
use block::{EVERY, LAUNCHED, Ptx};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it ends the kernel; no kernel has a path that comes here, which the build checks.
    unsafe { core::arch::nvptx::trap() }
}

/// Makes an entry point of a kernel on such a block.
macro_rules! entry {
    (
        $shared:expr;
        fn $name:ident($block:ident $(, $parameter:ident: $type:ty)*) { $($call:tt)* }
    ) => {
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $name($($parameter: $type),*) {
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
