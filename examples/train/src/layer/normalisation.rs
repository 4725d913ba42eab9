//! Batch and layer normalisation.

use adaloss_core::{format::Element, policy::Cell};
use adaloss_hal::{
    AddressSpace, Memory, Plain,
    network::{
        Accumulate, Axis, HasAccumulate, Moments, Normalisation, Normalise, NormaliseInput,
        NormaliseSums,
    },
    scaler::Carried,
};
use anyhow::{Context, Result};

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, MicroBatch, Parameter, Piece, Role,
    Running, Shape, Total, Vector, kept,
};
use crate::ranks::Team;

/// How far running moments move per step, as in PyTorch.
const SHARE: f32 = 0.1;

/// Added to variances, as in PyTorch.
const EPSILON: f32 = 1e-5;

/// A normalising layer.
pub struct Normalising<D: Memory, W: Plain> {
    /// Gains, then offsets.
    affine: Parameter<D, W>,
    /// Of batch normalisation.
    running: Option<Running<D>>,
    columns: usize,
    epsilon: f32,
    kept: Option<(Activation<D, W>, Vector<D, f32>)>,
}

impl<D: Memory, W: Plain> Normalising<D, W> {
    /// Makes a batch normalisation with gain `gain` and running moments 0 and 1.
    pub fn batch(device: &mut D, name: &str, columns: usize, gain: f32) -> Result<Self, D::Error> {
        let moments: Vec<f32> = [0.0, 1.0].into_iter().flat_map(|x| vec![x; columns]).collect();
        let running = Running {
            name: format!("{name}.running"),
            values: Vector::of(device, &moments)?,
            pending: Total::zeroed(device, moments.len())?,
            share: SHARE,
            cell: 0,
        };
        Ok(Self { running: Some(running), ..Self::layer(device, name, columns, gain)? })
    }

    /// Makes a layer normalisation with gain `gain`.
    pub fn layer(device: &mut D, name: &str, columns: usize, gain: f32) -> Result<Self, D::Error> {
        let affine: Vec<f32> = [gain, 0.0].into_iter().flat_map(|x| vec![x; columns]).collect();
        let affine = Parameter::plain(device, name.into(), &affine, Role::Affine)?;
        Ok(Self { affine, running: None, columns, epsilon: EPSILON, kept: None })
    }

    fn shape_of(&self, input: Shape) -> Normalisation {
        Normalisation {
            rows: input.rows(),
            columns: self.columns,
            axis: if self.running.is_some() { Axis::Rows } else { Axis::Columns },
            centred: true,
            epsilon: self.epsilon,
        }
    }

    /// Adds the moments of a micro-batch to those that the running ones are to move towards.
    fn collect(
        &mut self,
        device: &mut D,
        part: MicroBatch,
        moments: &Vector<D, f32>,
    ) -> Result<(), D::Error>
    where
        D: HasAccumulate,
    {
        let Some(running) = &mut self.running else { return Ok(()) };
        if part.nth == 0 {
            running.pending = Total::zeroed(device, moments.len())?;
        }
        running
            .pending
            .put(device, part, |device, to| device.run(Accumulate { input: moments.view(), to }))?;
        if part.is_last { running.pending.complete(device) } else { Ok(()) }
    }
}

/// Returns the moments of what all ranks have, of as many rows each.
///
/// The variance of all is the mean of those of the ranks and of the squares of how far their means are from the mean of all.
fn common_moments<D>(device: &mut D, team: &Team, own: &Vector<D, f32>) -> Result<Vector<D, f32>>
where
    D: Memory<Error: Send + Sync + 'static>,
{
    let own: Vec<f64> = own.read(device)?.into_iter().map(f64::from).collect();
    let all = team.gather_numbers(&own).context("the moments of the ranks")?;
    let (count, columns) = (all.len() as f64, own.len() / 2);
    let mean_of =
        |value: &dyn Fn(&[f64]) -> f64| all.iter().map(|own| value(own)).sum::<f64>() / count;
    let means: Vec<f64> = (0..columns).map(|column| mean_of(&|own| own[column])).collect();
    let variances = means
        .iter()
        .enumerate()
        .map(|(column, mean)| mean_of(&|own| own[columns + column] + (own[column] - mean).powi(2)));
    let moments: Vec<f32> = means.iter().copied().chain(variances).map(|x| x as f32).collect();
    Ok(Vector::of(device, &moments)?)
}

