//! What follows the body of a network: from activations to results in f32, and the gradients of their losses back.

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::{Context, Result, bail};

use crate::{
    layer::{
        Activation, Backward, Forward, Gradient, Head, Layer, Machine, Piece, Sequence, Tensor,
    },
    network::Outputs,
};

/// The heads of a network.
pub enum Heads<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// One, to the logits of classes or to a quantity.
    One(Head<D, W>),
    /// Two, to the logits of classes and to a quantity.
    Twin(Box<TwinHeads<D, W, G>>),
}

/// What a network has that learns a quantity beside the classes.
pub struct TwinHeads<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// Between what is shared and the logits.
    pub to_classes: Sequence<D, W, G>,
    /// From activations to logits.
    pub classes: Head<D, W>,
    /// Between what is shared and the quantity.
    pub to_quantity: Sequence<D, W, G>,
    /// From activations to the quantity.
    pub quantity: Head<D, W>,
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Heads<D, W, G> {
    /// Takes what the body made to the results.
    pub fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        activation: Activation<D, W>,
    ) -> Result<Outputs<D>> {
        Ok(Outputs(match self {
            Self::One(head) => vec![head.forward(run, activation).context("head")?],
            Self::Twin(twin) => {
                let quantity = twin.to_quantity.forward(run, activation.clone())?;
                let quantity = twin.quantity.forward(run, quantity).context("quantity")?;
                let classes = twin.to_classes.forward(run, activation)?;
                vec![twin.classes.forward(run, classes).context("head")?, quantity]
            }
        }))
    }

    /// Takes the gradients of the results, in f32 and unscaled, back to what the body made; nothing is left where all heads
    /// begin at the input.
    ///
    /// # Errors
    ///
    /// There is not one gradient for each result, or the device failed.
    pub fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradients: &Outputs<D>,
    ) -> Result<Option<Gradient<D, G>>> {
        match (self, &gradients.0[..]) {
            (Self::One(head), [logits]) => head_back(run, head, logits).map(Some),
            (Self::Twin(twin), [logits, quantity]) => twin.backward(run, logits, quantity),
            (_, gradients) => bail!("{} gradients are not one for each head", gradients.len()),
        }
    }

    /// Appends everything that training changes, in a fixed order.
    pub fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        match self {
            Self::One(head) => head.pieces(to),
            Self::Twin(twin) => {
                let TwinHeads { to_classes, classes, to_quantity, quantity } = &mut **twin;
                to_classes.pieces(to);
                to_quantity.pieces(to);
                quantity.pieces(to);
                classes.pieces(to);
            }
        }
    }
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> TwinHeads<D, W, G> {
    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        logits: &Tensor<D, f32>,
        quantity: &Tensor<D, f32>,
    ) -> Result<Option<Gradient<D, G>>> {
        let classes = self.classes_back(run, logits)?;
        match (classes, self.quantity_back(run, quantity)?) {
            (Some(classes), Some(quantity)) => {
                run.join("trunk", [&classes, &quantity]).context("trunk").map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Takes the gradient of the logits alone back to what is shared; nothing is left where its task begins at the input.
    pub fn classes_back(
        &mut self,
        run: &mut Backward<'_, D>,
        logits: &Tensor<D, f32>,
    ) -> Result<Option<Gradient<D, G>>> {
        let classes = head_back(run, &mut self.classes, logits)?;
        self.to_classes.backward(run, classes)
    }

    /// Takes the gradient of the quantity alone back to what is shared; nothing is left where its task begins at
    /// the input.
    pub fn quantity_back(
        &mut self,
        run: &mut Backward<'_, D>,
        quantity: &Tensor<D, f32>,
    ) -> Result<Option<Gradient<D, G>>> {
        let quantity = run.further_loss::<G>("quantity.loss", quantity)?;
        let quantity = self.quantity.backward(run, &quantity).context("quantity.head")?;
        self.to_quantity.backward(run, quantity)
    }
}

/// Takes the gradient of the first loss back through a head.
fn head_back<D: Machine<W, G>, W: Element + Plain, G: Element + Plain>(
    run: &mut Backward<'_, D>,
    head: &mut Head<D, W>,
    gradient: &Tensor<D, f32>,
) -> Result<Gradient<D, G>> {
    let gradient = run.loss::<G>(gradient).context("loss")?;
    head.backward(run, &gradient).context("head")
}
