//! Kernels as they are shipped: the text of a module, executed by the interpreter.

use std::{cell::Cell, env, fs, sync::Arc};

use adaloss_interpreter::{
    Divergence, FaultKind, GlobalMemory, Launch, Module, Refused, Schedule, Sums,
};

use crate::{
    driver::{is_orderly, note_executed},
    kernel::Shape,
    memory::Memory,
    status::{Answer, Status},
};

/// Instructions of warps after which a launch is taken for one that does not end.
const MOST_INSTRUCTIONS: u64 = 200_000_000;

/// Reads a text, or the one that stands in its place.
pub(crate) fn parse(text: &str) -> Answer<Arc<Module>> {
    let other = env::var_os(crate::TEXT).map(fs::read_to_string).transpose();
    let other = other.map_err(|error| {
        eprintln!("{}: {error}", crate::TEXT);
        Status::INVALID_PTX
    })?;
    let module = Module::parse(other.as_deref().unwrap_or(text));
    let module = module.map_err(|error| {
        eprintln!("PTX, {error}");
        Status::INVALID_PTX
    })?;
    Ok(Arc::new(module))
}

/// Returns what a launch makes of all that the ISA leaves open, by one of five seeds.
///
/// With two of them threads stay parted, and with two the products' sums are cut off by halves: each with the other
/// and without.
fn schedule(seed: u32) -> Schedule {
    let (divergence, sums) = match seed {
        1 => (Divergence::Parted, Sums::ByHalves),
        2 => (Divergence::SmallestFirst, Sums::ByHalves),
        3 => (Divergence::Parted, Sums::InOrder),
        _ => (Divergence::SmallestFirst, Sums::InOrder),
    };
    Schedule { seed: seed.into(), divergence, sums }
}

/// An entry of a module's text.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    module: Arc<Module>,
    name: String,
}

impl Text {
    /// Returns an entry by its name.
    pub(crate) fn of(module: &Arc<Module>, name: &str) -> Answer<Self> {
        module.entry(name).ok_or(Status::NOT_FOUND)?;
        Ok(Self { module: Arc::clone(module), name: name.into() })
    }

    /// Executes it on all blocks, and says what it must not do.
    ///
    /// # Safety
    ///
    /// Nobody else has the bytes of the device's allocations meanwhile.
    pub(crate) unsafe fn launch(&self, shape: Shape, parameters: &[u8], memory: &Memory) -> Answer {
        let Self { module, name } = self;
        let entry = module.entry(name).ok_or(Status::NOT_FOUND)?;
        let (blocks, threads) = shape.along_one_axis()?;
        let seed = Shape::next_seed();
        let schedule = if is_orderly() { Schedule::default() } else { schedule(seed) };
        let launch = Launch {
            blocks,
            threads,
            dynamic_shared_bytes: shape.shared_bytes as usize,
            parameters,
            schedule,
            most_instructions: Some(MOST_INSTRUCTIONS),
        };
        let mut through = Through { memory, last: Cell::new((0, 0)) };
        let fault = match entry.launch(&mut through, &launch) {
            Ok(counts) => {
                note_executed(name, counts.into());
                return Ok(());
            }
            Err(fault) => fault,
        };
        eprintln!("{fault}");
        Err(match fault.kind {
            FaultKind::Launch | FaultKind::Text => Status::INVALID_VALUE,
            FaultKind::Address | FaultKind::Table => Status::ILLEGAL_ADDRESS,
            FaultKind::Alignment => Status::MISALIGNED_ADDRESS,
            FaultKind::Barrier | FaultKind::Deadlock | FaultKind::Limit => Status::LAUNCH_TIMEOUT,
            _ => Status::LAUNCH_FAILED,
        })
    }
}

/// The device's memory, as a kernel sees it.
struct Through<'m> {
    memory: &'m Memory,
    /// The allocation that was accessed last: from where to where.
    last: Cell<(usize, usize)>,
}

impl Through<'_> {
    /// Returns an address whose bytes are all in one allocation.
    fn at(&self, address: u64, bytes: usize) -> Result<usize, Refused> {
        let address = usize::try_from(address).map_err(|_| Refused::NOWHERE)?;
        let end = address.checked_add(bytes).ok_or(Refused::NOWHERE)?;
        let (first, last) = self.last.get();
        if address >= first && end <= last {
            return Ok(address);
        }
        let (first, last) = self.memory.around(address).ok_or(Refused::NOWHERE)?;
        self.last.set((first, last));
        if end <= last { Ok(address) } else { Err(Refused::NOWHERE) }
    }
}

impl GlobalMemory for Through<'_> {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Refused> {
        let from = self.at(address, to.len())? as *const u8;
        // SAFETY: so many bytes are in an allocation, and no reference to them is left: the launch's promise.
        unsafe { to.as_mut_ptr().copy_from_nonoverlapping(from, to.len()) };
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Refused> {
        let to = self.at(address, from.len())? as *mut u8;
        // SAFETY: as above.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_threads_are_along_one_axis() {
        let module = parse(".visible .entry nothing() { ret; }").expect("PTX");
        let text = Text::of(&module, "nothing").expect("the entry");
        let one = Shape { blocks: [2, 1, 1], threads: [32, 1, 1], shared_bytes: 0 };
        for (shape, answer) in [
            (one, Ok(())),
            (Shape { blocks: [2, 2, 1], ..one }, Err(Status::NOT_SUPPORTED)),
            (Shape { threads: [32, 1, 2], ..one }, Err(Status::NOT_SUPPORTED)),
            (Shape { threads: [0, 1, 1], ..one }, Err(Status::INVALID_VALUE)),
        ] {
            // SAFETY: it accesses no memory.
            assert_eq!(unsafe { text.launch(shape, &[], &Memory::default()) }, answer);
        }
    }

    #[test]
    fn only_what_is_allocated_can_be_accessed() {
        let mut memory = Memory::default();
        let address = memory.allocate(8).expect("room") as u64;
        let mut through = Through { memory: &memory, last: Cell::new((0, 0)) };
        assert_eq!(through.write(address, &[1; 8]), Ok(()));
        let mut bytes = [0; 4];
        assert_eq!((through.read(address + 4, &mut bytes), bytes), (Ok(()), [1; 4]));
        for beyond in [address - 1, address + 5, u64::MAX - 2] {
            assert_eq!(through.read(beyond, &mut bytes), Err(Refused::NOWHERE));
            assert_eq!(through.write(beyond, &bytes), Err(Refused::NOWHERE));
        }
    }
}
