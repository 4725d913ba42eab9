//! What a step has to agree on where several ranks share it, as one message of bytes.
//!
//! Every rank [packs](Share::pack) a message of the same layout, whatever it visited; the messages are merged by the greatest
//! of the bytes at each place, which every library of collective operations can do; and every rank [unpacks](Share::unpack)
//! the result before it finishes its step.  Then all of them move their cells from the same integers, and a step
//! is skipped on every rank or on none.
//!
//! # Layout
//!
//! A header of [`HEADER_BYTES`], then [`CELL_BYTES`] for each cell in the order of their numbers.  Numbers are little
//! endian, and each is followed by its complement: merged, the two are complements of each other only where the number is
//! the same on all ranks.
//!
//! | bytes | what |
//! |---|---|
//! | 0, 1 | [`VERSION`] and its complement |
//! | 2 | 1 where something overflowed or was not finite |
//! | 3 | 1 where anything was visited |
//! | 4 | 1 where a device does nothing any more |
//! | 5 | the cause at a layer that is asked for and has no cell, if any |
//! | 6, 7 | zero |
//! | 8..16 | how many cells there are |
//! | 16..32 | finished steps |
//! | 32..40 | a digest of the configuration |
//! | 40..56 | a digest of what the step began with: see [`Share::part`] |
//! | 56..72 | the number of the layer or weight that has no cell, if any was found unusable |
//! | 72..78 | the entry of the loss |
//! | 78, 79 | zero |
//! | 80.. | the entries of the cells |
//!
//! | byte of an entry | what |
//! |---|---|
//! | 0 | 127 less the ceiling, so that the least ceiling wins; 0 where there is none |
//! | 1 | 0 no cell yet, 1 not visited, 2 visited, 3 overflowed |
//! | 2 | 1 where f32 sums of its values overflowed |
//! | 3 | 127 less the exponent of a first scale, so that the least scale wins; 0 where there is none to agree on |
//! | 4 | the cause that makes the layer unusable, if any: one more than its discriminant |
//! | 5 | the cause at the layer's weight gradient, if any; at the loss, that of any weight without a cell |

use core::{fmt, iter};

use super::{checkpoint::config_digest, finding::Finding, run::RunState};
use crate::{
    policy::{Cell, Config, Seen},
    scale::Scale,
    unscale::{Cause, Place},
};

/// The version of the layout, and of what follows from a message; ranks with different ones do not agree.
pub const VERSION: u8 = 1;

/// The bytes of a message without its cells.
pub const HEADER_BYTES: usize = 80;

/// The bytes of a message for each cell.
pub const CELL_BYTES: usize = 6;

/// Returns the size of a message with so many cells.
pub const fn message_bytes(cells: usize) -> usize {
    HEADER_BYTES.saturating_add(CELL_BYTES.saturating_mul(cells))
}

/// Merges the message of another rank: the greater byte at each place, in any order and as often as you like.
///
/// # Errors
///
/// The messages differ in length; nothing was merged.
pub fn merge(into: &mut [u8], from: &[u8]) -> Result<(), ShareError> {
    if into.len() != from.len() {
        return Err(ShareError::Room { expected: into.len(), length: from.len() });
    }
    for (into, &from) in into.iter_mut().zip(from) {
        *into = from.max(*into);
    }
    Ok(())
}

/// A step that ranks share, after its last visit and before it is finished.
///
/// What is visited between [`pack`](Self::pack) and [`unpack`](Self::unpack) is lost.  On an error of either nothing has
/// changed, and the step is not to be finished: the other ranks would not do the same.
///
/// What stays a rank's own: certificates, with when the next one is due; the counts of
/// [`Totals`](super::Totals) but for steps; and the counts of small weight gradients.
///
/// Values that are not finite are traced to the f32 sums behind them on each rank by itself, to the first of that rank.  A
/// first scale, of which the ranks may have found several, becomes the least of them.
///
/// # Examples
///
/// Two ranks, of which the second never visits layer 1.
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::Config, unscale::{Cause, Place, Verdict}};
/// use adaloss_core::scaler::{LossScaler, share::{self, ShareError}};
/// let config = Config::for_format(Format::BINARY16);
/// let mut ranks = [(); 2].map(|()| LossScaler::<2>::new(config));
/// let [mut first, mut second] = ranks.each_mut().map(LossScaler::begin);
///
/// let narrowed = &mut [f16::ZERO];
/// let loss = first.loss().apply(&[2.0e-8], narrowed)?.tag();
/// first.layer(1, loss)?.apply(&[3.0e-9], narrowed)?;
/// second.loss().apply(&[f32::NAN], narrowed)?;
///
/// const BYTES: usize = share::message_bytes(2);
/// let [mut message, mut other] = [[0; BYTES]; 2];
/// first.share().pack(&mut message)?;
/// second.share().pack(&mut other)?;
/// share::merge(&mut message, &other)?; // on a cluster, one all-reduce: the maximum of each byte
///
/// let verdict = Verdict::Skip { layer: Place::Loss, cause: Cause::NonFinite };
/// for mut step in [first, second] {
///     step.share().unpack(&message)?;
///     assert_eq!(step.finish(), verdict);
/// }
/// let scales = ranks.each_ref().map(|rank| rank.cell(Place::Layer(1)).map(|cell| cell.scale()));
/// assert!(scales[0].is_some() && scales[0] == scales[1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Share<'s> {
    config: &'s Config,
    run: &'s mut RunState,
    cells: &'s mut [Cell],
    ending: Option<Ending<'s>>,
}

