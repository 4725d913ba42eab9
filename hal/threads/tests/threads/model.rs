//! The example `model` counts what the library does, and docs/ranks.md shows what it prints.

use std::ops::Range;

use adaloss_core::{
    format::{Format, Narrowing, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scale::Scale,
    scaler::{State, share::message_bytes},
    statistics::Histogram,
    unscale::Verdict,
};
use adaloss_hal::group::{Group, Solo, agree, merge_histogram};

use super::{LONG, ranks};
use cluster::{agreement, certificate, whole_certificate};
use named::INTERCONNECTS;
use reduction::{Algorithm, Reduction};
use tables::Model;

#[path = "../../examples/model/cluster.rs"]
mod cluster;
#[path = "../../examples/model/named.rs"]
mod named;
#[path = "../../examples/model/reduction.rs"]
mod reduction;
#[path = "../../examples/model/tables.rs"]
mod tables;

/// A group that notes the bytes of each operation.
struct Noting<G> {
    group: G,
    reductions: Vec<usize>,
    broadcasts: usize,
}

impl<G> Noting<G> {
    const fn new(group: G) -> Self {
        Self { group, reductions: Vec::new(), broadcasts: 0 }
    }
}

impl<G: Group> Group for Noting<G> {
    type Error = G::Error;

    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn size(&self) -> usize {
        self.group.size()
    }

    fn max_u8(&mut self, bytes: &mut [u8]) -> Result<(), G::Error> {
        self.reductions.push(bytes.len());
        self.group.max_u8(bytes)
    }

    fn max_u64(&mut self, numbers: &mut [u64]) -> Result<(), G::Error> {
        self.reductions.push(size_of_val(numbers));
        self.group.max_u64(numbers)
    }

    fn sum_u64(&mut self, numbers: &mut [u64]) -> Result<(), G::Error> {
        self.reductions.push(size_of_val(numbers));
        self.group.sum_u64(numbers)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut [u8]) -> Result<(), G::Error> {
        self.broadcasts += 1;
        self.group.broadcast(from, bytes)
    }
}

#[test]
fn an_agreement_is_the_reduction_that_the_model_counts() {
    for cells in [0, 1, 100, 1000, 10_000] {
        for size in [1, 2, 3, 8] {
            ranks(size, LONG, |member| {
                let mut group = Noting::new(member);
                let (mut state, mut room) = (
                    State::new(Config::for_format(Format::BINARY16)),
                    vec![0; message_bytes(cells)],
                );
                let mut slots = vec![Cell::new(); cells];
                for nth in 0..3 {
                    let mut step = state.begin(&mut slots);
                    let narrowed = &mut [f16::ZERO];
                    step.loss().apply(&[3.0e-7], narrowed).expect("one length");
                    // Other cells on each rank, and a step that is skipped.
                    for id in (group.rank()..cells).step_by(1 + size) {
                        let visit = step.layer(id, Scaled::new((), Scale::ONE)).expect("a cell");
                        let value = if nth == 1 { f32::NAN } else { 2.0e-6 };
                        visit.apply(&[value], narrowed).expect("one length");
                    }
                    agree(&mut step.share(), &mut group, &mut room).expect("ranks that are alike");
                    assert_eq!(step.finish() == Verdict::Apply, nth != 1 || cells == 0);
                    assert_eq!((&*group.reductions, group.broadcasts), (&agreement(cells)[..], 0));
                    group.reductions.clear();
                }
            });
        }
    }
}

#[test]
fn a_certificate_of_all_is_the_reductions_that_the_model_counts() {
    for size in [1, 2, 5] {
        for binades in [1, 2, 20, 60] {
            ranks(size, LONG, |member| {
                let mut group = Noting::new(member);
                let mut histogram = histogram(-40..-40 + binades);
                merge_histogram(&mut histogram, &mut group).expect("one narrowing");
                assert_eq!(group.reductions, certificate(binades as usize));
                assert_eq!(group.broadcasts, 0);
                assert_eq!(histogram.nonzero(), (size * binades as usize) as u64);
            });
        }
    }
    // All magnitudes that f32 has: no more than there are bins, which the model rounds up to.
    let mut group = Noting::new(Solo);
    merge_histogram(&mut histogram(-149..128), &mut group).expect("one rank");
    let [bounds, most] = certificate(277);
    assert!(group.reductions[0] == bounds && group.reductions[1] <= most, "{:?}", group.reductions);
    assert_eq!(whole_certificate()[1], most);
}

/// Counts one value of each binade.
fn histogram(binades: Range<i32>) -> Histogram {
    let mut histogram = Histogram::new(Narrowing::to(Format::BINARY16));
    let values: Vec<f32> = binades.map(|log2| (1.25 * f64::from(log2).exp2()) as f32).collect();
    histogram.observe(&values, Scale::ONE);
    histogram
}

/// What one rank sent and merged, and how many messages it was in.
#[derive(Clone, Debug)]
struct Worker {
    values: Vec<u64>,
    rounds: u32,
    sent: usize,
    merged: usize,
}

/// Ranks that carry the algorithms out, each value being a byte.
struct Workers(Vec<Worker>);

impl Workers {
    fn new(values: usize, ranks: usize) -> Self {
        let of = |rank| (0..values).map(|at| 1 + (rank * 31 + at * 17) as u64 % 101).collect();
        let worker = |rank| Worker { values: of(rank), rounds: 0, sent: 0, merged: 0 };
        Self((0..ranks).map(worker).collect())
    }

    /// Takes a round: each rank with the rank that it has something from, what it is, and whether it is merged.
    fn round(&mut self, messages: &[(usize, usize, Range<usize>, bool)]) {
        let before: Vec<Vec<u64>> = self.0.iter().map(|worker| worker.values.clone()).collect();
        for worker in &mut self.0 {
            worker.rounds += 1;
        }
        for (from, to, range, is_merged) in messages {
            self.0[*from].sent += range.len();
            self.0[*to].merged += if *is_merged { range.len() } else { 0 };
            for at in range.clone() {
                let into = &mut self.0[*to].values[at];
                *into = if *is_merged { *into + before[*from][at] } else { before[*from][at] };
            }
        }
    }

    /// Reduces, by an algorithm, to the sum.
    fn reduce(&mut self, way: Algorithm) {
        let (size, length) = (self.0.len(), self.0[0].values.len());
        if way == Algorithm::Ring {
            let part = |nth: usize| nth * length / size..(nth + 1) * length / size;
            for round in 0..2 * (size - 1) {
                let merges = round < size - 1;
                // A rank hands on the part that it had from the one before it in the last round.
                let of = |rank: usize| part((rank + 2 * size - round) % size);
                let messages: Vec<_> =
                    (0..size).map(|rank| (rank, (rank + 1) % size, of(rank), merges)).collect();
                self.round(&messages);
            }
            return;
        }
        let even = 1 << size.ilog2();
        let beyond = |is_back| {
            let pair = move |rank| if is_back { (rank - even, rank) } else { (rank, rank - even) };
            (even..size).map(move |rank| (pair(rank).0, pair(rank).1, 0..length, !is_back))
        };
        if even < size {
            self.round(&beyond(false).collect::<Vec<_>>());
        }
        let reaches = (0..size.ilog2()).map(|log2| 1 << log2);
        if way == Algorithm::Doubling {
            for reach in reaches {
                let messages: Vec<_> =
                    (0..even).map(|rank| (rank, rank ^ reach, 0..length, true)).collect();
                self.round(&messages);
            }
        } else {
            // What a rank has to merge: the half that its bit says, of what it had.
            let mut parts = vec![vec![0..length]; even];
            for reach in reaches.clone() {
                let halves = |part: &Range<usize>| (part.start + part.end) / 2;
                let messages: Vec<_> = (0..even)
                    .map(|rank| {
                        let part = parts[rank].last().expect("a part");
                        let middle = halves(part);
                        let theirs =
                            if rank & reach == 0 { middle..part.end } else { part.start..middle };
                        (rank, rank ^ reach, theirs, true)
                    })
                    .collect();
                self.round(&messages);
                for (rank, parts) in parts.iter_mut().enumerate() {
                    let part = parts.last().expect("a part").clone();
                    let middle = halves(&part);
                    parts.push(if rank & reach == 0 {
                        part.start..middle
                    } else {
                        middle..part.end
                    });
                }
            }
            for reach in reaches.rev() {
                let messages: Vec<_> = (0..even)
                    .map(|rank| (rank, rank ^ reach, parts[rank].pop().expect("a part"), false))
                    .collect();
                self.round(&messages);
            }
        }
        if even < size {
            self.round(&beyond(true).collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_algorithms_take_what_the_model_says() {
    for way in Algorithm::ALL {
        for size in [1, 2, 3, 4, 5, 8, 12, 16] {
            // Equal parts for every rank.
            let length = 240 * size;
            let mut workers = Workers::new(length, size);
            let sums: Vec<u64> = (0..length)
                .map(|at| workers.0.iter().map(|worker| worker.values[at]).sum())
                .collect();
            workers.reduce(way);
            let Reduction { rounds, sent_bytes, merged_bytes, .. } =
                way.reduction(length, size).expect("a byte for each rank");
            let name = way.name();
            for worker in &workers.0 {
                assert_eq!(worker.values, sums, "{name}, {size} ranks");
                assert_eq!(worker.rounds, rounds, "{name}, {size} ranks");
            }
            let most = |of: fn(&Worker) -> usize| workers.0.iter().map(of).max().expect("ranks");
            assert_eq!(most(|worker| worker.merged) as f64, merged_bytes, "{name}, {size} ranks");
            // Those beyond a power of two send before the others do: a byte counts on its way from the first to the last.
            let (sent, even) = (most(|worker| worker.sent) as f64, size.is_power_of_two());
            let before = if even || way == Algorithm::Ring { 0.0 } else { length as f64 };
            assert_eq!(sent + before, sent_bytes, "{name}, {size} ranks");
        }
    }
}

#[test]
fn the_guide_shows_what_the_model_prints() {
    let page = include_str!("../../../../docs/ranks.md");
    let mut model = Model::of(INTERCONNECTS[1].cluster());
    assert_eq!(INTERCONNECTS[1].name, "infiniband");
    let mut tables = vec![model.agreements(), model.aims(), Model::interconnects()];
    (model.cells, model.ranks) = (vec![1000], vec![2, 64, 4096]);
    tables.push(model.certificates());
    for table in tables {
        assert!(page.contains(&table), "docs/ranks.md does not have\n{table}");
    }
}
