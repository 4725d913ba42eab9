//! Measures the `cpu` device: `cargo bench -p adaloss-hal --features std --bench cpu`.
//!
//! Every figure is a median, with operands that are random and not zero.  Convolutions are those of
//! ResNet-20 for CIFAR-10 at a batch of 128, in binary16.

use std::{env, error::Error, time::Instant};

use adaloss_core::{
    apply::Apply,
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, bf16, f16},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
    unscale::Unscaled,
};
use adaloss_cpu::Cpu;
use adaloss_hal::{
    Epilogue, HostError, HostSpace, Matmul, Narrow, Plain, Product, Run, Unscale,
    network::{Convolution, Convolve, ConvolveInput, ConvolveWeight},
};

/// Elements of the elementwise operations: those of a first-stage gradient of sixteen images.
const ELEMENTS: usize = 1 << 18;

/// The convolutions of ResNet-20 and how often each occurs.
const CONVOLUTIONS: [(&str, usize, Convolution); 8] = [
    ("32x32x3 -> 16", 1, three(32, 3, 16, 1)),
    ("32x32x16 -> 16", 6, three(32, 16, 16, 1)),
    ("32x32x16 -> 32 / 2", 1, three(32, 16, 32, 2)),
    ("16x16x32 -> 32", 5, three(16, 32, 32, 1)),
    ("16x16x32 -> 64 / 2", 1, three(16, 32, 64, 2)),
    ("8x8x64 -> 64", 5, three(8, 64, 64, 1)),
    ("32x32x16 -> 32 / 2, 1x1", 1, Convolution::new(128, [32; 2], 16, 32, [1; 2]).stride([2; 2])),
    ("16x16x32 -> 64 / 2, 1x1", 1, Convolution::new(128, [16; 2], 32, 64, [1; 2]).stride([2; 2])),
];

const fn three(size: usize, channels: usize, filters: usize, stride: usize) -> Convolution {
    let shape = Convolution::new(128, [size; 2], channels, filters, [3; 2]);
    shape.stride([stride; 2]).padding([1; 2])
}

fn main() -> Result<(), Box<dyn Error>> {
    let threads = match env::args().skip(1).find(|argument| argument != "--bench") {
        Some(threads) => vec![threads.parse()?],
        None => vec![1, 2],
    };
    for threads in threads {
        let mut cpu = Cpu::new(threads)?;
        println!("== {threads} threads\n\nns per element of {ELEMENTS}");
        elementwise::<f16>(&mut cpu, "binary16")?;
        elementwise::<bf16>(&mut cpu, "bfloat16")?;
        elementwise::<E5M2>(&mut cpu, "E5M2")?;
        elementwise::<E4M3>(&mut cpu, "E4M3")?;
        elementwise::<f32>(&mut cpu, "binary32")?;
        println!("\nGFLOP/s of binary16 products");
        for side in [128, 256, 512, 1024] {
            product(&mut cpu, Product::new(side, side, side))?;
        }
        product(&mut cpu, Product::new(128, 784, 256).transpose_b())?;
        product(&mut cpu, Product::new(256, 128, 784).transpose_a())?;
        println!("\nms of a convolution in binary16, and GFLOP/s: forward, input, weight");
        let mut total = [0.0; 3];
        for (name, count, shape) in CONVOLUTIONS {
            let seconds = convolutions(&mut cpu, name, shape)?;
            for (total, seconds) in total.iter_mut().zip(seconds) {
                *total += count as f64 * seconds * 1.0e3;
            }
        }
        let [forward, input, weight] = total;
        println!(
            "all of a step: {forward:.1} + {input:.1} + {weight:.1} = {:.1} ms\n",
            forward + input + weight
        );
    }
    Ok(())
}

/// Cells and counters of an epilogue that narrows to `F`.
struct Ending {
    cells: [Cell; 2],
    narrowing: Narrowing,
    outcome: [Outcome; 1],
    histogram: [Histogram; 1],
}

impl Ending {
    fn of<F: Element>() -> Self {
        let narrowing = Narrowing::to(Format::from(F::ENCODING));
        Self {
            cells: [Cell::at(Scale::ONE), Cell::at(Scale::saturating(3))],
            narrowing,
            outcome: [Outcome::EMPTY],
            histogram: [Histogram::new(narrowing)],
        }
    }

    fn epilogue(&mut self, stores: bool, measures: bool) -> Epilogue<'_, HostSpace> {
        Epilogue {
            from: &self.cells[..1],
            to: &self.cells[1..],
            narrowing: self.narrowing,
            noise: Noise::default(),
            stores,
            when: None,
            outcome: &mut self.outcome,
            histogram: measures.then_some(&mut self.histogram[..]),
        }
    }
}

