//! The accelerator's memory: handles on the host's side, values and a queue of commands behind it.

use std::{
    any::Any, cell::RefCell, collections::VecDeque, marker::PhantomData, ops::Range, rc::Rc,
};

use adaloss_hal::{AddressSpace, Capabilities, Device, Error, ErrorKind, Memory, Misfit, Plain};

use crate::sabotage::Sabotage;

/// An accelerator that computes in binary16 only and does nothing before it is asked for results.
///
/// It is modelled on the host: memory that only its commands see, named by number, offset and
/// length, and a queue that runs when something is read.
pub(crate) struct Accelerator {
    pub(crate) board: Rc<RefCell<Board>>,
    pub(crate) sabotage: Sabotage,
    /// Whether it has neither subnormals nor random words, in binary16 as in f32.
    pub(crate) flushes: bool,
}

/// What is on the far side of the bus.
#[derive(Default)]
pub(crate) struct Board {
    pub(crate) values: Values,
    queue: VecDeque<Command>,
    executed: usize,
}

/// Everything a command can touch.
#[derive(Default)]
pub(crate) struct Values {
    slots: Vec<Option<Box<dyn Any>>>,
}

pub(crate) type Command = Box<dyn FnOnce(&mut Values) -> Result<(), AcceleratorError>>;

/// Names elements in the accelerator's memory.
#[derive(Debug)]
pub(crate) struct Handle<'a, T> {
    slot: usize,
    first: usize,
    length: usize,
    lives: PhantomData<&'a T>,
}

impl<T> Clone for Handle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<'_, T> {}

impl<'a, T> Handle<'a, T> {
    fn part(self, range: Range<usize>) -> Option<Self> {
        let length = range.end.checked_sub(range.start)?;
        (range.end <= self.length).then_some(Self {
            first: self.first + range.start,
            length,
            ..self
        })
    }

    /// The same name for as long as a command lives; the queue keeps the order that makes it safe.
    pub(crate) fn queued(self) -> Handle<'static, T> {
        let Self { slot, first, length, .. } = self;
        Handle { slot, first, length, lives: PhantomData }
    }

    fn renamed<'b>(self) -> Handle<'b, T>
    where
        'a: 'b,
    {
        self
    }
}

/// Names elements that may be written; there is one such name at a time.
#[derive(Debug)]
pub(crate) struct HandleMut<'a, T> {
    handle: Handle<'a, T>,
    exclusive: PhantomData<&'a mut T>,
}

impl<'a, T> HandleMut<'a, T> {
    fn new(handle: Handle<'a, T>) -> Self {
        Self { handle, exclusive: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.handle.length
    }

    pub(crate) fn queued(&self) -> Handle<'static, T> {
        self.handle.queued()
    }
}

/// Elements that the accelerator frees once every command before has run.
pub(crate) struct Buffer<T> {
    slot: usize,
    length: usize,
    board: Rc<RefCell<Board>>,
    elements: PhantomData<T>,
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let slot = self.slot;
        self.board.borrow_mut().queue.push_back(Box::new(move |values| {
            values.slots[slot] = None;
            Ok(())
        }));
    }
}

impl Accelerator {
    pub(crate) fn new() -> Self {
        Self::sabotaged(Sabotage::None)
    }

    pub(crate) fn sabotaged(sabotage: Sabotage) -> Self {
        Self { board: Rc::default(), sabotage, flushes: false }
    }

    /// Makes an accelerator that reads and writes subnormals as zero and rounds no other way.
    pub(crate) fn flushing() -> Self {
        Self { flushes: true, ..Self::new() }
    }

    /// Returns how many commands have run.
    pub(crate) fn executed(&self) -> usize {
        self.board.borrow().executed
    }

    pub(crate) fn enqueue(
        &mut self,
        command: impl FnOnce(&mut Values) -> Result<(), AcceleratorError> + 'static,
    ) {
        self.board.borrow_mut().queue.push_back(Box::new(command));
    }

    /// Queues a command that does nothing where a word is 0 by then.
    pub(crate) fn enqueue_when(
        &mut self,
        when: Option<Handle<'static, u32>>,
        command: impl FnOnce(&mut Values) -> Result<(), AcceleratorError> + 'static,
    ) {
        let when = when.filter(|_| self.sabotage != Sabotage::IgnoresPredicates);
        self.enqueue(move |memory| match when {
            Some(when) if memory.load_one(when)? == 0 => Ok(()),
            _ => command(memory),
        });
    }
}

impl Board {
    fn run(&mut self) -> Result<(), AcceleratorError> {
        while let Some(command) = self.queue.pop_front() {
            self.executed += 1;
            command(&mut self.values)?;
        }
        Ok(())
    }
}

impl Values {
    /// Copies elements out of memory.
    pub(crate) fn load<T: Plain>(&self, from: Handle<'_, T>) -> Result<Vec<T>, AcceleratorError> {
        let slot = self.slots.get(from.slot).and_then(Option::as_ref);
        let values = slot.and_then(|slot| slot.downcast_ref::<Vec<T>>());
        values
            .and_then(|values| values.get(from.first..from.first + from.length))
            .map(<[T]>::to_vec)
            .ok_or(AcceleratorError::Lost)
    }

    /// Copies the one element of a range out of memory.
    pub(crate) fn load_one<T: Plain>(&self, from: Handle<'_, T>) -> Result<T, AcceleratorError> {
        self.load(from)?.pop().ok_or(AcceleratorError::Lost)
    }

