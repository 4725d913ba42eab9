//! What the tolerances of the softmax are for, and none of the vectors that ship here needs: numpy's
//! exponentials and logarithms may round to the other binary16, so that the logarithm of a row's
//! sum is off by a unit.

use adaloss_core::{
    format::Format,
    policy::{Normal, Policy},
};
use adaloss_oracle::{
    inputs::SplitMix64,
    tolerance::{SOFTMAX, TRAINING},
};

use super::{Loss, Network, Param};
use crate::{
    methods,
    report::{Case, Checked},
    tensor::{Dtype, Tensor},
};

const ROWS: usize = 16;
const CLASSES: usize = 10;
const INPUTS: usize = 12;

/// Checks gradients and a few steps of training with moved logarithms against those without.
pub(crate) fn check(case: &mut Case) -> Checked {
    let mut generator = SplitMix64(11);
    let [exact, moved] = [false, true].map(loss);
    let y = random(&[ROWS, CLASSES], 1, &mut generator);
    exact.check(case, &y, &moved.gradient(&y))?;
    SOFTMAX.assert_needed();

    let config = methods::config(Policy::Normal(Normal::paper(Format::BINARY16)))?;
    let x = random(&[ROWS, INPUTS], 0, &mut generator);
    let shapes = [("/l1/W", vec![8, INPUTS]), ("/l2/W", vec![CLASSES, 8])];
    let params = shapes.map(|(path, shape)| (path, random(&shape, -2, &mut generator)));
    let mut networks = [exact, moved].map(|loss| Network {
        x: x.clone(),
        loss,
        rate: 0.1,
        momentum: 0.9,
        params: params.iter().map(|(path, stored)| Param::new(path, stored.clone())).collect(),
    });
    for _ in 0..3 {
        for network in &mut networks {
            network.step(case, &config)?;
        }
        let [exact, moved] = &networks;
        for (param, other) in exact.params.iter().zip(&moved.params) {
            let other = other.master.iter().copied();
            param.compare_masters(case, other)?;
        }
    }
    TRAINING.assert_needed();
    Ok(())
}

fn loss(is_moved: bool) -> Loss {
    let labels = (0..ROWS).map(|row| row * 7 % CLASSES).collect();
    Loss { labels, factor: 1.0, init_scale: 1024.0, is_moved }
}

/// Returns numbers of both signs up to `2^(log2 + 1)`.
fn random(shape: &[usize], log2: i32, generator: &mut SplitMix64) -> Tensor {
    let draw = |_| generator.between_binades(log2 - 3, log2);
    let values: Vec<f32> = (0..shape.iter().product()).map(draw).collect();
    Tensor::round(Dtype::F16, shape, &values)
}