/// What a device knows of the end of a step.
#[derive(Debug)]
pub(super) struct Ending<'s> {
    pub(super) pending: &'s mut Finding,
    pub(super) halted: &'s mut Finding,
}

impl<'s> Share<'s> {
    pub(super) const fn new(
        config: &'s Config,
        run: &'s mut RunState,
        cells: &'s mut [Cell],
        ending: Option<Ending<'s>>,
    ) -> Self {
        Self { config, run, cells, ending }
    }

    /// Writes what this rank brings to the agreement.
    ///
    /// # Errors
    ///
    /// `to` is not of [`message_bytes`] for the scaler's cells, or the policy [decides from operands](ShareError::Operands).
    pub fn pack(&self, to: &mut [u8]) -> Result<(), ShareError> {
        let (expected, length) = (message_bytes(self.cells.len()), to.len());
        if self.config.policy().wants_operands() {
            return Err(ShareError::Operands);
        }
        let Some((header, entries)) = to.split_first_chunk_mut().filter(|_| length == expected)
        else {
            return Err(ShareError::Room { expected, length });
        };
        let found = self.found();
        *header = self.header(found);
        let (entries, _) = entries.as_chunks_mut();
        let in_use = self.run.in_use(self.cells).iter().map(Some);
        for ((id, to), cell) in (0..).zip(entries).zip(in_use.chain(iter::repeat(None))) {
            let cause = |at: Place| found.filter(|&(place, _)| place == at).map(|(_, cause)| cause);
            let causes = [cause(Place::Layer(id)), cause(Place::Weight(id))];
            *to = self.entry(cell, causes).to_bytes();
        }
        Ok(())
    }

    /// Tells whether the merged message, or its header alone, is of ranks that can share this step.
    ///
    /// A message of ranks with different numbers of cells cannot be merged; their headers can, and so they find out.
    ///
    /// # Errors
    ///
    /// What the ranks do not have in common, the first in the order of [`ShareError`].
    pub fn matches(&self, from: &[u8]) -> Result<(), ShareError> {
        let short = ShareError::Room { expected: HEADER_BYTES, length: from.len() };
        let header: &[u8; HEADER_BYTES] = from.first_chunk().ok_or(short)?;
        let step = self.step();
        let has = |is_common: bool, error| if is_common { Ok(()) } else { Err(error) };
        has(is_common([VERSION], &header[0..2]), ShareError::Version)?;
        has(is_common(self.cell_count().to_le_bytes(), &header[8..16]), ShareError::Cells)?;
        has(is_common(self.configuration().to_le_bytes(), &header[32..40]), ShareError::Config)?;
        has(is_common(step.to_le_bytes(), &header[16..32]), ShareError::Step { step })?;
        has(is_common(self.digest().to_le_bytes(), &header[40..56]), ShareError::Digest { step })?;
        let flags = &header[2..5];
        let is_legal = flags.iter().all(|&flag| flag <= 1)
            && is_cause(header[5])
            && [header[6], header[7], header[78], header[79]] == [0; 4];
        has(is_legal, ShareError::Damaged)
    }

