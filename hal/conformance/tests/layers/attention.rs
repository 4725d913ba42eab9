//! Attention, with its mistakes.

use adaloss_core::format::Element;
use adaloss_hal::{
    Fitting, HostError, HostSpace, Narrow, Plain, Run,
    network::{Attend, AttendInput, Attention},
    portable::Portable,
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

impl<W: Element + Plain> Run<Attend<'_, '_, HostSpace, W>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Attend<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Attend { attention, input, to, epilogue } = operation.into_inner();
        let outputs = (0..to.len()).map(|index| self.output(*attention, input, index));
        let (input, epilogue) = (outputs.collect::<Vec<_>>(), epilogue.reborrow());
        Portable.run(Narrow { input: &input[..], to: &mut **to, epilogue })
    }
}

impl<W, G> Run<AttendInput<'_, '_, HostSpace, G, W>> for Mistaken
where
    W: Element + Plain,
    G: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, AttendInput<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let AttendInput { attention, gradient, input, to, epilogue } = operation.into_inner();
        let widened: Vec<f32> = gradient.iter().map(|x| x.widen()).collect();
        let right = results(to.len(), |to, epilogue| {
            let (attention, gradient, input) = (*attention, &widened[..], *input);
            Portable.run(AttendInput { attention, gradient, input, to, epilogue })
        })?;
        let Attention { heads, width, .. } = *attention;
        let features = heads * width;
        let mistaken = |index: usize| match (self.mistake, index / features % 3) {
            (Mistake::ForgetsRoot, 1) => right[index] * (width as f32).sqrt(),
            (Mistake::SwapsKeysAndValues, 1) => right[index + features],
            (Mistake::SwapsKeysAndValues, 2) => right[index - features],
            _ => right[index],
        };
        let gradients = (0..to.len()).map(mistaken);
        let (input, epilogue) = (gradients.collect::<Vec<_>>(), epilogue.reborrow());
        Portable.run(Narrow { input: &input[..], to: &mut **to, epilogue })
    }
}
