//! A cut through candle's graph: where a gradient leaves candle, and is scaled anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adaloss_core::unscale::Place;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, DType, Layout, MetalStorage, Result, Shape, Tensor, Var,
    backend::{BackendDevice, BackendStorage},
};

use crate::ScalerError;

/// Where the gradients go that arrive at the cuts of one forward pass.
///
/// They are let through only while a [`Step`](crate::Step) goes backward.  Candle's own `loss.backward()` would end at
/// the cuts, and return without an error a store that lacks every weight before them.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    /// The forward pass is under way, or has not gone backward yet.
    #[default]
    Closed,
    /// A segment goes backward: these arrived, by the numbers of their cuts.
    Open(Vec<(usize, Tensor)>),
    /// The step or micro-batch is over.
    Ended,
}

impl Gate {
    /// Does what goes backward through a segment; returns what arrived at cuts meanwhile, and its result.
    pub(crate) fn collect<R>(
        &self,
        backward: impl FnOnce() -> Result<R>,
    ) -> Result<(Vec<(usize, Tensor)>, R)> {
        *self.lock() = State::Open(Vec::new());
        let result = backward();
        match std::mem::take(&mut *self.lock()) {
            State::Open(arrived) => Ok((arrived, result?)),
            State::Closed | State::Ended => Ok((Vec::new(), result?)),
        }
    }

    /// Lets nothing through any more.
    pub(crate) fn end(&self) {
        *self.lock() = State::Ended;
    }

    fn arrive(&self, number: usize, place: Place, gradient: &Tensor) -> Result<()> {
        match &mut *self.lock() {
            State::Open(arrived) => arrived.push((number, gradient.clone())),
            State::Closed => return Err(ScalerError::ForeignBackward { place }.into()),
            State::Ended => return Err(ScalerError::Ended { place }.into()),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a copy of a detached tensor whose gradient goes to `gate`.
pub(crate) fn cut(
    values: &Tensor,
    number: usize,
    place: Place,
    gate: &Arc<Gate>,
) -> Result<Tensor> {
    // Candle keeps track of what depends on a variable: of this one, whose value is not used.
    let anchor = Var::zeros((), DType::F32, values.device())?;
    values.apply_op2(anchor.as_tensor(), Cut { number, place, gate: Arc::clone(gate) })
}

struct Cut {
    number: usize,
    place: Place,
    gate: Arc<Gate>,
}

impl Cut {
    fn forward<S: BackendStorage>(values: &S, layout: &Layout) -> Result<(S, Shape)>
    where
        S::Device: BackendDevice<Storage = S>,
    {
        let mut copy = values.device().zeros_impl(layout.shape(), values.dtype())?;
        values.copy_strided_src(&mut copy, 0, layout)?;
        Ok((copy, layout.shape().clone()))
    }
}

impl CustomOp2 for Cut {
    fn name(&self) -> &'static str {
        "adaloss-cut"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::forward(values, layout)
    }

    fn cuda_fwd(
        &self,
        values: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::forward(values, layout)
    }

    fn metal_fwd(
        &self,
        values: &MetalStorage,
        layout: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Self::forward(values, layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gate.arrive(self.number, self.place, gradient)?;
        Ok((None, None))
    }
}
