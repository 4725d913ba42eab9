//! Operations as values, handed on: one implementation for all of them.

use adaloss_core::{
    format::{Element, Encoding},
    statistics::{Histogram, Outcome},
};

use super::{Call, Hook, Results, Wrapped};
use crate::readout::{HasReadout, Readout};
use crate::{
    device::{Device, Mut},
    epilogue::Epilogue,
    operation::{Operation, Visitor},
    plain::Plain,
    run::{Fitting, Run},
    space::AddressSpace,
};

impl<O, D, H> Run<O> for Wrapped<D, H>
where
    O: Operation<Space = D::Space>,
    D: Run<O>,
    H: Hook<D>,
{
    fn execute(&mut self, operation: Fitting<'_, O>) -> Result<(), H::Error> {
        self.submit(operation.into_inner())
    }

    fn submit(&mut self, operation: &mut O) -> Result<(), H::Error> {
        let shape = operation.shape();
        let mut size = Size { written: None, read: None };
        operation.operands(&mut size);
        let elements = size.written.or(size.read).unwrap_or(0);
        let call = Call { operation: O::KIND, elements, shape };
        // The device that is wrapped checks, inside of the hook, which hears of a refusal.
        self.hooked(call, Written(operation), |device, written| device.submit(written.0))
    }
}

/// What an operation writes.
struct Written<'o, O>(&'o mut O);

impl<D: Device, O: Operation<Space = D::Space>> Results<D> for Written<'_, O> {
    fn elements(&mut self) -> usize {
        let mut count = Count(0);
        self.0.operands(&mut count);
        count.0
    }

    fn encoding(&mut self, index: usize) -> Option<Encoding> {
        let mut find = Find { place: Place(Some(index)), encoding: None };
        self.0.operands(&mut find);
        find.encoding
    }

    fn bits(&mut self, device: &mut D, index: usize) -> Result<u32, D::Error> {
        let mut read = ReadBits { device, place: Place(Some(index)), bits: Ok(0) };
        self.0.operands(&mut read);
        read.bits
    }

    fn set_bits(&mut self, device: &mut D, index: usize, bits: u32) -> Result<(), D::Error> {
        let mut write = WriteBits { device, place: Place(Some(index)), bits, done: Ok(()) };
        self.0.operands(&mut write);
        write.done
    }

    fn readout(
        &mut self,
        device: &mut D,
        show: &mut dyn FnMut(Readout<'_>),
    ) -> Result<(), D::Error> {
        let mut read = ReadLeft { device, show, shown: false, done: Ok(()) };
        self.0.operands(&mut read);
        let ReadLeft { shown, done, show, .. } = read;
        done?;
        if !shown {
            show(Readout::Unread);
        }
        Ok(())
    }
}

/// The place of an element among those of all tensors that an operation writes, counted from the tensor that is looked at.
struct Place(Option<usize>);

impl Place {
    /// Returns the place within a tensor of so many elements, if it is there, and goes on behind that tensor.
    fn within(&mut self, elements: usize) -> Option<usize> {
        let index = self.0?;
        self.0 = index.checked_sub(elements);
        (index < elements).then_some(index)
    }
}

/// What an operation is said to be of: the elements of the first tensor that it writes, else of the first operand.
struct Size {
    written: Option<usize>,
    read: Option<usize>,
}

