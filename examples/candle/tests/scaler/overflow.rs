//! What becomes of a step whose gradients are too large.

use adaloss_candle::{Backward, Scaler};
use adaloss_core::{
    format::Format,
    policy::{Backoff, Config, Policy, Recovery},
    unscale::{Cause, Place},
};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::{bits, gradients, scaler};

/// A layer whose product overflows binary16 at the scale of its gradient: every gradient is 1, and 2048 of
/// them times 2^15 are summed.
struct Steep {
    first: Var,
    second: Tensor,
}

impl Steep {
    fn new() -> Result<Self> {
        Ok(Self {
            first: Var::new(&[[0.0009765625_f32, 0.001953125]], &Device::Cpu)?,
            second: Tensor::full(32768.0_f32, (2, 2048), &Device::Cpu)?,
        })
    }

    /// Returns the loss and what candle makes of it in f32.
    fn loss(&self, scaler: &Scaler) -> Result<Tensor> {
        let hidden = scaler.layer(0, &self.first.to_dtype(DType::F16)?)?;
        scaler.output(&hidden.matmul(&self.second.to_dtype(DType::F16)?)?)?.sum_all()
    }

    fn expected(&self) -> Result<Tensor> {
        let gradients = self.first.matmul(&self.second)?.sum_all()?.backward()?;
        Ok(gradients.get(&self.first).unwrap().clone())
    }
}

#[test]
fn a_segment_that_overflows_is_run_again_lower() -> Result<()> {
    let (steep, scaler) = (Steep::new()?, scaler(1));
    // 2^26 times 2^14, where the gradient has a binade left: 25 binades too many, at eight a time.
    for replays in [4, 0, 0] {
        let step = scaler.begin()?;
        let seen = gradients(step, &steep.loss(&scaler)?);
        assert_eq!(bits(seen.get(&steep.first).unwrap()), bits(&steep.expected()?));
        // From the second step on the segment is run where its results fit.
        assert_eq!(scaler.replays(), replays);
    }
    assert_eq!(scaler.totals().skipped, 0);
    Ok(())
}

/// In front of the steep product is a shallow one, so that what leaves the segment would fit at any scale.
#[test]
fn a_segment_that_overflows_on_the_way_stays_low() -> Result<()> {
    let (steep, scaler) = (Steep::new()?, scaler(1));
    let shallow = Tensor::full(2.0_f32.powi(-26), (2, 2), &Device::Cpu)?;
    let expected = steep.first.matmul(&shallow)?.matmul(&steep.second)?.sum_all()?.backward()?;
    for replays in [4, 0, 0] {
        let step = scaler.begin()?;
        let hidden = scaler.layer(0, &steep.first.to_dtype(DType::F16)?)?;
        let hidden = hidden.to_dtype(DType::F32)?.matmul(&shallow)?.to_dtype(DType::F16)?;
        let output = scaler.output(&hidden.matmul(&steep.second.to_dtype(DType::F16)?)?)?;
        let seen = gradients(step, &output.sum_all()?);
        let of_first =
            |store: &candle_core::backprop::GradStore| bits(store.get(&steep.first).unwrap());
        assert_eq!(of_first(&seen), of_first(&expected));
        assert_eq!(scaler.replays(), replays);
    }
    Ok(())
}

#[test]
fn without_replay_the_step_is_skipped() -> Result<()> {
    let steep = Steep::new()?;
    let config = Config::for_format(Format::BINARY16).with_recovery(Recovery::Skip);
    let scaler = Scaler::new(config, 1)?;
    let step = scaler.begin()?;
    let skipped = step.backward(&steep.loss(&scaler)?)?;
    let Backward::Skip { layer, cause } = skipped else { panic!("{skipped:?}") };
    assert_eq!((layer, cause), (Place::Loss, Cause::Overflow));
    assert_eq!((scaler.totals().skipped, scaler.replays()), (1, 0));
    Ok(())
}

#[test]
fn backoff_skips_until_its_scale_fits() -> Result<()> {
    let steep = Steep::new()?;
    let policy = Policy::Backoff(Backoff::GRAD_SCALER);
    let scaler = Scaler::new(Config::for_format(Format::BINARY16).with_policy(policy).unwrap(), 1)?;
    let mut skipped = 0;
    let seen = loop {
        let step = scaler.begin()?;
        match step.backward(&steep.loss(&scaler)?)? {
            Backward::Apply(gradients) => break gradients,
            Backward::Skip { .. } => skipped += 1,
            stop @ Backward::Stop { .. } => panic!("{stop:?}"),
        }
    };
    // From 2^16 down to 2^-11, where 2^26 is representable.
    assert!(skipped > 20, "{skipped}");
    assert_eq!(bits(seen.get(&steep.first).unwrap()), bits(&steep.expected()?));
    Ok(())
}

#[test]
fn a_loss_that_is_not_finite_skips_and_in_the_end_stops() -> Result<()> {
    let config = Config::for_format(Format::BINARY16).with_max_skips(2).unwrap();
    let scaler = Scaler::new(config, 0)?;
    let weight = Var::new(&[1.0_f32, 2.0], &Device::Cpu)?;
    let backward = || -> Result<Backward> {
        let step = scaler.begin()?;
        let output = scaler.output(&weight.to_dtype(DType::F16)?)?;
        step.backward(&(output.sum_all()? * f64::NAN)?)
    };
    let first = backward()?;
    assert!(matches!(first, Backward::Skip { layer: Place::Loss, cause: Cause::NonFinite }));
    let second = backward()?;
    assert!(matches!(second, Backward::Stop { skipped: 2, .. }), "{second:?}");
    Ok(())
}

#[test]
fn what_no_scale_cures_is_skipped() -> Result<()> {
    let scaler = scaler(1);
    let weight = Var::new(&[1.0_f32, 2.0], &Device::Cpu)?;
    let step = scaler.begin()?;
    // The square root's slope at zero is infinite; its value is not.
    let zero = (weight.to_dtype(DType::F16)? * 0.5)?
        .relu()?
        .broadcast_sub(&Tensor::new(&[0.5_f32, 1.0], &Device::Cpu)?.to_dtype(DType::F16)?)?;
    let hidden = scaler.layer(0, &zero.sqrt()?)?;
    let skipped = step.backward(&scaler.output(&(hidden * 2.0)?)?.sum_all()?)?;
    let Backward::Skip { layer, cause } = skipped else { panic!("{skipped:?}") };
    assert_eq!((layer, cause), (Place::Layer(0), Cause::NonFinite));
    Ok(())
}

#[test]
fn a_sum_over_segments_that_leaves_f32_is_skipped() -> Result<()> {
    let scaler = scaler(1);
    let weight = Var::new(&[0.5_f32, 0.25], &Device::Cpu)?;
    let step = scaler.begin()?;
    let output = scaler.output(&scaler.layer(0, &weight.to_dtype(DType::F16)?)?)?;
    // Twice 2^127: from the loss itself, and through the layer.
    let [direct, through] = [weight.as_tensor(), &output].map(|x| x.sum_all()? * 2.0_f64.powi(127));
    let skipped = step.backward(&(direct? + through?)?)?;
    let Backward::Skip { layer, cause } = skipped else { panic!("{skipped:?}") };
    assert_eq!((layer, cause), (Place::Weight(0), Cause::NonFinite));
    Ok(())
}
