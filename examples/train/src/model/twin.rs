//! Two tasks at once: what class a sample is of, and a quantity of it in physical units.

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::Result;

use super::{Build, Heads, Layers, TwinHeads};
use crate::layer::{AnyLayer, Machine, Relu, Reshape, Sequence};

/// Two tasks, which share a trunk or have a tower each from the input on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Units of the hidden layers.
    pub hidden: usize,
    /// Whether the first two layers are shared.
    pub shared: bool,
}

impl Twin {
    /// Makes the layers.
    pub(super) fn layers<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        inputs: usize,
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let mut body: Vec<AnyLayer<D, W, G>> = vec![Box::new(Reshape::to_rows())];
        if self.shared {
            body.extend(self.stem(build, "trunk", inputs)?);
        }
        let mut tower = |name: &str| {
            let stem = if self.shared { Vec::new() } else { self.stem(build, name, inputs)? };
            let hidden = build.linear(&format!("{name}.hidden"), [self.hidden; 2], 2.0)?;
            let mut layers = stem;
            layers.extend([Box::new(hidden) as AnyLayer<D, W, G>, Box::new(Relu::new())]);
            Ok::<_, anyhow::Error>(Sequence::new(layers))
        };
        let (to_classes, to_quantity) = (tower("class")?, tower("quantity")?);
        let classes = build.head("class.head", [self.hidden, classes])?;
        let quantity = build.head("quantity.head", [self.hidden, 1])?;
        let heads = TwinHeads { to_classes, classes, to_quantity, quantity };
        let heads = Heads::Twin(Box::new(heads));
        Ok(Layers::of(Sequence::new(body), heads))
    }

    /// Two layers from the input on.
    fn stem<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        name: &str,
        inputs: usize,
    ) -> Result<Vec<AnyLayer<D, W, G>>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let first = build.linear(&format!("{name}.1"), [inputs, self.hidden], 2.0)?.first();
        let second = build.linear(&format!("{name}.2"), [self.hidden; 2], 2.0)?;
        Ok(vec![Box::new(first), Box::new(Relu::new()), Box::new(second), Box::new(Relu::new())])
    }
}

/// Returns the quantity of each image: a weighted sum of its pixels, of order 1.
pub fn quantities(images: &[f32], samples: usize) -> Vec<f32> {
    let pixels = images.len() / samples.max(1);
    let weight = |pixel: usize| ((pixel * 37 % 11) as f32 - 5.0) / 60.0;
    let quantity = |image: &[f32]| (0..).zip(image).map(|(i, x)| weight(i) * x).sum();
    images.chunks(pixels.max(1)).map(quantity).collect()
}
