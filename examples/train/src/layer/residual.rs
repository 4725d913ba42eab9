//! Branches that meet again.

use adaloss_core::{format::Element, policy::Cell, scale::Scale};
use adaloss_hal::{Branch, Plain, Propagate};
use anyhow::{Context, Result};

use super::{Activation, Backward, Forward, Gradient, Layer, Machine, Piece, Sequence, Vector};

/// The sum of a main branch and a shortcut, which is the identity unless it has layers.
pub struct Residual<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    name: String,
    main: Sequence<D, W, G>,
    shortcut: Option<Sequence<D, W, G>>,
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Residual<D, W, G> {
    /// Makes the sum; its cell bears the name.
    pub fn new(name: String, main: Sequence<D, W, G>, shortcut: Option<Sequence<D, W, G>>) -> Self {
        Self { name, main, shortcut }
    }
}

impl<D, W, G> Layer<D, W, G> for Residual<D, W, G>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let main = self.main.forward(run, input.clone())?;
        let shortcut = match &mut self.shortcut {
            Some(shortcut) => shortcut.forward(run, input)?,
            None => input,
        };
        let one = Vector::of(run.device, &[Cell::at(Scale::ONE)])?;
        let branches = [&main, &shortcut].map(|x| Branch { gradient: x.view(), cell: one.view() });
        run.activation(main.shape(), |device, to, epilogue| {
            device.run(Propagate::<_, W> { branches: &branches, to, epilogue })
        })
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let unwanted = "a branch that begins the network cannot be joined";
        let main = self.main.backward(run, gradient.clone())?.context(unwanted)?;
        let shortcut = match &mut self.shortcut {
            Some(shortcut) => shortcut.backward(run, gradient)?.context(unwanted)?,
            None => gradient,
        };
        run.join(&self.name, [&main, &shortcut]).map(Some)
    }

    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        self.main.pieces(to);
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.pieces(to);
        }
    }
}
