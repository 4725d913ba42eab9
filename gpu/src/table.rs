//! Many tensors in one launch, by tables that are on the device before the step.
//!
//! A table is built once from the tensors of a model.  Each step names the same tensors again, so that
//! the borrow checker knows who uses them; nothing is copied, allocated or waited for.

use adaloss_core::{format::Element, policy::Cell, unscale::Unscaled};
use adaloss_hal::Plain;
pub use adaloss_kernels::{unscale::Into, update::Sgd};
use adaloss_kernels::{
    unscale::{self, Part, parts},
    update,
};
use cudarc::driver::PushKernelArg;

use crate::{
    Buffer, Cuda, Elements, ElementsMut, GpuError, device::of, kernels::Parameter, narrow::GRADUAL,
};

/// A gradient that is unscaled.
#[derive(Debug)]
pub struct Gradient<'a, F> {
    /// Its elements.
    pub from: Elements<'a, F>,
    /// The cell whose scale they carry; one element.
    pub cell: Elements<'a, Cell>,
    /// Takes the unscaled elements, as many; `None` where they are only counted.
    pub to: Option<ElementsMut<'a, f32>>,
    /// Takes what was met; one element.
    pub met: ElementsMut<'a, Unscaled>,
}

/// A weight that is updated from a scaled gradient.
#[derive(Debug)]
pub struct Weight<'a, F> {
    /// The elements of the gradient.
    pub gradient: Elements<'a, F>,
    /// The cell whose scale they carry; one element.
    pub cell: Elements<'a, Cell>,
    /// The elements of the weight, as many.
    pub weight: ElementsMut<'a, f32>,
    /// The elements of its momentum, as many.
    pub momentum: ElementsMut<'a, f32>,
}

/// The row of a table, as a kernel reads it.
trait Row: Copy {
    /// The elements of its tensors.
    fn count(&self) -> usize;
    /// Tells whether another row names the same.
    fn is(&self, other: &Self) -> bool;
}

impl<F> Row for unscale::Gradient<F> {
    fn count(&self) -> usize {
        self.count
    }

    fn is(&self, &Self { from, to, count, cell, met }: &Self) -> bool {
        (self.from, self.to, self.count, self.cell, self.met) == (from, to, count, cell, met)
    }
}

impl<F> Row for update::Weight<F> {
    fn count(&self) -> usize {
        self.count
    }

    fn is(&self, &Self { gradient, weight, momentum, count, cell }: &Self) -> bool {
        (self.gradient, self.weight, self.momentum, self.count, self.cell)
            == (gradient, weight, momentum, count, cell)
    }
}

impl<F> Gradient<'_, F> {
    fn row(self) -> Result<unscale::Gradient<F>, GpuError> {
        let Self { from, cell, to, met } = self;
        let count = from.count();
        let to = to.as_ref().map(ElementsMut::shared);
        GpuError::length("the unscaled tensor", count, to.map_or(count, Elements::count))?;
        Ok(unscale::Gradient {
            from: from.address() as *const F,
            to: to.map_or(0, Elements::address) as *mut f32,
            count,
            cell: cell.one("the cell of a gradient")? as *const Cell,
            met: met.shared().one("what unscaling met")? as *mut Unscaled,
        })
    }
}

impl<F> Weight<'_, F> {
    fn row(self) -> Result<update::Weight<F>, GpuError> {
        let Self { gradient, cell, weight, momentum } = self;
        let (count, weight, momentum) = (gradient.count(), weight.shared(), momentum.shared());
        GpuError::length("a weight", count, weight.count())?;
        GpuError::length("a momentum", count, momentum.count())?;
        Ok(update::Weight {
            gradient: gradient.address() as *const F,
            weight: weight.address() as *mut f32,
            momentum: momentum.address() as *mut f32,
            count,
            cell: cell.one("the cell of a gradient")? as *const Cell,
        })
    }
}

