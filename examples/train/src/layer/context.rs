//! The forward and the backward pass of a micro-batch: what layers are handed.

mod weighted;
mod weights;

use std::rc::Rc;

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise},
    policy::{Cell, Operands},
    scale::Scale,
    scaler::{Purpose, Visit},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};
use adaloss_hal::{
    AddressSpace, Branch, Device, Epilogue, HasNarrow, Memory, Mut, Narrow, Plain, Propagate, Ref,
    Run, Summarise,
    network::HasAccumulate,
    scaler::{Carried, Describe, Described, HasScaler, Pass},
};
use anyhow::Result;

pub use weights::Term;

use super::{
    Activation, Gradient, MicroBatch, Scaler, Shape, Tensor, Vector, kept,
    scaler::{Note, Watch, failed},
};
use crate::{
    blocks::{Blocks, Rounded},
    network::Mode,
    ranks::Team,
};

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
    /// The second of two whose layers share weights alone: with activations and cells of its own, its weight gradients add to
    /// those of the first.
    Added,
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

/// Receives gradients as soon as they are complete: summed over the micro-batches and losses of a step, unscaled, and no mean yet.
pub trait GradientSink<D: Memory> {
    /// Is called once a step for each parameter, in an order that the network alone determines; `index` is the parameter's.
    ///
    /// # Errors
    ///
    /// The gradient cannot be read, or what is to take it cannot.
    fn complete(&mut self, device: &mut D, index: usize, gradient: &Vector<D, f32>) -> Result<()>;
}

/// Gradients stay where they are.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl<D: Memory> GradientSink<D> for NoSink {
    fn complete(&mut self, _: &mut D, _: usize, _: &Vector<D, f32>) -> Result<()> {
        Ok(())
    }
}

/// The scale 2^0 and counters, in device memory, that epilogues refer to where no cell chooses the scale: activations,
/// weight gradients and elements that are moved as they are.
pub struct EpilogueBuffers<D: Memory> {
    one: Vector<D, Cell>,
    /// What nobody asks for.
    ignored: Vector<D, Outcome>,
    /// What became of a weight gradient, and what unscaling it met: both are empty between two of them.
    outcome: Vector<D, Outcome>,
    counts: Vector<D, Unscaled>,
}

impl<D: Memory> EpilogueBuffers<D> {
    /// Allocates the scale and the counters.
    pub fn new(device: &mut D) -> Result<Self, D::Error> {
        Ok(Self {
            one: Vector::of(device, &[Cell::at(Scale::ONE)])?,
            ignored: Vector::zeroed(device, 1)?,
            outcome: Vector::zeroed(device, 1)?,
            counts: Vector::zeroed(device, 1)?,
        })
    }

    /// Returns the epilogue of an operation of the forward pass, where nothing is scaled.
    pub fn forward(&mut self, narrowing: Narrowing) -> Epilogue<'_, D::Space> {
        stored::<D>([self.one.view(); 2], narrowing, self.ignored.view_mut())
    }

    /// Returns the epilogue that narrows weights and counts in `outcome`.
    pub fn counting<'a>(
        &'a self,
        narrowing: Narrowing,
        outcome: Mut<'a, D, Outcome>,
    ) -> Epilogue<'a, D::Space> {
        stored::<D>([self.one.view(); 2], narrowing, outcome)
    }

    /// Returns the epilogue that keeps f32 results and takes their scale out, and a unit if they are given in one.
    fn unscaling<'a>(
        &'a mut self,
        carried: &'a Carried<D>,
        unit: Option<&'a Vector<D, Cell>>,
    ) -> Epilogue<'a, D::Space> {
        let scales = [carried.scale(), unit.unwrap_or(&self.one).view()];
        stored::<D>(scales, Narrowing::to(Format::BINARY32), self.outcome.view_mut())
    }
}

