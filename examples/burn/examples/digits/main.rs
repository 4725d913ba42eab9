//! The digits, learnt by burn in 16 bits: without scaling, with one fixed scale, and with a scale per layer
//! that is chosen while it trains.

mod learner;
mod model;

use std::process::ExitCode;

fn main() -> ExitCode {
    adaloss_digits::compare::<learner::Learner>()
}
