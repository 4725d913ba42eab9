//! `measured` without certificates: the note of what narrowing did, and the decision at the end of a step; integers only.

#![no_std]
#![no_main]

use adaloss_core::{format::Format, policy::Config};
use adaloss_size::{Followed, weigh};

const CONFIG: Config = match Config::for_format(Format::BINARY16).with_period(Config::NEVER) {
    Ok(config) => config,
    Err(_) => panic!("not a configuration"),
};

#[cortex_m_rt::entry]
fn main() -> ! {
    weigh(Followed::new(&CONFIG), |kept| kept.step(&CONFIG))
}
