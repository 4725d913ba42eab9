//! Products of matrices on tensor cores.

use adaloss_core::format::{Encoding, bf16, f16};
use adaloss_hal::{Epilogue, Matmul, Plain, Product, Run};
use adaloss_kernels::{block::Factor, matmul};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, Elements, ElementsMut, GpuError, GpuSpace,
    kernels::{Kernel, Parameter, Products},
    narrow::checked,
};

impl<E: Operand> Run<Matmul<'_, GpuSpace, E, E, f32>> for Cuda {
    fn execute(&mut self, operation: &mut Matmul<'_, GpuSpace, E, E, f32>) -> Result<(), GpuError> {
        let Matmul { product, a, b, to, epilogue } = operation;
        self.unscaled(*product, [*a, *b], false, to.reborrow(), epilogue.reborrow())
    }
}

impl<E: Operand> Run<Matmul<'_, GpuSpace, E, E, E>> for Cuda {
    fn execute(&mut self, operation: &mut Matmul<'_, GpuSpace, E, E, E>) -> Result<(), GpuError> {
        let Matmul { product, a, b, to, epilogue } = operation;
        self.narrowed(*product, [*a, *b], to.reborrow(), epilogue.reborrow())
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
        product: Product,
        a: Elements<'_, E>,
        b: Elements<'_, E>,
        to: ElementsMut<'_, f32>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        self.unscaled(product, [a, b], true, to, epilogue)
    }

    fn unscaled<E: Operand>(
        &self,
        product: Product,
        operands: [Elements<'_, E>; 2],
        adds: bool,
        to: ElementsMut<'_, f32>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let (named, tiles) = self.product(product, operands, &to)?;
        let (epilogue, to) = (checked::<f32>(epilogue)?, to.shared().address());
        let (kernel, adds) = (of(&self.products::<E>().unscaled, product), u32::from(adds));
        // SAFETY: the parameters are the entry point's; all that is named is borrowed, and has its length.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&named).arg(&adds).arg(&to).arg(&epilogue);
            })
        }
    }

    fn narrowed<E: Operand>(
        &self,
        product: Product,
        operands: [Elements<'_, E>; 2],
        to: ElementsMut<'_, E>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let (named, tiles) = self.product(product, operands, &to)?;
        let (epilogue, to) = (checked::<E>(epilogue)?, to.shared().address());
        let kernel = of(&self.products::<E>().narrowed, product);
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&named).arg(&to).arg(&epilogue);
            })
        }
    }

    /// Checks operands and result; returns what a kernel calls them, and the number of their tiles.
    ///
    /// [`Run::run`] compared the lengths already; they are compared again, for [`Run::execute`] can be called without it,
    /// and a kernel would go beyond the operands.
    fn product<E: Operand, F>(
        &self,
        product: Product,
        [a, b]: [Elements<'_, E>; 2],
        to: &ElementsMut<'_, F>,
    ) -> Result<(Parameter<matmul::Product<E>>, usize), GpuError> {
        let [left, right, result] = product.lengths();
        GpuError::length("the left operand of a product", left, a.count())?;
        GpuError::length("the right operand of a product", right, b.count())?;
        GpuError::length("the result of a product", result, to.shared().count())?;
        let Product { rows, inner, columns, .. } = product;
        let (a, b) = (a.address() as *const E, b.address() as *const E);
        let named = matmul::Product { a, b, rows, inner, columns };
        Ok((Parameter(named), named.tiles()))
    }

    fn products<E: Operand>(&self) -> &Products {
        let [binary16, bfloat16] = &self.kernels.products;
        if E::ENCODING == Encoding::BFloat16 { bfloat16 } else { binary16 }
    }
}

fn of(kernels: &[Kernel; 4], product: Product) -> &Kernel {
    &kernels[2 * usize::from(product.transpose_a) + usize::from(product.transpose_b)]
}
