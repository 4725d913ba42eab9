//! Two small networks on the digits, their passes forward and backward.

use std::{fmt, slice, str::FromStr};

use adaloss_core::{
    apply::Pass,
    format::{Element, Narrowing},
    policy::{Cell, Operands},
    propagate::Scaled,
    scaler::{LossScaler, Step, StepError, Visit},
    statistics::{Histogram, Outcome, Statistics},
};
use adaloss_hal::{Branch, Epilogue, HostEpilogue, Narrow, Plain, portable::Portable};
use anyhow::{Result, bail};
use rand_chacha::ChaCha8Rng;

use crate::linear::{Linear, Parameters, Sgd, unscaled};

/// Cells of the largest network here.
pub const CELLS: usize = 16;

/// The scaler of a run.
pub type Scaler = LossScaler<CELLS>;

/// Which network is trained on the digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Three linear layers with ReLU between them.
    Mlp,
    /// A linear stem, two residual blocks of two linear layers each, and a linear head; the second
    /// layer of each block is zero at the start, so that no gradient passes its branch at first.
    ResidualMlp,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mlp => "digits-mlp",
            Self::ResidualMlp => "digits-residual",
        })
    }
}

impl FromStr for Task {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "digits-mlp" => Ok(Self::Mlp),
            "digits-residual" => Ok(Self::ResidualMlp),
            _ => bail!("unknown task \"{name}\": one of digits-mlp, digits-residual"),
        }
    }
}

/// Watches what becomes of each gradient tensor.
pub trait Observer {
    /// Is called after each visit of a cell, with the histogram of the f32 results and a way to ask
    /// for the operands they came from.
    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        operands: &dyn Fn() -> Option<Operands>,
    );
}

/// A network with weights and activations narrowed to `W`.
#[derive(Clone, Debug)]
pub struct Network<W> {
    stem: Linear<W>,
    blocks: Vec<Block<W>>,
    head: Linear<W>,
    narrowing: Narrowing,
}

#[derive(Clone, Debug)]
enum Block<W> {
    /// `relu(linear(x))`
    Plain(Linear<W>),
    /// `relu(x + second(relu(first(x))))`
    Residual { first: Linear<W>, second: Linear<W> },
}

/// What a forward pass leaves for the way back.
pub struct Trace<W> {
    input: Vec<W>,
    stem: Vec<W>,
    blocks: Vec<BlockTrace<W>>,
    /// Shape (batch, classes).
    pub logits: Vec<f32>,
}

struct BlockTrace<W> {
    /// Of a residual block, behind its first layer.
    hidden: Vec<W>,
    output: Vec<W>,
}

impl<W: Element + Plain> Network<W> {
    /// Makes a network with random weights; `narrowing` is how weights and activations become `W`.
    pub fn new(
        task: Task,
        (features, hidden, classes): (usize, usize, usize),
        narrowing: Narrowing,
        generator: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let stem = Linear::new(features, hidden, Some(generator))?;
        let blocks = match task {
            Task::Mlp => vec![Block::Plain(Linear::new(hidden, hidden, Some(generator))?)],
            Task::ResidualMlp => (0..2)
                .map(|_| {
                    let first = Linear::new(hidden, hidden, Some(generator))?;
                    Ok(Block::Residual { first, second: Linear::new(hidden, hidden, None)? })
                })
                .collect::<Result<_>>()?,
        };
        let head = Linear::new(hidden, classes, Some(generator))?;
        Ok(Self { stem, blocks, head, narrowing })
    }

