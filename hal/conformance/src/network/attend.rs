//! `attend` and its gradient: every probability worked out anew, in f64.

use adaloss_core::format::Element;

use crate::{
    Case, Failure,
    bench::{Bench, Ending, pattern},
    near::Near,
    tensor::Tensor,
    values,
};
use adaloss_hal::{
    ErrorKind, Memory, Plain,
    network::{Attend, AttendInput, Attention, HasAttend},
};

/// A single element, odd sizes, several heads, and more features and tokens than a tile has.
const SHAPES: [Attention; 9] = [
    shape(1, 1, 1, 1),
    shape(2, 3, 1, 4),
    shape(1, 7, 2, 5),
    shape(2, 9, 3, 8),
    shape(1, 16, 1, 16),
    shape(1, 3, 2, 70),
    shape(1, 68, 1, 2),
    shape(0, 4, 2, 3),
    shape(2, 0, 2, 3),
];

const fn shape(batch: usize, tokens: usize, heads: usize, width: usize) -> Attention {
    Attention { batch, tokens, heads, width }
}

/// What the input is.
#[derive(Clone, Copy)]
enum Kind {
    /// Numbers below 2, whose probabilities are all seen.
    Small,
    /// Numbers whose scores have no exponential in f32.
    Large,
    /// Small ones, and a NaN in a query, a key and a value of their own tokens.
    NonFinite,
    /// Small integers, and queries of zero: every token attends to all it sees alike.
    Uniform,
}

pub(super) fn check<W, G, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasAttend<W, G>,
{
    for (stream, shape) in (0..).zip(SHAPES) {
        Layer { shape, kind: Kind::Small, stream }.check::<W, G, D>(bench)?;
    }
    Layer { shape: shape(2, 6, 2, 4), kind: Kind::Large, stream: 0 }.check::<W, G, D>(bench)?;
    Layer { shape: shape(1, 6, 2, 4), kind: Kind::NonFinite, stream: 0 }.check::<W, G, D>(bench)?;
    for stream in 0..10 {
        // One token, or two: probabilities of 1 and of a half.
        let shape = shape(3, 1 + stream as usize % 2, 2, 4);
        Layer { shape, kind: Kind::Uniform, stream }.check::<W, G, D>(bench)?;
    }
    check_refusals::<W, G, D>(bench)
}

/// The parts of the input.
const QUERIES: usize = 0;
const KEYS: usize = 1;
const VALUES: usize = 2;

/// An attention of known values.
#[derive(Clone, Copy)]
struct Layer {
    shape: Attention,
    kind: Kind,
    stream: u32,
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head {
    layer: Layer,
    sequence: usize,
    head: usize,
}

/// What turns the scores of a query into probabilities, and their gradients into those of scores.
struct Row {
    max: Near,
    total: Near,
    mean: Near,
}

impl Layer {
    fn input<W: Element>(self, index: usize) -> W {
        let Attention { tokens, heads, width, .. } = self.shape;
        let part = index / (width * heads) % 3;
        let token = index / (width * heads * 3) % tokens;
        let feature = index % (width * heads);
        match self.kind {
            Kind::NonFinite if token == 1 + part && feature == 5 => {
                W::from_bits(W::ENCODING.nan_bits())
            }
            Kind::Small | Kind::NonFinite => values::between(self.stream, index, -3, 0),
            Kind::Large => values::between(self.stream, index, 3, 6),
            Kind::Uniform if part == QUERIES => W::from_bits(0),
            Kind::Uniform => values::integer(self.stream, index),
        }
    }

    fn gradient<G: Element>(self, index: usize) -> G {
        match self.kind {
            Kind::Uniform => values::integer(self.stream + 1000, index),
            _ => values::moderate(self.stream + 1000, index),
        }
    }

