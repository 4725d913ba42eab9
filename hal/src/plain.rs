//! Values that a device's memory can hold.

use adaloss_core::{
    elements,
    format::Element,
    policy::{Cell, Certificate},
    scaler::device::{DeviceState, Line},
    statistics::{Histogram, LogStatistics, Outcome, Statistics},
    unscale::{LossSum, Unscaled},
};

/// A value that host and device exchange as bytes.
///
/// # Safety
///
/// Every byte of every value is initialised (no padding), the layout is that of `repr(C)` or
/// `repr(transparent)`, the value holds no pointer and no reference, and a value of zero bytes is
/// legal.
pub unsafe trait Plain: Copy + Send + Sync + 'static {
    /// Returns the value of zero bytes, which [`Memory::zeroed`](crate::Memory::zeroed) is full of.
    ///
    /// It need not be a useful one: the statistics of an empty tensor, for example, are not zero.
    fn zeroed() -> Self {
        // SAFETY: a value of zero bytes is legal, by the contract of the trait.
        unsafe { core::mem::zeroed() }
    }
}

macro_rules! plain {
    ($($name:ty: $size:expr),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$name>() == $size);
        // SAFETY: the type is a number, `repr(transparent)` over one, or a `repr(C)` struct whose
        // fields add up to the size asserted above, so that no padding is left; none holds a
        // pointer, and zero is a legal value of each field (the enums among them have a
        // discriminant of zero).
        unsafe impl Plain for $name {}
    )+};
}

macro_rules! plain_elements {
    ($($element:ty),+) => {
        plain! { $($element: <$element>::ENCODING.bits() as usize / 8),+ }
    };
}

elements!(plain_elements);

plain! {
    u8: 1,
    u16: 2,
    u32: 4,
    u64: 8,
    f64: 8,
    // memory, age, scale, limit, trigger, flags, the ceiling seen, reserved
    Cell: 16 + 4 + 2 + 2 + 1 + 1 + 1 + 1,
    // six counters, the maximum, reserved
    Outcome: 6 * 8 + 4 + 4,
    // narrowing, reserved, three counters, two times 254 bins
    Histogram: 4 + 4 + 3 * 8 + 2 * 254 * 8,
    // two counters, moments (a counter, 6 and 10 words), two extremes
    Statistics: 2 * 8 + (1 + 6 + 10) * 8 + 2 * 4,
    // a counter, moments, an extreme, reserved
    LogStatistics: 8 + (1 + 6 + 10) * 8 + 2 * 4,
    // rule, trigger, promised, reserved, two scales, a window, the lost mass, two counters, six expectations
    Certificate: 4 + 2 * 2 + 2 * 2 + 4 + 2 * 8 + 6 * 8,
    Unscaled: 3 * 8,
    LossSum: 4 * 8,
    Line: Line::BYTES,
    // a visit, eight counters, three findings, a cell, two counters; see the assertions below
    DeviceState: DeviceState::BYTES,
}
