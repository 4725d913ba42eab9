//! The scaler of a model with `measured`, and its checkpoint, written and read.

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
    bytes: [u8; State::checkpoint_bytes(CELLS)],
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
        bytes: [0; State::checkpoint_bytes(CELLS)],
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
    let Kept { state, cells, bytes, .. } = kept;
    let is_saved = state.save(cells, bytes).is_ok();
    core::hint::black_box(is_saved && state.load(bytes, cells).is_ok());
}
