//! A small causal transformer over tokens, normalised before each branch.

use std::fmt;

use adaloss_core::{format::Element, policy::Fraction};
use adaloss_hal::Plain;
use anyhow::{Result, ensure};

use super::{Build, Layers};
use crate::layer::{
    AnyLayer, Dropping, Embedding, Machine, Normalising, Relu, Residual, SelfAttention, Sequence,
};

/// A causal transformer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transformer {
    /// Blocks of attention and of two linear layers.
    pub blocks: usize,
    /// Heads of an attention.
    pub heads: usize,
    /// Features; a multiple of the heads.
    pub width: usize,
    /// The share that is dropped at the end of each branch.
    pub dropout: f64,
}

impl Default for Transformer {
    fn default() -> Self {
        Self { blocks: 2, heads: 4, width: 64, dropout: 0.0 }
    }
}

impl Transformer {
    pub(super) fn layers<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        vocabulary: usize,
        length: usize,
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let width = self.width;
        ensure!(width.is_multiple_of(self.heads), "{} heads do not divide {width}", self.heads);
        let tokens = build.weight("tokens", &[vocabulary, width], 0.5)?;
        let positions = build.weight("positions", &[length, width], 0.1)?;
        let embedding = Some(Embedding::new(tokens, positions, width));
        let mut body: Vec<AnyLayer<D, W, G>> = Vec::new();
        for block in 0..self.blocks {
            body.push(self.attention(build, block)?);
            body.push(self.perceptron(build, block)?);
        }
        body.push(Box::new(Normalising::layer(build.device, "last.norm", width, 1.0)?));
        let head = build.head("head", [width, classes])?;
        Ok(Layers { embedding, ..Layers::in_line(body, head) })
    }

    fn attention<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        block: usize,
    ) -> Result<AnyLayer<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let (name, width) = (format!("block{}", block + 1), self.width);
        let norm = Normalising::layer(build.device, &format!("{name}.norm1"), width, 1.0)?;
        let split = build.linear(&format!("{name}.qkv"), [width, 3 * width], 1.0)?;
        let attention = SelfAttention::new(format!("{name}.attention"), self.heads);
        let mix = build.linear(&format!("{name}.mix"), [width; 2], 1.0)?;
        let drop = self.dropping(&format!("{name}.drop1"), 2 * block)?;
        let main: Vec<AnyLayer<D, W, G>> =
            vec![Box::new(norm), Box::new(split), Box::new(attention), Box::new(mix), drop];
        Ok(Box::new(Residual::new(format!("{name}.join1"), Sequence::new(main), None)))
    }

    fn perceptron<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        block: usize,
    ) -> Result<AnyLayer<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let (name, width) = (format!("block{}", block + 1), self.width);
        let norm = Normalising::layer(build.device, &format!("{name}.norm2"), width, 1.0)?;
        let up = build.linear(&format!("{name}.up"), [width, 4 * width], 2.0)?;
        let down = build.linear(&format!("{name}.down"), [4 * width, width], 1.0)?;
        let drop = self.dropping(&format!("{name}.drop2"), 2 * block + 1)?;
        let main: Vec<AnyLayer<D, W, G>> =
            vec![Box::new(norm), Box::new(up), Box::new(Relu::new()), Box::new(down), drop];
        Ok(Box::new(Residual::new(format!("{name}.join2"), Sequence::new(main), None)))
    }

    fn dropping<W, G, D>(&self, name: &str, nth: usize) -> Result<AnyLayer<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        Ok(Box::new(Dropping::new(name.into(), Fraction::new(self.dropout)?, nth as u32)))
    }
}

impl fmt::Display for Transformer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, heads, width, dropout } = self;
        write!(f, "transformer of {blocks} blocks, {heads} heads, width {width}")?;
        if *dropout > 0.0 { write!(f, ", dropout {dropout}") } else { Ok(()) }
    }
}
