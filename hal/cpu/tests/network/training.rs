//! The loss, and what it does to weights.

use adaloss_core::format::Noise;
use adaloss_cpu::Cpu;
use adaloss_hal::AddressSpace;
use adaloss_hal::network::{
    AdamW, AdamWStep, LossSum, Sgd, SgdStep, SoftmaxCrossEntropy, SquareNorm,
};
use adaloss_hal::portable::Portable;
use adaloss_oracle::tolerance::CPU_SOFTMAX;

use super::{
    Host, Outcomes, assert_equal, assert_near, assert_refused, download, in_place, on_both, random,
    upload,
};

#[test]
fn loses() {
    fn loss<D: Host>(
        device: &mut D,
        classes: usize,
        labels: &[u32],
        logits: &[f32],
        weights: Option<&[f32]>,
    ) -> Outcomes {
        let logits = upload(device, logits);
        let weights = weights.map(|weights| upload(device, weights));
        let labels_on = upload(device, labels);
        let mut sum = upload(device, &[LossSum { rows: 1, ..LossSum::default() }]);
        let mut to = in_place(device, &vec![7.0; labels.len() * classes], |device, mut to| {
            device.run(SoftmaxCrossEntropy::<D::Space> {
                classes,
                logits: D::view(&logits),
                labels: D::view(&labels_on),
                weights: weights.as_ref().map(|weights| D::view(weights)),
                gradient: D::Space::reborrow_mut(&mut to),
                sum: D::view_mut(&mut sum),
            })
        })?;
        // So that gradients are compared apart from the sums.
        to.iter_mut().for_each(|x| *x *= labels.len() as f32);
        let sum = download(device, &sum)[0];
        to.extend([sum.mean() as f32, sum.rows as f32, sum.correct as f32, sum.weight as f32]);
        Ok(to)
    }
    for (classes, rows) in [(10, 1000), (1, 50), (3, 7), (100, 130), (65, 64), (5000, 4), (10, 0)] {
        let noise = Noise { seed: 6, stream: 0 };
        let labels: Vec<_> = (0..rows).map(|i| noise.word(i) % (classes as u32 + 1)).collect();
        let mut logits = random::<f32>(19, labels.len() * classes);
        let weights: Vec<_> = random::<f32>(20, classes).iter().map(|x| x.abs()).collect();
        for weights in [Some(&weights[..]), None] {
            let (expected, found) =
                on_both!(|device| loss(device, classes, &labels, &logits, weights));
            let (expected, found) = (expected.unwrap(), found.unwrap());
            let sums = expected.len() - 4;
            assert_near(&expected[..sums], &found[..sums], &CPU_SOFTMAX);
            // Exponentials are added up in f64 on both, and the test takes a mean loss to f32.
            let bits = |of: &[f32]| of[sums..].iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&expected), bits(&found));
        }
        for (i, x) in
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN].iter().enumerate()
        {
            logits.iter_mut().skip(classes * i).take(1).for_each(|logit| *logit = *x);
        }
        let (expected, found) = on_both!(|device| loss(device, classes, &labels, &logits, None));
        assert_near(&expected.unwrap(), &found.unwrap(), &CPU_SOFTMAX);
        if classes > 1 {
            let few = Some(&weights[1..]);
            assert_refused!(|device| loss(device, classes, &labels, &logits, few));
        }
    }
    CPU_SOFTMAX.assert_needed();
}

#[test]
fn updates() {
    const SGD: Sgd =
        Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4, max_norm: Some(0.5) };
    const ADAMW: AdamW = AdamW {
        learning_rate: 0.01,
        betas: [0.9, 0.99],
        epsilon: 1.0e-8,
        weight_decay: 0.1,
        max_norm: None,
    };
    fn update<D: Host>(
        device: &mut D,
        gradient: &[f32],
        weight: &[f32],
        state: &[f32],
        norms: &[f64],
        adam: bool,
    ) -> Outcomes {
        let (gradient, norms) = (upload(device, gradient), upload(device, norms));
        let number = upload(device, &[3_u32]);
        let mut state = upload(device, state);
        let mut weights = in_place(device, weight, |device, mut weight| {
            let weight = D::Space::reborrow_mut(&mut weight);
            let (gradient, square_norm) = (D::view(&gradient), D::view(&norms));
            let state = D::view_mut(&mut state);
            match adam {
                true => device.run(AdamWStep::<D::Space> {
                    adamw: ADAMW,
                    gradient,
                    square_norm,
                    weight,
                    update: D::view(&number),
                    moments: state,
                    when: None,
                }),
                false => device.run(SgdStep::<D::Space> {
                    sgd: SGD,
                    gradient,
                    square_norm,
                    weight,
                    momentum: state,
                    when: None,
                }),
            }
        })?;
        weights.extend(download(device, &state));
        Ok(weights)
    }
    for length in [0, 1, 10_001] {
        let [gradient, weight] = [21, 22].map(|seed| random::<f32>(seed, length));
        let moments: Vec<_> = random::<f32>(23, 2 * length).iter().map(|x| x.abs()).collect();
        for square_norm in [0.0, 0.25, 2.0, f64::NAN] {
            assert_equal!(|device| update(
                device,
                &gradient,
                &weight,
                &moments,
                &[square_norm],
                true
            ));
            assert_equal!(|device| {
                update(device, &gradient, &weight, &moments[length..], &[square_norm], false)
            });
        }
        assert_refused!(|device| update(device, &gradient, &weight, &moments, &[], true));
        assert_refused!(|device| update(device, &gradient, &weight, &[1.0; 3], &[0.0], false));
    }
}

#[test]
fn squares_norms() {
    fn square<D: Host>(device: &mut D, gradient: &[f32], count: usize) -> Outcomes {
        let gradient = upload(device, gradient);
        let square_norm = in_place(device, &vec![1.0_f64; count], |device, to| {
            device.run(SquareNorm::<D::Space> { gradient: D::view(&gradient), to })
        })?;
        Ok(square_norm.iter().map(|&x| x as f32).collect())
    }
    for length in [0, 1, 100, 20_000] {
        let gradient = random::<f32>(24, length);
        assert_equal!(|device| square(device, &gradient, 1));
        assert_refused!(|device| square(device, &gradient, 2));
        let integers: Vec<_> = gradient.iter().map(|x| x.round()).collect();
        assert_equal!(|device| square(device, &integers, 1));
    }
}
