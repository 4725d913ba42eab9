//! What executes an instruction of a warp: everything but where it goes next.

use crate::{
    code::{Code, NONE, Op, Register},
    compute::{compute, set_extended},
    convert::extend,
    counts::{Counts, Executed},
    error::Step,
    lanes::LANES,
    memory::{GlobalMemory, Tables},
    shared::{Shared, Visitor},
    shuffle::shuffle,
    tensor::{self, Sums},
    types::Type,
    warp::Warp,
};

/// What the warps of a block have in common.
pub(crate) struct Machine<'a> {
    pub(crate) code: &'a Code,
    pub(crate) tables: &'a Tables,
    pub(crate) memory: &'a mut dyn GlobalMemory,
    pub(crate) shared: Shared,
    /// Where the entry has them.
    pub(crate) parameters: Vec<u8>,
    pub(crate) sums: Sums,
    /// What nobody wrote holds follows from it.
    pub(crate) noise: u64,
    pub(crate) counts: Counts,
    /// How often each instruction was executed.
    pub(crate) executed: Vec<Executed>,
    /// How many more may be.
    pub(crate) budget: u64,
}

/// Returns what accesses memory as a lane of a warp.
pub(crate) fn visitor(warp: &Warp, lane: usize) -> Visitor {
    Visitor { thread: (32 * warp.index) as u16 + lane as u16, warp_since: warp.since }
}

impl Machine<'_> {
    /// Takes back that an instruction was executed: threads have come to it, and will once more.
    pub(crate) fn uncount(&mut self, at: usize, mask: u32) {
        let executed = &mut self.executed[at];
        executed.by_warps -= 1;
        executed.by_threads -= u64::from(mask.count_ones());
    }

    /// Executes an instruction that is not of the whole warp, and goes on to the next.
    pub(crate) fn execute(&mut self, warp: &mut Warp, op: &Op, mask: u32) -> Step {
        match *op {
            Op::Load { .. } | Op::Store { .. } | Op::Atomic { .. } | Op::CopyAsync { .. } => {
                return self.access_memory(warp, op, mask);
            }
            Op::CommitGroup => return self.commit(warp, mask),
            Op::WaitGroup(most) => return self.wait(warp, mask, most as usize, false),
            Op::WaitAll => return self.wait(warp, mask, 0, true),
            Op::LoadParameter { offset, element, count, to, to_bits } => {
                self.load_parameter(
                    warp,
                    mask,
                    offset as usize,
                    element,
                    &to[..usize::from(count)],
                    to_bits,
                );
            }
            _ => compute(warp, op, mask),
        }
        Ok(())
    }

    fn load_parameter(
        &self,
        warp: &mut Warp,
        mask: u32,
        offset: usize,
        element: Type,
        to: &[Register],
        to_bits: u8,
    ) {
        for (nth, &to) in to.iter().enumerate() {
            let mut bytes = [0; 8];
            let size = element.bytes();
            bytes[..size].copy_from_slice(&self.parameters[offset + nth * size..][..size]);
            let value = extend(element, u64::from_le_bytes(bytes));
            set_extended(warp, to, to_bits, mask, &[value; LANES]);
        }
    }

    /// Executes an instruction that the threads of a mask have come to.
    pub(crate) fn execute_of_warp(&mut self, warp: &mut Warp, op: &Op, mask: u32) -> Step {
        match op {
            &Op::Shuffle { how, to, found, a, b, c, .. } => {
                let (values, present) = shuffle(how, warp, mask, [a, b, c])?;
                warp.set_word(to, mask, &values);
                if found != NONE {
                    warp.set_predicate(found, mask, present);
                }
            }
            Op::MultiplyMatrices { is_bfloat, registers } => {
                let a = registers.a.map(|register| warp.word(register));
                let b = registers.b.map(|register| warp.word(register));
                let c = registers.c.map(|register| warp.word(register));
                let results = tensor::multiply(*is_bfloat, self.sums, a, b, c);
                for (to, result) in registers.to.iter().zip(&results) {
                    warp.set_word(*to, mask, result);
                }
            }
            &Op::LoadMatrices { count, transposes, to, address } => {
                self.load_matrices(warp, transposes, &to[..usize::from(count)], address)?;
            }
            Op::WarpBarrier { .. } if mask == warp.live => warp.since = self.shared.warp_barrier(),
            _ => {}
        }
        Ok(())
    }
}
