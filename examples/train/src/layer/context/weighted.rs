//! Sums of branches whose elements have factors of their own, as behind a function of several tensors.

use adaloss_core::{
    format::Element,
    policy::Cell,
    propagate::{common_scale, sum_at},
    scale::Scale,
};
use adaloss_hal::{HasNarrow, Narrow, Plain, scaler::OpenVisit};
use anyhow::{Result, bail, ensure};

use super::{
    Backward, Carried, Gradient, HasBackward, Histogram, Tensor, Vector, failed, observed,
};

impl<D: HasBackward> Backward<'_, D> {
    /// Sums the gradients of one to four branches, each times a factor per element, through the next cell, in the order given.
    ///
    /// Factors and sums are taken on the host, in f32 and at the least of the scales that the branches carry, so that the host
    /// waits for the device.
    ///
    /// # Errors
    ///
    /// There is no branch or there are more, a branch has other elements than its factors or the first one, or the device failed.
    pub fn weighted<G: Element + Plain>(
        &mut self,
        name: &str,
        branches: &[(&Gradient<D, G>, Vec<f32>)],
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        let Some((first, _)) = branches.first() else { bail!("a sum without a branch") };
        let shape = first.value().shape();
        let (id, elements) = (self.take_cell(), shape.elements());
        let sum = self.weighted_sum(branches)?;
        let sum = Vector::of(self.device, &sum)?;
        let mut to = Tensor::zeroed(self.device, shape)?;
        let mut results = self.results_buffer()?;
        let (device, engine) = (&mut *self.device, &mut self.scaler.engine);
        let carried: Vec<_> = branches.iter().map(|(gradient, _)| gradient.carried()).collect();
        let carried = match carried[..] {
            [only] => {
                let visit = engine.layer(device, id, elements, only).map_err(failed)?;
                narrowed(device, visit, &sum, &mut to, &mut results)
            }
            [a, b] => {
                let visit = engine.join(device, id, elements, [a, b]).map_err(failed)?;
                narrowed(device, visit, &sum, &mut to, &mut results)
            }
            [a, b, c] => {
                let visit = engine.join(device, id, elements, [a, b, c]).map_err(failed)?;
                narrowed(device, visit, &sum, &mut to, &mut results)
            }
            [a, b, c, d] => {
                let visit = engine.join(device, id, elements, [a, b, c, d]).map_err(failed)?;
                narrowed(device, visit, &sum, &mut to, &mut results)
            }
            _ => bail!("a sum of {} branches: at most four can meet", branches.len()),
        }?;
        self.leave(name, (results, None), to, carried)
    }

    /// Returns the sum at the least of the scales that the branches carry.
    fn weighted_sum<G: Element + Plain>(
        &mut self,
        branches: &[(&Gradient<D, G>, Vec<f32>)],
    ) -> Result<Vec<f32>> {
        let format = self.scaler.config().narrowing().format;
        let mut read = Vec::new();
        for (gradient, factors) in branches {
            let mut elements = vec![G::zeroed(); gradient.value().shape().elements()];
            ensure!(
                elements.len() == factors.len() && elements.len() == branches[0].1.len(),
                "a branch of {} elements has {} factors, and the sum {} elements",
                elements.len(),
                factors.len(),
                branches[0].1.len()
            );
            self.device.read(gradient.value().view(), &mut elements)?;
            let mut cell = [Cell::at(Scale::ONE)];
            self.device.read(gradient.carried().scale(), &mut cell)?;
            read.push((elements, cell[0].scale(), factors));
        }
        let common = common_scale(read.iter().map(|&(_, scale, _)| scale)).unwrap_or(Scale::ONE);
        let mut sum = vec![0.0; branches[0].1.len()];
        let mut branch = sum.clone();
        for (elements, scale, factors) in &read {
            sum_at(format, [(&elements[..], *scale)].into_iter(), common, &mut branch);
            let terms = branch.iter().zip(*factors).map(|(x, factor)| x * factor);
            sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        Ok(sum)
    }
}

/// Makes the passes of a visit over f32 results that are there already, and ends it.
fn narrowed<D, G, const N: usize>(
    device: &mut D,
    mut visit: OpenVisit<'_, D, N>,
    sum: &Vector<D, f32>,
    to: &mut Tensor<D, G>,
    results: &mut Option<Vector<D, Histogram>>,
) -> Result<Carried<D>>
where
    G: Element + Plain,
    D: HasBackward + HasNarrow<G>,
{
    while let Some(mut pass) = visit.next_pass(device)? {
        let (to, epilogue) = (to.view_mut(), observed(&mut pass, results));
        device.run(Narrow::<_, G> { input: sum.view(), to, epilogue })?;
    }
    visit.finish(device).map_err(failed)
}
