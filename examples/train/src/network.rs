//! A network on a device: forward, back, update.

use adaloss_core::{
    format::{Element, Narrowing, Noise},
    scaler::Step,
    unscale::Place,
};
use adaloss_hal::{
    Memory, Narrow, Plain,
    network::{Blend, LossSum, SoftmaxCrossEntropy},
};
use anyhow::{Context, Result, bail, ensure};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    blocks::Blocks,
    data::{Batch, Input, Inputs},
    layer::{
        Backward, EpilogueBuffers, Forward, Layer, LossPass, Machine, Observer, Piece, Running,
        Shape, Tensor, Vector, complete, finite, refresh, squares,
    },
    model::{Layers, Model, quantities},
    optimizer::{Optimizer, Update},
    unit::{Units, times},
};

/// A network whose weights and activations are `W` and whose gradients are `G`.
pub struct Network<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    device: D,
    buffers: EpilogueBuffers<D>,
    layers: Layers<D, W, G>,
    narrowing: Narrowing,
    input: Input,
    classes: usize,
    /// How gradients, in f32, are rounded in blocks, if they are.
    blocks: Option<Blocks>,
}

/// How a network goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Whether layers behave as in training, and keep what their backward pass needs.
    pub training: bool,
    /// The random words of this pass.
    pub noise: Noise,
    /// The number of this micro-batch, from 0.
    pub nth: usize,
}

/// What a network says of some samples.
pub struct Outputs<D: Memory> {
    /// A row per label; the quantity of each sample, where no class is learnt.
    pub logits: Tensor<D, f32>,
    /// A quantity per sample, of a network that learns one.
    pub quantity: Option<Tensor<D, f32>>,
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
    /// Makes a network with random weights; `narrowing` is how weights and activations become `W`.
    ///
    /// # Errors
    ///
    /// The model is not one for such an input, or the device's memory is exhausted.
    pub fn new(
        model: &Model,
        mut device: D,
        (input, classes): (Input, usize),
        narrowing: Narrowing,
        generator: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let buffers = EpilogueBuffers::new(&mut device)?;
        let layers = model.layers(&mut device, generator, input, classes)?;
        Ok(Self { device, buffers, layers, narrowing, input, classes, blocks: None })
    }

    /// Rounds gradients in blocks from now on, or not.
    pub fn round_in_blocks(&mut self, blocks: Option<Blocks>) {
        self.blocks = blocks;
    }

    /// Returns the number of values that are learnt.
    pub fn parameters(&mut self) -> u64 {
        let pieces = self.split().2;
        let learnt = pieces.iter().map(|piece| match piece {
            Piece::Parameter(parameter) => parameter.master.len() as u64,
            Piece::Running(_) => 0,
        });
        learnt.sum()
    }

