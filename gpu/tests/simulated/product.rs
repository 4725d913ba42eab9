//! Products that are added to what is there.

use adaloss_core::{
    format::{Format, Narrowing, Noise, f16},
    policy::Cell,
    scale::Scale,
    statistics::Outcome,
};
use adaloss_gpu::{Buffer, Cuda, GpuError, GpuSpace};
use adaloss_hal::{
    Device, Epilogue, Matmul, Memory, MisfitCause, Product, Run, portable::Portable,
};

use crate::{DRIVER, cuda};

/// (3 x 5) (5 x 2), twice: the weight gradients of two micro-batches.
const PRODUCT: Product = Product::new(3, 5, 2);

fn ending<'a>(
    cells: &'a [Buffer<Cell>; 2],
    outcome: &'a mut Buffer<Outcome>,
) -> Epilogue<'a, GpuSpace> {
    Epilogue {
        from: cells[0].view(),
        to: cells[1].view(),
        narrowing: Narrowing::to(Format::BINARY32),
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: outcome.view_mut(),
        histogram: None,
    }
}

fn upload<T: adaloss_hal::Plain>(device: &mut Cuda, values: &[T]) -> Buffer<T> {
    let mut buffer = device.zeroed(values.len()).expect("memory");
    device.write(values, buffer.view_mut()).expect("lengths");
    buffer
}

/// Returns what the portable device unscales.
fn portable(product: Product, [a, b]: [&[f16]; 2], bias: &[f32], carried: Scale) -> [f32; 6] {
    let (from, to, mut outcome) = ([Cell::at(carried)], [Cell::at(Scale::ONE)], [Outcome::EMPTY]);
    let mut sums = [0.0; 6];
    let epilogue = Epilogue {
        from: &from[..],
        to: &to[..],
        narrowing: Narrowing::to(Format::BINARY32),
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: &mut outcome[..],
        histogram: None,
    };
    let bias = Some(bias);
    let done = Portable.run(Matmul { product, a, b, bias, to: &mut sums[..], epilogue });
    done.expect("operands of the shape");
    sums
}

#[test]
fn micro_batches_add_up() {
    add_up(PRODUCT, 1);
}

/// Terms in two parts, which another launch adds up, in a graph as well.
#[test]
fn micro_batches_in_parts_add_up() {
    add_up(Product::new(3, 2100, 2), 2);
}

fn add_up(product: Product, launches: u64) {
    let device = &mut cuda();
    let carried = Scale::saturating(12);
    let cells = [carried, Scale::ONE].map(|scale| upload(device, &[Cell::at(scale)]));
    let mut outcome = device.zeroed::<Outcome>(1).expect("memory");
    let mut expected = [0.5, -1.0, 0.0, 3.0e-5, 1.0e4, -0.25_f32];
    let mut to = upload(device, &expected);
    for nth in 0..2 {
        let value = |index: usize| f16::from_f32((7 * index + nth) as f32 % 11.0 - 5.0);
        let [left, right, _] = product.lengths();
        let a: Vec<f16> = (0..left).map(value).collect();
        let b: Vec<f16> = (0..right).map(value).collect();
        let bias = [24.0, -8.5];
        let added = portable(product, [&a, &b], &bias, carried);
        expected.iter_mut().zip(added).for_each(|(sum, x)| *sum += x);
        let (a, b, bias) = (upload(device, &a), upload(device, &b), upload(device, &bias));
        let (a, b, epilogue) = (a.view(), b.view(), ending(&cells, &mut outcome));
        let bias = Some(bias.view());
        let matmul = Matmul { product, a, b, bias, to: to.view_mut(), epilogue };
        if nth == 0 {
            let before = DRIVER.calls("cuLaunchKernel");
            device.matmul_add(matmul).expect("operands of the shape");
            assert_eq!(DRIVER.calls("cuLaunchKernel") - before, launches);
        } else {
            let graph =
                device.capture(|device| device.matmul_add(matmul)).expect("it waits for nothing");
            // SAFETY: all that it names is there.
            unsafe { graph.launch() }.expect("it was captured");
        }
    }
    let mut found = [0.0; 6];
    device.read(to.view(), &mut found).expect("lengths");
    assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits));
}

#[test]
fn operands_that_do_not_fit_are_not_launched() {
    let device = &mut cuda();
    let cells = [Scale::ONE; 2].map(|scale| upload(device, &[Cell::at(scale)]));
    let mut outcome = device.zeroed::<Outcome>(1).expect("memory");
    let (a, b) = (upload(device, &[f16::ONE; 14]), upload(device, &[f16::ONE; 10]));
    let mut to = device.zeroed::<f32>(6).expect("memory");
    let launches = DRIVER.calls("cuLaunchKernel");
    let (a, b, epilogue) = (a.view(), b.view(), ending(&cells, &mut outcome));
    let matmul = Matmul { product: PRODUCT, a, b, bias: None, to: to.view_mut(), epilogue };
    let error = device.matmul_add(matmul).expect_err("the left operand is one short");
    let GpuError::Misfit(misfit) = error else { panic!("{error}") };
    let expected = MisfitCause::Length { operand: "the left operand", expected: 15, found: 14 };
    assert_eq!(misfit.cause, expected);
    assert_eq!(DRIVER.calls("cuLaunchKernel"), launches);
}
