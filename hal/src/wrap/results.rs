//! What an operation writes, in memory that the caller named.

use core::{fmt, ops::Range};

use adaloss_core::{
    format::{Element, Encoding},
    policy::{Cell, Certificate},
    scale::Scale,
    statistics::{Histogram, Outcome, Statistics},
    unscale::Unscaled,
};

use crate::{AddressSpace, Device, Epilogue, Plain, network::LossSum};

/// What an operation writes: elements, counts, both, or nothing that anybody but the caller looks at.
///
/// Of a pair, the elements are those of both, one after the other, and what is left is the second's.
pub trait Results<D: Device> {
    /// Returns how many elements the operation writes.
    fn elements(&mut self) -> usize {
        0
    }

    /// Returns the encoding of an element, if there is such a one.
    fn encoding(&mut self, _index: usize) -> Option<Encoding> {
        None
    }

    /// Reads the bits of an element, and so waits for the device; 0 if there is no such element.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn bits(&mut self, _device: &mut D, _index: usize) -> Result<u32, D::Error> {
        Ok(0)
    }

    /// Writes the bits of an element, if there is such a one.
    ///
    /// # Errors
    ///
    /// The device failed.
    fn set_bits(&mut self, _device: &mut D, _index: usize, _bits: u32) -> Result<(), D::Error> {
        Ok(())
    }

    /// Reads what the operation left besides elements, and so waits for the device; shows it once.
    ///
    /// # Errors
    ///
    /// The device failed; nothing was shown.
    fn left(&mut self, _device: &mut D, show: &mut dyn FnMut(Left<'_>)) -> Result<(), D::Error> {
        show(Left::Unread);
        Ok(())
    }
}

/// What an operation left behind besides elements, in the memory that the caller named.
///
/// Counts are added to, so they may be those of several operations.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Left<'a> {
    /// Nothing that was read: the operation only writes elements or failed, or the record only
    /// traces.
    Unread,
    /// Of an operation that ends in an epilogue: its counts.
    Counts {
        /// What became of the results.
        outcome: &'a Outcome,
        /// The results themselves, where they were measured.
        histogram: Option<&'a Histogram>,
    },
    /// `statistics`.
    Statistics(&'a Statistics),
    /// `unscale`: what was met.
    Unscaled(&'a Unscaled),
    /// `certify`.
    Certificate(&'a Certificate),
    /// `note`: the cell after it.
    Cell(&'a Cell),
    /// `finish`, of one cell or more: the least and the greatest scale of the next step.
    Scales([Scale; 2]),
    /// `softmax_cross_entropy`: what the rows add up to.
    Loss(&'a LossSum),
    /// `square_norm`: the sum of the squares.
    SquareNorm(&'a f64),
}

impl fmt::Display for Left<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread => Ok(()),
            Self::Counts { outcome, histogram } => {
                let Outcome { elements, nonfinite, underflow, overflow, .. } = outcome;
                write!(
                    f,
                    ": of {elements} narrowed {underflow} underflow, {overflow} overflow, \
                     {nonfinite} non-finite"
                )?;
                match histogram {
                    Some(histogram) => write!(f, "; {} measured", histogram.elements()),
                    None => Ok(()),
                }
            }
            Self::Statistics(Statistics { nonfinite, zero, moments, .. }) => {
                write!(f, ": {} finite, {nonfinite} non-finite, {zero} zero", moments.count())
            }
            Self::Unscaled(Unscaled { elements, nonfinite, tiny }) => {
                write!(f, ": of {elements} unscaled {nonfinite} non-finite, {tiny} tiny")
            }
            Self::Certificate(certificate) => write!(f, ": {certificate}"),
            Self::Cell(cell) => {
                let (scale, age, trigger) = (cell.scale(), cell.age(), cell.trigger());
                write!(f, ": {scale}, age {age}, trigger {trigger:?}")
            }
            Self::Scales([least, greatest]) => write!(f, ": scales from {least} to {greatest}"),
            Self::Loss(LossSum { loss, weight, rows, correct }) => {
                write!(f, ": loss {loss} of weight {weight}, {correct} of {rows} rows right")
            }
            Self::SquareNorm(sum) => write!(f, ": {sum}"),
        }
    }
}

/// A value that operations leave behind.
pub trait Leaves: Plain {
    /// Returns the value as what was left.
    fn as_left(&self) -> Left<'_>;
}

impl Leaves for Statistics {
    fn as_left(&self) -> Left<'_> {
        Left::Statistics(self)
    }
}

impl Leaves for Unscaled {
    fn as_left(&self) -> Left<'_> {
        Left::Unscaled(self)
    }
}

