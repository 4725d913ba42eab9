//! One segment of candle's graph: from a mark back to the marks and the weights before it.

use candle_core::{
    CpuStorage, CudaStorage, DType, Layout, MetalStorage, Result, Shape, Tensor,
    backend::{BackendDevice, BackendStorage},
};

/// What a backward pass through one segment arrived at.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// A weight, or the beginning that a mark made.
    pub(crate) leaf: Tensor,
    /// Its gradient in f32, at the scale of the segment.
    pub(crate) values: Vec<f32>,
}

/// Goes backward from the end of a segment.
///
/// `gradient` is that of the end; without one the end is a loss, whose gradient is 1.
pub(crate) fn run(end: &Tensor, gradient: Option<Tensor>) -> Result<Vec<Arrival>> {
    let root = match gradient {
        Some(gradient) => end.apply_op1(Seed(gradient))?,
        None => end.clone(),
    };
    let mut gradients = root.backward()?;
    let mut arrivals = Vec::new();
    for leaf in root.sorted_nodes().into_iter().filter(|node| node.is_variable()) {
        if let Some(gradient) = gradients.remove(leaf) {
            let values = gradient.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            arrivals.push(Arrival { leaf: leaf.clone(), values });
        }
    }
    Ok(arrivals)
}

/// Candle's backward pass begins with a gradient of ones; behind this it goes on with ours.
struct Seed(Tensor);

impl Seed {
    /// Returns one number of the same type; nobody reads it.
    fn forward<S: BackendStorage>(storage: &S) -> Result<(S, Shape)>
    where
        S::Device: BackendDevice<Storage = S>,
    {
        let shape = Shape::from(());
        Ok((storage.device().zeros_impl(&shape, storage.dtype())?, shape))
    }
}

impl candle_core::CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "adaloss-seed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::forward(storage)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        Self::forward(storage)
    }

    fn metal_fwd(&self, storage: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        Self::forward(storage)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