/// Returns the mean over the ranks of sums that go with gradients, at the scale of this rank's; their own may be others, where a
/// tensor was replayed.
fn common_sums<D>(
    device: &mut D,
    team: &Team,
    own: &Vector<D, f32>,
    carried: &Carried<D>,
) -> Result<Vector<D, f32>>
where
    D: Memory<Error: Send + Sync + 'static>,
{
    let mut cell = [Cell::new()];
    device.read(carried.scale(), &mut cell)?;
    let factor = f64::from(cell[0].scale().factor());
    let own: Vec<f64> = own.read(device)?.into_iter().map(|x| f64::from(x) / factor).collect();
    let all = team.gather_numbers(&own).context("the sums of the ranks")?;
    let count = all.len() as f64;
    let mean = |nth: usize| all.iter().map(|own| own[nth]).sum::<f64>() / count;
    let means: Vec<f32> = (0..own.len()).map(|nth| (mean(nth) * factor) as f32).collect();
    Ok(Vector::of(device, &means)?)
}

impl<D, W, G> Layer<D, W, G> for Normalising<D, W>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        &self.affine.name
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let normalisation = self.shape_of(input.shape());
        let own = match &self.running {
            Some(_) if !run.training => None,
            _ => {
                let mut moments = Vector::zeroed(run.device, normalisation.moments())?;
                let (input, to) = (input.view(), moments.view_mut());
                run.device.run(Moments::<_, W> { normalisation, input, to })?;
                Some(moments)
            }
        };
        let own = match (own, run.peers) {
            (Some(own), Some(team)) if run.training && self.running.is_some() => {
                Some(common_moments(run.device, team, &own)?)
            }
            (own, _) => own,
        };
        if let (Some(moments), true) = (&own, run.training) {
            self.collect(run.device, run.part, moments)?;
        }
        let moments = match (&own, &self.running) {
            (Some(own), _) => own.view(),
            (None, Some(running)) => running.values.view(),
            (None, None) => {
                anyhow::bail!("a normalisation without running moments needs those of its batch")
            }
        };
        let affine = self.affine.master.view();
        let output = run.activation(input.shape(), |device, to, epilogue| {
            device.run(Normalise::<_, W> {
                normalisation,
                input: input.view(),
                moments,
                affine,
                to,
                epilogue,
            })
        })?;
        self.kept = own.filter(|_| run.training).map(|moments| (input, moments));
        Ok(output)
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let (input, moments) = kept(&mut self.kept)?;
        let normalisation = self.shape_of(input.shape());
        let mut sums = Vector::zeroed(run.device, normalisation.affine())?;
        let value = gradient.value();
        run.device.run(NormaliseSums::<_, G, W> {
            normalisation,
            gradient: value.view(),
            input: input.view(),
            moments: moments.view(),
            to: sums.view_mut(),
        })?;
        run.unscale(&mut self.affine, &sums, gradient.carried())?;
        if let (Some(team), true) = (run.peers, self.running.is_some()) {
            sums = common_sums(run.device, team, &sums, gradient.carried())?;
        }
        if let Some(running) = &mut self.running {
            running.cell = self.affine.cell;
        }
        let (name, affine) = (&self.affine.name, &self.affine.master);
        run.layer(name, &gradient, input.shape(), |device, gradient, to, epilogue| {
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
        to.push(Piece::Parameter(&mut self.affine));
        to.extend(self.running.as_mut().map(Piece::Running));
    }
}
