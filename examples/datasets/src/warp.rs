//! Small affine maps of an image.

use anyhow::{Result, ensure};
use rand::{Rng, RngExt};

/// A small affine map: the identity plus `matrix`, then `shift` in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Warp {
    /// Rows: what is added to a pixel's row and column, per pixel of distance down and right.
    pub matrix: [[f32; 2]; 2],
    /// Down and right.
    pub shift: [f32; 2],
}

impl Warp {
    /// Appends an image of one channel, seen through the map about its centre; what moves in from
    /// outside is black.
    pub fn append(&self, image: &[u8], [rows, columns]: [usize; 2], to: &mut Vec<f32>) {
        let pixel = |row: f32, column: f32| {
            let inside = row >= 0.0 && column >= 0.0;
            let (row, column) = (row as usize, column as usize);
            if inside && row < rows && column < columns {
                f32::from(image[row * columns + column])
            } else {
                0.0
            }
        };
        let centre = [(rows - 1) as f32 / 2.0, (columns - 1) as f32 / 2.0];
        for place in 0..rows * columns {
            let offset =
                [(place / columns) as f32 - centre[0], (place % columns) as f32 - centre[1]];
            let [row, column] = [0, 1].map(|i| {
                let [down, right] = self.matrix[i];
                centre[i] + offset[i] + down * offset[0] + right * offset[1] + self.shift[i]
            });
            // Bilinear between the four pixels around.
            let (top, left) = (row.floor(), column.floor());
            let (y, x) = (row - top, column - left);
            let above = (1.0 - x) * pixel(top, left) + x * pixel(top, left + 1.0);
            let below = (1.0 - x) * pixel(top + 1.0, left) + x * pixel(top + 1.0, left + 1.0);
            to.push((1.0 - y) * above + y * below);
        }
    }
}

/// How far training samples are warped at random, at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    shift: f32,
    warp: f32,
}

impl Reach {
    /// The entries of the matrix, unless told otherwise.
    pub const WARP: f32 = 0.2;

    /// Makes a reach: `shift` in pixels, `warp` for the entries of the matrix.
    ///
    /// # Errors
    ///
    /// A shift that is negative or no finite number, or a warp outside `[0, 1)`.
    pub fn new(shift: f32, warp: f32) -> Result<Self> {
        ensure!(
            shift >= 0.0 && shift.is_finite() && (0.0..1.0).contains(&warp),
            "samples can be moved by 0 pixels or more and warped by 0 or more and less than 1"
        );
        Ok(Self { shift, warp })
    }

    /// Returns the shift that suits images of this many rows: one pixel of 8, two of 28.
    pub fn usual_shift(rows: usize) -> f32 {
        (rows as f32 / 14.0).max(1.0)
    }

    /// Draws a warp within the reach.
    pub fn draw(&self, generator: &mut impl Rng) -> Warp {
        let mut within = |reach: f32| generator.random_range(-reach..=reach);
        let matrix = [[(); 2]; 2].map(|row| row.map(|()| within(self.warp)));
        Warp { matrix, shift: [(); 2].map(|()| within(self.shift)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::View;

    #[test]
    fn a_warped_sample_is_interpolated() {
        let warped = |warp: Warp| {
            let mut to = Vec::new();
            warp.append(&[1, 2, 3, 4], [2, 2], &mut to);
            to
        };
        let shifted = |shift| warped(Warp { shift, ..Warp::default() });
        assert_eq!(warped(Warp::default()), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(shifted([-1.0, 0.0]), [0.0, 0.0, 1.0, 2.0]);
        assert_eq!(shifted([0.0, 0.5]), [1.5, 1.0, 3.5, 2.0]);
        // A quarter turn: rows become columns.
        let turn = warped(Warp { matrix: [[-1.0, 1.0], [-1.0, -1.0]], shift: [0.0; 2] });
        assert_eq!(turn, [2.0, 4.0, 1.0, 3.0]);
    }

    #[test]
    fn warps_stay_within_reach_and_no_reach_is_no_warp() {
        let draw = |reach: Reach, i| reach.draw(&mut View { seed: 0, epoch: 0 }.generator(i));
        assert_eq!(draw(Reach::new(0.0, 0.0).unwrap(), 0), Warp::default());
        for i in 0..100 {
            let Warp { matrix, shift } = draw(Reach::new(1.5, 0.1).unwrap(), i);
            assert!(matrix.as_flattened().iter().all(|x| x.abs() <= 0.1));
            assert!(shift.iter().all(|x| x.abs() <= 1.5));
        }
    }

    #[test]
    fn an_impossible_reach_is_an_error() {
        let impossible = [
            (-1.0, 0.0),
            (f32::NAN, 0.0),
            (f32::INFINITY, 0.0),
            (0.0, 1.0),
            (0.0, -0.1),
            (0.0, f32::NAN),
        ];
        for (shift, warp) in impossible {
            assert!(Reach::new(shift, warp).is_err(), "{shift} {warp}");
        }
        assert_eq!([8, 14, 28].map(Reach::usual_shift), [1.0, 1.0, 2.0]);
    }
}
