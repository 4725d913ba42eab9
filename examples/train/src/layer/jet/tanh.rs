//! The hyperbolic tangent of a jet, element by element and on the host, in f32.

use adaloss_core::format::Element;
use adaloss_hal::{HasNarrow, Memory, Narrow, Plain};
use anyhow::{Context, Result};

use super::{Jet, Stream};
use crate::layer::{Activation, Backward, Forward, Gradient, Machine, Vector};

/// The jet of tanh at a jet of inputs, and its slopes: what a backward pass needs.
#[derive(Clone, Debug)]
pub struct JetTanh {
    /// Of which the Laplacian may be absent, where it is zero.
    inputs: Jet<Vec<f32>>,
    /// tanh of the value, and its first three derivatives there.
    derivatives: [Vec<f32>; 4],
}

impl JetTanh {
    /// Computes tanh and its derivatives at a jet, whose streams have as many elements each: a value alone, or one with both first derivatives.
    ///
    /// # Errors
    ///
    /// There is no value.
    pub fn at(inputs: Jet<Vec<f32>>) -> Result<Self> {
        let mut derivatives = [const { Vec::new() }; 4];
        for value in inputs.need(Stream::Value)? {
            let t = value.tanh();
            let first = 1.0 - t * t;
            let all = [t, first, -2.0 * t * first, (6.0 * t * t - 2.0) * first];
            derivatives.iter_mut().zip(all).for_each(|(to, derivative)| to.push(derivative));
        }
        Ok(Self { inputs, derivatives })
    }

    /// Returns the jet; it has a Laplacian if the inputs have first derivatives.
    pub fn results(&self) -> Jet<Vec<f32>> {
        let [tanh, first, second, _] = &self.derivatives;
        let mut results = vec![(Stream::Value, tanh.clone())];
        for stream in [Stream::X, Stream::Y] {
            results.extend(self.inputs.get(stream).map(|a| (stream, product(first, a))));
        }
        if let Some(squares) = self.squares() {
            let mut laplacian = product(second, &squares);
            if let Some(of_input) = self.inputs.get(Stream::Laplacian) {
                add(&mut laplacian, &product(first, of_input));
            }
            results.push((Stream::Laplacian, laplacian));
        }
        Jet::of(results)
    }

    /// Returns how much a stream of the results changes with a stream of the inputs, element by element; nothing where it does not.
    pub fn slope(&self, of: Stream, by: Stream) -> Option<Vec<f32>> {
        let [_, first, second, third] = &self.derivatives;
        let input = self.inputs.get(by)?;
        match (of, by) {
            (Stream::Laplacian, Stream::Value) => {
                let mut slope = product(third, &self.squares()?);
                if let Some(laplacian) = self.inputs.get(Stream::Laplacian) {
                    add(&mut slope, &product(second, laplacian));
                }
                Some(slope)
            }
            (Stream::Laplacian, Stream::X | Stream::Y) => {
                let slope = product(second, input);
                Some(slope.into_iter().map(|slope| 2.0 * slope).collect())
            }
            (Stream::X | Stream::Y, Stream::Value) => Some(product(second, self.inputs.get(of)?)),
            _ => (of == by).then(|| first.clone()),
        }
    }

    /// Returns the sums of the squared first derivatives of the inputs, if they have them.
    fn squares(&self) -> Option<Vec<f32>> {
        let [x, y] = [self.inputs.get(Stream::X)?, self.inputs.get(Stream::Y)?];
        Some(x.iter().zip(y).map(|(x, y)| x * x + y * y).collect())
    }

    /// Takes a jet forward.
    ///
    /// # Errors
    ///
    /// It has no value, or the device failed.
    pub fn forward<D, W>(
        run: &mut Forward<'_, D>,
        inputs: &Jet<Activation<D, W>>,
    ) -> Result<(Jet<Activation<D, W>>, Self)>
    where
        W: Element + Plain,
        D: Memory<Error: Send + Sync + 'static> + HasNarrow<W>,
    {
        let shape = inputs.need(Stream::Value)?.shape();
        let inputs = inputs.try_map(|_, input| Ok(input.widened(run.device)?))?;
        let tanh = Self::at(inputs)?;
        let results = tanh.results().try_map(|_, values| {
            let values = Vector::of(run.device, values)?;
            run.activation(shape, |device, to, epilogue| {
                device.run(Narrow::<_, W> { input: values.view(), to, epilogue })
            })
        })?;
        Ok((results, tanh))
    }

