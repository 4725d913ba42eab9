//! One training step, from the forward pass to gradients that are unscaled.

use adaloss_plug::Memory;
use burn::{module::Module, optim::GradientsParams, tensor::Tensor};

use crate::{
    Scaler, ScalerError,
    tape::{Mark, Tape},
    walk::{Ended, Walk},
};

/// What a training step ends in: in the gradients of all weights of the module that the loss depends on,
/// f32, finite, unscaled and ready to be clipped, if all of them may reach the weights.
pub type Backward = adaloss_plug::Backward<GradientsParams>;

impl Scaler {
    /// Does one training step but for the update: forward, and backward segment by segment.
    ///
    /// `forward` returns the loss, one number in f32; the layers that are marked meanwhile are of this step.
    /// It is called again where a segment overflows and [`Recovery::Replay`] is configured, as by default:
    /// the segment then goes backward at a lower scale, and where burn draws or averages something, as
    /// in dropout and in the running statistics of a normalisation, it does so once more.
    ///
    /// `module` is whose weights the gradients are for, as in [`GradientsParams::from_grads`]; others are
    /// passed over.
    ///
    /// # Errors
    ///
    /// A step is under way; a mark was wrong; the loss is not one number, depends on no mark, on no weight
    /// of `module`, or was computed from 16-bit tensors without [`output`](Self::output); a weight is not
    /// f32; or burn cannot read a tensor.  Nothing was counted.
    ///
    /// # Panics
    ///
    /// Burn panics where shapes do not match, or where two segments share what lies between two marks: a
    /// tensor that was given to a mark, or one cast of a weight.
    ///
    /// [`Recovery::Replay`]: adaloss_core::policy::Recovery::Replay
    pub fn step<M: Module, const D: usize>(
        &self,
        module: &M,
        mut forward: impl FnMut() -> Tensor<D>,
    ) -> Result<Backward, ScalerError> {
        let mut under_way = UnderWay::begin(self)?;
        let mut lowered = vec![0; under_way.before.layers() + 1];
        loop {
            let loss = forward();
            let marks = under_way.take_marks()?;
            let mut shared = self.lock();
            match Walk::new(&mut shared, marks, &mut lowered).run(loss, module)? {
                Ended::Again => {
                    shared.memory.clone_from(&under_way.before);
                    shared.replays += 1;
                }
                Ended::Judged(verdict, gradients) => {
                    under_way.is_judged = true;
                    return Ok(Backward::new(verdict, gradients));
                }
            }
        }
    }
}

/// While it is there marks are recorded, and no other step can begin.
///
/// A step that is not judged, because of a mistake or a panic, never was.
struct UnderWay<'a> {
    scaler: &'a Scaler,
    before: Memory,
    is_judged: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(scaler: &'a Scaler) -> Result<Self, ScalerError> {
        let mut shared = scaler.lock();
        if shared.tape.is_some() {
            return Err(ScalerError::UnderWay);
        }
        shared.tape = Some(Tape::default());
        shared.replays = 0;
        Ok(Self { scaler, before: shared.memory.clone(), is_judged: false })
    }

    /// Returns what was marked, and leaves room for the marks of another forward pass.
    fn take_marks(&self) -> Result<Vec<Box<dyn Mark>>, ScalerError> {
        self.scaler.lock().tape.replace(Tape::default()).unwrap_or_default().into_marks()
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut shared = self.scaler.lock();
        shared.tape = None;
        if !self.is_judged {
            shared.memory.clone_from(&self.before);
        }
    }
}
