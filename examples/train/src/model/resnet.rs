//! Residual networks: those for small images (He et al. 2016, section 4.2; pre-activated: He et al. 2016b), and those for
//! ImageNet (He et al. 2016, table 1).

use std::fmt;

use adaloss_core::format::Element;
use adaloss_hal::{Plain, network};
use anyhow::{Context, Result, ensure};

use super::{Build, Layers};
use crate::layer::{
    AnyLayer, Averaging, Machine, Normalising, Padding, Pooling, Relu, Residual, Sequence,
};

/// A residual network: a stem, stages of blocks, and a linear layer; each stage but the first halves the image and doubles the
/// channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resnet {
    /// Blocks of each stage; zeros end the list.
    pub stages: [usize; 4],
    /// Channels of the first stage, those of a bottleneck's 3x3 convolution.
    pub width: usize,
    /// What a block is.
    pub block: Block,
    /// What comes before the blocks.
    pub stem: Stem,
    /// What leads around a block that changes the size of the image or the channels.
    pub shortcut: Shortcut,
    /// Whether normalisation and rectifier come before the convolutions (He et al. 2016b).
    pub preactivation: bool,
    /// Whether the last normalisation of a block begins with gain zero (Goyal et al. 2017); without
    /// effect before activations.
    pub zero_init: bool,
}

/// What a residual block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// A 1x1 convolution to a quarter of the channels, a 3x3 convolution, which halves the image where the block does, and a 1x1
    /// convolution back.
    Bottleneck,
}

/// What comes before the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stem {
    /// A 3x3 convolution.
    Small,
    /// A 7x7 convolution and a 3x3 max pooling, each of which halves the image.
    Large,
}

/// What leads around a block that changes the size of the image or the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Every second pixel, and channels of zeros: option A, without parameters.
    Padded,
    /// A 1x1 convolution and a normalisation: option B.  Where activations come first, the normalisation and the rectifier
    /// before the block are shared, and the shortcut is the convolution alone.
    Projected,
}

impl Block {
    /// Channels that leave a block, by its width.
    const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }

    const fn convolutions(self) -> usize {
        match self {
            Self::Basic => 2,
            Self::Bottleneck => 3,
        }
    }
}

impl Resnet {
    /// The depths of networks for ImageNet.
    pub const LARGE: [usize; 5] = [18, 34, 50, 101, 152];

    /// A network of the paper for small images: three stages from 16 channels on, padded shortcuts.
    ///
    /// # Errors
    ///
    /// The depth is not 2 more than the convolutions of three equal stages.
    pub fn small(depth: usize, block: Block) -> Result<Self> {
        let unit = 3 * block.convolutions();
        let blocks = depth.checked_sub(2).filter(|rest| *rest > 0 && rest.is_multiple_of(unit));
        let blocks = blocks.with_context(|| match block {
            Block::Basic => {
                format!("the depth {depth} is not 6m + 2: one of 8, 14, 20, ... 110, ...")
            }
            Block::Bottleneck => {
                format!("the depth {depth} is not 9m + 2: one of 11, 20, 29, ... 164, ...")
            }
        })?;
        let blocks = blocks / unit;
        Ok(Self {
            stages: [blocks, blocks, blocks, 0],
            width: 16,
            block,
            stem: Stem::Small,
            shortcut: Shortcut::Padded,
            preactivation: false,
            zero_init: false,
        })
    }

    /// A network of the paper for ImageNet.
    ///
    /// # Errors
    ///
    /// There is none of this depth.
    pub fn large(depth: usize) -> Result<Self> {
        let (stages, block) = match depth {
            18 => ([2, 2, 2, 2], Block::Basic),
            34 => ([3, 4, 6, 3], Block::Basic),
            50 => ([3, 4, 6, 3], Block::Bottleneck),
            101 => ([3, 4, 23, 3], Block::Bottleneck),
            152 => ([3, 8, 36, 3], Block::Bottleneck),
            _ => {
                anyhow::bail!("no network for ImageNet has depth {depth}: one of {:?}", Self::LARGE)
            }
        };
        Ok(Self {
            stages,
            width: 64,
            block,
            stem: Stem::Large,
            shortcut: Shortcut::Projected,
            preactivation: false,
            zero_init: false,
        })
    }

    /// Returns the number of layers with weights on the longest way: convolutions and the linear layer.
    pub fn depth(&self) -> usize {
        2 + self.block.convolutions() * self.stages.iter().sum::<usize>()
    }

