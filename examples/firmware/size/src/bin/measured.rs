//! `measured`: the histogram, the decision, and the note of what narrowing did; integers only.

#![no_std]
#![no_main]

use adaloss_core::{
    format::Format,
    policy::{Cell, Certificate, Config, decide, due, note, outgoing},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_size::weigh;

struct Kept {
    values: [f32; 8],
    incoming: Scale,
    histogram: Histogram,
    outcome: Outcome,
    cell: Cell,
    certificate: Option<Certificate>,
    outgoing: Scale,
}

// What a layer takes for as long as it is trained.
const _: () = assert!(size_of::<Cell>() <= 32);

const CONFIG: Config = Config::for_format(Format::BINARY16);

#[cortex_m_rt::entry]
fn main() -> ! {
    let kept = Kept {
        values: [1.0e-9; 8],
        incoming: Scale::ONE,
        histogram: Histogram::new(CONFIG.narrowing()),
        outcome: Outcome::EMPTY,
        cell: CONFIG.cell(),
        certificate: None,
        outgoing: Scale::ONE,
    };
    weigh(kept, run)
}

fn run(kept: &mut Kept) {
    let Kept { values, incoming, histogram, outcome, cell, .. } = kept;
    if due(&CONFIG, cell).is_some() {
        histogram.clear();
        values.iter().for_each(|&x| histogram.observe_one(x, *incoming));
        kept.certificate = Some(decide(&CONFIG, histogram, cell));
    }
    kept.outgoing = outgoing(&CONFIG, cell, *incoming);
    note(&CONFIG, outcome, *incoming, cell);
}
