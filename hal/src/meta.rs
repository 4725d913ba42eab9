//! A device without elements, for planning: PyTorch calls such a one `meta`.
//!
//! It checks the operands of every operation as any device does, does nothing, and counts: the multiply-adds of each operation, and
//! the bytes of the buffers that exist at a time.  A program that is generic over its device runs on it as it is, in no time, and
//! so says what it will need elsewhere.  What is read is zero.
//!
//! # Examples
//!
//! ```
//! use adaloss_core::{format::{Format, Narrowing, Noise}, policy::Cell, statistics::Outcome};
//! use adaloss_hal::{Epilogue, Matmul, Memory, OperationKind, Product, Run, meta::Meta};
//! let mut device = Meta::default();
//! let (a, b) = (device.zeroed::<f32>(1000 * 300)?, device.zeroed::<f32>(300 * 20)?);
//! let (cell, mut outcome) = (device.zeroed::<Cell>(1)?, device.zeroed::<Outcome>(1)?);
//! let mut to = device.zeroed::<f32>(1000 * 20)?;
//! device.run(Matmul::<_, f32, f32, f32> {
//!     product: Product::new(1000, 300, 20),
//!     a: Meta::view(&a),
//!     b: Meta::view(&b),
//!     bias: None,
//!     to: Meta::view_mut(&mut to),
//!     epilogue: Epilogue {
//!         from: Meta::view(&cell),
//!         to: Meta::view(&cell),
//!         narrowing: Narrowing::to(Format::BINARY32),
//!         noise: Noise::default(),
//!         stores: true,
//!         when: None,
//!         outcome: Meta::view_mut(&mut outcome),
//!         histogram: None,
//!     },
//! })?;
//! assert_eq!(device.cost().of(OperationKind::Matmul), 1000 * 300 * 20);
//! drop(a);
//! let cost = device.cost();
//! assert_eq!(cost.most_bytes - cost.bytes, 4 * 1000 * 300);
//! # Ok::<(), adaloss_hal::HostError>(())
//! ```

#![forbid(unsafe_code)]

use alloc::rc::Rc;
use core::{cell::Cell, marker::PhantomData, ops::Range};

use crate::{
    device::{Capabilities, Device, Memory},
    host::HostError,
    kind::OperationKind,
    operation::Operation,
    plain::Plain,
    run::{Fitting, Run},
    shape::Shape,
    space::AddressSpace,
};

/// What a program asked of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of the buffers that exist.
    pub bytes: usize,
    /// The most bytes that existed at a time.
    pub most_bytes: usize,
    multiply_adds: [u64; OperationKind::ALL.len()],
}

impl Cost {
    const NONE: Self =
        Self { bytes: 0, most_bytes: 0, multiply_adds: [0; OperationKind::ALL.len()] };

    /// Returns the multiply-adds of one operation; saturating, and 0 of those that have no sums of products.
    pub const fn of(&self, operation: OperationKind) -> u64 {
        self.multiply_adds[operation as usize]
    }

    /// Returns the multiply-adds of all operations.
    pub fn multiply_adds(&self) -> u64 {
        self.multiply_adds.iter().fold(0, |sum, &of| sum.saturating_add(of))
    }
}

/// A device without elements; its clones count together.
#[derive(Clone, Debug)]
pub struct Meta {
    cost: Rc<Cell<Cost>>,
}

impl Default for Meta {
    fn default() -> Self {
        Self { cost: Rc::new(Cell::new(Cost::NONE)) }
    }
}

impl Meta {
    /// Returns what was asked so far.
    pub fn cost(&self) -> Cost {
        self.cost.get()
    }

    /// Forgets what was asked, but for the buffers that exist: what follows is counted alone.
    pub fn restart(&mut self) {
        let bytes = self.cost().bytes;
        self.cost.set(Cost { bytes, most_bytes: bytes, ..Cost::NONE });
    }
}

/// How many elements a buffer of a [`Meta`] has.
#[derive(Debug)]
pub struct Extent<T> {
    length: usize,
    cost: Rc<Cell<Cost>>,
    element: PhantomData<T>,
}

