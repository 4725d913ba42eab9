//! Runs the conformance suite on the accelerator and on the portable device, on the microcontroller.

#![no_std]
#![no_main]

use core::fmt::{self, Write as _};

use adaloss_accelerator::{Accelerator, Model, Pool};
use adaloss_board::{Lines, end};
use adaloss_conformance as conformance;
use adaloss_core::format::f16;

/// Blocks of 64 bytes that the accelerator has: the suite wants 128 KiB.
const BLOCKS: usize = 2048;

/// The entry.
#[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
#[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
fn main() -> ! {
    end(conform())
}

fn conform() -> Result<(), fmt::Error> {
    let mut to = Lines::default();
    let pool = Pool::<BLOCKS>::new();
    let Ok(mut device) = Accelerator::new(Model::<{ 64 * BLOCKS }>::new(), &pool) else {
        return writeln!(to, "the accelerator has no memory");
    };
    for (name, report) in [
        ("memory", conformance::memory(&mut device)),
        ("narrow", conformance::narrow::<f16, _>(&mut device)),
    ] {
        match report {
            Ok(report) => writeln!(to, "{name}: {report}")?,
            Err(failure) => {
                writeln!(to, "{name}: {failure}")?;
                return Err(fmt::Error);
            }
        }
    }
    Ok(())
}
