//! Residual networks for small images (He et al. 2016, section 4.2).

use std::fmt;

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::Result;

use super::{Build, Layers};
use crate::layer::{AnyLayer, Averaging, Machine, Normalising, Padding, Relu, Residual, Sequence};

/// A residual network of 6m + 2 layers: a stem, three stages of m blocks of two 3x3 convolutions, and
/// a linear layer; the second and the third stage halve the image and double the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resnet {
    /// 6m + 2.
    pub depth: usize,
    /// Channels of the first stage.
    pub width: usize,
    /// What leads around a block that halves the image.
    pub shortcut: Shortcut,
    /// Whether normalisation and rectifier come before the convolutions (He et al. 2016b).
    pub preactivation: bool,
    /// Whether the last normalisation of a block begins with gain zero (Goyal et al. 2017); without
    /// effect before activations.
    pub zero_init: bool,
}

/// What leads around a block that halves the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Every second pixel, and channels of zeros: option A, without parameters.
    Padded,
    /// A 1x1 convolution and a normalisation: option B.
    Projected,
}

impl Resnet {
    /// The network of the paper: 16 channels, padded shortcuts.
    pub const fn new(depth: usize) -> Self {
        let shortcut = Shortcut::Padded;
        Self { depth, width: 16, shortcut, preactivation: false, zero_init: false }
    }

    pub(super) fn layers<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        channels: usize,
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let stem = build.convolution("stem.conv", [channels, self.width], 3, 1)?.first();
        let mut body: Vec<AnyLayer<D, W, G>> = vec![Box::new(stem)];
        if !self.preactivation {
            body.push(Box::new(Normalising::batch(build.device, "stem.norm", self.width, 1.0)?));
            body.push(Box::new(Relu::new()));
        }
        let mut arriving = self.width;
        for stage in 0..3 {
            for block in 0..(self.depth - 2) / 6 {
                let name = format!("stage{}.block{}", stage + 1, block + 1);
                let leaving = self.width << stage;
                body.extend(self.block(build, &name, [arriving, leaving])?);
                arriving = leaving;
            }
        }
        if self.preactivation {
            body.push(Box::new(Normalising::batch(build.device, "last.norm", arriving, 1.0)?));
            body.push(Box::new(Relu::new()));
        }
        body.push(Box::new(Averaging::new("average".into())));
        let head = build.head("head", [arriving, classes])?;
        Ok(Layers::in_line(body, head))
    }

    /// Makes one block.
    fn block<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        name: &str,
        [arriving, leaving]: [usize; 2],
    ) -> Result<Vec<AnyLayer<D, W, G>>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let stride = if arriving == leaving { 1 } else { 2 };
        let mut main: Vec<AnyLayer<D, W, G>> = Vec::new();
        let sizes = [[arriving, leaving], [leaving; 2]];
        for (nth, (channels, stride)) in sizes.into_iter().zip([stride, 1]).enumerate() {
            let conv = format!("{name}.conv{}", nth + 1);
            let conv = build.convolution(&conv, channels, 3, stride)?;
            let norm = format!("{name}.norm{}", nth + 1);
            if self.preactivation {
                main.push(Box::new(Normalising::batch(build.device, &norm, channels[0], 1.0)?));
                main.push(Box::new(Relu::new()));
                main.push(Box::new(conv));
            } else {
                let gain = if self.zero_init && nth == 1 { 0.0 } else { 1.0 };
                main.push(Box::new(conv));
                main.push(Box::new(Normalising::batch(build.device, &norm, leaving, gain)?));
                if nth == 0 {
                    main.push(Box::new(Relu::new()));
                }
            }
        }
        let shortcut = match (stride, self.shortcut) {
            (1, _) => None,
            (_, Shortcut::Padded) => {
                let padding = Padding::new(build.device, arriving, leaving)?;
                Some(Sequence::new(vec![Box::new(padding)]))
            }
            (_, Shortcut::Projected) => {
                Some(self.projection(build, &format!("{name}.shortcut"), [arriving, leaving])?)
            }
        };
        let join = Residual::new(format!("{name}.join"), Sequence::new(main), shortcut);
        let mut layers: Vec<AnyLayer<D, W, G>> = vec![Box::new(join)];
        if !self.preactivation {
            layers.push(Box::new(Relu::new()));
        }
        Ok(layers)
    }

    fn projection<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        name: &str,
        channels: [usize; 2],
    ) -> Result<Sequence<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let convolution = build.convolution(&format!("{name}.conv"), channels, 1, 2)?;
        let mut layers: Vec<AnyLayer<D, W, G>> = vec![Box::new(convolution)];
        if !self.preactivation {
            let norm = format!("{name}.norm");
            layers.push(Box::new(Normalising::batch(build.device, &norm, channels[1], 1.0)?));
        }
        Ok(Sequence::new(layers))
    }
}

impl fmt::Display for Resnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { depth, width, shortcut, preactivation, zero_init } = self;
        write!(f, "{}ResNet-{depth}", if *preactivation { "pre-activation " } else { "" })?;
        write!(
            f,
            " of width {width}, {} shortcuts",
            match shortcut {
                Shortcut::Padded => "padded",
                Shortcut::Projected => "projected",
            }
        )?;
        if *zero_init { write!(f, ", zero-initialised blocks") } else { Ok(()) }
    }
}
