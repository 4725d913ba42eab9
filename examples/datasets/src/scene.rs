//! One segmentation scene, drawn: shapes with textures over a background, and the class per pixel.

use std::ops::{Range, RangeInclusive};

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, UnitCircle};

use crate::{
    shape::Shape,
    texture::{Colour, Texture, mix},
    view::generator,
};

/// Shapes of one scene, at least and at most.
const SHAPES: RangeInclusive<usize> = 2..=4;
/// The area of a shape before others hide it and the edge cuts it, as a share of the scene; the same
/// for all classes, so that size does not tell them apart.
const AREA: Range<f32> = 0.025..0.06;
/// The mean colours of backgrounds, per channel.
const GROUND: Range<f32> = 0.1..0.5;
/// The mean colours of shapes: mostly brighter, so that what is a shape is easier than which one it is.
const BRIGHT: Range<f32> = 0.4..0.95;
/// The least distance between the mean colours of a shape and of the background.
const LEAST_CONTRAST: f32 = 0.4;
/// The strongest pixel noise, each way; a scene draws its own up to it.
const MOST_NOISE: f32 = 0.04;

/// Which of the two disjoint families a scene belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To learn from.
    Train,
    /// To be judged by.
    Test,
}

/// A drawn scene, square and row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Red, green and blue of each pixel.
    pub pixels: Vec<u8>,
    /// The class of each pixel: 0, or that of a [`Shape`].
    pub labels: Vec<u8>,
}

impl Scene {
    /// Draws scene `index` of a seed: a pure function, with the same bytes on every machine.
    pub fn draw(seed: u64, part: Part, index: usize, size: usize) -> Self {
        let purpose = match part {
            Part::Train => b"scene---",
            Part::Test => b"judged--",
        };
        let mut generator = generator(purpose, [seed, index as u64, 0]);
        let plan = Plan::draw(&mut generator);
        let mut scene = Self { pixels: Vec::new(), labels: Vec::new() };
        for place in 0..size * size {
            let (colour, label) =
                plan.at((place % size) as f32, (place / size) as f32, size as f32);
            let grain = colour.map(|c| c + plan.noise * generator.random_range(-1.0..1.0));
            scene.pixels.extend(grain.map(|c| (c * 255.0).round() as u8));
            scene.labels.push(label);
        }
        scene
    }
}

/// All that is random in a scene but the noise itself; lengths are in sides of the scene.
struct Plan {
    background: Texture,
    /// Each hides those before it.
    bodies: Vec<Body>,
    brightness: f32,
    /// What is added to the brightness from one side of the scene to the other.
    slope: [f32; 2],
    noise: f32,
}

/// A shape in its place.
struct Body {
    shape: Shape,
    centre: [f32; 2],
    radius: f32,
    turn: [f32; 2],
    texture: Texture,
}

impl Plan {
    fn draw(generator: &mut ChaCha8Rng) -> Self {
        let ground = colour(GROUND, generator);
        let count = generator.random_range(SHAPES);
        Self {
            background: Texture::background(ground, UnitCircle.sample(generator), generator),
            bodies: (0..count).map(|_| Body::draw(ground, generator)).collect(),
            brightness: generator.random_range(0.75..1.2),
            slope: [(); 2].map(|()| generator.random_range(-0.2..0.2)),
            noise: generator.random_range(0.01..MOST_NOISE),
        }
    }

    /// Returns the colour, lit, and the class of a pixel.
    fn at(&self, column: f32, row: f32, size: f32) -> (Colour, u8) {
        let [x, y] = [column, row].map(|place| (place + 0.5) / size);
        let (mut colour, mut label) = (self.background.at(x, y), 0);
        for body in &self.bodies {
            let covered = body.coverage(x, y, 1.0 / size);
            if covered > 0.0 {
                let over = body.texture.at(x, y);
                colour = std::array::from_fn(|i| mix(colour[i], over[i], covered));
            }
            if body.contains(x, y) {
                label = body.shape.class();
            }
        }
        let slope = self.slope[0] * (x - 0.5) + self.slope[1] * (y - 0.5);
        (colour.map(|c| c * (self.brightness + slope)), label)
    }
}

impl Body {
    fn draw(ground: Colour, generator: &mut ChaCha8Rng) -> Self {
        let shape = Shape::ALL[generator.random_range(0..Shape::ALL.len())];
        let area: f32 = generator.random_range(AREA);
        let colour = loop {
            let colour = colour(BRIGHT, generator);
            let distance: f32 = colour.iter().zip(ground).map(|(a, b)| (a - b) * (a - b)).sum();
            if distance >= LEAST_CONTRAST * LEAST_CONTRAST {
                break colour;
            }
        };
        Self {
            shape,
            centre: [(); 2].map(|()| generator.random_range(0.15..0.85)),
            radius: (area / shape.area()).sqrt(),
            turn: UnitCircle.sample(generator),
            texture: Texture::surface(colour, UnitCircle.sample(generator), generator),
        }
    }

    fn contains(&self, x: f32, y: f32) -> bool {
        let [right, down] = [x - self.centre[0], y - self.centre[1]].map(|d| d / self.radius);
        let [cos, sin] = self.turn;
        self.shape.contains(cos * right - sin * down, sin * right + cos * down)
    }

    /// Returns how much of a pixel about a point it covers, of four places.
    fn coverage(&self, x: f32, y: f32, pixel: f32) -> f32 {
        let quarters = [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)];
        let inside = |&&(dx, dy): &&(f32, f32)| self.contains(x + dx * pixel, y + dy * pixel);
        quarters.iter().filter(inside).count() as f32 / 4.0
    }
}

fn colour(range: Range<f32>, generator: &mut impl Rng) -> Colour {
    [(); 3].map(|()| generator.random_range(range.clone()))
}