#[deny(clippy::missing_trait_methods)]
impl<S: AddressSpace> Visitor<S> for Size {
    fn needs(&mut self, _: &'static str, _: bool) {}

    fn input<T: Plain>(&mut self, _: &'static str, _: Option<usize>, from: &mut S::Ref<'_, T>) {
        self.read.get_or_insert(S::len(*from));
    }

    fn listed<T: Plain>(&mut self, _: &'static str, _: usize, from: S::Ref<'_, T>) {
        self.read.get_or_insert(S::len(from));
    }

    fn output<F: Element + Plain>(
        &mut self,
        _: &'static str,
        _: Option<usize>,
        to: &mut S::Mut<'_, F>,
    ) {
        self.written.get_or_insert(S::len(S::shared(to)));
    }

    fn written<T: Plain>(&mut self, _: &'static str, _: Option<usize>, to: &mut S::Mut<'_, T>) {
        self.read.get_or_insert(S::len(S::shared(to)));
    }

    fn readout<C: HasReadout>(&mut self, _: &'static str, to: &mut S::Mut<'_, C>) {
        self.read.get_or_insert(S::len(S::shared(to)));
    }

    fn predicate(&mut self, _: &'static str, _: &mut Option<S::Ref<'_, u32>>) {}

    fn epilogue<F: Element>(&mut self, _: &mut Epilogue<'_, S>) {}
}

/// Counts the elements of all tensors.
struct Count(usize);

impl<S: AddressSpace> Visitor<S> for Count {
    fn output<F: Element + Plain>(
        &mut self,
        _: &'static str,
        _: Option<usize>,
        to: &mut S::Mut<'_, F>,
    ) {
        self.0 += S::len(S::shared(to));
    }
}

/// Finds the encoding of an element.
struct Find {
    place: Place,
    encoding: Option<Encoding>,
}

impl<S: AddressSpace> Visitor<S> for Find {
    fn output<F: Element + Plain>(
        &mut self,
        _: &'static str,
        _: Option<usize>,
        to: &mut S::Mut<'_, F>,
    ) {
        if self.place.within(S::len(S::shared(to))).is_some() {
            self.encoding = Some(F::ENCODING);
        }
    }
}

/// Reads the bits of an element.
struct ReadBits<'d, D: Device> {
    device: &'d mut D,
    place: Place,
    bits: Result<u32, D::Error>,
}

impl<D: Device> Visitor<D::Space> for ReadBits<'_, D> {
    fn output<F: Element + Plain>(
        &mut self,
        _: &'static str,
        _: Option<usize>,
        to: &mut Mut<'_, D, F>,
    ) {
        let to = D::Space::shared(to);
        let Some(index) = self.place.within(D::Space::len(to)) else { return };
        if let Some(element) = D::Space::part(to, index..index + 1) {
            let mut found = [F::from_bits(0)];
            self.bits = self.device.read(element, &mut found).map(|()| found[0].to_bits());
        }
    }
}

/// Writes the bits of an element.
struct WriteBits<'d, D: Device> {
    device: &'d mut D,
    place: Place,
    bits: u32,
    done: Result<(), D::Error>,
}

impl<D: Device> Visitor<D::Space> for WriteBits<'_, D> {
    fn output<F: Element + Plain>(
        &mut self,
        _: &'static str,
        _: Option<usize>,
        to: &mut Mut<'_, D, F>,
    ) {
        let index = self.place.within(D::Space::len(D::Space::shared(to)));
        let element = index
            .and_then(|index| D::Space::part_mut(D::Space::reborrow_mut(to), index..index + 1));
        if let Some(element) = element {
            self.done = self.device.write(&[F::from_bits(self.bits)], element);
        }
    }
}

/// Reads what is left besides tensors, and shows it.
struct ReadLeft<'d, 's, D: Device> {
    device: &'d mut D,
    show: &'s mut dyn FnMut(Readout<'_>),
    shown: bool,
    done: Result<(), D::Error>,
}

impl<D: Device> ReadLeft<'_, '_, D> {
    fn shows(&mut self, left: Readout<'_>) {
        (self.show)(left);
        self.shown = true;
    }

    /// Keeps the first error.
    fn fails(&mut self, error: D::Error) {
        if self.done.is_ok() {
            self.done = Err(error);
        }
    }
}

impl<D: Device> Visitor<D::Space> for ReadLeft<'_, '_, D> {
    fn readout<C: HasReadout>(&mut self, _: &'static str, operand: &mut Mut<'_, D, C>) {
        let mut left = [C::zeroed()];
        match self.device.read(D::Space::shared(operand), &mut left) {
            Ok(()) => self.shows(left[0].readout()),
            Err(error) => self.fails(error),
        }
    }

    fn epilogue<F: Element>(&mut self, epilogue: &mut Epilogue<'_, D::Space>) {
        let mut outcome = [Outcome::EMPTY];
        let mut measured = [Histogram::new(epilogue.narrowing)];
        let mut read = self.device.read(D::Space::shared(&epilogue.outcome), &mut outcome);
        if let (Ok(()), Some(histogram)) = (&read, &epilogue.histogram) {
            read = self.device.read(D::Space::shared(histogram), &mut measured);
        }
        let histogram = epilogue.histogram.as_ref().map(|_| &measured[0]);
        match read {
            Ok(()) => self.shows(Readout::Counts { outcome: &outcome[0], histogram }),
            Err(error) => self.fails(error),
        }
    }
}
