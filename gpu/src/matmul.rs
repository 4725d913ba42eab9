//! Products of matrices: on tensor cores where they multiply such operands, otherwise tile by tile.

use std::ptr;

use adaloss_core::format::{Element, Encoding, Format, Narrowing, Noise, bf16, f16};
use adaloss_hal::{Fitting, Matmul, Plain, Product, Run};
use adaloss_kernels::{
    block::Factor, epilogue::Epilogue, matmul, multiply::Multiplication, parts::parts,
};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, Elements, GpuError, GpuSpace,
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
        let Matmul { product, a, b, bias, to, epilogue } = operation.into_inner();
        let (to, epilogue) = (to.shared().address(), named_epilogue(epilogue.reborrow()));
        let bias = start(*bias);
        // SAFETY: all that is named is borrowed, and has its length: the operation fits; the epilogue is for the result's elements.
        unsafe {
            let operands = [(A::ENCODING, a.address()), (B::ENCODING, b.address())];
            match common([A::ENCODING, B::ENCODING]) {
                Some(Encoding::Binary16) => {
                    self.in_factors::<f16, F>(*product, operands, bias, to, &epilogue)
                }
                Some(_) => self.in_factors::<bf16, F>(*product, operands, bias, to, &epilogue),
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

/// Returns the format in which tensor cores multiply two operands: each has all elements of 8 bits.
fn common(encodings: [Encoding; 2]) -> Option<Encoding> {
    let factors = [Encoding::Binary16, Encoding::BFloat16];
    let fits = |factor: &Encoding| {
        encodings.iter().all(|encoding| encoding == factor || encoding.bits() == 8)
    };
    factors.into_iter().find(fits)
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
        let Matmul { product, a, b, bias, to, epilogue } = fitting.into_inner();
        let (to, epilogue) = (to.shared().address(), named_epilogue(epilogue.reborrow()));
        let (operands, results) = ([a.address(), b.address()], Results::Unscaled { adds: true });
        let bias = start(*bias);
        let [_, _, result] = product.lengths();
        let parts = match parts_of::<E>(*product) {
            0 => [0; 2],
            parts => self.room(parts * result)?,
        };
        // SAFETY: all that is named is borrowed, and has its length: the operation fits.
        unsafe {
            let operands = (operands, bias);
            self.on_tensor_cores::<E>(*product, operands, results, to, &epilogue, parts)
        }
    }

    /// Multiplies operands on tensor cores, elements of 8 bits as factors of `E`, to results of `F`.
    ///
    /// What lies between launches is in the [room](Self::room) of the device: factors of either operand, f32 results that are still
    /// to be narrowed to 8 bits, and parts of sums.
    ///
    /// # Safety
    ///
    /// There are the elements of the shape at all three addresses, of the encodings given; nothing else writes them; and so with
    /// what the epilogue names, which is for elements of `F`.
    unsafe fn in_factors<E: Operand, F: Element>(
        &mut self,
        product: Product,
        operands: [(Encoding, u64); 2],
        bias: *const f32,
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        let [left, right, result] = product.lengths();
        let results = match F::ENCODING {
            of if of == E::ENCODING => Some(Results::Narrowed),
            Encoding::Binary32 => Some(Results::Unscaled { adds: false }),
            _ => None,
        };
        // Numbers of the room, a multiple of 16 bytes for each.
        let of_operand = |nth: usize, count: usize| match operands[nth].0 {
            of if of == E::ENCODING => 0,
            _ => count.div_ceil(2).next_multiple_of(ALIGNED),
        };
        let of_result = if results.is_some() { 0 } else { result.next_multiple_of(ALIGNED) };
        let before = [of_operand(0, left), of_operand(1, right), of_result];
        let reserved: usize = before.iter().sum();
        let parts = parts_of::<E>(product) * result;
        let [room, cell] = match reserved + parts {
            0 => [0; 2],
            count => self.room(count)?,
        };
        let at = |numbers: usize| room + (numbers * size_of::<f32>()) as u64;
        let when = epilogue.0.when as u64;
        let mut addresses = [0; 2];
        for (nth, count) in [left, right].into_iter().enumerate() {
            let (encoding, from) = operands[nth];
            let kernel = self.kernels.factors.iter().find(|(of, _)| *of == encoding);
            let Some((_, [binary16, bfloat16])) = kernel else {
                addresses[nth] = from;
                continue;
            };
            let kernel = if E::ENCODING == Encoding::Binary16 { binary16 } else { bfloat16 };
            let to = at(before[..nth].iter().sum());
            addresses[nth] = to;
            // SAFETY: the parameters are the entry point's; so many elements are there by the caller's promise, and so much room.
            unsafe {
                self.launch(kernel, self.shape(kernel, count), |launch| {
                    launch.arg(&from).arg(&count).arg(&to).arg(&when);
                })?;
            }
        }
        let (addresses, parts) = ((addresses, bias), [at(reserved), cell]);
        let Some(results) = results else {
            let (sums, results) = (at(reserved - of_result), Results::Unscaled { adds: false });
            let unscaled = unscaled(cell, epilogue);
            let kernel = of::<F>(&self.kernels.apply);
            // SAFETY: the caller's promise; the sums are written before they are narrowed.
            return unsafe {
                self.on_tensor_cores::<E>(product, addresses, results, sums, &unscaled, parts)?;
                self.launch(kernel, self.shape(kernel, result), |launch| {
                    launch.arg(&sums).arg(&result).arg(&to).arg(epilogue);
                })
            };
        };
        // SAFETY: as above.
        unsafe { self.on_tensor_cores::<E>(product, addresses, results, to, epilogue, parts) }
    }

    /// Launches a product of operands by their addresses, and what sums start at; `parts` are those of room for the parts of its sums, and of a cell of the
    /// scale 1.
    ///
    /// # Safety
    ///
    /// There are the elements of the shape at all three, of type `E` or, of results that stay f32, f32; nothing else writes them;
    /// and so with what the epilogue names.
    unsafe fn on_tensor_cores<E: Operand>(
        &self,
        product: Product,
        ([a, b], bias): ([u64; 2], *const f32),
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
        parts: [u64; 2],
    ) -> Result<(), GpuError> {
        let Product { rows, inner, columns, transpose_a, transpose_b } = product;
        let (a, b) = (a as *const E, b as *const E);
        let part_count = parts_of::<E>(product).max(1);
        let named = matmul::Product { a, b, bias, rows, inner, columns, parts: part_count };
        let stored = 2 * usize::from(transpose_a) + usize::from(transpose_b);
        // SAFETY: the parameters are the entry points'; what they name is there by the caller's promise.
        unsafe {
            if part_count > 1 {
                return self.in_parts(named, stored, results, to, epilogue, parts);
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
        &self,
        named: matmul::Product<E>,
        stored: usize,
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
        [parts, cell]: [u64; 2],
    ) -> Result<(), GpuError> {
        let (part_count, count, tiles) = (named.parts, named.sums(), named.tiles());
        let (named, nothing) = (Parameter(named), 0_u32);
        let of_parts = unscaled(cell, epilogue);
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

/// Numbers of f32 that take 16 bytes, as tensor cores want operands to begin at.
const ALIGNED: usize = 4;

/// Returns into how many parts the terms of a product are cut, and 0 where they are not.
fn parts_of<E: Operand>(product: Product) -> usize {
    let Product { rows, inner, columns, .. } = product;
    let (a, b, bias) = (ptr::null::<E>(), ptr::null::<E>(), ptr::null());
    match parts(&matmul::Product { a, b, bias, rows, inner, columns, parts: 1 }) {
        0 | 1 => 0,
        parts => parts,
    }
}

/// Returns the first number of a bias, or null where there is none.
pub(crate) fn start(bias: Option<Elements<'_, f32>>) -> *const f32 {
    bias.map_or(ptr::null(), |bias| bias.address() as *const f32)
}

/// Returns an epilogue for f32 sums that another launch takes on, where the one that they end in is not off.
fn unscaled(cell: u64, of: &Parameter<Epilogue>) -> Parameter<Epilogue> {
    Parameter(Epilogue {
        from: cell as *const _,
        to: cell as *const _,
        narrowing: Narrowing::to(Format::BINARY32),
        noise: Noise::default(),
        stores: true,
        when: of.0.when,
        outcome: ptr::null_mut(),
        histogram: ptr::null_mut(),
    })
}
