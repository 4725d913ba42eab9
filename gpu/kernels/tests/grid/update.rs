//! The fused step is unscaling and then the optimizer of the HAL, and a step that is skipped is none.

use adaloss_core::{
    format::{E5M2, Element, Format, Noise, bf16, f16},
    policy::Cell,
    propagate::Scaled,
    scale::Scale,
    unscale::{Unscaled, unscale},
};
use adaloss_hal::{Run, network::SgdStep, portable::Portable};
use adaloss_kernels::{
    grid::Grid,
    unscale::{self, Gradient, Into, PART, parts},
    update::{Sgd, Weight, sgd},
};

const SGD: Sgd = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1.0e-3 };

fn noise(stream: u32, count: usize) -> impl Iterator<Item = f32> {
    let noise = Noise { seed: 11, stream };
    (0..count as u32).map(move |index| noise.word(index) as f32 / 2.0_f32.powi(31) - 1.0)
}

struct Layer<F> {
    gradient: Vec<F>,
    cell: Cell,
    weight: Vec<f32>,
    momentum: Vec<f32>,
}

fn layers<F: Element>() -> Vec<Layer<F>> {
    let counts = [3, 0, 1000, PART + 5];
    (0..)
        .zip(counts)
        .map(|(stream, count)| Layer {
            gradient: noise(stream, count)
                .map(|x| F::narrow(x, Format::BINARY16.into(), 6, 0))
                .collect(),
            cell: Cell::at(Scale::saturating(6 + stream as i32)),
            weight: noise(100 + stream, count).collect(),
            momentum: noise(200 + stream, count).collect(),
        })
        .collect()
}

/// Checks the gradients and takes a step, in two launches, with the predicate if there is one; returns the verdict and the
/// steps.
fn step<F: Element>(layers: &mut [Layer<F>], when: Option<&u32>) -> (u64, u64) {
    let format = Format::from(F::ENCODING);
    let table: Vec<_> = parts(layers.iter().map(|layer| layer.weight.len())).collect();
    let (mut bad, mut steps) = (0_u64, 41_u64);
    let gradients: Vec<_> = layers
        .iter()
        .map(|layer| Gradient {
            from: layer.gradient.as_ptr(),
            to: std::ptr::null_mut(),
            count: layer.gradient.len(),
            cell: &layer.cell,
            met: std::ptr::null_mut(),
        })
        .collect();
    let counter = &raw mut bad;
    Grid::new(3, 128).with_seed(2).launch(|block| {
        // SAFETY: all that is named lives; nothing is written but the counter.
        unsafe { unscale::unscale(block, format, &gradients, &table, Into::Nothing, counter) };
    });
    let weights: Vec<_> = layers
        .iter_mut()
        .map(|layer| Weight {
            gradient: layer.gradient.as_ptr(),
            weight: layer.weight.as_mut_ptr(),
            momentum: layer.momentum.as_mut_ptr(),
            count: layer.weight.len(),
            cell: &layer.cell,
        })
        .collect();
    let (counted, when) = (&raw mut steps, when.map_or(std::ptr::null(), std::ptr::from_ref));
    Grid::new(5, 64).with_seed(3).launch(|block| {
        // SAFETY: all that is named lives and is named once.
        unsafe { sgd(block, format, SGD, &weights, &table, (counter, when), counted) };
    });
    (bad, steps)
}

fn bits(layers: &[Layer<impl Element>]) -> Vec<u32> {
    let values = layers.iter().flat_map(|layer| layer.weight.iter().chain(&layer.momentum));
    values.map(|x| x.to_bits()).collect()
}

fn is_the_optimizer_of_the_hal<F: Element>() {
    let (mut layers, mut expected) = (layers::<F>(), layers::<F>());
    assert_eq!(step(&mut layers, None), (0, 42));
    let of_hal = adaloss_hal::network::Sgd {
        learning_rate: SGD.learning_rate,
        momentum: SGD.momentum,
        weight_decay: SGD.weight_decay,
        max_norm: None,
    };
    for layer in &mut expected {
        let mut gradient = vec![0.0; layer.gradient.len()];
        let scaled = Scaled::new(layer.gradient.as_slice(), layer.cell.scale());
        unscale(F::ENCODING.into(), scaled, &mut gradient).expect("lengths");
        let step = SgdStep {
            sgd: of_hal,
            gradient: &gradient[..],
            square_norm: &[1.0][..],
            weight: &mut layer.weight[..],
            momentum: &mut layer.momentum[..],
            when: None,
        };
        Portable.run(step).expect("lengths");
    }
    assert_eq!(bits(&layers), bits(&expected));
}

#[test]
fn a_fused_step_is_unscaling_and_an_update() {
    is_the_optimizer_of_the_hal::<f16>();
    is_the_optimizer_of_the_hal::<bf16>();
    is_the_optimizer_of_the_hal::<E5M2>();
    is_the_optimizer_of_the_hal::<f32>();
}

/// A predicate says no; then one element of the last part of the last gradient is infinite.
#[test]
fn a_skipped_step_leaves_every_bit() {
    let mut layers = layers::<f16>();
    let before = bits(&layers);
    assert_eq!(step(&mut layers, Some(&0)), (0, 41));
    assert_eq!(bits(&layers), before);
    *layers.last_mut().and_then(|layer| layer.gradient.last_mut()).expect("one") = f16::INFINITY;
    assert_eq!(step(&mut layers, Some(&1)), (1, 41));
    assert_eq!(bits(&layers), before);
}

/// What unscaling alone says of the gradients is what it says when it writes them.
#[test]
fn counting_alone_counts_the_same() {
    let layer = layers::<f16>().pop().expect("one");
    let mut to = vec![0.0; layer.gradient.len()];
    let table: Vec<_> = parts([to.len()].into_iter()).collect();
    let mut met = [Unscaled::default(); 2];
    for (into, met) in [Into::Nothing, Into::Place].into_iter().zip(&mut met) {
        let gradient = Gradient {
            from: layer.gradient.as_ptr(),
            to: to.as_mut_ptr(),
            count: to.len(),
            cell: &layer.cell,
            met,
        };
        Grid::new(2, 32).launch(|block| {
            // SAFETY: as above.
            unsafe {
                let bad = std::ptr::null_mut();
                unscale::unscale(block, Format::BINARY16, &[gradient], &table, into, bad);
            }
        });
    }
    assert_eq!(met[0], met[1]);
    assert_eq!(met[0].elements, to.len() as u64);
}
