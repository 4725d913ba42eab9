//! How nodes hang together: a gradient is taken up with the scale that it was left with.

use crate::{
    report::{Case, Checked},
    tensor::Tensor,
};

/// The gradients that nodes left, with their scales.
#[derive(Default)]
pub(super) struct Flow {
    left: Vec<Left>,
}

struct Left {
    gradient: Tensor,
    scale: f64,
    activation: Option<Vec<f32>>,
}

impl Flow {
    /// Notes that a node leaves a gradient.
    ///
    /// `activation` is what it is the gradient of, where that comes out of a ReLU.
    pub(super) fn leave(&mut self, gradient: Tensor, scale: f64, activation: Option<Vec<f32>>) {
        self.left.push(Left { gradient, scale, activation });
    }

    /// Returns what a gradient that was left is the gradient of: branches of a join share it.
    pub(super) fn activation(&self, branches: &[Tensor]) -> Option<Vec<f32>> {
        let is_branch = |left: &&Left| branches.iter().any(|b| b.bits == left.gradient.bits);
        self.left.iter().filter(is_branch).find_map(|left| left.activation.clone())
    }

    /// Checks that a node takes up a gradient that was left with the same scale, as it is or
    /// behind a ReLU or an average over an image.
    pub(super) fn take(&mut self, case: &mut Case, gradient: &Tensor, scale: f64) -> Checked {
        let found = self.left.iter().any(|left| left.scale == scale && left.becomes(gradient));
        case.holds("the gradient was left by a node with the same scale", found)?;
        self.leave(gradient.clone(), scale, None);
        Ok(())
    }

    /// Returns the last gradient that was left, and its scale.
    pub(super) fn last(&self) -> Option<(&Tensor, f64)> {
        self.left.last().map(|left| (&left.gradient, left.scale))
    }
}

impl Left {
    fn becomes(&self, taken: &Tensor) -> bool {
        self.gradient.bits == taken.bits || self.behind_relu(taken) || self.behind_average(taken)
    }

    /// A ReLU multiplies by whether its result is above zero, which leaves the sign of a zero.
    fn behind_relu(&self, taken: &Tensor) -> bool {
        let Some(activation) = &self.activation else { return false };
        let mask = |(&g, &x): (&f32, &f32)| taken.dtype.round(if x > 0.0 { g } else { g * 0.0 });
        let masked = self.gradient.values().iter().zip(activation).map(mask).collect::<Vec<u32>>();
        activation.len() == taken.len() && masked == taken.bits
    }

    /// An average over each image, then a ReLU, of which only the result's zeros are known.
    fn behind_average(&self, taken: &Tensor) -> bool {
        let images = self.gradient.len();
        if images == 0 || taken.len() <= images || !taken.len().is_multiple_of(images) {
            return false;
        }
        let pixels = taken.len() / images;
        let (values, averages) = (taken.values(), self.gradient.values());
        averages.iter().zip(values.chunks(pixels)).all(|(g, image)| {
            let average = taken.dtype.widen(taken.dtype.round(g / pixels as f32));
            image.iter().all(|&x| x == average || x == 0.0)
        })
    }
}
