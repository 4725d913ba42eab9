//! What follows the body of a network: from activations to results in f32, and the gradients of their losses back.

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::{Context, Result, bail, ensure};

use super::FieldHeads;
use crate::{
    detect::DefaultBoxes,
    layer::{
        Activation, Backward, Forward, Gradient, Head, Layer, Machine, MapHead, Piece, Sequence,
        Tensor,
    },
    network::Outputs,
};

/// The heads of a network.
pub enum Heads<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// One, to the logits of classes or to a quantity.
    One(Box<Head<D, W>>),
    /// Two, to the logits of classes and to a quantity.
    Twin(Box<TwinHeads<D, W, G>>),
    /// Two for each of several maps, to the scores of default boxes and to their offsets.
    Boxes(Box<BoxHeads<D, W, G>>),
    /// To a field where it is given, and to the field and its Laplacian where its equation holds.
    Field(Box<FieldHeads<D, W>>),
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

/// The heads of a detector (Liu et al. 2016): maps of ever fewer pixels, each made from the one before.
pub struct BoxHeads<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// The maps, the largest first.
    pub maps: Vec<Map<D, W, G>>,
    /// The boxes around their pixels.
    pub boxes: DefaultBoxes,
}

/// A map of a detector and its heads.
pub struct Map<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> {
    /// The name of the cells in which gradients meet.
    pub name: String,
    /// From the map before, or from the body, to this one.
    pub body: Sequence<D, W, G>,
    /// From the map to what its heads see.
    pub to_heads: Sequence<D, W, G>,
    /// For each box of a pixel the logits of background and classes.
    pub scores: MapHead<D, W>,
    /// For each box of a pixel four offsets.
    pub offsets: MapHead<D, W>,
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
            Self::Boxes(boxes) => boxes.forward(run, activation)?,
            Self::Field(field) => field.forward(run, &activation).context("the field")?,
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
            (Self::Boxes(boxes), gradients) => boxes.backward(run, gradients),
            (Self::Field(field), [given, value, laplacian]) => {
                field.given_back::<G>(run, given).context("where the field is given")?;
                let equation = field.equation_back::<G>(run, [value, laplacian]);
                equation.context("where the equation holds")?;
                Ok(None)
            }
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
            Self::Field(field) => field.pieces(to),
            Self::Boxes(boxes) => {
                for Map { body, to_heads, scores, offsets, .. } in &mut boxes.maps {
                    body.pieces(to);
                    to_heads.pieces(to);
                    scores.pieces(to);
                    offsets.pieces(to);
                }
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

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> BoxHeads<D, W, G> {
    /// Returns scores and offsets of each map in turn.
    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        mut activation: Activation<D, W>,
    ) -> Result<Vec<Tensor<D, f32>>> {
        let mut results = Vec::new();
        for Map { name, body, to_heads, scores, offsets } in &mut self.maps {
            activation = body.forward(run, activation)?;
            let seen = to_heads.forward(run, activation.clone())?;
            let of_map = || format!("the heads of {name}");
            results.push(scores.forward(run, seen.clone()).with_context(of_map)?);
            results.push(offsets.forward(run, seen).with_context(of_map)?);
        }
        Ok(results)
    }

    /// Takes gradients of scores and offsets back, from the smallest map on: at each the gradients of its heads meet that of the next
    /// map.
    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradients: &[Tensor<D, f32>],
    ) -> Result<Option<Gradient<D, G>>> {
        let (pairs, rest) = gradients.as_chunks::<2>();
        ensure!(
            pairs.len() == self.maps.len() && rest.is_empty(),
            "{} gradients are not two for each of {} maps",
            gradients.len(),
            self.maps.len()
        );
        let mut next: Option<Gradient<D, G>> = None;
        let mut is_first = true;
        for (map, [of_scores, of_offsets]) in self.maps.iter_mut().zip(pairs).rev() {
            let Map { name, body, to_heads, scores, offsets } = map;
            let of_scores = match std::mem::replace(&mut is_first, false) {
                true => run.loss::<G>(of_scores)?,
                false => run.further_loss(&format!("{name}.scores.loss"), of_scores)?,
            };
            let of_scores = scores.backward(run, &of_scores).with_context(|| name.clone())?;
            let of_offsets = run.further_loss(&format!("{name}.offsets.loss"), of_offsets)?;
            let of_offsets = offsets.backward(run, &of_offsets).with_context(|| name.clone())?;
            let heads = run.join(&format!("{name}.heads"), [&of_scores, &of_offsets])?;
            let heads = to_heads.backward(run, heads)?;
            let heads = heads.context("the heads of a detector cannot begin the network")?;
            let meeting = match next {
                Some(next) => run.join(&format!("{name}.join"), [&heads, &next])?,
                None => heads,
            };
            next = body.backward(run, meeting)?;
        }
        Ok(next)
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