    /// Takes the gradients of some streams of the results back to all streams of the inputs that they depend on; the value is one of the
    /// former. Cells have the name and the stream.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn backward<D, W, G>(
        &self,
        run: &mut Backward<'_, D>,
        name: &str,
        gradients: &Jet<Gradient<D, G>>,
    ) -> Result<Jet<Gradient<D, G>>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        self.inputs.try_map(|by, _| {
            let branches =
                gradients.iter().filter_map(|(of, gradient)| Some((gradient, self.slope(of, by)?)));
            let name = format!("{name}{}", by.suffix());
            run.weighted(&name, &branches.collect::<Vec<_>>()).context(name)
        })
    }
}

fn product(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of some elements: each element of a stream of its own size.
    fn inputs() -> Jet<Vec<f32>> {
        Jet::of([
            (Stream::Value, vec![-1.5, 0.0, 0.25, 0.9]),
            (Stream::X, vec![0.5, -2.0, 1.0, 3.0]),
            (Stream::Y, vec![-0.75, 0.125, 2.0, 0.0]),
            (Stream::Laplacian, vec![4.0, -0.5, 0.0, 7.0]),
        ])
    }

    /// Along a line through the point, in f64, a jet is the field `tanh(a + a_x s + a_xx s² / 2)`.
    #[test]
    fn a_jet_is_that_of_the_field() {
        let found = JetTanh::at(inputs()).unwrap().results();
        for nth in 0..4 {
            let a = |stream| f64::from(inputs().need(stream).unwrap()[nth]);
            // Half of the Laplacian is the second derivative by either coordinate.
            let line = |stream, s: f64| {
                (a(Stream::Value) + a(stream) * s + 0.25 * a(Stream::Laplacian) * s * s).tanh()
            };
            let h = 1e-4;
            let around = |stream| [line(stream, -h), line(stream, 0.0), line(stream, h)];
            let mut laplacian = 0.0;
            for stream in [Stream::X, Stream::Y] {
                let [before, at, after] = around(stream);
                let slope = (after - before) / (2.0 * h);
                let own = f64::from(found.need(stream).unwrap()[nth]);
                assert!((own - slope).abs() < 1e-5, "{stream:?} {nth}: {own} and {slope}");
                laplacian += (before - 2.0 * at + after) / (h * h);
            }
            let own = f64::from(found.need(Stream::Laplacian).unwrap()[nth]);
            assert!((own - laplacian).abs() < 1e-4, "{nth}: {own} and {laplacian}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_results() {
        let tanh = JetTanh::at(inputs()).unwrap();
        let reach = 1e-2_f32;
        for by in Stream::ALL {
            let moved = |sign: f32| {
                let moved = inputs().try_map(|stream, values| {
                    let by = if stream == by { sign * reach } else { 0.0 };
                    Ok(values.iter().map(|value| value + by).collect())
                });
                JetTanh::at(moved.unwrap()).unwrap().results()
            };
            let [before, after] = [-1.0, 1.0].map(moved);
            for of in Stream::ALL {
                let slope = tanh.slope(of, by).unwrap_or_else(|| vec![0.0; 4]);
                for (nth, slope) in slope.into_iter().enumerate() {
                    let [before, after] = [&before, &after].map(|jet| jet.need(of).unwrap()[nth]);
                    let found = (after - before) / (2.0 * reach);
                    // What is left is a sixth of the square of the reach, by the third derivative, of some hundred at most.
                    assert!((slope - found).abs() < 5e-3, "{of:?} by {by:?}: {slope}, {found}");
                }
            }
        }
    }

    #[test]
    fn a_value_alone_has_no_derivatives() {
        let tanh = JetTanh::at(Jet::of([(Stream::Value, vec![0.5])])).unwrap();
        assert_eq!(tanh.results(), Jet::of([(Stream::Value, vec![0.5_f32.tanh()])]));
        for (of, by) in [(Stream::Value, Stream::X), (Stream::X, Stream::Value)] {
            assert_eq!(tanh.slope(of, by), None);
        }
        assert!(JetTanh::at(Jet::of([(Stream::X, vec![0.5])])).is_err());
    }

    /// Coordinates have a gradient and no Laplacian; their tanh has one.
    #[test]
    fn an_absent_laplacian_is_zero() {
        let [value, x, y] = [Stream::Value, Stream::X, Stream::Y]
            .map(|stream| (stream, inputs().need(stream).unwrap().clone()));
        let zero = (Stream::Laplacian, vec![0.0; 4]);
        let absent = JetTanh::at(Jet::of([value.clone(), x.clone(), y.clone()])).unwrap();
        let present = JetTanh::at(Jet::of([value, x, y, zero])).unwrap();
        assert_eq!(absent.results(), present.results());
        for by in [Stream::Value, Stream::X, Stream::Y] {
            assert_eq!(absent.slope(Stream::Laplacian, by), present.slope(Stream::Laplacian, by));
        }
        assert_eq!(absent.slope(Stream::Laplacian, Stream::Laplacian), None);
    }
}
