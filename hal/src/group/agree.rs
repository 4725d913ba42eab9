//! One message a step; and where ranks are not alike, which one differs, and in what.

use core::fmt;

use adaloss_core::{
    scaler::share::{HEADER_BYTES, Share, ShareError, VERSION},
    unscale::Place,
};

use super::{Group, GroupError};

/// Lets all ranks of a group take the same step: each calls this between its last visit and
/// [`finish`](adaloss_core::scaler::Step::finish), which then returns the same verdict on all of them.
///
/// A rank that has nothing usable calls it too.  `room` is of
/// [`message_bytes`](adaloss_core::scaler::share::message_bytes) for the scaler's cells; one reduction is made of it.
///
/// # Errors
///
/// The group failed, or the ranks are not alike; in the second case the error names rank, step and cell, and is the same on every
/// rank.  The step is not to be finished, and the run cannot go on but from a checkpoint.  Where this rank's `room` is too
/// short, or its policy [cannot be shared](ShareError::Operands), it does not take part, and the others wait for it in vain.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::Config, unscale::Verdict};
/// use adaloss_core::scaler::{LossScaler, share::message_bytes};
/// use adaloss_hal::group::{Solo, agree, meet};
/// let mut scaler = LossScaler::<4>::new(Config::for_format(Format::BINARY16));
/// let (mut group, mut room) = (Solo, [0; message_bytes(4)]); // or the group of `adaloss-mpi`
/// meet(&scaler.begin().share(), &mut group, &mut room)?;
///
/// let mut step = scaler.begin();
/// step.loss().apply(&[2.0e-8, -1.0e-6], &mut [f16::ZERO; 2])?;
/// agree(&mut step.share(), &mut group, &mut room)?;
/// assert_eq!(step.finish(), Verdict::Apply); // everybody's
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn agree<G: Group>(
    share: &mut Share<'_>,
    group: &mut G,
    room: &mut [u8],
) -> Result<(), AgreeError<G::Error>> {
    share.pack(room).map_err(AgreeError::Share)?;
    group.max_u8(room).map_err(AgreeError::Group)?;
    match share.unpack(room) {
        Ok(()) => Ok(()),
        Err(error) => Err(explained(share, group, error)),
    }
}

/// Finds out whether ranks can share steps, before the first: whether they have the same version, number of cells and
/// configuration, and are at the same step with the same cells.
///
/// Messages of different lengths cannot be reduced, and what an engine does of them is its own; this reduces
/// headers only.  It is called once, and again after a scaler was read from a checkpoint.
///
/// # Errors
///
/// As [`agree`].
pub fn meet<G: Group>(
    share: &Share<'_>,
    group: &mut G,
    room: &mut [u8],
) -> Result<(), AgreeError<G::Error>> {
    share.pack(room).map_err(AgreeError::Share)?;
    let length = room.len();
    let short = AgreeError::Share(ShareError::Room { expected: HEADER_BYTES, length });
    let header = room.get_mut(..HEADER_BYTES).ok_or(short)?;
    group.max_u8(header).map_err(AgreeError::Group)?;
    match share.matches(header) {
        Ok(()) => Ok(()),
        Err(error) => Err(explained(share, group, error)),
    }
}

/// Ranks that could not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgreeError<E> {
    /// The group failed: a rank left or is late, say.
    Group(E),
    /// This rank cannot take part, or the message was damaged on its way.
    Share(ShareError),
    /// A rank is not like the others.
    Differs(Difference),
    /// Histograms count for different formats or roundings.
    Narrowings,
    /// There is less room for a [`sum`](super::sum) than it needs; nothing was sent.
    Room {
        /// Bytes or values that are needed.
        expected: usize,
        /// How many there are.
        length: usize,
    },
}

/// A rank that is not like the others.
///
/// It is rank 0 where most ranks differ from that one, else the first that differs from rank 0.  Of two ranks nobody can
/// tell which is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The rank.
    pub rank: usize,
    /// How many steps it finished.
    pub step: u64,
    /// What differs.
    pub what: What,
}

/// In what a rank differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The version of the message.
    Version,
    /// The number of cells.
    Cells,
    /// The configuration.
    Config,
    /// How many steps were finished.
    Step,
    /// How many steps were skipped in a row.
    SkippedInRow,
    /// What the cell of a place holds; of several cells the first.
    Cell(Place),
}

/// Parts whose digests are exchanged at once: 512 bytes on the stack.
const PARTS: usize = 32;

