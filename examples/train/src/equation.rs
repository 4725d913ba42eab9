//! The loss of an equation that a field is to have: how far from it the field is.

use crate::data::helmholtz::{WAVENUMBER_SQUARED, source};

/// What residuals are divided by: the power of two next to the `2π²` by which the Laplacian of the solution is larger than the solution, so
/// that the residual of a field that is wrong by 1 is of order 1, as its error at the boundary is.
const RESIDUAL: f64 = 16.0;

/// Returns the mean squared residual of the Helmholtz equation, over [`RESIDUAL`], and leaves its gradients where the values and Laplacians
/// of the field were, an element per point.
///
/// `points` are pairs, at the second of each of which the equation holds.
pub(crate) fn helmholtz_loss(points: &[f32], values: &mut [f32], laplacians: &mut [f32]) -> f64 {
    let (count, mut sum) = (values.len().max(1) as f64, 0.0);
    let (pairs, _) = points.as_chunks::<4>();
    for ((&[.., x, y], value), laplacian) in pairs.iter().zip(values).zip(laplacians) {
        let field = f64::from(*laplacian) + WAVENUMBER_SQUARED * f64::from(*value);
        let residual = (field - source([x, y].map(f64::from))) / RESIDUAL;
        sum += residual * residual;
        let gradient = 2.0 * residual / RESIDUAL / count;
        *laplacian = gradient as f32;
        *value = (WAVENUMBER_SQUARED * gradient) as f32;
    }
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [f32; 8] = [1.0, 0.5, 0.25, -0.5, -1.0, 0.0, 0.75, 0.125];

    /// A Laplacian that the equation has with a value, plus a residual.
    fn laplacian(nth: usize, value: f32, residual: f64) -> f32 {
        let point = [POINTS[4 * nth + 2], POINTS[4 * nth + 3]].map(f64::from);
        (source(point) - WAVENUMBER_SQUARED * f64::from(value) + residual) as f32
    }

    #[test]
    fn a_field_with_the_equation_has_no_loss() {
        let mut values = [0.5, -2.0];
        let mut laplacians = [laplacian(0, 0.5, 0.0), laplacian(1, -2.0, 0.0)];
        assert!(helmholtz_loss(&POINTS, &mut values, &mut laplacians) < 1e-12);
        assert!(values.iter().chain(&laplacians).all(|gradient| gradient.abs() < 1e-4));
    }

    #[test]
    fn the_loss_is_the_mean_of_squares_and_its_gradients_are_its_slopes() {
        let at = |values: [f32; 2], laplacians: [f32; 2]| {
            let (mut values, mut laplacians) = (values, laplacians);
            let loss = helmholtz_loss(&POINTS, &mut values, &mut laplacians);
            (loss, values, laplacians)
        };
        let values = [0.5, -2.0];
        let laplacians = [laplacian(0, 0.5, 32.0), laplacian(1, -2.0, -16.0)];
        let (loss, of_values, of_laplacians) = at(values, laplacians);
        assert!((loss - 2.5).abs() < 1e-5, "{loss}");
        for nth in 0..2 {
            let moved = |step: f32| {
                let (mut values, mut laplacians) = (values, laplacians);
                values[nth] += step;
                let by_value = at(values, laplacians).0;
                laplacians[nth] += step;
                (by_value, at([0.5, -2.0], laplacians).0)
            };
            let (before, after) = (moved(-0.5), moved(0.5));
            let slopes = [after.0 - before.0, after.1 - before.1];
            for (slope, gradient) in slopes.into_iter().zip([of_values[nth], of_laplacians[nth]]) {
                // Of a square a difference of both sides is the slope itself.
                assert!((slope - f64::from(gradient)).abs() < 1e-5, "{slope} and {gradient}");
            }
        }
    }
}
