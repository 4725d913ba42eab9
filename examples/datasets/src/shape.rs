//! The shapes of a scene: its classes.

/// A shape of circumscribed radius 1 about the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A full circle.
    Disc,
    /// A rectangle of half width `BAR`.
    Bar,
    /// Three equal sides.
    Triangle,
    /// A pentagram.
    Star,
    /// A circle with a hole of `RING_HOLE`.
    Ring,
    /// Two beams of half width `BEAM` across each other.
    Cross,
}

/// The inner radius of a ring.
const RING_HOLE: f32 = 0.55;
/// Half the width of a bar, whose corners lie on the circle of radius 1.
const BAR: f32 = 0.35;
/// Half its length: the square root of `1 - BAR^2`.
const BAR_END: f32 = 0.936_749_7;
/// Half the width of the beams of a cross, whose corners lie on that circle too.
const BEAM: f32 = 0.22;
/// Half their length.
const BEAM_END: f32 = 0.975_499_9;
/// Outward normals of the triangle's sides, which are 1/2 from the centre.
const TRIANGLE: [[f32; 2]; 3] = [[0.0, -1.0], [0.866_025_4, 0.5], [-0.866_025_4, 0.5]];
/// Outward normals of a pentagram's five lines: 54 degrees and steps of 72.
const STAR: [[f32; 2]; 5] = [
    [0.587_785_25, 0.809_017],
    [-0.587_785_25, 0.809_017],
    [-0.951_056_5, -0.309_017],
    [0.0, -1.0],
    [0.951_056_5, -0.309_017],
];
/// The distance of those lines from the centre: the cosine of 72 degrees.
const STAR_LINE: f32 = 0.309_017;

impl Shape {
    /// In the order of their classes.
    pub const ALL: [Self; 6] =
        [Self::Disc, Self::Bar, Self::Triangle, Self::Star, Self::Ring, Self::Cross];

    /// Returns the class of its pixels; class 0 is the background.
    pub fn class(self) -> u8 {
        1 + self as u8
    }

    /// Returns the area.
    pub fn area(self) -> f32 {
        match self {
            Self::Disc => std::f32::consts::PI,
            Self::Bar => 4.0 * BAR * BAR_END,
            // Three quarters of the square root of 3.
            Self::Triangle => 1.299_038,
            // Five times the sine of 36 degrees times the inner corners' distance, 0.381966.
            Self::Star => 1.122_569_9,
            Self::Ring => std::f32::consts::PI * (1.0 - RING_HOLE * RING_HOLE),
            Self::Cross => 4.0 * BEAM * (2.0 * BEAM_END - BEAM),
        }
    }

    /// Returns whether a point is inside.
    pub fn contains(self, x: f32, y: f32) -> bool {
        let beyond = |normals: &[[f32; 2]], distance: f32| {
            normals.iter().filter(|normal| normal[0] * x + normal[1] * y > distance).count()
        };
        match self {
            Self::Disc => x * x + y * y <= 1.0,
            Self::Bar => x.abs() <= BAR_END && y.abs() <= BAR,
            Self::Triangle => beyond(&TRIANGLE, 0.5) == 0,
            // A pentagram's tips lie beyond one of its lines each.
            Self::Star => beyond(&STAR, STAR_LINE) <= 1,
            Self::Ring => (RING_HOLE * RING_HOLE..=1.0).contains(&(x * x + y * y)),
            Self::Cross => x.abs().min(y.abs()) <= BEAM && x.abs().max(y.abs()) <= BEAM_END,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_what_is_inside() {
        let steps = 2000;
        let place = |i: i32| (f64::from(i) + 0.5) * 2.2 / f64::from(steps) - 1.1;
        for shape in Shape::ALL {
            let mut inside = 0;
            for (i, j) in (0..steps).flat_map(|i| (0..steps).map(move |j| (i, j))) {
                let (x, y) = (place(i) as f32, place(j) as f32);
                let within = shape.contains(x, y);
                assert!(!within || x * x + y * y < 1.0 + 1e-5, "{shape:?} at {x}, {y}");
                inside += u32::from(within);
            }
            let area = f64::from(inside) * (2.2 / f64::from(steps)).powi(2);
            let error = area - f64::from(shape.area());
            assert!(error.abs() < 2e-3, "{shape:?} has {area}");
        }
    }

    #[test]
    fn every_shape_has_its_own_class() {
        let classes = Shape::ALL.map(Shape::class);
        assert_eq!(classes, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn borders_lie_where_they_should() {
        assert!(!Shape::Ring.contains(0.0, 0.0) && Shape::Ring.contains(0.0, 0.6));
        assert!(Shape::Star.contains(0.0, -0.99) && !Shape::Star.contains(0.0, 0.5));
        assert!(Shape::Cross.contains(0.9, 0.2) && !Shape::Cross.contains(0.5, 0.5));
        assert!(Shape::Triangle.contains(0.0, 0.99) && !Shape::Triangle.contains(0.0, -0.51));
        assert!(Shape::Bar.contains(0.93, -0.34) && !Shape::Bar.contains(0.0, 0.36));
    }
}
