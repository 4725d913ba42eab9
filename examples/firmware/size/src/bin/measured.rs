//! `measured`: the histogram, the decision, and the note of what narrowing did; integers only.

#![no_std]
#![no_main]

use adaloss_core::{format::Format, policy::Config};
use adaloss_size::{Counted, weigh};

const CONFIG: Config = Config::for_format(Format::BINARY16);

#[cortex_m_rt::entry]
fn main() -> ! {
    weigh(Counted::new(&CONFIG), |kept| kept.visit(&CONFIG))
}
