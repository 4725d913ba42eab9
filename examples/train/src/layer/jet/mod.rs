//! A field and its derivatives, which go forward through a network side by side.
//!
//! A jet has a field at some points, a row for each, and where they are needed its derivatives by both coordinates and its
//! Laplacian: each in a tensor of its own, whose gradients have a cell of their own. A linear layer takes each through the same weight,
//! and adds its bias to the value alone. Behind `f(a)` the derivative by `x` is `f'(a) a_x`, and the Laplacian
//! `f'(a) Δa + f''(a) (a_x² + a_y²)`, the sum of second derivatives in one stream (R. Li et al., "A computational framework for neural network-based variational
//! Monte Carlo with Forward Laplacian", 2024). In the backward pass the gradient of a stream is a sum over the streams behind it,
//! which meet at a common scale.

mod linear;
mod tanh;

use anyhow::{Context, Result};

pub use linear::JetLinear;
pub use tanh::JetTanh;

/// One of the tensors of a jet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The field.
    Value,
    /// Its derivative by the first coordinate.
    X,
    /// Its derivative by the second coordinate.
    Y,
    /// The sum of its second derivatives by either coordinate.
    Laplacian,
}

impl Stream {
    /// All of them, in the order in which they are gone through.
    pub const ALL: [Self; 4] = [Self::Value, Self::X, Self::Y, Self::Laplacian];

    /// Returns what is put behind the name of a layer.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Value => "",
            Self::X => ".x",
            Self::Y => ".y",
            Self::Laplacian => ".laplacian",
        }
    }
}

/// What there is of a field at some points: a tensor for each stream, or something else that each has.
#[derive(Clone, Debug, PartialEq)]
pub struct Jet<T>([Option<T>; 4]);

impl<T> Jet<T> {
    /// Makes a jet of what some streams have.
    pub fn of(streams: impl IntoIterator<Item = (Stream, T)>) -> Self {
        let mut jet = Self([const { None }; 4]);
        for (stream, it) in streams {
            jet.0[stream as usize] = Some(it);
        }
        jet
    }

    /// Returns what a stream has, if it has something.
    pub fn get(&self, stream: Stream) -> Option<&T> {
        self.0[stream as usize].as_ref()
    }

    /// Returns what a stream has.
    ///
    /// # Errors
    ///
    /// It has nothing.
    pub fn need(&self, stream: Stream) -> Result<&T> {
        self.get(stream).with_context(|| format!("the jet has no {stream:?}"))
    }

    /// Returns the streams that have something, in order, and what they have.
    pub fn iter(&self) -> impl Iterator<Item = (Stream, &T)> {
        Stream::ALL.into_iter().zip(&self.0).filter_map(|(stream, it)| Some((stream, it.as_ref()?)))
    }

    /// Returns the jet of what is made of each stream.
    ///
    /// # Errors
    ///
    /// The first error.
    pub fn try_map<U>(&self, mut make: impl FnMut(Stream, &T) -> Result<U>) -> Result<Jet<U>> {
        let made = self.iter().map(|(stream, it)| Ok((stream, make(stream, it)?)));
        Ok(Jet::of(made.collect::<Result<Vec<_>>>()?))
    }
}
