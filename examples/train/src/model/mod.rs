//! Networks, by name.

mod build;
mod chain;
mod heads;
mod mlp;
mod pinn;
mod resnet;
mod segnet;
mod ssd;
mod transformer;
mod twin;
mod vgg;
mod wgan;

use std::{fmt, str::FromStr};

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::{Context, Result, anyhow, bail, ensure};
use rand_chacha::ChaCha8Rng;

use crate::{
    data::Input,
    layer::{AnyLayer, Embedding, Generator, Head, Machine, Sequence},
};

pub use build::Build;
pub use heads::{BoxHeads, Heads, Map, TwinHeads};
pub use pinn::{FieldHeads, Pinn};
pub use resnet::{Block, Resnet, Shortcut, Stem};
pub use segnet::Segnet;
pub use ssd::Ssd;
pub use transformer::Transformer;
pub use twin::{Twin, quantities};
pub use vgg::Vgg;
pub use wgan::Wgan;

/// The most channels, units, heads or blocks that can be asked for.
const MOST: usize = 1 << 16;

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
    /// Linear layers for two tasks at once.
    Twin(Twin),
    /// A plain convolutional network.
    Vgg(Vgg),
    /// A detector.
    Ssd(Ssd),
    /// A field that is learnt from its equation.
    Pinn(Pinn),
    /// A generator of images and a critic of them.
    Wgan(Wgan),
}

/// What a network was published for: images of ImageNet, PASCAL VOC, CamVid or CIFAR-10; or pairs of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Rows and columns of an image.
    pub extent: [usize; 2],
    /// Its channels.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
}

/// The layers of a network.
pub struct Layers<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// Of a network over tokens.
    pub embedding: Option<Embedding<D, W>>,
    /// Of a network that judges generated images beside those of its input.
    pub generator: Option<Generator<D, W, G>>,
    /// Between the input and the heads.
    pub body: Sequence<D, W, G>,
    /// From activations to results.
    pub heads: Heads<D, W, G>,
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Layers<D, W, G> {
    /// Makes a network of layers one after the other, the last of them a head.
    fn in_line(body: Vec<AnyLayer<D, W, G>>, head: Head<D, W>) -> Self {
        Self::of(Sequence::new(body), Heads::One(Box::new(head)))
    }

    /// Makes a network over images.
    const fn of(body: Sequence<D, W, G>, heads: Heads<D, W, G>) -> Self {
        Self { embedding: None, generator: None, body, heads }
    }
}

impl Model {
    /// Tells whether networks of this model have two losses, each with a backward pass of its own if asked for.
    pub const fn has_two_losses(&self) -> bool {
        matches!(self, Self::Twin(_) | Self::Pinn(_))
    }

