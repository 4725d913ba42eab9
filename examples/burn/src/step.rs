//! One training step, from the forward pass to gradients that are unscaled.

use adaloss_core::{scaler::Visit, unscale::Verdict};
use adaloss_plug::{Memory, Reduction};
use burn::{module::Module, optim::GradientsParams, tensor::Tensor};

use crate::{
    Scaler, ScalerError,
    tape::{Mark, Tape},
    walk::{Ended, Walk},
    weights::{self, Sums},
};

/// What a training step ends in: in the gradients of all weights of the module that the loss depends on,
/// f32, finite, unscaled and ready to be clipped, if all of them may reach the weights.
pub type Backward = adaloss_plug::Backward<GradientsParams>;

impl Scaler {
    /// Does one training step of one batch but for the update: forward, and backward segment by segment.
    ///
    /// `forward` returns the loss, one number in f32, and does not go backward; the layers that are marked meanwhile
    /// are of this step.  It is called again where a segment overflows and [`Recovery::Replay`] is configured, as
    /// by default: the segment then goes backward at a lower scale, and where burn draws or averages
    /// something, as in dropout and in the running statistics of a normalisation, it does so once more.
    ///
    /// `module` is whose weights the gradients are for, as in [`GradientsParams::from_grads`]; others are
    /// passed over.
    ///
    /// # Errors
    ///
    /// A step is under way; a mark was wrong; the loss is not one number, depends on no mark or not on the output that
    /// was marked, on no weight of `module`, or was computed from 16-bit tensors without [`output`](Self::output);
    /// a weight is not f32; or burn cannot read a tensor.
    ///
    /// Burn went backward through a part of the graph already, because `forward` called `loss.backward()`, or
    /// because two segments share what lies between two marks: a tensor that was given to a mark, or one cast
    /// of a weight.  Burn panics there, which is caught and becomes the error; the panic hook has printed it by then.
    ///
    /// Nothing was counted.
    ///
    /// # Panics
    ///
    /// Burn panics where shapes do not match.
    ///
    /// [`Recovery::Replay`]: adaloss_core::policy::Recovery::Replay
    pub fn step<M: Module, const D: usize>(
        &self,
        module: &M,
        forward: impl FnMut() -> Tensor<D>,
    ) -> Result<Backward, ScalerError> {
        let mut step = self.begin(module)?;
        step.accumulate(forward)?;
        step.finish(Reduction::Sum)
    }

    /// Begins a training step of several micro-batches; `module` is whose weights the gradients are for.
    ///
    /// # Errors
    ///
    /// A step is under way.
    pub fn begin<'a, M: Module>(&self, module: &'a M) -> Result<Step<'a, M>, ScalerError> {
        let mut shared = self.lock();
        if shared.is_under_way {
            return Err(ScalerError::UnderWay);
        }
        shared.is_under_way = true;
        Ok(Step {
            scaler: self.clone(),
            module,
            memory: shared.memory.clone(),
            sums: Sums::new(),
            micro_batches: 0,
            is_usable: true,
            has_failed: false,
        })
    }
}

/// A training step of several micro-batches: each goes forward and backward in [`accumulate`](Self::accumulate), and
/// [`finish`](Self::finish) hands out what was added, in place of burn's `GradientsAccumulator`.
///
/// Dropped before its end, it never was.
///
/// # Examples
///
/// Four micro-batches of two samples, with the gradient of all eight:
///
/// ```
/// use adaloss_burn::{Backward, Reduction, Scaler};
/// use adaloss_core::{format::Format, policy::Config};
/// use burn::{
///     module::Param,
///     tensor::{DType, Device, Distribution, Tensor},
/// };
///
/// let device = Device::flex().autodiff();
/// let random = Distribution::Uniform(-1.0, 1.0);
/// let samples = Tensor::<2>::random([8, 4], random, &device).cast(DType::F16);
/// let weight = Param::from_tensor(Tensor::<2>::random([4, 3], random, &device));
/// let scaler = Scaler::new(Config::for_format(Format::BINARY16), 0)?;
/// let loss = |samples: &Tensor<2>| {
///     let output = scaler.output(samples.clone().matmul(weight.val().cast(DType::F16)));
///     output.square().mean() // over the samples of a micro-batch
/// };
///
/// let mut step = scaler.begin(&weight)?;
/// for micro_batch in samples.clone().chunk(4, 0) {
///     step.accumulate(|| loss(&micro_batch))?; // instead of loss.backward()
/// }
/// let Backward::Apply(of_four) = step.finish(Reduction::Mean)? else { panic!("all is finite") };
///
/// let Backward::Apply(of_one) = scaler.step(&weight, || loss(&samples))? else { panic!("so is this") };
/// let [of_four, of_one] = [of_four, of_one].map(|gradients| gradients.get::<2>(weight.id));
/// let difference = of_four.expect("a gradient") - of_one.expect("a gradient");
/// assert!(difference.abs().max().into_scalar::<f32>() < 1.0e-2);
/// assert_eq!(scaler.totals().steps, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a step that is dropped never was"]
pub struct Step<'a, M> {
    scaler: Scaler,
    module: &'a M,
    /// What the scaler's memory will be when the step has ended.
    memory: Memory,
    sums: Sums,
    micro_batches: u32,
    is_usable: bool,
    has_failed: bool,
}

