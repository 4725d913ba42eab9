//! No feature: what every program has.

#![no_std]
#![no_main]

use adaloss_size::weigh;

#[cortex_m_rt::entry]
fn main() -> ! {
    weigh(0_u32, |count| *count = count.wrapping_add(1))
}