    /// Runs a batch of f32 inputs forward.
    pub fn forward(&self, input: &[f32]) -> Result<Trace<W>> {
        let input = self.narrow(input)?;
        let stem = self.relu(self.stem.forward(&input)?)?;
        let mut blocks = Vec::<BlockTrace<W>>::new();
        for block in &self.blocks {
            let x = blocks.last().map_or(&stem, |block| &block.output);
            blocks.push(match block {
                Block::Plain(linear) => {
                    BlockTrace { hidden: Vec::new(), output: self.relu(linear.forward(x)?)? }
                }
                Block::Residual { first, second } => {
                    let hidden = self.relu(first.forward(x)?)?;
                    let mut sum = second.forward(&hidden)?;
                    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x.widen());
                    BlockTrace { hidden, output: self.relu(sum)? }
                }
            });
        }
        let last = blocks.last().map_or(&stem, |block| &block.output);
        let logits = self.head.forward(last)?;
        Ok(Trace { input, stem, blocks, logits })
    }

    /// Takes the gradient of the loss, in f32 and unscaled, back through the network; fills the
    /// weight gradients of every layer.
    pub fn backward<G: Element + Plain>(
        &mut self,
        trace: &Trace<W>,
        loss_gradient: &[f32],
        step: &mut Step<'_, CELLS>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut way = Way { step, observer, next: 0 };
        let mut gradient = way.loss::<G>(loss_gradient)?;
        let input_of = |index: usize| match index.checked_sub(1) {
            Some(before) => &trace.blocks[before].output,
            None => &trace.stem,
        };
        let last = input_of(self.blocks.len());
        gradient = way.linear("head", &mut self.head, gradient, last)?;
        for (index, block) in self.blocks.iter_mut().enumerate().rev() {
            let (x, BlockTrace { hidden, output }) = (input_of(index), &trace.blocks[index]);
            gradient = behind_relu(gradient, output);
            gradient = match block {
                Block::Plain(linear) => {
                    way.linear(&format!("block{index}"), linear, gradient, x)?
                }
                Block::Residual { first, second } => {
                    let name = format!("block{index}");
                    let shortcut = gradient.clone();
                    let branch = way.linear(&format!("{name}.second"), second, gradient, hidden)?;
                    let branch = behind_relu(branch, hidden);
                    let branch = way.linear(&format!("{name}.first"), first, branch, x)?;
                    way.join(&format!("{name}.join"), &branch, &shortcut)?
                }
            };
        }
        gradient = behind_relu(gradient, &trace.stem);
        // Nobody wants the gradient of the inputs: the stem has no cell.
        let met = self.stem.weight_gradient(&gradient, &trace.input)?;
        way.step.unscaled(way.next, &met);
        Ok(())
    }

    /// Narrows the master weights of every layer for the coming step.
    pub fn refresh(&mut self) -> Result<()> {
        let narrowing = self.narrowing;
        self.layers_mut().try_for_each(|layer| layer.refresh(narrowing))
    }

    /// Updates every layer from the last gradients.
    pub fn update(&mut self, sgd: Sgd) {
        self.layers_mut().for_each(|layer| layer.update(sgd));
    }

    /// Returns what a checkpoint keeps of every layer, in a fixed order.
    pub fn parameters(&self) -> Vec<Parameters> {
        let blocks = self.blocks.iter().flat_map(|block| match block {
            Block::Plain(linear) => vec![linear],
            Block::Residual { first, second } => vec![first, second],
        });
        let layers = [&self.stem].into_iter().chain(blocks).chain([&self.head]);
        layers.map(|layer| layer.parameters.clone()).collect()
    }

    /// Takes back what [`parameters`](Self::parameters) returned, for a network of the same shape.
    pub fn set_parameters(&mut self, parameters: Vec<Parameters>) -> Result<()> {
        let shapes = |all: &[Parameters]| {
            all.iter().map(|p| (p.weight.len(), p.bias.len())).collect::<Vec<_>>()
        };
        if shapes(&parameters) != shapes(&self.parameters()) {
            bail!("the parameters are those of another network");
        }
        for (layer, parameters) in self.layers_mut().zip(parameters) {
            layer.parameters = parameters;
        }
        Ok(())
    }

    fn layers_mut(&mut self) -> impl Iterator<Item = &mut Linear<W>> {
        let blocks = self.blocks.iter_mut().flat_map(|block| match block {
            Block::Plain(linear) => vec![linear],
            Block::Residual { first, second } => vec![first, second],
        });
        [&mut self.stem].into_iter().chain(blocks).chain([&mut self.head])
    }

    fn relu(&self, mut values: Vec<f32>) -> Result<Vec<W>> {
        // Not `max`: that would hide a NaN.
        values.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0);
        self.narrow(&values)
    }

    fn narrow(&self, values: &[f32]) -> Result<Vec<W>> {
        let mut narrow = vec![W::from_bits(0); values.len()];
        unscaled(self.narrowing).slice(values, &mut narrow, 0, &mut Outcome::default())?;
        Ok(narrow)
    }
}

/// The way back: numbers the cells and shows each visit to the observer.
struct Way<'a, 's> {
    step: &'a mut Step<'s, CELLS>,
    observer: &'a mut dyn Observer,
    next: usize,
}

