//! A small residual network in candle.

use adaloss_candle::Scaler;
use adaloss_digits::CLASSES;
use candle_core::{DType, Result, Tensor};
use candle_nn::{BatchNorm, BatchNormConfig, Init, ModuleT, VarBuilder, batch_norm};

/// Channels behind the stem; twice as many at half the resolution.
const WIDTH: usize = 8;
const BLOCKS: usize = 2;

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    stem: Layer,
    down: Layer,
    blocks: Vec<[Layer; 2]>,
    head: Tensor,
    /// Absent where nothing is to be scaled.
    scaler: Option<Scaler>,
}

impl Net {
    /// The layers that are marked; the head ends in the output.
    pub(crate) const MARKS: usize = 2 + 2 * BLOCKS;

    pub(crate) fn new(scaler: Option<Scaler>, vb: &VarBuilder) -> Result<Self> {
        let wide = 2 * WIDTH;
        let block = |i: usize| -> Result<[Layer; 2]> {
            let vb = vb.pp(format!("block{i}"));
            Ok([Layer::new(wide, wide, 1, &vb.pp("a"))?, Layer::new(wide, wide, 1, &vb.pp("b"))?])
        };
        Ok(Self {
            stem: Layer::new(1, WIDTH, 1, &vb.pp("stem"))?,
            down: Layer::new(WIDTH, wide, 2, &vb.pp("down"))?,
            blocks: (0..BLOCKS).map(block).collect::<Result<_>>()?,
            head: vb.get_with_hints((wide, CLASSES), "head", Init::Const(0.0))?,
            scaler,
        })
    }

    /// Computes in the type of `x`; returns one row of f32 logits per image.
    pub(crate) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.mark(0, &self.stem.forward(x, train)?.relu()?)?;
        let mut x = self.mark(1, &self.down.forward(&x, train)?.relu()?)?;
        for (i, [a, b]) in self.blocks.iter().enumerate() {
            let branch = self.mark(2 * i + 2, &a.forward(&x, train)?.relu()?)?;
            let sum = (b.forward(&branch, train)? + &x)?;
            x = self.mark(2 * i + 3, &sum.relu()?)?;
        }
        let logits = x.mean((2, 3))?.matmul(&self.head.to_dtype(x.dtype())?)?;
        match &self.scaler {
            Some(scaler) => scaler.output(&logits),
            None => logits.to_dtype(DType::F32),
        }
    }

    fn mark(&self, id: usize, x: &Tensor) -> Result<Tensor> {
        match &self.scaler {
            Some(scaler) => scaler.layer(id, x),
            None => Ok(x.clone()),
        }
    }
}

/// A convolution and its normalisation, which computes in f32 as is usual.
#[derive(Debug)]
struct Layer {
    convolution: Tensor,
    stride: usize,
    norm: BatchNorm,
}

impl Layer {
    fn new(from: usize, to: usize, stride: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            // Drawn later, from a seed: candle's own generator has none on the CPU.
            convolution: vb.get_with_hints((to, from, 3, 3), "weight", Init::Const(0.0))?,
            stride,
            norm: batch_norm(to, BatchNormConfig::default(), vb.pp("norm"))?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let convolution = self.convolution.to_dtype(x.dtype())?;
        let y = x.conv2d(&convolution, 1, self.stride, 1, 1)?;
        self.norm.forward_t(&y.to_dtype(DType::F32)?, train)?.to_dtype(x.dtype())
    }
}
