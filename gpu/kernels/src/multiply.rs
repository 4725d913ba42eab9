//! Products of matrices of any two encodings, [tile by tile](crate::tiles).

use adaloss_core::format::Element;

use crate::{
    Block,
    epilogue::Epilogue,
    memory::Out,
    network::operand::Operand,
    tiles::{self, Extents, Factors, Sums},
};

pub use crate::tiles::THREADS;

/// The shape of a product `C = op(A) op(B)`, all row-major, where `op` transposes or does not.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Multiplication {
    /// Rows of `C`.
    pub rows: usize,
    /// Terms of a sum.
    pub inner: usize,
    /// Columns of `C`.
    pub columns: usize,
    /// Whether `A` is stored transposed.
    pub transposes_a: bool,
    /// Whether `B` is stored transposed.
    pub transposes_b: bool,
    /// What sums start at: a number for each column; null where that is +0.
    pub bias: *const f32,
}

impl Multiplication {
    /// Returns how many results there are.
    pub const fn sums(&self) -> usize {
        self.rows * self.columns
    }

    /// Returns how many tiles there are, which is how many blocks have work.
    pub const fn tiles(&self) -> usize {
        self.extents().tiles()
    }

    const fn extents(&self) -> Extents {
        let &Self { rows, inner, columns, .. } = self;
        Extents { groups: 1, rows, columns, terms: inner }
    }
}

/// A matrix whose elements lie `of_line` and `of_term` apart, one of which is 1.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    elements: Operand,
    of_line: usize,
    of_term: usize,
}

impl Matrix {
    #[inline(always)]
    const fn new(elements: Operand, by_terms: bool, lines: usize, terms: usize) -> Self {
        let [of_line, of_term] = if by_terms { [terms, 1] } else { [1, lines] };
        Self { elements, of_line, of_term }
    }
}

impl Factors for Matrix {
    type Line = usize;

    const HAS_GAPS: bool = false;

    #[inline(always)]
    fn lie_by_terms(self) -> bool {
        self.of_term == 1
    }

    #[inline(always)]
    fn line(self, _: usize, line: usize) -> usize {
        self.of_line * line
    }

    #[inline(always)]
    fn place(self, line: usize, term: usize) -> Option<usize> {
        Some(line + self.of_term * term)
    }

    #[inline(always)]
    fn elements(self) -> Operand {
        self.elements
    }
}

/// Multiplies, and narrows as the epilogue says.
///
/// # Safety
///
/// Both operands have the elements of their shape, and nobody writes them during the launch; results and epilogue are as
/// [`apply`](crate::apply::apply) asks for.  The block has [`THREADS`].
pub unsafe fn multiply<B: Block, F: Element>(
    block: &mut B,
    of: &Multiplication,
    [a, b]: [Operand; 2],
    to: Out<'_, F>,
    epilogue: &Epilogue,
) {
    let &Multiplication { rows, inner, columns, transposes_a, transposes_b, bias } = of;
    let sums = Sums {
        left: Matrix::new(a, !transposes_a, rows, inner),
        right: Matrix::new(b, transposes_b, columns, inner),
        bias,
        extents: of.extents(),
        strides: [0, columns],
    };
    // SAFETY: the caller's promise.
    unsafe { tiles::sum(block, &sums, to, epilogue) }
}
