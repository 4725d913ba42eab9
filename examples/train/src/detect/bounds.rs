//! Boxes, and how far two of them overlap.

/// Left, top, right and bottom of a box, as shares of the image's width and height.
pub type Bounds = [f32; 4];

/// Returns the area of two boxes in common over that which either covers (the Jaccard overlap, or intersection over union): from
/// 0 to 1, and 0 where either has no area or a bound that is not finite.
pub fn overlap(a: Bounds, b: Bounds) -> f32 {
    if !a.iter().chain(&b).all(|bound| bound.is_finite()) {
        return 0.0;
    }
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let both = side(0) * side(1);
    let either = area(a) + area(b) - both;
    if both > 0.0 { both / either } else { 0.0 }
}

fn area([left, top, right, bottom]: Bounds) -> f32 {
    (right - left).max(0.0) * (bottom - top).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two boxes of area 4 that share an area of 2: 2 of 6.
    #[test]
    fn an_overlap_is_what_is_shared_of_what_is_covered() {
        assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]), 2.0 / 6.0);
        assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]), 1.0);
    }

    #[test]
    fn boxes_that_touch_or_are_none_do_not_overlap() {
        let one = [0.0, 0.0, 1.0, 1.0];
        for other in [
            [1.0, 0.0, 2.0, 1.0],
            [0.5, 0.5, 0.5, 0.5],
            [0.8, 0.8, 0.2, 0.2],
            [f32::NAN; 4],
            [f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, f32::INFINITY],
        ] {
            assert_eq!(overlap(one, other), 0.0, "{other:?}");
        }
    }
}
