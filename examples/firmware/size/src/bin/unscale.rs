//! Unscaling a binary16 gradient, with the counts that tell whether the step is usable.

#![no_std]
#![no_main]

use adaloss_core::{
    format::{Format, f16},
    propagate::Scaled,
    scale::Scale,
    unscale::{Unscaled, unscale},
};
use adaloss_size::weigh;

struct Kept {
    gradient: [f16; 8],
    scale: Scale,
    unscaled: [f32; 8],
    met: Unscaled,
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let kept = Kept {
        gradient: [f16::ONE; 8],
        scale: Scale::saturating(20),
        unscaled: [0.0; 8],
        met: Unscaled::default(),
    };
    weigh(kept, |kept| {
        let gradient = Scaled::new(&kept.gradient[..], kept.scale);
        if let Ok(met) = unscale(Format::BINARY16, gradient, &mut kept.unscaled) {
            kept.met.merge(&met);
        }
    })
}
