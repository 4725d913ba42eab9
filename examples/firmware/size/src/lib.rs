//! Programs with one feature of adaloss and nothing else: what is in them beyond the one without a feature is what the
//! feature takes.
//!
//! Policies are weighed as firmware has them, with a configuration that the compiler knows.

#![no_std]

mod counted;
mod followed;
mod model;
#[cfg(feature = "stack")]
mod stack;

use core::panic::PanicInfo;

pub use counted::Counted;
pub use followed::Followed;
pub use model::{CELLS, Model};

/// Runs a feature on what it keeps, again and again; measures its stack instead where that is wanted.
pub fn weigh<T>(mut kept: T, run: fn(&mut T)) -> ! {
    let kept = core::hint::black_box(&mut kept);
    #[cfg(feature = "stack")]
    stack::report(kept, run);
    #[cfg(not(feature = "stack"))]
    loop {
        run(kept);
    }
}

#[panic_handler]
fn stop(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
