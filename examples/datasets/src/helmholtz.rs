//! Points of a Helmholtz equation with a known solution, for networks that learn a field from its equation.
//!
//! On the square from -1 to 1 in both coordinates the field `u` has `Δu + k² u = f` inside and is given at the boundary. The solution was
//! chosen, and `f` follows from it (the method of manufactured solutions), so that what a network found can be compared with it.

use std::{f64::consts::PI, ops::Range};

use anyhow::{Result, ensure};
use rand::{Rng, RngExt};

use crate::{Batch, Dataset, Input, Inputs, Judged, View};

/// A point of the plane.
pub type Point = [f64; 2];

/// The square of the wavenumber `k`. It is less than `π² / 2`, the least at which a field that is zero at the boundary has the
/// equation with `f = 0`, so that the boundary determines the field.
pub const WAVENUMBER_SQUARED: f64 = 1.0;

/// The wavenumbers of the two waves whose product is the solution: a period along each side.
const FREQUENCIES: [f64; 2] = [PI, PI];

/// Their phases at the origin; the field is nowhere zero along the whole boundary.
const PHASES: [f64; 2] = [0.6, 1.2];

/// Returns the solution `u`: a product of two sines, between -1 and 1.
pub fn solution([x, y]: Point) -> f64 {
    let [a, b] = FREQUENCIES;
    let [p, q] = PHASES;
    (a * x + p).sin() * (b * y + q).sin()
}

/// Returns the right-hand side `f = Δu + k² u` of the equation.
pub fn source(point: Point) -> f64 {
    let [a, b] = FREQUENCIES;
    (WAVENUMBER_SQUARED - a * a - b * b) * solution(point)
}

/// How many points there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Pairs of points that train, in an epoch.
    pub train: usize,
    /// Points along one side of the grid that tests, its sides at the boundary.
    pub test_side: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { train: 1 << 12, test_side: 33 }
    }
}

/// Pairs of points, each an image of one row, two pixels and two channels: first one at which the field is given, as the sample's
/// quantity, then one at which the equation holds.
///
/// A pair that trains has a point of the boundary and one of the square, both uniformly distributed and drawn anew for every
/// sample of every epoch. A pair that tests is a point of a grid twice.
#[derive(Clone, Debug)]
pub struct Helmholtz {
    plan: Plan,
}

impl Helmholtz {
    /// Makes the data set.
    ///
    /// # Errors
    ///
    /// There are no points to train with, or none to test with.
    pub fn generate(plan: Plan) -> Result<Self> {
        ensure!(plan.train > 0, "there are no points to train with: give at least one pair");
        ensure!(
            plan.test_side > 1,
            "a grid of {} points along a side is none to test with: give at least two",
            plan.test_side
        );
        Ok(Self { plan })
    }

    /// Returns the test point with a number, row by row.
    fn grid(&self, nth: usize) -> Point {
        let side = self.plan.test_side;
        [nth % side, nth / side].map(|nth| 2.0 * nth as f64 / (side - 1) as f64 - 1.0)
    }
}

/// Draws a point of the boundary.
fn boundary(generator: &mut impl Rng) -> Point {
    let along = coordinate(generator);
    match generator.random_range(0..4) {
        0 => [along, -1.0],
        1 => [along, 1.0],
        2 => [-1.0, along],
        _ => [1.0, along],
    }
}

/// Draws a number from -1 to 1.
fn coordinate(generator: &mut impl Rng) -> f64 {
    // As f32 keeps it: the field is that of the very point.
    f64::from(generator.random_range(-1.0_f32..1.0))
}

/// Returns pairs of points with the field at the first of each.
fn batch(pairs: impl Iterator<Item = [Point; 2]>) -> Batch {
    let pairs: Vec<[Point; 2]> = pairs.collect();
    let points = pairs.as_flattened().as_flattened().iter().map(|&x| x as f32).collect();
    let quantities = pairs.iter().map(|&[given, _]| solution(given) as f32).collect();
    Batch { quantities, ..Batch::of(Inputs::Images(points), pairs.len()) }
}

impl Dataset for Helmholtz {
    fn describe(&self) -> String {
        let Plan { train, test_side } = self.plan;
        format!(
            "helmholtz: {train} points of the boundary and as many of the square, drawn anew in every epoch, and {test_side} x {test_side} \
             test points; wavenumber {}",
            WAVENUMBER_SQUARED.sqrt()
        )
    }

    fn input(&self) -> Input {
        Input::Image { height: 1, width: 2, channels: 2 }
    }

    fn classes(&self) -> usize {
        1
    }

    fn judged(&self) -> Judged {
        Judged::Quantity
    }