    /// Checks that the images are large enough.
    pub(super) fn check(&self, height: usize, width: usize) -> Result<()> {
        let least = match self.stem {
            Stem::Small => 1,
            Stem::Large => 32,
        };
        ensure!(
            height.min(width) >= least,
            "images of {height} x {width} pixels are too small for a stem that quarters them: use `small`"
        );
        Ok(())
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
        let mut body = self.stem(build, channels)?;
        let mut arriving = self.width;
        for (stage, blocks) in self.stages.into_iter().enumerate().filter(|(_, blocks)| *blocks > 0)
        {
            for block in 0..blocks {
                let name = format!("stage{}.block{}", stage + 1, block + 1);
                let leaving = (self.width << stage) * self.block.expansion();
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                body.extend(self.block(build, &name, [arriving, leaving], stride)?);
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

    fn stem<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        channels: usize,
    ) -> Result<Vec<AnyLayer<D, W, G>>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let [kernel, stride] = match self.stem {
            Stem::Small => [3, 1],
            Stem::Large => [7, 2],
        };
        let conv = build.convolution("stem.conv", [channels, self.width], kernel, stride)?.first();
        let mut stem: Vec<AnyLayer<D, W, G>> = vec![Box::new(conv)];
        if !self.preactivation {
            stem.push(Box::new(Normalising::batch(build.device, "stem.norm", self.width, 1.0)?));
            stem.push(Box::new(Relu::new()));
        }
        if self.stem == Stem::Large {
            let shape = network::Pooling::new(0, [0; 2], 0, [3; 2]).stride([2; 2]).padding([1; 2]);
            stem.push(Box::new(Pooling::new("stem.pool".into(), shape)));
        }
        Ok(stem)
    }

    /// Makes one block.
    fn block<W, G, D>(
        &self,
        build: &mut Build<'_, D>,
        name: &str,
        [arriving, leaving]: [usize; 2],
        stride: usize,
    ) -> Result<Vec<AnyLayer<D, W, G>>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let inner = leaving / self.block.expansion();
        let convolutions = match self.block {
            Block::Basic => vec![([arriving, leaving], 3, stride), ([leaving; 2], 3, 1)],
            Block::Bottleneck => {
                vec![([arriving, inner], 1, 1), ([inner; 2], 3, stride), ([inner, leaving], 1, 1)]
            }
        };
        let last = convolutions.len() - 1;
        let mut main: Vec<AnyLayer<D, W, G>> = Vec::new();
        for (nth, (channels, kernel, stride)) in convolutions.into_iter().enumerate() {
            let conv = format!("{name}.conv{}", nth + 1);
            let conv = build.convolution(&conv, channels, kernel, stride)?;
            let norm = format!("{name}.norm{}", nth + 1);
            if self.preactivation {
                main.push(Box::new(Normalising::batch(build.device, &norm, channels[0], 1.0)?));
                main.push(Box::new(Relu::new()));
                main.push(Box::new(conv));
            } else {
                let gain = if self.zero_init && nth == last { 0.0 } else { 1.0 };
                main.push(Box::new(conv));
                main.push(Box::new(Normalising::batch(build.device, &norm, channels[1], gain)?));
                if nth < last {
                    main.push(Box::new(Relu::new()));
                }
            }
        }
        let is_changing = stride > 1 || arriving != leaving;
        let mut layers: Vec<AnyLayer<D, W, G>> = Vec::new();
        let shortcut = match self.shortcut {
            _ if !is_changing => None,
            Shortcut::Padded => {
                let padding = Padding::new(build.device, [arriving, leaving], stride)?;
                Some(Sequence::new(vec![Box::new(padding)]))
            }
            Shortcut::Projected => {
                if self.preactivation {
                    // The first normalisation and the rectifier behind it are of both branches.
                    layers.extend(main.drain(..2));
                }
                let name = format!("{name}.shortcut");
                Some(self.projection(build, &name, [arriving, leaving], stride)?)
            }
        };
        let join = Residual::new(format!("{name}.join"), Sequence::new(main), shortcut);
        layers.push(Box::new(join));
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
        stride: usize,
    ) -> Result<Sequence<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let convolution = build.convolution(&format!("{name}.conv"), channels, 1, stride)?;
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
        let Self { width, block, stem, shortcut, preactivation, zero_init, .. } = self;
        write!(
            f,
            "{}ResNet-{}",
            if *preactivation { "pre-activation " } else { "" },
            self.depth()
        )?;
        write!(
            f,
            " of width {width}, {} shortcuts",
            match shortcut {
                Shortcut::Padded => "padded",
                Shortcut::Projected => "projected",
            }
        )?;
        if *block == Block::Bottleneck {
            write!(f, ", bottlenecks")?;
        }
        if *stem == Stem::Large {
            write!(f, ", a stem of 7x7 and pooling")?;
        }
        if *zero_init { write!(f, ", zero-initialised blocks") } else { Ok(()) }
    }
}
