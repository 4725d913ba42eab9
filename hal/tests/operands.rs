//! The lengths that each operation needs, as numbers: the check in front of a device and the suite both take them from the
//! operation itself, so that neither would find a mistake in them.

#![forbid(unsafe_code)]

use adaloss_core::{
    format::{Format, Narrowing, Noise, f16},
    policy::{Cell, Certificate, Config, Fraction},
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};
use adaloss_hal::{
    Branch, Certify, Epilogue, Finish, HostError, HostSpace, Matmul, Misfit, MisfitCause, Narrow,
    Note, OperationKind, Plain, Product, Propagate, Run, Summarise, Unscale,
    network::{
        Accumulate, AdamW, AdamWStep, Attend, AttendInput, Attention, AveragePool,
        AveragePoolInput, Axis, Blend, Convolution, Convolve, ConvolveInput, ConvolveWeight,
        Dropout, Embed, EmbedTable, LossSum, Mask, MaxPool, MaxPoolInput, Moments, Normalisation,
        Normalise, NormaliseInput, NormaliseSums, Pick, Pooling, Relu, ReluInput, Sgd, SgdStep,
        SoftmaxCrossEntropy, SquareNorm, Unpool,
    },
    portable::Portable,
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
    outcome: Vec<Outcome>,
    histogram: Vec<Histogram>,
}

impl EpilogueOperands {
    fn new() -> Self {
        Self::of([1; 4])
    }

    fn of([from, to, outcome, histogram]: [usize; 4]) -> Self {
        Self {
            cells: [from, to].map(|elements| vec![Cell::new(); elements]),
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
            outcome: &mut self.outcome,
            histogram: Some(&mut self.histogram),
        }
    }
}

#[test]
fn a_product() {
    let operands = [("the left operand", 6), ("the right operand", 12), ("the result", 8)];
    needs(OperationKind::Matmul, operands, |[a, b, to]| {
        Portable.run(Matmul {
            product: Product::new(2, 3, 4),
            a: &zeros::<f32>(a)[..],
            b: &zeros::<f32>(b)[..],
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
        ("the outcome", 1),
        ("the histogram", 1),
    ];
    needs(OperationKind::Dropout, operands, |[to, from_cell, to_cell, outcome, histogram]| {
        Portable.run(Dropout {
            mask,
            input: &zeros::<f32>(3)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::of([from_cell, to_cell, outcome, histogram]).epilogue(),
        })
    });
}

#[test]
fn convolutions() {
    let convolution = Convolution::new(2, [4, 5], 3, 7, [3, 2]);
    // 2 x 4 x 5 x 3, 7 x 3 x 2 x 3 and 2 x 2 x 4 x 7.
    let (images, weights, outputs) = (120, 126, 112);
    let run = |convolution, [input, weight, to]: [usize; 3]| {
        Portable.run(Convolve {
            convolution,
            input: &zeros::<f32>(input)[..],
            weight: &zeros::<f32>(weight)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::new().epilogue(),
        })
    };
    let operands = [("the input", images), ("the weight", weights), ("the output", outputs)];
    needs(OperationKind::Convolve, operands, |lengths| run(convolution, lengths));
    for impossible in [convolution.groups(2), convolution.stride([0, 1])] {
        let found = run(impossible, [images, weights, outputs]);
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
        let normalisation = Normalisation { rows: 5, columns: 3, axis, epsilon: 1.0 };
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
    needs(OperationKind::Blend, [("the mean", 3)], |[to]| {
        let (input, to) = (&zeros::<f32>(3)[..], &mut zeros::<f32>(to)[..]);
        Portable.run(Blend { share: 0.5, input, to })
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
    let operands = [gradient, square_norm, ("the momentum", 9)];
    needs(OperationKind::Sgd, operands, |[gradient, square_norm, momentum]| {
        Portable.run(SgdStep {
            sgd,
            gradient: &zeros::<f32>(gradient)[..],
            square_norm: &zeros::<f64>(square_norm)[..],
            weight: &mut zeros::<f32>(9)[..],
            momentum: &mut zeros::<f32>(momentum)[..],
        })
    });
    let adamw = AdamW {
        learning_rate: 0.1,
        betas: [0.5; 2],
        epsilon: 1.0,
        weight_decay: 0.0,
        step: 1,
        max_norm: None,
    };
    let operands = [gradient, square_norm, ("the moments", 18)];
    needs(OperationKind::AdamW, operands, |[gradient, square_norm, moments]| {
        Portable.run(AdamWStep {
            adamw,
            gradient: &zeros::<f32>(gradient)[..],
            square_norm: &zeros::<f64>(square_norm)[..],
            weight: &mut zeros::<f32>(9)[..],
            moments: &mut zeros::<f32>(moments)[..],
        })
    });
}

#[test]
fn narrowing_and_its_way_back() {
    let operands = [("the statistics", 1)];
    needs(OperationKind::Statistics, operands, |[to]| {
        let (input, to) = (&zeros::<f32>(3)[..], &mut zeros::<Statistics>(to)[..]);
        Portable.run(Summarise { input, to })
    });
    let operands = [
        ("the result", 3),
        ("the cell that results come from", 1),
        ("the cell that results go to", 1),
        ("the outcome", 1),
        ("the histogram", 1),
    ];
    needs(OperationKind::Apply, operands, |[to, from_cell, to_cell, outcome, histogram]| {
        Portable.run(Narrow {
            input: &zeros::<f32>(3)[..],
            to: &mut zeros::<f32>(to)[..],
            epilogue: EpilogueOperands::of([from_cell, to_cell, outcome, histogram]).epilogue(),
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

#[test]
fn decisions() {
    let config = &Config::for_format(Format::BINARY16);
    let operands = [("the histogram", 1), ("the cell", 1), ("the certificate", 1)];
    needs(OperationKind::Certify, operands, |[histogram, cell, certificate]| {
        Portable.run(Certify {
            config,
            histogram: &vec![Histogram::new(config.narrowing()); histogram][..],
            cell: &mut zeros::<Cell>(cell)[..],
            certificate: &mut zeros::<Certificate>(certificate)[..],
        })
    });
    let operands = [("the outcome", 1), ("the cell that results come from", 1), ("the cell", 1)];
    needs(OperationKind::Note, operands, |[outcome, from, cell]| {
        Portable.run(Note {
            config,
            outcome: &zeros::<Outcome>(outcome)[..],
            from: &zeros::<Cell>(from)[..],
            cell: &mut zeros::<Cell>(cell)[..],
        })
    });
    for cells in [0, 1, 3] {
        let cells = &mut zeros::<Cell>(cells)[..];
        assert_eq!(Portable.run(Finish { config, cells }), Ok(()));
    }
}

/// No operation is left out above, but for two that take any number of elements.
#[test]
fn all_operations_are_here() {
    let copies = [OperationKind::Read, OperationKind::Write, OperationKind::Zeroed];
    let any_number = [OperationKind::Relu, OperationKind::Finish];
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