    /// Takes what all ranks brought, instead of what this one did.
    ///
    /// # Errors
    ///
    /// As [`matches`](Self::matches); the message is of another length, or is none; or another rank's device does
    /// nothing any more and this one has no device.
    pub fn unpack(&mut self, from: &[u8]) -> Result<(), ShareError> {
        let (expected, length) = (message_bytes(self.cells.len()), from.len());
        if self.config.policy().wants_operands() {
            return Err(ShareError::Operands);
        }
        let Some((header, entries)) =
            from.split_first_chunk::<HEADER_BYTES>().filter(|_| length == expected)
        else {
            return Err(ShareError::Room { expected, length });
        };
        self.matches(from)?;
        let loss: [u8; CELL_BYTES] =
            [header[72], header[73], header[74], header[75], header[76], header[77]];
        let (entries, _) = entries.as_chunks();
        if !iter::once(&loss).chain(entries).all(|bytes| Entry::is_legal(*bytes)) {
            return Err(ShareError::Damaged);
        }
        let found = self.first(header, &Entry::of(loss), entries);
        if header[4] == 1 {
            return self.halt(found);
        }
        self.take_entry(Place::Loss, &Entry::of(loss));
        for (id, bytes) in (0..).zip(entries) {
            self.take_entry(Place::Layer(id), &Entry::of(*bytes));
        }
        let run = &mut *self.run;
        (run.overflowed, run.has_visited, run.has_seen) = (header[2] == 1, header[3] == 1, true);
        run.bad = found;
        if run.visit.is_open() {
            run.visit.forget();
        }
        if let Some(Ending { pending, .. }) = &mut self.ending {
            **pending = Finding::NOTHING;
        }
        Ok(())
    }

    /// Returns how many steps this rank finished.
    pub const fn step(&self) -> u64 {
        self.run.totals.steps
    }

    /// Returns how many cells this rank has.
    pub const fn cell_count(&self) -> u32 {
        self.cells.len() as u32
    }

    /// Returns a digest of the configuration.
    pub fn configuration(&self) -> u32 {
        config_digest(self.config)
    }

    /// Returns a digest of one part of what has to be the same on every rank as a step begins; `None` behind the last.
    ///
    /// The first part is the number of steps that were skipped in a row, which has no place, the second the loss's cell, and the
    /// others are the layers' cells in order.  Two cells that differ in one bit of what decides have different digests.
    ///
    /// Nothing that a step does before it is finished moves them, but for a first scale, which is left out.
    pub fn part(&self, index: usize) -> Option<(Option<Place>, u64)> {
        let Some(index) = index.checked_sub(1) else {
            return Some((None, mixed(SEED, [self.run.skipped_in_row.into()])));
        };
        let Some(id) = index.checked_sub(1) else {
            return Some((Some(Place::Loss), self.cell_digest(&self.run.loss)));
        };
        self.cells.get(id)?;
        let cell = self.run.in_use(self.cells).get(id);
        let digest = cell.map_or_else(|| self.new_digest(), |cell| self.cell_digest(cell));
        Some((Some(Place::Layer(id)), digest))
    }

    /// Returns a digest of all parts.
    fn digest(&self) -> u64 {
        let in_use = self.run.in_use(self.cells);
        let new = self.new_digest();
        let skipped = mixed(SEED, [self.run.skipped_in_row.into()]);
        let digest = mixed(SEED, [skipped, self.cell_digest(&self.run.loss)]);
        let digest =
            in_use.iter().fold(digest, |so_far, cell| mixed(so_far, [self.cell_digest(cell)]));
        (in_use.len()..self.cells.len()).fold(digest, |so_far, _| mixed(so_far, [new]))
    }

    fn cell_digest(&self, cell: &Cell) -> u64 {
        mixed(SEED, cell.deciding(self.config.policy().follows_maxima()))
    }

    /// Returns the digest of a cell before its first visit: some ranks may not have it yet.
    fn new_digest(&self) -> u64 {
        self.cell_digest(&self.config.cell())
    }

    /// Returns the first thing that this rank found unusable.
    fn found(&self) -> Option<(Place, Cause)> {
        let ending = self.ending.as_ref();
        let halted = ending.and_then(|ending| ending.halted.get());
        let pending = || ending.and_then(|ending| ending.pending.get());
        halted.or_else(|| self.run.first_bad()).or_else(pending)
    }