    /// Makes the layers with random weights; without a generator with zeros.
    ///
    /// # Errors
    ///
    /// The model is not one for such an input, or the device's memory is exhausted.
    pub fn layers<W, G, D>(
        &self,
        device: &mut D,
        generator: Option<&mut ChaCha8Rng>,
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
            (Self::Twin(twin), Input::Image { height, width, channels }) => {
                twin.layers(&mut build, height * width * channels, classes)
            }
            (Self::Resnet(resnet), Input::Image { height, width, channels }) => {
                resnet.check(height, width)?;
                resnet.layers(&mut build, channels, classes)
            }
            (Self::Segnet(segnet), Input::Image { height, width, channels }) => {
                segnet.check(height, width)?;
                segnet.layers(&mut build, channels, classes)
            }
            (Self::Vgg(vgg), Input::Image { height, width, channels }) => {
                vgg.layers(&mut build, [height, width], channels, classes)
            }
            (Self::Ssd(ssd), Input::Image { height, width, channels }) => {
                ssd.layers(&mut build, [height, width], channels, classes)
            }
            (Self::Pinn(pinn), Input::Image { height, width, channels }) => {
                pinn.layers(&mut build, [height, width, channels], classes)
            }
            (Self::Wgan(wgan), Input::Image { height, width, channels }) => {
                wgan.layers(&mut build, [height, width, channels])
            }
            (Self::Transformer(transformer), Input::Tokens { length, vocabulary }) => {
                transformer.layers(&mut build, vocabulary, length, classes)
            }
            (_, Input::Image { .. }) => {
                bail!("{self} does not take images: use transformer for texts only")
            }
            (_, Input::Tokens { .. }) => bail!("{self} does not take tokens: use transformer"),
        }
    }

    /// Returns what a network was published for; one that has no such is taken for small images.
    pub fn published(&self) -> Published {
        let (extent, classes) = match self {
            Self::Resnet(Resnet { stem: Stem::Large, .. })
            | Self::Vgg(Vgg { small: false, .. }) => ([224; 2], 1000),
            Self::Segnet(_) => ([360, 480], 11),
            Self::Ssd(Ssd::Large300) => ([300; 2], 20),
            Self::Ssd(Ssd::Large512) => ([512; 2], 20),
            Self::Ssd(Ssd::Small { .. }) => ([64; 2], 4),
            Self::Pinn(_) => ([1, 2], 1),
            _ => ([32; 2], 10),
        };
        let channels = if matches!(self, Self::Pinn(_)) { 2 } else { 3 };
        Published { extent, channels, classes }
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
            Self::Vgg(vgg) => vgg.fmt(f),
            Self::Ssd(ssd) => ssd.fmt(f),
            Self::Pinn(Pinn { hidden, depth }) => {
                write!(f, "physics-informed MLP with {depth} hidden layers of {hidden}")
            }
            Self::Wgan(wgan) => wgan.fmt(f),
            Self::Twin(Twin { hidden, shared: true }) => {
                write!(f, "MLP with a trunk and two towers of {hidden}")
            }
            Self::Twin(Twin { hidden, shared: false }) => {
                write!(f, "MLP with two separate towers of {hidden}")
            }
        }
    }
}

impl FromStr for Model {
    type Err = anyhow::Error;

    /// Reads "mlp", "resnet20" and other depths (6m + 2), "preresnet20", "resnet50" and the other depths for ImageNet,
    /// "vgg16", "segnet", "ssd", "ssd300", "ssd512", "transformer", "wgan", and behind colons what is to be different: "resnet56:zero:projected:width=32",
    /// "preresnet164:bottleneck:projected", "resnet18:small" for small images,
    /// "segnet:widths=64-64-64-64:kernel=7", "transformer:blocks=4:heads=8:width=128:dropout=0.1",
    /// "mlp:hidden=64", "twin:towers", "pinn:hidden=32:depth=2", "wgan:critic=6:width=40:clip=0.01".
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let mut model = Self::named(name)?;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            // In one sentence: `clap` prints an error without its causes.
            model.set(key, value).map_err(|error| anyhow!("\"{part}\" of {name}: {error:#}"))?;
        }
        Ok(model)
    }
}