/// Returns an epilogue that narrows and stores between two scales, counts, and measures nothing.
fn stored<'a, D: Memory>(
    [from, to]: [Ref<'a, D, Cell>; 2],
    narrowing: Narrowing,
    outcome: Mut<'a, D, Outcome>,
) -> Epilogue<'a, D::Space> {
    let (noise, stores) = (Noise::default(), true);
    Epilogue { from, to, narrowing, noise, stores, when: None, outcome, histogram: None }
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
    /// Which one of the step's micro-batches it is.
    pub part: MicroBatch,
    /// The ranks over whose micro-batches a batch is normalised together, if it is.
    pub peers: Option<&'a Team>,
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

/// The backward pass of one micro-batch: numbers the cells in the order of visits.
pub struct Backward<'a, D: Memory> {
    /// The device.
    pub device: &'a mut D,
    buffers: &'a mut EpilogueBuffers<D>,
    scaler: &'a mut Scaler<D>,
    /// The number of the next cell.
    next: usize,
    /// Which one of the micro-batches it is, over which gradients are summed.
    part: MicroBatch,
    loss_pass: LossPass,
    /// The exponent of the unit that a second loss is given in and its weight gradients are not.
    taken_out: i32,
    /// The inverse of that unit, as a scale, while the second loss goes back.
    unit: Option<Vector<D, Cell>>,
    /// The ranks over whose micro-batches a batch was normalised together, if it was.
    pub peers: Option<&'a Team>,
    /// Where gradients go that are complete.
    sink: &'a mut dyn GradientSink<D>,
    /// How what was narrowed, in f32, is rounded in blocks, if it is.
    blocks: Option<Blocks>,
}

/// Statistics of the operands of a product, in the memory of the device.
pub struct ProductOperands<D: Memory> {
    /// Of the gradient, scale included.
    pub gradient: Vector<D, Statistics>,
    /// Of the weight.
    pub weight: Vector<D, Statistics>,
    /// The number of products in one sum of the input gradient.
    pub fan_in: u32,
}

/// Describes a gradient and a weight to policies that decide from operands, unless the predicate says no.
pub type DescribeProduct<'a, D, G> =
    &'a dyn Fn(&mut D, &Tensor<D, G>, Option<Ref<'_, D, u32>>) -> Result<ProductOperands<D>>;

/// An operation from a gradient in `G` to results in `F`.
pub type Narrowed<'a, D, G, F = G> = &'a dyn for<'w> Fn(
    &mut D,
    Ref<'_, D, G>,
    Mut<'w, D, F>,
    Epilogue<'w, <D as Device>::Space>,
) -> Result<(), <D as Device>::Error>;

/// What a device has that takes gradients back through layers.
pub trait HasBackward:
    Memory<Error: Send + Sync + 'static>
    + HasAccumulate
    + HasNarrow<f32>
    + HasScaler
    + for<'r, 'w> Run<Describe<'r, 'w, <Self as Device>::Space>>
{
}

impl<D> HasBackward for D where
    D: Memory<Error: Send + Sync + 'static>
        + HasAccumulate
        + HasNarrow<f32>
        + HasScaler
        + for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>
{
}

impl<'a, D: HasBackward> Backward<'a, D> {
    /// Begins the backward pass of one of a step's micro-batches.
    pub fn new(
        device: &'a mut D,
        buffers: &'a mut EpilogueBuffers<D>,
        scaler: &'a mut Scaler<D>,
        mode: Mode<'a>,
        sink: &'a mut dyn GradientSink<D>,
    ) -> Self {
        let Mode { part, peers, taken_out, .. } = mode;
        let (next, loss_pass, unit, blocks) = (0, LossPass::Only, None, None);
        Self {
            device,
            buffers,
            scaler,
            next,
            part,
            loss_pass,
            taken_out,
            unit,
            peers,
            sink,
            blocks,
        }
    }

