//! Trains in binary16 with adaptive loss scaling, on the microcontroller.

#![no_std]
#![no_main]

use adaloss_board::{Lines, end};
use adaloss_firmware::{Perceptron, train};

/// How often all samples are seen.
const EPOCHS: u32 = 10;

/// The entry.
#[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
#[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
fn main() -> ! {
    end(train(&mut Perceptron::new(), EPOCHS, &mut Lines::default()))
}
