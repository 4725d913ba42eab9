//! Batch normalisation: it has no scale of its own, and its parameters' gradients are unscaled.

use adaloss_core::{format::Format, propagate::Scaled, scale::Scale, unscale::unscale};
use adaloss_oracle::tolerance::NORMALISATION;

use crate::{
    json::Node,
    methods,
    report::{Case, Checked},
    tensor::{Dtype, Tensor},
};

/// Checks one recorded node against the textbook formulas in f64, unscaled by core.
pub(super) fn check(case: &mut Case, node: Node<'_>) -> Checked {
    let tensor = |name| node.field(name).and_then(Tensor::read);
    let (x, gamma, gy, gx) = (tensor("x")?, tensor("gamma")?, tensor("gy")?, tensor("gx")?);
    let incoming = methods::scale_of(node.field("prev_scale")?.scalar()?)
        .ok_or("the incoming scale is no scale here")?;
    let images = Images::of(&x)?;
    let (x, gy, stored) = (x.values(), gy.values(), gx.values());
    let recorded = [tensor("ggamma_unscaled")?.values(), tensor("gbeta_unscaled")?.values()];
    let rounding = Rounding { dtype: gamma.dtype, eps: node.field("eps")?.number()? };
    for (channel, &factor) in gamma.values().iter().enumerate() {
        let places = images.places(channel);
        let at = |values: &[f32]| places.iter().map(|&i| f64::from(values[i])).collect::<Vec<_>>();
        let gradients = rounding.gradients(&at(&x), &at(&gy), f64::from(factor));
        for ((name, sum), recorded) in
            [("ggamma", &gradients.gamma), ("gbeta", &gradients.beta)].into_iter().zip(&recorded)
        {
            let (ours, recorded) = (unscaled(sum, incoming)?, f64::from(recorded[channel]));
            let last = gamma.dtype.half_ulp(recorded as f32);
            let bound = sum.reach / f64::from(incoming.factor()) + last;
            case.within(name, ours, recorded, bound, &NORMALISATION)?;
        }
        for (&place, ours) in places.iter().zip(&gradients.input) {
            let bound = ours.reach + gx.dtype.half_ulp(stored[place]);
            let recorded = f64::from(stored[place]);
            case.within("an element of gx", ours.value, recorded, bound, &NORMALISATION)?;
        }
    }
    Ok(())
}

/// Takes the scale out of a parameter's gradient with core.
fn unscaled(sum: &Number, incoming: Scale) -> Result<f64, String> {
    let mut unscaled = [0.0];
    unscale(Format::BINARY32, Scaled::new([sum.value as f32], incoming), &mut unscaled)
        .map_err(|error| error.to_string())?;
    Ok(f64::from(unscaled[0]))
}

/// An array of shape (samples, channels, ...).
struct Images {
    samples: usize,
    channels: usize,
    pixels: usize,
}

impl Images {
    fn of(tensor: &Tensor) -> Result<Self, String> {
        let [samples, channels, ..] = tensor.shape[..] else {
            return Err(String::from("a normalisation of an array without channels"));
        };
        Ok(Self { samples, channels, pixels: tensor.len() / (samples * channels) })
    }

    /// Returns where the elements of a channel lie.
    fn places(&self, channel: usize) -> Vec<usize> {
        let image = |sample| (sample * self.channels + channel) * self.pixels;
        (0..self.samples).flat_map(|n| image(n)..image(n) + self.pixels).collect()
    }
}

/// A number, the magnitude of what it was computed from, and how far off it is when each operation
/// rounds.
#[derive(Clone, Copy)]
struct Number {
    value: f64,
    size: f64,
    reach: f64,
}

/// The gradients of one channel.
struct Gradients {
    gamma: Number,
    beta: Number,
    input: Vec<Number>,
}

/// Chainer's arithmetic: everything is rounded to the type of gamma.
struct Rounding {
    dtype: Dtype,
    eps: f64,
}

impl Rounding {
    fn number(&self, value: f64, size: f64, reach: f64) -> Number {
        Number { value, size, reach: reach + self.dtype.half_ulp(size as f32) }
    }

    fn exact(&self, value: f64) -> Number {
        Number { value, size: value.abs(), reach: 0.0 }
    }

    fn product(&self, a: Number, b: Number) -> Number {
        self.number(a.value * b.value, a.size * b.size, a.size * b.reach + b.size * a.reach)
    }

    fn sum(&self, numbers: impl Iterator<Item = Number>) -> Number {
        let add = |sum: Number, x: Number| {
            self.number(sum.value + x.value, sum.size + x.size, sum.reach + x.reach)
        };
        numbers.fold(self.exact(0.0), add)
    }

    fn gradients(&self, x: &[f64], gy: &[f64], gamma: f64) -> Gradients {
        let count = x.len() as f64;
        let mean = x.iter().sum::<f64>() / count;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let inverse = (variance + self.eps).sqrt().recip();
        let inverse = self.number(inverse, inverse, 0.0);
        let off = self.dtype.half_ulp(mean as f32);
        let centred = x.iter().map(|x| self.number(x - mean, x.abs() + mean.abs(), off));
        let normal: Vec<Number> = centred.map(|x| self.product(x, inverse)).collect();
        let gy: Vec<Number> = gy.iter().map(|&g| self.exact(g)).collect();

        let by_gamma = self.sum(gy.iter().zip(&normal).map(|(&g, &x)| self.product(g, x)));
        let by_beta = self.sum(gy.iter().copied());
        let factor = self.product(self.exact(gamma), inverse);
        let share = self.exact(1.0 / count);
        let input = gy.iter().zip(&normal).map(|(&g, &x)| {
            let mean = self.sum([self.product(x, by_gamma), by_beta].into_iter());
            let mean = self.product(mean, share);
            let mean = Number { value: -mean.value, ..mean };
            self.product(factor, self.sum([g, mean].into_iter()))
        });
        Gradients { gamma: by_gamma, beta: by_beta, input: input.collect() }
    }
}
