//! Losses: what the results of a network add up to, and their gradients.

use adaloss_core::format::Element;
use adaloss_hal::{
    Memory, Plain,
    network::{LossSum, SoftmaxCrossEntropy},
};
use anyhow::{Context, Error, Result, bail, ensure};

use super::{Network, Outputs};
use crate::{
    data::{Batch, Inputs},
    detect::{Detection, MultiboxLoss, Targets, by_map, by_sample, detect, multibox_loss},
    equation::helmholtz_loss,
    layer::{Machine, Tensor, Vector, complete},
    model::{Heads, quantities},
    unit::{Units, times},
};

/// A loss in the memory of a device.
pub struct Loss<D: Memory> {
    /// What it adds up to; one element.
    pub sum: Vector<D, LossSum>,
    /// The rows that count.
    pub rows: usize,
    /// Its gradients, in f32 and unscaled.
    pub gradients: Outputs<D>,
}

impl<D: Machine<W, G>, W: Element + Plain, G: Element + Plain> Network<D, W, G> {
    /// Computes the loss of some outputs and its gradients, in units of the task; `weights` has one weight per
    /// class, or is empty.
    ///
    /// A quantity beside the classes adds its mean squared error; one alone has no other loss.  The loss of a critic is its mean score
    /// of real samples less that of generated ones.  Both, and units other than one, are computed on the host, which waits for the
    /// device.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn loss(
        &mut self,
        outputs: &Outputs<D>,
        batch: &Batch,
        weights: &[f32],
        units: Units,
    ) -> Result<Loss<D>> {
        if self.layers.generator.is_some() {
            return self.critic_loss(outputs, batch.samples, units);
        }
        match (&self.layers.heads, &batch.quantities[..]) {
            (Heads::Boxes(_), _) => self.boxes_loss(outputs, batch, units),
            (Heads::Field(_), _) => self.field_loss(outputs, batch, units),
            (_, []) => self.classes_loss(outputs, batch, weights, units),
            (_, wanted) => self.quantity_loss(outputs, wanted, units),
        }
    }

    /// Computes the loss of a quantity that is learnt alone.
    fn quantity_loss(
        &mut self,
        outputs: &Outputs<D>,
        wanted: &[f32],
        units: Units,
    ) -> Result<Loss<D>> {
        let (loss, gradient) = self.squared_error(outputs.first()?, wanted, units.classes)?;
        self.mean_over(wanted.len(), loss, vec![gradient])
    }

    /// Computes the loss of a critic's scores of so many generated samples and of as many real ones (Arjovsky et al. 2017, equation
    /// 2): an estimate of the distance between both, which the critic raises and the generator lessens.
    fn critic_loss(
        &mut self,
        outputs: &Outputs<D>,
        samples: usize,
        units: Units,
    ) -> Result<Loss<D>> {
        let scores = outputs.first()?;
        let values = self.read(scores)?;
        ensure!(
            values.len() == 2 * samples && samples > 0,
            "{} scores are not those of {samples} generated and as many real samples: run the forward pass with `training`",
            values.len()
        );
        let (loss, mut values) = critic_loss(&values);
        times(&mut values, units.classes);
        let gradient = Tensor::of(&mut self.device, scores.shape(), &values)?;
        let loss = loss * f64::from(units.classes - units.common).exp2();
        self.mean_over(samples, loss, vec![gradient])
    }

    /// Computes the loss of classes, and of a quantity beside them.
    fn classes_loss(
        &mut self,
        outputs: &Outputs<D>,
        batch: &Batch,
        weights: &[f32],
        units: Units,
    ) -> Result<Loss<D>> {
        let (logits, labels) = (outputs.first()?, &batch.labels[..]);
        let (device, classes) = (&mut self.device, self.classes as u32);
        let rows = labels.iter().filter(|&&label| label < classes).count();
        let (labels, weights) = (Vector::of(device, labels)?, Vector::of(device, weights)?);
        let mut sum = Vector::of(device, &[LossSum::default()])?;
        let mut gradient = Tensor::zeroed(device, logits.shape())?;
        device.run(SoftmaxCrossEntropy {
            classes: self.classes,
            logits: logits.view(),
            labels: labels.view(),
            weights: (!weights.is_empty()).then(|| weights.view()),
            gradient: gradient.view_mut(),
            sum: sum.view_mut(),
        })?;
        if units.classes != 0 {
            let mut values = vec![0.0; gradient.shape().elements()];
            device.read(gradient.view(), &mut values)?;
            times(&mut values, units.classes);
            device.write(&values, gradient.view_mut())?;
        }
        let mut gradients = Outputs(vec![gradient]);
        let quantity = match (outputs.0.get(1), &batch.inputs) {
            (Some(found), Inputs::Images(images)) => {
                Some((found, quantities(images, batch.samples)))
            }
            _ => None,
        };
        if quantity.is_some() || units.classes != units.common {
            let mut total = sum.read_one(&mut self.device)?;
            complete("rows", total.rows, rows)?;
            total.loss *= f64::from(units.classes - units.common).exp2();
            if let Some((found, wanted)) = quantity {
                let (loss, gradient) = self.squared_error(found, &wanted, units.quantity)?;
                let log2 = f64::from(units.quantity - units.common);
                total.loss += total.weight * loss * log2.exp2();
                gradients.0.push(gradient);
            }
            self.device.write(&[total], sum.view_mut())?;
        }
        Ok(Loss { sum, rows, gradients })
    }

    /// Computes the loss of a field: its mean squared error where it is given, and the mean squared residual of its equation.
    fn field_loss(&mut self, outputs: &Outputs<D>, batch: &Batch, units: Units) -> Result<Loss<D>> {
        let ([given, value, laplacian], Inputs::Images(points)) = (&outputs.0[..], &batch.inputs)
        else {
            bail!(
                "the loss of a field needs its derivatives: run the forward pass with `training`"
            );
        };
        let (of_given, given) = self.squared_error(given, &batch.quantities, units.classes)?;
        let (mut values, mut laplacians) = (self.read(value)?, self.read(laplacian)?);
        let of_equation = helmholtz_loss(points, &mut values, &mut laplacians);
        let mut gradients = vec![given];
        for (mut values, shape) in [(values, value.shape()), (laplacians, laplacian.shape())] {
            times(&mut values, units.quantity);
            gradients.push(Tensor::of(&mut self.device, shape, &values)?);
        }
        let apart = |log2: i32| f64::from(log2 - units.common).exp2();
        let loss =
            of_given * apart(units.classes) + of_equation * apart(units.quantity - units.taken_out);
        self.mean_over(batch.samples, loss, gradients)
    }

    /// Returns a loss that is a mean over so many rows, each of which weighs one.
    fn mean_over(
        &mut self,
        rows: usize,
        mean: f64,
        gradients: Vec<Tensor<D, f32>>,
    ) -> Result<Loss<D>> {
        let weight = rows as f64;
        let sum = LossSum { loss: mean * weight, weight, rows: rows as u64, correct: 0 };
        let sum = Vector::of(&mut self.device, &[sum])?;
        Ok(Loss { sum, rows, gradients: Outputs(gradients) })
    }

    /// Computes the loss of default boxes, on the host.
    fn boxes_loss(&mut self, outputs: &Outputs<D>, batch: &Batch, units: Units) -> Result<Loss<D>> {
        let said = self.read_boxes(outputs, batch.samples)?;
        let Self { device, layers, classes, .. } = self;
        let Heads::Boxes(heads) = &layers.heads else {
            bail!("this network has no default boxes");
        };
        let boxes = &heads.boxes;
        let targets: Vec<_> =
            batch.objects.iter().map(|objects| Targets::new(boxes, objects)).collect();
        ensure!(targets.len() == batch.samples, "a list of objects is needed for each sample");
        let MultiboxLoss { sums, positives, mut scores, mut offsets } =
            multibox_loss(*classes, &targets, &said[0], &said[1]);
        times(&mut scores, units.classes);
        times(&mut offsets, units.quantity);
        let apart = |log2: i32| f64::from(log2 - units.common).exp2();
        let sum = LossSum {
            loss: sums[0] * apart(units.classes) + sums[1] * apart(units.quantity),
            weight: positives.max(1) as f64,
            rows: batch.samples as u64,
            correct: 0,
        };
        let sum = Vector::of(device, &[sum])?;
        let mut gradients = Vec::new();
        for (nth, all) in [scores, offsets].iter().enumerate() {
            let shapes: Vec<_> = outputs.0.iter().skip(nth).step_by(2).map(Tensor::shape).collect();
            let lengths: Vec<_> = shapes.iter().map(|shape| shape.elements()).collect();
            let mut maps = Vec::new();
            for (values, shape) in by_map(all, &lengths, batch.samples).iter().zip(shapes) {
                maps.push(Tensor::of(device, shape, values)?);
            }
            gradients.push(maps);
        }
        let [scores, offsets] = gradients.try_into().ok().context("two gradients of each map")?;
        let gradients = scores.into_iter().zip(offsets).flat_map(<[_; 2]>::from).collect();
        Ok(Loss { sum, rows: batch.samples, gradients: Outputs(gradients) })
    }

    /// Copies to the host what the network says of default boxes: scores and offsets, sample by sample.
    fn read_boxes(&mut self, outputs: &Outputs<D>, samples: usize) -> Result<[Vec<f32>; 2]> {
        let mut read = |first: usize| {
            let maps = outputs.0.iter().skip(first).step_by(2).map(|map| self.read(map));
            Ok::<_, Error>(by_sample(&maps.collect::<Result<Vec<_>>>()?, samples))
        };
        Ok([read(0)?, read(1)?])
    }

    /// Returns what was found in each sample; nothing of a network that is lost, of whose results none is finite, or that has no
    /// default boxes.
    pub fn detections(
        &mut self,
        outputs: &Outputs<D>,
        samples: usize,
    ) -> Result<Option<Vec<Vec<Detection>>>> {
        let [scores, offsets] = self.read_boxes(outputs, samples)?;
        let Heads::Boxes(heads) = &self.layers.heads else { return Ok(None) };
        let boxes = &heads.boxes;
        let is_lost = scores.iter().chain(&offsets).all(|x| !x.is_finite());
        let columns = boxes.len() * (self.classes + 1);
        let found = scores
            .chunks_exact(columns)
            .zip(offsets.chunks_exact(4 * boxes.len()))
            .map(|(scores, offsets)| detect(boxes, self.classes, scores, offsets));
        Ok((!is_lost).then(|| found.collect()))
    }

    /// Copies what a loss adds up to, to the host.
    ///
    /// # Errors
    ///
    /// The device failed, or left the operation out: it counted other rows than have a label.
    pub fn read_loss(&mut self, loss: &Loss<D>) -> Result<LossSum> {
        let sum = loss.sum.read_one(&mut self.device)?;
        complete("rows", sum.rows, loss.rows)?;
        Ok(sum)
    }

    /// Returns the mean squared error of some predictions, and its gradient times `2^log2`.
    fn squared_error(
        &mut self,
        found: &Tensor<D, f32>,
        wanted: &[f32],
        log2: i32,
    ) -> Result<(f64, Tensor<D, f32>)> {
        let mut values = self.read(found)?;
        let loss = squared_error(&mut values, wanted);
        times(&mut values, log2);
        Ok((loss, Tensor::of(&mut self.device, found.shape(), &values)?))
    }

    /// Returns what some outputs say of the quantity of each sample, and the true ones; none where no quantity is learnt.
    pub fn quantities(
        &mut self,
        outputs: &Outputs<D>,
        batch: &Batch,
    ) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        Ok(match (outputs.0.get(1), &batch.inputs) {
            _ if !batch.quantities.is_empty() => {
                Some((self.read(outputs.first()?)?, batch.quantities.clone()))
            }
            (Some(found), Inputs::Images(images)) => {
                Some((self.read(found)?, quantities(images, batch.samples)))
            }
            _ => None,
        })
    }
}

