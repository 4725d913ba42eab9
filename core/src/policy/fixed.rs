//! Static loss scaling: one scale for every tensor, for ever.

use super::{
    Cell, ConfigError, Fraction, Rule,
    config::Writer,
    recipe::{Basis, Description, Recipe},
};
use crate::{format::Format, scale::Scale};

/// The only parameter of the `fixed` policy, which [`Policy::Fixed`](super::Policy::Fixed) holds as it is.
///
/// (Micikevicius et al. 2018, section 3.2.)
pub(super) struct Fixed(pub(super) Scale);

impl Fixed {
    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    pub(super) const fn tolerance(&self) -> Option<Fraction> {
        None
    }
}

impl Recipe for Fixed {
    const DESCRIPTION: Description =
        Description { name: "fixed", number: 0, basis: Basis::WholeModel, rule: Rule::Unused };

    /// None: which scale is a good one depends on the model.
    fn usual(_: Format) -> Option<Self> {
        None
    }

    fn write(&self, to: &mut Writer) {
        to.put(&self.0.log2().to_le_bytes());
    }

    fn cell(&self) -> Cell {
        Cell::at(self.0)
    }

    fn could_remember(&self, cell: &Cell) -> bool {
        cell.scale == self.0
    }
}
