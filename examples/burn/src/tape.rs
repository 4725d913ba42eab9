//! What a forward pass leaves behind: the marks at which gradients are scaled anew.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use adaloss_core::unscale::Place;
use burn::tensor::{DType, Gradients, Tensor, TensorData};

use crate::ScalerError;

/// The marks of one forward pass, in its order.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    marks: Vec<Box<dyn Mark>>,
    /// The first one: a forward pass has no other way to say that something is wrong.
    mistake: Option<ScalerError>,
}

/// One cut through burn's graph, of any rank.
pub(crate) trait Mark: fmt::Debug + Send {
    fn place(&self) -> Place;

    /// Returns the type of the segment that ends here.
    fn end_dtype(&self) -> DType;

    /// Returns the type of what goes on from here.
    fn beginning_dtype(&self) -> DType;

    /// Takes the gradient that a segment left where this mark let it begin.
    fn take(&self, gradients: &mut Gradients) -> Result<Option<Vec<f32>>, ScalerError>;

    /// Goes backward through the segment that ends here, once: burn keeps no graph for a second time.
    ///
    /// `gradient` is that of the end, in the order of its elements and already of its type's numbers.
    fn backward(self: Box<Self>, gradient: Vec<f32>) -> Result<Gradients, ScalerError>;
}

#[derive(Debug)]
struct Cut<const D: usize> {
    place: Place,
    /// The end of one segment, with the graph that leads to it.
    end: Tensor<D>,
    /// The beginning of the next ones: the same values, and a leaf, so that burn stops there.
    beginning: Tensor<D>,
}

impl Tape {
    /// Cuts the graph behind `end`; returns what goes on from there, as `dtype`.
    pub(crate) fn mark<const D: usize>(
        &mut self,
        place: Place,
        end: Tensor<D>,
        dtype: DType,
    ) -> Tensor<D> {
        // An end that is a weight itself would keep its own graph through a mere detach.
        let beginning = end.clone().set_require_grad(false).cast(dtype).require_grad();
        self.marks.push(Box::new(Cut { place, end, beginning: beginning.clone() }));
        beginning
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        self.marks.iter().any(|mark| mark.place() == place)
    }

    /// Takes note of a mistake, for the end of the forward pass.
    pub(crate) fn note(&mut self, mistake: ScalerError) {
        self.mistake.get_or_insert(mistake);
    }

    /// Returns the marks.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub(crate) fn into_marks(self) -> Result<Vec<Box<dyn Mark>>, ScalerError> {
        self.mistake.map_or(Ok(self.marks), Err)
    }
}

impl<const D: usize> Mark for Cut<D> {
    fn place(&self) -> Place {
        self.place
    }

    fn end_dtype(&self) -> DType {
        self.end.dtype()
    }

    fn beginning_dtype(&self) -> DType {
        self.beginning.dtype()
    }

    fn take(&self, gradients: &mut Gradients) -> Result<Option<Vec<f32>>, ScalerError> {
        self.beginning.grad_remove(gradients).map(read).transpose()
    }

    fn backward(self: Box<Self>, gradient: Vec<f32>) -> Result<Gradients, ScalerError> {
        let data = TensorData::new(gradient, self.end.shape());
        let gradient = Tensor::from_data(data, (&self.end.device(), DType::F32));
        // Burn begins with ones, which the product makes ours and the cast narrows; its value is not used.
        backward(&(self.end.cast(DType::F32) * gradient))
    }
}

/// What burn says, and changes nothing before it does, where a graph was gone through already.
const CONSUMED: &str = "graph tape has already been consumed";

/// Goes backward as burn does.
///
/// Whether a graph is still there burn tells with a panic only.  Its other panics go on.
///
/// # Errors
///
/// Burn has gone backward through a part of the graph already.
pub(crate) fn backward<const D: usize>(end: &Tensor<D>) -> Result<Gradients, ScalerError> {
    catch_unwind(AssertUnwindSafe(|| end.backward())).or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        match said.or(panic.downcast_ref::<&str>().copied()) {
            Some(said) if said.contains(CONSUMED) => Err(ScalerError::Consumed),
            _ => resume_unwind(panic),
        }
    })
}

/// Reads a tensor as f32, in the order of its elements.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ScalerError> {
    let tensor = tensor.cast(DType::F32);
    tensor.try_into_vec_as().map_err(|error| ScalerError::Read { reason: error.to_string() })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{Device, Tensor};

    #[test]
    #[should_panic(expected = "requires a tracked autodiff tensor")]
    fn a_panic_about_something_else_goes_on() {
        let untracked = Tensor::<1>::from_floats([1.0], &Device::flex());
        let _ = super::backward(&untracked);
    }
}
