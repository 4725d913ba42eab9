//! Where branches meet, each at a scale of its own.

use adaloss_core::unscale::Place;
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::{bits, gradients, scaler};

/// A residual block whose every number, forward and backward, is a small integer times a power of two: exact
/// in binary16 at any scale that is not near its ends, and in f32.
struct Block {
    samples: Tensor,
    stem: Var,
    down: Var,
    up: Var,
}

impl Block {
    /// The branch shrinks gradients by 2^-9 before it lets them grow by 2^9, so that its scale lies apart.
    fn new() -> Result<Self> {
        let device = &Device::Cpu;
        let scaled = |rows: [[f32; 2]; 2], factor: f32| {
            Var::from_tensor(&Tensor::new(&rows, device)?.affine(factor.into(), 0.0)?)
        };
        Ok(Self {
            samples: Tensor::new(&[[1.0_f32, 2.0], [3.0, -1.0]], device)?,
            stem: scaled([[1.0, 2.0], [-1.0, 1.0]], 1.0)?,
            down: scaled([[2.0, 1.0], [1.0, -1.0]], 512.0)?,
            up: scaled([[1.0, -1.0], [2.0, 3.0]], 1.0 / 512.0)?,
        })
    }

    fn weights(&self) -> [&Var; 3] {
        [&self.stem, &self.down, &self.up]
    }

    /// Returns the loss; `mark` is called for the stem, the branch and the sum.
    fn loss(
        &self,
        dtype: DType,
        mark: impl Fn(usize, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let product = |x: &Tensor, weight: &Var| x.matmul(&weight.to_dtype(dtype)?);
        let stem = mark(0, &product(&self.samples.to_dtype(dtype)?, &self.stem)?)?;
        let branch = mark(1, &product(&stem, &self.down)?)?;
        let sum = mark(2, &(product(&branch, &self.up)? + &stem)?)?;
        let weighting = Tensor::new(&[[1.0_f32, -2.0], [3.0, 1.0]], &Device::Cpu)?;
        (sum.to_dtype(DType::F32)? * weighting)?.sum_all()
    }
}

#[test]
fn a_residual_block_has_the_gradients_of_f32_bit_for_bit() -> Result<()> {
    let block = Block::new()?;
    let expected = block.loss(DType::F32, |_, x| Ok(x.clone()))?.backward()?;
    let scaler = scaler(2);
    let step = scaler.begin()?;
    let loss = block.loss(DType::F16, |id, x| match id {
        2 => scaler.output(x),
        _ => scaler.layer(id, x),
    })?;
    let seen = gradients(step, &loss);
    for weight in block.weights() {
        assert_eq!(bits(seen.get(weight).unwrap()), bits(expected.get(weight).unwrap()));
    }
    // The branches did arrive at different scales, or this would show nothing: eight binades lower for
    // each time that a segment overflowed, twice behind the output and once behind the branch.
    let [output, branch, stem] = scaler.visits()[..] else { panic!("three marks") };
    assert_eq!((branch.place, stem.place), (Place::Layer(1), Place::Layer(0)));
    assert_eq!(scaler.replays(), 3);
    assert_eq!(branch.incoming.log2(), output.outgoing.log2() - 2 * 8);
    assert_eq!(stem.incoming, branch.incoming);
    assert!(branch.outgoing.log2() - 8 >= stem.incoming.log2() + 8, "{branch:?} {stem:?}");
    Ok(())
}

#[test]
fn a_second_output_has_a_scale_of_its_own() -> Result<()> {
    let block = Block::new()?;
    let scaler = scaler(3);
    let both = |marks: bool| -> Result<Tensor> {
        let mark = |id: usize, x: &Tensor| match (marks, id) {
            (false, _) => Ok(x.clone()),
            (true, 2) => scaler.output(x),
            (true, _) => scaler.layer(id, x),
        };
        let dtype = if marks { DType::F16 } else { DType::F32 };
        let first = block.loss(dtype, mark)?;
        // A second head behind the same weight, whose gradient is much larger.
        let other = block.samples.to_dtype(dtype)?.matmul(&block.stem.to_dtype(dtype)?)?;
        let other = if marks { scaler.layer(2, &other.to_dtype(DType::F32)?)? } else { other };
        first + (other.sum_all()? * 4096.0)?
    };
    let expected = both(false)?.backward()?;
    let step = scaler.begin()?;
    let seen = gradients(step, &both(true)?);
    for weight in block.weights() {
        assert_eq!(bits(seen.get(weight).unwrap()), bits(expected.get(weight).unwrap()));
    }
    Ok(())
}
