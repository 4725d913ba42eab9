//! The scaler of a model: it marks layers, and remembers their scales.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adaloss_core::{
    policy::{Cell, Config},
    scaler::{Totals, Visit},
    unscale::Place,
};
use adaloss_plug::{Memory, holds};
use candle_core::{DType, Tensor};

use crate::{ScalerError, dtype::encoding, step::Step, tape::Tape};

/// Loss scales for a model with a known number of layers.
///
/// A handle: clones are the same scaler, so that a model can keep one and the training loop another.
#[derive(Clone, Debug)]
pub struct Scaler {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) memory: Memory,
    /// There while a step is under way.
    pub(crate) tape: Option<Tape>,
    pub(crate) visits: Vec<Visit>,
    pub(crate) replays: u64,
}

impl Scaler {
    /// Makes the scaler of a new training run.
    ///
    /// Gradients are kept in the format of `config`.  A tensor may have a wider type: a model in f32 whose
    /// gradients are E5M2 is a simulation of one in E5M2.
    ///
    /// # Errors
    ///
    /// The policy decides from operands, as `normal` and `range` do: candle does not show them.
    pub fn new(config: Config, layers: usize) -> Result<Self, ScalerError> {
        if config.policy().wants_operands() {
            return Err(ScalerError::Policy { name: config.policy().name() });
        }
        let memory = Memory::new(config, layers);
        let shared = Shared { memory, tape: None, visits: Vec::new(), replays: 0 };
        Ok(Self { shared: Arc::new(Mutex::new(shared)) })
    }

    /// Begins a training step: marks are recorded until it ends, or is dropped.
    ///
    /// # Errors
    ///
    /// A step is under way.
    pub fn begin(&self) -> Result<Step, ScalerError> {
        let mut shared = self.lock();
        if shared.tape.is_some() {
            return Err(ScalerError::UnderWay);
        }
        shared.tape = Some(Tape::default());
        Ok(Step::new(self.clone(), shared.memory.clone()))
    }

    /// Marks the output of a layer: the layer goes backward at a scale of its own, chosen by what arrives here.
    ///
    /// In the forward pass this is the identity, and outside of a step nothing else.  It costs a copy of
    /// `output`, which becomes the beginning of a new candle graph.  Gradients pass it only within
    /// [`Step::backward`] and [`Step::accumulate`]: a `loss.backward()` that meets it is an error.
    ///
    /// A mark behind a 16-bit layer sees what candle narrowed already.  To have *every* narrowing done
    /// by core and counted, mark the output as the next layer will read it, in f32:
    ///
    /// ```
    /// # use adaloss_candle::Scaler;
    /// # use adaloss_core::{format::Format, policy::Config};
    /// # use candle_core::{DType, Device, Result, Tensor, Var};
    /// fn linear(scaler: &Scaler, id: usize, x: &Tensor, weight: &Var) -> Result<Tensor> {
    ///     let output = x.matmul(weight)?.to_dtype(DType::F16)?; // what is kept, in 16 bits
    ///     scaler.layer(id, &output.to_dtype(DType::F32)?) // what the next product reads
    /// }
    /// # let scaler = Scaler::new(Config::for_format(Format::BINARY16), 1)?;
    /// # let weight = Var::new(&[[1.0_f32]], &Device::Cpu)?;
    /// # let x = linear(&scaler, 0, &Tensor::new(&[[2.0_f32]], &Device::Cpu)?, &weight)?;
    /// # assert_eq!(x.to_vec2::<f32>()?, [[2.0]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such layer, it was marked in this step already, or the type of `output` cannot hold
    /// gradients of the configured format.
    pub fn layer(&self, id: usize, output: &Tensor) -> candle_core::Result<Tensor> {
        let layers = self.lock().memory.layers();
        if id >= layers {
            return Err(ScalerError::NoLayer { id, layers }.into());
        }
        self.mark(Place::Layer(id), output, output.dtype())
    }

    /// Widens the output of the network to f32 and marks where the gradient of the loss enters it.
    ///
    /// What is computed from here to the loss is computed without a scale, and has to be in f32.  A network
    /// with several outputs marks the others as [`layer`](Self::layer)s, widened to f32.
    ///
    /// # Errors
    ///
    /// An output was marked in this step already, or the type of this one cannot hold gradients of the
    /// configured format.
    pub fn output(&self, output: &Tensor) -> candle_core::Result<Tensor> {
        self.mark(Place::Loss, output, DType::F32)
    }

    /// Returns the configuration.
    pub fn config(&self) -> Config {
        *self.lock().memory.config()
    }

    /// Returns the cell of a place that was visited.
    pub fn cell(&self, place: Place) -> Option<Cell> {
        self.lock().memory.cell(place)
    }

    /// Returns what happened since the run began.
    pub fn totals(&self) -> Totals {
        self.lock().memory.totals()
    }

    /// Returns what happened at each mark in the last step, in the order of its backward pass, micro-batch by
    /// micro-batch.
    pub fn visits(&self) -> Vec<Visit> {
        self.lock().visits.clone()
    }

    /// Returns how many segments were run again in the last step because their results were not finite.
    pub fn replays(&self) -> u64 {
        self.lock().replays
    }

    fn mark(&self, place: Place, output: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
        let mut shared = self.lock();
        let format = shared.memory.config().narrowing().format;
        let Some(tape) = &mut shared.tape else { return output.to_dtype(dtype) };
        // What depends on no weight has no gradient.
        if !output.track_op() {
            return output.to_dtype(dtype);
        }
        if !encoding(output.dtype()).is_some_and(|tensor| holds(tensor, format.encoding)) {
            return Err(ScalerError::DType { place, dtype: output.dtype(), format }.into());
        }
        if tape.has(place) {
            return Err(ScalerError::MarkedTwice { place }.into());
        }
        tape.mark(place, output, dtype)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing in there is broken by a panic between two of its changes: a step that panicked is
        // not finished, and the next one begins anew.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
