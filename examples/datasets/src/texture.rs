//! Patterns of two colours, which say nothing of a shape's class.

use rand::{Rng, RngExt};

/// Red, green and blue, from 0 to 1.
pub type Colour = [f32; 3];

/// Points of the lattice along one side; it repeats itself beyond.
const LATTICE: usize = 16;

/// Smooth noise: random values on a lattice, interpolated.
///
/// Only additions and multiplications, so that it has the same bits on every machine.
#[derive(Clone, Debug)]
pub struct Noise([f32; LATTICE * LATTICE]);

impl Noise {
    /// Draws the lattice.
    pub fn draw(generator: &mut impl Rng) -> Self {
        Self(std::array::from_fn(|_| generator.random()))
    }

    /// Returns the noise at a point: from 0 to 1, one lattice step per unit.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let corner = |dx: usize, dy: usize| {
            let wrap = |from: f32, step| (from as i64).rem_euclid(LATTICE as i64) as usize + step;
            self.0[wrap(top, dy) % LATTICE * LATTICE + wrap(left, dx) % LATTICE]
        };
        // Perlin's curve: flat at both ends, so that the lattice does not show.
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (right, down) = (ease(x - left), ease(y - top));
        let above = mix(corner(0, 0), corner(1, 0), right);
        let below = mix(corner(0, 1), corner(1, 1), right);
        mix(above, below, down)
    }

    /// Returns the sum of octaves, each twice as fine and half as strong; from 0 to 1.
    pub fn octaves(&self, x: f32, y: f32, octaves: i32) -> f32 {
        let (mut sum, mut most) = (0.0, 0.0);
        for octave in 0..octaves {
            let fine = (1 << octave) as f32;
            // Moved, so that the octaves' lattices do not meet in the same value.
            sum += self.at(x * fine + 5.3 * octave as f32, y * fine + 9.1 * octave as f32) / fine;
            most += 1.0 / fine;
        }
        sum / most
    }
}

/// How the two colours of a texture are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    /// Clouds.
    Clouds,
    /// Parallel bands.
    Stripes,
    /// A chessboard.
    Checks,
}

/// A pattern that fills the plane.
#[derive(Clone, Debug)]
pub struct Texture {
    colours: [Colour; 2],
    pattern: Pattern,
    /// Steps of the pattern along the side of a scene.
    steps: f32,
    turn: [f32; 2],
    noise: Noise,
}

impl Texture {
    /// Draws clouds about a colour, coarse enough for a whole scene.
    pub fn background(colour: Colour, turn: [f32; 2], generator: &mut impl Rng) -> Self {
        let steps = generator.random_range(2.0..5.0);
        Self::about(colour, 0.15, Pattern::Clouds, steps, turn, generator)
    }

    /// Draws any pattern about a colour, fine enough for a shape.
    pub fn surface(colour: Colour, turn: [f32; 2], generator: &mut impl Rng) -> Self {
        let patterns = [Pattern::Clouds, Pattern::Stripes, Pattern::Checks];
        let pattern = patterns[generator.random_range(0..patterns.len())];
        let steps = generator.random_range(6.0..16.0);
        Self::about(colour, 0.07, pattern, steps, turn, generator)
    }

    fn about(
        colour: Colour,
        contrast: f32,
        pattern: Pattern,
        steps: f32,
        turn: [f32; 2],
        generator: &mut impl Rng,
    ) -> Self {
        let apart = colour.map(|_| generator.random_range(-contrast..contrast));
        let colours = [-1.0, 1.0].map(|side| std::array::from_fn(|i| colour[i] + side * apart[i]));
        Self { colours, pattern, steps, turn, noise: Noise::draw(generator) }
    }

    /// Returns the colour at a point, in sides of the scene.
    pub fn at(&self, x: f32, y: f32) -> Colour {
        let [cos, sin] = self.turn;
        let u = (cos * x - sin * y) * self.steps;
        let v = (sin * x + cos * y) * self.steps;
        let odd = |t: f32| t.floor().rem_euclid(2.0);
        let share = match self.pattern {
            Pattern::Clouds => self.noise.octaves(u, v, 4),
            Pattern::Stripes => odd(u),
            Pattern::Checks => (odd(u) - odd(v)).abs(),
        };
        std::array::from_fn(|i| mix(self.colours[0][i], self.colours[1][i], share))
    }
}

/// Returns the value `share` of the way from `a` to `b`.
pub(crate) fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::generator;

    #[test]
    fn noise_is_its_lattice_at_whole_numbers_and_smooth_between() {
        let noise = Noise::draw(&mut generator(b"test----", [0; 3]));
        assert_eq!(noise.at(3.0, 2.0), noise.0[2 * LATTICE + 3]);
        assert_eq!(noise.at(-13.0, 18.0), noise.0[2 * LATTICE + 3]);
        for i in 0..1000 {
            let (x, y) = (i as f32 * 0.037 - 9.0, i as f32 * 0.011);
            assert!((noise.at(x, y) - noise.at(x + 1e-3, y)).abs() < 5e-3);
            assert!((0.0..=1.0).contains(&noise.octaves(x, y, 4)));
        }
    }

    #[test]
    fn a_texture_stays_about_its_colour() {
        for number in 0..50 {
            let generator = &mut generator(b"test----", [number, 0, 0]);
            let texture = Texture::surface([0.5; 3], [0.6, 0.8], generator);
            for i in 0..100 {
                let colour = texture.at(i as f32 * 0.01, i as f32 * 0.007);
                assert!(colour.iter().all(|c| (c - 0.5).abs() <= 0.071), "{colour:?}");
            }
        }
    }
}
