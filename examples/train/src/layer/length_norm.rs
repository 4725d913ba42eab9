//! Normalisation of each pixel's features to a length, as detectors have it (Liu et al. 2016, section 3.1): `y = gain x / ||x||`.

use adaloss_core::format::Element;
use adaloss_hal::{
    AddressSpace, Memory, Mut, Plain, Ref,
    network::{
        Axis, Blend, HasAccumulate, Moments, Normalisation, Normalise, NormaliseInput,
        NormaliseSums,
    },
};
use anyhow::{Context, Result};

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, Parameter, Piece, Role, Shape, Vector,
    kept,
};

/// Added to the mean of squares: a pixel of zeros stays one.
const EPSILON: f32 = 1e-12;

/// A normalisation to a length, with a gain for each channel.
///
/// The length of `n` features is `sqrt(n)` times the root of the mean of their squares, by which the device normalises.
pub struct LengthNorm<D: Memory, W: Plain> {
    gains: Parameter<D, W>,
    kept: Option<Kept<D, W>>,
}

/// What the backward pass needs: the input, its moments, and the gains and offsets that the device took.
struct Kept<D: Memory, W: Plain> {
    input: Activation<D, W>,
    moments: Vector<D, f32>,
    affine: Vector<D, f32>,
}

impl<D: Memory, W: Plain> LengthNorm<D, W> {
    /// Makes the layer.
    pub fn new(device: &mut D, name: &str, columns: usize, gain: f32) -> Result<Self, D::Error> {
        let gains = Parameter::plain(device, name.into(), &vec![gain; columns], Role::Affine)?;
        Ok(Self { gains, kept: None })
    }

    fn shape_of(&self, input: Shape) -> Normalisation {
        Normalisation {
            rows: input.rows(),
            columns: self.columns(),
            axis: Axis::Columns,
            centred: false,
            epsilon: EPSILON,
        }
    }

    fn columns(&self) -> usize {
        self.gains.master.len()
    }

    /// Writes some elements by one over the root of the number of channels where zeros are.
    fn by_root(
        &self,
        device: &mut D,
        input: Ref<'_, D, f32>,
        to: Mut<'_, D, f32>,
    ) -> Result<(), D::Error>
    where
        D: HasAccumulate,
    {
        let share = (self.columns() as f64).sqrt().recip() as f32;
        device.run(Blend { share, input: D::Space::reborrow(input), to, when: None })
    }
}

impl<D, W, G> Layer<D, W, G> for LengthNorm<D, W>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        &self.gains.name
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let normalisation = self.shape_of(input.shape());
        let mut moments = Vector::zeroed(run.device, normalisation.moments())?;
        let (from, to) = (input.view(), moments.view_mut());
        run.device.run(Moments::<_, W> { normalisation, input: from, to })?;
        let mut affine: Vector<D, f32> = Vector::zeroed(run.device, normalisation.affine())?;
        let gains = D::Space::part_mut(affine.view_mut(), 0..self.columns());
        let gains = gains.context("gains are the first half of gains and offsets")?;
        self.by_root(run.device, self.gains.master.view(), gains)?;
        let output = run.activation(input.shape(), |device, to, epilogue| {
            let (input, moments, affine) = (input.view(), moments.view(), affine.view());
            device.run(Normalise::<_, W> { normalisation, input, moments, affine, to, epilogue })
        })?;
        self.kept = run.training.then_some(Kept { input, moments, affine });
        Ok(output)
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let Kept { input, moments, affine } = kept(&mut self.kept)?;
        let normalisation = self.shape_of(input.shape());
        let mut sums = Vector::zeroed(run.device, normalisation.affine())?;
        run.device.run(NormaliseSums::<_, G, W> {
            normalisation,
            gradient: gradient.value().view(),
            input: input.view(),
            moments: moments.view(),
            to: sums.view_mut(),
        })?;
        let mut of_gains = Vector::zeroed(run.device, self.columns())?;
        let first = D::Space::part(sums.view(), 0..self.columns());
        let first = first.context("gains are the first half of gains and offsets")?;
        self.by_root(run.device, first, of_gains.view_mut())?;
        run.unscale(&mut self.gains, &of_gains, gradient.carried())?;
        run.layer(&self.gains.name, &gradient, input.shape(), |device, gradient, to, epilogue| {
            device.run(NormaliseInput::<_, G, W> {
                normalisation,
                gradient: D::Space::reborrow(gradient),
                input: input.view(),
                moments: moments.view(),
                affine: affine.view(),
                sums: sums.view(),
                to,
                epilogue,
            })
        })
        .map(Some)
    }

    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.push(Piece::Parameter(&mut self.gains));
    }
}
