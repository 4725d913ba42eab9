//! Scenes generated from a seed, in which objects are to be found.

use std::ops::Range;

use anyhow::Result;
use rand::RngExt;

use crate::{
    Batch, Dataset, Input, Inputs, Judged, View,
    images::{Images, Normalisation},
    object::Object,
    pose::Pose,
    scene::Kind,
    scenes::Plan,
    shape::Shape,
};

/// Scenes of textured shapes before a textured background; each shape of which something is seen is an object.
#[derive(Clone, Debug)]
pub struct Objects {
    plan: Plan,
    images: Images,
    /// One list per image.
    objects: Vec<Vec<Object>>,
    normalisation: Normalisation,
}

impl Objects {
    /// One for each shape.
    pub const CLASSES: usize = Shape::ALL.len();

    /// How many images, and of what size, unless told otherwise.
    pub const PLAN: Plan = Plan { size: 64, train: 1024, test: 256, seed: 0 };

    /// Draws all images.
    ///
    /// # Errors
    ///
    /// Those of [`Scenes::generate`](crate::scenes::Scenes::generate).
    pub fn generate(plan: Plan) -> Result<Self> {
        let (mut pixels, mut objects) = (Vec::new(), Vec::new());
        for scene in plan.draw(Kind::DETECTION)? {
            pixels.extend(scene.pixels);
            objects.push(scene.objects);
        }
        let Plan { size, train, .. } = plan;
        let normalisation = Normalisation::of(&pixels[..train * size * size * 3], 3)?;
        let images = Images { height: size, width: size, channels: 3, pixels };
        Ok(Self { plan, images, objects, normalisation })
    }
}

impl Dataset for Objects {
    fn describe(&self) -> String {
        let Plan { size, train, test, seed } = self.plan;
        format!(
            "objects: {train} training and {test} test images of {size}x{size}x3, objects of {} classes in each, generated \
             from seed {seed}",
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
        Judged::Objects
    }

    fn train_samples(&self) -> usize {
        self.plan.train
    }

    fn test_samples(&self) -> usize {
        self.plan.test
    }

    /// Each image is seen in one of the eight ways in which a square lies on itself.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let mut values = Vec::with_capacity(chosen.len() * self.images.values());
        let mut objects = Vec::with_capacity(chosen.len());
        for &index in chosen {
            assert!(index < self.plan.train, "{index} of {} training images", self.plan.train);
            let pose = Pose::ALL[view.generator(index).random_range(0..Pose::ALL.len())];
            let image = self.images.image(index);
            for from in pose.places(self.plan.size) {
                self.normalisation.append(&image[from * 3..][..3], &mut values);
            }
            let turned = |&object: &Object| Object { bounds: pose.turned(object.bounds), ..object };
            objects.push(self.objects[index].iter().map(turned).collect());
        }
        Ok(Batch { objects, ..Batch::of(Inputs::Images(values), chosen.len()) })
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        assert!(range.end <= self.plan.test, "{range:?} of {} test images", self.plan.test);
        let (mut values, mut objects) = (Vec::new(), Vec::new());
        for index in range.clone().map(|index| self.plan.train + index) {
            self.normalisation.append(self.images.image(index), &mut values);
            objects.push(self.objects[index].clone());
        }
        Ok(Batch { objects, ..Batch::of(Inputs::Images(values), range.len()) })
    }
}

#[cfg(test)]
mod tests;
