//! Measures layers: `cargo bench -p adaloss-hal --features std --bench cpu_network`.
//!
//! Every figure is a median and, behind it, the least, in ns per element; operands are binary16,
//! random and not zero, and results are counted.  The shapes are those of ResNet-20 for CIFAR-10 at
//! a batch of 128, of a segmentation with 32768 pixels and of a small language model.

use std::{env, error::Error, hint::black_box, time::Instant};

use adaloss_core::{
    format::{Format, Narrowing, Noise, f16},
    policy::{Cell, Fraction},
    scale::Scale,
    statistics::Outcome,
};
use adaloss_cpu::Cpu;
use adaloss_hal::{
    Epilogue, HostError, HostSpace, Run,
    network::{
        Accumulate, AdamW, AdamWStep, Attend, AttendInput, Attention, AveragePool,
        AveragePoolInput, Axis, Blend, Dropout, Embed, EmbedTable, LossSum, Mask, MaxPool,
        MaxPoolInput, Moments, Normalisation, Normalise, NormaliseInput, NormaliseSums, Pick,
        Pooling, Relu, ReluInput, Sgd, SgdStep, SoftmaxCrossEntropy, SquareNorm, Unpool,
    },
};

type Done = Result<(), HostError>;

fn main() -> Result<(), Box<dyn Error>> {
    let threads = match env::args().skip(1).find(|argument| argument != "--bench") {
        Some(threads) => vec![threads.parse()?],
        None => vec![1, 2],
    };
    for threads in threads {
        let mut cpu = Cpu::new(threads)?;
        println!("== {threads} threads: ns per element, median (least)");
        for (rows, columns) in [(131_072, 16), (32_768, 32), (8192, 64), (1024, 10), (4096, 768)] {
            let axis = if columns == 768 { Axis::Columns } else { Axis::Rows };
            normalisation(
                &mut cpu,
                Normalisation { rows, columns, axis, centred: true, epsilon: 1.0e-5 },
            )?;
        }
        for (size, channels) in [(32, 16), (16, 32), (8, 64), (28, 10)] {
            pooling(&mut cpu, Pooling::new(128, [size; 2], channels, [2; 2]))?;
        }
        elementwise(&mut cpu)?;
        for classes in [10, 21, 100] {
            loss(&mut cpu, classes)?;
        }
        for (tokens, width) in [(64, 32), (256, 64)] {
            attention(&mut cpu, Attention { batch: 8, tokens, heads: 4, width })?;
        }
        embedding(&mut cpu)?;
    }
    Ok(())
}

/// Cells and counters of an epilogue.
struct Ending {
    cells: [Cell; 2],
    outcome: [Outcome; 1],
}

impl Ending {
    fn new() -> Self {
        let cells = [Scale::ONE, Scale::saturating(3)].map(Cell::at);
        Self { cells, outcome: [Outcome::EMPTY] }
    }

    fn epilogue(&mut self) -> Epilogue<'_, HostSpace> {
        Epilogue {
            from: &self.cells[..1],
            to: &self.cells[1..],
            narrowing: Narrowing::to(Format::BINARY16),
            noise: Noise::default(),
            stores: true,
            when: None,
            outcome: &mut self.outcome,
            histogram: None,
        }
    }
}