impl Model {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "mlp" => Self::Mlp { hidden: 128 },
            "segnet" => Self::Segnet(Segnet::default()),
            "transformer" => Self::Transformer(Transformer::default()),
            "twin" => Self::Twin(Twin { hidden: 32, shared: true }),
            "pinn" => Self::Pinn(Pinn::default()),
            "ssd" => Self::Ssd(Ssd::Small { width: 16 }),
            "wgan" => Self::Wgan(Wgan::default()),
            "ssd300" => Self::Ssd(Ssd::Large300),
            "ssd512" => Self::Ssd(Ssd::Large512),
            _ if name.starts_with("vgg") => {
                let vgg = name[3..].parse().ok().and_then(Vgg::new);
                Self::Vgg(vgg.with_context(|| format!("{name} is none of {:?}", Vgg::DEPTHS))?)
            }
            _ => {
                let (rest, preactivation) = match name.strip_prefix("pre") {
                    Some(rest) => (rest, true),
                    None => (name, false),
                };
                let depth = rest.strip_prefix("resnet").and_then(|depth| depth.parse().ok());
                let Some(depth) = depth else {
                    bail!(
                        "unknown network \"{name}\": one of mlp, resnetN, preresnetN (N = 6m + 2 for \
                         small images; 18, 34, 50, 101 or 152 for ImageNet), vggN, segnet, ssd, ssd300, ssd512, \
                         transformer, twin, pinn, wgan"
                    );
                };
                let resnet = match Resnet::LARGE.contains(&depth) {
                    true => Resnet::large(depth),
                    false => Resnet::small(depth, Block::Basic),
                };
                // In one sentence: see below.
                let resnet = resnet.map_err(|error| anyhow!("{name}: {error:#}"))?;
                Self::Resnet(Resnet { preactivation, ..resnet })
            }
        })
    }

    /// Makes one thing different.
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let number = || -> Result<usize> {
            let number = value.parse().ok().filter(|number| (1..=MOST).contains(number));
            number.with_context(|| format!("\"{value}\" is no number from 1 to {MOST}"))
        };
        match (self, key) {
            (Self::Mlp { hidden }, "hidden") => *hidden = number()?,
            (Self::Pinn(pinn), "hidden") => pinn.hidden = number()?,
            (Self::Pinn(pinn), "depth") => pinn.depth = number()?,
            (Self::Twin(twin), "hidden") => twin.hidden = number()?,
            (Self::Twin(twin), "towers") if value.is_empty() => twin.shared = false,
            (Self::Resnet(resnet), "width") => resnet.width = number()?,
            (Self::Resnet(resnet), "zero") if value.is_empty() => resnet.zero_init = true,
            (Self::Resnet(resnet), "projected") if value.is_empty() => {
                resnet.shortcut = Shortcut::Projected;
            }
            (Self::Resnet(resnet), "small") if value.is_empty() => resnet.stem = Stem::Small,
            (Self::Resnet(resnet), "bottleneck") if value.is_empty() => {
                ensure!(
                    resnet.stem == Stem::Small,
                    "the depth says whether blocks are bottlenecks"
                );
                let shaped = Resnet::small(resnet.depth(), Block::Bottleneck)?;
                (resnet.stages, resnet.block) = (shaped.stages, shaped.block);
            }
            (Self::Ssd(Ssd::Small { width }), "width") => *width = number()?,
            (Self::Vgg(vgg), "normalised") if value.is_empty() => vgg.normalised = true,
            (Self::Vgg(vgg), "undropped") if value.is_empty() => vgg.undropped = true,
            (Self::Vgg(vgg), "small") if value.is_empty() => vgg.small = true,
            (Self::Segnet(segnet), "widths") => segnet.widths = widths(value)?,
            (Self::Segnet(segnet), "kernel") => {
                segnet.kernel = number()?;
                ensure!(
                    !segnet.kernel.is_multiple_of(2),
                    "a kernel has an odd number of rows and columns, as 3"
                );
            }
            (Self::Segnet(segnet), "convolutions") => segnet.convolutions = number()?,
            (Self::Segnet(segnet), "rectified") if value.is_empty() => segnet.rectified = true,
            (Self::Wgan(wgan), "latent") => wgan.latent = number()?,
            (Self::Wgan(wgan), "hidden") => wgan.hidden = number()?,
            (Self::Wgan(wgan), "transposed") if value.is_empty() => wgan.transposed = true,
            (Self::Wgan(wgan), "critic") => wgan.critic = number()?,
            (Self::Wgan(wgan), "width") => wgan.width = number()?,
            (Self::Wgan(wgan), "clip") => {
                wgan.clip = value.parse().context("clip is a number, as 0.01")?;
                ensure!(wgan.clip > 0.0 && wgan.clip.is_finite(), "clip is above 0 and finite");
            }
            (Self::Transformer(transformer), "blocks") => transformer.blocks = number()?,
            (Self::Transformer(transformer), "heads") => transformer.heads = number()?,
            (Self::Transformer(transformer), "width") => transformer.width = number()?,
            (Self::Transformer(transformer), "dropout") => {
                transformer.dropout = value.parse().context("dropout is a number, as 0.1")?;
                ensure!(
                    (0.0..1.0).contains(&transformer.dropout),
                    "dropout is at least 0 and below 1"
                );
            }
            _ => bail!("this network has no such setting; --help lists those of each"),
        }
        Ok(())
    }
}