impl<T> Drop for Extent<T> {
    fn drop(&mut self) {
        let cost = self.cost.get();
        let bytes = cost.bytes.saturating_sub(self.length.saturating_mul(size_of::<T>()));
        self.cost.set(Cost { bytes, ..cost });
    }
}

/// How many elements there are, of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length<'a>(usize, PhantomData<&'a ()>);

impl Length<'_> {
    const fn new(length: usize) -> Self {
        Self(length, PhantomData)
    }
}

/// The memory of [`Meta`], in which elements are named by how many they are.
#[derive(Clone, Copy, Debug)]
pub struct MetaSpace;

impl AddressSpace for MetaSpace {
    type Ref<'a, T: Plain> = Length<'a>;
    type Mut<'a, T: Plain> = Length<'a>;

    fn len<T: Plain>(elements: Length<'_>) -> usize {
        elements.0
    }

    fn part<T: Plain>(elements: Self::Ref<'_, T>, range: Range<usize>) -> Option<Self::Ref<'_, T>> {
        let is_within = range.end <= elements.0;
        let length = range.end.checked_sub(range.start).filter(|_| is_within);
        length.map(Length::new)
    }

    fn part_mut<T: Plain>(
        elements: Self::Mut<'_, T>,
        range: Range<usize>,
    ) -> Option<Self::Mut<'_, T>> {
        Self::part::<T>(elements, range)
    }

    fn shared<'a, T: Plain>(elements: &'a Length<'_>) -> Length<'a> {
        *elements
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(elements: Length<'long>) -> Length<'short> {
        elements
    }

    fn truncate<T: Plain>(elements: &mut Length<'_>, length: usize) {
        elements.0 = elements.0.min(length);
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut Length<'_>) -> Length<'a> {
        *elements
    }
}

impl Device for Meta {
    type Error = HostError;
    type Space = MetaSpace;

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn read<T: Plain>(&mut self, from: Length<'_>, to: &mut [T]) -> Result<(), HostError> {
        same_length("a copy from the device", from.0, to.len())?;
        to.fill(T::zeroed());
        Ok(())
    }

    /// Returns false: what an operation would have cost is counted, whatever a device would have found.
    fn is_off(&mut self, _: Length<'_>) -> Result<bool, HostError> {
        Ok(false)
    }

    fn write<T: Plain>(&mut self, from: &[T], to: Length<'_>) -> Result<(), HostError> {
        same_length("a copy to the device", from.len(), to.0)
    }
}

fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), HostError> {
    match expected == found {
        true => Ok(()),
        false => Err(HostError::Length { what, expected, found }),
    }
}

impl Memory for Meta {
    type Buffer<T: Plain> = Extent<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Extent<T>, HostError> {
        let cost = self.cost();
        let bytes =
            length.checked_mul(size_of::<T>()).and_then(|more| more.checked_add(cost.bytes));
        let bytes = bytes.ok_or(HostError::Memory { elements: length })?;
        self.cost.set(Cost { bytes, most_bytes: cost.most_bytes.max(bytes), ..cost });
        Ok(Extent { length, cost: Rc::clone(&self.cost), element: PhantomData })
    }

    fn view<T: Plain>(buffer: &Extent<T>) -> Length<'_> {
        Length::new(buffer.length)
    }

    fn view_mut<T: Plain>(buffer: &mut Extent<T>) -> Length<'_> {
        Length::new(buffer.length)
    }
}

impl<O: Operation<Space = MetaSpace>> Run<O> for Meta {
    fn execute(&mut self, operation: Fitting<'_, O>) -> Result<(), HostError> {
        let shape = operation.into_inner().shape();
        let mut cost = self.cost();
        let sum = &mut cost.multiply_adds[O::KIND as usize];
        *sum = sum.saturating_add(shape.map_or(0, Shape::multiply_adds));
        self.cost.set(cost);
        Ok(())
    }
}
