//! The entry points: what a launch passes, and the kernel that takes it, written down once.
//!
//! `adaloss-gpu-entry` makes PTX of them, and the simulated driver calls the same on the simulated grid.
//! Each is named `adaloss_` and the kernel, and the element type where there is one: `f16`, `bf16`,
//! `e5m2`, `e4m3` or `f32`.  Addresses are of the device's memory.  Blocks are of one dimension and have
//! a multiple of 32 threads; any number of blocks does the whole of the work.

use core::slice;

use adaloss_core::format::{Element, Format};
#[doc(no_inline)]
pub use adaloss_core::{
    format::{E4M3, E5M2, Narrowing, Noise, bf16, f16},
    statistics::Statistics,
};

#[doc(no_inline)]
pub use crate::{
    epilogue::Epilogue,
    matmul::Product,
    memory::Out,
    multiply::Multiplication,
    network::{
        attend::Attention,
        columns::Columns,
        convolve::{Convolution, Direction},
        dropout::Mask,
        implicit::Implicit,
        loss::Loss,
        normalise::{Forward, Normalisation},
        operand::Operand,
        pool::{Pooling, Sum},
        update::{AdamW, Step},
    },
    propagate::Branch,
    scaler::{Advance, Close, Conclude, Describe, Judge},
    unscale::{Gradient, Into, Part},
    update::{Sgd, Weight},
};

/// Names memory of the device; a tensor without elements may have any address.
///
/// # Safety
///
/// So many elements are there.
#[inline(always)]
pub unsafe fn tensor<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(first, count) }
}

/// Returns the format of elements that are read.
#[inline(always)]
pub fn format<F: Element>(flushes: u32) -> Format {
    let gradual = Format::from(F::ENCODING);
    if flushes == 0 { gradual } else { gradual.flushing() }
}

/// Returns what becomes of unscaled gradients.
#[inline(always)]
pub fn into(how: u32) -> Into {
    match how {
        0 => Into::Place,
        1 => Into::Sum,
        _ => Into::Nothing,
    }
}

