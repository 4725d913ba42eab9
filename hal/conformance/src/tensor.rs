//! Device memory of the suite: filled from functions, read in chunks, guarded at both ends.

use super::{Case, Discrepancy, Failure};
use adaloss_hal::{AddressSpace, Device, Memory, Mut, Plain, Ref};

/// Elements that the host holds at a time.
const CHUNK: usize = 128;

/// A tensor with a guard element before and after it, which no operation may write.
pub(super) struct Tensor<D: Memory, T: Plain> {
    buffer: D::Buffer<T>,
    elements: usize,
}

impl<D: Memory, T: Plain> Tensor<D, T> {
    /// Makes a tensor of known values.
    pub(super) fn filled(
        case: Case,
        device: &mut D,
        elements: usize,
        value: impl Fn(usize) -> T,
    ) -> Result<Self, Failure> {
        Self::new(case, device, elements, &value)
    }

    /// The same: compiled once for all functions.
    fn new(
        case: Case,
        device: &mut D,
        elements: usize,
        value: &dyn Fn(usize) -> T,
    ) -> Result<Self, Failure> {
        let mut tensor = Self { buffer: case.succeeds(device.zeroed(elements + 2))?, elements };
        upload(case, device, tensor.view_mut(case)?, value)?;
        Ok(tensor)
    }

    /// Gives every element but the guards a value.
    pub(super) fn fill(
        &mut self,
        case: Case,
        device: &mut D,
        value: impl Fn(usize) -> T,
    ) -> Result<(), Failure> {
        upload(case, device, self.view_mut(case)?, &value)
    }

    /// Names the elements, without the guards.
    pub(super) fn view(&self, case: Case) -> Result<Ref<'_, D, T>, Failure> {
        case.finds(D::Space::part(self.whole(), 1..1 + self.elements))
    }

    /// Names the elements, without the guards, for writing.
    pub(super) fn view_mut(&mut self, case: Case) -> Result<Mut<'_, D, T>, Failure> {
        let middle = 1..1 + self.elements;
        case.finds(D::Space::part_mut(self.whole_mut(), middle))
    }

    /// Names the elements and the guards.
    pub(super) fn whole(&self) -> Ref<'_, D, T> {
        D::view(&self.buffer)
    }

    /// Names the elements and the guards for writing.
    pub(super) fn whole_mut(&mut self) -> Mut<'_, D, T> {
        D::view_mut(&mut self.buffer)
    }

    /// Returns the number of elements, without the guards.
    pub(super) const fn elements(&self) -> usize {
        self.elements
    }
}

/// Writes values from the host, a chunk at a time.
pub(super) fn upload<T: Plain, D: Device>(
    case: Case,
    device: &mut D,
    mut to: Mut<'_, D, T>,
    value: &dyn Fn(usize) -> T,
) -> Result<(), Failure> {
    let elements = D::Space::len(D::Space::shared(&to));
    for first in (0..elements).step_by(CHUNK) {
        let last = elements.min(first + CHUNK);
        let mut chunk = [T::zeroed(); CHUNK];
        for (index, to) in (first..last).zip(&mut chunk) {
            *to = value(index);
        }
        let part = case.finds(D::Space::part_mut(D::Space::reborrow_mut(&mut to), first..last))?;
        case.succeeds(device.write(&chunk[..last - first], part))?;
    }
    Ok(())
}

/// Reads values to the host, a chunk at a time.
pub(super) fn download<T: Plain, D: Device>(
    case: Case,
    device: &mut D,
    from: Ref<'_, D, T>,
    take: &mut dyn FnMut(usize, T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let elements = D::Space::len(from);
    for first in (0..elements).step_by(CHUNK) {
        let last = elements.min(first + CHUNK);
        let mut chunk = [T::zeroed(); CHUNK];
        let part = case.finds(D::Space::part(from, first..last))?;
        case.succeeds(device.read(part, &mut chunk[..last - first]))?;
        for (index, &value) in (first..last).zip(&chunk) {
            take(index, value)?;
        }
    }
    Ok(())
}

/// Reads the one value of a buffer.
pub(super) fn read_one<T: Plain, D: Device>(
    case: Case,
    device: &mut D,
    from: Ref<'_, D, T>,
) -> Result<T, Failure> {
    let mut value = [T::zeroed()];
    case.succeeds(device.read(from, &mut value))?;
    Ok(value[0])
}

impl Case {
    /// Takes a result that must not be an error.
    pub(super) fn succeeds<T, E: adaloss_hal::Error>(
        self,
        result: Result<T, E>,
    ) -> Result<T, Failure> {
        let unexpected =
            |error: E| Discrepancy::Error { expected: None, found: Some(error.kind()) };
        result.map_err(|error| self.fails(unexpected(error)))
    }

    /// Takes a part that must be there.
    pub(super) fn finds<T>(self, part: Option<T>) -> Result<T, Failure> {
        part.ok_or(self.fails(Discrepancy::Differs { what: "the range of a buffer" }))
    }

    /// Compares two numbers.
    pub(super) fn number(
        self,
        what: &'static str,
        expected: i64,
        found: i64,
    ) -> Result<(), Failure> {
        if expected == found {
            Ok(())
        } else {
            Err(self.fails(Discrepancy::Number { what, expected, found }))
        }
    }

    /// Compares two values that have names for parts of them only.
    pub(super) fn whole<T: PartialEq>(
        self,
        what: &'static str,
        expected: &T,
        found: &T,
    ) -> Result<(), Failure> {
        if expected == found { Ok(()) } else { Err(self.fails(Discrepancy::Differs { what })) }
    }
}
