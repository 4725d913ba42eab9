//! What a forward pass leaves behind: the marks at which gradients are scaled anew.

use std::sync::Arc;

use adaloss_core::unscale::Place;
use candle_core::{DType, Result, Tensor};

use crate::cut::{Gate, cut};

/// The marks of one forward pass, in its order.
///
/// With it ends the time in which gradients may pass them.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    marks: Vec<Mark>,
    gate: Arc<Gate>,
}

/// One cut through candle's graph.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) place: Place,
    /// The end of one segment, with the graph that leads to it.
    pub(crate) end: Tensor,
    /// The type of what the next ones begin with: the same values.
    pub(crate) beginning: DType,
}

impl Tape {
    /// Cuts the graph behind `end`; returns what goes on from there, as `dtype`.
    pub(crate) fn mark(&mut self, place: Place, end: &Tensor, dtype: DType) -> Result<Tensor> {
        let beginning = cut(&end.detach().to_dtype(dtype)?, self.marks.len(), place, &self.gate)?;
        self.marks.push(Mark { place, end: end.clone(), beginning: dtype });
        Ok(beginning)
    }

    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        self.marks.iter().any(|mark| mark.place == place)
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.gate.end();
    }
}
