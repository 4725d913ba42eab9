//! Operations of layers on the simulated grid.

use std::ptr::null;

use adaloss_conformance::{self as conformance, Failure};
use adaloss_core::{
    format::{E4M3, E5M2, Element, Noise, bf16, f16},
    unscale::LossSum,
};
use adaloss_hal::{
    Device, Fitting, HostError, HostSpace, Plain, Run,
    network::{
        Accumulate, AdamW, AdamWStep, Blend, HasLoss, HasUpdate, Relu, ReluInput, Sgd, SgdStep,
        SoftmaxCrossEntropy, SquareNorm,
    },
    portable::Portable,
};
use adaloss_kernels::{
    memory::Out,
    network::{accumulate, loss, operand::Operand, pointwise, update},
    sums::{PARTS, add_sums, parts_of_elements},
    update::Sgd as Constants,
};

use crate::device::Simulated;

impl<W: Element + Plain> Run<Relu<'_, HostSpace, W>> for Simulated {
    fn execute(&mut self, operation: Fitting<'_, Relu<'_, HostSpace, W>>) -> Result<(), HostError> {
        let values = Out::of(operation.into_inner().values);
        // SAFETY: nothing else names the values.
        self.grid().launch(|block| unsafe { pointwise::relu(block, values) });
        Ok(())
    }
}

impl<W: Element + Plain, G: Element + Plain> Run<ReluInput<'_, '_, HostSpace, W, G>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, ReluInput<'_, '_, HostSpace, W, G>>,
    ) -> Result<(), HostError> {
        let ReluInput { output, gradient } = operation.into_inner();
        let (output, gradient) = (Operand::new(output.as_ptr()), Out::of(gradient));
        // SAFETY: both are borrowed, and of one length: the operation fits.
        self.grid().launch(|block| unsafe { pointwise::relu_input(block, output, gradient) });
        Ok(())
    }
}

impl Run<Accumulate<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Accumulate<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Accumulate { input, to } = operation.into_inner();
        let (input, to) = (*input, Out::of(to));
        // SAFETY: both are borrowed.
        self.grid().launch(|block| unsafe { accumulate::accumulate(block, input, to) });
        Ok(())
    }
}

impl Run<Blend<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Blend<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Blend { share, input, to, when } = operation.into_inner();
        let (share, input, to) = (*share, *input, Out::of(to));
        let when = when.map_or(null(), <[_]>::as_ptr);
        // SAFETY: all are borrowed, and of one length: the operation fits.
        self.grid().launch(|block| unsafe { accumulate::blend(block, share, input, to, when) });
        Ok(())
    }
}

impl Run<SoftmaxCrossEntropy<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, SoftmaxCrossEntropy<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SoftmaxCrossEntropy { classes, logits, labels, weights, gradient, sum } =
            operation.into_inner();
        let mut sums = [0.0_f64; 2 * PARTS];
        let rows = labels.len();
        let of = loss::Loss {
            rows,
            classes: *classes,
            logits: logits.as_ptr(),
            labels: labels.as_ptr(),
            weights: weights.map_or(null(), <[_]>::as_ptr),
            gradient: gradient.as_mut_ptr(),
            sum: sum.as_mut_ptr(),
            parts: sums.as_mut_ptr(),
        };
        // SAFETY: all that is named is borrowed, and has its length: the operation fits.
        unsafe {
            self.grid().launch(|block| loss::weights(block, &of));
            self.grid().launch(|block| loss::softmax_cross_entropy(block, &of));
            self.grid().launch(|block| add_sums(block, of.parts, of.parts(), 2, of.sum.cast()));
        }
        Ok(())
    }
}

impl Run<SquareNorm<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, SquareNorm<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SquareNorm { gradient, to } = operation.into_inner();
        let (gradient, to, mut sums) = (*gradient, to.as_mut_ptr(), [0.0_f64; PARTS]);
        let sums = sums.as_mut_ptr();
        // SAFETY: both are borrowed, and the sum is one: the operation fits.
        unsafe {
            self.grid().launch(|block| update::square_norm(block, gradient, sums));
            self.grid()
                .launch(|block| add_sums(block, sums, parts_of_elements(gradient.len()), 1, to));
        }
        Ok(())
    }
}

fn step(
    gradient: &[f32],
    square_norm: &[f64],
    weight: &mut [f32],
    max_norm: Option<f32>,
    when: Option<&[u32]>,
) -> update::Step {
    update::Step {
        count: weight.len(),
        gradient: gradient.as_ptr(),
        weight: weight.as_mut_ptr(),
        square_norm: square_norm.as_ptr(),
        max_norm: max_norm.unwrap_or(f32::NAN),
        when: when.map_or(null(), <[_]>::as_ptr),
    }
}

impl Run<SgdStep<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, SgdStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let SgdStep { sgd, gradient, square_norm, weight, momentum, when } = operation.into_inner();
        let Sgd { learning_rate, momentum: share, weight_decay, max_norm } = *sgd;
        let sgd = Constants { learning_rate, momentum: share, weight_decay };
        let step = step(gradient, square_norm, weight, max_norm, *when);
        let momentum = momentum.as_mut_ptr();
        // SAFETY: all that is named is borrowed, and has its length: the operation fits.
        self.grid().launch(|block| unsafe { update::sgd_step(block, sgd, &step, momentum) });
        Ok(())
    }
}

