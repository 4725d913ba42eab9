//! `normal`, the policy of the paper: the statistics of two tensors, the decision, and the note of what narrowing did.
//!
//! The quantiles of the model are numbers that a host has computed, so that no inverse error function is linked.

#![no_std]
#![no_main]

use adaloss_core::{
    format::{Format, f16},
    policy::{
        Cell, Certificate, Config, Normal, Operands, Policy, decide_from_operands, due, note,
        outgoing,
    },
    scale::Scale,
    statistics::{Outcome, Statistics},
};
use adaloss_size::weigh;

struct Kept {
    gradient: [f16; 8],
    weight: [f16; 8],
    incoming: Scale,
    outcome: Outcome,
    cell: Cell,
    certificate: Option<Certificate>,
    outgoing: Scale,
    again: Option<Scale>,
}

const CONFIG: Config = {
    let policy = Policy::Normal(Normal {
        gaussian_factor: 1.253_314_465_432_554_9e-3,
        log_normal_factor: -3.090_232_220_927_857,
        smallest: 6.0e-8,
        largest: 65504.0,
        layer_cap: 16.0,
        accumulated_cap: 1024.0,
    });
    match Config::for_format(Format::BINARY16).with_policy(policy) {
        Ok(config) => config,
        Err(_) => panic!("not a configuration"),
    }
};

#[cortex_m_rt::entry]
fn main() -> ! {
    let kept = Kept {
        gradient: [f16::ONE; 8],
        weight: [f16::ONE; 8],
        incoming: Scale::ONE,
        outcome: Outcome::EMPTY,
        cell: CONFIG.cell(),
        certificate: None,
        outgoing: Scale::ONE,
        again: None,
    };
    weigh(kept, run)
}

fn run(kept: &mut Kept) {
    let Kept { gradient, weight, incoming, outcome, cell, .. } = kept;
    if due(&CONFIG, cell).is_some() {
        let operands = Operands::Product {
            gradient: Statistics::of(gradient),
            weight: Statistics::of(weight),
            fan_in: weight.len() as u32,
        };
        kept.certificate = Some(decide_from_operands(&CONFIG, &operands, *incoming, cell));
    }
    kept.outgoing = outgoing(&CONFIG, cell, *incoming);
    kept.again = note(&CONFIG, outcome, *incoming, cell);
}
