//! A place, and why it is not usable, as plain data.

use crate::unscale::{Cause, Place};

/// A place, and the reason why it is not usable if there is one: every byte is defined, and all of them zero are the
/// loss, with which nothing is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Finding {
    id: u64,
    /// 0 is the loss, 1 a layer, 2 a weight.
    place: u8,
    /// 0 is none; the others are one more than their index in [`Cause::ALL`].
    cause: u8,
    reserved: [u8; 6],
}

impl Finding {
    /// Nothing was found.
    pub(super) const NOTHING: Self = Self::at(Place::Loss);

    /// Names a place with which nothing is wrong.
    pub(super) const fn at(place: Place) -> Self {
        let (place, id) = match place {
            Place::Loss => (0, 0),
            Place::Layer(id) => (1, id as u64),
            Place::Weight(id) => (2, id as u64),
        };
        Self { id, place, cause: 0, reserved: [0; 6] }
    }

    pub(super) const fn new(place: Place, cause: Cause) -> Self {
        Self { cause: cause as u8 + 1, ..Self::at(place) }
    }

    /// Names a cause, unless there is one.
    pub(super) const fn get_or_insert(&mut self, cause: Cause) {
        if self.cause == 0 {
            self.cause = cause as u8 + 1;
        }
    }

    pub(super) const fn place(&self) -> Place {
        match self.place {
            1 => Place::Layer(self.id as usize),
            2 => Place::Weight(self.id as usize),
            _ => Place::Loss,
        }
    }

    /// Tells whether there is a cause.
    pub(super) const fn is_some(&self) -> bool {
        self.cause != 0
    }

    /// Tells whether this is the cause.
    pub(super) const fn is(&self, cause: Cause) -> bool {
        self.cause == cause as u8 + 1
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        Cause::ALL.get(usize::from(self.cause).checked_sub(1)?).copied()
    }

    /// Returns the place and the cause, if there is one.
    pub(super) fn get(&self) -> Option<(Place, Cause)> {
        self.cause().map(|cause| (self.place(), cause))
    }
}
