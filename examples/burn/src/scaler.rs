//! The scaler of a model: it marks layers, and remembers their scales.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adaloss_core::{
    policy::{Cell, Config},
    scaler::{Totals, Visit},
    unscale::Place,
};
use adaloss_plug::{Memory, holds};
use burn::tensor::{DType, Tensor};

use crate::{ScalerError, dtype::encoding, tape::Tape};

/// Loss scales for a model with a known number of layers.
///
/// A handle: clones are the same scaler, so that a model can keep one, in a field that burn is told to
/// skip, and the training loop another.
#[derive(Clone, Debug)]
pub struct Scaler {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) memory: Memory,
    /// There while a forward pass of a step is under way.
    pub(crate) tape: Option<Tape>,
    pub(crate) is_under_way: bool,
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
    /// The policy decides from operands, as `normal` and `range` do: burn does not show them.
    pub fn new(config: Config, layers: usize) -> Result<Self, ScalerError> {
        if config.policy().wants_operands() {
            return Err(ScalerError::Policy { name: config.policy().name() });
        }
        let memory = Memory::new(config, layers);
        let (visits, is_under_way) = (Vec::new(), false);
        let shared = Shared { memory, tape: None, is_under_way, visits, replays: 0 };
        Ok(Self { shared: Arc::new(Mutex::new(shared)) })
    }

    /// Marks the output of a layer: the layer goes backward at a scale of its own, chosen by what arrives here.
    ///
    /// In the forward pass this is the identity, and outside of a step nothing else; nothing is copied.
    /// Use what it returns from here on.  A second use of `output` itself would lead through one graph
    /// from two segments, which burn refuses.
    ///
    /// Gradients end here, other than those of [`step`](Self::step) and [`Step::accumulate`](crate::Step::accumulate):
    /// what you keep from a step is a constant in the next one, as if it were detached.
    ///
    /// A mistake is an error of [`step`](Self::step): there is no such layer, it was marked in this forward
    /// pass already, or the type of `output` cannot hold gradients of the configured format.
    ///
    /// A mark behind a 16-bit layer sees what burn narrowed already.  To have *every* narrowing done
    /// by core and counted, mark the output as the next layer will read it, in f32:
    ///
    /// ```
    /// # use adaloss_burn::Scaler;
    /// # use adaloss_core::{format::Format, policy::Config};
    /// # use burn::tensor::{DType, Device, Tensor};
    /// fn linear(scaler: &Scaler, id: usize, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    ///     let output = x.matmul(weight).cast(DType::F16); // what is kept, in 16 bits
    ///     scaler.layer(id, output.cast(DType::F32)) // what the next product reads
    /// }
    /// # let scaler = Scaler::new(Config::for_format(Format::BINARY16), 1)?;
    /// # let device = Device::flex().autodiff();
    /// # let [weight, x] = [1.0, 2.0].map(|x| Tensor::<2>::from_floats([[x]], &device));
    /// # assert_eq!(linear(&scaler, 0, x, weight).into_scalar::<f32>(), 2.0);
    /// # Ok::<(), adaloss_burn::ScalerError>(())
    /// ```
    pub fn layer<const D: usize>(&self, id: usize, output: Tensor<D>) -> Tensor<D> {
        let dtype = output.dtype();
        self.mark(Place::Layer(id), output, dtype)
    }

    /// Widens the output of the network to f32 and marks where the gradient of the loss enters it.
    ///
    /// What is computed from here to the loss is computed without a scale, and has to be in f32.  A network
    /// with several outputs marks the others as [`layer`](Self::layer)s, widened to f32.
    ///
    /// A mistake is an error of [`step`](Self::step): an output was marked in this forward pass already, or
    /// the type of this one cannot hold gradients of the configured format.
    pub fn output<const D: usize>(&self, output: Tensor<D>) -> Tensor<D> {
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

    /// Returns how often a forward pass of the last step was run again because the results of a segment were
    /// not finite.
    pub fn replays(&self) -> u64 {
        self.lock().replays
    }

    fn mark<const D: usize>(&self, place: Place, output: Tensor<D>, dtype: DType) -> Tensor<D> {
        let Shared { memory, tape, .. } = &mut *self.lock();
        // What depends on no weight has no gradient.
        let Some(tape) = tape.as_mut().filter(|_| output.is_tracked()) else {
            return output.cast(dtype);
        };
        let format = memory.config().narrowing().format;
        let layers = memory.layers();
        let mistake = match place {
            Place::Layer(id) if id >= layers => ScalerError::NoLayer { id, layers },
            _ if !encoding(output.dtype()).is_some_and(|tensor| holds(tensor, format.encoding)) => {
                ScalerError::DType { place, dtype: output.dtype(), format }
            }
            _ if tape.has(place) => ScalerError::MarkedTwice { place },
            _ => return tape.mark(place, output, dtype),
        };
        tape.note(mistake);
        output.cast(dtype)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        // A step that panicked leaves nothing in there: see `Step` and its `Recording`.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
