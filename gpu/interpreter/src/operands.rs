//! Which operands an operation has.

mod memory;

use crate::{
    code::{Decoded, File, NONE, Op, Place, Register},
    decode::Decoder,
    operation::{Carried, Compare, Conversion, Logic, Operation},
    text::Operand,
    types::{Family, Type},
};

impl<'t> Decoder<'_, 't> {
    /// Decodes the operands of an operation.
    pub(crate) fn op(&mut self, operation: Operation, operands: &[Operand<'t>]) -> Decoded<Op> {
        match (operation, operands) {
            (Operation::Branch, [Operand::Name(label)]) => Ok(self.branch(label)),
            (Operation::Return, []) => Ok(Op::Return),
            (Operation::Trap, []) => Ok(Op::Trap),
            (Operation::CommitGroup, []) => Ok(Op::CommitGroup),
            (Operation::WaitAll, []) => Ok(Op::WaitAll),
            (Operation::WaitGroup, &[Operand::Integer(groups)]) if groups <= u32::MAX.into() => {
                Ok(Op::WaitGroup(groups as u32))
            }
            (Operation::Barrier, [Operand::Integer(0..16)]) => Ok(Op::Barrier),
            (Operation::WarpBarrier, [members]) => {
                Ok(Op::WarpBarrier { members: self.source(members, 32)? })
            }
            (Operation::Logic(what), [to, a, b]) => {
                let (a, b) = (self.predicate(a)?, self.predicate(b)?);
                Ok(Op::Logic { what, to: self.result(to, 1)?, a, b })
            }
            (Operation::NotPredicate, [to, a]) => {
                Ok(Op::NotPredicate { a: self.predicate(a)?, to: self.result(to, 1)? })
            }
            (Operation::MovePredicate, [to, a]) => {
                Ok(Op::MovePredicate { a: self.predicate(a)?, to: self.result(to, 1)? })
            }
            (Operation::SetPredicate(compare, join), [to, a, b, rest @ ..]) => {
                self.set_predicate(compare, join, to, [a, b], rest)
            }
            (Operation::Move(element), [to, a]) => self.move_of(element, to, a),
            (Operation::Convert(what), [to, a]) => self.convert(what, to, a),
            (Operation::WidenHalf, [to, a]) => {
                Ok(Op::WidenHalf { a: self.source(a, 16)?, to: self.result(to, 32)? })
            }
            (Operation::RoundPair(what), [to, a, b]) => {
                let (a, b) = (self.source(a, 32)?, self.source(b, 32)?);
                let to = self.result(to, 2 * what.bits() as u8)?;
                Ok(Op::RoundPair { what, to, a, b })
            }
            (Operation::WidenPair(what), [to, a]) => {
                Ok(Op::WidenPair { what, a: self.source(a, 16)?, to: self.result(to, 32)? })
            }
            (
                Operation::Load { .. }
                | Operation::Store { .. }
                | Operation::Atomic { .. }
                | Operation::Reduce { .. }
                | Operation::ConvertAddress { .. }
                | Operation::CopyAsync { .. }
                | Operation::LoadMatrices { .. }
                | Operation::MultiplyMatrices { .. }
                | Operation::Shuffle(_),
                _,
            ) => self.memory_op(operation, operands),
            _ => self.arithmetic(operation, operands),
        }
    }

    /// Refuses a number of another kind than is read, which would be taken for its bits.
    pub(crate) fn check_numbers(
        &self,
        operation: Operation,
        operands: &[Operand<'t>],
    ) -> Decoded<()> {
        let Some(element) = operation.reads() else { return Ok(()) };
        let parts = operands.iter().flat_map(|operand| match operand {
            Operand::Vector(parts) => parts.as_slice(),
            _ => std::slice::from_ref(operand),
        });
        for part in parts {
            let fits = match part {
                Operand::Integer(_) => !element.is_float(),
                Operand::Single(_) | Operand::Double(_) => {
                    matches!(element.family, Family::Bits | Family::Float)
                }
                _ => true,
            };
            if !fits {
                return Err(self.wrong("a number of another kind"));
            }
        }
        Ok(())
    }

    fn misfit(&self) -> crate::PtxError {
        self.wrong("the operands do not fit")
    }

    /// Returns a register of so many bits that is written; one bit is a predicate.
    fn result(&mut self, operand: &Operand<'t>, bits: u8) -> Decoded<Register> {
        let Operand::Name(name) = operand else {
            return Err(self.wrong("a result that is no register"));
        };
        let file = match bits {
            1 => File::Predicates,
            64 => File::Longs,
            _ => File::Words,
        };
        Ok(self.register(name, file, bits)?.register)
    }

    /// Returns a register of at least so many bits that is written, and its bits.
    fn wide_result(&mut self, operand: &Operand<'t>, bits: u8) -> Decoded<(Place, u8)> {
        let Operand::Name(name) = operand else {
            return Err(self.wrong("a result that is no register"));
        };
        let (place, found) = self.any(name)?;
        if place.file == File::Predicates || found < bits {
            return Err(self.wrong(format!("{name} has {found} bits and not {bits}")));
        }
        Ok((place, found))
    }

    fn arithmetic(&mut self, operation: Operation, operands: &[Operand<'t>]) -> Decoded<Op> {
        use Operation as O;
        let bits = match operation {
            O::Binary(_, of)
            | O::Carried(_, of)
            | O::MultiplyWide(of)
            | O::MultiplyAdd(of)
            | O::MultiplyAddWide(of) => of.bits,
            O::Unary(_, of) | O::Shift(_, of) | O::Extract(of) | O::Insert(of) | O::Select(of) => {
                of.bits
            }
            O::FloatBinary { element, .. }
            | O::FloatUnary { element, .. }
            | O::Fused { element, .. } => element.bits,
            O::Set(compare, _) => compare.element.bits,
            _ => 32,
        };
        match (operation, operands) {
            (O::Unary(what, _), [to, a]) => {
                let a = self.source(a, bits)?;
                Ok(Op::Unary {
                    what,
                    bits,
                    to: self.result(to, if what.counts() { 32 } else { bits })?,
                    a,
                })
            }
            (O::FloatUnary { what, flushes, .. }, [to, a]) => {
                let a = self.source(a, bits)?;
                Ok(Op::FloatUnary { what, bits, flushes, to: self.result(to, bits)?, a })
            }
            (_, [to, a, b]) => self.of_two(operation, bits, to, [a, b]),
            (_, [to, a, b, c]) => self.of_three(operation, bits, to, [a, b, c]),
            (O::Insert(_), [to, a, b, position, count]) => {
                let (a, b) = (self.source(a, bits)?, self.source(b, bits)?);
                let (position, count) = (self.source(position, 32)?, self.source(count, 32)?);
                Ok(Op::Insert { bits, to: self.result(to, bits)?, a, b, position, count })
            }
            _ => Err(self.misfit()),
        }
    }

    fn of_two(
        &mut self,
        operation: Operation,
        bits: u8,
        to: &Operand<'t>,
        [a, b]: [&Operand<'t>; 2],
    ) -> Decoded<Op> {
        if let Operation::Shift(what, _) = operation {
            let (a, by) = (self.source(a, bits)?, self.source(b, 32)?);
            return Ok(Op::Shift { what, bits, to: self.result(to, bits)?, a, by });
        }
        let (a, b) = (self.source(a, bits)?, self.source(b, bits)?);
        Ok(match operation {
            Operation::Binary(what, _) => {
                Op::Binary { what, bits, to: self.result(to, bits)?, a, b }
            }
            Operation::Carried(Carried { subtracts, takes, leaves }, _) => {
                let takes = if takes { self.condition(true)? } else { NONE };
                let leaves = if leaves { self.condition(false)? } else { NONE };
                Op::Carried { subtracts, bits, to: self.result(to, bits)?, a, b, takes, leaves }
            }
            Operation::Halves(what) => Op::Halves { what, to: self.result(to, 32)?, a, b },
            Operation::MultiplyWide(element) => {
                Op::MultiplyWide { element, to: self.result(to, 2 * bits)?, a, b }
            }
            Operation::FloatBinary { what, flushes, .. } => {
                Op::FloatBinary { what, bits, flushes, to: self.result(to, bits)?, a, b }
            }
            Operation::Set(compare, of) => {
                Op::Set { compare, to_float: of.is_float(), to: self.result(to, 32)?, a, b }
            }
            _ => return Err(self.misfit()),
        })
    }

    fn of_three(
        &mut self,
        operation: Operation,
        bits: u8,
        to: &Operand<'t>,
        [a, b, c]: [&Operand<'t>; 3],
    ) -> Decoded<Op> {
        use Operation as O;
        Ok(match operation {
            O::MultiplyAdd(_) => {
                let (a, b, c) =
                    (self.source(a, bits)?, self.source(b, bits)?, self.source(c, bits)?);
                Op::MultiplyAdd { bits, to: self.result(to, bits)?, a, b, c }
            }
            O::MultiplyAddWide(element) => {
                let (a, b, c) =
                    (self.source(a, bits)?, self.source(b, bits)?, self.source(c, 2 * bits)?);
                Op::MultiplyAddWide { element, to: self.result(to, 2 * bits)?, a, b, c }
            }
            O::Fused { flushes, .. } => {
                let (a, b, c) =
                    (self.source(a, bits)?, self.source(b, bits)?, self.source(c, bits)?);
                Op::Fused { bits, flushes, to: self.result(to, bits)?, a, b, c }
            }
            O::Funnel { left, wraps } => {
                let (a, b, by) = (self.source(a, 32)?, self.source(b, 32)?, self.source(c, 32)?);
                Op::Funnel { left, wraps, to: self.result(to, 32)?, a, b, by }
            }
            O::Permute(how) => {
                let (a, b, which) = (self.source(a, 32)?, self.source(b, 32)?, self.source(c, 32)?);
                Op::Permute { how, to: self.result(to, 32)?, a, b, which }
            }
            O::Extract(element) => {
                let (a, position) = (self.source(a, bits)?, self.source(b, 32)?);
                let count = self.source(c, 32)?;
                Op::Extract { element, to: self.result(to, bits)?, a, position, count }
            }
            O::Select(_) => {
                let (a, b, which) =
                    (self.source(a, bits)?, self.source(b, bits)?, self.predicate(c)?);
                Op::Select { bits, to: self.result(to, bits)?, a, b, which }
            }
            _ => return Err(self.misfit()),
        })
    }

    fn set_predicate(
        &mut self,
        compare: Compare,
        join: Option<Logic>,
        to: &Operand<'t>,
        [a, b]: [&Operand<'t>; 2],
        rest: &[Operand<'t>],
    ) -> Decoded<Op> {
        let bits = compare.element.bits;
        let (a, b) = (self.source(a, bits)?, self.source(b, bits)?);
        let join = match (join, rest) {
            (None, []) => None,
            (Some(logic), [Operand::Not(name)]) => {
                Some((logic, self.predicate(&Operand::Name(name))?, true))
            }
            (Some(logic), [with]) => Some((logic, self.predicate(with)?, false)),
            _ => return Err(self.misfit()),
        };
        let (to, other) = match *to {
            Operand::Pair(to, other) => (
                self.register(to, File::Predicates, 1)?.register,
                self.register(other, File::Predicates, 1)?.register,
            ),
            _ => (self.result(to, 1)?, NONE),
        };
        Ok(Op::SetPredicate { compare, join, to, other, a, b })
    }

    fn move_of(&mut self, element: Type, to: &Operand<'t>, a: &Operand<'t>) -> Decoded<Op> {
        let bits = element.bits;
        let file = if bits == 64 { File::Longs } else { File::Words };
        match (to, a) {
            (Operand::Vector(to), a) => {
                let part = self.part(bits, to.len())?;
                let a = Place { file, register: self.source(a, bits)? };
                let mut parts = [NONE; 4];
                for (to, part_to) in to.iter().zip(&mut parts) {
                    if *to != Operand::Name("_") {
                        *part_to = self.result(to, part)?;
                    }
                }
                Ok(Op::Unpack { part, count: to.len() as u8, to: parts, a })
            }
            (to, Operand::Vector(of)) => {
                let part = self.part(bits, of.len())?;
                let mut parts = [NONE; 4];
                for (of, part_of) in of.iter().zip(&mut parts) {
                    *part_of = self.source(of, part)?;
                }
                let to = Place { file, register: self.result(to, bits)? };
                Ok(Op::Pack { part, count: of.len() as u8, to, parts })
            }
            _ => {
                let a = self.source(a, bits)?;
                Ok(Op::Move { bits, to: self.result(to, bits)?, a })
            }
        }
    }

    /// Returns the bits of each of so many parts.
    fn part(&self, bits: u8, count: usize) -> Decoded<u8> {
        match (bits, count) {
            (64, 2) => Ok(32),
            (64, 4) | (32, 2) => Ok(16),
            _ => Err(self.misfit()),
        }
    }

    fn convert(&mut self, what: Conversion, to: &Operand<'t>, a: &Operand<'t>) -> Decoded<Op> {
        let (from, is_float) = (what.from, what.from.is_float());
        let a = match self.source_of_any(a)? {
            // What is wider than it has to be is read in part, but not as a floating-point number.
            Some((_, bits)) if bits < from.bits || is_float && bits != from.bits => {
                return Err(self.wrong(format!("its source has {bits} bits and not {}", from.bits)));
            }
            Some((place, _)) if place.file != File::Predicates => place,
            _ => {
                let bits = from.bits.max(16);
                let file = if bits == 64 { File::Longs } else { File::Words };
                Place { file, register: self.source(a, bits)? }
            }
        };
        let (to, to_bits) = self.wide_result(to, what.to.bits)?;
        if what.to.is_float() && to_bits != what.to.bits {
            return Err(self.misfit());
        }
        Ok(Op::Convert { what, to, to_bits, a })
    }
}
