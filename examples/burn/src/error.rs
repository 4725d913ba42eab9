//! What a model can get wrong.

use std::fmt;

use adaloss_core::{
    format::Format,
    scaler::{CheckpointError, StepError},
    unscale::Place,
};
use burn::tensor::DType;

/// A mistake in the use of a [`Scaler`](crate::Scaler).
///
/// A mark has nothing to return it with; [`Scaler::step`](crate::Scaler::step) does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScalerError {
    /// The policy decides from the operands of products, which burn does not show.
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
    /// Burn went backward through a part of this forward pass before, and keeps no graph for a second time.
    Consumed,
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
    /// The loss depends on no weight of the module that gradients were asked for.
    NoWeight,
    /// Burn could not read a tensor.
    Read {
        /// What it says about that.
        reason: String,
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
                "the policy {name} decides from the operands of products, which burn does not \
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
                 micro-batch is a forward pass of its own, with Step::accumulate"
            ),
            Self::DType { place, dtype, format } => write!(
                f,
                "{place}: tensors of type {} cannot hold gradients in {:?}: make the Config for the \
                 format of the tensors",
                dtype.name(),
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
                    "the loss depends on none of the {marks} marks of this step: compute it from \
                     the marked layers, within the closure"
                )
            }
            Self::Aside => f.write_str(
                "the loss does not depend on the output that was marked: return the loss that was \
                 computed from it, or mark that output as a layer, widened to f32",
            ),
            Self::Consumed => f.write_str(
                "burn has gone backward through a part of this forward pass already: return the \
                 loss from the closure without calling loss.backward(), which Scaler::step and \
                 Step::accumulate do; compute it there anew each time, detach what is kept from \
                 an earlier step, use what a mark returned and not what it was given, and cast a \
                 weight in each layer that uses it",
            ),
            Self::Failed => f.write_str(
                "a micro-batch of this step ended in an error, and its gradients are missing: drop \
                 the step and begin another",
            ),
            Self::NoOutput { layer, dtype } => write!(
                f,
                "the loss was computed from {layer} in {}: pass the network's output through \
                 Scaler::output first",
                dtype.name()
            ),
            Self::Weight { layer, dtype, shape } => write!(
                f,
                "a weight of shape {shape:?} in {layer} is kept in {}: keep an f32 master, \
                 and cast it in the forward pass",
                dtype.name()
            ),
            Self::NoWeight => f.write_str(
                "the loss depends on no weight of the module that gradients were asked for: pass the \
                 module that computed the loss",
            ),
            Self::Read { reason } => write!(f, "a tensor could not be read: {reason}"),
            Self::Step(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
            Self::CheckpointLength { expected, length } => {
                write!(
                    f,
                    "a checkpoint of this scaler has {expected} bytes, not {length}: restore it into a \
                     scaler with the layers that it was saved with"
                )
            }
            Self::CheckpointLimits => f.write_str("the checkpoint is damaged behind its cells: restore an earlier one"),
        }
    }
}

impl std::error::Error for ScalerError {}
