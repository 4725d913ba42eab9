//! The C library: `include/adaloss.h` says what every function does, and this is how.
//!
//! Each file belongs to the module of [`adaloss_core`] with its name, and begins with the structures that the
//! header shows, in the same order and with the same names; `tests/header.rs` compares the two.  A function checks what C
//! can get wrong (NULL, alignment, numbers that an enumeration does not have, structures that cannot
//! be), turns the rest into core's types, in which all values are legal, and calls core.
//!
//! On a host the library uses `std` for nothing but the handler of panics, of which core has none.  On
//! a machine without an operating system it brings its own, which stops.

#![cfg_attr(target_os = "none", no_std)]
#![allow(non_camel_case_types, reason = "the names are those of the header")]
#![allow(missing_docs, reason = "the header documents fields and functions, once")]
#![allow(clippy::missing_safety_doc, reason = "the header says what pointers have to point to")]
#![allow(clippy::too_many_arguments, reason = "C has no slices")]

mod apply;
mod code;
mod device;
mod format;
mod memory;
mod policy;
mod propagate;
mod scale;
mod scaler;
mod share;
mod statistics;
mod unscale;

pub use apply::*;
pub use code::*;
pub use device::*;
pub use format::*;
pub use policy::*;
pub use propagate::*;
pub use scale::*;
pub use scaler::*;
pub use share::*;
pub use statistics::*;
pub use unscale::*;

#[cfg(target_os = "none")]
#[panic_handler]
fn stop(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