    /// Returns the header of this rank's message.
    fn header(&self, found: Option<(Place, Cause)>) -> [u8; HEADER_BYTES] {
        let ending = self.ending.as_ref();
        let pending = ending.and_then(|ending| ending.pending.cause());
        let overflowed = self.run.overflowed || pending.is_some_and(Cause::is_numeric);
        let halted = ending.is_some_and(|ending| ending.halted.is_some());
        let at =
            |wanted: Place| found.filter(|&(place, _)| place == wanted).map(|(_, cause)| cause);
        // What has no cell is named by its number; of weights the entry of the loss has room for the cause.
        let without_cell = found.and_then(|(place, cause)| match place {
            Place::Layer(id) if id >= self.cells.len() => Some((id, [code(Some(cause)), 0])),
            Place::Weight(id) if id >= self.cells.len() => Some((id, [0, code(Some(cause))])),
            _ => None,
        });
        let (id, [layer, weight]) = without_cell.unwrap_or_default();
        let mut loss = self.entry(Some(&self.run.loss), [at(Place::Loss), None]);
        loss.weight = weight;

        let mut header = [0; HEADER_BYTES];
        (header[0], header[1]) = (VERSION, !VERSION);
        header[2] = overflowed.into();
        header[3] = self.run.has_visited.into();
        header[4] = halted.into();
        header[5] = layer;
        write(&mut header[8..16], self.cell_count().to_le_bytes());
        write(&mut header[16..32], self.step().to_le_bytes());
        write(&mut header[32..40], self.configuration().to_le_bytes());
        write(&mut header[40..56], self.digest().to_le_bytes());
        if without_cell.is_some() {
            write(&mut header[56..72], (id as u64).to_le_bytes());
        }
        header[72..78].copy_from_slice(&loss.to_bytes());
        header
    }

    /// Returns what this rank says of a cell.
    fn entry(&self, cell: Option<&Cell>, [layer, weight]: [Option<Cause>; 2]) -> Entry {
        let seen = cell.map_or(Seen::NOTHING, Cell::seen);
        let first =
            cell.filter(|_| self.config.policy().follows_maxima()).and_then(Cell::first_scale);
        Entry {
            // In eight bits, 127 - (-128) is 255.
            ceiling: i8::MAX.wrapping_sub(seen.ceiling) as u8,
            visit: match (cell, seen.visited, seen.overflowed) {
                (None, ..) => 0,
                (Some(_), false, _) => 1,
                (Some(_), true, false) => 2,
                (Some(_), true, true) => 3,
            },
            sums: seen.sums_overflowed.into(),
            first_scale: first.map_or(0, |scale| (127 - scale.log2()) as u8),
            layer: code(layer),
            weight: code(weight),
        }
    }

    /// Takes what all ranks say of a cell.
    fn take_entry(&mut self, place: Place, entry: &Entry) {
        if entry.visit == 0 {
            return;
        }
        let follows_maxima = self.config.policy().follows_maxima();
        if let Ok(cell) = self.run.cell_mut(self.config, self.cells, place)
            && follows_maxima
        {
            cell.set_seen(entry.seen());
            if entry.first_scale > 0 {
                cell.settle_first_scale(Scale::saturating(127 - i32::from(entry.first_scale)));
            }
        }
    }

    /// Returns the first thing that any rank found unusable, in the order of layers, then of weights.
    fn first(
        &self,
        header: &[u8; HEADER_BYTES],
        loss: &Entry,
        entries: &[[u8; CELL_BYTES]],
    ) -> Finding {
        let named = |(id, code): (usize, u8), place: fn(usize) -> Place| {
            cause(code).map(|cause| Finding::new(place(id), cause))
        };
        // Where ranks found several such, none of their numbers is left: then it is the first without a cell.
        let [value, complement] = [&header[56..64], &header[64..72]];
        let id = match value.first_chunk() {
            Some(&id) if is_complement(value, complement) => u64::from_le_bytes(id) as usize,
            _ => self.cells.len(),
        };
        let entries = || (0..).zip(entries.iter().map(|bytes| Entry::of(*bytes)));
        let found = named((0, loss.layer), |_| Place::Loss)
            .or_else(|| entries().find_map(|(id, entry)| named((id, entry.layer), Place::Layer)))
            .or_else(|| named((id, header[5]), Place::Layer))
            .or_else(|| entries().find_map(|(id, entry)| named((id, entry.weight), Place::Weight)))
            .or_else(|| named((id, loss.weight), Place::Weight));
        found.unwrap_or(Finding::NOTHING)
    }

    /// Does nothing any more, since another rank's device does not.
    fn halt(&mut self, found: Finding) -> Result<(), ShareError> {
        match (&mut self.ending, found.get()) {
            (Some(Ending { halted, .. }), Some(_)) => {
                if !halted.is_some() {
                    **halted = found;
                }
                Ok(())
            }
            (None, Some((place, cause))) => Err(ShareError::Halted { place, cause }),
            (_, None) => Err(ShareError::Damaged),
        }
    }
}

/// What a message says of a cell.
#[derive(Clone, Copy)]
struct Entry {
    ceiling: u8,
    visit: u8,
    sums: u8,
    first_scale: u8,
    layer: u8,
    weight: u8,
}

