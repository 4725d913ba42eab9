//! The network on a device, with scales.

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise},
    policy::Cell,
    propagate::Scaled,
    scale::Scale,
    scaler::{LossScaler, Step, Visit},
    unscale::Unscaled,
};
use adaloss_hal::{
    AddressSpace, Branch, DeviceEpilogue, HasMatmul, Matmul, Memory, Narrow, Plain, Product,
    Propagate,
};

use super::{
    CELLS,
    network::{Arithmetic, Linear},
};
use crate::device::{Ending, succeeds, upload};

/// A step on a device.
pub(super) struct OnDevice<'d, D: Memory> {
    device: &'d mut D,
    step: Step<'d>,
    epilogue: DeviceEpilogue<D>,
    /// Every visit, in backward order.
    visits: Vec<Visit>,
    weight_gradients: Vec<Vec<f32>>,
    /// Whether a gradient of a weight was not finite.
    is_bad: bool,
}

impl<'d, D: Memory> OnDevice<'d, D> {
    pub(super) fn new(device: &'d mut D, scaler: &'d mut LossScaler<CELLS>) -> Self {
        let epilogue = succeeds(DeviceEpilogue::new(device));
        let step = scaler.begin();
        Self {
            device,
            step,
            epilogue,
            visits: Vec::new(),
            weight_gradients: Vec::new(),
            is_bad: false,
        }
    }

    /// Ends the step, and returns the visits and the unscaled weight gradients.
    pub(super) fn finish(self) -> (Vec<Visit>, Vec<Vec<f32>>) {
        let was_bad = self.step.first_bad().is_some();
        let verdict = self.step.finish();
        assert_eq!(verdict == adaloss_core::unscale::Verdict::Apply, !was_bad);
        let all = self.weight_gradients.iter().flatten();
        let is_finite = all.clone().all(|x| x.is_finite());
        assert!(was_bad || is_finite, "a step was accepted whose gradients are not finite");
        assert!(was_bad || !self.is_bad);
        (self.visits, self.weight_gradients)
    }

    fn visited<T>(&mut self, left: T) -> T {
        self.visits.extend(self.step.last());
        left
    }
}

impl<G, D> Arithmetic<G> for OnDevice<'_, D>
where
    G: Element + Plain,
    D: Memory + HasMatmul<G, G, G> + HasMatmul<G, G, f32>,
{
    type Loss = D::Buffer<f32>;
    type Gradient = Scaled<D::Buffer<G>>;

    fn loss(&mut self, gradient: &D::Buffer<f32>) -> Self::Gradient {
        let Self { device, step, epilogue, .. } = self;
        let length = D::Space::len(D::view(gradient));
        let mut to = succeeds(device.zeroed::<G>(length));
        let mut visit = step.loss();
        while let Some(mut pass) = visit.next_pass() {
            succeeds(epilogue.run(device, &mut pass, |device, mut epilogue| {
                let (to, epilogue) = (D::view_mut(&mut to), epilogue.reborrow());
                device.run(Narrow::<_, G> { input: D::view(gradient), to, epilogue })
            }));
        }
        let left = succeeds(visit.finish(to));
        self.visited(left)
    }

    fn weight(&mut self, layer: &Linear<G>, gradient: &Self::Gradient) {
        let &Linear { id, batch, outputs, inputs, .. } = layer;
        let format = match self.device.capabilities().subnormals {
            true => Format::BINARY32,
            false => Format::BINARY32.flushing(),
        };
        let (from, to) = (gradient.scale(), Scale::ONE);
        let narrowing = Narrowing::to(format);
        let ending =
            Ending { from, to, narrowing, noise: Noise::default(), stores: true, measures: false };
        let input = upload(self.device, &layer.input);
        let product = Product::new(outputs, batch, inputs).transpose_a();
        let left = gradient.unscale(|gradient, _| {
            ending.run::<f32, D>(self.device, outputs * inputs, |device, to, epilogue| {
                let (a, b) = (D::view(gradient), D::view(&input));
                device.run(Matmul::<_, G, G, f32> { product, a, b, bias: None, to, epilogue })
            })
        });
        let mut met = Unscaled::default();
        left.elements.iter().for_each(|&x| met.record(x, x));
        self.is_bad |= met.nonfinite > 0;
        self.step.unscaled(id, &met);
        self.weight_gradients.push(left.elements);
    }

    fn input(&mut self, layer: &Linear<G>, gradient: &Self::Gradient) -> Self::Gradient {
        let &Linear { id, batch, outputs, inputs, .. } = layer;
        let weight = upload(self.device, &layer.weight);
        let product = Product::new(batch, outputs, inputs);
        let Self { device, step, epilogue, .. } = self;
        let mut to = succeeds(device.zeroed::<G>(batch * inputs));
        let (from, _) = gradient.as_ref().into_parts();
        let mut visit = succeeds(step.layer(id, gradient));
        while let Some(mut pass) = visit.next_pass() {
            succeeds(epilogue.run(device, &mut pass, |device, mut epilogue| {
                let (a, b) = (D::view(from), D::view(&weight));
                let (to, epilogue) = (D::view_mut(&mut to), epilogue.reborrow());
                device.run(Matmul::<_, G, G, G> { product, a, b, bias: None, to, epilogue })
            }));
        }
        let left = succeeds(visit.finish(to));
        self.visited(left)
    }

    fn join(&mut self, id: usize, branches: [&Self::Gradient; 2]) -> Self::Gradient {
        let cells = branches.map(|branch| upload(self.device, &[Cell::at(branch.scale())]));
        let (values, tags) = (branches.map(Scaled::scaled), branches.map(Scaled::tag));
        let Self { device, step, epilogue, .. } = self;
        let mut to = succeeds(device.zeroed::<G>(D::Space::len(D::view(values[0]))));
        let views =
            [0, 1].map(|nth| Branch { gradient: D::view(values[nth]), cell: D::view(&cells[nth]) });
        let mut visit = succeeds(step.join(id, &tags));
        while let Some(mut pass) = visit.next_pass() {
            succeeds(epilogue.run(device, &mut pass, |device, mut epilogue| {
                let (to, epilogue) = (D::view_mut(&mut to), epilogue.reborrow());
                device.run(Propagate::<_, G> { branches: &views, to, epilogue })
            }));
        }
        let left = succeeds(visit.finish(to));
        self.visited(left)
    }
}
