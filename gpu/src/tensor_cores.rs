//! Sums on tensor cores: operands as factors of 16 bits, parts of sums, and results of 8 bits behind them.

use std::ptr;

use adaloss_core::format::{Element, Encoding, Format, Narrowing, Noise, bf16, f16};
use adaloss_hal::Plain;
use adaloss_kernels::{block::Factor, epilogue::Epilogue};
use cudarc::driver::PushKernelArg;

use crate::{
    Cuda, GpuError,
    device::of,
    kernels::{Kernel, OnTensorCores, Parameter},
};

/// Returns the format in which tensor cores multiply two operands: each has all elements of 8 bits.
pub(crate) fn common(encodings: [Encoding; 2]) -> Option<Encoding> {
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

/// What becomes of sums on tensor cores.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Results {
    /// They are narrowed to the format of the operands.
    Narrowed,
    /// They stay f32, and are added to what is there or not.
    Unscaled { adds: bool },
}

/// What tensor cores sum.
pub(crate) trait Sums: Copy {
    /// Returns the elements of the operands, then of the result.
    fn lengths(&self) -> [usize; 3];

    /// Returns into how many parts the terms are cut.
    fn parts(&self) -> usize;

    /// Tells whether operands have to begin at multiples of 16 bytes.
    fn are_aligned(&self) -> bool {
        false
    }

    /// Launches what computes the sums, in so many parts, one after the other.
    ///
    /// # Safety
    ///
    /// There are the elements of the operands, of type `E`, and room for the results of all parts, of type `E` or, of results that stay f32,
    /// f32; nothing else writes them; and so with what the epilogue names.
    unsafe fn launch<E: Operand>(
        &self,
        device: &Cuda,
        operands: [u64; 2],
        parts: usize,
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError>;
}

impl Cuda {
    /// Is [`in_factors`](Self::in_factors) of binary16 or bfloat16.
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn in_factors_of<F: Element>(
        &mut self,
        format: Encoding,
        sums: impl Sums,
        operands: [(Encoding, u64); 2],
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        // SAFETY: the caller's promise.
        unsafe {
            match format {
                Encoding::Binary16 => self.in_factors::<f16, F>(sums, operands, to, epilogue),
                _ => self.in_factors::<bf16, F>(sums, operands, to, epilogue),
            }
        }
    }

    /// Sums on tensor cores, elements of 8 bits as factors of `E`, to results of `F`.
    ///
    /// What lies between launches is in the [room](Self::room) of the device: factors of either operand, or a copy that begins where it has to,
    /// f32 results that are still to be narrowed to 8 bits, and parts of sums.
    ///
    /// # Safety
    ///
    /// There are the elements of the shape at all three addresses, of the encodings given; nothing else writes them; and so with
    /// what the epilogue names, which is for elements of `F`.
    unsafe fn in_factors<E: Operand, F: Element>(
        &mut self,
        sums: impl Sums,
        operands: [(Encoding, u64); 2],
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        let [left, right, result] = sums.lengths();
        let results = match F::ENCODING {
            of if of == E::ENCODING => Some(Results::Narrowed),
            Encoding::Binary32 => Some(Results::Unscaled { adds: false }),
            _ => None,
        };
        let is_moved = |address: u64| sums.are_aligned() && !address.is_multiple_of(16);
        // Numbers of the room, a multiple of 16 bytes for each.
        let of_operand = |nth: usize, count: usize| match operands[nth] {
            (of, address) if of == E::ENCODING && !is_moved(address) => 0,
            _ => count.div_ceil(2).next_multiple_of(ALIGNED),
        };
        let of_result = if results.is_some() { 0 } else { result.next_multiple_of(ALIGNED) };
        let before = [of_operand(0, left), of_operand(1, right), of_result];
        let reserved: usize = before.iter().sum();
        let in_parts = of_parts(sums) * result;
        let [room, cell] = match reserved + in_parts {
            0 => [0; 2],
            count => self.room(count)?,
        };
        let at = |numbers: usize| room + (numbers * size_of::<f32>()) as u64;
        let when = epilogue.0.when as u64;
        let mut addresses = [0; 2];
        for (nth, count) in [left, right].into_iter().enumerate() {
            let (encoding, from) = operands[nth];
            if before[nth] == 0 {
                addresses[nth] = from;
                continue;
            }
            let to = at(before[..nth].iter().sum());
            addresses[nth] = to;
            let kernel = self.kernels.factors.iter().find(|(of, _)| *of == encoding);
            let Some((_, [binary16, bfloat16])) = kernel else {
                // SAFETY: so many elements are there by the caller's promise, and so much room.
                unsafe { self.move_elements::<E>(from, count, to)? };
                continue;
            };
            let kernel = if E::ENCODING == Encoding::Binary16 { binary16 } else { bfloat16 };
            // SAFETY: the parameters are the entry point's; for the rest as above.
            unsafe {
                self.launch(kernel, self.shape(kernel, count), |launch| {
                    launch.arg(&from).arg(&count).arg(&to).arg(&when);
                })?;
            }
        }
        let parts = [at(reserved), cell];
        let Some(results) = results else {
            let (at, results) = (at(reserved - of_result), Results::Unscaled { adds: false });
            let unscaled = unscaled(cell, epilogue);
            let kernel = of::<F>(&self.kernels.apply);
            // SAFETY: the caller's promise; the sums are written before they are narrowed.
            return unsafe {
                self.with_parts::<E>(sums, addresses, results, at, &unscaled, parts)?;
                self.launch(kernel, self.shape(kernel, result), |launch| {
                    launch.arg(&at).arg(&result).arg(&to).arg(epilogue);
                })
            };
        };
        // SAFETY: as above.
        unsafe { self.with_parts::<E>(sums, addresses, results, to, epilogue, parts) }
    }