impl<M: Module> Step<'_, M> {
    /// Takes a micro-batch forward and backward, and adds its gradients, unscaled, to those before, in f32.
    ///
    /// `forward` is what it is in [`Scaler::step`], and may be called again as there.  Scales move between steps only,
    /// so that the same values give the same scales in whatever order micro-batches come.  One micro-batch whose loss
    /// or gradients are not finite makes the whole step unusable, as [`finish`](Self::finish) says; others may
    /// be left out then.
    ///
    /// # Errors
    ///
    /// As [`Scaler::step`].  Then the step cannot be finished, and the scales are as they were before it.
    ///
    /// # Panics
    ///
    /// Burn panics where shapes do not match.  Then the step cannot be finished either.
    pub fn accumulate<const D: usize>(
        &mut self,
        mut forward: impl FnMut() -> Tensor<D>,
    ) -> Result<(), ScalerError> {
        if self.has_failed {
            return Err(ScalerError::Failed);
        }
        // Until the end of this pass: an error or a panic leaves it so.
        self.has_failed = true;
        let (mut visits, mut replays) = match self.micro_batches {
            0 => (Vec::new(), 0),
            _ => self.reported(),
        };
        let ended = self.pass(&mut forward, &mut visits, &mut replays);
        let mut shared = self.scaler.lock();
        (shared.visits, shared.replays) = (visits, replays);
        self.is_usable &= ended?;
        self.micro_batches += 1;
        self.has_failed = false;
        Ok(())
    }

    /// Tells whether all micro-batches so far are usable; if one is not, the step will be skipped.
    pub const fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Returns how many micro-batches went backward.
    pub const fn micro_batches(&self) -> u32 {
        self.micro_batches
    }

    /// Ends the step: decides the scales of the next one, and hands out the sum of the micro-batches' gradients or
    /// their mean.
    ///
    /// Without any micro-batch the step is skipped, because no gradient was visited.
    ///
    /// # Errors
    ///
    /// A micro-batch ended in an error or a panic.  The scales are as they were before the step.
    pub fn finish(mut self, reduction: Reduction) -> Result<Backward, ScalerError> {
        if self.has_failed {
            return Err(ScalerError::Failed);
        }
        let verdict = self.memory.finish();
        std::mem::swap(&mut self.scaler.lock().memory, &mut self.memory);
        let sums = match verdict {
            Verdict::Apply => std::mem::take(&mut self.sums),
            Verdict::Skip { .. } | Verdict::Stop { .. } => Sums::new(),
        };
        let gradients = weights::collect(self.module, sums, reduction, self.micro_batches);
        Ok(Backward::new(verdict, gradients))
    }

    /// Takes what the scaler reports of the micro-batches before.
    fn reported(&self) -> (Vec<Visit>, u64) {
        let mut shared = self.scaler.lock();
        (std::mem::take(&mut shared.visits), shared.replays)
    }

    /// Goes forward and backward, again where a segment overflows; returns whether the step can still be usable.
    fn pass<const D: usize>(
        &mut self,
        forward: &mut impl FnMut() -> Tensor<D>,
        visits: &mut Vec<Visit>,
        replays: &mut u64,
    ) -> Result<bool, ScalerError> {
        let (before, visited) = (self.memory.clone(), visits.len());
        let mut lowered = vec![0; before.layers() + 1];
        loop {
            let recording = Recording::begin(&self.scaler);
            let loss = forward();
            let marks = recording.end()?;
            let walk = self.memory.micro_batch(self.micro_batches, visits);
            let walk = Walk::new(walk, marks, &mut lowered);
            match walk.run(loss, self.module, &mut self.sums)? {
                Ended::Done(is_usable) => return Ok(is_usable),
                Ended::Again => {
                    self.memory.clone_from(&before);
                    visits.truncate(visited);
                    *replays += 1;
                }
            }
        }
    }
}

impl<M> Drop for Step<'_, M> {
    fn drop(&mut self) {
        self.scaler.lock().is_under_way = false;
    }
}

/// While it is there marks are recorded: until the end of a forward pass, or its panic.
struct Recording<'a> {
    scaler: &'a Scaler,
}

impl<'a> Recording<'a> {
    fn begin(scaler: &'a Scaler) -> Self {
        scaler.lock().tape = Some(Tape::default());
        Self { scaler }
    }

    /// Returns what was marked.
    fn end(self) -> Result<Vec<Box<dyn Mark>>, ScalerError> {
        let tape = self.scaler.lock().tape.take();
        tape.unwrap_or_default().into_marks()
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.scaler.lock().tape = None;
    }
}
