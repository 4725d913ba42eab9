#![no_std]
#![no_main]

use adaloss_core::{
    apply::{ApplyError, Pass},
    format::{Element, Format, f16},
    policy::{Cell, Config},
    scaler::State,
    unscale::Verdict,
};
use semihosting::{println, process::exit};

const LAYERS: usize = 3;
const COUNT: usize = 8;

fn narrow(results: &[f32; COUNT], pass: &mut Pass<'_>) -> Result<[f16; COUNT], ApplyError> {
    let mut narrowed = [f16::ZERO; COUNT];
    pass.apply(results, &mut narrowed)?;
    Ok(narrowed)
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut state = State::new(Config::for_format(Format::BINARY16));
    let mut cells = [Cell::new(); LAYERS]; // 28 bytes for each layer
    let loss_gradient = [2.0e-9; COUNT]; // nothing of this fits binary16

    let mut step = state.begin(&mut cells);
    let Ok(mut gradient) = step.loss(&loss_gradient, narrow) else { exit(1) };
    for layer in (0..LAYERS).rev() {
        // Your accelerator's product goes here; this layer has the weight 0.01.
        let next =
            step.layer(layer, &gradient, |g, pass| narrow(&g.map(|x| 0.01 * x.widen()), pass));
        let Ok(next) = next else { exit(1) };
        println!("layer {layer} leaves at {}", next.scale());
        gradient = next;
    }
    if step.finish() == Verdict::Apply {
        println!("the optimizer may step");
    }
    exit(0)
}
