//! Pooling: average, maximal, and the levels of an encoder and decoder that share their indices.

use std::rc::Rc;

use adaloss_core::format::Element;
use adaloss_hal::{
    AddressSpace, Plain,
    network::{self, AveragePool, AveragePoolInput, MaxPool, MaxPoolInput, Pick, Unpool},
};
use anyhow::{Context, Result};

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, Piece, Sequence, Shape, Tensor,
    Vector, kept,
};

/// The mean over each whole image.
pub struct Averaging {
    name: String,
    input: Option<Shape>,
}

impl Averaging {
    /// Makes the layer; its cell bears the name.
    pub fn new(name: String) -> Self {
        Self { name, input: None }
    }
}

fn whole(input: Shape) -> network::Pooling {
    network::Pooling::new(input.samples, input.extent(), input.channels, input.extent())
}

impl<D, W, G> Layer<D, W, G> for Averaging
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
        let shape = input.shape();
        self.input = run.training.then_some(shape);
        run.activation(shape.with_extent([1, 1]), |device, to, epilogue| {
            let (pooling, input) = (whole(shape), input.view());
            device.run(AveragePool::<_, W> { pooling, input, to, epilogue })
        })
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let input = kept(&mut self.input)?;
        run.layer(&self.name, &gradient, input, |device, gradient, to, epilogue| {
            let (pooling, gradient) = (whole(input), D::Space::reborrow(gradient));
            device.run(AveragePoolInput::<_, G> { pooling, gradient, to, epilogue })
        })
        .map(Some)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}

/// Max pooling; its gradient has a cell only where windows overlap.
pub struct Pooling<D: adaloss_hal::Memory> {
    name: String,
    /// For one image of any size and channels.
    shape: network::Pooling,
    kept: Option<(Shape, Vector<D, u32>)>,
}

impl<D: adaloss_hal::Memory> Pooling<D> {
    /// Makes the layer; `shape` is for images of any size and channels.
    pub fn new(name: String, shape: network::Pooling) -> Self {
        Self { name, shape, kept: None }
    }
}

impl<D, W, G> Layer<D, W, G> for Pooling<D>
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
        let shape = of_input(self.shape, input.shape());
        let (output, indices) = max_pool::<W, G, D>(run, shape, &input)?;
        self.kept = run.training.then_some((input.shape(), indices));
        Ok(Rc::new(output))
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let (input, indices) = kept(&mut self.kept)?;
        let pooling = of_input(self.shape, input);
        if pooling.overlaps() {
            let summed =
                run.layer(&self.name, &gradient, input, |device, gradient, to, epilogue| {
                    let (gradient, indices) = (D::Space::reborrow(gradient), indices.view());
                    device.run(MaxPoolInput::<_, G> { pooling, gradient, indices, to, epilogue })
                });
            return summed.map(Some);
        }
        gradient
            .carry(|gradient| {
                let mut to = Tensor::zeroed(run.device, input)?;
                let (input, indices) = (gradient.view(), indices.view());
                run.device.run(Unpool::<_, G> { pooling, input, indices, to: to.view_mut() })?;
                Ok(to)
            })
            .map(Some)
    }

    fn pieces<'a>(&'a mut self, _: &mut Vec<Piece<'a, D, W>>) {}
}

/// One level of an encoder and decoder: pools what the encoder made, goes through the levels inside,
/// and unpools to the indices that the maxima came from (Badrinarayanan et al. 2017).
pub struct Level<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    encoder: Sequence<D, W, G>,
    inside: Sequence<D, W, G>,
    decoder: Sequence<D, W, G>,
    kept: Option<(Shape, Vector<D, u32>)>,
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Level<D, W, G> {
    /// Makes a level with windows of 2x2; what leaves the levels inside has the channels that enter.
    pub fn new(
        encoder: Sequence<D, W, G>,
        inside: Sequence<D, W, G>,
        decoder: Sequence<D, W, G>,
    ) -> Self {
        Self { encoder, inside, decoder, kept: None }
    }
}

impl<D, W, G> Layer<D, W, G> for Level<D, W, G>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        "level"
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let encoded = self.encoder.forward(run, input)?;
        let large = encoded.shape();
        let pooling = of_input(two_by_two(), large);
        let (pooled, indices) = max_pool::<W, G, D>(run, pooling, &encoded)?;
        drop(encoded);
        let inner = self.inside.forward(run, Rc::new(pooled))?;
        let mut unpooled = Tensor::zeroed(run.device, large)?;
        let (input, at, to) = (inner.view(), indices.view(), unpooled.view_mut());
        run.device.run(Unpool::<_, W> { pooling, input, indices: at, to })?;
        self.kept = run.training.then_some((large, indices));
        self.decoder.forward(run, Rc::new(unpooled))
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let (large, indices) = kept(&mut self.kept)?;
        let pooling = of_input(two_by_two(), large);
        let unwanted = "a decoder cannot begin the network";
        let gradient = self.decoder.backward(run, gradient)?.context(unwanted)?;
        let [height, width] = pooling
            .output()
            .context("a level of an encoder needs an image of at least 2x2 pixels")?;
        let gradient = gradient.carry(|gradient| {
            let mut to = Tensor::zeroed(run.device, large.with_extent([height, width]))?;
            let (input, indices) = (gradient.view(), indices.view());
            run.device.run(Pick::<_, G> { pooling, input, indices, to: to.view_mut() })?;
            Ok(to)
        })?;
        let gradient = self.inside.backward(run, gradient)?.context(unwanted)?;
        let gradient = gradient.carry(|gradient| {
            let mut to = Tensor::zeroed(run.device, large)?;
            let (input, indices) = (gradient.view(), indices.view());
            run.device.run(Unpool::<_, G> { pooling, input, indices, to: to.view_mut() })?;
            Ok(to)
        })?;
        self.encoder.backward(run, gradient)
    }

    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        self.encoder.pieces(to);
        self.inside.pieces(to);
        self.decoder.pieces(to);
    }
}

/// Windows side by side, the last ones of which may reach beyond an image with odd rows or columns.
fn two_by_two() -> network::Pooling {
    network::Pooling::new(0, [0, 0], 0, [2, 2]).covering()
}

fn of_input(shape: network::Pooling, input: Shape) -> network::Pooling {
    let (batch, channels) = (input.samples, input.channels);
    network::Pooling { batch, input: input.extent(), channels, ..shape }
}

/// Pools, and returns the indices as well.
fn max_pool<W, G, D>(
    run: &mut Forward<'_, D>,
    pooling: network::Pooling,
    input: &Tensor<D, W>,
) -> Result<(Tensor<D, W>, Vector<D, u32>)>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let extent = pooling.output().with_context(|| {
        format!("the pooling {pooling} has no output: its window exceeds the image")
    })?;
    let mut output = Tensor::zeroed(run.device, input.shape().with_extent(extent))?;
    let mut indices = Vector::zeroed(run.device, output.shape().elements())?;
    run.device.run(MaxPool::<_, W> {
        pooling,
        input: input.view(),
        to: output.view_mut(),
        indices: indices.view_mut(),
    })?;
    Ok((output, indices))
}
