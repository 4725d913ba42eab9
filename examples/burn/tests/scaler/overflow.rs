//! What becomes of a step whose gradients are too large.

use adaloss_burn::{Backward, Scaler, ScalerError};
use adaloss_core::{
    format::Format,
    policy::{Amax, Backoff, Config, Policy, Recovery},
    scale::Scale,
    unscale::{Cause, Place},
};
use burn::{
    module::Param,
    tensor::{DType, Tensor, activation::relu},
};

use crate::{Weight, bits, by_burn, gradients, of, scaler, tensor};

/// A layer whose product overflows binary16 at the scale of its gradient: every gradient is 1, and 2048 of
/// them times 2^15 are summed.
struct Steep {
    first: Weight,
    second: Tensor<2>,
}

impl Steep {
    fn new() -> Self {
        Self {
            first: Param::from_tensor(tensor(vec![2.0_f32.powi(-10), 2.0_f32.powi(-9)], [1, 2])),
            second: tensor(vec![32768.0; 2 * 2048], [2, 2048]),
        }
    }

    fn loss(&self, scaler: &Scaler) -> Tensor<1> {
        let hidden = scaler.layer(0, self.first.val().cast(DType::F16));
        scaler.output(hidden.matmul(self.second.clone().cast(DType::F16))).sum()
    }

    /// Returns what burn makes of it in f32.
    fn expected(&self) -> Vec<f32> {
        let loss = self.first.val().matmul(self.second.clone()).sum();
        of(&by_burn(&self.first, &loss), &self.first)
    }
}

fn step(scaler: &Scaler, steep: &Steep) -> Result<Backward, ScalerError> {
    scaler.step(&steep.first, || steep.loss(scaler))
}

#[test]
fn a_segment_that_overflows_is_run_again_lower() {
    let (steep, scaler) = (Steep::new(), scaler(1));
    // 2^26 times 2^14, where the gradient has a binade left: 25 binades too many, at eight a time.
    for replays in [4, 0, 0] {
        let mut passes = 0;
        let seen = gradients(&scaler, &steep.first, || {
            passes += 1;
            steep.loss(&scaler)
        });
        assert_eq!(bits(&of(&seen, &steep.first)), bits(&steep.expected()));
        // From the second step on the segment is run where its results fit.
        assert_eq!((scaler.replays(), passes), (replays, replays + 1));
    }
    assert_eq!((scaler.totals().steps, scaler.totals().skipped), (3, 0));
    // What a forward pass decided that had to be repeated is not counted twice.
    assert_eq!(scaler.totals().certificates, 2);
}

#[test]
fn segments_that_overflow_on_the_way_are_all_run_lower() {
    let (steep, scaler) = (Steep::new(), scaler(2));
    // In front of each steep product a shallow one, so that what leaves a segment would fit at any scale.
    let shallow = tensor(vec![2.0_f32.powi(-26); 2048 * 2], [2048, 2]);
    let loss = |dtype: DType, mark: &dyn Fn(usize, Tensor<2>) -> Tensor<2>| {
        let mut x = steep.first.val().cast(dtype);
        for id in 0..3 {
            if id > 0 {
                x = x.cast(DType::F32).matmul(shallow.clone()).cast(dtype);
            }
            x = mark(id, x.matmul(steep.second.clone().cast(dtype)));
        }
        x.cast(DType::F32).sum()
    };
    let expected = by_burn(&steep.first, &loss(DType::F32, &|_, x| x));
    // Four for each of them.
    for replays in [12, 0, 0] {
        let seen = gradients(&scaler, &steep.first, || {
            loss(DType::F16, &|id, x| match id {
                2 => scaler.output(x),
                _ => scaler.layer(id, x),
            })
        });
        assert_eq!(bits(&of(&seen, &steep.first)), bits(&of(&expected, &steep.first)));
        assert_eq!(scaler.replays(), replays);
    }
}

#[test]
fn without_replay_the_step_is_skipped() {
    let steep = Steep::new();
    let config = Config::for_format(Format::BINARY16).with_recovery(Recovery::Skip);
    let scaler = Scaler::new(config, 1).unwrap();
    let skipped = step(&scaler, &steep).unwrap();
    let Backward::Skip { layer, cause } = skipped else { panic!("{skipped:?}") };
    assert_eq!((layer, cause), (Place::Loss, Cause::Overflow));
    assert_eq!((scaler.totals().skipped, scaler.replays()), (1, 0));
}

