//! Segmentation scenes generated from a seed.

use std::ops::Range;

use anyhow::{Result, ensure};
use rand::RngExt;
use rayon::prelude::*;

use crate::{
    Batch, Dataset, Input, Inputs, Judged, View,
    balance::Frequencies,
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

    fn class_weights(&self) -> Vec<f32> {
        let mut frequencies = Frequencies::new(Self::CLASSES);
        (0..self.plan.train).for_each(|index| frequencies.add(self.labels(index)));
        frequencies.weights()
    }
}

#[cfg(test)]
mod tests;