/// Calls a macro with each entry point: its name, its parameters, and the call of the kernel.
///
/// The call is unsafe, as the kernel is.  What is named is found where everything of the module
/// [`entries`](mod@crate::entries) is imported.
///
/// ```
/// use adaloss_kernels::entries::*;
/// let mut names: Vec<(&str, usize)> = Vec::new();
/// macro_rules! name {
///     (fn $name:ident($block:ident $(, $parameter:ident: $type:ty)*) { $($call:tt)* }) => {
///         names.push((stringify!($name), [$(size_of::<$type>()),*].iter().sum()));
///     };
/// }
/// adaloss_kernels::entries!(name);
/// assert!(names.contains(&("adaloss_widen_f16", 28)));
/// ```
#[macro_export]
macro_rules! entries {
    ($entry:ident) => {
        $crate::entries_of_elements!(
            $entry,
            f16,
            adaloss_widen_f16,
            adaloss_narrow_f16,
            adaloss_statistics_f16,
            adaloss_apply_f16,
            adaloss_propagate_f16,
            adaloss_unscale_f16,
            adaloss_unscale_one_f16,
            adaloss_sgd_f16,
            adaloss_multiply_f16
        );
        $crate::entries_of_elements!(
            $entry,
            bf16,
            adaloss_widen_bf16,
            adaloss_narrow_bf16,
            adaloss_statistics_bf16,
            adaloss_apply_bf16,
            adaloss_propagate_bf16,
            adaloss_unscale_bf16,
            adaloss_unscale_one_bf16,
            adaloss_sgd_bf16,
            adaloss_multiply_bf16
        );
        $crate::entries_of_elements!(
            $entry,
            E5M2,
            adaloss_widen_e5m2,
            adaloss_narrow_e5m2,
            adaloss_statistics_e5m2,
            adaloss_apply_e5m2,
            adaloss_propagate_e5m2,
            adaloss_unscale_e5m2,
            adaloss_unscale_one_e5m2,
            adaloss_sgd_e5m2,
            adaloss_multiply_e5m2
        );
        $crate::entries_of_elements!(
            $entry,
            E4M3,
            adaloss_widen_e4m3,
            adaloss_narrow_e4m3,
            adaloss_statistics_e4m3,
            adaloss_apply_e4m3,
            adaloss_propagate_e4m3,
            adaloss_unscale_e4m3,
            adaloss_unscale_one_e4m3,
            adaloss_sgd_e4m3,
            adaloss_multiply_e4m3
        );
        $crate::entries_of_elements!(
            $entry,
            f32,
            adaloss_widen_f32,
            adaloss_narrow_f32,
            adaloss_statistics_f32,
            adaloss_apply_f32,
            adaloss_propagate_f32,
            adaloss_unscale_f32,
            adaloss_unscale_one_f32,
            adaloss_sgd_f32,
            adaloss_multiply_f32
        );
        $crate::factor_entries!(
            $entry,
            E5M2 f16 adaloss_factors_e5m2_f16,
            E5M2 bf16 adaloss_factors_e5m2_bf16,
            E4M3 f16 adaloss_factors_e4m3_f16,
            E4M3 bf16 adaloss_factors_e4m3_bf16
        );
        $entry! {
            fn adaloss_advance(block, advance: Advance) {
                $crate::scaler::advance(block, &advance);
            }
        }
        $entry! {
            fn adaloss_describe(block, describe: Describe) {
                $crate::scaler::describe(block, &describe);
            }
        }
        $entry! {
            fn adaloss_close(block, close: Close) {
                $crate::scaler::close(block, &close);
            }
        }
        $entry! {
            fn adaloss_judge(block, judge: Judge) {
                $crate::scaler::judge(block, &judge);
            }
        }
        $entry! {
            fn adaloss_conclude(block, conclude: Conclude) {
                $crate::scaler::conclude(block, &conclude);
            }
        }
        $entry! {
            fn adaloss_add_parts_f16(
                block, parts: *const f32, part_count: usize, count: usize, to: *mut f16, epilogue: Epilogue
            ) {
                let parts = tensor(parts, part_count * count);
                $crate::parts::add_parts(block, parts, Out::new(to, count), &epilogue);
            }
        }
        $entry! {
            fn adaloss_add_parts_bf16(
                block, parts: *const f32, part_count: usize, count: usize, to: *mut bf16, epilogue: Epilogue
            ) {
                let parts = tensor(parts, part_count * count);
                $crate::parts::add_parts(block, parts, Out::new(to, count), &epilogue);
            }
        }
        $entry! {
            fn adaloss_add_parts_f32(
                block,
                parts: *const f32,
                part_count: usize,
                adds: u32,
                count: usize,
                to: *mut f32,
                epilogue: Epilogue
            ) {
                let (parts, adds) = (tensor(parts, part_count * count), adds != 0);
                $crate::parts::add_parts_into(block, parts, adds, Out::new(to, count), &epilogue);
            }
        }
        $crate::network_entries!($entry);
    };
}