/// Measures what there is per element, beside a copy and the core's own loop.
fn elementwise<F: Element + Plain>(cpu: &mut Cpu, name: &str) -> Result<(), HostError> {
    let values = reals(ELEMENTS, -12.0);
    let mut to = vec![F::from_bits(0); ELEMENTS];
    let mut wide = vec![0.0; ELEMENTS];
    let mut end = Ending::of::<F>();
    let nanoseconds = |seconds: f64| seconds * 1.0e9 / ELEMENTS as f64;
    let copy = median(|| {
        wide.copy_from_slice(&values);
        Ok(())
    })?;
    let apply = Apply {
        narrowing: end.narrowing,
        shift: Scale::saturating(3) / Scale::ONE,
        noise: Noise::default(),
    };
    let mut outcome = Outcome::EMPTY;
    let core = median(|| Ok(apply.slice(&values, &mut to, 0, &mut outcome)?))?;
    let [narrow, measure, both] = [(true, false), (false, true), (true, true)].map(|passes| {
        median(|| {
            let (to, epilogue) = (&mut to[..], end.epilogue(passes.0, passes.1));
            cpu.run(Narrow { input: &values[..], to, epilogue })
        })
    });
    let (narrow, measure, both) = (narrow?, measure?, both?);
    assert_eq!(outcome.max_bits, end.outcome[0].max_bits);
    let (cell, mut unscale_counts) = ([Cell::at(Scale::saturating(3))], [Unscaled::default()]);
    let unscale = median(|| {
        let (cell, counts) = (&cell[..], &mut unscale_counts[..]);
        cpu.run(Unscale { gradient: &to[..], cell, to: &mut wide[..], counts })
    })?;
    assert_eq!(unscale_counts[0].nonfinite, 0);
    let [copy, core, narrow, measure, both, unscale] =
        [copy, core, narrow, measure, both, unscale].map(nanoseconds);
    println!(
        "{name:9} copy {copy:.2}, core's narrowing {core:.2}, narrowing {narrow:.2}, \
         histogram {measure:.2}, both {both:.2}, unscaling {unscale:.2}"
    );
    Ok(())
}

fn product(cpu: &mut Cpu, product: Product) -> Result<(), HostError> {
    let [left, right, result] = product.lengths();
    let (a, b) = (narrowed::<f16>(left), narrowed::<f16>(right));
    let (mut to, mut end) = (vec![f16::ZERO; result], Ending::of::<f16>());
    let seconds = median(|| {
        let (a, b, to) = (&a[..], &b[..], &mut to[..]);
        cpu.run(Matmul { product, a, b, bias: None, to, epilogue: end.epilogue(true, false) })
    })?;
    assert!(end.outcome[0].max_bits > 0);
    let operations = 2.0 * result as f64 * product.inner as f64;
    println!("{product}: {:.1}", operations / seconds / 1.0e9);
    Ok(())
}

/// Returns the seconds of the three directions of a convolution.
fn convolutions(cpu: &mut Cpu, name: &str, shape: Convolution) -> Result<[f64; 3], HostError> {
    let [input, weight, output] = shape.lengths();
    let (x, w, g) = (narrowed::<f16>(input), narrowed::<f16>(weight), narrowed::<f16>(output));
    let mut end = Ending::of::<f16>();
    let mut unscaled = Ending::of::<f32>();
    let (mut y, mut dx, mut dw) = (g.clone(), x.clone(), vec![0.0; weight]);
    let forward = median(|| {
        cpu.run(Convolve {
            convolution: shape,
            input: &x[..],
            weight: &w[..],
            bias: None,
            to: &mut y[..],
            epilogue: end.epilogue(true, false),
        })
    })?;
    let back = median(|| {
        cpu.run(ConvolveInput {
            convolution: shape,
            gradient: &g[..],
            weight: &w[..],
            to: &mut dx[..],
            epilogue: end.epilogue(true, false),
        })
    })?;
    let weight = median(|| {
        cpu.run(ConvolveWeight {
            convolution: shape,
            gradient: &g[..],
            input: &x[..],
            to: &mut dw[..],
            epilogue: unscaled.epilogue(true, false),
        })
    })?;
    assert!(end.outcome[0].max_bits > 0 && unscaled.outcome[0].max_bits > 0);
    let seconds = [forward, back, weight];
    let operations = 2.0 * output as f64 * shape.fan_in() as f64;
    print!("{name:24}");
    for seconds in seconds {
        print!("  {:6.2} ({:5.1})", seconds * 1.0e3, operations / seconds / 1.0e9);
    }
    println!();
    Ok(seconds)
}

/// Returns the median of the seconds that some runs take, after one that warms the caches.
fn median(mut run: impl FnMut() -> Result<(), HostError>) -> Result<f64, HostError> {
    run()?;
    let mut seconds = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// Returns numbers of both signs whose magnitudes spread over twelve binades below `2^top`.
fn reals(count: usize, top: f32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let mut real = || {
        let fraction = word() as f32 / (1 << 24) as f32;
        let magnitude = (1.0 + fraction) * (top - (word() % 12) as f32).exp2();
        if word() % 2 == 0 { magnitude } else { -magnitude }
    };
    (0..count).map(|_| real()).collect()
}

fn narrowed<F: Element>(count: usize) -> Vec<F> {
    let narrowing = Narrowing::to(Format::from(F::ENCODING));
    reals(count, 0.0).into_iter().map(|x| F::narrow(x, narrowing, 0, 0)).collect()
}
