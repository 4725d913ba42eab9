//! Segmentation scenes generated from a seed.

use std::ops::Range;

use anyhow::{Result, ensure};
use rand::RngExt;
use rayon::prelude::*;

use crate::{
    Batch, Dataset, Input, Inputs, Judged, View,
    images::{Images, Normalisation},
    pose::Pose,
    scene::{Kind, Part, Scene},
    shape::Shape,
};

/// The most pixels of all scenes together, which are drawn at once: a GiB.
const MOST_PIXELS: usize = 1 << 28;

/// How many scenes, and of what size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Rows, and columns.
    pub size: usize,
    /// Scenes to learn from.
    pub train: usize,
    /// Scenes to be judged by.
    pub test: usize,
    /// Of everything that is drawn.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { size: 64, train: 384, test: 96, seed: 0 }
    }
}

impl Plan {
    /// Draws all scenes: those that train, then those that test.
    pub(crate) fn draw(self, kind: Kind) -> Result<Vec<Scene>> {
        let Self { size, train, test, seed } = self;
        ensure!((16..=512).contains(&size), "scenes can have 16 to 512 rows, and not {size}");
        for count in [train, test] {
            ensure!(
                (1..=100_000).contains(&count),
                "there can be 1 to 100,000 scenes to train or to test with, and not {count}"
            );
        }
        let pixels = (train + test) * size * size;
        ensure!(
            pixels <= MOST_PIXELS,
            "{} scenes of {size} x {size} have {pixels} pixels, and there can be {MOST_PIXELS}",
            train + test
        );
        let draw = |index: usize| match index.checked_sub(train) {
            None => Scene::draw(kind, seed, Part::Train, index, size),
            Some(index) => Scene::draw(kind, seed, Part::Test, index, size),
        };
        Ok((0..train + test).into_par_iter().map(draw).collect())
    }
}

/// Scenes of textured shapes before a textured background; a pixel's class is the shape it is of.
#[derive(Clone, Debug)]
pub struct Scenes {
    plan: Plan,
    images: Images,
    /// One per pixel.
    labels: Vec<u8>,
    normalisation: Normalisation,
}

impl Scenes {
    /// The background, and one for each shape.
    pub const CLASSES: usize = 1 + Shape::ALL.len();

    /// Draws all scenes.
    ///
    /// # Errors
    ///
    /// The size is not from 16 to 512, a part is empty or has more than 100,000 scenes, or all of them together have
    /// more than 2^28 pixels.
    pub fn generate(plan: Plan) -> Result<Self> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for scene in plan.draw(Kind::SEGMENTATION)? {
            pixels.extend(scene.pixels);
            labels.extend(scene.labels);
        }
        let Plan { size, train, .. } = plan;
        let normalisation = Normalisation::of(&pixels[..train * size * size * 3], 3)?;
        let images = Images { height: size, width: size, channels: 3, pixels };
        Ok(Self { plan, images, labels, normalisation })
    }

    /// Returns the classes of one scene's pixels.
    fn labels(&self, index: usize) -> &[u8] {
        let area = self.plan.size * self.plan.size;
        &self.labels[index * area..][..area]
    }
}

impl Dataset for Scenes {
    fn describe(&self) -> String {
        let Plan { size, train, test, seed } = self.plan;
        format!(
            "scenes: {train} training and {test} test images of {size}x{size}x3, {} classes per \
             pixel, generated from seed {seed}",
            Self::CLASSES
        )
    }

    fn input(&self) -> Input {
        self.images.input()
    }

    fn classes(&self) -> usize {
        Self::CLASSES
    }

    fn judged(&self) -> Judged {
        Judged::PerPixel
    }

    fn train_samples(&self) -> usize {
        self.plan.train
    }

    fn test_samples(&self) -> usize {
        self.plan.test
    }

    /// Each scene is seen in one of the eight ways in which a square lies on itself.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let mut values = Vec::with_capacity(chosen.len() * self.images.values());
        let mut labels = Vec::with_capacity(chosen.len() * self.plan.size * self.plan.size);
        for &index in chosen {
            assert!(index < self.plan.train, "{index} of {} training scenes", self.plan.train);
            let pose = Pose::ALL[view.generator(index).random_range(0..Pose::ALL.len())];
            let (image, classes) = (self.images.image(index), self.labels(index));
            for from in pose.places(self.plan.size) {
                self.normalisation.append(&image[from * 3..][..3], &mut values);
                labels.push(u32::from(classes[from]));
            }
        }
        Ok(Batch { labels, ..Batch::of(Inputs::Images(values), chosen.len()) })
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        assert!(range.end <= self.plan.test, "{range:?} of {} test scenes", self.plan.test);
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for index in range.clone().map(|index| self.plan.train + index) {
            self.normalisation.append(self.images.image(index), &mut values);
            labels.extend(self.labels(index).iter().copied().map(u32::from));
        }
        Ok(Batch { labels, ..Batch::of(Inputs::Images(values), range.len()) })
    }

    /// Median-frequency balancing, as SegNet (Badrinarayanan, Kendall and Cipolla, 2017, section 4)
    /// has it: the median of all classes' frequencies over that of the class, where the frequency is
    /// its share of the pixels of those training scenes that contain it.
    fn class_weights(&self) -> Vec<f32> {
        let area = self.plan.size * self.plan.size;
        let (mut pixels, mut around) = ([0_usize; Self::CLASSES], [0_usize; Self::CLASSES]);
        for index in 0..self.plan.train {
            let mut counts = [0; Self::CLASSES];
            self.labels(index).iter().for_each(|&class| counts[usize::from(class)] += 1);
            for (class, count) in counts.into_iter().enumerate().filter(|&(_, count)| count > 0) {
                pixels[class] += count;
                around[class] += area;
            }
        }
        balance(&pixels, &around)
    }
}

/// Returns the median of `pixels / around` over each; a class that never occurs has weight 0.
fn balance(pixels: &[usize], around: &[usize]) -> Vec<f32> {
    let share = |(&pixels, &around): (&usize, &usize)| pixels as f64 / around.max(1) as f64;
    let frequencies: Vec<_> = pixels.iter().zip(around).map(share).collect();
    let mut occurring: Vec<_> = frequencies.iter().copied().filter(|&f| f > 0.0).collect();
    occurring.sort_unstable_by(f64::total_cmp);
    let middle = occurring.len() / 2;
    let median = match occurring.len() % 2 {
        0 => (occurring[middle - 1] + occurring[middle]) / 2.0,
        _ => occurring[middle],
    };
    let weight = |&f: &f64| if f > 0.0 { (median / f) as f32 } else { 0.0 };
    frequencies.iter().map(weight).collect()
}

#[cfg(test)]
mod tests;
