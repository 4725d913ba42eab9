//! What works per feature, with its mistakes.

use adaloss_core::format::Element;
use adaloss_hal::{
    Fitting, HostError, HostSpace, Narrow, Plain, Run,
    network::{
        Accumulate, Axis, Blend, Dropout, Embed, EmbedTable, Moments, Normalisation, Normalise,
        NormaliseInput, NormaliseSums, Relu, ReluInput,
    },
    portable::Portable,
};

use crate::{
    device::{Mistaken, in_binary16},
    mistake::Mistake,
};

impl Mistaken {
    /// Returns the shape as this device sees it.
    fn shape(&self, shape: Normalisation) -> Normalisation {
        let epsilon = if self.makes(Mistake::ForgetsEpsilon) { 0.0 } else { shape.epsilon };
        let centred = shape.centred || self.makes(Mistake::CentresGradients);
        Normalisation { epsilon, centred, ..shape }
    }

    /// Replaces correct moments by those of the mistake.
    fn replace<W: Element>(&self, shape: Normalisation, input: &[W], moments: &mut [f32]) {
        let count = match shape.axis {
            Axis::Rows => shape.rows,
            Axis::Columns => shape.columns,
        };
        let (means, variances) = moments.split_at_mut(shape.groups());
        for (group, (mean, variance)) in means.iter_mut().zip(variances).enumerate() {
            let of_group = input.iter().enumerate().filter(|(index, _)| match shape.axis {
                Axis::Rows => index % shape.columns == group,
                Axis::Columns => index / shape.columns == group,
            });
            match self.mistake {
                Mistake::UnbiasedVariance if count > 1 => {
                    *variance *= count as f32 / (count - 1) as f32;
                }
                Mistake::OnePassVariance if count > 0 => {
                    let squares: f32 = of_group.map(|(_, x)| x.widen() * x.widen()).sum();
                    *variance = squares / count as f32 - *mean * *mean;
                }
                Mistake::NarrowAccumulator => *mean = in_binary16(*mean),
                _ => {}
            }
        }
    }
}

impl<W: Element + Plain> Run<Moments<'_, '_, HostSpace, W>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Moments<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Moments { normalisation, input, to } = operation.into_inner();
        let (mut normalisation, input) = (*normalisation, *input);
        normalisation.centred |= self.makes(Mistake::CentresMoments);
        Portable.run(Moments { normalisation, input, to: &mut **to })?;
        self.replace(normalisation, input, to);
        Ok(())
    }
}

impl<W: Element + Plain> Run<Normalise<'_, '_, HostSpace, W>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Normalise<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Normalise { normalisation, input, moments, affine, to, epilogue } =
            operation.into_inner();
        let (mut moments, mut affine) = (moments.to_vec(), affine.to_vec());
        if self.makes(Mistake::ForgetsOffset) {
            affine.iter_mut().skip(normalisation.columns).for_each(|offset| *offset = 0.0);
        }
        if self.makes(Mistake::WrongMoment) {
            let means = &mut moments[..normalisation.groups()];
            means.rotate_left(usize::from(means.len() > 1));
        }
        Portable.run(Normalise {
            normalisation: self.shape(*normalisation),
            input: *input,
            moments: &moments[..],
            affine: &affine[..],
            to: &mut **to,
            epilogue: epilogue.reborrow(),
        })
    }
}

impl<G, W> Run<NormaliseSums<'_, '_, HostSpace, G, W>> for Mistaken
where
    G: Element + Plain,
    W: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseSums<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseSums { normalisation, gradient, input, moments, to } = operation.into_inner();
        let mut moments = moments.to_vec();
        if self.makes(Mistake::SumsWithoutMean) {
            moments[..normalisation.groups()].fill(0.0);
        }
        Portable.run(NormaliseSums {
            normalisation: self.shape(*normalisation),
            gradient: *gradient,
            input: *input,
            moments: &moments[..],
            to: &mut **to,
        })
    }
}

impl<G, W> Run<NormaliseInput<'_, '_, HostSpace, G, W>> for Mistaken
where
    G: Element + Plain,
    W: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, NormaliseInput<'_, '_, HostSpace, G, W>>,
    ) -> Result<(), HostError> {
        let NormaliseInput { normalisation, gradient, input, moments, affine, sums, to, epilogue } =
            operation.into_inner();
        let mut sums = sums.to_vec();
        let (of_gains, of_offsets) = sums.split_at_mut(normalisation.columns);
        match self.mistake {
            Mistake::KeepsMeanGradient => of_offsets.fill(0.0),
            Mistake::KeepsVarianceGradient => of_gains.fill(0.0),
            _ => {}
        }
        Portable.run(NormaliseInput {
            normalisation: self.shape(*normalisation),
            gradient: *gradient,
            input: *input,
            moments: *moments,
            affine: *affine,
            sums: &sums[..],
            to: &mut **to,
            epilogue: epilogue.reborrow(),
        })
    }
}

