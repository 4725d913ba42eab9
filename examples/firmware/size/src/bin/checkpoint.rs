//! The scaler of a model with `measured`, and its checkpoint, written and read.

#![no_std]
#![no_main]

use adaloss_core::{format::Format, policy::Config, scaler::State};
use adaloss_size::{CELLS, Model, weigh};

struct Kept {
    model: Model,
    bytes: [u8; State::checkpoint_bytes(CELLS)],
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let model = Model::new(Config::for_format(Format::BINARY16));
    weigh(Kept { model, bytes: [0; State::checkpoint_bytes(CELLS)] }, |kept| {
        kept.model.step();
        let Model { state, cells, .. } = &mut kept.model;
        let is_saved = state.save(cells, &mut kept.bytes).is_ok();
        core::hint::black_box(is_saved && state.load(&kept.bytes, cells).is_ok());
    })
}
