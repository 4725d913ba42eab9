//! `amax`: the note of what narrowing did, the decision at the end of a step, and a certificate from a histogram now and
//! then; integers only.

#![no_std]
#![no_main]

use adaloss_core::{
    format::Format,
    policy::{Amax, Config, Policy},
};
use adaloss_size::{Counted, weigh};

const CONFIG: Config = {
    let policy = Policy::Amax(Amax { window: 16, margin: 1 });
    match Config::for_format(Format::BINARY16).with_policy(policy) {
        Ok(config) => config,
        Err(_) => panic!("not a configuration"),
    }
};

#[cortex_m_rt::entry]
fn main() -> ! {
    weigh(Counted::new(&CONFIG), |kept| kept.step(&CONFIG))
}
