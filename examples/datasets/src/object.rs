//! An object in an image: what it is, and where.

use anyhow::{Result, ensure};

/// An object in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// From 0; the background is no class.
    pub class: u32,
    /// Left, top, right and bottom, as shares of the image's width and height: `0 <= left < right <= 1`, and `0 <= top <
    /// bottom <= 1`.  A pixel is an area, so that an object that fills an image has the bounds `[0, 0, 1, 1]`.
    pub bounds: [f32; 4],
    /// Whether it counts neither as found nor as missed: hard to make out, or a crowd of objects.
    pub is_difficult: bool,
}

impl Object {
    /// Checks that the bounds are as said, and that the class is one of `classes`.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub fn check(&self, classes: usize) -> Result<()> {
        let Self { class, bounds, .. } = *self;
        ensure!((class as usize) < classes, "class {class} of {classes} classes");
        let [left, top, right, bottom] = bounds;
        // False of what is NaN.
        let is_inside = |from: f32, to: f32| 0.0 <= from && from < to && to <= 1.0;
        ensure!(
            is_inside(left, right) && is_inside(top, bottom),
            "the bounds {bounds:?}, which are no area within the image: left, top, right and bottom are shares of its \
             width and height"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(class: u32, bounds: [f32; 4]) -> String {
        let object = Object { class, bounds, is_difficult: false };
        object.check(2).unwrap_err().to_string()
    }

    #[test]
    fn bounds_are_an_area_within_the_image() {
        for bounds in [[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.250_000_03, 1.0]] {
            Object { class: 1, bounds, is_difficult: true }.check(2).unwrap();
        }
        assert_eq!(error(2, [0.0, 0.0, 1.0, 1.0]), "class 2 of 2 classes");
        for bounds in [
            [0.5, 0.0, 0.5, 1.0],
            [0.0, 0.6, 1.0, 0.5],
            [-0.1, 0.0, 1.0, 1.0],
            [0.0, 0.0, 1.0, 1.1],
            [f32::NAN, 0.0, 1.0, 1.0],
            [0.0, 0.0, f32::INFINITY, 1.0],
        ] {
            assert!(error(0, bounds).contains("no area within the image"), "{bounds:?}");
        }
    }
}
