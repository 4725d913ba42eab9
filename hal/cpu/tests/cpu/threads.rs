//! The number of threads changes no bit.

use adaloss_core::{
    format::{Element, Format, Narrowing, Rounding, f16},
    scale::Scale,
};
use adaloss_cpu::Cpu;
use adaloss_hal::{Matmul, Plain, Product, Run, network::Convolution};

use super::{
    convolve::Direction,
    operands::{Readout, reals, run, shapes},
};

/// Runs an operation with several numbers of threads and compares everything that is left.
fn agree<F: Element>(what: &str, run: impl Fn(&mut Cpu) -> Readout<F>) {
    let expected = run(&mut Cpu::new(1).expect("one thread"));
    for threads in [2, 3, 5] {
        let found = run(&mut Cpu::new(threads).expect("threads"));
        assert_eq!(found.bits(), expected.bits(), "{what} with {threads} threads");
        assert_eq!(found.outcome, expected.outcome, "{what} with {threads} threads");
        assert_eq!(found.histogram, expected.histogram, "{what} with {threads} threads");
    }
}

fn convolutions<F: Element + Plain>(narrowing: Narrowing) {
    let large = Convolution::new(40, [16; 2], 32, 32, [3; 2]).padding([1; 2]);
    for shape in shapes().into_iter().chain([large]) {
        for direction in Direction::ALL {
            let [left, right, _] = direction.lengths(shape);
            let (a, b) = (reals::<f16>(1, left), reals::<f16>(2, right));
            agree::<F>(&format!("{direction:?} {shape}"), |cpu| {
                direction.run(cpu, shape, (&a, &b), narrowing, Scale::saturating(-9))
            });
        }
    }
}

#[test]
fn convolutions_do_not_depend_on_threads() {
    convolutions::<f32>(Narrowing::to(Format::BINARY32));
    // The place of an element decides its random word.
    convolutions::<f16>(Narrowing::to(Format::BINARY16).with_rounding(Rounding::Stochastic));
}

#[test]
fn products_do_not_depend_on_threads() {
    let narrowing = Narrowing::to(Format::BINARY32);
    for [rows, inner, columns] in [[300, 1100, 70], [5, 2000, 33], [700, 3, 1], [64, 64, 64]] {
        for transposed in 0..4 {
            let (transpose_a, transpose_b) = (transposed & 1 == 1, transposed & 2 == 2);
            let product = Product { rows, inner, columns, transpose_a, transpose_b };
            let [left, right, result] = product.lengths();
            let (a, b) = (reals::<f32>(1, left), reals::<f16>(2, right));
            agree::<f32>(&product.to_string(), |cpu| {
                run(result, narrowing, Scale::ONE, |to, mut epilogue| {
                    let (a, b, epilogue) = (&a[..], &b[..], epilogue.reborrow());
                    cpu.run(Matmul { product, a, b, bias: None, to, epilogue })
                })
            });
        }
    }
}
