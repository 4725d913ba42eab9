//! `embed`, which copies rows, and the sums of its gradient.

use adaloss_core::format::Element;

use crate::{
    Case, Failure, Shape,
    bench::{Bench, pattern},
    near::Near,
    results::Expected,
    tensor::Tensor,
    values::{self, Kind},
};
use adaloss_hal::{
    AddressSpace, Memory, Plain,
    network::{Embed, EmbedTable, HasEmbed},
};

/// Tokens, vocabulary and width.
const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [5, 3, 7],
    [64, 10, 16],
    [33, 65, 3],
    [257, 2, 5],
    [3, 4, 129],
    [0, 4, 3],
    [4, 0, 3],
    [7, 100, 1],
];

pub(super) fn check<W, G, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasEmbed<W, G>,
{
    for (stream, [tokens, vocabulary, width]) in (0..).zip(SHAPES) {
        let table = Table { tokens, vocabulary, width, stream };
        table.check_rows::<W, G, D>(bench)?;
        table.check_sums::<W, G, D>(bench, Kind::Integers)?;
        table.check_sums::<W, G, D>(bench, Kind::NonFinite)?;
        table.check_sums::<W, G, D>(bench, Kind::Reals)?;
    }
    check_refusals::<W, G, D>(bench)
}

#[derive(Clone, Copy)]
struct Table {
    tokens: usize,
    vocabulary: usize,
    width: usize,
    stream: u32,
}

impl Table {
    /// Returns a token; now and then one beyond the vocabulary, by one or by far.
    fn token(self, index: usize) -> u32 {
        let word = values::word(self.stream + 50, index);
        match word >> 24 & 7 {
            0 => self.vocabulary as u32,
            1 => u32::MAX,
            _ => word % (self.vocabulary as u32 + 1),
        }
    }

    fn check_rows<W, G, D>(self, bench: &mut Bench<'_, D>) -> Result<(), Failure>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Memory + HasEmbed<W, G>,
    {
        let Self { tokens, vocabulary, width, stream } = self;
        let rows = Shape::rows(vocabulary, width);
        let case = Case::new("embed", tokens * width).of(rows);
        let value = |index| Kind::NonFinite.left::<W>(stream, index);
        let named = Tensor::<D, u32>::filled(case, bench.device, tokens, |i| self.token(i))?;
        let table = Tensor::<D, W>::filled(case, bench.device, vocabulary * width, value)?;
        let mut to = Tensor::<D, W>::filled(case, bench.device, tokens * width, pattern)?;
        let (named, known) = (named.view(case)?, table.view(case)?);
        bench.writes(
            case,
            &mut to,
            &pattern,
            |device, to| device.run(Embed { width, tokens: named, table: known, to }),
            &|index| {
                let token = self.token(index / width) as usize;
                let is_known = token < vocabulary;
                let element = || value(token * width + index % width).to_bits();
                Expected::Bits(if is_known { element() } else { 0 })
            },
        )
    }

    fn check_sums<W, G, D>(self, bench: &mut Bench<'_, D>, kind: Kind) -> Result<(), Failure>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Memory + HasEmbed<W, G>,
    {
        let Self { tokens, vocabulary, width, stream } = self;
        let rows = Shape::rows(vocabulary, width);
        let case = Case::new("embed_table", vocabulary * width).of(rows);
        let value = |index| kind.left::<G>(stream, index).widen();
        let named = Tensor::<D, u32>::filled(case, bench.device, tokens, |i| self.token(i))?;
        let gradient = |index| kind.left::<G>(stream, index);
        let gradient = Tensor::<D, G>::filled(case, bench.device, tokens * width, gradient)?;
        let mut to = Tensor::<D, f32>::filled(case, bench.device, vocabulary * width, pattern)?;
        let (named, gradient) = (named.view(case)?, gradient.view(case)?);
        let is_exact = bench.report.capabilities.sequential_sums || !matches!(kind, Kind::Reals);
        bench.writes(
            case,
            &mut to,
            &pattern,
            |device, to| device.run(EmbedTable { width, tokens: named, gradient, to }),
            &|index| {
                let (row, column) = (index / width, index % width);
                let terms = (0..tokens)
                    .filter(|&nth| self.token(nth) as usize == row)
                    .map(|nth| value(nth * width + column));
                if is_exact {
                    Expected::Number(terms.fold(0.0, |sum, x| sum + x))
                } else {
                    Expected::Near(Near::sum(terms.map(Near::exact)))
                }
            },
        )
    }
}

/// Tokens, tables and widths that do not fit.
fn check_refusals<W, G, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasEmbed<W, G>,
{
    let case = Case::new("embed refused", 12);
    let tokens = Tensor::<D, u32>::filled(case, bench.device, 4, |_| 1)?;
    let table = Tensor::<D, W>::filled(case, bench.device, 15, |_| W::from_bits(0))?;
    let mut rows = Tensor::<D, W>::filled(case, bench.device, 12, pattern)?;
    let gradient = Tensor::<D, G>::filled(case, bench.device, 12, |_| G::from_bits(0))?;
    let (tokens, gradient) = (tokens.view(case)?, gradient.view(case)?);
    // The width, and the elements of the table.
    for [width, elements] in [[0, 15], [3, 14], [2, 14], [4, 15], [usize::MAX, 15]] {
        let table = case.finds(D::Space::part(table.view(case)?, 0..elements))?;
        bench.refuses_write(case, &mut rows, |device, to| {
            device.run(Embed { width, tokens, table, to })
        })?;
        let mut sums = Tensor::<D, f32>::filled(case, bench.device, elements, pattern)?;
        bench.refuses_write(case, &mut sums, |device, to| {
            device.run(EmbedTable { width, tokens, gradient, to })
        })?;
    }
    let table = table.view(case)?;
    bench.refuses_mutated_writes(case, &mut rows, &mut |device, to, mutation| {
        device.run(mutation.apply(Embed { width: 3, tokens, table, to }))
    })?;
    let mut sums = Tensor::<D, f32>::filled(case, bench.device, 15, pattern)?;
    bench.refuses_mutated_writes(case, &mut sums, &mut |device, to, mutation| {
        device.run(mutation.apply(EmbedTable { width: 3, tokens, gradient, to }))
    })
}
