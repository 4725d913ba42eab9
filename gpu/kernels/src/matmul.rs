//! Products of matrices on [tensor cores](crate::tensor_cores): f32 sums, which are narrowed, counted and measured.

use core::{array, ops::Range};

use adaloss_core::format::Element;

use crate::{
    Block,
    block::Factor,
    epilogue::{Epilogue, Store},
    lines::{Layout, Matrix},
    memory::Out,
    tensor_cores::{self, Extents, Summation},
};

/// The operands of a product and its shape: `C = op(A) op(B)`, all row-major, where `op` transposes or
/// does not.
#[derive(Debug)]
#[repr(C)]
pub struct Product<E> {
    /// The first element of `A`, which has `rows * inner`.
    pub a: *const E,
    /// The first element of `B`, which has `inner * columns`.
    pub b: *const E,
    /// What sums start at, the first of them in several parts: a number for each column; null where that is +0.
    pub bias: *const f32,
    /// Rows of `C`.
    pub rows: usize,
    /// Terms of a sum.
    pub inner: usize,
    /// Columns of `C`.
    pub columns: usize,
    /// Into how many parts the terms are cut, at least 1: results are the sums of each part, one after the other.
    pub parts: usize,
}

impl<E> Clone for Product<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Product<E> {}

impl<E> Product<E> {
    /// Returns the number of its sums.
    pub const fn sums(&self) -> usize {
        self.rows * self.columns
    }

    /// Returns the number of its sums, those of each part.
    pub const fn results(&self) -> usize {
        self.sums() * self.parts
    }

    /// Returns the number of tiles of its sums, for each part: no more blocks than that have something to do.
    pub const fn tiles(&self) -> usize {
        self.extents().tiles()
    }

    /// Tells whether it has so few columns that its tiles are half as wide: 64 at most.
    pub const fn is_slim(&self) -> bool {
        self.extents().are_slim()
    }

    #[inline(always)]
    const fn extents(&self) -> Extents {
        let &Self { rows, inner: terms, columns, parts, .. } = self;
        Extents { groups: 1, rows, columns, terms, parts }
    }
}

/// A product's operands, and how they lie in shared memory.
#[derive(Clone, Copy)]
struct Matrices<E> {
    left: Matrix<E>,
    right: Matrix<E>,
    bias: *const f32,
    extents: Extents,
}

impl<E: Factor> Summation for Matrices<E> {
    type Factor = E;
    type Left = Matrix<E>;
    type Right = Matrix<E>;

    const HAS_GAPS: bool = false;

    #[inline(always)]
    fn extents(&self) -> Extents {
        self.extents
    }

    #[inline(always)]
    fn operands(&self, _: usize, from: usize) -> (Matrix<E>, Matrix<E>) {
        (self.left.after(from), self.right.after(from))
    }

    #[inline(always)]
    fn bias(&self) -> *const f32 {
        self.bias
    }

    #[inline(always)]
    fn row(&self, part: usize, _: usize, row: usize) -> usize {
        (part * self.extents.rows + row) * self.extents.columns
    }

    #[inline(always)]
    fn step(&self) -> Option<usize> {
        Some(self.extents.columns)
    }

    /// Nothing, since every sum has all terms.
    #[inline(always)]
    unsafe fn again(&self, _: f32, _: usize, _: Range<usize>, _: [usize; 2]) -> f32 {
        f32::NAN
    }
}

/// Multiplies matrices and ends as an epilogue says, on all blocks of a grid.
///
/// Of `transposed`, the first says that `A` is stored as (inner, rows), the second that `B` is stored as
/// (columns, inner).  A sum is that of its terms in f32, in the order and with the rounding of the tensor
/// cores.
///
/// Blocks have [`THREADS`](tensor_cores::THREADS) threads and [`SHARED_WORDS`](tensor_cores::SHARED_WORDS) of shared
/// memory.  The terms are in one part.
///
/// # Safety
///
/// As for [`apply`](crate::apply::apply); the operands have their elements.
#[inline(always)]
pub unsafe fn matmul<B: Block, E: Factor, F: Element, const SLIM: bool>(
    block: &mut B,
    product: &Product<E>,
    transposed: [bool; 2],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    // What is narrowed is whole.
    let product = &Product { parts: 1, ..*product };
    // SAFETY: the caller's promise; an element is stored by one thread.
    unsafe { multiply::<B, E, F, SLIM>(block, product, transposed, epilogue, to) };
}

/// Multiplies matrices and writes f32, or adds them to what is there: the weight gradients of several
/// micro-batches.
///
/// Outcome and histogram are those of the product.  There is room for the results of each part.
///
/// # Safety
///
/// As for [`matmul`]; what is added to has been written.
#[inline(always)]
pub unsafe fn matmul_into<B: Block, E: Factor, const SLIM: bool>(
    block: &mut B,
    product: &Product<E>,
    transposed: [bool; 2],
    adds: bool,
    to: Out<'_, f32>,
    epilogue: &Epilogue,
) {
    let sums = Sums { to, adds };
    // SAFETY: as above.
    unsafe { multiply::<B, E, f32, SLIM>(block, product, transposed, epilogue, sums) };
}

/// # Safety
///
/// As for [`matmul`].
#[inline(always)]
unsafe fn multiply<B: Block, E: Factor, F: Element, const SLIM: bool>(
    block: &mut B,
    product: &Product<E>,
    [transpose_a, transpose_b]: [bool; 2],
    epilogue: &Epilogue,
    to: impl Store<F>,
) {
    let &Product { a, b, bias, rows, inner, columns, .. } = product;
    let left = Layout { by_terms: !transpose_a, is_slim: false };
    let right = Layout { by_terms: transpose_b, is_slim: SLIM };
    let matrices = Matrices {
        left: Matrix::new(a, rows, inner, left),
        right: Matrix::new(b, columns, inner, right),
        bias,
        extents: product.extents(),
    };
    // SAFETY: the caller's promise.
    unsafe { tensor_cores::sum::<B, F, _, SLIM>(block, &matrices, epilogue, to) };
}

/// Where results in f32 go, and whether they are added to what is there.
#[derive(Clone, Copy)]
pub(crate) struct Sums<'a> {
    pub(crate) to: Out<'a, f32>,
    pub(crate) adds: bool,
}

impl Store<f32> for Sums<'_> {
    #[inline(always)]
    fn has_chunks(self) -> bool {
        self.to.has_chunks()
    }

    #[inline(always)]
    fn len(self) -> usize {
        self.to.len()
    }

    #[inline(always)]
    unsafe fn one(self, index: usize, x: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let before = if self.adds { self.to.read(index) } else { None };
            self.to.write(index, before.map_or(x, |before| before + x));
        }
    }

    #[inline(always)]
    unsafe fn chunk<const N: usize>(self, index: usize, mut elements: [f32; N]) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.adds
                && let Some(before) = self.to.read_chunk::<N>(index)
            {
                elements = array::from_fn(|nth| before[nth] + elements[nth]);
            }
            self.to.write_chunk(index, elements);
        }
    }
}