/// Calls a macro with each entry point of a product, as [`entries!`](crate::entries!) does: those that are
/// launched with [`SHARED_WORDS`](crate::tensor_cores::SHARED_WORDS) of shared memory.
///
/// Their names say how the operands are stored, as `n` or transposed, as `t`, or what is computed of a convolution; and the type of the
/// operands, and that of the results where it is another one.  Those named `slim` have tiles half as wide, for 64 columns at most.
#[macro_export]
macro_rules! products {
    ($entry:ident) => {
        $crate::products_of_elements!(
            $entry,
            f16,
            [false, false] false adaloss_matmul_nn_f16 adaloss_matmul_nn_f16_f32,
            [false, true] false adaloss_matmul_nt_f16 adaloss_matmul_nt_f16_f32,
            [true, false] false adaloss_matmul_tn_f16 adaloss_matmul_tn_f16_f32,
            [true, true] false adaloss_matmul_tt_f16 adaloss_matmul_tt_f16_f32,
            [false, false] true adaloss_matmul_slim_nn_f16 adaloss_matmul_slim_nn_f16_f32,
            [false, true] true adaloss_matmul_slim_nt_f16 adaloss_matmul_slim_nt_f16_f32,
            [true, false] true adaloss_matmul_slim_tn_f16 adaloss_matmul_slim_tn_f16_f32,
            [true, true] true adaloss_matmul_slim_tt_f16 adaloss_matmul_slim_tt_f16_f32
        );
        $crate::products_of_elements!(
            $entry,
            bf16,
            [false, false] false adaloss_matmul_nn_bf16 adaloss_matmul_nn_bf16_f32,
            [false, true] false adaloss_matmul_nt_bf16 adaloss_matmul_nt_bf16_f32,
            [true, false] false adaloss_matmul_tn_bf16 adaloss_matmul_tn_bf16_f32,
            [true, true] false adaloss_matmul_tt_bf16 adaloss_matmul_tt_bf16_f32,
            [false, false] true adaloss_matmul_slim_nn_bf16 adaloss_matmul_slim_nn_bf16_f32,
            [false, true] true adaloss_matmul_slim_nt_bf16 adaloss_matmul_slim_nt_bf16_f32,
            [true, false] true adaloss_matmul_slim_tn_bf16 adaloss_matmul_slim_tn_bf16_f32,
            [true, true] true adaloss_matmul_slim_tt_bf16 adaloss_matmul_slim_tt_bf16_f32
        );
        $crate::convolutions_of_elements!(
            $entry,
            f16,
            Output false adaloss_implicit_output_f16 adaloss_implicit_output_f16_f32,
            Input false adaloss_implicit_input_f16 adaloss_implicit_input_f16_f32,
            Weight false adaloss_implicit_weight_f16 adaloss_implicit_weight_f16_f32,
            Output true adaloss_implicit_slim_output_f16 adaloss_implicit_slim_output_f16_f32,
            Input true adaloss_implicit_slim_input_f16 adaloss_implicit_slim_input_f16_f32
        );
        $crate::convolutions_of_elements!(
            $entry,
            bf16,
            Output false adaloss_implicit_output_bf16 adaloss_implicit_output_bf16_f32,
            Input false adaloss_implicit_input_bf16 adaloss_implicit_input_bf16_f32,
            Weight false adaloss_implicit_weight_bf16 adaloss_implicit_weight_bf16_f32,
            Output true adaloss_implicit_slim_output_bf16 adaloss_implicit_slim_output_bf16_f32,
            Input true adaloss_implicit_slim_input_bf16 adaloss_implicit_slim_input_bf16_f32
        );
    };
}

/// Products of one element type, for each way that the operands may be stored.
#[doc(hidden)]
#[macro_export]
macro_rules! products_of_elements {
    ($entry:ident, $element:ty, $($transposed:tt $slim:literal $narrowed:ident $unscaled:ident),*) => {
        $(
            $entry! {
                fn $narrowed(
                    block, product: Product<$element>, to: *mut $element, epilogue: Epilogue
                ) {
                    let to = Out::new(to, product.sums());
                    $crate::matmul::matmul::<_, _, _, $slim>(
                        block, &product, $transposed, to, &epilogue
                    );
                }
            }
            $entry! {
                fn $unscaled(
                    block, product: Product<$element>, adds: u32, to: *mut f32, epilogue: Epilogue
                ) {
                    let (to, adds) = (Out::new(to, product.results()), adds != 0);
                    $crate::matmul::matmul_into::<_, _, $slim>(
                        block, &product, $transposed, adds, to, &epilogue
                    );
                }
            }
        )*
    };
}

/// Convolutions of one element type on tensor cores, in each direction.
#[doc(hidden)]
#[macro_export]
macro_rules! convolutions_of_elements {
    ($entry:ident, $element:ty, $($direction:ident $slim:literal $narrowed:ident $unscaled:ident),*) => {
        $(
            $entry! {
                fn $narrowed(
                    block, implicit: Implicit<$element>, to: *mut $element, epilogue: Epilogue
                ) {
                    let direction = Direction::$direction;
                    let to = Out::new(to, implicit.results(direction));
                    $crate::network::implicit::convolve::<_, _, _, $slim>(
                        block, &implicit, direction, to, &epilogue
                    );
                }
            }
            $entry! {
                fn $unscaled(
                    block,
                    implicit: Implicit<$element>,
                    adds: u32,
                    to: *mut f32,
                    epilogue: Epilogue
                ) {
                    let (direction, adds) = (Direction::$direction, adds != 0);
                    let to = Out::new(to, implicit.results(direction));
                    $crate::network::implicit::convolve_into::<_, _, $slim>(
                        block, &implicit, direction, adds, to, &epilogue
                    );
                }
            }
        )*
    };
}

