//! Products of matrices: on tensor cores where they multiply such operands, otherwise tile by tile.

use std::ptr;

use adaloss_core::format::{Element, Encoding, Format, Narrowing, Noise, bf16, f16};
use adaloss_hal::{Fitting, Matmul, Plain, Product, Run};
use adaloss_kernels::{
    block::Factor, epilogue::Epilogue, matmul, multiply::Multiplication, parts::parts,
};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, GpuError, GpuSpace,
    device::of,
    kernels::{Parameter, Products},
    narrow::named_epilogue,
    network::operand,
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
        let Matmul { product, a, b, to, epilogue } = operation.into_inner();
        let (to, epilogue) = (to.shared().address(), named_epilogue(epilogue.reborrow()));
        let addresses = [a.address(), b.address()];
        let results = match F::ENCODING {
            of if of == A::ENCODING => Some(Results::Narrowed),
            Encoding::Binary32 => Some(Results::Unscaled { adds: false }),
            _ => None,
        };
        // SAFETY: all that is named is borrowed, and has its length: the operation fits; the encodings are those of the operands.
        unsafe {
            match (A::ENCODING, B::ENCODING, results) {
                (Encoding::Binary16, Encoding::Binary16, Some(results)) => {
                    self.on_tensor_cores::<f16>(*product, addresses, results, to, &epilogue)
                }
                (Encoding::BFloat16, Encoding::BFloat16, Some(results)) => {
                    self.on_tensor_cores::<bf16>(*product, addresses, results, to, &epilogue)
                }
                _ => {
                    let Product { rows, inner, columns, transpose_a, transpose_b } = *product;
                    let (transposes_a, transposes_b) = (transpose_a, transpose_b);
                    let of_product =
                        Multiplication { rows, inner, columns, transposes_a, transposes_b };
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

/// What tensor cores multiply, [`f16`] and [`bf16`]: a trait that only this crate has, so that f32 is known to
/// be none of them.
pub trait Operand: Factor + Plain {}

impl Operand for f16 {}
impl Operand for bf16 {}

/// What becomes of the sums of a product on tensor cores.
#[derive(Clone, Copy, Debug)]
enum Results {
    /// They are narrowed to the format of the operands.
    Narrowed,
    /// They stay f32, and are added to what is there or not.
    Unscaled { adds: bool },
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
        let Matmul { product, a, b, to, epilogue } = fitting.into_inner();
        let (to, epilogue) = (to.shared().address(), named_epilogue(epilogue.reborrow()));
        let (operands, results) = ([a.address(), b.address()], Results::Unscaled { adds: true });
        // SAFETY: all that is named is borrowed, and has its length: the operation fits.
        unsafe { self.on_tensor_cores::<E>(*product, operands, results, to, &epilogue) }
    }

    /// Launches a product of operands by their addresses.
    ///
    /// # Safety
    ///
    /// There are the elements of the shape at all three, of type `E` or, of results that stay f32, f32; nothing else writes them;
    /// and so with what the epilogue names.
    unsafe fn on_tensor_cores<E: Operand>(
        &mut self,
        product: Product,
        [a, b]: [u64; 2],
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        let Product { rows, inner, columns, transpose_a, transpose_b } = product;
        let (a, b) = (a as *const E, b as *const E);
        let mut named = matmul::Product { a, b, rows, inner, columns, parts: 1 };
        named.parts = parts(&named);
        let stored = 2 * usize::from(transpose_a) + usize::from(transpose_b);
        // SAFETY: the parameters are the entry points'; what they name is there by the caller's promise.
        unsafe {
            if named.parts > 1 {
                return self.in_parts(named, stored, results, to, epilogue);
            }
            let (tiles, named) = (named.tiles(), Parameter(named));
            let products = self.products::<E>();
            match results {
                Results::Narrowed => {
                    let kernel = &products.narrowed[stored];
                    self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                        launch.arg(&named).arg(&to).arg(epilogue);
                    })
                }
                Results::Unscaled { adds } => {
                    let (kernel, adds) = (&products.unscaled[stored], u32::from(adds));
                    self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                        launch.arg(&named).arg(&adds).arg(&to).arg(epilogue);
                    })
                }
            }
        }
    }

    /// Computes the parts of a product, in f32 and of no scale, and adds them up, unless the epilogue's predicate is 0.
    ///
    /// # Safety
    ///
    /// As for [`on_tensor_cores`](Self::on_tensor_cores).
    unsafe fn in_parts<E: Operand>(
        &mut self,
        named: matmul::Product<E>,
        stored: usize,
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        let (part_count, count, tiles) = (named.parts, named.sums(), named.tiles());
        let [parts, cell] = self.room(part_count * count)?;
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
        let (named, nothing) = (Parameter(named), 0_u32);
        let [binary16, bfloat16, binary32] = &self.kernels.add_parts;
        let kernel = &self.products::<E>().unscaled[stored];
        // SAFETY: the parameters are the entry points'; what they name is there by the caller's promise, and there is room for
        // the results of all parts, which whoever adds them up, next in the stream, finds written.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&named).arg(&nothing).arg(&parts).arg(&of_parts);
            })?;
            match results {
                Results::Narrowed => {
                    let is_binary16 = E::ENCODING == Encoding::Binary16;
                    let kernel = if is_binary16 { binary16 } else { bfloat16 };
                    self.launch(kernel, self.shape(kernel, count), |launch| {
                        launch.arg(&parts).arg(&part_count).arg(&count).arg(&to).arg(epilogue);
                    })
                }
                Results::Unscaled { adds } => {
                    let adds = u32::from(adds);
                    self.launch(binary32, self.shape(binary32, count), |launch| {
                        launch.arg(&parts).arg(&part_count).arg(&adds).arg(&count);
                        launch.arg(&to).arg(epilogue);
                    })
                }
            }
        }
    }

    fn products<E: Operand>(&self) -> &Products {
        let [binary16, bfloat16] = &self.kernels.products;
        if E::ENCODING == Encoding::BFloat16 { bfloat16 } else { binary16 }
    }
}
