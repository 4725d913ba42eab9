//! What every policy has: a name, a basis to decide from, and the few functions in which policies differ.
//!
//! A new policy is a file with its parameters and their [`Recipe`], and a line in each list of this folder's `mod.rs`:
//! the module, the variant of [`Policy`](super::Policy), the arm of `with_recipe`, `NAMES`, `named`, and its
//! [`Rule`] if it signs certificates or decisions.  The rest of this crate asks the recipe.

use super::{Cell, Config, Operands, Rule, Seen, config::Writer};
use crate::{format::Format, scale::Scale};

/// What a policy decides from.
///
/// What policies with the same basis have in common is written once, beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Whether whole steps were clean: there is one scale for the model, and layers carry the loss's through.
    WholeModel,
    /// Statistics of a layer's operands, before there are results; see [`operands`](super::operands).
    Operands,
    /// The largest magnitude of each step's results; see [`track`](super::track).
    Maxima,
}

/// What a policy is, whatever its parameters are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Description {
    /// As reports print it and command lines take it.
    pub(super) name: &'static str,
    /// Stands for the policy in a configuration's bytes and in C, and never changes.
    pub(super) number: u8,
    /// What it decides from.
    pub(super) basis: Basis,
    /// What its certificates, or the records of its decisions, are signed with; [`Rule::Unused`] where there
    /// are none.
    pub(super) rule: Rule,
}

/// How one policy chooses scales; implemented by its parameters, in its own file.
///
/// (A *recipe* is what Transformer Engine calls this.)  [`Policy`](super::Policy) hands each call on to the policy
/// that is configured.  What names a [`Basis`] is called under that one only, and has a default for the others.
///
/// Two more functions each policy has beside the trait, because they have to be `const`:
///
/// * `check(&self) -> Result<(), ConfigError>` refuses parameters that cannot work;
/// * `tolerance(&self) -> Option<Fraction>` is the share of nonzero elements that a certificate lets underflow, where
///   the policy promises one.
pub(super) trait Recipe: Sized {
    /// What it is.
    const DESCRIPTION: Description;

    /// Returns the parameters that its source has by default, for gradients in a format; `None` where nothing
    /// is usual.
    fn usual(format: Format) -> Option<Self>;

    /// Writes the parameters, in an order that never changes.
    fn write(&self, to: &mut Writer);

    /// Returns the cell that a tensor starts with.
    fn cell(&self) -> Cell {
        Cell::new()
    }

    /// Tells whether a cell can be one of this policy's.  Under [`Basis::Maxima`] it is asked only of cells that
    /// remember a step.
    fn could_remember(&self, cell: &Cell) -> bool;

    /// Returns the scale that a tensor leaves with, when its values arrive at `incoming`.
    fn outgoing(&self, cell: &Cell, _incoming: Scale) -> Scale {
        cell.scale
    }

    /// [`Basis::WholeModel`]: moves the scale after a step that was clean or not.
    fn step(&self, _clean: bool, _cell: &mut Cell) {}

    /// [`Basis::Operands`]: returns the factor that a layer is to add, before bounds; `None` where an operand is not
    /// finite, or of a kind that the policy cannot judge.
    fn wanted_factor(&self, _operands: &Operands) -> Option<f32> {
        None
    }

    /// [`Basis::Maxima`]: returns how many binades below its ceiling the scale of a first visit is.
    fn first_headroom(&self) -> u8 {
        0
    }

    /// [`Basis::Maxima`]: remembers what a step showed, a ceiling among it; returns the greatest exponent that
    /// the scale of the next step may have, as a cell keeps ceilings.
    fn greatest_log2(&self, _config: &Config, _seen: Seen, _cell: &mut Cell) -> i32 {
        0
    }
}

/// Returns what the policy with these parameters is.
pub(super) const fn description<R: Recipe>(_parameters: &R) -> Description {
    R::DESCRIPTION
}