    /// Sums operands on tensor cores by their addresses.
    ///
    /// # Safety
    ///
    /// As for [`Sums::launch`].
    pub(crate) unsafe fn on_tensor_cores<E: Operand>(
        &mut self,
        sums: impl Sums,
        operands: [u64; 2],
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        let [_, _, result] = sums.lengths();
        let parts = match of_parts(sums) {
            0 => [0; 2],
            parts => self.room(parts * result)?,
        };
        // SAFETY: the caller's promise.
        unsafe { self.with_parts::<E>(sums, operands, results, to, epilogue, parts) }
    }

    /// Sums operands on tensor cores; `parts` are the addresses of room for the parts of its sums, and of a cell of the
    /// scale 1.  Parts are in f32 and of no scale, and are added up by another launch, unless the epilogue's predicate is 0.
    ///
    /// # Safety
    ///
    /// As for [`Sums::launch`].
    unsafe fn with_parts<E: Operand>(
        &self,
        sums: impl Sums,
        operands: [u64; 2],
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
        [parts, cell]: [u64; 2],
    ) -> Result<(), GpuError> {
        let ([_, _, count], part_count) = (sums.lengths(), of_parts(sums));
        if part_count == 0 {
            // SAFETY: the caller's promise.
            return unsafe { sums.launch::<E>(self, operands, 1, results, to, epilogue) };
        }
        let of_parts = unscaled(cell, epilogue);
        let [binary16, bfloat16, binary32] = &self.kernels.add_parts;
        // SAFETY: the parameters are the entry points'; what they name is there by the caller's promise, and there is room for
        // the results of all parts, which whoever adds them up, next in the stream, finds written.
        unsafe {
            let unscaled = Results::Unscaled { adds: false };
            sums.launch::<E>(self, operands, part_count, unscaled, parts, &of_parts)?;
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

    /// Launches one of two kernels, which narrow results or leave them f32, with what is summed, as they take it.
    ///
    /// # Safety
    ///
    /// As for [`Sums::launch`]; the kernels take such a parameter.
    pub(crate) unsafe fn launch_sums<T: Copy>(
        &self,
        [narrowed, unscaled]: [&Kernel; 2],
        named: T,
        tiles: usize,
        results: Results,
        to: u64,
        epilogue: &Parameter<Epilogue>,
    ) -> Result<(), GpuError> {
        let named = Parameter(named);
        // SAFETY: the caller's promise.
        unsafe {
            match results {
                Results::Narrowed => {
                    self.launch(narrowed, self.shape_of_parts(narrowed, tiles), |launch| {
                        launch.arg(&named).arg(&to).arg(epilogue);
                    })
                }
                Results::Unscaled { adds } => {
                    let adds = u32::from(adds);
                    self.launch(unscaled, self.shape_of_parts(unscaled, tiles), |launch| {
                        launch.arg(&named).arg(&adds).arg(&to).arg(epilogue);
                    })
                }
            }
        }
    }

    /// Returns the kernels for factors of a type.
    pub(crate) fn on_tensor_cores_of<E: Operand>(&self) -> &OnTensorCores {
        let [binary16, bfloat16] = &self.kernels.on_tensor_cores;
        if E::ENCODING == Encoding::BFloat16 { bfloat16 } else { binary16 }
    }
}

/// Numbers of f32 that take 16 bytes, as tensor cores want operands to begin at.
const ALIGNED: usize = 4;

/// Returns into how many parts the terms are cut, and 0 where they are not.
fn of_parts(sums: impl Sums) -> usize {
    match sums.parts() {
        0 | 1 => 0,
        parts => parts,
    }
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
