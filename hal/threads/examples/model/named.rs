//! Interconnects by name: where their figures come from, or that they are assumed.

use super::{cluster::Cluster, reduction::Network};

/// An interconnect with a latency and a bandwidth between two ranks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interconnect {
    pub(crate) name: &'static str,
    pub(crate) latency_us: f64,
    pub(crate) gigabytes_per_second: f64,
    /// Of each reduction, whatever it is of.
    pub(crate) call_us: f64,
    pub(crate) source: &'static str,
}

pub(crate) const INTERCONNECTS: [Interconnect; 5] = [
    Interconnect {
        name: "memory",
        latency_us: 2.0,
        gigabytes_per_second: 1.6,
        call_us: 0.0,
        source: "measured by `cost`: two processes on two cores of one machine",
    },
    Interconnect {
        name: "infiniband",
        latency_us: 1.5,
        gigabytes_per_second: 20.0,
        call_us: 0.0,
        source: "assumed, for MPI over links of 200 Gb/s that go around the operating system",
    },
    Interconnect {
        name: "ethernet",
        latency_us: 1.93,
        gigabytes_per_second: 4.65,
        call_us: 0.0,
        source: "published: Open MPI 1.8.1 by NetPIPE between two hosts, 40 Gb/s around the operating system (J. Squyres, \"MPI over 40Gb Ethernet\", Cisco, 2014)",
    },
    Interconnect {
        name: "nccl",
        latency_us: 10.0,
        gigabytes_per_second: 3.0,
        call_us: 24.4,
        source: "latency published: twice 5 us a level of the tree between hosts, and 4.4 us a call, from NCCL's own model of its low-latency protocol (`src/graph/tuning.cc`); bandwidth, and 20 us for two copies and a wait, assumed",
    },
    Interconnect {
        name: "tcp",
        latency_us: 30.0,
        gigabytes_per_second: 1.1,
        call_us: 0.0,
        source: "assumed, for sockets over links of 10 Gb/s",
    },
];

/// What a byte takes to be merged: assumed.
pub(crate) const MERGED_GIGABYTES_PER_SECOND: f64 = 5.0;
/// What a cell takes to be packed and unpacked: measured by `cost`.
pub(crate) const CELL_NS: f64 = 26.0;

impl Interconnect {
    pub(crate) fn cluster(&self) -> Cluster {
        let network = Network {
            latency: self.latency_us * 1.0e-6,
            per_byte: 1.0e-9 / self.gigabytes_per_second,
            per_merged_byte: 1.0e-9 / MERGED_GIGABYTES_PER_SECOND,
            per_call: self.call_us * 1.0e-6,
        };
        Cluster { network, per_cell: CELL_NS * 1.0e-9 }
    }
}
