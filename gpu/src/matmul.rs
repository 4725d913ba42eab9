//! Products of matrices: on tensor cores where they multiply such operands, otherwise tile by tile.

use std::ptr;

use adaloss_core::format::{Element, f16};
use adaloss_hal::{Fitting, Matmul, Plain, Product, Run};
use adaloss_kernels::{epilogue::Epilogue, matmul, multiply::Multiplication, parts::parts};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, Elements, GpuError, GpuSpace,
    device::of,
    kernels::Parameter,
    narrow::named_epilogue,
    network::operand,
    tensor_cores::{Operand, Results, Sums, common},
};

impl<A, B, F> Run<Matmul<'_, '_, GpuSpace, A, B, F>> for Cuda
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, GpuSpace, A, B, F>>,
    ) -> Result<(), GpuError> {
        let Matmul { product, a, b, bias, to, epilogue } = operation.into_inner();
        let bias = start(*bias);
        let (to, epilogue) = (to.shared().address(), named_epilogue(epilogue.reborrow()));
        // SAFETY: all that is named is borrowed, and has its length: the operation fits; the epilogue is for the result's elements.
        unsafe {
            let operands = [(A::ENCODING, a.address()), (B::ENCODING, b.address())];
            match common([A::ENCODING, B::ENCODING]) {
                Some(format) => {
                    self.in_factors_of::<F>(format, (*product, bias), operands, to, &epilogue)
                }
                None => {
                    let Product { rows, inner, columns, transpose_a, transpose_b } = *product;
                    let (transposes_a, transposes_b) = (transpose_a, transpose_b);
                    let of_product =
                        Multiplication { rows, inner, columns, transposes_a, transposes_b, bias };
                    let (tiles, of_product) = (of_product.tiles(), Parameter(of_product));
                    let (a, b) = (operand(*a), operand(*b));
                    let kernel = of::<F>(&self.kernels.multiply);
                    self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                        launch.arg(&of_product).arg(&a).arg(&b).arg(&to).arg(&epilogue);
                    })
                }
            }
        }
    }
}

impl Cuda {
    /// Multiplies as [`Matmul`] does, and adds the unscaled product to what is there: the weight gradients
    /// of several micro-batches.
    ///
    /// Outcome and histogram are those of the product, not of the sum.
    ///
    /// # Errors
    ///
    /// An operand or `to` does not have the elements of its shape, a part of the epilogue is not one element, its
    /// narrowing is not for f32, or the driver refuses.
    pub fn matmul_add<E: Operand>(
        &mut self,
        mut operation: Matmul<'_, '_, GpuSpace, E, E, f32>,
    ) -> Result<(), GpuError> {
        let fitting = Fitting::of(&mut operation, self).map_err(GpuError::Misfit)?;
        let Matmul { product, a, b, bias, to, epilogue } = fitting.into_inner();
        let (to, epilogue) = (to.shared().address(), named_epilogue(epilogue.reborrow()));
        let (operands, results) = ([a.address(), b.address()], Results::Unscaled { adds: true });
        // SAFETY: all that is named is borrowed, and has its length: the operation fits.
        unsafe {
            self.on_tensor_cores::<E>((*product, start(*bias)), operands, results, to, &epilogue)
        }
    }
}

/// A product, and what its sums start at.
impl Sums for (Product, *const f32) {
    fn lengths(&self) -> [usize; 3] {
        self.0.lengths()
    }

    fn parts(&self) -> usize {
        let Product { rows, inner, columns, .. } = self.0;
        let (a, b, bias) = (ptr::null::<f16>(), ptr::null(), ptr::null());
        parts(&matmul::Product { a, b, bias, rows, inner, columns, parts: 1 })
    }

    unsafe fn launch<E: Operand>(
        &self,
        device: &Cuda,
        [a, b]: [u64; 2],
        parts: usize,
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        let &(Product { rows, inner, columns, transpose_a, transpose_b }, bias) = self;
        let (a, b) = (a as *const E, b as *const E);
        let named = matmul::Product { a, b, bias, rows, inner, columns, parts };
        let (tiles, is_slim) = (named.tiles(), named.is_slim());
        let stored = 2 * usize::from(transpose_a) + usize::from(transpose_b);
        let kernels = &device.on_tensor_cores_of::<E>().products[stored];
        // SAFETY: the caller's promise.
        unsafe { device.launch_sums(kernels.of(is_slim), named, tiles, results, to, epilogue) }
    }
}

/// Returns the first number of a bias, or null where there is none.
pub(crate) fn start(bias: Option<Elements<'_, f32>>) -> *const f32 {
    bias.map_or(ptr::null(), |bias| bias.address() as *const f32)
}