    /// Returns an element of the output.
    fn forward<W: Element>(self, index: usize) -> Near {
        let Attention { tokens, heads, width, .. } = self.shape;
        let (feature, head, token) =
            (index % width, index / width % heads, index / (width * heads) % tokens);
        let head = Head { layer: self, sequence: index / (width * heads * tokens), head };
        let row = head.row::<W>(token);
        let value = |key| Near::exact(head.input::<W>(VALUES, key, feature));
        Near::sum((0..=token).map(|key| head.probability::<W>(&row, token, key) * value(key)))
    }

    /// Returns an element of the input's gradient.
    fn back<W: Element, G: Element>(self, index: usize) -> Near {
        let Attention { tokens, heads, width, .. } = self.shape;
        let (feature, head) = (index % width, index / width % heads);
        let (part, token) = (index / (width * heads) % 3, index / (width * heads * 3) % tokens);
        let head = Head { layer: self, sequence: index / (width * heads * 3 * tokens), head };
        let of = |part, token| Near::exact(head.input::<W>(part, token, feature));
        let later = token..tokens;
        match part {
            QUERIES => {
                let row = head.row_back::<W, G>(token);
                let slope = |key| head.slope::<W, G>(&row, token, key);
                Near::sum((0..=token).map(|key| slope(key) * of(KEYS, key)))
            }
            KEYS => Near::sum(later.map(|query| {
                let row = head.row_back::<W, G>(query);
                head.slope::<W, G>(&row, query, token) * of(QUERIES, query)
            })),
            _ => Near::sum(later.map(|query| {
                let gradient = Near::exact(head.gradient::<G>(query, feature));
                head.probability::<W>(&head.row::<W>(query), query, token) * gradient
            })),
        }
    }

    fn check<W, G, D>(self, bench: &mut Bench<'_, D>) -> Result<(), Failure>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Memory + HasAttend<W, G>,
    {
        let Self { shape, kind, stream } = self;
        let [of_input, of_output] = shape.lengths();
        let case = Case::new("attend", of_output).of(shape);
        let input = Tensor::<D, W>::filled(case, bench.device, of_input, |i| self.input(i))?;
        let input = input.view(case)?;
        let mut to = Tensor::<D, W>::filled(case, bench.device, of_output, pattern)?;
        let forward: &Ending<'_, D, W> =
            &|device, to, epilogue| device.run(Attend { attention: shape, input, to, epilogue });
        let exact = |near: Near| near.value as f32;
        match kind {
            Kind::Uniform => bench.exactly(case, stream, &mut to, forward, &|index| {
                exact(self.forward::<W>(index))
            })?,
            _ => bench.within(case, stream, &mut to, forward, &|i| self.forward::<W>(i))?,
        }

        let case = Case::new("attend_input", of_input).of(shape);
        let gradient = |index| self.gradient::<G>(index);
        let gradient = Tensor::<D, G>::filled(case, bench.device, of_output, gradient)?;
        let gradient = gradient.view(case)?;
        let mut to = Tensor::<D, G>::filled(case, bench.device, of_input, pattern)?;
        let back: &Ending<'_, D, G> = &|device, to, epilogue| {
            device.run(AttendInput { attention: shape, gradient, input, to, epilogue })
        };
        match kind {
            Kind::Uniform => {
                bench.exactly(case, stream, &mut to, back, &|index| exact(self.back::<W, G>(index)))
            }
            _ => bench.within(case, stream, &mut to, back, &|i| self.back::<W, G>(i)),
        }
    }
}

impl Head {
    fn input<W: Element>(self, part: usize, token: usize, feature: usize) -> f32 {
        let Attention { tokens, heads, width, .. } = self.layer.shape;
        let vector = ((self.sequence * tokens + token) * 3 + part) * heads + self.head;
        self.layer.input::<W>(vector * width + feature).widen()
    }

    fn gradient<G: Element>(self, token: usize, feature: usize) -> f32 {
        let Attention { tokens, heads, width, .. } = self.layer.shape;
        let vector = (self.sequence * tokens + token) * heads + self.head;
        self.layer.gradient::<G>(vector * width + feature).widen()
    }