/// A table of gradients, for [`Cuda::unscale_all`].
#[derive(Debug)]
pub struct Gradients<F>(Table<unscale::Gradient<F>>);

/// A table of weights, for [`Cuda::sgd`].
#[derive(Debug)]
pub struct Weights<F>(Table<update::Weight<F>>);

/// A table of tensors, and of their parts, which blocks share among themselves.
#[derive(Debug)]
struct Table<R> {
    rows: Vec<R>,
    on_device: Buffer<R>,
    parts: Buffer<Part>,
}

impl<R: Row> Table<R> {
    fn new(device: &mut Cuda, rows: Vec<R>) -> Result<Self, GpuError> {
        let parts: Vec<_> = parts(rows.iter().map(R::count)).collect();
        let (on_device, parts) = (device.table_of(&rows)?, device.table_of(&parts)?);
        Ok(Self { rows, on_device, parts })
    }

    /// Refuses other tensors than those that the table was built with.
    fn check(&self, given: impl Iterator<Item = Result<R, GpuError>>) -> Result<(), GpuError> {
        let mut count = 0;
        for (row, given) in given.enumerate() {
            let given = given?;
            count += 1;
            if !self.rows.get(row).is_some_and(|built| built.is(&given)) {
                return Err(GpuError::Table { row });
            }
        }
        GpuError::length("a table", self.rows.len(), count)
    }

    /// Returns what a kernel is given: the rows, their number, the parts, their number.
    fn named(&self) -> (u64, u32, u64, usize) {
        let parts = self.parts.view();
        let rows = self.on_device.view();
        (rows.address(), self.rows.len() as u32, parts.address(), parts.count())
    }
}

