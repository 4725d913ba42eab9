//! What a forward pass leaves behind: the marks at which gradients are scaled anew.

use std::collections::HashMap;

use adaloss_core::unscale::Place;
use candle_core::{DType, Result, Tensor, TensorId, Var};

/// The marks of one step, in the order of the forward pass.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    marks: Vec<Mark>,
}

/// One cut through candle's graph.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) place: Place,
    /// The end of one segment, with the graph that leads to it.
    pub(crate) end: Tensor,
    /// The beginning of the next ones: the same values, and a variable, so that candle stops there.
    pub(crate) beginning: Tensor,
}

impl Tape {
    /// Cuts the graph behind `end`; returns what goes on from there, as `dtype`.
    pub(crate) fn mark(&mut self, place: Place, end: &Tensor, dtype: DType) -> Result<Tensor> {
        // Detached first: a tensor that is a variable already would be its own beginning.
        let beginning = Var::from_tensor(&end.detach().to_dtype(dtype)?)?.into_inner();
        self.marks.push(Mark { place, end: end.clone(), beginning: beginning.clone() });
        Ok(beginning)
    }

    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        self.marks.iter().any(|mark| mark.place == place)
    }

    /// Returns the marks by what goes on from them.
    pub(crate) fn beginnings(&self) -> HashMap<TensorId, &Mark> {
        self.marks.iter().map(|mark| (mark.beginning.id(), mark)).collect()
    }
}
