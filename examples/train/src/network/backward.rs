//! The backward pass of one loss or of two together, and that of two one by one.

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::{Context, Result, bail};

use super::{Mode, Network, Outputs};
use crate::{
    layer::{Backward, GradientSink, Layer, LossPass, Machine, Scaler},
    model::Heads,
};

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Network<D, W, G> {
    /// Takes the gradients of the losses, in f32 and unscaled, back through the network; adds to the
    /// gradients of every parameter, and passes them on behind the last micro-batch.
    pub fn backward(
        &mut self,
        gradients: &Outputs<D>,
        scaler: &mut Scaler<D>,
        mode: Mode<'_>,
        sink: &mut dyn GradientSink<D>,
    ) -> Result<()> {
        let Self { device, buffers, layers, blocks, .. } = self;
        let mut run = Backward::new(device, buffers, scaler, mode, sink).in_blocks(*blocks);
        let gradient = layers.heads.backward(&mut run, gradients)?;
        let Some(gradient) = gradient else { return Ok(()) };
        let Some(gradient) = layers.body.backward(&mut run, gradient)? else { return Ok(()) };
        if let Some(embedding) = &mut layers.embedding {
            embedding.backward(&mut run, &gradient).context("embedding")?;
        } else if let Some(generator) = &mut layers.generator {
            generator.backward(&mut run, gradient).context("generator")?;
        }
        Ok(())
    }

    /// Takes the gradients of two losses back one after the other, each in a step of its own and through its own
    /// layers only, and adds the weight gradients of those that are shared, in f32 and unscaled.
    ///
    /// Cells have the numbers that they have in one backward pass for both losses; the join of the two has none.
    ///
    /// # Errors
    ///
    /// The network or the gradients have one loss, or the device failed.
    pub fn backward_each(
        &mut self,
        gradients: &Outputs<D>,
        [first, second]: [&mut Scaler<D>; 2],
        mode: Mode<'_>,
        sink: &mut dyn GradientSink<D>,
    ) -> Result<()> {
        let Self { device, buffers, layers, blocks, .. } = self;
        let mut run =
            Backward::new(device, buffers, &mut *first, mode, &mut *sink).in_blocks(*blocks);
        let (heads, [logits, quantity]) = match (&mut layers.heads, &gradients.0[..]) {
            (Heads::Twin(heads), [logits, quantity]) => (heads, [logits, quantity]),
            (Heads::Field(field), [given, value, laplacian]) => {
                field.given_back::<G>(&mut run, given).context("where the field is given")?;
                let next = run.next_cell();
                let run = Backward::new(device, buffers, second, mode, sink);
                let mut run = run.in_blocks(*blocks).part(next, LossPass::Only);
                let equation = field.equation_back::<G>(&mut run, [value, laplacian]);
                return equation.context("where the equation holds");
            }
            _ => bail!(
                "two backward passes need a network and gradients of two losses: use `backward` for one loss"
            ),
        };
        let classes = heads.classes_back(&mut run, logits)?;
        let next = run.next_cell();
        let run = Backward::new(device, buffers, &mut *second, mode, &mut *sink);
        let mut run = run.in_blocks(*blocks).part(next, LossPass::Only);
        let quantity = heads.quantity_back(&mut run, quantity)?;
        let next = run.next_cell() + 1; // behind the join
        let loss_passes = [(first, classes, LossPass::First), (second, quantity, LossPass::Second)];
        for (scaler, gradient, loss_pass) in loss_passes {
            let Some(gradient) = gradient else { continue };
            let run = Backward::new(device, buffers, scaler, mode, &mut *sink).in_blocks(*blocks);
            layers.body.backward(&mut run.part(next, loss_pass), gradient)?;
        }
        Ok(())
    }
}
