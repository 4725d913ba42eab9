//! Networks, by name.

mod build;
mod mlp;
mod resnet;
mod segnet;
mod transformer;

use std::{fmt, str::FromStr};

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::{Result, bail, ensure};
use rand_chacha::ChaCha8Rng;

use crate::{
    data::Input,
    layer::{Embedding, Head, Machine, Sequence},
};

pub use build::Build;
pub use resnet::{Resnet, Shortcut};
pub use segnet::Segnet;
pub use transformer::Transformer;

/// A network, before it knows what it learns from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Model {
    /// Three linear layers with rectifiers between them.
    Mlp {
        /// Units of the hidden layers.
        hidden: usize,
    },
    /// A residual network for small images.
    Resnet(Resnet),
    /// An encoder and decoder for segmentation.
    Segnet(Segnet),
    /// A causal transformer for sequences of tokens.
    Transformer(Transformer),
}

/// The layers of a network.
pub struct Layers<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// Of a network over tokens.
    pub embedding: Option<Embedding<D, W>>,
    /// Between the input and the last layer.
    pub body: Sequence<D, W, G>,
    /// From activations to logits.
    pub head: Head<D, W>,
}

impl Model {
    /// Makes the layers with random weights.
    ///
    /// # Errors
    ///
    /// The model is not one for such an input, or the device's memory is exhausted.
    pub fn layers<W, G, D>(
        &self,
        device: &mut D,
        generator: &mut ChaCha8Rng,
        input: Input,
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let mut build = Build::new(device, generator);
        match (self, input) {
            (&Self::Mlp { hidden }, Input::Image { height, width, channels }) => {
                mlp::layers(&mut build, height * width * channels, hidden, classes)
            }
            (Self::Resnet(resnet), Input::Image { channels, .. }) => {
                resnet.layers(&mut build, channels, classes)
            }
            (Self::Segnet(segnet), Input::Image { height, width, channels }) => {
                segnet.check(height, width)?;
                segnet.layers(&mut build, channels, classes)
            }
            (Self::Transformer(transformer), Input::Tokens { length, vocabulary }) => {
                transformer.layers(&mut build, vocabulary, length, classes)
            }
            (_, Input::Image { .. }) => bail!("{self} is no network for images"),
            (_, Input::Tokens { .. }) => bail!("{self} is no network for tokens"),
        }
    }

    /// Tells whether a pixel gets a class of its own.
    pub const fn is_per_pixel(&self) -> bool {
        matches!(self, Self::Segnet(_))
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mlp { hidden } => write!(f, "MLP with hidden layers of {hidden}"),
            Self::Resnet(resnet) => resnet.fmt(f),
            Self::Segnet(segnet) => segnet.fmt(f),
            Self::Transformer(transformer) => transformer.fmt(f),
        }
    }
}

impl FromStr for Model {
    type Err = anyhow::Error;

    /// Reads "mlp", "resnet20" and other depths (6m + 2), "preresnet20", "segnet", "transformer".
    fn from_str(name: &str) -> Result<Self> {
        let depth = |digits: &str| -> Result<usize> {
            let depth = digits.parse().ok().filter(|n| *n >= 8 && n % 6 == 2);
            let Some(depth) = depth else {
                bail!("the depth of \"{name}\" is not 6m + 2: one of 8, 14, 20, ... 110, ...");
            };
            ensure!(depth <= 140, "{name} has more layers than the scaler has cells for");
            Ok(depth)
        };
        Ok(match name {
            "mlp" => Self::Mlp { hidden: 128 },
            "segnet" => Self::Segnet(Segnet::default()),
            "transformer" => Self::Transformer(Transformer::default()),
            _ => {
                let (rest, preactivation) = match name.strip_prefix("pre") {
                    Some(rest) => (rest, true),
                    None => (name, false),
                };
                let Some(digits) = rest.strip_prefix("resnet") else {
                    bail!(
                        "unknown network \"{name}\": one of mlp, resnetN, preresnetN (N = 6m + 2), \
                         segnet, transformer"
                    );
                };
                Self::Resnet(Resnet { preactivation, ..Resnet::new(depth(digits)?) })
            }
        })
    }
}
