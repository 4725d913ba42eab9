//! A generator and a critic of its images, whose parameters are clipped (Arjovsky et al. 2017).

use std::fmt;

use adaloss_core::format::Element;
use adaloss_hal::{Plain, network::Convolution};
use anyhow::{Result, ensure};

use super::{Build, Layers};
use crate::layer::{AnyLayer, Generator, Layer, Machine, Piece, Player, Relu, Reshape, Sequence};

/// Linear layers with rectifiers between them from noise to images, and others from images to a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wgan {
    /// Values that an image is made from.
    pub latent: usize,
    /// Units of the two hidden layers of the generator; where these are transposed convolutions, the channels of the first.
    pub hidden: usize,
    /// Whether the generator ends in a transposed convolution and a convolution (Radford et al. 2016).
    pub transposed: bool,
    /// Hidden layers of the critic.
    pub critic: usize,
    /// Units of each.
    pub width: usize,
    /// The greatest magnitude of the critic's weights and biases.
    pub clip: f32,
    /// The step size of the generator, by that of the critic.
    pub rate: f32,
}

impl Default for Wgan {
    fn default() -> Self {
        Self {
            latent: 32,
            hidden: 128,
            transposed: false,
            critic: 6,
            width: 40,
            clip: 0.01,
            rate: 1.0,
        }
    }
}

impl Wgan {
    /// Makes the layers.
    pub(super) fn layers<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        image: [usize; 3],
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let values = image.iter().product();
        let layers = match self.transposed {
            true => self.transposed_generator(build, image)?,
            false => self.generator(build, values)?,
        };
        let generator = Generator::new(self.latent, layers);
        let mut critic: Vec<AnyLayer<D, W, G>> = vec![Box::new(Reshape::to_rows())];
        let mut inputs = values;
        for nth in 1..=self.critic {
            let linear =
                build.biased_linear(&format!("critic.{nth}"), [inputs, self.width], 2.0)?;
            critic.extend([Box::new(linear) as AnyLayer<D, W, G>, Box::new(Relu::new())]);
            inputs = self.width;
        }
        let head = build.head("critic.head", [inputs, 1])?;
        let generator = Some(generator);
        let mut layers = Layers { generator, ..Layers::in_line(critic, head) };
        self.assign(build, &mut layers)?;
        Ok(layers)
    }

    /// From noise to the values of images.
    fn generator<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        values: usize,
    ) -> Result<Sequence<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let first = build.biased_linear("generator.1", [self.latent, self.hidden], 2.0)?.first();
        let second = build.biased_linear("generator.2", [self.hidden; 2], 2.0)?;
        let last = build.biased_linear("generator.3", [self.hidden, values], 1.0)?;
        Ok(Sequence::new(vec![
            Box::new(first),
            Box::new(Relu::new()),
            Box::new(second),
            Box::new(Relu::new()),
            Box::new(last),
        ]))
    }

    /// From noise to images of half the extents, and by a transposed convolution and another one to those of the whole.
    fn transposed_generator<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        [height, width, channels]: [usize; 3],
    ) -> Result<Sequence<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        ensure!(
            height.is_multiple_of(2) && width.is_multiple_of(2),
            "a transposed convolution doubles rows and columns, and {height} x {width} are not even"
        );
        let (half, many, few) = ([height / 2, width / 2], self.hidden, self.hidden.div_ceil(2));
        let units = many.saturating_mul(half[0]).saturating_mul(half[1]);
        let first = build.biased_linear("generator.1", [self.latent, units], 2.0)?.first();
        let doubling = Convolution::new(0, [height, width], few, many, [4; 2]);
        let doubling = doubling.stride([2; 2]).padding([1; 2]);
        let second = build.transposed("generator.2", doubling)?;
        let last = Convolution::new(0, [0; 2], few, channels, [3; 2]).padding([1; 2]);
        let last = build.biased("generator.3", last)?;
        Ok(Sequence::new(vec![
            Box::new(first),
            // In front of the rectifier, which keeps what it made.
            Box::new(Reshape::to_images(half)),
            Box::new(Relu::new()),
            Box::new(second),
            Box::new(Relu::new()),
            Box::new(last),
        ]))
    }

    /// Says of each parameter which player's it is, and clips those of the critic.
    fn assign<W, G, D>(self, build: &mut Build<'_, D>, layers: &mut Layers<D, W, G>) -> Result<()>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let (mut generator, mut critic) = (Vec::new(), Vec::new());
        layers.generator.iter_mut().for_each(|layers| layers.pieces(&mut generator));
        layers.body.pieces(&mut critic);
        layers.heads.pieces(&mut critic);
        let players = [
            (generator, Player::Generator { rate: self.rate }),
            (critic, Player::Critic { clip: self.clip }),
        ];
        for (pieces, player) in players {
            for piece in pieces {
                if let Piece::Parameter(parameter) = piece {
                    parameter.player = player;
                    parameter.clip(build.device)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Wgan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { latent, hidden, transposed, critic, width, clip, rate } = self;
        let generator = match transposed {
            true => format!("transposed convolution from {latent} values and {hidden} channels"),
            false => format!("MLP from {latent} values with hidden layers of {hidden}"),
        };
        write!(
            f,
            "WGAN: {generator}, critic of {critic} hidden layers of {width} \
             clipped to {clip}"
        )?;
        if *rate == 1.0 { Ok(()) } else { write!(f, ", generator {rate} times as fast") }
    }
}
