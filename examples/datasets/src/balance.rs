//! Weights of classes that make up for how often they occur.

/// How often each class occurs among the pixels of images, for median-frequency balancing as SegNet has it (Badrinarayanan,
/// Kendall and Cipolla, 2017, section 4): the frequency of a class is its share of the pixels of those images that contain it,
/// and its weight is the median of all frequencies over its own.
#[derive(Clone, Debug)]
pub(crate) struct Frequencies {
    /// Pixels of each class.
    pixels: Vec<u64>,
    /// Pixels of the images that contain each class.
    around: Vec<u64>,
}

impl Frequencies {
    /// Returns those of no images yet.
    pub(crate) fn new(classes: usize) -> Self {
        Self { pixels: vec![0; classes], around: vec![0; classes] }
    }

    /// Counts an image; values that are no class count as pixels of it, and for no class.
    pub(crate) fn add(&mut self, labels: &[u8]) {
        let mut counts = [0; 256];
        labels.iter().for_each(|&class| counts[usize::from(class)] += 1);
        for ((pixels, around), count) in self.pixels.iter_mut().zip(&mut self.around).zip(counts) {
            if count > 0 {
                *pixels += count;
                *around += labels.len() as u64;
            }
        }
    }

    /// Adds those of other images.
    pub(crate) fn merge(mut self, other: &Self) -> Self {
        self.pixels.iter_mut().zip(&other.pixels).for_each(|(sum, x)| *sum += x);
        self.around.iter_mut().zip(&other.around).for_each(|(sum, x)| *sum += x);
        self
    }

    /// Returns the weights; that of a class that never occurs is 0.
    pub(crate) fn weights(&self) -> Vec<f32> {
        let share = |(&pixels, &around): (&u64, &u64)| pixels as f64 / around.max(1) as f64;
        let frequencies: Vec<_> = self.pixels.iter().zip(&self.around).map(share).collect();
        let mut occurring: Vec<_> = frequencies.iter().copied().filter(|&f| f > 0.0).collect();
        if occurring.is_empty() {
            return vec![0.0; frequencies.len()];
        }
        occurring.sort_unstable_by(f64::total_cmp);
        let middle = occurring.len() / 2;
        let median = match occurring.len() % 2 {
            0 => (occurring[middle - 1] + occurring[middle]) / 2.0,
            _ => occurring[middle],
        };
        let weight = |&f: &f64| if f > 0.0 { (median / f) as f32 } else { 0.0 };
        frequencies.iter().map(weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the weights of images, counted one after the other and apart.
    fn weights(classes: usize, images: &[&[u8]]) -> Vec<f32> {
        let mut together = Frequencies::new(classes);
        images.iter().for_each(|labels| together.add(labels));
        let apart = images.iter().map(|labels| {
            let mut of_one = Frequencies::new(classes);
            of_one.add(labels);
            of_one
        });
        let merged = apart.fold(Frequencies::new(classes), |sum, of_one| sum.merge(&of_one));
        assert_eq!(merged.weights(), together.weights());
        together.weights()
    }

    #[test]
    fn weights_are_the_median_over_the_frequency() {
        // Frequencies 1/2, 1/4 and 1/8, and a class that never occurs.
        let images: [&[u8]; 2] = [&[0, 0, 0, 0, 0, 1, 1, 2], &[0, 0, 0, 9, 9, 9, 9, 9]];
        assert_eq!(weights(4, &images), [0.5, 1.0, 2.0, 0.0]);
        assert_eq!(weights(2, &[&[0, 0, 0, 1]]), [2.0 / 3.0, 2.0]);
        assert_eq!(weights(2, &[&[5, 5]]), [0.0, 0.0]);
    }
}
