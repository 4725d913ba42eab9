#![no_std]
#![no_main]

use adaloss_core::{
    format::{Element, Format, f16},
    policy::{Cell, Config},
    scaler::State,
    unscale::Verdict,
};
use semihosting::{println, process::exit};

const LAYERS: usize = 3;
const COUNT: usize = 8;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut state = State::new(Config::for_format(Format::BINARY16));
    let mut cells = [Cell::new(); LAYERS]; // 28 bytes for each layer
    let loss_gradient = [2.0e-9; COUNT]; // nothing of this fits binary16
    let mut narrowed = [f16::ZERO; COUNT];

    let mut step = state.begin(&mut cells);
    let Ok(gradient) = step.loss().apply(&loss_gradient, &mut narrowed) else { exit(1) };
    let mut carried = gradient.tag();
    for layer in (0..LAYERS).rev() {
        // Your accelerator's product goes here; this layer has the weight 0.01.
        let results = narrowed.map(|x| 0.01 * x.widen());
        let Ok(visit) = step.layer(layer, carried) else { exit(1) };
        let Ok(gradient) = visit.apply(&results, &mut narrowed) else { exit(1) };
        println!("layer {layer} leaves at {}", gradient.scale());
        carried = gradient.tag();
    }
    if step.finish() == Verdict::Apply {
        println!("the optimizer may step");
    }
    exit(0)
}
