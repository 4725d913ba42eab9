//! Narrowing to binary16 by a power of two, with the counts of what became of the values, one after the other.

#![no_std]
#![no_main]

use adaloss_core::{
    apply::Apply,
    format::{Format, Narrowing, Noise, f16},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_size::weigh;

struct Kept {
    values: [f32; 8],
    narrowed: [f16; 8],
    scales: [Scale; 2],
    outcome: Outcome,
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let (values, narrowed) = ([1.0e-9; 8], [f16::ZERO; 8]);
    let scales = [Scale::ONE, Scale::saturating(20)];
    weigh(Kept { values, narrowed, scales, outcome: Outcome::EMPTY }, |kept| {
        let apply = Apply {
            narrowing: Narrowing::to(Format::BINARY16),
            shift: kept.scales[1] / kept.scales[0],
            noise: Noise::default(),
        };
        for ((x, to), index) in kept.values.iter().zip(&mut kept.narrowed).zip(0..) {
            *to = f16::from_bits(apply.element(*x, index, &mut kept.outcome) as u16);
        }
    })
}