#[test]
fn backoff_skips_until_its_scale_fits() {
    let steep = Steep::new();
    let policy = Policy::Backoff(Backoff::GRAD_SCALER);
    let config = Config::for_format(Format::BINARY16).with_policy(policy).unwrap();
    let scaler = Scaler::new(config, 1).unwrap();
    let mut skipped = 0;
    let seen = loop {
        match step(&scaler, &steep).unwrap() {
            Backward::Apply(gradients) => break gradients,
            Backward::Skip { .. } => skipped += 1,
            stop @ Backward::Stop { .. } => panic!("{stop:?}"),
        }
    };
    // From 2^16 down to 2^-11, where 2^26 is representable.
    assert!(skipped > 20, "{skipped}");
    assert_eq!(bits(&of(&seen, &steep.first)), bits(&steep.expected()));
}

#[test]
fn a_fixed_scale_stays_and_amax_moves() {
    let weight = Param::from_tensor(tensor(vec![1.0, 2.0], [1, 2]));
    let scale = |policy: Policy| {
        let config = Config::for_format(Format::BINARY16).with_policy(policy).unwrap();
        let scaler = Scaler::new(config, 0).unwrap();
        for _ in 0..2 {
            let seen = gradients(&scaler, &weight, || {
                scaler.output(weight.val().cast(DType::F16)).sum() * 2.0_f64.powi(-20)
            });
            assert_eq!(of(&seen, &weight), [2.0_f32.powi(-20); 2]);
        }
        scaler.visits()[0].outgoing
    };
    let eight = Scale::new(8).unwrap();
    assert_eq!(scale(Policy::Fixed(eight)), eight);
    assert!(scale(Policy::Amax(Amax::DELAYED_SCALING)) > eight);
}

#[test]
fn a_loss_that_is_not_finite_skips_and_in_the_end_stops() {
    let config = Config::for_format(Format::BINARY16).with_max_skips(2).unwrap();
    let scaler = Scaler::new(config, 0).unwrap();
    let weight = Param::from_tensor(tensor(vec![1.0, 2.0], [1, 2]));
    let backward = || {
        let loss = || scaler.output(weight.val().cast(DType::F16)).sum() * f64::NAN;
        scaler.step(&weight, loss).unwrap()
    };
    let first = backward();
    assert!(matches!(first, Backward::Skip { layer: Place::Loss, cause: Cause::NonFinite }));
    let second = backward();
    assert!(matches!(second, Backward::Stop { skipped: 2, .. }), "{second:?}");
}

#[test]
fn what_no_scale_cures_is_skipped() {
    let scaler = scaler(1);
    let weight = Param::from_tensor(tensor(vec![1.0, 2.0], [1, 2]));
    let skipped = scaler.step(&weight, || {
        // The square root's slope at zero is infinite; its value is not.
        let zero = relu(weight.val().cast(DType::F16) * 0.5)
            - tensor(vec![0.5, 1.0], [1, 2]).cast(DType::F16);
        scaler.output(scaler.layer(0, zero.sqrt()) * 2.0).sum()
    });
    let Backward::Skip { layer, cause } = skipped.unwrap() else { panic!("a slope is infinite") };
    assert_eq!((layer, cause), (Place::Layer(0), Cause::NonFinite));
    assert_eq!((scaler.totals().steps, scaler.totals().skipped), (1, 1));
}

#[test]
fn a_sum_over_segments_that_leaves_f32_is_skipped() {
    let scaler = scaler(1);
    let weight = Param::from_tensor(tensor(vec![0.5, 0.25], [1, 2]));
    let skipped = scaler.step(&weight, || {
        let output = scaler.output(scaler.layer(0, weight.val().cast(DType::F16)));
        // Twice 2^127: from the loss itself, and through the layer.
        let [direct, through] = [weight.val(), output].map(|x| x.sum() * 2.0_f64.powi(127));
        direct + through
    });
    let Backward::Skip { layer, cause } = skipped.unwrap() else { panic!("the sum is 2^128") };
    assert_eq!((layer, cause), (Place::Weight(0), Cause::NonFinite));
}
