//! The scaler of a model with `measured`: a loss gradient, a layer, and the verdict.

#![no_std]
#![no_main]

use adaloss_core::{
    apply::Pass,
    format::{Format, f16},
    policy::{Cell, Config},
    scaler::State,
    unscale::Verdict,
};
use adaloss_size::weigh;

const CELLS: usize = 4;

struct Kept {
    values: [f32; 8],
    narrowed: [f16; 8],
    state: State,
    cells: [Cell; CELLS],
    verdict: Verdict,
}

const CONFIG: Config = Config::for_format(Format::BINARY16);

#[cortex_m_rt::entry]
fn main() -> ! {
    let kept = Kept {
        values: [1.0e-9; 8],
        narrowed: [f16::ZERO; 8],
        state: State::new(CONFIG),
        cells: [Cell::new(); CELLS],
        verdict: Verdict::Apply,
    };
    weigh(kept, run)
}

fn run(kept: &mut Kept) {
    let Kept { values, narrowed, state, cells, .. } = kept;
    let mut narrow = |pass: &mut Pass<'_>| pass.apply(values, narrowed);
    let mut step = state.begin(cells);
    let gradient = step.loss(&(), |(), pass| narrow(pass));
    let layer = gradient.and_then(|gradient| step.layer(0, &gradient, |(), pass| narrow(pass)));
    kept.verdict = step.finish();
    core::hint::black_box(layer.is_ok());
}
