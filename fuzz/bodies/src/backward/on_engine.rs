//! The network on a device whose scaler is in its own memory.

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise},
    policy::Cell,
    scale::Scale,
    scaler::{
        Visit,
        device::{Entry, Line},
    },
    statistics::Outcome,
    unscale::Verdict,
};
use adaloss_hal::{
    AddressSpace, Branch, Epilogue, HasMatmul, Matmul, Memory, Mut, Narrow, Plain, Product,
    Propagate,
    scaler::{Carried, Engine, Evidence, HasScaler, OpenVisit},
};

use super::network::{Arithmetic, Linear};
use crate::device::{download, succeeds, upload};

/// A step on a device, which is not waited for.
pub(super) struct OnEngine<'d, D: Memory> {
    device: &'d mut D,
    engine: &'d mut Engine<D>,
    weight_gradients: Vec<D::Buffer<f32>>,
}

/// A gradient with its scale, both on the device.
pub(super) struct Gradient<G: Plain, D: Memory> {
    values: D::Buffer<G>,
    carried: Carried<D>,
}

impl<'d, D: Memory + HasScaler> OnEngine<'d, D> {
    pub(super) const fn new(device: &'d mut D, engine: &'d mut Engine<D>) -> Self {
        Self { device, engine, weight_gradients: Vec::new() }
    }

    /// Ends the step, and returns the visits, the unscaled weight gradients and the verdict.
    pub(super) fn finish(self) -> (Vec<Visit>, Vec<Vec<f32>>, Verdict) {
        let Self { device, engine, weight_gradients } = self;
        succeeds(engine.conclude(device, None));
        let mut room = vec![Line::EMPTY; engine.written()];
        let (mut visits, mut verdict) = (Vec::new(), None);
        for entry in succeeds(engine.read(device, &mut room)) {
            match succeeds(entry) {
                Entry::Visit(visit) => visits.push(visit),
                Entry::Step(end) => verdict = Some(end.verdict),
                other => panic!("{other}"),
            }
        }
        let verdict = verdict.expect("the step was ended");
        let is_used = download(device, engine.applies())[0] != 0;
        assert_eq!(is_used, verdict == Verdict::Apply);
        if matches!(verdict, Verdict::Stop { .. }) {
            succeeds(engine.go_on(device));
        }
        let weight_gradients = weight_gradients.iter().map(|of| download(device, D::view(of)));
        (visits, weight_gradients.collect(), verdict)
    }
}

/// Makes every pass of a visit that might be needed.
fn visited<G: Plain, D: Memory + HasScaler, const N: usize>(
    device: &mut D,
    mut visit: OpenVisit<'_, D, N>,
    elements: usize,
    operation: impl for<'w> Fn(&mut D, Mut<'w, D, G>, Epilogue<'w, D::Space>) -> Result<(), D::Error>,
) -> Gradient<G, D> {
    let mut values = succeeds(device.zeroed(elements));
    while let Some(mut pass) = succeeds(visit.next_pass(device)) {
        succeeds(operation(device, D::view_mut(&mut values), pass.epilogue()));
    }
    let carried = succeeds(visit.finish(device));
    Gradient { values, carried }
}

impl<G, D> Arithmetic<G> for OnEngine<'_, D>
where
    G: Element + Plain,
    D: Memory + HasMatmul<G, G, G> + HasMatmul<G, G, f32> + HasScaler,
{
    type Loss = D::Buffer<f32>;
    type Gradient = Gradient<G, D>;

    fn loss(&mut self, gradient: &D::Buffer<f32>) -> Self::Gradient {
        let (device, engine) = (&mut *self.device, &mut *self.engine);
        let elements = D::Space::len(D::view(gradient));
        let visit = succeeds(engine.loss(device, elements));
        visited(device, visit, elements, |device, to, epilogue| {
            device.run(Narrow::<_, G> { input: D::view(gradient), to, epilogue })
        })
    }

    fn weight(&mut self, layer: &Linear<G>, gradient: &Self::Gradient) {
        let &Linear { id, batch, outputs, inputs, .. } = layer;
        let format = match self.device.capabilities().subnormals {
            true => Format::BINARY32,
            false => Format::BINARY32.flushing(),
        };
        let (device, engine) = (&mut *self.device, &mut *self.engine);
        let input = upload(device, &layer.input);
        let unscaled = upload(device, &[Cell::at(Scale::ONE)]);
        let mut outcome = upload(device, &[Outcome::EMPTY]);
        let mut to = succeeds(device.zeroed::<f32>(outputs * inputs));
        let epilogue = Epilogue {
            from: gradient.carried.scale(),
            to: D::view(&unscaled),
            narrowing: Narrowing::to(format),
            noise: Noise::default(),
            stores: true,
            when: None,
            outcome: D::view_mut(&mut outcome),
            histogram: None,
        };
        succeeds(device.run(Matmul::<_, G, G, f32> {
            product: Product::new(outputs, batch, inputs).transpose_a(),
            a: D::view(&gradient.values),
            b: D::view(&input),
            bias: None,
            to: D::view_mut(&mut to),
            epilogue,
        }));
        let (origin, elements) = (None, (outputs * inputs) as u64);
        let outcome = D::view_mut(&mut outcome);
        let evidence = Evidence::Gradient { id, origin, elements, outcome };
        succeeds(engine.judge(device, evidence, None));
        self.weight_gradients.push(to);
    }

    fn input(&mut self, layer: &Linear<G>, gradient: &Self::Gradient) -> Self::Gradient {
        let &Linear { id, batch, outputs, inputs, .. } = layer;
        let (device, engine) = (&mut *self.device, &mut *self.engine);
        let weight = upload(device, &layer.weight);
        let product = Product::new(batch, outputs, inputs);
        let visit = succeeds(engine.layer(device, id, batch * inputs, &gradient.carried));
        visited(device, visit, batch * inputs, |device, to, epilogue| {
            let (a, b) = (D::view(&gradient.values), D::view(&weight));
            device.run(Matmul::<_, G, G, G> { product, a, b, bias: None, to, epilogue })
        })
    }

    fn join(&mut self, id: usize, branches: [&Self::Gradient; 2]) -> Self::Gradient {
        let (device, engine) = (&mut *self.device, &mut *self.engine);
        let elements = D::Space::len(D::view(&branches[0].values));
        let scales = branches.map(|branch| &branch.carried);
        let visit = succeeds(engine.join(device, id, elements, scales));
        visited(device, visit, elements, |device, to, epilogue| {
            let branches = branches.map(|branch| Branch {
                gradient: D::view(&branch.values),
                cell: branch.carried.scale(),
            });
            device.run(Propagate::<_, G> { branches: &branches, to, epilogue })
        })
    }
}
