//! Layers with random weights.

use adaloss_core::format::Element;
use adaloss_hal::{Memory, Plain, network::Convolution};
use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::layer::{
    AnyLayer, Convolutional, Head, JetLinear, Linear, Machine, MapHead, Normalising, Parameter,
    Role, Transposed,
};

/// The most weights of a network: each takes some 14 bytes, and with an optimizer of two moments 22.
const MOST_WEIGHTS: usize = 1 << 28;

/// What layers are made with.
pub struct Build<'a, D> {
    /// The device.
    pub device: &'a mut D,
    /// What weights are drawn from; without it they are zero.
    generator: Option<&'a mut ChaCha8Rng>,
    /// Weights so far.
    weights: usize,
}

impl<'a, D: Memory<Error: Send + Sync + 'static>> Build<'a, D> {
    /// Begins a network; without a generator its weights are zero, for one whose weights are replaced or not looked at.
    pub fn new(device: &'a mut D, generator: Option<&'a mut ChaCha8Rng>) -> Self {
        Self { device, generator, weights: 0 }
    }

    /// Draws a weight from a normal distribution.
    ///
    /// # Errors
    ///
    /// The network has more weights than this program trains, or the device's memory is exhausted.
    pub fn weight<W: Plain>(
        &mut self,
        name: &str,
        extents: &[usize],
        deviation: f32,
    ) -> Result<Parameter<D, W>> {
        let length = extents.iter().fold(1_usize, |length, &extent| length.saturating_mul(extent));
        self.weights = self.weights.saturating_add(length);
        ensure!(
            self.weights <= MOST_WEIGHTS,
            "the network has {} weights up to {name}, and at most {MOST_WEIGHTS} can be trained here",
            self.weights
        );
        let normal = Normal::new(0.0, deviation)?;
        let values: Vec<f32> = match &mut self.generator {
            Some(generator) => normal.sample_iter(generator).take(length).collect(),
            None => vec![0.0; length],
        };
        Ok(Parameter::weight(self.device, name.into(), &values)?.with_extents(extents))
    }

    /// Makes a convolution with padding that keeps the size, for a rectifier behind it (He et al.
    /// 2015: the variance is 2 over the fan-in).
    pub fn convolution<W: Element + Plain>(
        &mut self,
        name: &str,
        [channels, filters]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Result<Convolutional<D, W>> {
        let shape = Convolution::new(0, [0, 0], channels, filters, [kernel; 2])
            .stride([stride; 2])
            .padding([kernel / 2; 2]);
        Ok(Convolutional::new(self.filters(name, shape, 2.0)?, shape))
    }

    /// Makes a convolution with a bias of zeros, for a rectifier behind it; `shape` is for images of any size.
    pub fn biased<W: Element + Plain>(
        &mut self,
        name: &str,
        shape: Convolution,
    ) -> Result<Convolutional<D, W>> {
        let weight = self.filters(name, shape, 2.0)?;
        Ok(Convolutional::new(weight, shape).with_bias(self.bias(name, shape.filters)?))
    }

    /// Makes the transposed one of a convolution, for a rectifier behind it: of the products of its fan-out an output has one of
    /// as many as a stride has pixels.
    pub fn transposed<W: Element + Plain>(
        &mut self,
        name: &str,
        convolution: Convolution,
    ) -> Result<Transposed<D, W>> {
        let [down, right] = convolution.stride;
        let terms = convolution.fan_out() as f32 / (down * right).max(1) as f32;
        let ([rows, columns], channels) = (convolution.kernel, convolution.channels);
        let extents = [convolution.filters, rows, columns, channels / convolution.groups.max(1)];
        let weight = self.weight(name, &extents, (2.0 / terms).sqrt())?;
        Ok(Transposed::new(weight, convolution))
    }

    /// Makes a head over a map: a 3x3 convolution with a bias of zeros.
    pub fn map_head<W: Element + Plain>(
        &mut self,
        name: &str,
        [channels, filters]: [usize; 2],
    ) -> Result<MapHead<D, W>> {
        let shape = Convolution::new(0, [0, 0], channels, filters, [3; 2]).padding([1; 2]);
        let weight = self.filters(name, shape, 1.0)?;
        Ok(MapHead::new(weight, self.bias(name, filters)?, shape))
    }

    /// Draws filters of variance `gain` over the fan-in.
    fn filters<W: Plain>(
        &mut self,
        name: &str,
        shape: Convolution,
        gain: f32,
    ) -> Result<Parameter<D, W>> {
        let deviation = (gain / shape.fan_in() as f32).sqrt();
        let [rows, columns] = shape.kernel;
        let channels = shape.channels / shape.groups.max(1);
        self.weight(name, &[shape.filters, rows, columns, channels], deviation)
    }

    fn bias<W: Plain>(&mut self, name: &str, length: usize) -> Result<Parameter<D, W>> {
        Ok(Parameter::plain(self.device, format!("{name}.bias"), &vec![0.0; length], Role::Bias)?)
    }

    /// Makes a linear layer of variance `gain` over the fan-in.
    pub fn linear<W: Element + Plain>(
        &mut self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        gain: f32,
    ) -> Result<Linear<D, W>> {
        let weight = self.weight(name, &[outputs, inputs], (gain / inputs as f32).sqrt())?;
        Ok(Linear::new(weight, inputs, outputs))
    }

    /// Makes a linear layer of variance `gain` over the fan-in, with a bias of zeros.
    pub fn biased_linear<W: Element + Plain>(
        &mut self,
        name: &str,
        sizes: [usize; 2],
        gain: f32,
    ) -> Result<Linear<D, W>> {
        let linear = self.linear(name, sizes, gain)?;
        Ok(linear.with_bias(self.bias(name, sizes[1])?))
    }

    /// Makes a linear layer for jets, of variance `gain` over the fan-in and with a bias of zeros.
    pub fn jet_linear<W: Element + Plain>(
        &mut self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        gain: f32,
    ) -> Result<JetLinear<D, W>> {
        let weight = self.weight(name, &[outputs, inputs], (gain / inputs as f32).sqrt())?;
        Ok(JetLinear::new(weight, self.bias(name, outputs)?, [inputs, outputs]))
    }

    /// Makes a last layer, with a bias of zeros.
    pub fn head<W: Element + Plain>(
        &mut self,
        name: &str,
        [inputs, outputs]: [usize; 2],
    ) -> Result<Head<D, W>> {
        let weight = self.weight(name, &[outputs, inputs], (1.0 / inputs as f32).sqrt())?;
        Ok(Head::new(weight, self.bias(name, outputs)?, inputs, outputs))
    }

    /// Makes a convolution and a batch normalisation.
    pub fn normalised<W, G>(
        &mut self,
        name: &str,
        channels: [usize; 2],
        kernel: usize,
        place: Place,
    ) -> Result<Vec<AnyLayer<D, W, G>>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let convolution = self.convolution(&format!("{name}.conv"), channels, kernel, 1)?;
        let convolution = match place {
            Place::First => convolution.first(),
            Place::Inside => convolution,
        };
        let norm = Normalising::batch(self.device, &format!("{name}.norm"), channels[1], 1.0)?;
        Ok(vec![Box::new(convolution), Box::new(norm)])
    }
}

/// Where in a network a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the input, whose gradient is not computed.
    First,
    /// Anywhere else.
    Inside,
}
