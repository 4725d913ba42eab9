//! The lengths that each operation needs, as numbers: the check in front of a device and the suite both take them from the
//! operation itself, so that neither would find a mistake in them.

#![forbid(unsafe_code)]

use adaloss_core::{
    format::{Format, Narrowing, Noise, f16},
    policy::{Cell, Config, Fraction},
    scaler::{
        Purpose,
        device::{Asked, DeviceState, Line, Opening},
    },
    statistics::{Histogram, Outcome, Statistics},
    unscale::{Place, Unscaled},
};
use adaloss_hal::{
    Branch, Epilogue, HostError, HostSpace, Matmul, Misfit, MisfitCause, Narrow, OperationKind,
    Plain, Product, Propagate, Run, Summarise, Unscale,
    network::{
        Accumulate, AdamW, AdamWStep, Attend, AttendInput, Attention, AveragePool,
        AveragePoolInput, Axis, Blend, Convolution, Convolve, ConvolveInput, ConvolveWeight,
        Dropout, Embed, EmbedTable, LossSum, Mask, MaxPool, MaxPoolInput, Moments, Normalisation,
        Normalise, NormaliseInput, NormaliseSums, Pick, Pooling, Relu, ReluInput, Sgd, SgdStep,
        SoftmaxCrossEntropy, SquareNorm, Unpool,
    },
    portable::Portable,
    scaler::{
        Advance, Close, Conclude, Describe, Described, DeviceScaler, Ended, Ending, Evidence, Judge,
    },
};

type Done = Result<(), HostError>;

