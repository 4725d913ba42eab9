//! The lower left convex hull of points whose coordinates are both to be small.
//!
//! Two policies give every mixture between them: one for some tensors, the other for the rest.  So the hull is
//! made of straight lines, whatever the axes that it is drawn on.

/// Returns the corners of the lower left hull, from left to right and falling.
pub fn lower_left(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points = points.to_vec();
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut hull: Vec<(f64, f64)> = Vec::new();
    for point in points {
        // What costs more and is no better is no corner.
        if hull.last().is_some_and(|last| point.1 >= last.1) {
            continue;
        }
        while let [.., a, b] = hull[..] {
            let is_above = (b.1 - a.1) * (point.0 - a.0) >= (point.1 - a.1) * (b.0 - a.0);
            if !is_above {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

/// Returns how high a hull is at some `x`; none on the left of all of it.
pub fn height(hull: &[(f64, f64)], x: f64) -> Option<f64> {
    let right = hull.partition_point(|corner| corner.0 <= x);
    let &(from, high) = hull.get(right.checked_sub(1)?)?;
    let Some(&(to, low)) = hull.get(right) else { return Some(high) };
    Some(high + (low - high) * (x - from) / (to - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_those_that_nothing_lies_below() {
        let points = [(0.0, 10.0), (1.0, 9.0), (2.0, 2.0), (4.0, 1.9), (10.0, 1.0), (3.0, 2.0)];
        let hull = lower_left(&points);
        // (4, 1.9) lies above the line from (2, 2) to (10, 1), which is at 1.75 there.
        assert_eq!(hull, [(0.0, 10.0), (2.0, 2.0), (10.0, 1.0)]);
        assert_eq!(height(&hull, 4.0), Some(1.75));
        assert_eq!([height(&hull, 0.0), height(&hull, 1.0)], [Some(10.0), Some(6.0)]);
        assert_eq!([height(&hull, 10.0), height(&hull, 99.0)], [Some(1.0); 2]);
        assert_eq!([height(&hull, -0.1), height(&[], 1.0)], [None; 2]);
    }

    #[test]
    fn equal_and_straight_points_are_one_corner_and_one_line() {
        assert_eq!(lower_left(&[(1.0, 1.0), (1.0, 1.0), (1.0, 3.0)]), [(1.0, 1.0)]);
        assert_eq!(lower_left(&[(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)]), [(0.0, 2.0), (2.0, 0.0)]);
        // Nothing is better than the first.
        assert_eq!(lower_left(&[(5.0, 0.0), (0.0, 0.0), (2.0, 1.0)]), [(0.0, 0.0)]);
        assert!(lower_left(&[]).is_empty());
    }

    #[test]
    fn no_point_lies_below_its_hull() {
        let mut seed = 1_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(seed >> 24)
        };
        for _ in 0..200 {
            let points: Vec<_> = (0..12).map(|_| (random(), random())).collect();
            let hull = lower_left(&points);
            assert!(hull.iter().all(|corner| points.contains(corner)));
            assert!(hull.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1));
            for &(x, y) in &points {
                assert!(height(&hull, x).is_some_and(|height| y >= height - 1e-9), "{points:?}");
            }
        }
    }
}