    /// Copies elements into memory.
    pub(crate) fn store<T: Plain>(
        &mut self,
        values: &[T],
        to: Handle<'_, T>,
    ) -> Result<(), AcceleratorError> {
        let slot = self.slots.get_mut(to.slot).and_then(Option::as_mut);
        let memory = slot.and_then(|slot| slot.downcast_mut::<Vec<T>>());
        let range = memory.and_then(|memory| memory.get_mut(to.first..to.first + to.length));
        range.ok_or(AcceleratorError::Lost)?.copy_from_slice(values);
        Ok(())
    }
}

impl Device for Accelerator {
    type Error = AcceleratorError;
    type Space = AcceleratorSpace;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::ALL;
        capabilities.sequential_sums = false;
        capabilities.subnormals = !self.flushes;
        capabilities.stochastic_rounding = !self.flushes;
        capabilities
    }

    fn read<T: Plain>(
        &mut self,
        from: Handle<'_, T>,
        to: &mut [T],
    ) -> Result<(), AcceleratorError> {
        check("a copy to the host", from.length == to.len())?;
        let mut board = self.board.borrow_mut();
        board.run()?;
        to.copy_from_slice(&board.values.load(from)?);
        Ok(())
    }

    /// Its commands look at the predicate.
    fn is_off(&mut self, _: Handle<'_, u32>) -> Result<bool, AcceleratorError> {
        Ok(false)
    }

    fn write<T: Plain>(
        &mut self,
        from: &[T],
        to: HandleMut<'_, T>,
    ) -> Result<(), AcceleratorError> {
        check("a copy from the host", from.len() == to.len())?;
        let (values, mut to) = (from.to_vec(), to.queued());
        if self.sabotage == Sabotage::IgnoresOffsets {
            to.first = 0;
        }
        self.enqueue(move |memory| memory.store(&values, to));
        Ok(())
    }
}

/// The memory of the accelerator.
#[derive(Clone, Copy, Debug)]
pub(super) struct AcceleratorSpace;

impl AddressSpace for AcceleratorSpace {
    type Ref<'a, T: Plain> = Handle<'a, T>;
    type Mut<'a, T: Plain> = HandleMut<'a, T>;

    fn len<T: Plain>(elements: Handle<'_, T>) -> usize {
        elements.length
    }

    fn part<T: Plain>(elements: Self::Ref<'_, T>, range: Range<usize>) -> Option<Self::Ref<'_, T>> {
        elements.part(range)
    }

    fn part_mut<T: Plain>(
        elements: Self::Mut<'_, T>,
        range: Range<usize>,
    ) -> Option<Self::Mut<'_, T>> {
        elements.handle.part(range).map(HandleMut::new)
    }

    fn shared<'a, T: Plain>(elements: &'a HandleMut<'_, T>) -> Handle<'a, T> {
        elements.handle.renamed()
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(elements: Handle<'long, T>) -> Handle<'short, T> {
        elements.renamed()
    }

    fn truncate<T: Plain>(elements: &mut HandleMut<'_, T>, length: usize) {
        elements.handle.length = elements.handle.length.min(length);
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut HandleMut<'_, T>) -> HandleMut<'a, T> {
        HandleMut::new(elements.handle.renamed())
    }
}

impl Memory for Accelerator {
    type Buffer<T: Plain> = Buffer<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Buffer<T>, AcceleratorError> {
        let mut board = self.board.borrow_mut();
        let slot = board.values.slots.iter().position(Option::is_none);
        let slot = slot.unwrap_or_else(|| {
            board.values.slots.push(None);
            board.values.slots.len() - 1
        });
        board.values.slots[slot] = Some(Box::new(vec![T::zeroed(); length]));
        Ok(Buffer { slot, length, board: Rc::clone(&self.board), elements: PhantomData })
    }

    fn view<T: Plain>(buffer: &Buffer<T>) -> Handle<'_, T> {
        let Buffer { slot, length, .. } = *buffer;
        Handle { slot, first: 0, length, lives: PhantomData }
    }

    fn view_mut<T: Plain>(buffer: &mut Buffer<T>) -> HandleMut<'_, T> {
        HandleMut::new(Self::view(buffer))
    }
}

/// What the accelerator cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceleratorError {
    /// Something has the wrong length.
    Length(&'static str),
    /// The operands of an operation do not fit.
    Misfit(Misfit),
    /// It computes in binary16 only, and may know no subnormals and no random words.
    Format,
    /// A command named memory that is not there.
    Lost,
}

impl std::fmt::Display for AcceleratorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(what) => write!(f, "{what} has the wrong length"),
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Format => f.write_str("this accelerator does not narrow like that"),
            Self::Lost => f.write_str("a command named memory that is not there"),
        }
    }
}

impl std::error::Error for AcceleratorError {}

impl Error for AcceleratorError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Length(_) => ErrorKind::Shape,
            Self::Format => ErrorKind::Format,
            Self::Misfit(misfit) => misfit.kind(),
            Self::Lost => ErrorKind::Hardware,
        }
    }

    fn misfit(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

/// Checks a length before a command is queued.
pub(crate) fn check(what: &'static str, is_right: bool) -> Result<(), AcceleratorError> {
    if is_right { Ok(()) } else { Err(AcceleratorError::Length(what)) }
}