/// Prints how long an operation takes per element.
fn measure(name: &str, elements: usize, mut operation: impl FnMut() -> Done) -> Done {
    operation()?;
    let mut seconds = Vec::new();
    let begin = Instant::now();
    while seconds.len() < 15 || begin.elapsed().as_secs_f64() < 0.1 {
        let start = Instant::now();
        operation()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let [median, least] =
        [seconds[seconds.len() / 2], seconds[0]].map(|x| x * 1.0e9 / elements as f64);
    println!("  {name:18}{median:8.3} ({least:.3})");
    Ok(())
}

/// Returns values between -2 and 2, none of them zero.
fn random(length: usize) -> Vec<f32> {
    let noise = Noise { seed: 1, stream: 2 };
    (0..length as u32).map(|i| ((noise.word(i) >> 8) as f32 + 0.5) / 4_194_304.0 - 2.0).collect()
}

fn narrowed(length: usize) -> Vec<f16> {
    random(length).into_iter().map(f16::from_f32).collect()
}

fn normalisation(cpu: &mut Cpu, normalisation: Normalisation) -> Done {
    println!("{normalisation}");
    let elements = normalisation.elements();
    let (input, gradient) = (narrowed(elements), narrowed(elements));
    let (mut moments, affine) = (random(normalisation.moments()), random(normalisation.affine()));
    let (mut sums, mut to) = (random(normalisation.affine()), narrowed(elements));
    let mut end = Ending::new();
    measure("moments", elements, || {
        cpu.run(Moments { normalisation, input: &input[..], to: &mut moments[..] })
    })?;
    measure("normalise", elements, || {
        cpu.run(Normalise {
            normalisation,
            input: &input[..],
            moments: &moments[..],
            affine: &affine[..],
            to: &mut to[..],
            epilogue: end.epilogue(),
        })
    })?;
    measure("normalise_sums", elements, || {
        cpu.run(NormaliseSums {
            normalisation,
            gradient: &gradient[..],
            input: &input[..],
            moments: &moments[..],
            to: &mut sums[..],
        })
    })?;
    measure("normalise_input", elements, || {
        cpu.run(NormaliseInput {
            normalisation,
            gradient: &gradient[..],
            input: &input[..],
            moments: &moments[..],
            affine: &affine[..],
            sums: &sums[..],
            to: &mut to[..],
            epilogue: end.epilogue(),
        })
    })
}

fn pooling(cpu: &mut Cpu, pooling: Pooling) -> Done {
    println!("{pooling}");
    let [elements, outputs] = pooling.lengths();
    let (input, mut pooled, mut to) = (narrowed(elements), narrowed(outputs), narrowed(elements));
    let (mut indices, mut end) = (vec![0; outputs], Ending::new());
    measure("max_pool", elements, || {
        let (input, to, indices) = (&input[..], &mut pooled[..], &mut indices[..]);
        cpu.run(MaxPool { pooling, input, to, indices })
    })?;
    measure("unpool", elements, || {
        cpu.run(Unpool { pooling, input: &pooled[..], indices: &indices[..], to: &mut to[..] })
    })?;
    measure("pick", elements, || {
        cpu.run(Pick { pooling, input: &input[..], indices: &indices[..], to: &mut pooled[..] })
    })?;
    measure("average_pool", elements, || {
        let (input, to, epilogue) = (&input[..], &mut pooled[..], end.epilogue());
        cpu.run(AveragePool { pooling, input, to, epilogue })
    })?;
    measure("average_pool_input", elements, || {
        let (gradient, to, epilogue) = (&pooled[..], &mut to[..], end.epilogue());
        cpu.run(AveragePoolInput { pooling, gradient, to, epilogue })
    })?;
    measure("max_pool_input", elements, || {
        let (gradient, indices) = (&pooled[..], &indices[..]);
        let (to, epilogue) = (&mut to[..], end.epilogue());
        cpu.run(MaxPoolInput { pooling, gradient, indices, to, epilogue })
    })
}

fn elementwise(cpu: &mut Cpu) -> Done {
    let elements = 131_072 * 16;
    println!("{elements} elements");
    let (mut values, mut gradient) = (narrowed(elements), narrowed(elements));
    measure("relu", elements, || cpu.run(Relu { values: black_box(&mut values[..]) }))?;
    measure("relu_input", elements, || {
        cpu.run(ReluInput { output: &values[..], gradient: &mut gradient[..] })
    })?;
    let mask = Mask { share: Fraction::from_bits(1 << 30), noise: Noise::default() };
    let mut end = Ending::new();
    measure("dropout", elements, || {
        cpu.run(Dropout {
            mask,
            input: &values[..],
            to: &mut gradient[..],
            epilogue: end.epilogue(),
        })
    })?;

    let elements = 1 << 20;
    println!("{elements} elements of binary32");
    let (bias, from, mut to) = (random(16), random(elements), random(elements));
    let (mut state, mut square_norm) = (random(2 * elements), [0.0]);
    measure("accumulate a bias", elements, || {
        cpu.run(Accumulate { input: &bias[..], to: &mut to[..] })
    })?;
    measure("accumulate", elements, || cpu.run(Accumulate { input: &from[..], to: &mut to[..] }))?;
    measure("blend", elements, || {
        cpu.run(Blend { share: 0.1, input: &from[..], to: &mut to[..], when: None })
    })?;
    measure("square_norm", elements, || {
        cpu.run(SquareNorm { gradient: &from[..], to: &mut square_norm[..] })
    })?;
    let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4, max_norm: Some(1.0) };
    measure("sgd", elements, || {
        cpu.run(SgdStep {
            sgd,
            gradient: &from[..],
            square_norm: &square_norm[..],
            weight: &mut to[..],
            momentum: &mut state[..elements],
            when: None,
        })
    })?;
    state.iter_mut().for_each(|x| *x = x.abs());
    let adamw = AdamW {
        learning_rate: 0.01,
        betas: [0.9, 0.99],
        epsilon: 1.0e-8,
        weight_decay: 0.1,
        max_norm: None,
    };
    measure("adamw", elements, || {
        cpu.run(AdamWStep {
            adamw,
            gradient: &from[..],
            square_norm: &square_norm[..],
            update: &[3][..],
            weight: &mut to[..],
            moments: &mut state[..],
            when: None,
        })
    })
}