/// Returns the mean squared error, and leaves its gradient where the values were.
fn squared_error(values: &mut [f32], wanted: &[f32]) -> f64 {
    let (count, mut sum) = (values.len().max(1) as f64, 0.0);
    for (value, wanted) in values.iter_mut().zip(wanted) {
        let error = f64::from(*value) - f64::from(*wanted);
        sum += error * error;
        *value = (2.0 * error / count) as f32;
    }
    sum / count
}

/// Returns the mean of the second half of some scores less that of the first, and its gradient.
fn critic_loss(scores: &[f32]) -> (f64, Vec<f32>) {
    let half = scores.len() / 2;
    let share = 1.0 / half.max(1) as f64;
    let sum = |scores: &[f32]| scores.iter().map(|&score| f64::from(score)).sum::<f64>();
    let (generated, real) = scores.split_at(half);
    let gradient = |nth| if nth < half { -share as f32 } else { share as f32 };
    ((sum(real) - sum(generated)) * share, (0..scores.len()).map(gradient).collect())
}

/// Returns the loss of a step over its micro-batches.
pub fn mean_loss(sums: &[LossSum]) -> Result<f64> {
    let first = sums.first().context("a step without micro-batches")?;
    let total = sums[1..].iter().fold(*first, |mut total, sum| {
        total.loss += sum.loss;
        total.weight += sum.weight;
        total
    });
    Ok(total.mean())
}
