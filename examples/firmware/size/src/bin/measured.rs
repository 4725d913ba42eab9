//! `measured`: the note of what narrowing did, the decision at the end of a step, and a certificate from a histogram now
//! and then; integers only.

#![no_std]
#![no_main]

use adaloss_core::{format::Format, policy::Config};
use adaloss_size::{Counted, weigh};

const CONFIG: Config = Config::for_format(Format::BINARY16);

#[cortex_m_rt::entry]
fn main() -> ! {
    weigh(Counted::new(&CONFIG), |kept| kept.step(&CONFIG))
}