/// Runs an operation on operands that fit, and on each of them with an element fewer and one more.
#[track_caller]
fn needs<const N: usize>(
    operation: OperationKind,
    operands: [(&'static str, usize); N],
    run: impl Fn([usize; N]) -> Done,
) {
    let right = operands.map(|(_, elements)| elements);
    assert_eq!(run(right), Ok(()));
    for (nth, (operand, expected)) in operands.into_iter().enumerate() {
        for found in [expected - 1, expected + 1] {
            let mut lengths = right;
            lengths[nth] = found;
            let cause = MisfitCause::Length { operand, expected, found };
            assert_eq!(run(lengths), refusal(operation, cause), "{operand}");
        }
    }
}

fn refusal(operation: OperationKind, cause: MisfitCause) -> Done {
    Err(HostError::Misfit(Misfit { operation, cause }))
}

fn zeros<T: Plain>(elements: usize) -> Vec<T> {
    vec![T::zeroed(); elements]
}

/// Cells and counters of an epilogue that narrows to f32.
struct EpilogueOperands {
    cells: [Vec<Cell>; 2],
    when: Vec<u32>,
    outcome: Vec<Outcome>,
    histogram: Vec<Histogram>,
}

impl EpilogueOperands {
    fn new() -> Self {
        Self::of([1; 5])
    }

    fn of([from, to, when, outcome, histogram]: [usize; 5]) -> Self {
        Self {
            cells: [from, to].map(|elements| vec![Cell::new(); elements]),
            when: vec![1; when],
            outcome: vec![Outcome::EMPTY; outcome],
            histogram: vec![Histogram::new(Narrowing::to(Format::BINARY32)); histogram],
        }
    }

    fn epilogue(&mut self) -> Epilogue<'_, HostSpace> {
        Epilogue {
            from: &self.cells[0],
            to: &self.cells[1],
            narrowing: Narrowing::to(Format::BINARY32),
            noise: Noise::default(),
            stores: true,
            when: Some(&self.when),
            outcome: &mut self.outcome,
            histogram: Some(&mut self.histogram),
        }
    }
}

#[test]
fn a_product() {
    let operands =
        [("the left operand", 6), ("the right operand", 12), ("the bias", 4), ("the result", 8)];
    needs(OperationKind::Matmul, operands, |[a, b, bias, to]| {
        Portable.run(Matmul {
            product: Product::new(2, 3, 4),
            a: &zeros::<f32>(a)[..],
            b: &zeros::<f32>(b)[..],
            bias: Some(&zeros::<f32>(bias)[..]),
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    });
}

#[test]
fn dropout_and_the_parts_of_an_epilogue() {
    let mask = Mask { share: Fraction::PER_MILLE, noise: Noise::default() };
    let operands = [
        ("the result", 3),
        ("the cell that results come from", 1),
        ("the cell that results go to", 1),
        ("the predicate", 1),
        ("the outcome", 1),
        ("the histogram", 1),
    ];
    needs(
        OperationKind::Dropout,
        operands,
        |[to, from_cell, to_cell, when, outcome, histogram]| {
            Portable.run(Dropout {
                mask,
                input: &zeros::<f32>(3)[..],
                to: &mut zeros::<f32>(to)[..],
                epilogue: EpilogueOperands::of([from_cell, to_cell, when, outcome, histogram])
                    .epilogue(),
            })
        },
    );
}

#[test]
fn convolutions() {
    let convolution = Convolution::new(2, [4, 5], 3, 7, [3, 2]);
    // 2 x 4 x 5 x 3, 7 x 3 x 2 x 3 and 2 x 2 x 4 x 7.
    let (images, weights, outputs) = (120, 126, 112);
    let run = |convolution, [input, weight, bias, to]: [usize; 4]| {
        Portable.run(Convolve {
            convolution,
            input: &zeros::<f32>(input)[..],
            weight: &zeros::<f32>(weight)[..],
            bias: Some(&zeros::<f32>(bias)[..]),
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    };
    let operands =
        [("the input", images), ("the weight", weights), ("the bias", 7), ("the output", outputs)];
    needs(OperationKind::Convolve, operands, |lengths| run(convolution, lengths));
    let impossible = [
        convolution.groups(2),
        convolution.stride([0, 1]),
        convolution.dilation([0, 1]),
        convolution.dilation([1, 5]),
        convolution.dilation([usize::MAX, 1]),
    ];
    for impossible in impossible {
        let found = run(impossible, [images, weights, 7, outputs]);
        assert_eq!(found, refusal(OperationKind::Convolve, MisfitCause::Shape));
    }
    let operands =
        [("the gradient", outputs), ("the weight", weights), ("the gradient of the input", images)];
    needs(OperationKind::ConvolveInput, operands, |[gradient, weight, to]| {
        Portable.run(ConvolveInput {
            convolution,
            gradient: &zeros::<f32>(gradient)[..],
            weight: &zeros::<f32>(weight)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    });
    let operands =
        [("the gradient", outputs), ("the input", images), ("the gradient of the weight", weights)];
    needs(OperationKind::ConvolveWeight, operands, |[gradient, input, to]| {
        Portable.run(ConvolveWeight {
            convolution,
            gradient: &zeros::<f32>(gradient)[..],
            input: &zeros::<f32>(input)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    });
}

#[test]
fn normalisations() {
    for (axis, moments) in [(Axis::Rows, 6), (Axis::Columns, 10)] {
        let normalisation =
            Normalisation { rows: 5, columns: 3, axis, centred: true, epsilon: 1.0 };
        let operands = [("the input", 15), ("the moments", moments)];
        needs(OperationKind::Moments, operands, |[input, to]| {
            let (input, to) = (&zeros::<f32>(input)[..], &mut zeros::<f32>(to)[..]);
            Portable.run(Moments { normalisation, input, to })
        });
        let [input, moments] = operands;
        let (affine, output) = (("the gains and offsets", 6), ("the output", 15));
        let operands = [input, moments, affine, output];
        needs(OperationKind::Normalise, operands, |[input, moments, affine, to]| {
            Portable.run(Normalise {
                normalisation,
                input: &zeros::<f32>(input)[..],
                moments: &zeros::<f32>(moments)[..],
                affine: &zeros::<f32>(affine)[..],
                to: &mut zeros::<f32>(to)[..],
                epilogue: EpilogueOperands::new().epilogue(),
            })
        });
        let (gradient, sums) = (("the gradient", 15), ("the gradients of gains and offsets", 6));
        let operands = [gradient, input, moments, sums];
        needs(OperationKind::NormaliseSums, operands, |[gradient, input, moments, to]| {
            Portable.run(NormaliseSums {
                normalisation,
                gradient: &zeros::<f32>(gradient)[..],
                input: &zeros::<f32>(input)[..],
                moments: &zeros::<f32>(moments)[..],
                to: &mut zeros::<f32>(to)[..],
            })
        });
        let (sums, to) = (("the sums", 6), ("the gradient of the input", 15));
        let operands = [gradient, input, moments, affine, sums, to];
        needs(
            OperationKind::NormaliseInput,
            operands,
            |[gradient, input, moments, affine, sums, to]| {
                Portable.run(NormaliseInput {
                    normalisation,
                    gradient: &zeros::<f32>(gradient)[..],
                    input: &zeros::<f32>(input)[..],
                    moments: &zeros::<f32>(moments)[..],
                    affine: &zeros::<f32>(affine)[..],
                    sums: &zeros::<f32>(sums)[..],
                    to: &mut zeros::<f32>(to)[..],
                    epilogue: EpilogueOperands::new().epilogue(),
                })
            },
        );
    }
}

#[test]
fn poolings_that_move() {
    let pooling = Pooling::new(2, [4, 6], 3, [2, 3]);
    // 2 x 4 x 6 x 3 and 2 x 2 x 2 x 3.
    let (images, outputs) = (144, 24);
    let operands = [("the input", images), ("the output", outputs), ("the indices", outputs)];
    needs(OperationKind::MaxPool, operands, |[input, to, indices]| {
        Portable.run(MaxPool {
            pooling,
            input: &zeros::<f32>(input)[..],
            to: &mut zeros::<f32>(to)[..],
            indices: &mut zeros::<u32>(indices)[..],
        })
    });
    let unpool = |pooling, [input, indices, to]: [usize; 3]| {
        Portable.run(Unpool {
            pooling,
            input: &zeros::<f32>(input)[..],
            indices: &zeros::<u32>(indices)[..],
            to: &mut zeros::<f32>(to)[..],
        })
    };
    let operands = [("the input", outputs), ("the indices", outputs), ("the result", images)];
    needs(OperationKind::Unpool, operands, |lengths| unpool(pooling, lengths));
    let found = unpool(Pooling::new(1, [3, 3], 1, [2, 2]).stride([1, 1]), [4, 4, 9]);
    let cause = MisfitCause::Missing("windows that do not overlap");
    assert_eq!(found, refusal(OperationKind::Unpool, cause));
    let operands = [("the input", images), ("the indices", outputs), ("the result", outputs)];
    needs(OperationKind::Pick, operands, |[input, indices, to]| {
        Portable.run(Pick {
            pooling,
            input: &zeros::<f32>(input)[..],
            indices: &zeros::<u32>(indices)[..],
            to: &mut zeros::<f32>(to)[..],
        })
    });
}

#[test]
fn poolings_that_sum() {
    let pooling = Pooling::new(2, [4, 6], 3, [2, 3]);
    let (images, outputs) = (144, 24);
    let average = |pooling, [input, to]: [usize; 2]| {
        Portable.run(AveragePool {
            pooling,
            input: &zeros::<f32>(input)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    };
    let operands = [("the input", images), ("the output", outputs)];
    needs(OperationKind::AveragePool, operands, |lengths| average(pooling, lengths));
    let found = average(Pooling::new(1, [2, 2], 1, [3, 3]), [4, 1]);
    assert_eq!(found, refusal(OperationKind::AveragePool, MisfitCause::Shape));
    let operands = [("the gradient", outputs), ("the gradient of the input", images)];
    needs(OperationKind::AveragePoolInput, operands, |[gradient, to]| {
        Portable.run(AveragePoolInput {
            pooling,
            gradient: &zeros::<f32>(gradient)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    });
    let [gradient, to] = operands;
    let operands = [gradient, ("the indices", outputs), to];
    needs(OperationKind::MaxPoolInput, operands, |[gradient, indices, to]| {
        Portable.run(MaxPoolInput {
            pooling,
            gradient: &zeros::<f32>(gradient)[..],
            indices: &zeros::<u32>(indices)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    });
}

#[test]
fn attentions() {
    let attention = Attention { batch: 2, tokens: 3, heads: 2, width: 5 };
    let (inputs, outputs) = (180, 60);
    let operands = [("the input", inputs), ("the output", outputs)];
    needs(OperationKind::Attend, operands, |[input, to]| {
        Portable.run(Attend {
            attention,
            input: &zeros::<f32>(input)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    });
    let operands =
        [("the gradient", outputs), ("the input", inputs), ("the gradient of the input", inputs)];
    needs(OperationKind::AttendInput, operands, |[gradient, input, to]| {
        Portable.run(AttendInput {
            attention,
            gradient: &zeros::<f32>(gradient)[..],
            input: &zeros::<f32>(input)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    });
}

#[test]
fn rectifiers_and_sums() {
    needs(OperationKind::ReluInput, [("the gradient", 3)], |[gradient]| {
        let (output, gradient) = (&zeros::<f32>(3)[..], &mut zeros::<f32>(gradient)[..]);
        Portable.run(ReluInput { output, gradient })
    });
    needs(OperationKind::Blend, [("the mean", 3), ("the predicate", 1)], |[to, when]| {
        let (input, to) = (&zeros::<f32>(3)[..], &mut zeros::<f32>(to)[..]);
        Portable.run(Blend { share: 0.5, input, to, when: Some(&zeros::<u32>(when)[..]) })
    });
    for (columns, elements, fits) in
        [(3, 6, true), (3, 0, true), (0, 0, true), (3, 7, false), (6, 3, false), (0, 3, false)]
    {
        let (input, to) = (&zeros::<f32>(columns)[..], &mut zeros::<f32>(elements)[..]);
        let cause = MisfitCause::Missing("rows as long as what is added");
        let refused = refusal(OperationKind::Accumulate, cause);
        let found = Portable.run(Accumulate { input, to });
        assert_eq!(found, if fits { Ok(()) } else { refused });
    }
}

#[test]
fn embeddings() {
    let embed = |width, table, to| {
        let (tokens, table, to) =
            (&zeros::<u32>(4)[..], &zeros::<f32>(table)[..], &mut zeros::<f32>(to)[..]);
        Portable.run(Embed { width, tokens, table, to })
    };
    let sums = |width, gradient, to| {
        let (tokens, gradient, to) =
            (&zeros::<u32>(4)[..], &zeros::<f32>(gradient)[..], &mut zeros::<f32>(to)[..]);
        Portable.run(EmbedTable { width, tokens, gradient, to })
    };
    needs(OperationKind::Embed, [("the rows", 12)], |[to]| embed(3, 15, to));
    needs(OperationKind::EmbedTable, [("the gradient", 12)], |[rows]| sums(3, rows, 15));
    let cause = MisfitCause::Missing("a table of whole rows");
    for (width, table) in [(0, 15), (3, 14), (3, 16)] {
        assert_eq!(embed(width, table, 12), refusal(OperationKind::Embed, cause));
        assert_eq!(sums(width, 12, table), refusal(OperationKind::EmbedTable, cause));
    }
}

#[test]
fn losses() {
    let loss = |classes, [logits, weights, gradient, sum]: [usize; 4]| {
        Portable.run(SoftmaxCrossEntropy {
            classes,
            logits: &zeros::<f32>(logits)[..],
            labels: &zeros::<u32>(4)[..],
            weights: Some(&zeros::<f32>(weights)[..]),
            gradient: &mut zeros::<f32>(gradient)[..],
            sum: &mut zeros::<LossSum>(sum)[..],
        })
    };
    let operands = [
        ("the logits", 12),
        ("the weights of the classes", 3),
        ("the gradient", 12),
        ("the sum", 1),
    ];
    needs(OperationKind::SoftmaxCrossEntropy, operands, |lengths| loss(3, lengths));
    let refused = refusal(OperationKind::SoftmaxCrossEntropy, MisfitCause::Missing("a class"));
    assert_eq!(loss(0, [0, 0, 0, 1]), refused);
}

#[test]
fn updates() {
    needs(OperationKind::SquareNorm, [("the sum of the squares", 1)], |[to]| {
        let (gradient, to) = (&zeros::<f32>(3)[..], &mut zeros::<f64>(to)[..]);
        Portable.run(SquareNorm { gradient, to })
    });
    let [gradient, square_norm] = [("the gradient", 9), ("the sum of the squares", 1)];
    let sgd = Sgd { learning_rate: 0.1, momentum: 0.5, weight_decay: 0.0, max_norm: None };
    let [momentum, when] = [("the momentum", 9), ("the predicate", 1)];
    let operands = [gradient, square_norm, momentum, when];
    needs(OperationKind::Sgd, operands, |[gradient, square_norm, momentum, when]| {
        Portable.run(SgdStep {
            sgd,
            gradient: &zeros::<f32>(gradient)[..],
            square_norm: &zeros::<f64>(square_norm)[..],
            weight: &mut zeros::<f32>(9)[..],
            momentum: &mut zeros::<f32>(momentum)[..],
            when: Some(&zeros::<u32>(when)[..]),
        })
    });
    let adamw = AdamW {
        learning_rate: 0.1,
        betas: [0.5; 2],
        epsilon: 1.0,
        weight_decay: 0.0,
        max_norm: None,
    };
    let [update, moments] = [("the number of the update", 1), ("the moments", 18)];
    let operands = [gradient, square_norm, update, moments, when];
    needs(OperationKind::AdamW, operands, |[gradient, square_norm, update, moments, when]| {
        Portable.run(AdamWStep {
            adamw,
            gradient: &zeros::<f32>(gradient)[..],
            square_norm: &zeros::<f64>(square_norm)[..],
            update: &zeros::<u32>(update)[..],
            weight: &mut zeros::<f32>(9)[..],
            moments: &mut zeros::<f32>(moments)[..],
            when: Some(&zeros::<u32>(when)[..]),
        })
    });
}

#[test]
fn narrowing_and_its_way_back() {
    let operands = [("the statistics", 1), ("the predicate", 1)];
    needs(OperationKind::Statistics, operands, |[to, when]| {
        let (input, to) = (&zeros::<f32>(3)[..], &mut zeros::<Statistics>(to)[..]);
        Portable.run(Summarise { input, to, when: Some(&zeros::<u32>(when)[..]) })
    });
    let operands = [
        ("the result", 3),
        ("the cell that results come from", 1),
        ("the cell that results go to", 1),
        ("the predicate", 1),
        ("the outcome", 1),
        ("the histogram", 1),
    ];
    needs(OperationKind::Apply, operands, |[to, from_cell, to_cell, when, outcome, histogram]| {
        Portable.run(Narrow {
            input: &zeros::<f32>(3)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::of([from_cell, to_cell, when, outcome, histogram])
                .epilogue(),
        })
    });
    let operands =
        [("the cell of the gradient", 1), ("the unscaled gradient", 3), ("the counts", 1)];
    needs(OperationKind::Unscale, operands, |[cell, to, counts]| {
        Portable.run(Unscale {
            gradient: &zeros::<f32>(3)[..],
            cell: &zeros::<Cell>(cell)[..],
            to: &mut zeros::<f32>(to)[..],
            counts: &mut zeros::<Unscaled>(counts)[..],
        })
    });
}

#[test]
fn joins() {
    let join = |lengths: &[[usize; 2]]| {
        let memory = lengths.iter().map(|&[of, cells]| (zeros::<f32>(of), zeros::<Cell>(cells)));
        let memory: Vec<_> = memory.collect();
        let branches: Vec<_> =
            memory.iter().map(|(of, cell)| Branch { gradient: &of[..], cell: &cell[..] }).collect();
        let (to, mut operands) = (&mut zeros::<f32>(3)[..], EpilogueOperands::new());
        Portable.run(Propagate { branches: &branches, to, epilogue: operands.epilogue() })
    };
    for place in 0..3 {
        for (operand, index, expected) in [("a branch", 0, 3), ("the cell of a branch", 1, 1)] {
            needs(OperationKind::Propagate, [(operand, expected)], |[found]| {
                let mut lengths = [[3, 1]; 3];
                lengths[place][index] = found;
                join(&lengths)
            });
        }
    }
    assert_eq!(join(&[[3, 1]]), Ok(()));
    assert_eq!(join(&[]), refusal(OperationKind::Propagate, MisfitCause::Missing("a branch")));
}

/// An epilogue is for the encoding of the elements.
#[test]
fn encodings() {
    let mut operands = EpilogueOperands::new();
    let (input, to) = (&[1.0][..], &mut [f16::ZERO][..]);
    let found = Portable.run(Narrow { input, to, epilogue: operands.epilogue() });
    let cause = MisfitCause::Encoding {
        asked: Format::BINARY32.encoding,
        given: Format::BINARY16.encoding,
    };
    assert_eq!(found, refusal(OperationKind::Apply, cause));
}

/// A scaler, and what its operations read and write.
struct ScalerOperands {
    config: Config,
    state: Vec<DeviceState>,
    cells: Vec<Cell>,
}

impl ScalerOperands {
    fn of(states: usize) -> Self {
        let config = Config::for_format(Format::BINARY16);
        // Any number of cells is legal.
        Self { config, state: vec![DeviceState::new(&config); states], cells: zeros(states + 1) }
    }

    fn scaler(&mut self) -> DeviceScaler<'_, '_, HostSpace> {
        let Self { config, state, cells } = self;
        DeviceScaler { config, state: &mut state[..], cells: &mut cells[..], nth: 1 }
    }
}

fn histograms(elements: usize) -> Vec<Histogram> {
    vec![Histogram::new(Narrowing::to(Format::BINARY16)); elements]
}

#[test]
fn the_passes_of_a_visit() {
    let operands = [
        ("a scale that values are computed from", 1),
        ("the state", 1),
        ("the line of a visit that ends", 1),
        ("the outcome", 1),
        ("the histogram", 1),
        ("the scale of what arrives", 1),
        ("the scale of what leaves", 1),
        ("the predicate", 1),
    ];
    let opening = Some(Opening { place: Place::Layer(0), elements: 2, stream: 0 });
    let lengths = |[source, state, line, outcome, histogram, from, to, when]: [usize; 8]| {
        let sources = [zeros::<Cell>(1), zeros::<Cell>(source)];
        Portable.run(Advance {
            ending: Some(ending(&mut zeros::<Line>(line)[..])),
            asked: Asked { opening, purpose: Some(Purpose::Measure) },
            sources: &[&sources[0][..], &sources[1][..]],
            scaler: ScalerOperands::of(state).scaler(),
            outcome: &mut zeros::<Outcome>(outcome)[..],
            histogram: &mut histograms(histogram)[..],
            from: &mut zeros::<Cell>(from)[..],
            to: &mut zeros::<Cell>(to)[..],
            when: &mut zeros::<u32>(when)[..],
        })
    };
    needs(OperationKind::Advance, operands, lengths);
    let operands = [
        ("the state", 1),
        ("the outcome", 1),
        ("the histogram", 1),
        ("the scale of the values", 1),
        ("the line", 1),
    ];
    needs(OperationKind::Close, operands, |[state, outcome, histogram, scale, line]| {
        Portable.run(Close {
            origins: &[Some(Place::Loss), None],
            scaler: ScalerOperands::of(state).scaler(),
            outcome: &mut zeros::<Outcome>(outcome)[..],
            histogram: &histograms(histogram)[..],
            scale: &mut zeros::<Cell>(scale)[..],
            serial: 1,
            line: &mut zeros::<Line>(line)[..],
        })
    });
}

fn describe<'a>(described: Described<'a, HostSpace>, scaler: &'a mut ScalerOperands) -> Done {
    Portable.run(Describe { described, scaler: scaler.scaler() })
}

#[test]
fn descriptions_of_operands() {
    let operands = [
        ("the statistics of the gradient", 1),
        ("the statistics of the weight", 1),
        ("the state", 1),
    ];
    needs(OperationKind::Describe, operands, |[gradient, weight, state]| {
        let (gradient, weight) = (zeros(gradient), zeros(weight));
        let (gradient, weight) = (&gradient[..], &weight[..]);
        let described = Described::Product { gradient, weight, fan_in: 3 };
        describe(described, &mut ScalerOperands::of(state))
    });
    let operands = [("the statistics of the gradient", 1), ("the state", 1)];
    needs(OperationKind::Describe, operands, |[gradient, state]| {
        let described = Described::Cast(&zeros::<Statistics>(gradient)[..]);
        describe(described, &mut ScalerOperands::of(state))
    });
}

/// Returns the end of a visit of a join.
fn ending(line: &mut [Line]) -> Ending<'_, HostSpace> {
    let origins = [Some(Place::Loss), None, Some(Place::Layer(1)), None];
    Ending { origins, serial: 1, line }
}

fn judge<'a>(
    evidence: Evidence<'a, 'a, HostSpace>,
    scaler: &'a mut ScalerOperands,
    other: &'a ScalerOperands,
) -> Done {
    let other = Some(&other.state[..]);
    let evidence = &mut [evidence];
    Portable.run(Judge { ended: None, evidence, scaler: scaler.scaler(), other })
}

#[test]
fn evidence_behind_a_visit() {
    let operands = [
        ("the state", 1),
        ("the state of the other scaler", 1),
        ("the line of a visit that ends", 1),
        ("the outcome of the visit", 1),
        ("the histogram", 1),
        ("the sum of the squares", 1),
    ];
    needs(OperationKind::Judge, operands, |[state, other, line, outcome, histogram, sum]| {
        let (histogram, sum) = (histograms(histogram), zeros::<f64>(sum));
        let squares = Evidence::Squares { id: 3, is_gradient: true, sum: &sum[..] };
        Portable.run(Judge {
            ended: Some(Ended {
                ending: ending(&mut zeros::<Line>(line)[..]),
                outcome: &mut zeros::<Outcome>(outcome)[..],
                histogram: &histogram[..],
            }),
            evidence: &mut [squares],
            scaler: ScalerOperands::of(state).scaler(),
            other: Some(&ScalerOperands::of(other).state[..]),
        })
    });
}

#[test]
fn evidence() {
    let of = ScalerOperands::of;
    let (id, origin, elements) = (3, Some(Place::Loss), 2);
    let [state, other] = [("the state", 1), ("the state of the other scaler", 1)];
    let kind = OperationKind::Judge;
    needs(kind, [state, other, ("the outcome", 1)], |[state, other, counted]| {
        let outcome = &mut zeros::<Outcome>(counted)[..];
        judge(Evidence::Gradient { id, origin, elements, outcome }, &mut of(state), &of(other))
    });
    needs(kind, [state, other, ("the counts", 1)], |[state, other, counted]| {
        let counts = &mut zeros::<Unscaled>(counted)[..];
        judge(Evidence::Unscaled { id, origin, elements, counts }, &mut of(state), &of(other))
    });
    needs(kind, [state, other, ("the sum of the squares", 1)], |[state, other, counted]| {
        let sum = &zeros::<f64>(counted)[..];
        judge(Evidence::Squares { id, is_gradient: true, sum }, &mut of(state), &of(other))
    });
    needs(kind, [state, other, ("the outcome", 1)], |[state, other, counted]| {
        let outcome = &zeros::<Outcome>(counted)[..];
        judge(
            Evidence::Weight { id, elements, saturates: true, outcome },
            &mut of(state),
            &of(other),
        )
    });
    needs(kind, [state, other, ("the sum of the squares", 1)], |[state, other, counted]| {
        judge(
            Evidence::WeightSquares { id, sum: &zeros::<f64>(counted)[..] },
            &mut of(state),
            &of(other),
        )
    });
    let operands = [state, other, ("the sum of the loss", 1), ("the line", 1)];
    needs(OperationKind::Judge, operands, |[state, other, sum, line]| {
        let (sum, line) = (&zeros::<LossSum>(sum)[..], &mut zeros::<Line>(line)[..]);
        judge(Evidence::Loss { rows: 2, sum, serial: 1, line }, &mut of(state), &of(other))
    });
}

#[test]
fn the_end_of_a_step() {
    let operands = [
        ("the state", 1),
        ("what the other scaler said", 1),
        ("whether the step applies", 1),
        ("the number of updates", 1),
        ("the sum of the squares", 1),
        ("the line", 1),
    ];
    needs(OperationKind::Conclude, operands, |[state, requires, applies, updates, sum, line]| {
        Portable.run(Conclude {
            scaler: ScalerOperands::of(state).scaler(),
            requires: Some(&zeros::<u32>(requires)[..]),
            applies: &mut zeros::<u32>(applies)[..],
            updates: &mut zeros::<u32>(updates)[..],
            square_norm: &mut zeros::<f64>(sum)[..],
            serial: 1,
            line: &mut zeros::<Line>(line)[..],
        })
    });
}

/// No operation is left out above, but for one that takes any number of elements.
#[test]
fn all_operations_are_here() {
    let copies = [OperationKind::Read, OperationKind::Write, OperationKind::Zeroed];
    let any_number = [OperationKind::Relu];
    let (above, _) = include_str!("operands.rs").split_once("fn all_operations").expect("itself");
    for kind in OperationKind::ALL {
        let is_here = above.contains(&format!("OperationKind::{kind:?},"));
        let is_exempt = copies.contains(&kind) || any_number.contains(&kind);
        assert_ne!(is_here, is_exempt, "{kind}");
    }
    for elements in [0, 1, 3] {
        assert_eq!(Portable.run(Relu { values: &mut zeros::<f32>(elements)[..] }), Ok(()));
    }
}