impl Entry {
    const fn to_bytes(self) -> [u8; CELL_BYTES] {
        let Self { ceiling, visit, sums, first_scale, layer, weight } = self;
        [ceiling, visit, sums, first_scale, layer, weight]
    }

    const fn of([ceiling, visit, sums, first_scale, layer, weight]: [u8; CELL_BYTES]) -> Self {
        Self { ceiling, visit, sums, first_scale, layer, weight }
    }

    fn is_legal([_, visit, sums, first_scale, layer, weight]: [u8; CELL_BYTES]) -> bool {
        // 253 is the least scale there is.
        visit <= 3 && sums <= 1 && first_scale <= 253 && is_cause(layer) && is_cause(weight)
    }

    const fn seen(&self) -> Seen {
        Seen {
            ceiling: i8::MAX.wrapping_sub(self.ceiling as i8),
            overflowed: self.visit >= 3,
            sums_overflowed: self.sums > 0,
            visited: self.visit >= 2,
        }
    }
}

/// Returns the byte of a cause: the greater of two stays, so that a mistake is named before an overflow.
const fn code(cause: Option<Cause>) -> u8 {
    match cause {
        Some(cause) => cause as u8 + 1,
        None => 0,
    }
}

fn cause(code: u8) -> Option<Cause> {
    Cause::ALL.get(usize::from(code).checked_sub(1)?).copied()
}

fn is_cause(code: u8) -> bool {
    usize::from(code) <= Cause::ALL.len()
}

/// Writes a number and its complement.
fn write<const N: usize>(to: &mut [u8], number: [u8; N]) {
    let complement = number.map(|byte| !byte);
    to.iter_mut().zip(number.iter().chain(&complement)).for_each(|(to, from)| *to = *from);
}

/// Tells whether a number and its complement, merged, are those of every rank, and this is the number.
fn is_common<const N: usize>(number: [u8; N], merged: &[u8]) -> bool {
    merged.iter().copied().eq(number.into_iter().chain(number.map(|byte| !byte)))
}

fn is_complement(number: &[u8], complement: &[u8]) -> bool {
    number.iter().zip(complement).all(|(byte, other)| *byte == !other)
}

/// The fractional part of the golden ratio, in 64 bits, as SplitMix64 has it.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes words into a digest; each can be told from any other in its place, whatever came before and comes behind.
///
/// The steps are those of SplitMix64 (Steele, Lea and Flood 2014), each of them invertible.
fn mixed<const N: usize>(digest: u64, words: [u64; N]) -> u64 {
    words.into_iter().fold(digest, |digest, word| {
        let mut mixed = digest.rotate_left(25) ^ word;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// Ranks that cannot share a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareError {
    /// A message is too short or too long for the scaler's cells.
    Room {
        /// The bytes of the message.
        expected: usize,
        /// The bytes given.
        length: usize,
    },
    /// The policy decides from operands (`normal`, `range`), at each visit and so before a step could be agreed on.
    ///
    /// What one rank decided would hold for the others from the next step on only, after they have used what they
    /// decided themselves; and of a layer that this rank did not visit nothing would ever be decided.
    Operands,
    /// The ranks run different versions of the message.
    Version,
    /// The ranks have different numbers of cells.
    Cells,
    /// The ranks have different configurations.
    Config,
    /// The ranks are at different steps.
    Step {
        /// The steps that this rank finished.
        step: u64,
    },
    /// The cells differed before the step began, or the steps that were skipped in a row.
    Digest {
        /// The steps that this rank finished.
        step: u64,
    },
    /// The bytes are no merged message.
    Damaged,
    /// Another rank has a device on which nothing is done any more.
    Halted {
        /// What was not usable there.
        place: Place,
        /// Why.
        cause: Cause,
    },
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room { expected, length } => {
                write!(f, "the message of a step has {expected} bytes and here are {length}")
            }
            Self::Operands => f.write_str(
                "a policy that decides from operands decides on each rank by itself: choose measured or amax",
            ),
            Self::Version => f.write_str("the ranks run different versions of this library"),
            Self::Cells => f.write_str("the ranks have different numbers of cells"),
            Self::Config => f.write_str("the ranks have different configurations"),
            Self::Step { step } => {
                write!(f, "the ranks are at different steps, and this one finished {step}")
            }
            Self::Digest { step } => write!(
                f,
                "the cells of the ranks differ after {step} steps: go on from a checkpoint on every rank"
            ),
            Self::Damaged => f.write_str("these bytes are no message of ranks that share a step"),
            Self::Halted { place, cause } => {
                write!(f, "another rank does nothing any more: {cause} in {place}")
            }
        }
    }
}

impl core::error::Error for ShareError {}
