//! Tokens and their positions, as rows of two tables.

use adaloss_core::{format::Element, policy::Cell, scale::Scale};
use adaloss_hal::{
    Branch, Memory, Plain, Propagate,
    network::{Embed, EmbedTable},
};
use anyhow::Result;

use super::{
    Activation, Backward, Forward, Gradient, Machine, Parameter, Piece, Shape, Tensor, Vector, kept,
};

/// The first layer of a network over tokens: the sum of a token's row and of its position's.
pub struct Embedding<D: Memory, W: Plain> {
    tokens: Parameter<D, W>,
    positions: Parameter<D, W>,
    width: usize,
    /// Tokens and positions of the last batch.
    input: Option<[Vector<D, u32>; 2]>,
}

impl<D: Memory<Error: Send + Sync + 'static>, W: Element + Plain> Embedding<D, W> {
    /// Makes the layer from its tables.
    pub fn new(tokens: Parameter<D, W>, positions: Parameter<D, W>, width: usize) -> Self {
        Self { tokens, positions, width, input: None }
    }

    /// Looks sequences of equal length up.
    pub fn forward<G: Element + Plain>(
        &mut self,
        run: &mut Forward<'_, D>,
        tokens: &[u32],
        length: usize,
    ) -> Result<Activation<D, W>>
    where
        D: Machine<W, G>,
    {
        let samples = tokens.len() / length;
        let shape = Shape { samples, height: length, width: 1, channels: self.width };
        let positions: Vec<u32> = (0..tokens.len()).map(|i| (i % length) as u32).collect();
        let input = [Vector::of(run.device, tokens)?, Vector::of(run.device, &positions)?];
        let mut rows = Vec::new();
        for (table, input) in [&self.tokens, &self.positions].into_iter().zip(&input) {
            let mut to = Tensor::zeroed(run.device, shape)?;
            let (width, table, tokens) = (self.width, table.narrow()?, input.view());
            run.device.run(Embed::<_, W> { width, tokens, table, to: to.view_mut() })?;
            rows.push(to);
        }
        let one = Vector::of(run.device, &[Cell::at(Scale::ONE)])?;
        let branches =
            [&rows[0], &rows[1]].map(|row| Branch { gradient: row.view(), cell: one.view() });
        let output = run.activation(shape, |device, to, epilogue| {
            device.run(Propagate::<_, W> { branches: &branches, to, epilogue })
        })?;
        self.input = run.training.then_some(input);
        Ok(output)
    }

    /// Fills the gradients of the tables.
    pub fn backward<G: Element + Plain>(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: &Gradient<D, G>,
    ) -> Result<()>
    where
        D: Machine<W, G>,
    {
        let input = kept(&mut self.input)?;
        for (table, input) in [&mut self.tokens, &mut self.positions].into_iter().zip(&input) {
            let value = gradient.value();
            let mut sums = Vector::zeroed(run.device, table.master.len())?;
            run.device.run(EmbedTable::<_, G> {
                width: self.width,
                tokens: input.view(),
                gradient: value.view(),
                to: sums.view_mut(),
            })?;
            run.unscale(table, &sums, gradient.carried())?;
        }
        Ok(())
    }

    /// Appends both tables.
    pub fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.extend([&mut self.tokens, &mut self.positions].map(Piece::Parameter));
    }
}
