//! A model of what one reduction over all ranks costs.
//!
//! A message of `n` bytes takes `a + n b` seconds from rank to rank, with a latency `a` and a bandwidth `1 / b`, whichever two ranks
//! they are (R. W. Hockney, "The communication challenge for MPP", Parallel Computing 20, 1994), and merging it `n c` more.  Three
//! algorithms reduce over `p` ranks, and the quickest is taken, as engines do by tables of their own:
//!
//! | algorithm | seconds, where `p` is a power of two | where it is not, `q` the next lower one |
//! |---|---|---|
//! | recursive doubling | `lg p (a + n b + n c)` | `lg q (a + n b + n c) + 2 a + 2 n b + n c` |
//! | halving and doubling, Rabenseifner's | `2 lg p a + (p - 1) / p n (2 b + c)` | `2 lg q a + (q - 1) / q n (2 b + c) + 2 a + 2 n b + n c` |
//! | ring | `2 (p - 1) a + (p - 1) / p n (2 b + c)` | the same |
//!
//! (R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in MPICH", International Journal of
//! High Performance Computing Applications 19 (1), 2005.)  Ranks beyond `q` hand theirs to a neighbour first, and have the result from it.
//!
//! Left out are how far apart two ranks are, that messages share a link, and the wait for the rank that comes last.

/// What carries messages between ranks, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    /// Of each message.
    pub(crate) latency: f64,
    /// Of each byte that is sent.
    pub(crate) per_byte: f64,
    /// Of each byte that is merged with one that came.
    pub(crate) per_merged_byte: f64,
    /// Of each reduction, whatever it is of.
    pub(crate) per_call: f64,
}

/// How ranks reduce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Each rank exchanges all bytes with one twice as far away in each round.
    Doubling,
    /// Half of the bytes, a quarter and so on, until each rank has merged a part; then the parts are brought together.
    Halving,
    /// Each rank hands parts to the next one only.
    Ring,
}

/// One reduction, along the longest way that a byte has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reduction {
    pub(crate) algorithm: Algorithm,
    /// Messages, one after the other.
    pub(crate) rounds: u32,
    pub(crate) sent_bytes: f64,
    pub(crate) merged_bytes: f64,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 3] = [Self::Doubling, Self::Halving, Self::Ring];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Doubling => "doubling",
            Self::Halving => "halving",
            Self::Ring => "ring",
        }
    }

    /// Returns what a reduction of so many bytes takes; `None` where the algorithm has no part for each rank.
    pub(crate) fn reduction(self, bytes: usize, ranks: usize) -> Option<Reduction> {
        if self != Self::Doubling && bytes < ranks {
            return None;
        }
        let ranks = ranks.max(1);
        let (doublings, n) = (ranks.ilog2(), bytes as f64);
        let parts = |of: usize| (of - 1) as f64 / of as f64 * n;
        let even = 1 << doublings;
        let (mut rounds, mut sent_bytes, mut merged_bytes) = match self {
            Self::Doubling => (doublings, f64::from(doublings) * n, f64::from(doublings) * n),
            Self::Halving => (2 * doublings, 2.0 * parts(even), parts(even)),
            Self::Ring => (2 * (ranks as u32 - 1), 2.0 * parts(ranks), parts(ranks)),
        };
        if self != Self::Ring && even != ranks {
            // From a rank beyond them, and back.
            (rounds, sent_bytes, merged_bytes) =
                (rounds + 2, sent_bytes + 2.0 * n, merged_bytes + n);
        }
        Some(Reduction { algorithm: self, rounds, sent_bytes, merged_bytes })
    }
}

impl Network {
    /// Returns the quickest reduction of so many bytes over so many ranks.
    pub(crate) fn reduction(&self, bytes: usize, ranks: usize) -> Reduction {
        let all = Algorithm::ALL.into_iter().filter_map(|way| way.reduction(bytes, ranks));
        let quickest = all.min_by(|one, other| self.seconds(one).total_cmp(&self.seconds(other)));
        quickest.expect("doubling takes any number of bytes")
    }

    /// Returns how long it takes; one rank has nothing to send, but asks its engine all the same.
    pub(crate) fn seconds(&self, reduction: &Reduction) -> f64 {
        self.per_call
            + f64::from(reduction.rounds) * self.latency
            + reduction.sent_bytes * self.per_byte
            + reduction.merged_bytes * self.per_merged_byte
    }
}
