//! A device at work: tensors in its memory, guarded, and one operation that ends in an epilogue.

use std::fmt;

use adaloss_core::{
    format::{Element, Fate, Narrowed, Narrowing, Noise},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{AddressSpace, Device, Epilogue, Memory, Mut, Plain, Ref};
use adaloss_oracle::Grid;

/// Copies values into memory of their own.
pub(crate) fn upload<T: Plain, D: Memory>(device: &mut D, values: &[T]) -> D::Buffer<T> {
    let mut buffer = succeeds(device.zeroed(values.len()));
    succeeds(device.write(values, D::view_mut(&mut buffer)));
    buffer
}

/// Copies values back.
pub(crate) fn download<T: Plain, D: Device>(device: &mut D, from: Ref<'_, D, T>) -> Vec<T> {
    let mut values = vec![T::zeroed(); D::Space::len(from)];
    succeeds(device.read(from, &mut values));
    values
}

/// Takes the result of an operation that nothing is wrong with.
pub(crate) fn succeeds<T, E: fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("the device refused what is legal: {error}"))
}

/// What an operation ends in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) from: Scale,
    pub(crate) to: Scale,
    pub(crate) narrowing: Narrowing,
    pub(crate) noise: Noise,
    pub(crate) stores: bool,
    pub(crate) measures: bool,
}

/// What it left behind.
pub(crate) struct Readout<F> {
    pub(crate) elements: Vec<F>,
    outcome: Outcome,
    histogram: Histogram,
}

impl Ending {
    /// Runs an operation on a result of `length` elements with a guard on either side of it that has
    /// to keep its value.
    pub(crate) fn run<F: Element + Plain, D: Memory>(
        &self,
        device: &mut D,
        length: usize,
        operation: impl for<'w> FnOnce(
            &mut D,
            Mut<'w, D, F>,
            Epilogue<'w, D::Space>,
        ) -> Result<(), D::Error>,
    ) -> Readout<F> {
        let pattern: Vec<F> = (0..length + 2).map(pattern).collect();
        let mut to = upload(device, &pattern);
        let cells = [self.from, self.to].map(|scale| upload(device, &[Cell::at(scale)]));
        let mut outcome = upload(device, &[Outcome::EMPTY]);
        let mut histogram = upload(device, &[Histogram::new(self.narrowing)]);
        let epilogue = Epilogue {
            from: D::view(&cells[0]),
            to: D::view(&cells[1]),
            narrowing: self.narrowing,
            noise: self.noise,
            stores: self.stores,
            when: None,
            outcome: D::view_mut(&mut outcome),
            histogram: self.measures.then(|| D::view_mut(&mut histogram)),
        };
        let middle =
            D::Space::part_mut(D::view_mut(&mut to), 1..length + 1).expect("it is that long");
        succeeds(operation(device, middle, epilogue));

        let mut elements = download(device, D::view(&to));
        let touched = |place: usize| elements[place].to_bits() != pattern[place].to_bits();
        assert!(!touched(0) && !touched(length + 1), "written beside the result: {self:?}");
        assert!(
            self.stores || !(1..=length).any(touched),
            "written by a pass that only measures: {self:?}"
        );
        elements.truncate(length + 1);
        elements.remove(0);
        let [outcome] = download(device, D::view(&outcome))[..] else { unreachable!("one") };
        let [histogram] = download(device, D::view(&histogram))[..] else { unreachable!("one") };
        Readout { elements, outcome, histogram }
    }

    /// Compares what an operation left behind with what becomes of its f32 results by definition.
    ///
    /// The bits of a NaN count where the results are the caller's, and not where they were computed.
    pub(crate) fn check<F: Element>(&self, left: &Readout<F>, results: &[f32], are_computed: bool) {
        let mut outcome = Outcome::EMPTY;
        if self.stores {
            for ((index, &x), &found) in (0..).zip(results).zip(&left.elements) {
                let Narrowed { bits, fate } = self.narrow(x, index);
                let same =
                    found.to_bits() == bits || are_computed && x.is_nan() && found.widen().is_nan();
                assert!(
                    same,
                    "element {index}, {x:e} ({:#010x}): {:#x} instead of {bits:#x}, {self:?}",
                    x.to_bits(),
                    found.to_bits()
                );
                count(&mut outcome, x, fate);
            }
        }
        assert_eq!(left.outcome, outcome, "{self:?} of {results:?}");
        let mut histogram = Histogram::new(self.narrowing);
        if self.measures {
            results.iter().for_each(|&x| histogram.observe_one(x, self.from));
        }
        assert_eq!(left.histogram, histogram, "{self:?} of {results:?}");
    }

    /// Narrows one value as the definition says.
    pub(crate) fn narrow(&self, x: f32, index: u64) -> Narrowed {
        let shift = self.to.log2() - self.from.log2();
        let word = self.noise.word_at(index);
        Grid::of(self.narrowing.format.encoding).narrow(self.narrowing, x, shift, word)
    }
}

/// Counts what became of one value.
pub(crate) fn count(outcome: &mut Outcome, x: f32, fate: Fate) {
    let counter = match fate {
        Fate::Zero => &mut outcome.zero,
        Fate::Underflow => &mut outcome.underflow,
        Fate::Subnormal => &mut outcome.subnormal,
        Fate::Overflow => &mut outcome.overflow,
        Fate::NonFinite => &mut outcome.nonfinite,
        // A normal number counts as an element and no more.
        Fate::Normal => &mut 0,
    };
    *counter += 1;
    outcome.elements += 1;
    if x.is_finite() {
        outcome.max_bits = outcome.max_bits.max(x.abs().to_bits());
    }
}

/// Returns what memory holds before an operation writes it.
fn pattern<F: Element>(place: usize) -> F {
    F::from_bits(0x5a5a_5a5a ^ (place as u32).wrapping_mul(0x0101_0101))
}