    /// Narrows the masters for the coming step.
    ///
    /// # Errors
    ///
    /// A parameter or a running mean is not finite, or becomes infinite in the format of weights,
    /// which is [`Diverged`](crate::layer::Diverged); or the device failed.
    pub fn refresh(&mut self) -> Result<()> {
        let narrowing = self.narrowing;
        let (device, buffers, pieces) = self.split();
        for piece in pieces {
            match piece {
                Piece::Parameter(parameter) => refresh(device, buffers, narrowing, parameter)
                    .with_context(|| parameter.name.clone())?,
                Piece::Running(running) => {
                    finite(device, &running.values).with_context(|| running.name.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Computes the logits of some samples, and their quantities.
    pub fn forward(&mut self, inputs: &Inputs, mode: Mode) -> Result<Outputs<D>> {
        let Self { device, buffers, layers, narrowing, input, .. } = self;
        let Mode { training, noise, nth } = mode;
        let mut run = Forward { device, buffers, narrowing: *narrowing, training, noise, nth };
        let activation = match (inputs, *input, &mut layers.embedding) {
            (Inputs::Images(values), Input::Image { height, width, channels }, None) => {
                let samples = values.len() / (height * width * channels);
                let shape = Shape { samples, height, width, channels };
                let values = Vector::of(run.device, values)?;
                run.activation(shape, |device, to, epilogue| {
                    device.run(Narrow::<_, W> { input: values.view(), to, epilogue })
                })?
            }
            (Inputs::Tokens(tokens), Input::Tokens { length, .. }, Some(embedding)) => {
                embedding.forward::<G>(&mut run, tokens, length).context("embedding")?
            }
            _ => bail!("the samples are not what the network was made for"),
        };
        let activation = layers.body.forward(&mut run, activation)?;
        let (activation, quantity) = match &mut layers.further {
            None => (activation, None),
            Some(further) => {
                let quantity = further.to_quantity.forward(&mut run, activation.clone())?;
                let quantity = further.quantity.forward(&mut run, quantity).context("quantity")?;
                (further.to_classes.forward(&mut run, activation)?, Some(quantity))
            }
        };
        let logits = layers.head.forward(&mut run, activation).context("head")?;
        Ok(Outputs { logits, quantity })
    }

    /// Computes the loss of some outputs and its gradients, in units of the task; `weights` has one weight per
    /// class, or is empty.
    ///
    /// A quantity beside the classes adds its mean squared error; one alone has no other loss.
    ///
    /// # Errors
    ///
    /// The device failed, or left the operation out: it counted other rows than have a label.
    pub fn loss(
        &mut self,
        outputs: &Outputs<D>,
        batch: &Batch,
        weights: &[f32],
        units: Units,
    ) -> Result<(LossSum, Outputs<D>)> {
        if !batch.quantities.is_empty() {
            let (log2, wanted) = (units.classes, &batch.quantities);
            let (loss, gradient) = self.squared_error(&outputs.logits, wanted, log2)?;
            let (weight, rows) = (batch.samples as f64, batch.samples as u64);
            let sum = LossSum { loss: loss * weight, weight, rows, correct: 0 };
            return Ok((sum, Outputs { logits: gradient, quantity: None }));
        }
        let (logits, labels) = (&outputs.logits, &batch.labels[..]);
        let (device, classes) = (&mut self.device, self.classes as u32);
        let labelled = labels.iter().filter(|&&label| label < classes).count();
        let (labels, weights) = (Vector::of(device, labels)?, Vector::of(device, weights)?);
        let mut sum = Vector::of(device, &[LossSum::default()])?;
        let mut gradient = Tensor::zeroed(device, logits.shape())?;
        device.run(SoftmaxCrossEntropy {
            classes: self.classes,
            logits: logits.view(),
            labels: labels.view(),
            weights: (!weights.is_empty()).then(|| weights.view()),
            gradient: gradient.view_mut(),
            sum: sum.view_mut(),
        })?;
        let mut sum = sum.read_one(device)?;
        complete("rows", sum.rows, labelled)?;
        sum.loss *= f64::from(units.classes - units.common).exp2();
        if units.classes != 0 {
            let mut values = vec![0.0; gradient.shape().elements()];
            device.read(gradient.view(), &mut values)?;
            times(&mut values, units.classes);
            device.write(&values, gradient.view_mut())?;
        }
        let quantity = match (&outputs.quantity, &batch.inputs) {
            (Some(found), Inputs::Images(images)) => {
                let wanted = quantities(images, batch.samples);
                let (loss, gradient) = self.squared_error(found, &wanted, units.quantity)?;
                sum.loss += sum.weight * loss * f64::from(units.quantity - units.common).exp2();
                Some(gradient)
            }
            _ => None,
        };
        Ok((sum, Outputs { logits: gradient, quantity }))
    }

    /// Returns the mean squared error of some predictions, and its gradient times `2^log2`.
    fn squared_error(
        &mut self,
        found: &Tensor<D, f32>,
        wanted: &[f32],
        log2: i32,
    ) -> Result<(f64, Tensor<D, f32>)> {
        let mut values = self.read(found)?;
        let loss = squared_error(&mut values, wanted);
        times(&mut values, log2);
        let mut gradient = Tensor::zeroed(&mut self.device, found.shape())?;
        self.device.write(&values, gradient.view_mut())?;
        Ok((loss, gradient))
    }

    /// Returns what some outputs say of the quantity of each sample, and the true ones; none where no quantity is learnt.
    pub fn quantities(
        &mut self,
        outputs: &Outputs<D>,
        batch: &Batch,
    ) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        Ok(match (&outputs.quantity, &batch.inputs) {
            _ if !batch.quantities.is_empty() => {
                Some((self.read(&outputs.logits)?, batch.quantities.clone()))
            }
            (Some(found), Inputs::Images(images)) => {
                Some((self.read(found)?, quantities(images, batch.samples)))
            }
            _ => None,
        })
    }

    /// Takes the gradients of the losses, in f32 and unscaled, back through the network; fills the
    /// gradients of every parameter.
    pub fn backward(
        &mut self,
        gradients: &Outputs<D>,
        step: &mut Step<'_>,
        observer: &mut dyn Observer,
        nth: usize,
    ) -> Result<()> {
        let Self { device, buffers, layers, blocks, .. } = self;
        let mut run = Backward::new(device, buffers, step, observer, nth).in_blocks(*blocks);
        let gradient = run.loss::<G>(&gradients.logits).context("loss")?;
        let classes = layers.head.backward(&mut run, &gradient).context("head")?;
        let gradient = match (&mut layers.further, &gradients.quantity) {
            (Some(further), Some(quantity)) => further.backward(&mut run, classes, quantity)?,
            _ => Some(classes),
        };
        let Some(gradient) = gradient else { return Ok(()) };
        let rest = layers.body.backward(&mut run, gradient)?;
        if let (Some(embedding), Some(gradient)) = (&mut layers.embedding, rest) {
            embedding.backward(&mut run, &gradient).context("embedding")?;
        }
        Ok(())
    }

    /// Takes the gradients of two losses back one after the other, each in a step of its own and through its own
    /// layers only, and adds the weight gradients of those that are shared, in f32 and unscaled.
    ///
    /// Cells have the numbers that they have in one backward pass for both losses; the join of the two has none.
    ///
    /// # Errors
    ///
    /// The network or the gradients have one loss, or the device failed.
    pub fn backward_each(
        &mut self,
        gradients: &Outputs<D>,
        [first, second]: [&mut Step<'_>; 2],
        observer: &mut dyn Observer,
        nth: usize,
    ) -> Result<()> {
        let Self { device, buffers, layers, blocks, .. } = self;
        let (Some(further), Some(quantity)) = (&mut layers.further, &gradients.quantity) else {
            bail!(
                "two backward passes need a network and gradients of two losses: use `backward` for one loss"
            );
        };
        let mut run = Backward::new(device, buffers, first, observer, nth).in_blocks(*blocks);
        let gradient = run.loss::<G>(&gradients.logits).context("loss")?;
        let classes = layers.head.backward(&mut run, &gradient).context("head")?;
        let classes = further.to_classes.backward(&mut run, classes)?;
        let next = run.next_cell();
        let mut run = Backward::new(device, buffers, second, observer, nth).in_blocks(*blocks);
        run = run.part(next, LossPass::Only);
        let quantity = further.quantity_back(&mut run, quantity)?;
        let next = run.next_cell() + 1; // behind the join
        let loss_passes = [(first, classes, LossPass::First), (second, quantity, LossPass::Second)];
        for (step, gradient, loss_pass) in loss_passes {
            let Some(gradient) = gradient else { continue };
            let run = Backward::new(device, buffers, step, observer, nth).in_blocks(*blocks);
            layers.body.backward(&mut run.part(next, loss_pass), gradient)?;
        }
        Ok(())
    }

    /// Multiplies the gradients of every parameter by `2^log2`.
    pub fn rescale(&mut self, log2: i32) -> Result<()> {
        let (device, _, pieces) = self.split();
        for piece in pieces {
            if let Piece::Parameter(parameter) = piece {
                let mut gradient = parameter.gradient.read(device)?;
                times(&mut gradient, log2);
                device.write(&gradient, parameter.gradient.view_mut())?;
            }
        }
        Ok(())
    }

    /// Looks at what an update would take: a gradient or a running mean's next value that is not
    /// finite, whatever the counts of its operation say, makes the step unusable, and its place is returned.  Returns
    /// the sum of the squares of all gradients as well.
    pub fn inspect(&mut self) -> Result<(f64, Option<Place>)> {
        let (device, _, pieces) = self.split();
        let (mut sum, mut bad) = (0.0, None);
        for piece in &pieces {
            let (name, values, cell) = match piece {
                Piece::Parameter(p) => (&p.name, &p.gradient, p.cell),
                Piece::Running(running) => (&running.name, &running.pending, running.cell),
            };
            let found = squares(device, values).with_context(|| name.clone())?;
            if !found.is_finite() {
                bad = Some(cell); // the last one forward is the first one back
            }
            if let Piece::Parameter(_) = piece {
                sum += found;
            }
        }
        Ok((sum, bad.map(Place::Weight)))
    }

    /// Updates every parameter from the last gradients, whose squares add up to `square_norm`, and the
    /// running means.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        update: Update,
        square_norm: f64,
    ) -> Result<()> {
        let (device, _, pieces) = self.split();
        let norm = Vector::of(device, &[square_norm])?;
        for piece in pieces {
            match piece {
                Piece::Parameter(parameter) => optimizer
                    .update(device, update, &norm, parameter)
                    .with_context(|| parameter.name.clone())?,
                Piece::Running(running) => {
                    let Running { share, pending, values, .. } = running;
                    let (share, input, to) = (*share, pending.view(), values.view_mut());
                    let blend = Blend { share, input, to, when: None };
                    device.run(blend).with_context(|| running.name.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Returns the gradients of the last backward pass, with the names of their weights.
    pub fn gradients(&mut self) -> Result<Vec<(String, Vec<f32>)>> {
        let (device, _, pieces) = self.split();
        let parameters = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Parameter(parameter) if parameter.narrow.is_some() => Some(parameter),
            _ => None,
        });
        parameters.map(|p| Ok((p.name.clone(), p.gradient.read(device)?))).collect()
    }

    /// Copies a tensor to the host.
    pub fn read(&mut self, tensor: &Tensor<D, f32>) -> Result<Vec<f32>> {
        let mut values = vec![0.0; tensor.shape().elements()];
        self.device.read(tensor.view(), &mut values)?;
        Ok(values)
    }

    /// Returns everything that training changes, in a fixed order.
    pub fn save(&mut self) -> Result<Vec<Saved>> {
        let (device, _, pieces) = self.split();
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
        let (device, _, pieces) = self.split();
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

    /// Returns the device, where results end, and everything that training changes.
    fn split(&mut self) -> (&mut D, &mut EpilogueBuffers<D>, Vec<Piece<'_, D, W>>) {
        let Self { device, buffers, layers, .. } = self;
        let mut pieces = Vec::new();
        if let Some(embedding) = &mut layers.embedding {
            embedding.pieces(&mut pieces);
        }
        layers.body.pieces(&mut pieces);
        if let Some(further) = &mut layers.further {
            further.to_classes.pieces(&mut pieces);
            further.to_quantity.pieces(&mut pieces);
            further.quantity.pieces(&mut pieces);
        }
        layers.head.pieces(&mut pieces);
        (device, buffers, pieces)
    }
}

/// Returns the mean squared error, and leaves its gradient where the values were.
fn squared_error(values: &mut [f32], wanted: &[f32]) -> f64 {
    let (count, mut sum) = (values.len().max(1) as f64, 0.0);
    for (value, wanted) in values.iter_mut().zip(wanted) {
        let error = f64::from(*value) - f64::from(*wanted);
        sum += error * error;
        *value = (2.0 * error / count) as f32;
    }
    sum / count
}

/// Returns the loss of a step over its micro-batches.
pub fn mean_loss(sums: &[LossSum]) -> Result<f64> {
    let first = sums.first().context("a step without micro-batches")?;
    let total = sums[1..].iter().fold(*first, |mut total, sum| {
        total.loss += sum.loss;
        total.weight += sum.weight;
        total
    });
    Ok(total.mean())
}
