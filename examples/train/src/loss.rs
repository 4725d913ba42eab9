//! Softmax cross entropy, in f32.

/// The mean loss of a batch and its gradient with respect to the logits.
#[derive(Debug)]
pub struct Loss {
    /// Mean over the batch; NaN where a logit is not finite.
    pub mean: f32,
    /// Shape (batch, classes), divided by the batch.
    pub gradient: Vec<f32>,
}

/// Computes the loss of logits of shape (batch, classes).
pub fn softmax_cross_entropy(logits: &[f32], labels: &[u8]) -> Loss {
    let batch = labels.len();
    let classes = logits.len() / batch;
    let mut gradient = vec![0.0; logits.len()];
    let mut sum = 0.0;
    let rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes));
    for ((logits, gradient), &label) in rows.zip(labels) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        gradient.iter_mut().zip(logits).for_each(|(p, logit)| *p = (logit - max).exp());
        let total: f32 = gradient.iter().sum();
        sum += total.ln() + max - logits[usize::from(label)];
        gradient.iter_mut().for_each(|p| *p /= total * batch as f32);
        gradient[usize::from(label)] -= 1.0 / batch as f32;
    }
    Loss { mean: sum / batch as f32, gradient }
}

/// Returns how many rows of logits have their greatest value at the label.
pub fn correct(logits: &[f32], labels: &[u8]) -> usize {
    let classes = logits.len() / labels.len();
    let rows = logits.chunks_exact(classes).zip(labels);
    rows.filter(|(logits, label)| {
        let label = usize::from(**label);
        logits.iter().enumerate().all(|(class, &logit)| class == label || logit < logits[label])
    })
    .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let logits = [0.3, -1.2, 2.0, 0.5, 0.1, -0.4];
        let labels = [2, 0];
        let loss = softmax_cross_entropy(&logits, &labels);
        for i in 0..logits.len() {
            let at = |step: f32| {
                let mut moved = logits;
                moved[i] += step;
                f64::from(softmax_cross_entropy(&moved, &labels).mean)
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((slope - f64::from(loss.gradient[i])).abs() < 1e-4);
        }
        assert_eq!(correct(&logits, &labels), 2);
        assert_eq!(correct(&[f32::NAN, 0.0], &[1]), 0);
    }
}