impl<W: Element + Plain> Run<Relu<'_, HostSpace, W>> for Mistaken {
    fn execute(&mut self, operation: Fitting<'_, Relu<'_, HostSpace, W>>) -> Result<(), HostError> {
        let Relu { values } = operation.into_inner();
        let before = values.to_vec();
        Portable.run(Relu { values: &mut **values })?;
        for (x, before) in values.iter_mut().zip(before) {
            match self.mistake {
                Mistake::KeepsMinusZero if before.widen() == 0.0 => *x = before,
                Mistake::RectifiesNan if before.widen().is_nan() => *x = W::from_bits(0),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<W: Element + Plain, G: Element + Plain> Run<ReluInput<'_, '_, HostSpace, W, G>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, ReluInput<'_, '_, HostSpace, W, G>>,
    ) -> Result<(), HostError> {
        let ReluInput { output, gradient } = operation.into_inner();
        Portable.run(ReluInput { output: *output, gradient: &mut **gradient })?;
        if self.makes(Mistake::GatesNan) {
            let gated = output.iter().zip(gradient.iter_mut()).filter(|(x, _)| x.widen().is_nan());
            gated.for_each(|(_, gradient)| *gradient = G::from_bits(0));
        }
        Ok(())
    }
}

impl<E: Element + Plain> Run<Dropout<'_, '_, HostSpace, E>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Dropout<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let Dropout { mask, input, to, epilogue } = operation.into_inner();
        let gain = if self.makes(Mistake::ForgetsGain) { 1.0 } else { mask.gain() };
        let block = if self.makes(Mistake::RepeatsNoise) { 256 } else { usize::MAX };
        let results = input.iter().enumerate().map(|(index, x)| {
            if mask.drops((index % block) as u64) { 0.0 } else { gain * x.widen() }
        });
        let (input, epilogue) = (results.collect::<Vec<_>>(), epilogue.reborrow());
        Portable.run(Narrow { input: &input[..], to: &mut **to, epilogue })
    }
}

impl Run<Accumulate<'_, '_, HostSpace>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Accumulate<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Accumulate { input, to } = operation.into_inner();
        let seen = if self.makes(Mistake::FirstRowOnly) { input.len() } else { usize::MAX };
        let seen = seen.min(to.len());
        Portable.run(Accumulate { input: *input, to: &mut to[..seen] })
    }
}

impl Run<Blend<'_, '_, HostSpace>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Blend<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Blend { share, input, to, when } = operation.into_inner();
        let share = if self.makes(Mistake::SwapsBlend) { 1.0 - *share } else { *share };
        Portable.run(Blend { share, input: *input, to: &mut **to, when: *when })
    }
}

impl<W: Element + Plain> Run<Embed<'_, '_, HostSpace, W>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, Embed<'_, '_, HostSpace, W>>,
    ) -> Result<(), HostError> {
        let Embed { width, tokens, table, to } = operation.into_inner();
        let mut tokens = tokens.to_vec();
        if self.makes(Mistake::ClampsTokens) {
            let last = (table.len() / *width).saturating_sub(1) as u32;
            tokens.iter_mut().for_each(|token| *token = last.min(*token));
        }
        Portable.run(Embed { width: *width, tokens: &tokens[..], table: *table, to: &mut **to })
    }
}

impl<G: Element + Plain> Run<EmbedTable<'_, '_, HostSpace, G>> for Mistaken {
    fn execute(
        &mut self,
        operation: Fitting<'_, EmbedTable<'_, '_, HostSpace, G>>,
    ) -> Result<(), HostError> {
        let EmbedTable { width, tokens, gradient, to } = operation.into_inner();
        let mut kept = tokens.to_vec();
        if self.makes(Mistake::OverwritesRows) {
            for (nth, token) in kept.iter_mut().enumerate() {
                if tokens[nth + 1..].contains(token) {
                    *token = u32::MAX;
                }
            }
        }
        Portable.run(EmbedTable {
            width: *width,
            tokens: &kept[..],
            gradient: *gradient,
            to: &mut **to,
        })
    }
}
