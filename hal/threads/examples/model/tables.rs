//! The tables that the model prints, as text of a page.

use std::fmt::Write as _;

use super::{
    cluster::{Cluster, agreement, certificate, whole_certificate},
    named::INTERCONNECTS,
};

/// How much of a step an agreement may take: what this library is made for.
const AIM: f64 = 0.001;
const AIM_CELLS: usize = 1000;

/// What the tables are of.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) cluster: Cluster,
    pub(crate) cells: Vec<usize>,
    pub(crate) ranks: Vec<usize>,
    /// Seconds.
    pub(crate) step: f64,
    /// Binades in which the magnitudes of a cell's tensor lie.
    pub(crate) binades: usize,
    /// Steps from one certificate of a cell to the next.
    pub(crate) period: usize,
}

impl Model {
    /// The model of a cluster at the usual numbers.
    pub(crate) fn of(cluster: Cluster) -> Self {
        let (cells, ranks) = (vec![100, 1000, 10_000], vec![1, 2, 8, 64, 512, 4096]);
        Self { cluster, cells, ranks, step: 0.1, binades: 20, period: 100 }
    }

    /// What a step's agreement costs.
    pub(crate) fn agreements(&self) -> String {
        let rows = self.pairs().map(|(cells, ranks)| {
            let [bytes] = agreement(cells);
            let reduction = self.cluster.network.reduction(bytes, ranks);
            let seconds = self.cluster.agreement_seconds(cells, ranks);
            vec![
                count(cells),
                count(bytes),
                count(ranks),
                if ranks < 2 { "-".into() } else { reduction.algorithm.name().into() },
                reduction.rounds.to_string(),
                count(reduction.sent_bytes.round() as usize),
                micros(seconds),
                share(seconds / self.step),
            ]
        });
        let head =
            ["cells", "bytes", "ranks", "algorithm", "rounds", "sent by a rank", "us", "of a step"];
        table(head, rows)
    }

    /// How long a step has to be for the aim, on each interconnect that has a name.
    pub(crate) fn aims(&self) -> String {
        let rows = INTERCONNECTS.iter().map(|interconnect| {
            let cluster = interconnect.cluster();
            let step = |&ranks| cluster.agreement_seconds(AIM_CELLS, ranks) / AIM;
            let steps = self.ranks.iter().map(|ranks| format!("{:.0} ms", step(ranks) * 1.0e3));
            [interconnect.name.into()].into_iter().chain(steps).collect()
        });
        let heads = self.ranks.iter().map(|&ranks| match ranks {
            1 => "1 rank".into(),
            _ => format!("{} ranks", count(ranks)),
        });
        let head: Vec<String> = ["interconnect".into()].into_iter().chain(heads).collect();
        table(head.iter().map(String::as_str), rows)
    }

    /// What certificates of all ranks would add: on one step in a period, or a part on each.
    pub(crate) fn certificates(&self) -> String {
        let rows = self.pairs().filter(|&(_, ranks)| ranks > 1).flat_map(|(cells, ranks)| {
            let ways = [("in use", certificate(self.binades)), ("all", whole_certificate())];
            ways.map(|(bins, bytes)| {
                let each = self.cluster.seconds(bytes, ranks);
                let a_step = cells.div_ceil(self.period);
                let message = bytes.iter().sum::<usize>();
                vec![
                    count(cells),
                    count(ranks),
                    bins.into(),
                    count(cells * message),
                    millis(cells as f64 * each),
                    share(cells as f64 * each / self.step),
                    count(a_step * message),
                    millis(a_step as f64 * each),
                    share(a_step as f64 * each / self.step),
                ]
            })
        });
        let head = [
            "cells",
            "ranks",
            "bins",
            "bytes at once",
            "ms",
            "of that step",
            "bytes a step, staggered",
            "ms",
            "of each step",
        ];
        table(head, rows)
    }

    /// The interconnects, and where their figures come from.
    pub(crate) fn interconnects() -> String {
        let rows = INTERCONNECTS.iter().map(|of| {
            let numbers = [of.latency_us, of.gigabytes_per_second, of.call_us];
            let [latency, bandwidth, call] = numbers.map(|number| number.to_string());
            vec![of.name.into(), latency, bandwidth, call, of.source.into()]
        });
        table(["interconnect", "us a message", "GB/s", "us a reduction", "source"], rows)
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let ranks = |&cells| self.ranks.iter().map(move |&ranks| (cells, ranks));
        self.cells.iter().flat_map(ranks)
    }
}

/// Writes rows below a head, numbers to the right.
fn table<'h>(
    head: impl IntoIterator<Item = &'h str>,
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let head: Vec<&str> = head.into_iter().collect();
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("text");
    }
    text
}

/// Writes a number with its thousands apart.
fn count(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

fn micros(seconds: f64) -> String {
    format!("{:.0}", seconds * 1.0e6)
}

fn millis(seconds: f64) -> String {
    format!("{:.2}", seconds * 1.0e3)
}

fn share(of_a_step: f64) -> String {
    format!("{:.3} %", of_a_step * 100.0)
}
