//! What it costs that ranks agree on each step, by a model: nothing is measured, and nothing is sent.
//!
//! ```sh
//! cargo run -p adaloss-threads --example model -- --network tcp --step-ms 250
//! ```
//!
//! Bytes are those of the library's own messages.  What a network takes for them follows from a latency and a bandwidth:
//! `reduction.rs` has the formulas and their source, `named.rs` the figures.  `cost`, an example of `adaloss-mpi`, measures.

mod cluster;
mod named;
mod reduction;
mod tables;

use std::io::{self, Write as _};

use clap::Parser;

use named::{INTERCONNECTS, Interconnect};
use tables::Model;

/// What it costs that ranks agree on each step, by a model.
#[derive(Debug, Parser)]
struct Options {
    /// The interconnect whose figures are taken where no others are given.
    #[arg(long, default_value = "infiniband", value_parser = interconnect)]
    network: Interconnect,
    /// Microseconds that a message takes, whatever its length.
    #[arg(long, value_parser = positive)]
    latency_us: Option<f64>,
    /// Gigabytes that are sent in a second between two ranks.
    #[arg(long, value_parser = positive)]
    gigabytes_per_second: Option<f64>,
    /// Gigabytes that a rank merges in a second.
    #[arg(long, value_parser = positive)]
    merged_gigabytes_per_second: Option<f64>,
    /// Microseconds that a reduction takes whatever it is of: the start of a kernel, say.
    #[arg(long, value_parser = not_negative)]
    call_us: Option<f64>,
    /// Nanoseconds that a rank takes to pack and unpack one cell.
    #[arg(long, value_parser = not_negative)]
    cell_ns: Option<f64>,
    /// Milliseconds of a step.
    #[arg(long, default_value = "100", value_parser = positive)]
    step_ms: f64,
    /// Numbers of cells.
    #[arg(long, value_delimiter = ',', value_parser = from_one(1_000_000))]
    cells: Option<Vec<u64>>,
    /// Numbers of ranks.
    #[arg(long, value_delimiter = ',', value_parser = from_one(1_000_000))]
    ranks: Option<Vec<u64>>,
    /// Binades in which the magnitudes of a cell's tensor lie.
    #[arg(long, default_value_t = 20, value_parser = from_one(254))]
    binades: u64,
    /// Steps from one certificate of a cell to the next.
    #[arg(long, default_value_t = 100, value_parser = from_one(1_000_000))]
    period: u64,
}

fn from_one(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}

fn interconnect(name: &str) -> Result<Interconnect, String> {
    let names = || INTERCONNECTS.map(|interconnect| interconnect.name).join(", ");
    let found = INTERCONNECTS.into_iter().find(|interconnect| interconnect.name == name);
    found.ok_or_else(|| format!("there are {}", names()))
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text)
        .and_then(|number| if number > 0.0 { Ok(number) } else { Err("it is 0".into()) })
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("it is no number from 0".into()),
    }
}

impl Options {
    fn model(&self) -> Model {
        let mut model = Model::of(self.network.cluster());
        let (cluster, numbers) =
            (&mut model.cluster, |given: &[u64]| given.iter().map(|&n| n as usize).collect());
        let network = &mut cluster.network;
        let set = |to: &mut f64, given: Option<f64>| *to = given.unwrap_or(*to);
        set(&mut network.latency, self.latency_us.map(|us| us * 1.0e-6));
        set(&mut network.per_byte, self.gigabytes_per_second.map(|rate| 1.0e-9 / rate));
        set(
            &mut network.per_merged_byte,
            self.merged_gigabytes_per_second.map(|rate| 1.0e-9 / rate),
        );
        set(&mut network.per_call, self.call_us.map(|us| us * 1.0e-6));
        set(&mut cluster.per_cell, self.cell_ns.map(|ns| ns * 1.0e-9));
        model.step = self.step_ms * 1.0e-3;
        (model.binades, model.period) = (self.binades as usize, self.period as usize);
        if let Some(cells) = &self.cells {
            model.cells = numbers(cells);
        }
        if let Some(ranks) = &self.ranks {
            model.ranks = numbers(ranks);
        }
        model
    }
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let model = options.model();
    let network = &model.cluster.network;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "A model of what agreements cost: {:.2} us a message, {:.2} GB/s, {:.2} GB/s merged, {:.1} us a reduction, {:.0} ns a cell.\n",
        network.latency * 1.0e6,
        1.0e-9 / network.per_byte,
        1.0e-9 / network.per_merged_byte,
        network.per_call * 1.0e6,
        model.cluster.per_cell * 1.0e9,
    )?;
    writeln!(out, "An agreement, in a step of {} ms:\n\n{}", options.step_ms, model.agreements())?;
    writeln!(
        out,
        "The shortest step of which an agreement on 1,000 cells is 0.1 %, by name:\n\n{}",
        model.aims()
    )?;
    writeln!(
        out,
        "Certificates of all ranks, {} binades, every {} steps; the library sends none:\n\n{}",
        model.binades,
        model.period,
        model.certificates()
    )?;
    writeln!(out, "The interconnects that have a name:\n\n{}", Model::interconnects())
}
