//! One scene, drawn: shapes with textures over a background, the class per pixel, and where each shape is seen.

use std::ops::Range;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, UnitCircle};

use crate::{
    object::Object,
    shape::Shape,
    texture::{Colour, Texture, mix},
    view::generator,
};

/// The mean colours of backgrounds, per channel.
const GROUND: Range<f32> = 0.1..0.5;
/// The mean colours of shapes: mostly brighter, so that what is a shape is easier than which one it is.
const BRIGHT: Range<f32> = 0.4..0.95;
/// The least distance between the mean colours of a shape and of the background.
const LEAST_CONTRAST: f32 = 0.4;
/// The strongest pixel noise, each way; a scene draws its own up to it.
const MOST_NOISE: f32 = 0.04;

/// What scenes of a kind consist of.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What the generators of training and of test scenes are for.
    purposes: [&'static [u8; 8]; 2],
    /// Shapes of one scene, at least and at most.
    shapes: [usize; 2],
    /// Draws the area of a shape before others hide it and the edge cuts it, as a share of the scene; in the same way
    /// for all classes, so that size does not tell them apart.
    area: fn(&mut ChaCha8Rng) -> f32,
    /// Where centres lie, in each direction.
    centres: [f32; 2],
}

impl Kind {
    /// To tell the class of each pixel: few shapes of much the same size.
    pub const SEGMENTATION: Self = Self {
        purposes: [b"scene---", b"judged--"],
        shapes: [2, 4],
        area: |generator| generator.random_range(0.025..0.06),
        centres: [0.15, 0.85],
    };

    /// To tell the class of an image: one shape, and a large one.
    pub const CLASSIFICATION: Self = Self {
        purposes: [b"single--", b"named---"],
        shapes: [1, 1],
        area: |generator| generator.random_range(0.05..0.25),
        centres: [0.3, 0.7],
    };

    /// To find each shape: more of them, the largest seven times the area of the smallest, some half hidden or half outside.
    pub const DETECTION: Self = Self {
        purposes: [b"objects-", b"found---"],
        shapes: [1, 6],
        area: |generator| {
            let side: f32 = generator.random_range(0.12..0.32);
            side * side
        },
        centres: [0.08, 0.92],
    };
}

/// Which of the two disjoint families a scene belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To learn from.
    Train,
    /// To be judged by.
    Test,
}

/// A drawn scene, square and row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Red, green and blue of each pixel.
    pub pixels: Vec<u8>,
    /// The class of each pixel: 0, or that of a [`Shape`].
    pub labels: Vec<u8>,
    /// The shapes of which something is seen, those behind first, with the bounds of what is seen of them: the pixels
    /// whose centres they cover and no other hides.  Class 0 is the first shape, not the background; what is seen by less
    /// than half, because others hide it or the edge cuts it, is difficult.
    pub objects: Vec<Object>,
}

impl Scene {
    /// Draws scene `index` of a kind and a seed: a pure function, with the same bytes on every machine.
    pub fn draw(kind: Kind, seed: u64, part: Part, index: usize, size: usize) -> Self {
        let mut generator = generator(kind.purposes[part as usize], [seed, index as u64, 0]);
        let plan = Plan::draw(&kind, &mut generator);
        let mut extents = vec![Extent::default(); plan.bodies.len()];
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for place in 0..size * size {
            let (column, row) = (place % size, place / size);
            let (colour, seen) = plan.at(column as f32, row as f32, size as f32);
            let grain = colour.map(|c| c + plan.noise * generator.random_range(-1.0..1.0));
            pixels.extend(grain.map(|c| (c * 255.0).round() as u8));
            labels.push(seen.map_or(0, |body| plan.bodies[body].shape.class()));
            if let Some(body) = seen {
                extents[body].add(column, row);
            }
        }
        let seen = plan.bodies.iter().zip(&extents).filter(|(_, extent)| extent.pixels > 0);
        let objects = seen.map(|(body, extent)| extent.object(body, size as f32)).collect();
        Self { pixels, labels, objects }
    }
}

/// The pixels of a shape that are seen.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    /// Of the first pixel, if there is one.
    left: usize,
    top: usize,
    /// Behind the last.
    right: usize,
    bottom: usize,
    pixels: usize,
}

impl Extent {
    /// Adds a pixel; they come row by row.
    fn add(&mut self, column: usize, row: usize) {
        if self.pixels == 0 {
            (self.left, self.top) = (column, row);
        }
        self.left = self.left.min(column);
        self.right = self.right.max(column + 1);
        self.bottom = row + 1;
        self.pixels += 1;
    }

    fn object(&self, body: &Body, size: f32) -> Object {
        let bounds = [self.left, self.top, self.right, self.bottom].map(|side| side as f32 / size);
        let is_difficult = (self.pixels as f32) < 0.5 * body.area * size * size;
        Object { class: u32::from(body.shape.class()) - 1, bounds, is_difficult }
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
    /// Before others hide it and the edge cuts it.
    area: f32,
    centre: [f32; 2],
    radius: f32,
    turn: [f32; 2],
    texture: Texture,
}

impl Plan {
    fn draw(kind: &Kind, generator: &mut ChaCha8Rng) -> Self {
        let ground = colour(GROUND, generator);
        let [fewest, most] = kind.shapes;
        let count = generator.random_range(fewest..=most);
        Self {
            background: Texture::background(ground, UnitCircle.sample(generator), generator),
            bodies: (0..count).map(|_| Body::draw(kind, ground, generator)).collect(),
            brightness: generator.random_range(0.75..1.2),
            slope: [(); 2].map(|()| generator.random_range(-0.2..0.2)),
            noise: generator.random_range(0.01..MOST_NOISE),
        }
    }

    /// Returns the colour of a pixel, lit, and which body is seen there, if any.
    fn at(&self, column: f32, row: f32, size: f32) -> (Colour, Option<usize>) {
        let [x, y] = [column, row].map(|place| (place + 0.5) / size);
        let (mut colour, mut seen) = (self.background.at(x, y), None);
        for (nth, body) in self.bodies.iter().enumerate() {
            let covered = body.coverage(x, y, 1.0 / size);
            if covered > 0.0 {
                let over = body.texture.at(x, y);
                colour = std::array::from_fn(|i| mix(colour[i], over[i], covered));
            }
            if body.contains(x, y) {
                seen = Some(nth);
            }
        }
        let slope = self.slope[0] * (x - 0.5) + self.slope[1] * (y - 0.5);
        (colour.map(|c| c * (self.brightness + slope)), seen)
    }
}

impl Body {
    fn draw(kind: &Kind, ground: Colour, generator: &mut ChaCha8Rng) -> Self {
        let shape = Shape::ALL[generator.random_range(0..Shape::ALL.len())];
        let area = (kind.area)(generator);
        let colour = loop {
            let colour = colour(BRIGHT, generator);
            let distance: f32 = colour.iter().zip(ground).map(|(a, b)| (a - b) * (a - b)).sum();
            if distance >= LEAST_CONTRAST * LEAST_CONTRAST {
                break colour;
            }
        };
        let [from, to] = kind.centres;
        Self {
            shape,
            area,
            centre: [(); 2].map(|()| generator.random_range(from..to)),
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
