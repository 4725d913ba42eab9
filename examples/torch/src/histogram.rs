//! Exact counts of what a format would do to a tensor, at every scale.

use adaloss_core::{
    format::{Format, Narrowing},
    scale::Scale,
    statistics,
};
use pyo3::{exceptions::PyValueError, prelude::*};

/// Returns the format of a name, as the documentation of the package lists them.
pub(crate) fn format_of(name: &str) -> PyResult<Format> {
    let formats = [
        ("binary16", Format::BINARY16),
        ("binary16-flushing", Format::BINARY16.flushing()),
        ("bfloat16", Format::BFLOAT16),
        ("e5m2", Format::E5M2),
        ("e4m3", Format::E4M3),
    ];
    let found = formats.iter().find(|(of, _)| *of == name);
    found.map(|(_, format)| *format).ok_or_else(|| {
        let names: Vec<&str> = formats.iter().map(|(name, _)| *name).collect();
        PyValueError::new_err(format!("there is no format {name:?}: {}", names.join(", ")))
    })
}

/// How many elements of a tensor a format would lose, at every scale.
#[pyclass(module = "adaloss._core")]
pub(crate) struct Histogram(statistics::Histogram);

fn scale_of(log2: i32) -> PyResult<Scale> {
    Scale::new(log2).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pymethods]
impl Histogram {
    #[new]
    fn new(format: &str) -> PyResult<Self> {
        Ok(Self(statistics::Histogram::new(Narrowing::to(format_of(format)?))))
    }

    /// Counts `length` elements in f32 that carry the scale `2^scale_log2`, one behind the other from `address` on.
    ///
    /// # Safety
    ///
    /// Python knows no `unsafe`: that the memory is there, and that nobody writes to it meanwhile, is for the package to
    /// see to, which calls this with tensors of its own.
    fn observe(&mut self, address: usize, length: usize, scale_log2: i32) -> PyResult<()> {
        let scale = scale_of(scale_log2)?;
        if length == 0 {
            return Ok(());
        }
        // SAFETY: as said above: a tensor of so many elements in f32 lies there, and the caller holds it.
        let values = unsafe { std::slice::from_raw_parts(address as *const f32, length) };
        self.0.observe(values, scale);
        Ok(())
    }

    /// Adds the counts of another histogram of the same format.
    fn merge(&mut self, other: &Self) -> PyResult<()> {
        self.0.merge(&other.0).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Returns how many elements were counted.
    #[getter]
    fn elements(&self) -> u64 {
        self.0.elements()
    }

    /// Returns how many of them are finite and not 0.
    #[getter]
    fn nonzero(&self) -> u64 {
        self.0.nonzero()
    }

    /// Returns how many of them are infinite or NaN.
    #[getter]
    fn nonfinite(&self) -> u64 {
        self.0.nonfinite()
    }

    /// Returns how many become 0 at the scale 2^log2.
    fn underflow(&self, log2: i32) -> PyResult<u64> {
        Ok(self.0.underflow(scale_of(log2)?))
    }

    /// Returns how many overflow at the scale 2^log2.
    fn overflow(&self, log2: i32) -> PyResult<u64> {
        Ok(self.0.overflow(scale_of(log2)?))
    }

    /// Returns the exponent of the greatest scale at which nothing overflows; None where there is none, or nothing is known.
    fn greatest_scale(&self) -> Option<i32> {
        self.0.greatest_scale().map(Scale::log2)
    }

    /// Returns the exponent of the least scale at which at most so many elements become 0.
    fn least_scale(&self, allowed: u64) -> Option<i32> {
        self.0.least_scale(allowed).map(Scale::log2)
    }
}