    /// Goes on with one of two losses whose layers share weights alone: [`LossPass::First`], and then [`LossPass::Added`], from
    /// whose weight gradients its unit is taken out.
    ///
    /// # Errors
    ///
    /// The unit is beyond that of a scale, or the device's memory is exhausted.
    pub fn begin_loss(&mut self, loss_pass: LossPass) -> Result<()> {
        self.loss_pass = loss_pass;
        self.unit = match (loss_pass, self.taken_out) {
            (LossPass::Added, unit) if unit != 0 => {
                Some(Vector::of(self.device, &[Cell::at(Scale::new(-unit)?)])?)
            }
            _ => None,
        };
        Ok(())
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
        let (shape, elements) = (gradient.shape(), gradient.shape().elements());
        let mut to = Tensor::zeroed(self.device, shape)?;
        let mut results = self.results_buffer()?;
        let (device, scaler) = (&mut *self.device, &mut *self.scaler);
        let mut visit = match id {
            Some(id) => scaler.engine.loss_at(device, id, elements),
            None => scaler.engine.loss(device, elements),
        }
        .map_err(failed)?;
        if visit.wants_operands() {
            let when = Some(visit.operands_predicate());
            let statistics = statistics(device, gradient.view(), when)?;
            visit.describe(device, &Described::Cast(statistics.view()))?;
        }
        while let Some(mut pass) = visit.next_pass(device)? {
            let (to, epilogue) = (to.view_mut(), observed(&mut pass, &mut results));
            device.run(Narrow::<_, G> { input: gradient.view(), to, epilogue })?;
        }
        let carried = visit.finish(device).map_err(failed)?;
        let operands = match self.watch().operands {
            true => {
                let shown = statistics(self.device, gradient.view(), None)?;
                Some(Operands::Cast(shown.read_one(self.device)?))
            }
            false => None,
        };
        self.leave(name, (results, operands), to, carried)
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
        describe: DescribeProduct<'_, D, G>,
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
        describe: Option<DescribeProduct<'_, D, G>>,
        operation: Narrowed<'_, D, G>,
        keep: Option<Narrowed<'_, D, G, f32>>,
    ) -> Result<Gradient<D, G>>
    where
        D: HasNarrow<G>,
    {
        let id = self.take_cell();
        let mut to = Tensor::zeroed(self.device, shape)?;
        let mut results = self.results_buffer()?;
        let (device, scaler) = (&mut *self.device, &mut *self.scaler);
        let keep = keep.filter(|_| scaler.expects_certificate(id));
        let mut kept: Option<Tensor<D, f32>> = None;
        let (value, carried) = (gradient.value(), gradient.carried());
        let visit = scaler.engine.layer(device, id, shape.elements(), carried);
        let mut visit = visit.map_err(failed)?;
        if let Some(describe) = describe
            && visit.wants_operands()
        {
            let described = describe(device, value, Some(visit.operands_predicate()))?;
            let ProductOperands { gradient, weight, fan_in } = &described;
            let (gradient, weight, fan_in) = (gradient.view(), weight.view(), *fan_in);
            visit.describe(device, &Described::Product { gradient, weight, fan_in })?;
        }
        while let Some(mut pass) = visit.next_pass(device)? {
            let epilogue = observed(&mut pass, &mut results);
            match (keep, &kept) {
                (Some(keep), None) => {
                    let kept = kept.insert(Tensor::zeroed(device, shape)?);
                    // The results are kept whether they are to be measured or not: the passes behind it narrow them.  The
                    // histogram counts for its own format, whatever is stored.
                    let narrowing = Narrowing::to(Format::BINARY32);
                    let (to, when, stores) = (epilogue.from, None, true);
                    let epilogue = Epilogue { narrowing, to, when, stores, ..epilogue };
                    keep(device, value.view(), kept.view_mut(), epilogue)?;
                }
                (_, Some(kept)) => {
                    let (input, to) = (kept.view(), to.view_mut());
                    device.run(Narrow::<_, G> { input, to, epilogue })?;
                }
                (None, None) => operation(device, value.view(), to.view_mut(), epilogue)?,
            }
        }
        let carried = visit.finish(device).map_err(failed)?;
        let operands = match describe {
            Some(describe) if self.watch().operands => {
                let ProductOperands { gradient, weight, fan_in } =
                    describe(self.device, value, None)?;
                Some(Operands::Product {
                    gradient: gradient.read_one(self.device)?,
                    weight: weight.read_one(self.device)?,
                    fan_in,
                })
            }
            _ => None,
        };
        self.leave(name, (results, operands), to, carried)
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
        let shape = branches[0].value().shape();
        let mut to = Tensor::zeroed(self.device, shape)?;
        let mut results = self.results_buffer()?;
        let (device, scaler) = (&mut *self.device, &mut *self.scaler);
        let carried = branches.map(Gradient::carried);
        let branches = branches.map(|branch| {
            let (gradient, cell) = (branch.value().view(), branch.carried().scale());
            Branch { gradient, cell }
        });
        let visit = scaler.engine.join(device, id, shape.elements(), carried);
        let mut visit = visit.map_err(failed)?;
        while let Some(mut pass) = visit.next_pass(device)? {
            let (to, epilogue) = (to.view_mut(), observed(&mut pass, &mut results));
            device.run(Propagate::<_, G> { branches: &branches, to, epilogue })?;
        }
        let carried = visit.finish(device).map_err(failed)?;
        self.leave(name, (results, None), to, carried)
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
        gradient.carry(|value| {
            let mut to = Tensor::zeroed(self.device, shape)?;
            let epilogue = self.buffers.forward(Narrowing::to(G::ENCODING.into()));
            operation(self.device, value.view(), to.view_mut(), epilogue)?;
            Ok(to)
        })
    }

