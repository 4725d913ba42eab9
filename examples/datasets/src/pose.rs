//! The ways in which a square lies on itself.

/// One of the eight ways in which a square lies on itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pose {
    transposed: bool,
    upside_down: bool,
    mirrored: bool,
}

impl Pose {
    pub(crate) const ALL: [Self; 8] = {
        let mut all = [Self { transposed: false, upside_down: false, mirrored: false }; 8];
        let mut i = 0;
        while i < 8 {
            all[i] = Self { transposed: i & 1 != 0, upside_down: i & 2 != 0, mirrored: i & 4 != 0 };
            i += 1;
        }
        all
    };

    /// Returns where each pixel comes from, row by row.
    pub(crate) fn places(self, size: usize) -> impl Iterator<Item = usize> {
        (0..size * size).map(move |place| {
            let (mut row, mut column) = (place / size, place % size);
            if self.transposed {
                (row, column) = (column, row);
            }
            if self.upside_down {
                row = size - 1 - row;
            }
            if self.mirrored {
                column = size - 1 - column;
            }
            row * size + column
        })
    }

    /// Returns where left, top, right and bottom, as shares of the square, come to lie.
    pub(crate) fn turned(self, [mut left, mut top, mut right, mut bottom]: [f32; 4]) -> [f32; 4] {
        // The way back of that of the pixels.
        if self.mirrored {
            (left, right) = (1.0 - right, 1.0 - left);
        }
        if self.upside_down {
            (top, bottom) = (1.0 - bottom, 1.0 - top);
        }
        if self.transposed { [top, left, bottom, right] } else { [left, top, right, bottom] }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn poses_are_those_of_a_square() {
        let places: Vec<Vec<usize>> = Pose::ALL.map(|pose| pose.places(2).collect()).into();
        assert_eq!(places[0], [0, 1, 2, 3]);
        assert_eq!(places[1], [0, 2, 1, 3]);
        assert_eq!(places[2], [2, 3, 0, 1]);
        assert_eq!(places[4], [1, 0, 3, 2]);
        let distinct: BTreeSet<_> = places.into_iter().collect();
        assert_eq!(distinct.len(), 8);
    }

    #[test]
    fn bounds_turn_with_their_pixels() {
        // Pixels of rows 1 and 2 and columns 4 to 6 of eight.
        let bounds = [4.0, 1.0, 7.0, 3.0].map(|place| place / 8.0);
        for pose in Pose::ALL {
            let inside = |place| (1..3).contains(&(place / 8)) && (4..7).contains(&(place % 8));
            let to: Vec<usize> = pose
                .places(8)
                .enumerate()
                .filter(|&(_, from)| inside(from))
                .map(|(to, _)| to)
                .collect();
            let of = |axis: fn(usize) -> usize| {
                let (least, most) =
                    (to.iter().map(|&to| axis(to)).min(), to.iter().map(|&to| axis(to)).max());
                (least.unwrap() as f32 / 8.0, (most.unwrap() + 1) as f32 / 8.0)
            };
            let ((left, right), (top, bottom)) = (of(|place| place % 8), of(|place| place / 8));
            assert_eq!(pose.turned(bounds), [left, top, right, bottom], "{pose:?}");
        }
    }
}
