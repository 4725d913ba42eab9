//! A network on a device: forward, back, update.

mod backward;
mod loss;

use std::iter;

use adaloss_core::{
    format::{Element, Narrowing, Noise},
    policy::Config,
    unscale::Place,
};
use adaloss_hal::{Memory, Narrow, Plain, network::Blend, scaler::Evidence};
use anyhow::{Context, Error, Result, bail, ensure};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    blocks::Blocks,
    data::{Batch, Input, Inputs},
    layer::{
        Checks, Concluded, Diverged, EpilogueBuffers, Forward, Halted, Layer, Machine, MicroBatch,
        Observer, Piece, Running, Scaler, Shape, Tensor, Vector,
    },
    model::{Layers, Model},
    optimizer::{Optimizer, Update},
    ranks::{Reducer, Team},
    unit::times,
};

pub use loss::{Loss, mean_loss};

/// A network whose weights and activations are `W` and whose gradients are `G`.
pub struct Network<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    device: D,
    buffers: EpilogueBuffers<D>,
    /// What became of weights when they were narrowed, and of gradients when they were to be used.
    weights: Checks<D>,
    gradients: Checks<D>,
    layers: Layers<D, W, G>,
    narrowing: Narrowing,
    input: Input,
    classes: usize,
    /// How gradients, in f32, are rounded in blocks, if they are.
    blocks: Option<Blocks>,
}

/// How a network goes forward.
#[derive(Clone, Copy, Default)]
pub struct Mode<'t> {
    /// Whether layers behave as in training, and keep what their backward pass needs.
    pub training: bool,
    /// The random words of this pass.
    pub noise: Noise,
    /// Which one of the step's micro-batches it is.
    pub part: MicroBatch,
    /// The ranks over whose micro-batches a batch is normalised together, if it is.
    pub peers: Option<&'t Team>,
    /// The exponent of the unit of a second loss that is taken out of its weight gradients.
    pub taken_out: i32,
}

/// What the heads of a network say of some samples, or the gradients of that: first a row of logits per label, or the quantity
/// of each sample where no class is learnt; and of a network that learns a quantity beside classes, the quantities.  Of one that learns a
/// field, the field where it is given; in training behind it the field and its Laplacian where the equation holds.  A critic says one score
/// of each sample, a generator outside training its samples.
pub struct Outputs<D: Memory>(pub Vec<Tensor<D, f32>>);

impl<D: Memory> Outputs<D> {
    /// Returns what the first head says.
    pub fn first(&self) -> Result<&Tensor<D, f32>> {
        self.0.first().context("a network without a head")
    }
}

/// The scaler of a run, and that of the second of two losses where each has its own.
pub struct Scalers<D: Memory> {
    /// That of the only loss, of both together, or of the first.
    pub first: Scaler<D>,
    /// That of the second.
    pub second: Option<Scaler<D>>,
}

impl<D: Memory> Scalers<D> {
    /// Returns the scalers, the first one first.
    pub fn each(&self) -> impl Iterator<Item = &Scaler<D>> {
        iter::once(&self.first).chain(&self.second)
    }

    /// Returns the scalers, to be changed.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut Scaler<D>> {
        iter::once(&mut self.first).chain(&mut self.second)
    }

    /// Returns the scaler that says last whether a step applies.
    fn last(&self) -> &Scaler<D> {
        self.second.as_ref().unwrap_or(&self.first)
    }
}

