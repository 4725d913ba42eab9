//! What becomes of registers that nobody wrote.
//!
//! An optimiser reads such registers where the result does not matter, as in `c && undefined < 512` where `c` is
//! false.  So a result of something that was not written counts as not written itself, and nothing is wrong until
//! it decides something: a branch or a guard, an address, an argument of the warp's exchanges, and what is stored
//! in shared memory.  What is stored elsewhere may have bytes that are none of any field's; they are noise, another
//! one for each seed, so that a result that they are in is not the same each time.

use crate::{
    code::{File, Instruction, NONE, Op, Place, Register},
    error::{FaultKind, Step, Stop},
    machine::Machine,
    operation::Logic,
    types::Space,
    warp::Warp,
};

impl Machine<'_> {
    /// Returns the lanes that read something that they have not written.
    #[inline(always)]
    pub(crate) fn missing(&self, warp: &Warp, reads: (u32, u32), mask: u32) -> u32 {
        let reads = &self.code.reads[reads.0 as usize..reads.1 as usize];
        reads.iter().fold(0, |missing, &place| missing | mask & !warp.defined(place))
    }

    /// Executes an instruction of which some lanes read what they have not written.
    #[cold]
    pub(crate) fn execute_undefined(
        &mut self,
        warp: &mut Warp,
        instruction: &Instruction,
        mask: u32,
    ) -> Step {
        let op = &instruction.op;
        let missing = match *op {
            Op::Logic { what, a, b, .. } => undecided(warp, mask, what, a, b),
            Op::Select { bits, a, b, which, .. } => {
                let file = if bits == 64 { File::Longs } else { File::Words };
                let chosen = warp.predicate(which);
                let [a, b] = [a, b].map(|register| warp.defined(Place { file, register }));
                let which = warp.defined(Place { file: File::Predicates, register: which });
                mask & !(which & (chosen & a | !chosen & b))
            }
            Op::Store { space, address, .. } if space != Space::Shared => {
                self.check_read(warp, Place { file: address.file, register: address.base }, mask)?;
                0
            }
            _ if decides(op) => return self.refuse_undefined(warp, instruction.reads, mask),
            _ => self.missing(warp, instruction.reads, mask),
        };
        let (first, end) = instruction.reads;
        for &place in &self.code.reads[first as usize..end as usize] {
            warp.disturb(place, mask, self.noise);
        }
        self.execute(warp, op, mask)?;
        for place in written(op) {
            warp.undefine(place, missing);
        }
        Ok(())
    }

    /// Says which register was not written.
    #[cold]
    pub(crate) fn refuse_undefined(&self, warp: &Warp, reads: (u32, u32), mask: u32) -> Step {
        let reads = &self.code.reads[reads.0 as usize..reads.1 as usize];
        reads.iter().try_for_each(|&place| self.check_read(warp, place, mask))
    }

    /// Refuses a register that some lanes have not written.
    #[inline(always)]
    pub(crate) fn check_read(&self, warp: &Warp, place: Place, mask: u32) -> Step {
        let missing = mask & !warp.defined(place);
        if missing == 0 {
            return Ok(());
        }
        let what = format!(
            "it needs {}, which was not written, or made of what was not",
            self.code.name(place)
        );
        Err(Stop::new(FaultKind::Unwritten, missing.trailing_zeros(), what))
    }
}

/// Tells whether what an instruction reads matters from now on.
fn decides(op: &Op) -> bool {
    matches!(
        op,
        Op::Load { .. }
            | Op::Store { .. }
            | Op::Atomic { .. }
            | Op::CopyAsync { .. }
            | Op::Shuffle { .. }
            | Op::LoadMatrices { .. }
            | Op::MultiplyMatrices { .. }
            | Op::WarpBarrier { .. }
    )
}

/// Returns the lanes of which two predicates do not say what becomes of them.
fn undecided(warp: &Warp, mask: u32, what: Logic, a: Register, b: Register) -> u32 {
    let [(a, a_known), (b, b_known)] = [a, b].map(|register| {
        let place = Place { file: File::Predicates, register };
        (warp.predicate(register), warp.defined(place))
    });
    let known = match what {
        Logic::And => a_known & b_known | a_known & !a | b_known & !b,
        Logic::Or => a_known & b_known | a_known & a | b_known & b,
        Logic::Xor => a_known & b_known,
    };
    mask & !known
}

/// Returns the registers that an instruction writes.
fn written(op: &Op) -> Vec<Place> {
    let of = |file, register| vec![Place { file, register }];
    let by_bits = |bits, register| of(if bits == 64 { File::Longs } else { File::Words }, register);
    match *op {
        Op::Binary { bits, to, .. }
        | Op::MultiplyAdd { bits, to, .. }
        | Op::Shift { bits, to, .. }
        | Op::Insert { bits, to, .. }
        | Op::FloatBinary { bits, to, .. }
        | Op::FloatUnary { bits, to, .. }
        | Op::Fused { bits, to, .. }
        | Op::Select { bits, to, .. }
        | Op::Move { bits, to, .. } => by_bits(bits, to),
        Op::MultiplyWide { element, to, .. } | Op::MultiplyAddWide { element, to, .. } => {
            by_bits(2 * element.bits, to)
        }
        Op::Extract { element, to, .. } => by_bits(element.bits, to),
        Op::Unary { what, bits, to, .. } => by_bits(if what.counts() { 32 } else { bits }, to),
        Op::Halves { to, .. }
        | Op::WidenHalf { to, .. }
        | Op::RoundPair { to, .. }
        | Op::WidenPair { to, .. }
        | Op::Funnel { to, .. }
        | Op::Permute { to, .. }
        | Op::Set { to, .. } => of(File::Words, to),
        Op::Logic { to, .. } | Op::NotPredicate { to, .. } | Op::MovePredicate { to, .. } => {
            of(File::Predicates, to)
        }
        Op::Carried { bits, to, leaves, .. } => {
            let mut both = by_bits(bits, to);
            both.extend(
                (leaves != NONE).then_some(Place { file: File::Predicates, register: leaves }),
            );
            both
        }
        Op::SetPredicate { to, other, .. } => {
            let mut both = of(File::Predicates, to);
            both.extend(
                (other != NONE).then_some(Place { file: File::Predicates, register: other }),
            );
            both
        }
        Op::Convert { to, .. } | Op::Pack { to, .. } => vec![to],
        Op::ConvertAddress { to, .. } => of(File::Longs, to),
        Op::Unpack { part, to, .. } => {
            let parts = to.into_iter().filter(|&register| register != NONE);
            parts.flat_map(|register| by_bits(part, register)).collect()
        }
        _ => Vec::new(),
    }
}