impl Run<AdamWStep<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, AdamWStep<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let AdamWStep { adamw, gradient, square_norm, update, weight, moments, when } =
            operation.into_inner();
        let AdamW { learning_rate, betas, epsilon, weight_decay, max_norm } = *adamw;
        let adamw = update::AdamW { learning_rate, betas, epsilon, weight_decay };
        let step = step(gradient, square_norm, weight, max_norm, *when);
        let (update, moments) = (update.as_ptr(), moments.as_mut_ptr());
        // SAFETY: as above.
        self.grid()
            .launch(|block| unsafe { update::adamw_step(block, adamw, &step, update, moments) });
        Ok(())
    }
}

#[test]
fn layers_conform() -> Result<(), Failure> {
    let device = &mut Simulated::default();
    conformance::pointwise::<f16, f16, _>(device)?;
    conformance::pointwise::<bf16, f32, _>(device)?;
    conformance::pointwise::<E4M3, E5M2, _>(device)?;
    conformance::pointwise::<f32, E4M3, _>(device)?;
    conformance::accumulate(device)?;
    conformance::loss(device)?;
    conformance::update(device)?;
    Ok(())
}

fn noise(stream: u32, count: usize) -> Vec<f32> {
    let noise = Noise { seed: 13, stream };
    (0..count as u32).map(|index| noise.word(index) as f32 / 2.0_f32.powi(29) - 4.0).collect()
}

/// The norm of a tensor with more terms than lanes, on a grid.
fn norm(device: &mut Simulated, gradient: &[f32]) -> f64 {
    let mut sum = [0.25];
    device.run(SquareNorm { gradient, to: &mut sum[..] }).expect("it fits");
    sum[0]
}

/// Whatever the launch: each of the device has another shape.
#[test]
fn a_norm_has_the_same_bits_on_any_grid() {
    let gradient = noise(1, 2 * 256 * PARTS + 77);
    let device = &mut Simulated::default();
    let first = norm(device, &gradient);
    for _ in 0..6 {
        assert_eq!(norm(device, &gradient).to_bits(), first.to_bits());
    }
    let exact: f64 = gradient.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    assert!((first - 0.25 - exact).abs() < 1.0e-12 * exact, "{first} and not {exact}");
}

/// A loss and its gradient.
fn loss_of<D>(device: &mut D, [rows, classes]: [usize; 2]) -> (Vec<u32>, LossSum)
where
    D: Device<Space = HostSpace, Error = HostError> + HasLoss,
{
    let (logits, weights) = (noise(2, classes * rows), noise(3, classes));
    let labels: Vec<_> =
        noise(4, rows).into_iter().map(|x| (0.14 * classes as f32 * (x + 4.0)) as u32).collect();
    let weights: Vec<_> = weights.into_iter().map(|x| x + 5.0).collect();
    let (mut gradient, mut sum) = (vec![f32::NAN; classes * rows], [LossSum::default()]);
    let of = SoftmaxCrossEntropy {
        classes,
        logits: &logits[..],
        labels: &labels[..],
        weights: Some(&weights[..]),
        gradient: &mut gradient[..],
        sum: &mut sum[..],
    };
    device.run(of).expect("it fits");
    (gradient.into_iter().map(f32::to_bits).collect(), sum[0])
}

/// Gradients are the portable device's, bit for bit, and sums the same on any grid.
#[test]
fn a_loss_is_the_portable_devices() {
    let device = &mut Simulated::default();
    for shape in [[1, 10], [5, 1], [300, 10], [1000, 3], [40, 33], [30, 700], [3000, 32]] {
        let (expected, sum) = loss_of(&mut Portable, shape);
        let (_, first) = loss_of(device, shape);
        for _ in 0..5 {
            let (gradient, found) = loss_of(device, shape);
            assert!(gradient == expected && found == first, "{found:?} and not {first:?}");
        }
        assert_eq!([first.rows, first.correct], [sum.rows, sum.correct]);
        assert!((first.loss - sum.loss).abs() <= 1.0e-12 * sum.loss);
        assert!((first.weight - sum.weight).abs() <= 1.0e-12 * sum.weight);
    }
}

/// Weights and state after an update of either kind.
fn updated<D>(device: &mut D, max_norm: Option<f32>, number: u32) -> Vec<u32>
where
    D: Device<Space = HostSpace, Error = HostError> + HasUpdate,
{
    let count = 1003;
    let (gradient, mut weight) = (noise(5, count), noise(6, count));
    let mut state: Vec<_> = noise(7, 2 * count).into_iter().map(f32::abs).collect();
    let sgd = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1.0e-3, max_norm };
    let (gradient, square_norm) = (&gradient[..], &[1.0e6][..]);
    let (momentum, when) = (&mut state[..count], None);
    let of = SgdStep { sgd, gradient, square_norm, weight: &mut weight[..], momentum, when };
    device.run(of).expect("it fits");
    let betas = [0.9, 0.999];
    let adamw = AdamW { learning_rate: 0.05, betas, epsilon: 1.0e-8, weight_decay: 0.01, max_norm };
    state.iter_mut().for_each(|x| *x = x.abs());
    let (update, weight_mut, moments) = (&[number][..], &mut weight[..], &mut state[..]);
    let of = AdamWStep { adamw, gradient, square_norm, update, weight: weight_mut, moments, when };
    device.run(of).expect("it fits");
    weight.into_iter().chain(state).map(f32::to_bits).collect()
}

#[test]
fn updates_are_the_portable_devices() {
    let device = &mut Simulated::default();
    for (max_norm, number) in [(None, 1), (Some(10.0), 2), (Some(5000.0), 1000)] {
        assert!(updated(device, max_norm, number) == updated(&mut Portable, max_norm, number));
    }
}
