//! One segment of candle's graph: from a mark back to the marks and the weights before it.

use candle_core::{
    CpuStorage, CudaStorage, DType, Layout, MetalStorage, Result, Shape, Tensor,
    backend::{BackendDevice, BackendStorage},
};

use crate::cut::Gate;

/// What a backward pass through one segment arrived at, in f32 and at the scale of the segment.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// At earlier marks, by their number.
    pub(crate) marks: Vec<(usize, Vec<f32>)>,
    pub(crate) weights: Vec<(Tensor, Vec<f32>)>,
}

impl Arrivals {
    pub(crate) fn values(&self) -> impl Iterator<Item = &f32> {
        let marks = self.marks.iter().map(|(_, values)| values);
        marks.chain(self.weights.iter().map(|(_, values)| values)).flatten()
    }
}

/// Goes backward from the end of a segment, to the marks of `gate` and to weights.
///
/// `gradient` is that of the end; without one the end is a loss, whose gradient is 1.
pub(crate) fn run(end: &Tensor, gradient: Option<Tensor>, gate: &Gate) -> Result<Arrivals> {
    let root = match gradient {
        Some(gradient) => end.apply_op1(Seed(gradient))?,
        None => end.clone(),
    };
    let (arrived, mut gradients) = gate.collect(|| root.backward())?;
    let mut arrivals = Arrivals::default();
    for (number, gradient) in arrived {
        arrivals.marks.push((number, read(&gradient)?));
    }
    for weight in root.sorted_nodes().into_iter().filter(|node| node.is_variable()) {
        // There is none for the variables of cuts.
        if let Some(gradient) = gradients.remove(weight) {
            arrivals.weights.push((weight.clone(), read(&gradient)?));
        }
    }
    Ok(arrivals)
}

fn read(gradient: &Tensor) -> Result<Vec<f32>> {
    gradient.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Candle's backward pass begins with a gradient of ones; behind this it goes on with ours.
struct Seed(Tensor);

impl Seed {
    /// Returns one number of the same type, which is not used.
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
