//! Products of matrices on tensor cores.

use adaloss_core::format::{Encoding, bf16, f16};
use adaloss_hal::{Fitting, Matmul, Plain, Product, Run};
use adaloss_kernels::{block::Factor, matmul};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, Elements, GpuError, GpuSpace,
    kernels::{Kernel, Parameter, Products},
    narrow::named_epilogue,
};

impl<E: Operand> Run<Matmul<'_, '_, GpuSpace, E, E, f32>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, GpuSpace, E, E, f32>>,
    ) -> Result<(), GpuError> {
        self.unscaled(operation, false)
    }
}

impl<E: Operand> Run<Matmul<'_, '_, GpuSpace, E, E, E>> for Cuda {
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, GpuSpace, E, E, E>>,
    ) -> Result<(), GpuError> {
        let Matmul { product, a, b, to, epilogue } = operation.into_inner();
        let (named, tiles) = named(*product, *a, *b);
        let (epilogue, to) = (named_epilogue(epilogue.reborrow()), to.shared().address());
        let kernel = of(&self.products::<E>().narrowed, *product);
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, and has its length: the
        // operation fits.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&named).arg(&to).arg(&epilogue);
            })
        }
    }
}

/// What tensor cores multiply, [`f16`] and [`bf16`]: a trait that only this crate has, so that f32 is known to
/// be none of them.
pub trait Operand: Factor + Plain {}

impl Operand for f16 {}
impl Operand for bf16 {}

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
        self.unscaled(fitting, true)
    }

    fn unscaled<E: Operand>(
        &self,
        operation: Fitting<'_, Matmul<'_, '_, GpuSpace, E, E, f32>>,
        adds: bool,
    ) -> Result<(), GpuError> {
        let Matmul { product, a, b, to, epilogue } = operation.into_inner();
        let (named, tiles) = named(*product, *a, *b);
        let (epilogue, to) = (named_epilogue(epilogue.reborrow()), to.shared().address());
        let (kernel, adds) = (of(&self.products::<E>().unscaled, *product), u32::from(adds));
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&named).arg(&adds).arg(&to).arg(&epilogue);
            })
        }
    }

    fn products<E: Operand>(&self) -> &Products {
        let [binary16, bfloat16] = &self.kernels.products;
        if E::ENCODING == Encoding::BFloat16 { bfloat16 } else { binary16 }
    }
}

/// Returns what a kernel calls the operands, and the number of their tiles.
fn named<E: Operand>(
    product: Product,
    a: Elements<'_, E>,
    b: Elements<'_, E>,
) -> (Parameter<matmul::Product<E>>, usize) {
    let Product { rows, inner, columns, .. } = product;
    let (a, b) = (a.address() as *const E, b.address() as *const E);
    let named = matmul::Product { a, b, rows, inner, columns };
    (Parameter(named), named.tiles())
}

fn of(kernels: &[Kernel; 4], product: Product) -> &Kernel {
    &kernels[2 * usize::from(product.transpose_a) + usize::from(product.transpose_b)]
}
