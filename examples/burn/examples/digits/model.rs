//! A small residual network in burn.

use adaloss_burn::Scaler;
use adaloss_digits::CLASSES;
use burn::{
    module::{Module, Param},
    nn::{BatchNorm, BatchNormConfig},
    tensor::{
        DType, Device, Tensor, TensorData, activation::relu, module::conv2d, ops::ConvOptions,
    },
};
use rand::{Rng, RngExt};

/// Channels behind the stem; twice as many at half the resolution.
const WIDTH: usize = 8;
const BLOCKS: usize = 2;

/// The network.
#[derive(Module, Debug)]
pub(crate) struct Net {
    stem: Layer,
    down: Layer,
    blocks: Vec<[Layer; 2]>,
    head: Param<Tensor<2>>,
    /// Absent where nothing is to be scaled.
    #[module(skip)]
    scaler: Option<Scaler>,
}

impl Net {
    /// The layers that are marked; the head ends in the output.
    pub(crate) const MARKS: usize = 2 + 2 * BLOCKS;

    pub(crate) fn new(scaler: Option<Scaler>, rng: &mut impl Rng, device: &Device) -> Self {
        let wide = 2 * WIDTH;
        let mut layer = |from, to, stride| Layer::new(from, to, stride, rng, device);
        Self {
            stem: layer(1, WIDTH, 1),
            down: layer(WIDTH, wide, 2),
            blocks: (0..BLOCKS).map(|_| [layer(wide, wide, 1), layer(wide, wide, 1)]).collect(),
            head: draw([wide, CLASSES], wide, rng, device),
            scaler,
        }
    }

    /// Computes in the type of `x`; returns one row of f32 logits per image.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.mark(0, relu(self.stem.forward(x)));
        let mut x = self.mark(1, relu(self.down.forward(x)));
        for (i, [a, b]) in self.blocks.iter().enumerate() {
            let branch = self.mark(2 * i + 2, relu(a.forward(x.clone())));
            x = self.mark(2 * i + 3, relu(b.forward(branch) + x));
        }
        let features = x.mean_dim(3).mean_dim(2).flatten::<2>(1, 3);
        let dtype = features.dtype();
        let logits = features.matmul(self.head.val().cast(dtype));
        match &self.scaler {
            Some(scaler) => scaler.output(logits),
            None => logits.cast(DType::F32),
        }
    }

    fn mark(&self, id: usize, x: Tensor<4>) -> Tensor<4> {
        match &self.scaler {
            Some(scaler) => scaler.layer(id, x),
            None => x,
        }
    }
}

/// A convolution and its normalisation, which computes in f32 as is usual.
#[derive(Module, Debug)]
struct Layer {
    convolution: Param<Tensor<4>>,
    stride: usize,
    norm: BatchNorm,
}

impl Layer {
    fn new(from: usize, to: usize, stride: usize, rng: &mut impl Rng, device: &Device) -> Self {
        Self {
            convolution: draw([to, from, 3, 3], 9 * from, rng, device),
            stride,
            norm: BatchNormConfig::new(to).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let options = ConvOptions::new([self.stride; 2], [1; 2], [1; 2], 1);
        let y = conv2d(x, self.convolution.val().cast(dtype), None, options);
        self.norm.forward(y.cast(DType::F32)).cast(dtype)
    }
}

/// Draws a weight with a variance that keeps that of activations (He et al. 2015).
fn draw<const D: usize>(
    shape: [usize; D],
    fan_in: usize,
    rng: &mut impl Rng,
    device: &Device,
) -> Param<Tensor<D>> {
    let bound = (6.0 / fan_in as f32).sqrt();
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound));
    let values = TensorData::new(values.collect::<Vec<f32>>(), shape);
    Param::from_tensor(Tensor::from_data(values, device))
}
