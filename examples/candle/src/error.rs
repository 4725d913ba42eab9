//! What a model can get wrong.

use std::fmt;

use adaloss_core::{
    format::Format,
    scaler::{CheckpointError, StepError},
    unscale::Place,
};
use candle_core::DType;

/// A mistake in the use of a [`Scaler`](crate::Scaler).
///
/// Functions that are called from within a model return it wrapped in a [`candle_core::Error`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScalerError {
    /// The policy decides from the operands of products, which candle does not show.
    Policy {
        /// The policy's name.
        name: &'static str,
    },
    /// The scaler has no such layer.
    NoLayer {
        /// What was asked for.
        id: usize,
        /// How many layers there are.
        layers: usize,
    },
    /// A layer or the output was marked twice in one forward pass: two gradients would share one memory.
    MarkedTwice {
        /// What was marked.
        place: Place,
    },
    /// Tensors of this type cannot hold gradients of the configured format.
    DType {
        /// What was marked.
        place: Place,
        /// Its type.
        dtype: DType,
        /// The configured format.
        format: Format,
    },
    /// A step was begun while another one is under way.
    UnderWay,
    /// The loss is not one number.
    LossShape {
        /// Its elements.
        elements: usize,
    },
    /// The loss depends on no mark of this forward pass.
    Unreached {
        /// How many marks there are.
        marks: usize,
    },
    /// An output was marked and the loss does not depend on it.
    Aside,
    /// Candle's own backward pass, or that of another scaler, met a mark of a step under way.  It would have ended
    /// there, and left the weights before it without gradients.
    ForeignBackward {
        /// What was marked.
        place: Place,
    },
    /// A backward pass met a mark of a step or micro-batch that has ended: its gradients were handed out
    /// or dropped.
    Ended {
        /// What was marked.
        place: Place,
    },
    /// Layers were marked, and nothing went backward from their loss when the step was to be finished.
    NotBackward {
        /// How many marks there are.
        marks: usize,
    },
    /// A micro-batch of the step ended in an error, so that its gradients are not complete.
    Failed,
    /// A 16-bit tensor enters the loss without [`Scaler::output`](crate::Scaler::output): its gradient
    /// was narrowed before anything could scale it.
    NoOutput {
        /// The layer that the loss was computed from.
        layer: Place,
        /// The type of its output.
        dtype: DType,
    },
    /// A weight is no f32 master: its gradient could not be unscaled in its own type.
    Weight {
        /// The layer it belongs to.
        layer: Place,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The scaler refused a visit.
    Step(StepError),
    /// The bytes are no checkpoint of this scaler.
    Checkpoint(CheckpointError),
    /// The checkpoint has another length than one of a scaler with so many layers.
    CheckpointLength {
        /// The bytes of a checkpoint.
        expected: usize,
        /// The bytes given.
        length: usize,
    },
    /// What follows the cells in a checkpoint is damaged.
    CheckpointLimits,
}

impl fmt::Display for ScalerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { name } => write!(
                f,
                "the policy {name} decides from the operands of products, which candle does not \
                 show: use measured, amax, backoff or fixed"
            ),
            Self::NoLayer { id, layers } => {
                write!(
                    f,
                    "layer {id} was marked and the scaler was made for {layers} layers: number layers \
                     from 0, or make it for more"
                )
            }
            Self::MarkedTwice { place: Place::Loss } => f.write_str(
                "the network's output was marked twice in one step: mark another one as a layer, \
                 widened to f32",
            ),
            Self::MarkedTwice { place } => write!(
                f,
                "{place} was marked twice in one step: layers have numbers of their own, and each \
                 micro-batch goes backward, with Step::accumulate, before the next one goes forward"
            ),
            Self::DType { place, dtype, format } => write!(
                f,
                "{place}: tensors of type {} cannot hold gradients in {:?}: make the Config for the \
                 format of the tensors",
                dtype.as_str(),
                format.encoding
            ),
            Self::UnderWay => f.write_str(
                "a step was begun while another one is under way: finish or drop that one first",
            ),
            Self::LossShape { elements } => {
                write!(
                    f,
                    "a loss is one number, and this one has {elements} elements: take their sum or mean"
                )
            }
            Self::Unreached { marks } => {
                write!(
                    f,
                    "the loss depends on none of the {marks} marks of this step: the forward pass \
                     comes after Scaler::begin, and each loss goes backward once"
                )
            }
            Self::Aside => f.write_str(
                "the loss does not depend on the output that was marked: go backward from the loss \
                 that was computed from it, or mark that output as a layer, widened to f32",
            ),
            Self::ForeignBackward { place } => write!(
                f,
                "{} stops a backward pass that is not its step's, as loss.backward() is: weights \
                 before it would have no gradient. Call Step::backward(&loss) instead, or \
                 Step::accumulate(&loss) for one of several micro-batches",
                mark(*place)
            ),
            Self::Ended { place } => write!(
                f,
                "{} stops a backward pass, because the step or micro-batch that it belongs to has \
                 ended: go backward through each loss once, with Step::backward or \
                 Step::accumulate, and detach what a later step uses of it",
                mark(*place)
            ),
            Self::NotBackward { marks } => write!(
                f,
                "a forward pass left {marks} marks and nothing went backward from its loss: call \
                 Step::accumulate(&loss) before Step::finish, instead of loss.backward()"
            ),
            Self::Failed => f.write_str(
                "a micro-batch of this step ended in an error, and its gradients are missing: drop \
                 the step and begin another",
            ),
            Self::NoOutput { layer, dtype } => write!(
                f,
                "the loss was computed from {layer} in {}: pass the network's output through \
                 Scaler::output first",
                dtype.as_str()
            ),
            Self::Weight { layer, dtype, shape } => write!(
                f,
                "a weight of shape {shape:?} in {layer} is kept in {}: keep an f32 master, \
                 and cast it in the forward pass",
                dtype.as_str()
            ),
            Self::Step(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
            Self::CheckpointLength { expected, length } => {
                write!(
                    f,
                    "a checkpoint of this scaler has {expected} bytes, not {length}: restore it into a \
                     scaler with the layers that it was saved with"
                )
            }
            Self::CheckpointLimits => {
                f.write_str("the checkpoint is damaged behind its cells: restore an earlier one")
            }
        }
    }
}

/// Returns what a mark is called.
fn mark(place: Place) -> String {
    match place {
        Place::Loss => "the mark of the network's output".to_owned(),
        place => format!("the mark of {place}"),
    }
}

impl std::error::Error for ScalerError {}

impl From<ScalerError> for candle_core::Error {
    fn from(error: ScalerError) -> Self {
        Self::wrap(error)
    }
}