    fn train_samples(&self) -> usize {
        self.plan.train
    }

    fn test_samples(&self) -> usize {
        self.plan.test_side * self.plan.test_side
    }

    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        for &index in chosen {
            assert!(index < self.plan.train, "{index} of {} training pairs", self.plan.train);
        }
        Ok(batch(chosen.iter().map(|&index| {
            let mut generator = view.generator(index);
            [boundary(&mut generator), [(); 2].map(|()| coordinate(&mut generator))]
        })))
    }

    fn test(&self, range: Range<usize>) -> Result<Batch> {
        assert!(range.end <= self.test_samples(), "{range:?} of {} points", self.test_samples());
        Ok(batch(range.map(|nth| [self.grid(nth); 2])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View { seed: 1, epoch: 2 };

    fn points(batch: &Batch) -> Vec<[[f32; 2]; 2]> {
        let Inputs::Images(values) = &batch.inputs else { unreachable!("points") };
        values.as_chunks().0.as_chunks().0.to_vec()
    }

    /// By differences of second order, whose error is a twelfth of `h²` times the fourth derivatives: 2e-5 here.
    #[test]
    fn the_solution_has_the_equation() {
        let h = 1e-3;
        for [x, y] in [[0.0, 0.0], [0.3, -0.7], [-1.0, 0.99]] {
            let around = [[x + h, y], [x - h, y], [x, y + h], [x, y - h]].map(solution);
            let center = solution([x, y]);
            let laplacian = (around.iter().sum::<f64>() - 4.0 * center) / (h * h);
            let residual = laplacian + WAVENUMBER_SQUARED * center - source([x, y]);
            assert!(residual.abs() < 1e-4, "{residual} at {x}, {y}");
        }
    }

    #[test]
    fn first_points_are_of_the_boundary_and_second_ones_of_the_square() {
        let dataset = Helmholtz::generate(Plan::default()).unwrap();
        let all: Vec<usize> = (0..dataset.train_samples()).collect();
        let found = dataset.train(&all, VIEW).unwrap();
        found.check(&dataset).unwrap();
        let (mut sides, mut sums) = ([0; 4], [0.0; 2]);
        for ([given, inside], &quantity) in points(&found).iter().zip(&found.quantities) {
            let [x, y] = *given;
            let side = [x == -1.0, x == 1.0, y == -1.0, y == 1.0].iter().position(|&is| is);
            sides[side.unwrap()] += 1;
            assert!(inside.iter().all(|x| (-1.0..1.0).contains(x)), "{inside:?}");
            sums.iter_mut().zip(inside).for_each(|(sum, &x)| *sum += f64::from(x));
            assert_eq!(quantity, solution(given.map(f64::from)) as f32);
        }
        // A quarter of 4,096 with a deviation of 28, and a sum with one of 37.
        assert!(sides.iter().all(|side| (900..1150).contains(side)), "{sides:?}");
        assert!(sums.iter().all(|sum| sum.abs() < 150.0), "{sums:?}");
    }

    #[test]
    fn a_pair_is_a_function_of_seed_epoch_and_index() {
        let dataset = Helmholtz::generate(Plan { train: 8, test_side: 2 }).unwrap();
        let whole = dataset.train(&[0, 1, 2, 3, 4, 5, 6, 7], VIEW).unwrap();
        let part = dataset.train(&[5, 2], VIEW).unwrap();
        assert_eq!(points(&part), [points(&whole)[5], points(&whole)[2]]);
        for other in [View { seed: 2, ..VIEW }, View { epoch: 3, ..VIEW }] {
            assert_ne!(dataset.train(&[5, 2], other).unwrap(), part);
        }
    }

    #[test]
    fn the_grid_reaches_the_corners() {
        let dataset = Helmholtz::generate(Plan { train: 1, test_side: 3 }).unwrap();
        let found = dataset.test(0..9).unwrap();
        found.check(&dataset).unwrap();
        let points = points(&found);
        assert!(points.iter().all(|[given, inside]| given == inside));
        assert_eq!((points[0][0], points[5][0], points[8][0]), ([-1.0; 2], [1.0, 0.0], [1.0; 2]));
        assert_eq!(dataset.test(5..6).unwrap().quantities, [found.quantities[5]]);
    }

    #[test]
    fn a_plan_without_points_is_an_error() {
        let error = |plan| Helmholtz::generate(plan).unwrap_err().to_string();
        assert!(error(Plan { train: 0, test_side: 2 }).contains("no points to train with"));
        assert!(error(Plan { train: 1, test_side: 1 }).contains("none to test with"));
    }
}
