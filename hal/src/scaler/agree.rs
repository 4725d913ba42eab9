//! Steps that the devices of several ranks share.

use core::fmt;

use adaloss_core::policy::Cell;

use super::{Engine, HasScaler};
use crate::{
    device::Memory,
    group::{self, AgreeError, Group, GroupError},
};

impl<D: Memory + HasScaler> Engine<D> {
    /// Lets all ranks of a group take the same step, as [`group::agree`] does: each calls this between the last operation of a
    /// step and [`conclude`](Self::conclude).
    ///
    /// `cells` is room for all cells, and `room` for the message.  It waits for the device, once a step: what the device
    /// knows has to reach the engine that carries the message.  It cannot be captured in a graph.
    ///
    /// A rank on which nothing is done any more takes part, and then nothing is done on any rank.
    ///
    /// # Errors
    ///
    /// The device failed, or the ranks could not agree: then the scaler is as it was, and the step is not to be
    /// concluded.
    pub fn agree<G: Group>(
        &mut self,
        device: &mut D,
        group: &mut G,
        cells: &mut [Cell],
        room: &mut [u8],
    ) -> Result<(), SharedError<D::Error, G::Error>> {
        self.close_left(device).map_err(SharedError::Device)?;
        let mut state = self.read_back(device, cells).map_err(SharedError::Device)?;
        let mut share = state[0].share(&self.config, cells);
        group::agree(&mut share, group, room).map_err(SharedError::Agree)?;
        device.write(cells, D::view_mut(&mut self.cells)).map_err(SharedError::Device)?;
        device.write(&state, D::view_mut(&mut self.state)).map_err(SharedError::Device)
    }

    /// Finds out whether the ranks can share steps, as [`group::meet`] does; waits for the device.
    ///
    /// # Errors
    ///
    /// As [`agree`](Self::agree).
    pub fn meet<G: Group>(
        &self,
        device: &mut D,
        group: &mut G,
        cells: &mut [Cell],
        room: &mut [u8],
    ) -> Result<(), SharedError<D::Error, G::Error>> {
        let mut state = self.read_back(device, cells).map_err(SharedError::Device)?;
        let share = state[0].share(&self.config, cells);
        group::meet(&share, group, room).map_err(SharedError::Agree)
    }
}

/// What can go wrong where devices share a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedError<D, G> {
    /// The device failed.
    Device(D),
    /// The ranks could not agree.
    Agree(AgreeError<G>),
}

impl<D: fmt::Display, G: GroupError> fmt::Display for SharedError<D, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Agree(error) => error.fmt(f),
        }
    }
}

impl<D, G> core::error::Error for SharedError<D, G>
where
    D: core::error::Error + 'static,
    G: GroupError + 'static,
{
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Device(error) => error.source(),
            Self::Agree(error) => error.source(),
        }
    }
}
