//! Every public function of `adaloss-core` as an entry point of its own, and a panic handler that
//! needs a symbol nobody has.
//!
//! Linked from one entry, with sections that it does not reach removed, this library has an undefined
//! symbol exactly where that entry can reach a panic; `check.sh` links each.  An entry is a pointer to
//! a function: what the function is called with is not known here, so that nothing is optimised
//! away for it.  `core/tests/panics.rs` keeps the list complete.
//!
//! Of generic functions there is an entry for each element type; of the scaler's, for one cell and for
//! 64.  Formats and policies are values that are not known here, so that an entry is for all of them.
//! Derived implementations have no entry, and what is given to a function (a pass, a closure) is the
//! caller's.
//!
//! A panic handler cannot stand beside std: built with panics that unwind, as all else in the
//! workspace is, this is an ordinary library that proves nothing.

#![cfg_attr(panic = "abort", no_std)]

mod apply;
mod format;
mod planted;
mod policy;
mod propagate;
mod scale;
mod scaler;
mod statistics;
mod unscale;

/// Exports pointers to functions, each under the path of the function in core.
macro_rules! entries {
    ($($name:expr => $type:ty = $function:expr;)*) => {
        $(const _: () = {
            #[unsafe(export_name = $name)]
            static ENTRY: $type = $function;
        };)*
    };
}
pub(crate) use entries;

/// Exports pointers to generic functions for each element type, which their types call `F`.
macro_rules! each_element {
    (@ $module:ident $element:ident $($name:literal => $type:ty = $function:expr;)*) => {
        mod $module {
            use super::*;

            type F = $element;

            $crate::entries! {
                $(concat!($name, "<", stringify!($element), ">") => $type = $function;)*
            }
        }
    };
    ($($entries:tt)*) => {
        $crate::each_element!(@ for_f16 f16 $($entries)*);
        $crate::each_element!(@ for_bf16 bf16 $($entries)*);
        $crate::each_element!(@ for_e5m2 E5M2 $($entries)*);
        $crate::each_element!(@ for_e4m3 E4M3 $($entries)*);
        $crate::each_element!(@ for_f32 f32 $($entries)*);
    };
}
pub(crate) use each_element;

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn adaloss_core_can_panic() -> !;
    }
    // SAFETY: nothing defines the symbol, so that no program in which this is called can be linked.
    unsafe { adaloss_core_can_panic() }
}