/// What makes factors of elements of 8 bits.
#[doc(hidden)]
#[macro_export]
macro_rules! factor_entries {
    ($entry:ident, $($element:ident $factor:ident $name:ident),*) => {
        $(
            $entry! {
                fn $name(
                    block,
                    values: *const $element,
                    count: usize,
                    to: *mut $factor,
                    when: *const u32
                ) {
                    let (values, to) = (tensor(values, count), Out::new(to, count));
                    $crate::format::factors(block, values, to, when);
                }
            }
        )*
    };
}

/// Entry points for one element type.
#[doc(hidden)]
#[macro_export]
macro_rules! entries_of_elements {
    (
        $entry:ident,
        $element:ty,
        $widen:ident,
        $narrow:ident,
        $statistics:ident,
        $apply:ident,
        $propagate:ident,
        $unscale:ident,
        $unscale_one:ident,
        $sgd:ident,
        $multiply:ident
    ) => {
        $entry! {
            fn $widen(
                block, flushes: u32, values: *const $element, count: usize, to: *mut f32
            ) {
                let (format, to) = (format::<$element>(flushes), Out::new(to, count));
                $crate::format::widen(block, format, tensor(values, count), to);
            }
        }
        $entry! {
            fn $narrow(
                block,
                values: *const f32,
                count: usize,
                to: *mut $element,
                narrowing: Narrowing,
                noise: Noise
            ) {
                let (values, to) = (tensor(values, count), Out::new(to, count));
                $crate::format::narrow(block, narrowing, noise, values, to);
            }
        }
        $entry! {
            fn $statistics(
                block,
                flushes: u32,
                values: *const $element,
                count: usize,
                to: *mut Statistics,
                when: *const u32
            ) {
                let format = format::<$element>(flushes);
                $crate::statistics::statistics(block, format, tensor(values, count), to, when);
            }
        }
        $entry! {
            fn $apply(
                block, values: *const f32, count: usize, to: *mut $element, epilogue: Epilogue
            ) {
                let (values, to) = (tensor(values, count), Out::new(to, count));
                $crate::apply::apply(block, values, to, &epilogue);
            }
        }
        $entry! {
            fn $propagate(
                block,
                branches: *const Branch<$element>,
                branch_count: u32,
                count: usize,
                to: *mut $element,
                epilogue: Epilogue
            ) {
                let branches = tensor(branches, branch_count as usize);
                $crate::propagate::propagate(block, branches, Out::new(to, count), &epilogue);
            }
        }
        $entry! {
            fn $unscale(
                block,
                flushes: u32,
                gradients: *const Gradient<$element>,
                gradient_count: u32,
                parts: *const Part,
                part_count: usize,
                how: u32,
                bad: *mut u64
            ) {
                let format = format::<$element>(flushes);
                let gradients = tensor(gradients, gradient_count as usize);
                let parts = tensor(parts, part_count);
                $crate::unscale::unscale(block, format, gradients, parts, into(how), bad);
            }
        }
        $entry! {
            fn $unscale_one(
                block, flushes: u32, gradient: Gradient<$element>, how: u32, bad: *mut u64
            ) {
                let format = format::<$element>(flushes);
                $crate::unscale::unscale_one(block, format, &gradient, into(how), bad);
            }
        }
        $entry! {
            fn $sgd(
                block,
                flushes: u32,
                sgd: Sgd,
                weights: *const Weight<$element>,
                weight_count: u32,
                parts: *const Part,
                part_count: usize,
                bad: *const u64,
                when: *const u32,
                steps: *mut u64
            ) {
                let format = format::<$element>(flushes);
                let weights = tensor(weights, weight_count as usize);
                let parts = tensor(parts, part_count);
                $crate::update::sgd(block, format, sgd, weights, parts, (bad, when), steps);
            }
        }
        $entry! {
            fn $multiply(
                block,
                multiplication: Multiplication,
                a: Operand,
                b: Operand,
                to: *mut $element,
                epilogue: Epilogue
            ) {
                let to = Out::new(to, multiplication.sums());
                $crate::multiply::multiply(block, &multiplication, [a, b], to, &epilogue);
            }
        }
    };
}

/// How many entry points there are: those of [`entries!`](crate::entries!) and of [`products!`](crate::products!).
pub const COUNT: usize = {
    let mut count = 0;
    macro_rules! one {
        ($($entry:tt)*) => {
            count += 1;
        };
    }
    entries!(one);
    products!(one);
    count
};
