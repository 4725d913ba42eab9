//! How near generated samples are to real ones.

use rand_distr::{Distribution, StandardNormal};

use crate::view::generator;

/// Directions along which samples are compared.
const DIRECTIONS: usize = 128;

/// Collects real and generated samples, batch by batch, and finds the *sliced Wasserstein distance* between them (Rabin et al.
/// 2012): the mean, over directions, of the distance between both sets of projections, each in its order.
///
/// The directions are random and always the same.  The figure for reports is a skill score: how much nearer the generated samples are than
/// the mean of the real ones would be in their place, 1 where both sets are the same, 0 where they are no nearer than that.
/// Training samples in the place of generated ones are not at 1, as they are others than those that test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sliced {
    /// Unit vectors, one behind the other, of as many values as a sample has.
    directions: Vec<f32>,
    /// Of each sample a row of projections.
    real: Vec<f32>,
    generated: Vec<f32>,
}

impl Sliced {
    /// Adds a batch: values of real and of as many generated samples, of `length` each.
    ///
    /// # Panics
    ///
    /// If the samples are not as many, have no values, or have not this length or that of a batch before.
    pub fn add(&mut self, real: &[f32], generated: &[f32], length: usize) {
        assert_eq!(real.len(), generated.len(), "as many generated samples as real ones");
        assert!(real.len().is_multiple_of(length), "{} values of {length} each", real.len());
        if self.directions.is_empty() {
            self.directions = (0..DIRECTIONS).flat_map(|nth| direction(nth, length)).collect();
        }
        assert_eq!(self.directions.len(), DIRECTIONS * length, "samples of one length");
        for (all, more) in [(&mut self.real, real), (&mut self.generated, generated)] {
            for sample in more.chunks_exact(length) {
                let along = |direction: &[f32]| {
                    let products = sample.iter().zip(direction);
                    products.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() as f32
                };
                all.extend(self.directions.chunks_exact(length).map(along));
            }
        }
    }

    /// Returns all projections as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let pairs = self.real.iter().zip(&self.generated);
        pairs
            .flat_map(|(real, generated)| [real, generated])
            .flat_map(|x| x.to_le_bytes())
            .collect()
    }

    /// Takes projections back that are one behind the other.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let values: Vec<f32> =
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let (real, generated) = values.as_chunks().0.iter().map(|&[x, y]| (x, y)).unzip();
        Self { directions: Vec::new(), real, generated }
    }

    /// Returns 1 less the distance over that of the mean of the real samples: from 0, for what is no nearer, is not finite, or is
    /// compared with samples that are all the same, to 1.
    pub fn value(&self) -> f64 {
        let (mut found, mut of_mean) = (0.0, 0.0);
        for nth in 0..DIRECTIONS {
            let along = |all: &[f32]| {
                let mut along: Vec<f32> =
                    all.iter().skip(nth).step_by(DIRECTIONS).copied().collect();
                along.sort_by(f32::total_cmp);
                along
            };
            let (real, generated) = (along(&self.real), along(&self.generated));
            let mean = real.iter().map(|&x| f64::from(x)).sum::<f64>() / real.len() as f64;
            for (&x, &y) in real.iter().zip(&generated) {
                found += (f64::from(x) - f64::from(y)).abs();
                of_mean += (f64::from(x) - mean).abs();
            }
        }
        match of_mean > 0.0 && (found / of_mean).is_finite() {
            true => (1.0 - found / of_mean).clamp(0.0, 1.0),
            false => 0.0,
        }
    }
}

/// Returns a direction of samples of a length: a point on the unit sphere, all of which are as likely.
fn direction(nth: usize, length: usize) -> Vec<f32> {
    let generator = generator(b"slices--", [nth as u64, length as u64, 0]);
    let normal: Vec<f64> = StandardNormal.sample_iter(generator).take(length).collect();
    let norm = normal.iter().map(|x| x * x).sum::<f64>().sqrt();
    normal.into_iter().map(|x| (x / norm) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(real: &[f32], generated: &[f32], length: usize) -> f64 {
        let mut sliced = Sliced::default();
        sliced.add(real, generated, length);
        sliced.value()
    }

    /// On a line every direction is one of two, and the distance that of the sorted values.
    #[test]
    fn on_a_line_it_is_the_distance_of_sorted_values() {
        let real = [4.0, 1.0, 2.0, 1.0];
        // From the mean 2 these are 4 away together.
        assert_eq!(value(&real, &[1.0, 4.0, 1.0, 2.0], 1), 1.0);
        assert_eq!(value(&real, &[2.0; 4], 1), 0.0);
        assert!((value(&real, &[1.5, 1.5, 1.5, 4.0], 1) - (1.0 - 1.5 / 4.0)).abs() < 1e-6);
        assert_eq!(value(&real, &[9.0; 4], 1), 0.0);
    }

    /// Samples moved by a vector of length r are r times the mean of |cos| away, which is 2 / pi in a plane; those on a circle of radius
    /// 1 are 2 / pi from their mean along each direction.
    #[test]
    fn in_a_plane_it_is_the_mean_over_directions() {
        let circle = |radius: f64, moved: f64| -> Vec<f32> {
            let angle = |nth: i32| f64::from(nth) * std::f64::consts::TAU / 400.0;
            let point = |nth| [radius * angle(nth).cos() + moved, radius * angle(nth).sin()];
            (0..400).flat_map(point).map(|x| x as f32).collect()
        };
        let real = circle(1.0, 0.0);
        // Half as large: each sorted projection is half as far from the middle.
        assert!((value(&real, &circle(0.5, 0.0), 2) - 0.5).abs() < 1e-3);
        // 128 directions know the mean to some per cent.
        let moved = value(&real, &circle(1.0, 0.25), 2);
        assert!((moved - 0.75).abs() < 0.03, "{moved}");
        assert!((value(&real, &circle(-1.0, 0.0), 2) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn batches_add_up_and_bytes_bring_them_back() {
        let (real, generated) = ([1.0, 2.0, 3.0, 5.0, 8.0, 13.0], [4.0, 30.0, 90.0, 9.0, 0.5, 2.0]);
        let mut whole = Sliced::default();
        whole.add(&real, &generated, 2);
        let (mut first, mut second) = (Sliced::default(), Sliced::default());
        first.add(&real[..2], &generated[..2], 2);
        second.add(&real[2..], &generated[2..], 2);
        let bytes = [first.to_bytes(), Sliced::default().to_bytes(), second.to_bytes()].concat();
        let gathered = Sliced::of_bytes(&bytes);
        assert_eq!(gathered.value(), whole.value());
        assert_eq!((gathered.real, gathered.generated), (whole.real, whole.generated));
    }

    #[test]
    fn what_is_not_defined_is_0() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            assert_eq!(value(&[1.0, 2.0, 3.0], &[1.0, wrong, 3.0], 1), 0.0);
        }
        assert_eq!(value(&[2.0; 3], &[2.0; 3], 1), 0.0);
        assert_eq!(Sliced::default().value(), 0.0);
    }
}
