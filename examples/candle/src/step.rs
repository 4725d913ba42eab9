//! One training step, from the forward pass to gradients that are unscaled.

use adaloss_core::{scaler::Visit, unscale::Verdict};
use adaloss_plug::{Memory, Reduction};
use candle_core::{Result, Tensor, backprop::GradStore};

use crate::{Scaler, ScalerError, tape::Tape, walk::Walk, weights::Weights};

/// A training step under way: layers that are marked now are of this step.
///
/// A step of one batch ends with [`backward`](Self::backward).  One of several micro-batches takes each of them backward
/// with [`accumulate`](Self::accumulate), before the next one goes forward, and ends with [`finish`](Self::finish).
///
/// Dropped before its end, it never was.  Candle's own `loss.backward()` is an error on a loss of a step.
///
/// # Examples
///
/// Four micro-batches of two samples, with the gradient of all eight:
///
/// ```
/// use adaloss_candle::{Backward, Reduction, Scaler};
/// use adaloss_core::{format::Format, policy::Config};
/// use candle_core::{DType, Device, Tensor, Var};
///
/// let samples = Tensor::rand(-1.0_f32, 1.0, (8, 4), &Device::Cpu)?.to_dtype(DType::F16)?;
/// let weight = Var::rand(-1.0_f32, 1.0, (4, 3), &Device::Cpu)?;
/// let scaler = Scaler::new(Config::for_format(Format::BINARY16), 0)?;
/// let loss = |samples: &Tensor| {
///     let output = scaler.output(&samples.matmul(&weight.to_dtype(DType::F16)?)?)?;
///     output.sqr()?.mean_all() // over the samples of a micro-batch
/// };
///
/// let mut step = scaler.begin()?;
/// for micro_batch in samples.chunk(4, 0)? {
///     step.accumulate(&loss(&micro_batch)?)?; // instead of loss.backward()
/// }
/// let Backward::Apply(of_four) = step.finish(Reduction::Mean)? else { panic!("all is finite") };
///
/// let Backward::Apply(of_one) = scaler.begin()?.backward(&loss(&samples)?)? else { panic!("so is this") };
/// let [of_four, of_one] = [of_four, of_one].map(|store| store.get(&weight).cloned());
/// let difference = (of_four.expect("a gradient") - of_one.expect("a gradient"))?.abs()?.max_all()?;
/// assert!(difference.to_scalar::<f32>()? < 1.0e-2);
/// assert_eq!(scaler.totals().steps, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "marks are recorded only while the step is there"]
pub struct Step {
    scaler: Scaler,
    /// What the scaler's memory will be when the step has ended.
    memory: Memory,
    weights: Weights,
    micro_batches: u32,
    is_usable: bool,
    has_failed: bool,
}

/// What a backward pass ends in: in the gradients of all weights that the loss depends on, f32, finite and
/// unscaled, if all of them may reach the weights.
pub type Backward = adaloss_plug::Backward<GradStore>;

impl Step {
    pub(crate) fn new(scaler: Scaler, memory: Memory) -> Self {
        let weights = Weights::default();
        Self { scaler, memory, weights, micro_batches: 0, is_usable: true, has_failed: false }
    }

    /// Goes backward from a loss, segment by segment, and ends the step: instead of `loss.backward()`, for a step of
    /// one batch.
    ///
    /// Behind [`accumulate`](Self::accumulate) this is the last micro-batch, and gradients are the sum.
    ///
    /// # Errors
    ///
    /// As [`accumulate`](Self::accumulate).
    pub fn backward(mut self, loss: &Tensor) -> Result<Backward> {
        self.accumulate(loss)?;
        self.finish(Reduction::Sum)
    }

    /// Goes backward from the loss of a micro-batch, and adds its gradients, unscaled, to those before, in f32:
    /// instead of `loss.backward()`, for a step of several micro-batches.
    ///
    /// Scales move between steps only, so that the same values give the same scales in whatever order micro-batches
    /// come.  One micro-batch whose loss or gradients are not finite makes the whole step
    /// unusable, as [`finish`](Self::finish) says; others may be left out then.
    ///
    /// # Errors
    ///
    /// The loss is not one number, depends on no mark of this forward pass or not on its output, or was computed from
    /// 16-bit tensors without [`Scaler::output`]; it depends on a mark of another step or micro-batch; a weight is
    /// not f32; or candle cannot go backward.  Then the step cannot be finished, and the scales are as they were
    /// before it.
    pub fn accumulate(&mut self, loss: &Tensor) -> Result<()> {
        if self.has_failed {
            return Err(ScalerError::Failed.into());
        }
        let (tape, mut visits, mut replays) = self.begin_pass();
        let walk = self.memory.micro_batch(self.micro_batches, &mut visits);
        let result = Walk::new(walk, &tape, &mut replays).run(loss, &mut self.weights);
        let mut shared = self.scaler.lock();
        (shared.visits, shared.replays) = (visits, replays);
        self.has_failed = result.is_err();
        self.micro_batches += 1;
        self.is_usable &= result?;
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
    /// A micro-batch ended in an error, or the last one went forward and not backward.  The scales are as they were
    /// before the step.
    pub fn finish(mut self, reduction: Reduction) -> Result<Backward> {
        if self.has_failed {
            return Err(ScalerError::Failed.into());
        }
        let marks = self.scaler.lock().tape.as_ref().map_or(0, |tape| tape.marks().len());
        if marks > 0 {
            return Err(ScalerError::NotBackward { marks }.into());
        }
        let verdict = self.memory.finish();
        let gradients = match verdict {
            Verdict::Apply => std::mem::take(&mut self.weights),
            Verdict::Skip { .. } | Verdict::Stop { .. } => Weights::default(),
        };
        let gradients = gradients.into_store(reduction, self.micro_batches)?;
        let mut shared = self.scaler.lock();
        std::mem::swap(&mut shared.memory, &mut self.memory);
        Ok(Backward::new(verdict, gradients))
    }

    /// Takes the marks of the forward pass that ends, leaves room for those of the next one, and takes what is
    /// reported of the step so far.
    fn begin_pass(&self) -> (Tape, Vec<Visit>, u64) {
        let mut shared = self.scaler.lock();
        let tape = shared.tape.replace(Tape::default()).unwrap_or_default();
        match self.micro_batches {
            0 => (tape, Vec::new(), 0),
            _ => (tape, std::mem::take(&mut shared.visits), shared.replays),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.scaler.lock().tape = None;
    }
}