    /// Allocates the histogram of the f32 results of a visit, if its step is watched.
    fn results_buffer(&mut self) -> Result<Option<Vector<D, Histogram>>> {
        let narrowing = self.blocks.map_or(self.scaler.config().narrowing(), Blocks::narrowing);
        Ok(match self.watch().results {
            true => Some(Vector::of(self.device, &[Histogram::new(narrowing)])?),
            false => None,
        })
    }

    fn watch(&self) -> Watch {
        self.scaler.watch()
    }

    fn take_cell(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// Takes a visit down for the observer, and returns the narrowed gradient with its outgoing scale.
    fn leave<G: Element + Plain>(
        &mut self,
        name: &str,
        (results, operands): (Option<Vector<D, Histogram>>, Option<Operands>),
        mut to: Tensor<D, G>,
        carried: Carried<D>,
    ) -> Result<Gradient<D, G>> {
        let rounded = match self.blocks {
            Some(blocks) => Some(to.round_in_blocks(self.device, blocks)?),
            None => None,
        };
        self.scaler.note(Note {
            name: name.into(),
            elements: to.shape().elements(),
            is_again: self.loss_pass == LossPass::Second,
            results,
            operands,
            rounded,
        });
        Ok(Gradient::new(to, carried))
    }
}

/// Returns the epilogue of a pass; the first one that stores counts its f32 results for the observer as well.
fn observed<'e, D: Memory>(
    pass: &'e mut Pass<'_, D>,
    results: &'e mut Option<Vector<D, Histogram>>,
) -> Epilogue<'e, D::Space> {
    let is_first = pass.purpose() == Purpose::Store;
    let mut epilogue = pass.epilogue();
    if let (Some(results), true) = (results, is_first) {
        epilogue.histogram = Some(results.view_mut());
    }
    epilogue
}

/// Computes the statistics of a tensor on the device, unless the predicate says no.
pub fn statistics<T: Element + Plain, D: Memory + HasNarrow<T>>(
    device: &mut D,
    input: Ref<'_, D, T>,
    when: Option<Ref<'_, D, u32>>,
) -> Result<Vector<D, Statistics>, D::Error> {
    let mut statistics = Vector::of(device, &[Statistics::EMPTY])?;
    device.run(Summarise::<D::Space, T> {
        input: D::Space::reborrow(input),
        to: statistics.view_mut(),
        when: when.map(D::Space::reborrow),
    })?;
    Ok(statistics)
}