/// One tensor of a network on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// What it belongs to.
    pub name: String,
    /// The master, or the running mean.
    pub values: Vec<f32>,
    /// What the optimizer keeps, or nothing.
    pub state: Vec<f32>,
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Network<D, W, G> {
    /// Makes a network with random weights, or without a generator with zeros, where they are replaced or not looked at; `narrowing`
    /// is how weights and activations become `W`.
    ///
    /// # Errors
    ///
    /// The model is not one for such an input, or the device's memory is exhausted.
    pub fn new(
        model: &Model,
        mut device: D,
        (input, classes): (Input, usize),
        narrowing: Narrowing,
        generator: Option<&mut ChaCha8Rng>,
    ) -> Result<Self> {
        let buffers = EpilogueBuffers::new(&mut device)?;
        let mut layers = model.layers(&mut device, generator, input, classes)?;
        let mut all = pieces(&mut layers);
        for (index, piece) in all.iter_mut().enumerate() {
            if let Piece::Parameter(parameter) = piece {
                parameter.index = index;
            }
        }
        let pieces = all.len();
        let weights = Checks::new(&mut device, pieces)?;
        let gradients = Checks::new(&mut device, pieces)?;
        Ok(Self {
            device,
            buffers,
            weights,
            gradients,
            layers,
            narrowing,
            input,
            classes,
            blocks: None,
        })
    }

    /// Rounds gradients in blocks from now on, or not.
    pub fn round_in_blocks(&mut self, blocks: Option<Blocks>) {
        self.blocks = blocks;
    }

    /// Returns the number of values that are learnt.
    pub fn parameters(&mut self) -> u64 {
        let pieces = self.split().1;
        let learnt = pieces.iter().map(|piece| match piece {
            Piece::Parameter(parameter) => parameter.master.len() as u64,
            Piece::Running(_) => 0,
        });
        learnt.sum()
    }

    /// Makes the scaler of a run whose steps have so many micro-batches.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn scaler(&mut self, config: Config, micro_batches: usize) -> Result<Scaler<D>> {
        Ok(Scaler::new(&mut self.device, config, micro_batches)?)
    }

    /// Begins a step that is shown to an observer.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn begin(&mut self, scalers: &mut Scalers<D>, observer: &dyn Observer) -> Result<()> {
        for scaler in scalers.each_mut() {
            scaler.begin(&mut self.device, observer)?;
        }
        Ok(())
    }

    /// Narrows the masters, and waits for what became of them.
    ///
    /// # Errors
    ///
    /// A parameter or a running mean is not finite, or becomes infinite in the format of weights,
    /// which is [`Diverged`]; or the device failed.
    pub fn refresh(&mut self) -> Result<()> {
        let narrowing = self.narrowing;
        let Self { device, buffers, weights, layers, .. } = self;
        let mut pieces = pieces(layers);
        weights.narrow(device, buffers, narrowing, &mut pieces)?;
        weights.check(device, narrowing, &pieces)
    }

    /// Narrows the masters for a step, which comes to nothing where one cannot be used; [`read_step`](Self::read_step) says so.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn narrow_weights(&mut self, scalers: &mut Scalers<D>) -> Result<()> {
        let narrowing = self.narrowing;
        let Self { device, buffers, weights, layers, .. } = self;
        let mut pieces = pieces(layers);
        weights.narrow(device, buffers, narrowing, &mut pieces)?;
        for scaler in scalers.each_mut() {
            let of = |(nth, piece)| weights.evidence(nth, piece, narrowing);
            let mut evidence = pieces.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?;
            scaler.judge_all(device, &mut evidence, None).context("the weights")?;
        }
        Ok(())
    }

    /// Computes the logits of some samples, and their quantities; of a network with a generator in training the critic's scores of
    /// generated samples and then of these, else as many generated samples.
    pub fn forward(&mut self, inputs: &Inputs, mode: Mode<'_>) -> Result<Outputs<D>> {
        let Self { device, buffers, layers, narrowing, input, .. } = self;
        let (narrowing, Mode { training, noise, part, peers, .. }) = (*narrowing, mode);
        let mut run = Forward { device, buffers, narrowing, training, noise, part, peers };
        let activation = match (inputs, *input, &mut layers.embedding) {
            (Inputs::Images(values), Input::Image { height, width, channels }, None) => {
                let samples = values.len() / (height * width * channels);
                let shape = Shape { samples, height, width, channels };
                match &mut layers.generator {
                    Some(generator) if training => generator.beside(&mut run, shape, values)?,
                    Some(generator) => {
                        return Ok(Outputs(vec![generator.images(&mut run, shape)?]));
                    }
                    None => {
                        let values = Vector::of(run.device, values)?;
                        run.activation(shape, |device, to, epilogue| {
                            device.run(Narrow::<_, W> { input: values.view(), to, epilogue })
                        })?
                    }
                }
            }
            (Inputs::Tokens(tokens), Input::Tokens { length, .. }, Some(embedding)) => {
                embedding.forward::<G>(&mut run, tokens, length).context("embedding")?
            }
            _ => bail!("the samples are not what the network was made for"),
        };
        let activation = layers.body.forward(&mut run, activation)?;
        layers.heads.forward(&mut run, activation)
    }

    /// Shows the scalers what a loss adds up to: one alone before the backward pass, two of them after both of theirs.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn judge_loss(&mut self, loss: &Loss<D>, scalers: &mut Scalers<D>) -> Result<()> {
        let (Loss { sum, rows, .. }, Scalers { first, second }) = (loss, scalers);
        first.judge_loss(&mut self.device, *rows, sum, second.as_mut())?;
        match second {
            Some(second) => second.judge_loss(&mut self.device, *rows, sum, Some(first)),
            None => Ok(()),
        }
    }

    /// Makes the gradients of every parameter, and what running means move towards, means over so many micro-batches.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn average(&mut self, micro_batches: usize) -> Result<()> {
        if micro_batches < 2 {
            return Ok(());
        }
        let share = 1.0 / micro_batches as f32;
        let (device, pieces) = self.split();
        for mut piece in pieces {
            let total = piece.total_mut();
            let mut mean = Vector::zeroed(device, total.value().len())?;
            let (input, to) = (total.value().view(), mean.view_mut());
            device.run(Blend { share, input, to, when: None })?;
            *total.value_mut() = mean;
        }
        Ok(())
    }

    /// Computes running moments anew: as means over some batches, of each as in training.
    ///
    /// # Errors
    ///
    /// There is no batch, one cannot be had, or the device failed.
    pub fn recompute_moments(
        &mut self,
        batches: impl ExactSizeIterator<Item = Result<Batch>>,
    ) -> Result<()> {
        let count = batches.len();
        ensure!(count > 0, "running moments are means over batches, and there is none");
        for (part, batch) in MicroBatch::all(count).zip(batches) {
            self.forward(&batch?.inputs, Mode { training: true, part, ..Mode::default() })?;
        }
        let (device, pieces) = self.split();
        for piece in pieces {
            if let Piece::Running(running) = piece {
                let mut moments = running.pending.value().read(device)?;
                moments.iter_mut().for_each(|moment| *moment /= count as f32);
                device.write(&moments, running.values.view_mut())?;
            }
        }
        Ok(())
    }

    /// Multiplies the gradients of every parameter by `2^log2`.
    pub fn rescale(&mut self, log2: i32) -> Result<()> {
        let (device, pieces) = self.split();
        for piece in pieces {
            if let Piece::Parameter(parameter) = piece {
                let gradient = parameter.gradient.value_mut();
                let mut values = gradient.read(device)?;
                times(&mut values, log2);
                device.write(&values, gradient.view_mut())?;
            }
        }
        Ok(())
    }

    /// Lets the scalers look at what an update would take: a gradient or a running mean's next value that is not finite, whatever
    /// the counts of its operation say, makes the step unusable.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn judge_gradients(&mut self, scalers: &mut Scalers<D>) -> Result<()> {
        let Self { device, gradients, layers, .. } = self;
        let Scalers { first, second } = scalers;
        let pieces = pieces(layers);
        gradients.clear(device)?;
        for (nth, piece) in pieces.iter().enumerate() {
            let values = match piece {
                Piece::Parameter(parameter) => parameter.gradient.value(),
                Piece::Running(running) => running.pending.value(),
            };
            let added = gradients.add_squares(device, nth, values);
            added.with_context(|| piece.name().to_owned())?;
        }
        let of = |(nth, piece): (usize, &Piece<'_, D, W>)| {
            let (id, is_gradient) = match piece {
                Piece::Parameter(parameter) => (parameter.cell, true),
                Piece::Running(running) => (running.cell, false),
            };
            anyhow::Ok(Evidence::Squares { id, is_gradient, sum: gradients.squares(nth)? })
        };
        let evidence = || pieces.iter().enumerate().map(of).collect::<Result<Vec<_>>>();
        first.judge_all(device, &mut evidence()?, second.as_mut())?;
        match second {
            Some(second) => Ok(second.judge_all(device, &mut evidence()?, Some(first))?),
            None => Ok(()),
        }
    }

    /// Sums the gradients of every parameter, and what running means move towards, over the ranks.
    ///
    /// # Errors
    ///
    /// The device or the group failed.
    pub fn sum_over_ranks(&mut self, reducer: &mut Reducer, team: &Team) -> Result<()> {
        let (device, mut pieces) = self.split();
        let is_running = |(index, piece): (usize, &Piece<'_, D, W>)| {
            matches!(piece, Piece::Running(_)).then_some(index)
        };
        let running: Vec<_> = pieces.iter().enumerate().filter_map(is_running).collect();
        let mut totals: Vec<_> = pieces.iter_mut().map(Piece::total_mut).collect();
        reducer.finish(device, team, running, &mut totals)
    }

    /// Ends the step of the scalers on the device.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn conclude(&mut self, scalers: &mut Scalers<D>) -> Result<()> {
        let Self { device, .. } = self;
        let Scalers { first, second } = scalers;
        first.conclude(device, None)?;
        match second {
            Some(second) => second.conclude(device, Some(first)),
            None => Ok(()),
        }
    }

    /// Updates every parameter from the last gradients, and the running means, if the step that was concluded may reach them.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        update: Update,
        scalers: &Scalers<D>,
    ) -> Result<()> {
        let Self { device, layers, .. } = self;
        let scaler = scalers.last();
        for piece in pieces(layers) {
            match piece {
                Piece::Parameter(parameter) => optimizer
                    .update(device, update, scaler, parameter)
                    .with_context(|| parameter.name.clone())?,
                Piece::Running(running) => {
                    let Running { share, pending, values, .. } = running;
                    let (share, input, to) = (*share, pending.value().view(), values.view_mut());
                    let when = Some(scaler.applies());
                    let blend = Blend { share, input, to, when };
                    device.run(blend).with_context(|| running.name.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Waits for what happened in the step that was concluded, and shows it to the observer: that of the first scaler, and of the
    /// second.
    ///
    /// # Errors
    ///
    /// A weight could not be used, which is [`Diverged`]; or the device failed or left something out.
    pub fn read_step(
        &mut self,
        scalers: &mut Scalers<D>,
        observer: &mut dyn Observer,
    ) -> Result<(Concluded, Option<Concluded>)> {
        let Scalers { first, second } = scalers;
        let first = first.read(&mut self.device, observer);
        let second = second.as_mut().map(|second| second.read(&mut self.device, observer));
        let read = first.and_then(|first| Ok((first, second.transpose()?)));
        read.map_err(|error| match error.downcast_ref() {
            Some(&Halted { place: Place::Weight(nth), cause }) if cause.is_numeric() => {
                let name = pieces(&mut self.layers).get(nth).map(|piece| piece.name().to_owned());
                Error::new(Diverged(cause))
                    .context(name.unwrap_or_default())
                    .context("before the step")
            }
            _ => error,
        })
    }

    /// Returns the gradients of the last backward pass, with the names of their weights.
    pub fn gradients(&mut self) -> Result<Vec<(String, Vec<f32>)>> {
        let (device, pieces) = self.split();
        let parameters = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Parameter(parameter) if parameter.narrow.is_some() => Some(parameter),
            _ => None,
        });
        parameters.map(|p| Ok((p.name.clone(), p.gradient.value().read(device)?))).collect()
    }

    /// Returns the gradients of the last backward pass of everything that is learnt, and nothing of running means: in the order of
    /// [`save`](Self::save).
    pub fn all_gradients(&mut self) -> Result<Vec<Saved>> {
        let (device, pieces) = self.split();
        let gradients = pieces.into_iter().map(|piece| {
            let (name, values) = match piece {
                Piece::Parameter(p) => (&p.name, p.gradient.value().read(device)?),
                Piece::Running(running) => (&running.name, Vec::new()),
            };
            Ok(Saved { name: name.clone(), values, state: Vec::new() })
        });
        gradients.collect()
    }

    /// Copies a tensor to the host.
    pub fn read(&mut self, tensor: &Tensor<D, f32>) -> Result<Vec<f32>> {
        let mut values = vec![0.0; tensor.shape().elements()];
        self.device.read(tensor.view(), &mut values)?;
        Ok(values)
    }

    /// Returns the extents of everything that training changes, in the order of [`save`](Self::save).
    pub fn extents(&mut self) -> Vec<Vec<usize>> {
        let extents = self.split().1.into_iter().map(|piece| match piece {
            Piece::Parameter(parameter) => parameter.extents.clone(),
            Piece::Running(running) => vec![running.values.len()],
        });
        extents.collect()
    }

    /// Returns everything that training changes, in a fixed order.
    pub fn save(&mut self) -> Result<Vec<Saved>> {
        let (device, pieces) = self.split();
        let saved = pieces.into_iter().map(|piece| match piece {
            Piece::Parameter(p) => Ok(Saved {
                name: p.name.clone(),
                values: p.master.read(device)?,
                state: p.state.read(device)?,
            }),
            Piece::Running(running) => Ok(Saved {
                name: running.name.clone(),
                values: running.values.read(device)?,
                state: Vec::new(),
            }),
        });
        saved.collect()
    }

    /// Takes back what [`save`](Self::save) returned, with or without the optimizer's state.
    ///
    /// # Errors
    ///
    /// It is not of a network of this shape; nothing was changed.
    pub fn load(&mut self, saved: &[Saved]) -> Result<()> {
        let (device, pieces) = self.split();
        ensure!(pieces.len() == saved.len(), "the parameters are those of another network");
        for (piece, saved) in pieces.iter().zip(saved) {
            let (name, length) = match piece {
                Piece::Parameter(parameter) => (&parameter.name, parameter.master.len()),
                Piece::Running(running) => (&running.name, running.values.len()),
            };
            ensure!(
                *name == saved.name && length == saved.values.len(),
                "the parameters are those of another network: {} of {} values instead of {name} \
                 of {length}",
                saved.name,
                saved.values.len()
            );
        }
        for (piece, saved) in pieces.into_iter().zip(saved) {
            match piece {
                Piece::Parameter(parameter) => {
                    device.write(&saved.values, parameter.master.view_mut())?;
                    parameter.state = Vector::of(device, &saved.state)?;
                }
                Piece::Running(running) => {
                    device.write(&saved.values, running.values.view_mut())?;
                }
            }
        }
        Ok(())
    }

    /// Returns the device, and everything that training changes.
    fn split(&mut self) -> (&mut D, Vec<Piece<'_, D, W>>) {
        (&mut self.device, pieces(&mut self.layers))
    }

    /// Returns the device.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }
}

/// Returns everything of a network that training changes, in a fixed order.
fn pieces<D: Machine<W, G>, W: Element + Plain, G: Element + Plain>(
    layers: &mut Layers<D, W, G>,
) -> Vec<Piece<'_, D, W>> {
    let mut pieces = Vec::new();
    if let Some(embedding) = &mut layers.embedding {
        embedding.pieces(&mut pieces);
    }
    if let Some(generator) = &mut layers.generator {
        generator.pieces(&mut pieces);
    }
    layers.body.pieces(&mut pieces);
    layers.heads.pieces(&mut pieces);
    pieces
}
