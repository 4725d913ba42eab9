//! The forward and the backward pass of a micro-batch: what layers are handed.

use std::{borrow::Cow, rc::Rc};

use adaloss_core::{
    apply::Pass,
    format::{Element, Format, Narrowing, Noise},
    policy::{Cell, Operands},
    propagate::Scaled,
    scale::Scale,
    scaler::{LossScaler, Step, Visit},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};
use adaloss_hal::{
    AddressSpace, Branch, Device, DeviceEpilogue, Epilogue, HasNarrow, Memory, Mut, Narrow, Plain,
    Propagate, Ref, Summarise, Unscale, network::HasAccumulate,
};
use anyhow::Result;

use super::{
    Activation, Gradient, Parameter, Shape, Tensor, Vector, carried, complete, kept,
    sum::{Sum, summed},
};
use crate::blocks::{Blocks, Rounded};

/// Cells of the largest network here; ResNet-110 has 272.
pub const CELLS: usize = 384;

/// The scaler of a run.
pub type Scaler = LossScaler<CELLS>;

/// Receives the visit of each gradient tensor and the histogram of its f32 results.
pub trait Observer {
    /// Tells whether the visits of this step are counted and shown; counting costs time.
    fn watches(&self) -> bool {
        true
    }

    /// Tells whether operands shall be described as well.
    fn wants_operands(&self) -> bool {
        false
    }

    /// Is called after each visit of a cell, in every step.
    fn passed(&mut self, _visit: &Visit) {}

    /// Is called after each visit of a cell of a step that is [watched](Self::watches), with the
    /// histogram of the f32 results.
    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        operands: Option<&Operands>,
    );

    /// Is called instead where elements share scales in blocks: what became of them is `rounded`, and the visit, in
    /// f32, does not tell.  The histogram is for the element format.
    fn visited_in_blocks(
        &mut self,
        _name: &str,
        _visit: &Visit,
        _results: &Histogram,
        _rounded: &Rounded,
    ) {
    }
}

/// Which of a network's losses a backward pass propagates, where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossPass {
    /// All of them together, or one of them through layers that only it depends on.
    #[default]
    Only,
    /// The first of two, through shared layers: these keep their activations for the second.
    First,
    /// The second of two, through the same layers: their weight gradients add to those of the first.
    Second,
}

/// Receives nothing: visits are neither counted nor shown.
#[derive(Clone, Copy, Debug)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn watches(&self) -> bool {
        false
    }

    fn visited(&mut self, _: &str, _: &Visit, _: &Histogram, _: Option<&Operands>) {}
}

/// The scales and counters, in device memory, that epilogues refer to where no cell chooses the scale: activations,
/// weight gradients and elements that are moved as they are.
pub struct EpilogueBuffers<D: Memory> {
    /// The scale 2^0.
    one: Vector<D, Cell>,
    /// The scale of the gradient at hand.
    carried: Vector<D, Cell>,
    outcome: Vector<D, Outcome>,
    counts: Vector<D, Unscaled>,
    observed: Vector<D, Histogram>,
    epilogue: DeviceEpilogue<D>,
}

impl<D: Memory> EpilogueBuffers<D> {
    /// Allocates the scales, 2^0 each, and the counters.
    pub fn new(device: &mut D) -> Result<Self, D::Error> {
        let one = [Cell::at(Scale::ONE)];
        Ok(Self {
            one: Vector::of(device, &one)?,
            carried: Vector::of(device, &one)?,
            outcome: Vector::zeroed(device, 1)?,
            counts: Vector::zeroed(device, 1)?,
            observed: Vector::zeroed(device, 1)?,
            epilogue: DeviceEpilogue::new(device)?,
        })
    }

