//! A generator of images in front of what judges them: beside the real ones of a batch it puts as many of its own.

use std::{ops::Range, rc::Rc};

use adaloss_core::format::{Element, Noise};
use adaloss_hal::{AddressSpace, Branch, Memory, Mut, Narrow, Plain, Propagate};
use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, Piece, Sequence, Shape, Tensor,
    Vector, kept,
};

/// Layers from noise to images.
pub struct Generator<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// Values that an image is made from.
    latent: usize,
    body: Sequence<D, W, G>,
    /// What the layers made in the forward pass.
    made: Option<Shape>,
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Generator<D, W, G> {
    /// Makes a generator from its layers; the first of them takes rows of `latent` values and passes no gradient on.
    pub fn new(latent: usize, body: Sequence<D, W, G>) -> Self {
        Self { latent, body, made: None }
    }

    /// Makes images of a shape, in f32, from the noise of this pass.
    ///
    /// # Errors
    ///
    /// The layers make images of another size, or the device failed.
    pub fn images(&mut self, run: &mut Forward<'_, D>, shape: Shape) -> Result<Tensor<D, f32>> {
        let values = self.make(run, shape)?.widened(run.device)?;
        Ok(Tensor::of(run.device, shape, &values)?)
    }

    /// Returns images from the noise of this pass, and behind them as many real ones, which have a shape.
    ///
    /// # Errors
    ///
    /// As [`images`](Self::images).
    pub fn beside(
        &mut self,
        run: &mut Forward<'_, D>,
        shape: Shape,
        real: &[f32],
    ) -> Result<Activation<D, W>> {
        let made = self.make(run, shape)?;
        let real = Vector::of(run.device, real)?;
        let samples = shape.samples.saturating_mul(2);
        let (of_made, all) = (made.shape().elements(), Shape { samples, ..shape });
        let mut both = Tensor::zeroed(run.device, all)?;
        let mut epilogue = run.buffers.forward(run.narrowing);
        // Elements that are activations already are moved as they are.
        let cell = D::Space::reborrow(epilogue.from);
        let branches = [Branch { gradient: made.view(), cell }];
        let (to, lent) = (part_of(&mut both, 0..of_made)?, epilogue.reborrow());
        run.device.run(Propagate::<_, W> { branches: &branches, to, epilogue: lent })?;
        let to = part_of(&mut both, of_made..all.elements())?;
        run.device.run(Narrow::<_, W> { input: real.view(), to, epilogue })?;
        Ok(Rc::new(both))
    }

    /// Takes the gradient of generated and real images back: that of the generated ones goes on through the layers.
    ///
    /// # Errors
    ///
    /// There was no forward pass, or the device failed.
    pub fn backward(&mut self, run: &mut Backward<'_, D>, gradient: Gradient<D, G>) -> Result<()> {
        let made = kept(&mut self.made)?;
        let generated = run.carry(gradient, made, |device, gradient, to, epilogue| {
            // A gradient that is shorter is refused by the device.
            let all = D::Space::reborrow(gradient);
            let first = D::Space::part(all, 0..made.elements()).unwrap_or(all);
            let (gradient, cell) = (D::Space::reborrow(first), D::Space::reborrow(epilogue.from));
            let branches = [Branch { gradient, cell }];
            device.run(Propagate::<_, G> { branches: &branches, to, epilogue })
        })?;
        self.body.backward(run, generated)?;
        Ok(())
    }

    /// Appends everything that training changes, in a fixed order.
    pub fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        self.body.pieces(to);
    }

    /// Runs the layers from noise to as many images as `shape` has.
    fn make(&mut self, run: &mut Forward<'_, D>, shape: Shape) -> Result<Activation<D, W>> {
        let latent = Shape { height: 1, width: 1, channels: self.latent, ..shape };
        let values = normal(run.noise, latent.elements());
        let values = Vector::of(run.device, &values)?;
        let drawn = run.activation(latent, |device, to, epilogue| {
            device.run(Narrow::<_, W> { input: values.view(), to, epilogue })
        })?;
        let made = self.body.forward(run, drawn)?;
        ensure!(
            made.shape().elements() == shape.elements(),
            "the generator makes {}, and images are {shape}",
            made.shape()
        );
        self.made = run.training.then(|| made.shape());
        Ok(made)
    }
}

/// Names a part of a tensor for writing.
fn part_of<D: Memory, T: Plain>(
    tensor: &mut Tensor<D, T>,
    range: Range<usize>,
) -> Result<Mut<'_, D, T>> {
    let part = D::Space::part_mut(tensor.view_mut(), range);
    part.context("generated and real images are more than both have room for")
}

/// Returns values of a standard normal distribution: a function of the random words of a pass.
fn normal(noise: Noise, length: usize) -> Vec<f32> {
    let mut key = [0; 32];
    let words =
        [*b"latent--", u64::from(noise.seed).to_le_bytes(), u64::from(noise.stream).to_le_bytes()];
    key.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word));
    StandardNormal.sample_iter(ChaCha8Rng::from_seed(key)).take(length).collect()
}
