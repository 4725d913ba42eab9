//! Ranks that share a step: the collective operations that an agreement needs, and the agreement.
//!
//! A [`Group`] is what an existing engine carries: MPI (`adaloss-mpi`), threads of a process (`adaloss-threads`), NCCL or
//! gloo behind an implementation of one's own.  [`agree`] asks it for one reduction a step, of a message whose layout
//! [`adaloss_core::scaler::share`] has; further ones follow only where ranks turn out not to be alike.
//!
//! ```text
//! visits --> Step::share --> pack --> [ Group::max_u8 ] --> unpack --> Step::finish: one verdict, the same cells
//! ```
//!
//! Weight gradients are not part of it: a runtime sums them as it likes, or by [`sum`], which an [`Exchange`] carries.

mod agree;
mod histogram;
mod sum;

use core::{convert::Infallible, fmt};

pub use agree::{AgreeError, Difference, What, agree, meet, odd_rank};
pub use histogram::merge_histogram;
pub use sum::{Largest, largest, room_bytes, room_values, sum, sum_scale};

/// Ranks that call the same operations, in the same order and with the same lengths.
///
/// An operation returns on each rank when all have called it, or with an error on all of them that are left: no
/// implementation may wait for ever.  After an error the group is of no further use.
pub trait Group {
    /// What can go wrong.
    type Error: GroupError;

    /// Returns which one of the ranks this is, from 0.
    fn rank(&self) -> usize;

    /// Returns how many ranks there are.
    fn size(&self) -> usize;

    /// Replaces each byte by the greatest that any rank has in its place.
    ///
    /// # Errors
    ///
    /// A rank is gone or late, or calls something else.
    fn max_u8(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Replaces each number by the greatest that any rank has in its place.
    ///
    /// # Errors
    ///
    /// As [`max_u8`](Self::max_u8).
    fn max_u64(&mut self, numbers: &mut [u64]) -> Result<(), Self::Error>;

    /// Replaces each number by the sum over all ranks, modulo 2^64.
    ///
    /// # Errors
    ///
    /// As [`max_u8`](Self::max_u8).
    fn sum_u64(&mut self, numbers: &mut [u64]) -> Result<(), Self::Error>;

    /// Replaces the bytes by those of the rank `from`, which is the same everywhere.
    ///
    /// # Errors
    ///
    /// As [`max_u8`](Self::max_u8), or there is no such rank.
    fn broadcast(&mut self, from: usize, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

/// Ranks that hand each other bytes: what [`sum`] needs beyond a [`Group`].
///
/// The promises are those of [`Group`].
pub trait Exchange: Group {
    /// Brings `own` to all ranks: `all` becomes what they brought, one after the other in the order of ranks.
    ///
    /// # Errors
    ///
    /// As [`Group::max_u8`], or `all` is not [`size`](Group::size) times as long as `own`.
    fn all_gather(&mut self, own: &[u8], all: &mut [u8]) -> Result<(), Self::Error>;

    /// Brings each rank its part of `from`, which has one part for each in their order, all of one length; `to` becomes
    /// the parts that they brought to this rank, in the order of ranks.
    ///
    /// # Errors
    ///
    /// As [`Group::max_u8`], or the two differ in length, or have no equal parts.
    fn all_to_all(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), Self::Error>;
}

impl<G: Exchange + ?Sized> Exchange for &mut G {
    fn all_gather(&mut self, own: &[u8], all: &mut [u8]) -> Result<(), Self::Error> {
        (**self).all_gather(own, all)
    }

    fn all_to_all(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), Self::Error> {
        (**self).all_to_all(from, to)
    }
}

impl<G: Group + ?Sized> Group for &mut G {
    type Error = G::Error;

    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn max_u8(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        (**self).max_u8(bytes)
    }

    fn max_u64(&mut self, numbers: &mut [u64]) -> Result<(), Self::Error> {
        (**self).max_u64(numbers)
    }

    fn sum_u64(&mut self, numbers: &mut [u64]) -> Result<(), Self::Error> {
        (**self).sum_u64(numbers)
    }

    fn broadcast(&mut self, from: usize, bytes: &mut [u8]) -> Result<(), Self::Error> {
        (**self).broadcast(from, bytes)
    }
}

/// What can go wrong in a group.
///
/// As in embedded-hal, a group has an error type of its own, and generic code asks for the kind.
pub trait GroupError: core::error::Error {
    /// Returns the kind that generic code can act on.
    fn kind(&self) -> GroupErrorKind;

    /// Returns the rank that is to blame, where that is known.
    fn rank(&self) -> Option<usize> {
        None
    }
}

/// The kinds of errors that generic code can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupErrorKind {
    /// A rank left, or failed.
    Disconnected,
    /// A rank did not come before the deadline.
    Timeout,
    /// The ranks called different operations, or with different lengths.
    Mismatch,
    /// Anything else; the error's text says more.
    Other,
}

impl fmt::Display for GroupErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "a rank left",
            Self::Timeout => "a rank did not come in time",
            Self::Mismatch => "the ranks called different operations",
            Self::Other => "the group failed",
        })
    }
}

/// The group of one rank, in which everything is agreed on as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Solo;

impl Group for Solo {
    type Error = Infallible;

    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn max_u8(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn max_u64(&mut self, _: &mut [u64]) -> Result<(), Infallible> {
        Ok(())
    }

    fn sum_u64(&mut self, _: &mut [u64]) -> Result<(), Infallible> {
        Ok(())
    }

    /// Takes the bytes of the one rank there is, whichever is asked for.
    fn broadcast(&mut self, _: usize, _: &mut [u8]) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Lengths that do not match are cut to the shorter one.
impl Exchange for Solo {
    fn all_gather(&mut self, own: &[u8], all: &mut [u8]) -> Result<(), Infallible> {
        all.iter_mut().zip(own).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn all_to_all(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), Infallible> {
        self.all_gather(from, to)
    }
}

impl GroupError for Infallible {
    fn kind(&self) -> GroupErrorKind {
        match *self {}
    }
}