    /// Returns the epilogue of an operation of the forward pass, where nothing is scaled.
    pub fn forward(&mut self, narrowing: Narrowing) -> Epilogue<'_, D::Space> {
        Epilogue {
            from: self.one.view(),
            to: self.one.view(),
            narrowing,
            noise: Noise::default(),
            stores: true,
            when: None,
            outcome: self.outcome.view_mut(),
            histogram: None,
        }
    }

    /// Runs an operation whose epilogue counts in these buffers, and returns its counts.
    ///
    /// # Errors
    ///
    /// The device failed, or left the operation out: it counted other than `elements` results.
    pub fn counting(
        &mut self,
        device: &mut D,
        elements: usize,
        operation: impl FnOnce(&mut D, &mut Self) -> Result<(), D::Error>,
    ) -> Result<Outcome>
    where
        D: Memory<Error: Send + Sync + 'static>,
    {
        device.write(&[Outcome::EMPTY], self.outcome.view_mut())?;
        operation(device, self)?;
        let outcome = self.outcome.read_one(device)?;
        complete("results", outcome.elements, elements)?;
        Ok(outcome)
    }

    /// Runs an operation for a pass; returns the histogram of its f32 results for the observer, where the pass stores
    /// and a format to count for is given.
    fn pass(
        &mut self,
        device: &mut D,
        pass: &mut Pass<'_>,
        histogram_format: Option<HistogramFormat>,
        operation: impl FnOnce(&mut D, Epilogue<'_, D::Space>) -> Result<(), D::Error>,
    ) -> Result<Option<Histogram>, D::Error> {
        let Self { epilogue, observed, .. } = self;
        let histogram_format = histogram_format.filter(|_| pass.stores());
        let Some(HistogramFormat(narrowing)) = histogram_format else {
            return epilogue.run(device, pass, operation).map(|()| None);
        };
        let empty = Histogram::new(narrowing.unwrap_or(pass.narrowing()));
        device.write(&[empty], observed.view_mut())?;
        epilogue.run(device, pass, |device, mut epilogue| {
            let mut epilogue = epilogue.reborrow();
            epilogue.histogram = Some(observed.view_mut());
            operation(device, epilogue)
        })?;
        observed.read_one(device).map(Some)
    }

    /// Runs an operation for a pass that measures, and lets it store its f32 results as they are.
    fn keep(
        &mut self,
        device: &mut D,
        pass: &mut Pass<'_>,
        operation: impl FnOnce(&mut D, Epilogue<'_, D::Space>) -> Result<(), D::Error>,
    ) -> Result<(), D::Error> {
        self.epilogue.run(device, pass, |device, mut epilogue| {
            let epilogue = epilogue.reborrow();
            // The histogram counts for its own format, whatever is stored.
            let narrowing = Narrowing::to(Format::BINARY32);
            operation(device, Epilogue { narrowing, to: epilogue.from, stores: true, ..epilogue })
        })
    }

    /// Returns the epilogue that keeps f32 results and takes the carried scale out.
    fn unscaling(&mut self) -> Epilogue<'_, D::Space> {
        Epilogue {
            from: self.carried.view(),
            to: self.one.view(),
            narrowing: Narrowing::to(Format::BINARY32),
            noise: Noise::default(),
            stores: true,
            when: None,
            outcome: self.outcome.view_mut(),
            histogram: None,
        }
    }
}

/// The forward pass of one micro-batch.
pub struct Forward<'a, D: Memory> {
    /// The device.
    pub device: &'a mut D,
    /// Scales and counters of the epilogues.
    pub buffers: &'a mut EpilogueBuffers<D>,
    /// How activations are narrowed.
    pub narrowing: Narrowing,
    /// Whether layers behave as in training, and keep what their backward pass needs.
    pub training: bool,
    /// The random words of this pass; each layer that drops makes words of its own from them.
    pub noise: Noise,
    /// The number of this micro-batch, from 0.
    pub nth: usize,
}

impl<D: Memory<Error: Send + Sync + 'static>> Forward<'_, D> {
    /// Runs an operation that ends in an activation.
    pub fn activation<W: Element + Plain>(
        &mut self,
        shape: Shape,
        operation: impl for<'w> FnOnce(
            &mut D,
            Mut<'w, D, W>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Result<Activation<D, W>> {
        let mut to = Tensor::zeroed(self.device, shape)?;
        operation(self.device, to.view_mut(), self.buffers.forward(self.narrowing))?;
        Ok(Rc::new(to))
    }
}

/// The backward pass of one micro-batch: numbers the cells in the order of visits, and shows each visit to the observer.
pub struct Backward<'a, 's, D: Memory> {
    /// The device.
    pub device: &'a mut D,
    buffers: &'a mut EpilogueBuffers<D>,
    step: &'a mut Step<'s>,
    observer: &'a mut dyn Observer,
    /// The number of the next cell.
    next: usize,
    /// The number of this micro-batch, from 0: gradients are averaged over them.
    nth: usize,
    loss_pass: LossPass,
    /// How what was narrowed, in f32, is rounded in blocks, if it is.
    blocks: Option<Blocks>,
}

/// Describes a gradient and a weight to policies that decide from operands.
pub type Describe<'a, D, G> = &'a dyn Fn(&mut D, &Tensor<D, G>) -> Result<Operands>;

