//! Products of matrices on tensor cores.

use std::ptr;

use adaloss_core::format::{Encoding, Format, Narrowing, Noise, bf16, f16};
use adaloss_hal::{Fitting, Matmul, Plain, Product, Run};
use adaloss_kernels::{block::Factor, epilogue::Epilogue, matmul, parts::parts};
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
        let named = named(*product, *a, *b);
        let (epilogue, to) = (named_epilogue(epilogue.reborrow()), to.shared().address());
        if named.0.parts > 1 {
            let [parts, part_count, count] = self.in_parts(*product, &named, &epilogue)?;
            let [binary16, bfloat16, _] = &self.kernels.add_parts;
            let kernel = if E::ENCODING == Encoding::BFloat16 { bfloat16 } else { binary16 };
            // SAFETY: as below; the parts have been written, each with so many sums.
            return unsafe {
                self.launch(kernel, self.shape(kernel, count as usize), |launch| {
                    launch.arg(&parts).arg(&part_count).arg(&count).arg(&to).arg(&epilogue);
                })
            };
        }
        let (kernel, tiles) = (of(&self.products::<E>().narrowed, *product), named.0.tiles());
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
        let (named, adds) = (named(*product, *a, *b), u32::from(adds));
        let (epilogue, to) = (named_epilogue(epilogue.reborrow()), to.shared().address());
        if named.0.parts > 1 {
            let [parts, part_count, count] = self.in_parts(*product, &named, &epilogue)?;
            let [.., kernel] = &self.kernels.add_parts;
            // SAFETY: as above.
            return unsafe {
                self.launch(kernel, self.shape(kernel, count as usize), |launch| {
                    launch.arg(&parts).arg(&part_count).arg(&adds).arg(&count);
                    launch.arg(&to).arg(&epilogue);
                })
            };
        }
        let (kernel, tiles) = (of(&self.products::<E>().unscaled, *product), named.0.tiles());
        // SAFETY: as above.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&named).arg(&adds).arg(&to).arg(&epilogue);
            })
        }
    }

    /// Computes the parts of a product, in f32 and of no scale, unless the epilogue's predicate is 0; returns their address,
    /// how many they are, and how many sums each has.
    fn in_parts<E: Operand>(
        &self,
        product: Product,
        named: &Parameter<matmul::Product<E>>,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<[u64; 3], GpuError> {
        let [parts, cell] = self.parts();
        let of_parts = Parameter(Epilogue {
            from: cell as *const _,
            to: cell as *const _,
            narrowing: Narrowing::to(Format::BINARY32),
            noise: Noise::default(),
            stores: true,
            when: epilogue.0.when,
            outcome: ptr::null_mut(),
            histogram: ptr::null_mut(),
        });
        let (kernel, adds) = (of(&self.products::<E>().unscaled, product), 0_u32);
        // SAFETY: the parameters are the entry point's; the operands are borrowed, and there is room for the results of as many
        // parts as `parts` says; whoever adds them up comes next in the stream.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, named.0.tiles()), |launch| {
                launch.arg(named).arg(&adds).arg(&parts).arg(&of_parts);
            })?;
        }
        Ok([parts, named.0.parts as u64, named.0.sums() as u64])
    }

    fn products<E: Operand>(&self) -> &Products {
        let [binary16, bfloat16] = &self.kernels.products;
        if E::ENCODING == Encoding::BFloat16 { bfloat16 } else { binary16 }
    }
}

/// Returns what a kernel calls the operands, in as many parts as their shape asks for.
fn named<E: Operand>(
    product: Product,
    a: Elements<'_, E>,
    b: Elements<'_, E>,
) -> Parameter<matmul::Product<E>> {
    let Product { rows, inner, columns, .. } = product;
    let (a, b) = (a.address() as *const E, b.address() as *const E);
    let named = matmul::Product { a, b, rows, inner, columns, parts: 1 };
    Parameter(matmul::Product { parts: parts(&named), ..named })
}

fn of(kernels: &[Kernel; 4], product: Product) -> &Kernel {
    &kernels[2 * usize::from(product.transpose_a) + usize::from(product.transpose_b)]
}