/// Reads the channels of each level: "64-64-128".
fn widths(text: &str) -> Result<[usize; 5]> {
    let mut widths = [0; 5];
    for (level, width) in text.split('-').enumerate() {
        let width = width.parse().ok().filter(|width| (1..=MOST).contains(width));
        let width = width.with_context(|| {
            format!("\"{text}\" is no list like 64-64-128, of numbers from 1 to {MOST}")
        })?;
        *widths.get_mut(level).context("there are at most five levels")? = width;
    }
    Ok(widths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_different() {
        let model = |name: &str| name.parse::<Model>();
        let small = |depth| Resnet::small(depth, Block::Basic).unwrap();
        let resnet = Resnet { zero_init: true, width: 32, ..small(56) };
        assert_eq!(model("resnet56:zero:width=32").unwrap(), Model::Resnet(resnet));
        let preactivated =
            Resnet { preactivation: true, shortcut: Shortcut::Projected, ..small(20) };
        assert_eq!(model("preresnet20:projected").unwrap(), Model::Resnet(preactivated));
        let bottleneck = Resnet::small(164, Block::Bottleneck).unwrap();
        assert_eq!(bottleneck.stages, [18, 18, 18, 0]);
        let named = model("preresnet164:bottleneck").unwrap();
        assert_eq!(named, Model::Resnet(Resnet { preactivation: true, ..bottleneck }));
        let large = Resnet::large(50).unwrap();
        assert_eq!(model("resnet50").unwrap(), Model::Resnet(large));
        let cut = Resnet { stem: Stem::Small, ..Resnet::large(18).unwrap() };
        assert_eq!(model("resnet18:small").unwrap(), Model::Resnet(cut));
        let segnet =
            Segnet { widths: [64, 64, 0, 0, 0], kernel: 7, convolutions: 2, rectified: true };
        let named = model("segnet:widths=64-64:kernel=7:convolutions=2:rectified").unwrap();
        assert_eq!(named, Model::Segnet(segnet));
        let transformer = Transformer { blocks: 1, heads: 2, width: 8, dropout: 0.5 };
        let named = model("transformer:blocks=1:heads=2:width=8:dropout=0.5").unwrap();
        assert_eq!(named, Model::Transformer(transformer));
        assert_eq!(model("mlp:hidden=9").unwrap(), Model::Mlp { hidden: 9 });
        let wgan = Wgan { latent: 3, hidden: 5, critic: 2, width: 7, clip: 0.5, ..Wgan::default() };
        let named = model("wgan:latent=3:hidden=5:critic=2:width=7:clip=0.5").unwrap();
        assert_eq!(named, Model::Wgan(wgan));
        let twin = Model::Twin(Twin { hidden: 8, shared: false });
        assert_eq!(model("twin:hidden=8:towers").unwrap(), twin);
        let pinn = Model::Pinn(Pinn { hidden: 32, depth: 2 });
        assert_eq!(model("pinn:hidden=32:depth=2").unwrap(), pinn);
    }

    #[test]
    fn an_error_says_why() {
        let error = "segnet:kernel=2".parse::<Model>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"kernel=2\" of segnet: a kernel has an odd number of rows and columns, as 3"
        );
    }

    #[test]
    fn what_there_is_not_is_an_error() {
        for name in [
            "resnet",
            "resnet9",
            "resnet1000",
            "resnet18:bottleneck",
            "resnet22:bottleneck",
            "resnet18446744073709551610",
            "resnet20:",
            "resnet20:width=0",
            "resnet20:zero=1",
            "resnet20:kernel=3",
            "segnet:kernel=4",
            "segnet:widths=8-x",
            "segnet:widths=",
            "segnet:widths=1-2-3-4-5-6",
            "transformer:dropout=1",
            "mlp:width=3",
            "wgan:clip=0",
            "wgan:clip=inf",
            "wgan:clip=NaN",
            "wgan:critic=0",
            "mlp:hidden=65537",
            "segnet:widths=8-99999999999",
            "transformer:blocks=18446744073709551615",
            "",
        ] {
            assert!(name.parse::<Model>().is_err(), "{name} was taken for a network");
        }
    }
}
