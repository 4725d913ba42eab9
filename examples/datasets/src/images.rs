//! Images as bytes, and how they become the f32 values of a batch.

use anyhow::{Result, ensure};

use crate::Input;

/// Images of one shape: row-major, channels last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values per pixel.
    pub channels: usize,
    /// All images, one after the other.
    pub pixels: Vec<u8>,
}

impl Images {
    /// Returns the values of one image.
    pub fn values(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Returns what one sample is.
    pub fn input(&self) -> Input {
        Input::Image { height: self.height, width: self.width, channels: self.channels }
    }

    /// Returns the bytes of one image.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.values()..][..self.values()]
    }
}

/// Brings each channel to mean 0 and variance 1, or whatever was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// The mean and the reciprocal of the standard deviation, per channel.
    channels: Vec<[f32; 2]>,
}

impl Normalisation {
    /// Measures pixels.
    ///
    /// # Errors
    ///
    /// A channel has the same value everywhere, or there are no pixels.
    pub fn of(pixels: &[u8], channels: usize) -> Result<Self> {
        let mut counts = vec![[0_u64; 256]; channels];
        for pixel in pixels.chunks_exact(channels) {
            pixel.iter().zip(&mut counts).for_each(|(&value, counts)| {
                counts[usize::from(value)] += 1;
            });
        }
        let channels = counts.iter().map(Self::of_channel).collect::<Result<_>>()?;
        Ok(Self { channels })
    }

    /// Sums are of integers below 2^53, so they are exact in any order.
    fn of_channel(counts: &[u64; 256]) -> Result<[f32; 2]> {
        let moment =
            |power| (0..256).map(|i| counts[i] * (i as u64).pow(power)).sum::<u64>() as f64;
        let (count, sum, squares) = (moment(0), moment(1), moment(2));
        let mean = sum / count;
        let variance = squares / count - mean * mean;
        ensure!(
            counts.iter().filter(|&&count| count > 0).count() > 1,
            "every pixel of the training samples is the same"
        );
        Ok([mean as f32, (1.0 / variance.sqrt()) as f32])
    }

    /// Takes the means and the standard deviations of channels as they were published, of values from 0 to 255.
    pub fn published<const CHANNELS: usize>(
        means: [f32; CHANNELS],
        deviations: [f32; CHANNELS],
    ) -> Self {
        let channels = means.into_iter().zip(deviations);
        Self { channels: channels.map(|(mean, deviation)| [mean, 1.0 / deviation]).collect() }
    }

    /// Returns that of ImageNet's photographs, as torchvision's models are trained with it.
    pub fn imagenet() -> Self {
        let of_255 = |x: f32| 255.0 * x;
        Self::published([0.485, 0.456, 0.406].map(of_255), [0.229, 0.224, 0.225].map(of_255))
    }

    /// Returns one value of a channel, normalised.
    pub fn value(&self, channel: usize, value: f32) -> f32 {
        let [mean, scale] = self.channels[channel];
        (value - mean) * scale
    }

    /// Appends pixels, normalised.
    pub fn append(&self, pixels: &[u8], to: &mut Vec<f32>) {
        to.reserve(pixels.len());
        for pixel in pixels.chunks(self.channels.len()) {
            let values = pixel.iter().zip(&self.channels);
            to.extend(values.map(|(&value, [mean, scale])| (f32::from(value) - mean) * scale));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_gets_mean_0_and_variance_1() {
        let pixels: Vec<u8> = (0..=255).flat_map(|i| [i, 200 + i % 3]).collect();
        let mut values = Vec::new();
        Normalisation::of(&pixels, 2).unwrap().append(&pixels, &mut values);
        for channel in 0..2 {
            let of_channel = || values.iter().skip(channel).step_by(2);
            let mean = of_channel().sum::<f32>() / 256.0;
            let square = of_channel().map(|x| x * x).sum::<f32>() / 256.0;
            assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5, "{mean} {square}");
        }
    }

    #[test]
    fn published_numbers_are_those_of_values_from_0_to_1() {
        let mut values = Vec::new();
        Normalisation::imagenet().append(&[0, 255, 51], &mut values);
        let expected = [-0.485 / 0.229, (1.0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225];
        for (found, expected) in values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_channel_without_variation_is_an_error() {
        assert!(Normalisation::of(&[1, 2, 1, 3], 2).is_err());
        assert!(Normalisation::of(&[], 1).is_err());
    }
}