/// Finds the rank that differs, which all ranks do together, since all of them have the same error.
fn explained<G: Group>(
    share: &Share<'_>,
    group: &mut G,
    error: ShareError,
) -> AgreeError<G::Error> {
    let found = match error {
        ShareError::Version => odd_one(group, VERSION.into()).map(|rank| (rank, What::Version)),
        ShareError::Cells => {
            odd_one(group, share.cell_count().into()).map(|rank| (rank, What::Cells))
        }
        ShareError::Config => {
            odd_one(group, share.configuration().into()).map(|rank| (rank, What::Config))
        }
        ShareError::Step { .. } => odd_one(group, share.step()).map(|rank| (rank, What::Step)),
        ShareError::Digest { .. } => match odd_part(share, group) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => return AgreeError::Share(error),
            Err(error) => Err(error),
        },
        _ => return AgreeError::Share(error),
    };
    let named = found.and_then(|(rank, what)| {
        let mut step = share.step().to_le_bytes();
        group.broadcast(rank, &mut step)?;
        Ok(Difference { rank, step: u64::from_le_bytes(step), what })
    });
    named.map_or_else(AgreeError::Group, AgreeError::Differs)
}

/// Finds the first part of a scaler that is not the same everywhere, and the rank where it differs.
fn odd_part<G: Group>(share: &Share<'_>, group: &mut G) -> Result<Option<(usize, What)>, G::Error> {
    for first in (0..).step_by(PARTS) {
        if share.part(first).is_none() {
            break;
        }
        let mut digests = [[0; 2]; PARTS];
        for (to, (_, digest)) in
            digests.iter_mut().zip((first..).map_while(|index| share.part(index)))
        {
            *to = [digest, !digest];
        }
        group.max_u64(digests.as_flattened_mut())?;
        let parts = (first..).map_while(|index| share.part(index));
        let odd = digests.iter().zip(parts).find(|([greatest, other], _)| *greatest != !other);
        if let Some((_, (place, digest))) = odd {
            let what = place.map_or(What::SkippedInRow, What::Cell);
            return Ok(Some((odd_one(group, digest)?, what)));
        }
    }
    Ok(None)
}

/// Finds the rank whose number is not that of the others, if there is one: for what ranks have to have in common beyond their
/// scalers, as a digest of it.
///
/// It is rank 0 where most ranks differ from that one, else the first that differs from rank 0.
///
/// # Errors
///
/// The group failed.
///
/// # Examples
///
/// ```
/// use adaloss_hal::group::{Solo, odd_rank};
/// assert_eq!(odd_rank(&mut Solo, 17), Ok(None));
/// ```
pub fn odd_rank<G: Group>(group: &mut G, number: u64) -> Result<Option<usize>, G::Error> {
    let mut both = [number, !number];
    group.max_u64(&mut both)?;
    if both[0] == !both[1] { Ok(None) } else { odd_one(group, number).map(Some) }
}

/// Finds the rank whose number is not that of the others, where there is one.
fn odd_one<G: Group>(group: &mut G, number: u64) -> Result<usize, G::Error> {
    let mut zeroth = number.to_le_bytes();
    group.broadcast(0, &mut zeroth)?;
    let differs = u64::from_le_bytes(zeroth) != number;
    let mut count = [u64::from(differs)];
    group.sum_u64(&mut count)?;
    let size = group.size() as u64;
    if count[0] > size / 2 {
        return Ok(0);
    }
    let behind = size.saturating_sub(group.rank() as u64);
    let mut first = [if differs { behind } else { 0 }];
    group.max_u64(&mut first)?;
    Ok(size.saturating_sub(first[0]) as usize)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, step, what } = self;
        write!(f, "rank {rank}, after {step} finished steps, differs from the others in ")?;
        match what {
            What::Version => f.write_str("the version of this library"),
            What::Cells => f.write_str("the number of its cells"),
            What::Config => f.write_str("its configuration"),
            What::Step => f.write_str("the number of those steps"),
            What::SkippedInRow => f.write_str("how many of them it skipped in a row"),
            What::Cell(place) => write!(f, "the cell of {place}"),
        }?;
        f.write_str(": end the run, and go on from a checkpoint")
    }
}

impl<E: GroupError> fmt::Display for AgreeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(error) => fmt::Display::fmt(error, f),
            Self::Share(error) => error.fmt(f),
            Self::Differs(difference) => difference.fmt(f),
            Self::Room { expected, length } => {
                write!(f, "the sum needs room for {expected} and has it for {length}")
            }
            Self::Narrowings => {
                f.write_str("the histograms of the ranks count for different formats or roundings")
            }
        }
    }
}

impl<E: GroupError + 'static> core::error::Error for AgreeError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Group(error) => error.source(),
            Self::Share(error) => error.source(),
            Self::Differs(_) | Self::Narrowings | Self::Room { .. } => None,
        }
    }
}