    fn dot(self, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> Near {
        let width = self.layer.shape.width;
        Near::sum((0..width).map(|i| Near::exact(f64::from(a(i)) * f64::from(b(i)))))
    }

    fn root(self) -> Near {
        Near::exact(self.layer.shape.width as f64).sqrt()
    }

    fn score<W: Element>(self, query: usize, key: usize) -> Near {
        let (queries, keys) =
            (|i| self.input::<W>(QUERIES, query, i), |i| self.input::<W>(KEYS, key, i));
        self.dot(queries, keys) / self.root()
    }

    fn row<W: Element>(self, query: usize) -> Row {
        let scores = || (0..=query).map(|key| self.score::<W>(query, key));
        let max = scores().reduce(|max, x| if x.value > max.value { x } else { max });
        let max = max.unwrap_or(Near::exact(0.0));
        let total = Near::sum(scores().map(|score| (score - max).exp()));
        Row { max, total, mean: Near::exact(0.0) }
    }

    fn probability<W: Element>(self, row: &Row, query: usize, key: usize) -> Near {
        (self.score::<W>(query, key) - row.max).exp() / row.total
    }

    /// Returns the gradient of a probability.
    fn of_probability<W: Element, G: Element>(self, query: usize, key: usize) -> Near {
        self.dot(|i| self.gradient::<G>(query, i), |i| self.input::<W>(VALUES, key, i))
    }

    fn row_back<W: Element, G: Element>(self, query: usize) -> Row {
        let row = self.row::<W>(query);
        let terms = (0..=query).map(|key| {
            self.probability::<W>(&row, query, key) * self.of_probability::<W, G>(query, key)
        });
        Row { mean: Near::sum(terms), ..row }
    }

    /// Returns the gradient of `query . key`.
    fn slope<W: Element, G: Element>(self, row: &Row, query: usize, key: usize) -> Near {
        let above = self.of_probability::<W, G>(query, key) - row.mean;
        self.probability::<W>(row, query, key) * above / self.root()
    }
}

/// Operands that do not have their shape, and wrong epilogues.
fn check_refusals<W, G, D>(bench: &mut Bench<'_, D>) -> Result<(), Failure>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Memory + HasAttend<W, G>,
{
    let typical = shape(2, 3, 2, 4);
    let [of_input, of_output] = typical.lengths();
    let capabilities = bench.report.capabilities;
    let case = Case::new("attend refused", of_output).of(typical);
    let to_w = Case { narrowing: Some(values::plain(W::ENCODING, capabilities)), ..case };
    let to_g = Case { narrowing: Some(values::plain(G::ENCODING, capabilities)), ..case };
    let input = Tensor::<D, W>::filled(case, bench.device, of_input, |_| W::from_bits(0))?;
    let gradient = Tensor::<D, G>::filled(case, bench.device, of_output, |_| G::from_bits(0))?;
    let (input, gradient) = (input.view(case)?, gradient.view(case)?);
    let mut forward = Tensor::<D, W>::filled(case, bench.device, of_output, pattern)?;
    let mut back = Tensor::<D, G>::filled(case, bench.device, of_input, pattern)?;
    for attention in [shape(1 << (usize::BITS - 1), 3, 2, 4), shape(2, 3, 4, 4)] {
        bench.refuses(to_w, ErrorKind::Shape, &mut forward, &|device, to, epilogue| {
            device.run(Attend { attention, input, to, epilogue })
        })?;
        bench.refuses(to_g, ErrorKind::Shape, &mut back, &|device, to, epilogue| {
            device.run(AttendInput { attention, gradient, input, to, epilogue })
        })?;
    }
    let attention = typical;
    bench.refuses_mutated(to_w, &mut forward, &|device, to, epilogue, mutation| {
        device.run(mutation.apply(Attend { attention, input, to, epilogue }))
    })?;
    bench.refuses_mutated(to_g, &mut back, &|device, to, epilogue, mutation| {
        device.run(mutation.apply(AttendInput { attention, gradient, input, to, epilogue }))
    })
}