impl Way<'_, '_> {
    fn loss<G: Element + Plain>(&mut self, gradient: &[f32]) -> Result<Scaled<Vec<G>>> {
        let mut results = None;
        let operands = |gradient: &[f32]| Operands::Cast(Statistics::of(gradient));
        let narrowed = self.step.loss_with(gradient, operands, |values, pass| {
            let mut narrow = vec![G::from_bits(0); values.len()];
            watched(pass, &mut results, |epilogue| {
                Ok(Portable.apply(values, &mut narrow[..], epilogue)?)
            })?;
            Ok(narrow)
        });
        let narrowed = narrowed.map_err(pass_error)?;
        self.show("loss", results, &|| Some(operands(gradient)));
        Ok(narrowed)
    }

    /// Goes back through a linear layer: its weight gradient, then the gradient of its inputs.
    fn linear<W: Element + Plain, G: Element + Plain>(
        &mut self,
        name: &str,
        linear: &mut Linear<W>,
        gradient: Scaled<Vec<G>>,
        input: &[W],
    ) -> Result<Scaled<Vec<G>>> {
        let id = self.take_cell();
        let met = linear.weight_gradient(&gradient, input)?;
        self.step.unscaled(id, &met);
        let linear = &*linear;
        let mut results = None;
        let leaving = self.step.layer_with(
            id,
            &gradient,
            |gradient| linear.operands(gradient),
            |gradient, pass| {
                watched(pass, &mut results, |epilogue| linear.input_gradient(gradient, epilogue))
            },
        );
        let leaving = leaving.map_err(pass_error)?;
        self.show(name, results, &|| {
            gradient.unscale(|gradient, _| Some(linear.operands(gradient)))
        });
        Ok(leaving)
    }

    fn join<G: Element + Plain>(
        &mut self,
        name: &str,
        branch: &Scaled<Vec<G>>,
        shortcut: &Scaled<Vec<G>>,
    ) -> Result<Scaled<Vec<G>>> {
        let id = self.take_cell();
        let mut results = None;
        let branches = [branch.as_ref(), shortcut.as_ref()];
        let sum = self.step.join(id, &branches, |branches, pass| {
            let parts = branches.scaled().iter().map(|branch| branch.into_parts());
            let cells: Vec<_> = parts.clone().map(|(_, scale)| [Cell::at(scale)]).collect();
            let branches: Vec<Branch<&[G], &[Cell]>> = parts
                .zip(&cells)
                .map(|((gradient, _), cell)| Branch { gradient: &gradient[..], cell: &cell[..] })
                .collect();
            let mut sum = vec![G::from_bits(0); branches[0].gradient.len()];
            watched(pass, &mut results, |epilogue| {
                Ok(Portable.propagate(&branches, &mut sum[..], epilogue)?)
            })?;
            Ok(sum)
        });
        let sum = sum.map_err(pass_error)?;
        self.show(name, results, &|| None);
        Ok(sum)
    }

    fn take_cell(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn show(
        &mut self,
        name: &str,
        results: Option<Histogram>,
        operands: &dyn Fn() -> Option<Operands>,
    ) {
        if let (Some(visit), Some(results)) = (self.step.last(), results) {
            self.observer.visited(name, visit, &results, operands);
        }
    }
}

/// Runs an operation for a pass; when the pass stores, its f32 results are counted for the observer
/// as well.
fn watched<T>(
    pass: &mut Pass<'_>,
    results: &mut Option<Histogram>,
    operation: impl FnOnce(Epilogue<'_, Portable>) -> Result<T>,
) -> Result<T> {
    let stores = pass.stores();
    let mut host = HostEpilogue::new(pass);
    let mut epilogue = host.epilogue();
    if stores {
        let results = results.insert(Histogram::new(epilogue.narrowing));
        epilogue.histogram = Some(slice::from_mut(results));
    }
    operation(epilogue)
}

/// Carries a gradient through a ReLU, given what left it.
fn behind_relu<W: Element, G: Element>(gradient: Scaled<Vec<G>>, output: &[W]) -> Scaled<Vec<G>> {
    gradient.carry(|mut gradient| {
        let blocked = gradient.iter_mut().zip(output).filter(|(_, y)| y.widen() == 0.0);
        blocked.for_each(|(g, _)| *g = G::from_bits(0));
        gradient
    })
}

/// Returns the error of a pass as it is.
fn pass_error(error: StepError<anyhow::Error>) -> anyhow::Error {
    match error {
        StepError::Pass(error) => error,
        StepError::NoCell { .. } | StepError::Branches { .. } => anyhow::anyhow!("{error}"),
    }
}