fn loss(cpu: &mut Cpu, classes: usize) -> Done {
    println!("32768 x {classes} classes");
    let noise = Noise { seed: 3, stream: 0 };
    let labels: Vec<_> = (0..32_768).map(|i| noise.word(i) % classes as u32).collect();
    let elements = labels.len() * classes;
    let (logits, mut gradient) = (random(elements), random(elements));
    let mut sum = [LossSum::default()];
    measure("loss", elements, || {
        cpu.run(SoftmaxCrossEntropy {
            classes,
            logits: &logits[..],
            labels: &labels[..],
            weights: None,
            gradient: &mut gradient[..],
            sum: &mut sum[..],
        })
    })
}

fn attention(cpu: &mut Cpu, shape: Attention) -> Done {
    println!("{shape}, ns per product of a score or its like");
    let [inputs, outputs] = shape.lengths();
    let (input, gradient) = (narrowed(inputs), narrowed(outputs));
    let (mut to, mut back, mut end) = (narrowed(outputs), narrowed(inputs), Ending::new());
    let Attention { batch, tokens, heads, width } = shape;
    let products = batch * heads * tokens * (tokens + 1) / 2 * width;
    measure("attend", 2 * products, || {
        cpu.run(Attend {
            attention: shape,
            input: &input[..],
            to: &mut to[..],
            epilogue: end.epilogue(),
        })
    })?;
    measure("attend_input", 5 * products, || {
        cpu.run(AttendInput {
            attention: shape,
            gradient: &gradient[..],
            input: &input[..],
            to: &mut back[..],
            epilogue: end.epilogue(),
        })
    })
}

fn embedding(cpu: &mut Cpu) -> Done {
    let (width, vocabulary, count) = (256, 1000, 8192);
    println!("{count} tokens of {vocabulary}, {width} features");
    let noise = Noise { seed: 4, stream: 0 };
    let tokens: Vec<_> = (0..count).map(|i| noise.word(i) % vocabulary as u32).collect();
    let (table, mut rows) = (narrowed(vocabulary * width), narrowed(tokens.len() * width));
    let mut sums = random(table.len());
    measure("embed", rows.len(), || {
        cpu.run(Embed { width, tokens: &tokens[..], table: &table[..], to: &mut rows[..] })
    })?;
    measure("embed_table", rows.len(), || {
        cpu.run(EmbedTable { width, tokens: &tokens[..], gradient: &rows[..], to: &mut sums[..] })
    })
}