/// An operation from a gradient in `G` to results in `F`.
pub type Narrowed<'a, D, G, F = G> = &'a dyn for<'w> Fn(
    &mut D,
    Ref<'_, D, G>,
    Mut<'w, D, F>,
    Epilogue<'w, <D as Device>::Space>,
) -> Result<(), <D as Device>::Error>;

impl<'a, 's, D> Backward<'a, 's, D>
where
    D: Memory<Error: Send + Sync + 'static> + HasAccumulate + HasNarrow<f32>,
{
    /// Begins the backward pass of a step's micro-batch `nth`.
    pub fn new(
        device: &'a mut D,
        buffers: &'a mut EpilogueBuffers<D>,
        step: &'a mut Step<'s>,
        observer: &'a mut dyn Observer,
        nth: usize,
    ) -> Self {
        let (loss_pass, blocks) = (LossPass::Only, None);
        Self { device, buffers, step, observer, next: 0, nth, loss_pass, blocks }
    }

    /// Begins at cell `next` instead of the first, with the losses of `loss_pass`.
    pub fn part(self, next: usize, loss_pass: LossPass) -> Self {
        Self { next, loss_pass, ..self }
    }

    /// Rounds every narrowed gradient in blocks as well.
    pub fn in_blocks(self, blocks: Option<Blocks>) -> Self {
        Self { blocks, ..self }
    }

    /// Returns the number of the next cell.
    pub const fn next_cell(&self) -> usize {
        self.next
    }

    /// Takes what the forward pass kept, or shares it where a second loss needs it too.
    pub fn kept<T>(&self, slot: &mut Option<Rc<T>>) -> Result<Rc<T>> {
        match (self.loss_pass, &*slot) {
            (LossPass::First, Some(kept)) => Ok(Rc::clone(kept)),
            _ => kept(slot),
        }
    }

    /// Narrows the gradient of the loss, in f32 and unscaled.
    pub fn loss<G: Element + Plain>(&mut self, gradient: &Tensor<D, f32>) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        self.loss_through("loss", None, gradient)
    }

    /// Narrows the gradient of a further loss through the next cell.
    pub fn further_loss<G: Element + Plain>(
        &mut self,
        name: &str,
        gradient: &Tensor<D, f32>,
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        let id = self.take_cell();
        self.loss_through(name, Some(id), gradient)
    }

    fn loss_through<G: Element + Plain>(
        &mut self,
        name: &str,
        id: Option<usize>,
        gradient: &Tensor<D, f32>,
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        let mut to = Tensor::zeroed(self.device, gradient.shape())?;
        let (histogram_format, mut results) = (self.histogram_format(), None);
        let Self { device, buffers, step, .. } = self;
        let describe = |device: &mut D| statistics(device, gradient.view()).map(Operands::Cast);
        let mut visit = match id {
            Some(id) => step.loss_at(id)?,
            None => step.loss(),
        };
        if visit.wants_operands() {
            visit.describe(&describe(device)?);
        }
        while let Some(mut pass) = visit.next_pass() {
            results =
                buffers.pass(device, &mut pass, histogram_format, |device, mut epilogue| {
                    let (to, epilogue) = (to.view_mut(), epilogue.reborrow());
                    device.run(Narrow::<_, G> { input: gradient.view(), to, epilogue })
                })?;
        }
        let scaled = visit.finish(())?;
        let operands = if self.shows_operands() { Some(describe(self.device)?) } else { None };
        self.leave(name, Observation { results, operands }, scaled, to)
    }

    /// Takes a gradient back through an operation whose f32 results, of the given shape, are narrowed
    /// through the next cell.
    pub fn layer<G: Element + Plain>(
        &mut self,
        name: &str,
        gradient: &Gradient<D, G>,
        shape: Shape,
        operation: impl for<'w> Fn(
            &mut D,
            Ref<'_, D, G>,
            Mut<'w, D, G>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        self.through(name, gradient, shape, None, &operation, None)
    }

    /// Takes a gradient back through a product with a weight: an operation for which the paper's policy chooses a
    /// scale, and whose f32 results cost more to compute twice than to keep.
    ///
    /// `keep` is the same product, stored in f32: where a certificate is due, it is computed once, counted
    /// and then narrowed.
    pub fn product<G: Element + Plain>(
        &mut self,
        name: &str,
        gradient: &Gradient<D, G>,
        shape: Shape,
        describe: Describe<'_, D, G>,
        operation: Narrowed<'_, D, G>,
        keep: Narrowed<'_, D, G, f32>,
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        self.through(name, gradient, shape, Some(describe), operation, Some(keep))
    }

    fn through<G: Element + Plain>(
        &mut self,
        name: &str,
        gradient: &Gradient<D, G>,
        shape: Shape,
        describe: Option<Describe<'_, D, G>>,
        operation: Narrowed<'_, D, G>,
        keep: Option<Narrowed<'_, D, G, f32>>,
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        let id = self.take_cell();
        let mut to = Tensor::zeroed(self.device, shape)?;
        let mut kept: Option<Tensor<D, f32>> = None;
        let (histogram_format, mut results) = (self.histogram_format(), None);
        let Self { device, buffers, step, .. } = self;
        let (value, _) = gradient.as_ref().into_parts();
        let mut visit = step.layer(id, gradient)?;
        if let Some(describe) = describe
            && visit.wants_operands()
        {
            visit.describe(&describe(device, value)?);
        }
        while let Some(mut pass) = visit.next_pass() {
            match (keep, &kept) {
                (Some(keep), _) if !pass.stores() => {
                    let kept = kept.insert(Tensor::zeroed(&mut **device, shape)?);
                    buffers.keep(device, &mut pass, |device, mut epilogue| {
                        keep(device, value.view(), kept.view_mut(), epilogue.reborrow())
                    })?;
                }
                (_, Some(kept)) => {
                    results = buffers.pass(
                        device,
                        &mut pass,
                        histogram_format,
                        |device, mut epilogue| {
                            let (to, epilogue) = (to.view_mut(), epilogue.reborrow());
                            device.run(Narrow::<_, G> { input: kept.view(), to, epilogue })
                        },
                    )?;
                }
                _ => {
                    results = buffers.pass(
                        device,
                        &mut pass,
                        histogram_format,
                        |device, mut epilogue| {
                            operation(device, value.view(), to.view_mut(), epilogue.reborrow())
                        },
                    )?;
                }
            }
        }
        let scaled = visit.finish(())?;
        let operands = match describe {
            Some(describe) if self.shows_operands() => Some(describe(self.device, value)?),
            _ => None,
        };
        self.leave(name, Observation { results, operands }, scaled, to)
    }

    /// Sums the gradients of branches through the next cell, in the order given.
    pub fn join<G: Element + Plain>(
        &mut self,
        name: &str,
        branches: [&Gradient<D, G>; 2],
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        let id = self.take_cell();
        let tags = branches.map(Scaled::tag);
        let values = branches.map(Scaled::scaled);
        let mut to = Tensor::zeroed(self.device, values[0].shape())?;
        let scales = tags.map(|tag| Cell::at(tag.scale()));
        let cells = [
            Vector::of(self.device, &scales[..1])?, // each in a buffer of its own,
            Vector::of(self.device, &scales[1..])?, // as a device may align them
        ];
        let branches = [0, 1].map(|i| Branch { gradient: values[i].view(), cell: cells[i].view() });
        let (histogram_format, mut results) = (self.histogram_format(), None);
        let Self { device, buffers, step, .. } = self;
        let mut visit = step.join(id, &tags)?;
        while let Some(mut pass) = visit.next_pass() {
            results =
                buffers.pass(device, &mut pass, histogram_format, |device, mut epilogue| {
                    let (to, epilogue) = (to.view_mut(), epilogue.reborrow());
                    device.run(Propagate::<_, G> { branches: &branches, to, epilogue })
                })?;
        }
        let scaled = visit.finish(())?;
        self.leave(name, Observation { results, operands: None }, scaled, to)
    }

    /// Takes a gradient through an operation that moves its elements as they are: the scale is
    /// carried, and no cell decides.
    pub fn carry<G: Element + Plain>(
        &mut self,
        gradient: Gradient<D, G>,
        shape: Shape,
        operation: impl for<'w> FnOnce(
            &mut D,
            Ref<'_, D, G>,
            Mut<'w, D, G>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Result<Gradient<D, G>> {
        carried(gradient, |value| {
            let mut to = Tensor::zeroed(self.device, shape)?;
            let epilogue = self.buffers.forward(Narrowing::to(G::ENCODING.into()));
            operation(self.device, value.view(), to.view_mut(), epilogue)?;
            Ok(to)
        })
    }

    /// Fills the gradient of a parameter from an operation that computes it in f32 and takes the
    /// gradient's scale out in its epilogue.
    pub fn weight_gradient<W: Plain, G: Plain>(
        &mut self,
        parameter: &mut Parameter<D, W>,
        gradient: &Gradient<D, G>,
        operation: impl for<'w> FnOnce(
            &mut D,
            Ref<'_, D, G>,
            Mut<'w, D, f32>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Result<()> {
        let sum = self.sum();
        let Self { device, buffers, .. } = self;
        let (value, scale) = gradient.as_ref().into_parts();
        device.write(&[Cell::at(scale)], buffers.carried.view_mut())?;
        let outcome = buffers.counting(device, parameter.gradient.len(), |device, buffers| {
            summed(device, sum, &mut parameter.gradient, |device, mut to| {
                let to = D::Space::reborrow_mut(&mut to);
                operation(device, value.view(), to, buffers.unscaling())
            })
        })?;
        parameter.cell = self.next;
        self.step.unscale(self.next, gradient, |_, _| ((), Unscaled::from_outcome(&outcome)));
        Ok(())
    }

    /// Fills the gradient of a parameter from f32 sums that carry a scale.
    pub fn unscale<W: Plain>(
        &mut self,
        parameter: &mut Parameter<D, W>,
        sums: &Scaled<Vector<D, f32>>,
    ) -> Result<()> {
        let sum = self.sum();
        let Self { device, buffers, .. } = self;
        let (values, scale) = sums.as_ref().into_parts();
        device.write(&[Cell::at(scale)], buffers.carried.view_mut())?;
        device.write(&[Unscaled::default()], buffers.counts.view_mut())?;
        summed(&mut **device, sum, &mut parameter.gradient, |device, mut to| {
            device.run(Unscale::<D::Space, f32> {
                gradient: values.view(),
                cell: buffers.carried.view(),
                to: D::Space::reborrow_mut(&mut to),
                counts: buffers.counts.view_mut(),
            })
        })?;
        let counts = buffers.counts.read_one(device)?;
        complete("results", counts.elements, parameter.gradient.len())?;
        parameter.cell = self.next;
        self.step.unscale(self.next, sums, |_, _| ((), counts));
        Ok(())
    }

    /// Returns the format that the f32 results of a visit are counted for, if its step is watched.
    fn histogram_format(&self) -> Option<HistogramFormat> {
        self.observer.watches().then(|| HistogramFormat(self.blocks.map(Blocks::narrowing)))
    }

    /// Tells whether the observer is shown operands.
    fn shows_operands(&self) -> bool {
        self.observer.watches() && self.observer.wants_operands()
    }

    fn take_cell(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// Returns how a gradient of this micro-batch adds to those of earlier ones.
    fn sum(&self) -> Sum {
        Sum { nth: self.nth, adds: self.loss_pass == LossPass::Second }
    }

    /// Shows a visit to the observer, and returns the narrowed gradient with its outgoing scale.
    fn leave<G: Element + Plain>(
        &mut self,
        name: &str,
        observation: Observation,
        scaled: Scaled<()>,
        mut to: Tensor<D, G>,
    ) -> Result<Gradient<D, G>> {
        let rounded = match self.blocks {
            Some(blocks) => Some(to.round_in_blocks(self.device, blocks)?),
            None => None,
        };
        if let Some(mut visit) = self.step.last() {
            complete("results", visit.outcome.elements, to.shape().elements())?;
            let mut name = Cow::Borrowed(name);
            if self.loss_pass == LossPass::Second {
                // One backward pass for all losses together visits a layer once: the second visit is an extra pass.
                visit.passes = visit.passes.saturating_add(1);
                name.to_mut().push_str(" again");
            }
            self.observer.passed(&visit);
            match (observation.results, rounded) {
                (Some(results), None) => {
                    self.observer.visited(&name, &visit, &results, observation.operands.as_ref());
                }
                (Some(results), Some(rounded)) => {
                    self.observer.visited_in_blocks(&name, &visit, &results, &rounded);
                }
                (None, _) => {}
            }
        }
        Ok(scaled.carry(|()| Rc::new(to)))
    }
}

/// Returns the statistics of a tensor.
pub fn statistics<T: Element + Plain, D: Memory + HasNarrow<T>>(
    device: &mut D,
    values: Ref<'_, D, T>,
) -> Result<Statistics, D::Error> {
    let mut statistics = Vector::of(device, &[Statistics::EMPTY])?;
    device.run(Summarise::<D::Space, T> {
        input: values,
        to: statistics.view_mut(),
        when: None,
    })?;
    statistics.read_one(device)
}

/// The format that f32 results are counted for: this one, or that of the pass if none is given.
#[derive(Clone, Copy)]
struct HistogramFormat(Option<Narrowing>);

/// What the observer is shown of a visit.
struct Observation {
    results: Option<Histogram>,
    operands: Option<Operands>,
}
