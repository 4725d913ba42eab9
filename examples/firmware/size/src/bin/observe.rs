//! The histogram of f32 values, one after the other.

#![no_std]
#![no_main]

use adaloss_core::{
    format::{Format, Narrowing},
    scale::Scale,
    statistics::Histogram,
};
use adaloss_size::weigh;

struct Kept {
    values: [f32; 8],
    incoming: Scale,
    histogram: Histogram,
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let histogram = Histogram::new(Narrowing::to(Format::BINARY16));
    weigh(Kept { values: [1.0e-9; 8], incoming: Scale::ONE, histogram }, |kept| {
        kept.values.iter().for_each(|&x| kept.histogram.observe_one(x, kept.incoming));
    })
}
