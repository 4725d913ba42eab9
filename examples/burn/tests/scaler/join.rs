//! Where branches meet, each at a scale of its own.

use adaloss_core::unscale::Place;
use burn::{
    module::Param,
    tensor::{DType, Tensor},
};

use crate::{Weight, bits, by_burn, gradients, of, scaler, tensor};

/// A residual block whose every number, forward and backward, is a small integer times a power of two: exact
/// in binary16 at any scale that is not near its ends, and in f32.
struct Block {
    samples: Tensor<2>,
    stem: Weight,
    down: Weight,
    up: Weight,
}

impl Block {
    /// The branch shrinks gradients by 2^-9 before it lets them grow by 2^9, so that its scale lies apart.
    fn new() -> Self {
        let scaled = |row: [f32; 4], factor: f32| {
            Param::from_tensor(tensor(row.map(|x| x * factor).to_vec(), [2, 2]))
        };
        Self {
            samples: tensor(vec![1.0, 2.0, 3.0, -1.0], [2, 2]),
            stem: scaled([1.0, 2.0, -1.0, 1.0], 1.0),
            down: scaled([2.0, 1.0, 1.0, -1.0], 512.0),
            up: scaled([1.0, -1.0, 2.0, 3.0], 1.0 / 512.0),
        }
    }

    fn weights(&self) -> Vec<Weight> {
        vec![self.stem.clone(), self.down.clone(), self.up.clone()]
    }

    /// Returns the loss; `mark` is called for the stem, the branch and the sum.
    fn loss(&self, dtype: DType, mark: impl Fn(usize, Tensor<2>) -> Tensor<2>) -> Tensor<1> {
        let product = |x: Tensor<2>, weight: &Weight| x.matmul(weight.val().cast(dtype));
        let stem = mark(0, product(self.samples.clone().cast(dtype), &self.stem));
        let branch = mark(1, product(stem.clone(), &self.down));
        let sum = mark(2, product(branch, &self.up) + stem);
        (sum.cast(DType::F32) * tensor(vec![1.0, -2.0, 3.0, 1.0], [2, 2])).sum()
    }
}

#[test]
fn a_residual_block_has_the_gradients_of_f32_bit_for_bit() {
    let block = Block::new();
    let expected = by_burn(&block.weights(), &block.loss(DType::F32, |_, x| x));
    let scaler = scaler(2);
    let seen = gradients(&scaler, &block.weights(), || {
        block.loss(DType::F16, |id, x| match id {
            2 => scaler.output(x),
            _ => scaler.layer(id, x),
        })
    });
    for weight in &block.weights() {
        assert_eq!(bits(&of(&seen, weight)), bits(&of(&expected, weight)));
    }
    // The branches did arrive at different scales, or this would show nothing: eight binades lower for
    // each time that a segment overflowed, twice behind the output and once behind the branch.
    let [output, branch, stem] = scaler.visits()[..] else { panic!("three marks") };
    assert_eq!((branch.place, stem.place), (Place::Layer(1), Place::Layer(0)));
    assert_eq!(scaler.replays(), 3);
    assert_eq!(branch.incoming.log2(), output.outgoing.log2() - 2 * 8);
    assert_eq!(stem.incoming, branch.incoming);
    assert!(branch.outgoing.log2() - 8 >= stem.incoming.log2() + 8, "{branch:?} {stem:?}");
}

#[test]
fn a_second_output_has_a_scale_of_its_own() {
    let block = Block::new();
    let scaler = scaler(3);
    let both = |marks: bool| {
        let mark = |id: usize, x: Tensor<2>| match (marks, id) {
            (false, _) => x,
            (true, 2) => scaler.output(x),
            (true, _) => scaler.layer(id, x),
        };
        let dtype = if marks { DType::F16 } else { DType::F32 };
        let first = block.loss(dtype, mark);
        // A second head behind the same weight, whose gradient is much larger.
        let other = block.samples.clone().cast(dtype).matmul(block.stem.val().cast(dtype));
        let other = if marks { scaler.layer(2, other.cast(DType::F32)) } else { other };
        first + other.sum() * 4096.0
    };
    let expected = by_burn(&block.weights(), &both(false));
    let seen = gradients(&scaler, &block.weights(), || both(true));
    for weight in &block.weights() {
        assert_eq!(bits(&of(&seen, weight)), bits(&of(&expected, weight)));
    }
}
