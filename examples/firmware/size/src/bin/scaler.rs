//! The scaler of a model with `measured`: a loss gradient, a layer, and the verdict.

#![no_std]
#![no_main]

use adaloss_core::{format::Format, policy::Config};
use adaloss_size::{Model, weigh};

#[cortex_m_rt::entry]
fn main() -> ! {
    weigh(Model::new(Config::for_format(Format::BINARY16)), Model::step)
}
