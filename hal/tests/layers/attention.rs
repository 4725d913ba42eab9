//! Attention, with its mistakes.

use adaloss_core::format::Element;
use adaloss_hal::{
    Epilogue, Narrow, Plain,
    network::{Attend, Attention},
    portable::{Portable, PortableError},
};

use crate::{
    device::{Mistaken, results},
    mistake::Mistake,
};

impl Mistaken {
    /// Returns one output, head by head and score by score.
    fn output<W: Element>(&self, shape: Attention, input: &[W], index: usize) -> f32 {
        let Attention { tokens, heads, width, .. } = shape;
        let (feature, head) = (index % width, index / width % heads);
        let (token, sequence) =
            (index / (width * heads) % tokens, index / (width * heads * tokens));
        let x = |part: usize, token: usize, feature: usize| {
            let vector = ((sequence * tokens + token) * 3 + part) * heads + head;
            input[vector * width + feature].widen()
        };
        let ahead = usize::from(self.makes(Mistake::SeesTheFuture));
        let seen = 0..(token + 1 + ahead).min(tokens);
        let root = match self.mistake {
            Mistake::DividesByWidth => width as f32,
            _ => (width as f32).sqrt(),
        };
        let score = |key| (0..width).map(|i| x(0, token, i) * x(1, key, i)).sum::<f32>() / root;
        let max = match self.mistake {
            Mistake::ForgetsMaximum => 0.0,
            _ => seen.clone().map(score).fold(f32::NEG_INFINITY, f32::max),
        };
        let total: f32 = seen.clone().map(|key| (score(key) - max).exp()).sum();
        seen.fold(0.0, |sum, key| sum + (score(key) - max).exp() / total * x(2, key, feature))
    }
}

impl<W: Element + Plain, G: Element + Plain> Attend<W, G> for Mistaken {
    fn attend(
        &mut self,
        shape: Attention,
        input: &[W],
        to: &mut [W],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        if shape.lengths() != [input.len(), to.len()] {
            return <Portable as Attend<W, G>>::attend(
                &mut Portable,
                shape,
                input,
                to,
                self.over(epilogue)?,
            );
        }
        let outputs = (0..to.len()).map(|index| self.output(shape, input, index));
        Portable.apply(&outputs.collect::<Vec<_>>(), to, self.over(epilogue)?)
    }

    fn attend_input(
        &mut self,
        shape: Attention,
        gradient: &[G],
        input: &[W],
        to: &mut [G],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        let gradient: Vec<f32> = gradient.iter().map(|x| x.widen()).collect();
        let right = results(to.len(), |to, end| {
            <Portable as Attend<W, f32>>::attend_input(
                &mut Portable,
                shape,
                &gradient,
                input,
                to,
                end,
            )
        })?;
        let features = shape.heads * shape.width;
        let mistaken = |index: usize| match (self.mistake, index / features % 3) {
            (Mistake::ForgetsRoot, 1) => right[index] * (shape.width as f32).sqrt(),
            (Mistake::SwapsKeysAndValues, 1) => right[index + features],
            (Mistake::SwapsKeysAndValues, 2) => right[index - features],
            _ => right[index],
        };
        let gradients = (0..to.len()).map(mistaken);
        Portable.apply(&gradients.collect::<Vec<_>>(), to, self.over(epilogue)?)
    }
}