impl Leaves for Certificate {
    fn as_left(&self) -> Left<'_> {
        Left::Certificate(self)
    }
}

impl Leaves for Cell {
    fn as_left(&self) -> Left<'_> {
        Left::Cell(self)
    }
}

impl Leaves for LossSum {
    fn as_left(&self) -> Left<'_> {
        Left::Loss(self)
    }
}

impl Leaves for f64 {
    fn as_left(&self) -> Left<'_> {
        Left::SquareNorm(self)
    }
}

/// The elements of a tensor.
pub struct Elements<'a, S: AddressSpace, F: Plain>(pub S::Mut<'a, F>);

impl<'a, S: AddressSpace, F: Plain> Elements<'a, S, F> {
    /// Lends them to an operation.
    pub fn lend(&mut self) -> S::Mut<'_, F> {
        S::reborrow_mut(&mut self.0)
    }
}

/// A count of the whole operation, a certificate or a cell; one element.
pub struct Counted<'a, S: AddressSpace, C: Plain>(pub S::Mut<'a, C>);

impl<'a, S: AddressSpace, C: Plain> Counted<'a, S, C> {
    /// Lends it to an operation.
    pub fn lend(&mut self) -> S::Mut<'_, C> {
        S::reborrow_mut(&mut self.0)
    }
}

impl<D: Device> Results<D> for () {}

impl<D: Device, F: Element + Plain> Results<D> for Elements<'_, D::Space, F> {
    fn elements(&mut self) -> usize {
        D::Space::len(D::Space::shared(&self.0))
    }

    fn encoding(&mut self, index: usize) -> Option<Encoding> {
        (index < Results::<D>::elements(self)).then_some(F::ENCODING)
    }

    fn bits(&mut self, device: &mut D, index: usize) -> Result<u32, D::Error> {
        let mut found = [F::from_bits(0)];
        if let Some(element) = D::Space::part(D::Space::shared(&self.0), range(index)) {
            device.read(element, &mut found)?;
        }
        Ok(found[0].to_bits())
    }

    fn set_bits(&mut self, device: &mut D, index: usize, bits: u32) -> Result<(), D::Error> {
        match D::Space::part_mut(self.lend(), range(index)) {
            Some(element) => device.write(&[F::from_bits(bits)], element),
            None => Ok(()),
        }
    }
}

impl<D: Device, C: Leaves> Results<D> for Counted<'_, D::Space, C> {
    fn left(&mut self, device: &mut D, show: &mut dyn FnMut(Left<'_>)) -> Result<(), D::Error> {
        let mut left = [C::zeroed()];
        device.read(D::Space::shared(&self.0), &mut left)?;
        show(left[0].as_left());
        Ok(())
    }
}

impl<D: Device> Results<D> for Epilogue<'_, D::Space> {
    fn left(&mut self, device: &mut D, show: &mut dyn FnMut(Left<'_>)) -> Result<(), D::Error> {
        let mut outcome = [Outcome::EMPTY];
        device.read(D::Space::shared(&self.outcome), &mut outcome)?;
        let mut measured = [Histogram::new(self.narrowing)];
        if let Some(histogram) = &self.histogram {
            device.read(D::Space::shared(histogram), &mut measured)?;
        }
        let histogram = self.histogram.as_ref().map(|_| &measured[0]);
        show(Left::Counts { outcome: &outcome[0], histogram });
        Ok(())
    }
}

impl<D: Device, A: Results<D>, B: Results<D>> Results<D> for (A, B) {
    fn elements(&mut self) -> usize {
        self.0.elements() + self.1.elements()
    }

    fn encoding(&mut self, index: usize) -> Option<Encoding> {
        match index.checked_sub(self.0.elements()) {
            None => self.0.encoding(index),
            Some(index) => self.1.encoding(index),
        }
    }

    fn bits(&mut self, device: &mut D, index: usize) -> Result<u32, D::Error> {
        match index.checked_sub(self.0.elements()) {
            None => self.0.bits(device, index),
            Some(index) => self.1.bits(device, index),
        }
    }

    fn set_bits(&mut self, device: &mut D, index: usize, bits: u32) -> Result<(), D::Error> {
        match index.checked_sub(self.0.elements()) {
            None => self.0.set_bits(device, index, bits),
            Some(index) => self.1.set_bits(device, index, bits),
        }
    }

    fn left(&mut self, device: &mut D, show: &mut dyn FnMut(Left<'_>)) -> Result<(), D::Error> {
        self.1.left(device, show)
    }
}

/// Returns the range of one element; an empty one beyond all elements.
const fn range(index: usize) -> Range<usize> {
    index..index.saturating_add(1)
}