impl Cuda {
    /// Builds a table of gradients that are unscaled in one launch.
    ///
    /// # Errors
    ///
    /// A tensor and the one it is unscaled to differ in length, a cell or what is met is not one
    /// element, the memory is exhausted, or a graph is being captured.
    pub fn gradients<'a, F: Element + Plain>(
        &mut self,
        gradients: impl IntoIterator<Item = Gradient<'a, F>>,
    ) -> Result<Gradients<F>, GpuError> {
        let rows = gradients.into_iter().map(Gradient::row).collect::<Result<_, _>>()?;
        Table::new(self, rows).map(Gradients)
    }

    /// Builds a table of weights that are updated in one launch.
    ///
    /// # Errors
    ///
    /// A gradient, its weight and its momentum differ in length, a cell is not one element, the
    /// memory is exhausted, or a graph is being captured.
    pub fn weights<'a, F: Element + Plain>(
        &mut self,
        weights: impl IntoIterator<Item = Weight<'a, F>>,
    ) -> Result<Weights<F>, GpuError> {
        let rows = weights.into_iter().map(Weight::row).collect::<Result<_, _>>()?;
        Table::new(self, rows).map(Weights)
    }

    /// Unscales all gradients of a table in one launch: each element is widened, multiplied by the
    /// inverse of its gradient's scale, and written as `into` says.
    ///
    /// What each gradient met is added to its `met`, and the number of elements that are not finite, of
    /// all together, to `bad` (one element): while that is zero, the step is usable.  Both are
    /// [cleared](Self::clear) before a step.
    ///
    /// # Errors
    ///
    /// A tensor is not that of the table's row, something is written though a gradient has nowhere to
    /// be unscaled to, or `bad` is not one element.
    pub fn unscale_all<'a, F: Element + Plain>(
        &mut self,
        table: &Gradients<F>,
        gradients: impl IntoIterator<Item = Gradient<'a, F>>,
        into: Into,
        bad: ElementsMut<'_, u64>,
    ) -> Result<(), GpuError> {
        table.0.check(gradients.into_iter().map(Gradient::row))?;
        if into != Into::Nothing {
            let nowhere = table.0.rows.iter().find(|row| row.to.is_null() && row.count > 0);
            GpuError::length("the unscaled tensor", nowhere.map_or(0, |row| row.count), 0)?;
        }
        let bad = bad.shared().one("the number of elements that are not finite")?;
        let (rows, row_count, parts, part_count) = table.0.named();
        let (how, kernel) = (into as u32, of::<F>(&self.kernels.unscale_all));
        // SAFETY: the parameters are the entry point's; what the rows name was named by the caller.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, part_count), |launch| {
                launch.arg(&GRADUAL).arg(&rows).arg(&row_count).arg(&parts).arg(&part_count);
                launch.arg(&how).arg(&bad);
            })
        }
    }

    /// Takes a step of gradient descent with momentum on all weights of a table, from scaled
    /// gradients, in one launch.
    ///
    /// Where `bad` (one element) is not zero, or the predicate `when` (one element) is there and 0, nothing is written:
    /// weights, momenta and `steps` keep every bit.  Else `steps` (one element) is increased by one.  The device
    /// decides, and no host waits: what an [`Engine`](adaloss_hal::scaler::Engine) decided is its
    /// [`applies`](adaloss_hal::scaler::Engine::applies).
    ///
    /// ```no_run
    /// use adaloss_core::{format::f16, policy::Cell, unscale::Unscaled};
    /// use adaloss_gpu::{Cuda, Gradient, GpuError, Into, Sgd, Weight};
    /// use adaloss_hal::Memory;
    /// let mut cuda = Cuda::new(0)?;
    /// let (gradient, cell) = (cuda.zeroed::<f16>(1000)?, cuda.zeroed::<Cell>(1)?);
    /// let (mut weight, mut momentum) = (cuda.zeroed(1000)?, cuda.zeroed(1000)?);
    /// let (mut met, mut bad, mut steps) = (cuda.zeroed(1)?, cuda.zeroed(1)?, cuda.zeroed(1)?);
    /// // Named anew for each use, here and for as many tensors as there are.
    /// macro_rules! gradients {
    ///     () => {
    ///         [Gradient { from: gradient.view(), cell: cell.view(), to: None, met: met.view_mut() }]
    ///     };
    /// }
    /// macro_rules! weights {
    ///     () => {
    ///         [Weight {
    ///             gradient: gradient.view(),
    ///             cell: cell.view(),
    ///             weight: weight.view_mut(),
    ///             momentum: momentum.view_mut(),
    ///         }]
    ///     };
    /// }
    /// let (checked, updated) = (cuda.gradients(gradients!())?, cuda.weights(weights!())?);
    /// let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4 };
    /// for _step in 0..1000 {
    ///     // ... the backward pass writes the gradients ...
    ///     cuda.clear(bad.view_mut())?;
    ///     cuda.unscale_all(&checked, gradients!(), Into::Nothing, bad.view_mut())?;
    ///     cuda.sgd(&updated, weights!(), sgd, bad.view(), None, steps.view_mut())?;
    /// }
    /// # Ok::<(), GpuError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A tensor is not that of the table's row, or `bad`, `when` or `steps` is not one element.
    pub fn sgd<'a, F: Element + Plain>(
        &mut self,
        table: &Weights<F>,
        weights: impl IntoIterator<Item = Weight<'a, F>>,
        sgd: Sgd,
        bad: Elements<'_, u64>,
        when: Option<Elements<'_, u32>>,
        steps: ElementsMut<'_, u64>,
    ) -> Result<(), GpuError> {
        table.0.check(weights.into_iter().map(Weight::row))?;
        let bad = bad.one("the number of elements that are not finite")?;
        let when = when.map_or(Ok(0), |when| when.one("the predicate"))?;
        let steps = steps.shared().one("the number of steps")?;
        let (rows, row_count, parts, part_count) = table.0.named();
        let (sgd, kernel) = (Parameter(sgd), of::<F>(&self.kernels.sgd));
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, part_count), |launch| {
                launch.arg(&GRADUAL).arg(&sgd).arg(&rows).arg(&row_count);
                launch.arg(&parts).arg(&part_count).arg(&bad).arg(&when).arg(&steps);
            })
        }
    }
}
