//! Which operands accesses, copies and what a warp does together have.

use crate::{
    code::{Decoded, File, Fragments, NONE, Op, Register},
    decode::Decoder,
    operation::Operation,
    text::Operand,
    types::{Space, Type},
};

impl<'t> Decoder<'_, 't> {
    pub(super) fn memory_op(
        &mut self,
        operation: Operation,
        operands: &[Operand<'t>],
    ) -> Decoded<Op> {
        match (operation, operands) {
            (Operation::Load { space: Space::Parameter, element, count, .. }, [to, from]) => {
                let Operand::Address(name, offset) = *from else { return Err(self.misfit()) };
                self.load_parameter(element, count, to, (name, offset))
            }
            (Operation::Load { space, is_constant, element, count }, [to, from]) => {
                self.access(space, element);
                let address = self.address(from, space)?;
                let (to, to_bits) = self.results(element, count, to)?;
                let count = count as u8;
                Ok(Op::Load { space, is_constant, element, count, address, to, to_bits })
            }
            (Operation::Store { space, element, count }, [to, from]) => {
                self.access(space, element);
                let address = self.address(to, space)?;
                let (from, from_bits) = self.stored(element, count, from)?;
                Ok(Op::Store { space, element, count: count as u8, address, from, from_bits })
            }
            (Operation::Atomic { what, space, element }, [to, address, from]) => {
                self.access(space, element);
                let (address, from) =
                    (self.address(address, space)?, self.source(from, element.bits)?);
                let is_sink = *to == Operand::Name("_");
                let to = if is_sink { NONE } else { self.result(to, element.bits)? };
                Ok(Op::Atomic { what, space, element, to, address, from })
            }
            (Operation::Reduce { what, space, element }, [address, from]) => {
                self.access(space, element);
                let (address, from) =
                    (self.address(address, space)?, self.source(from, element.bits)?);
                Ok(Op::Atomic { what, space, element, to: NONE, address, from })
            }
            (Operation::ConvertAddress { to_space, space }, [to, a]) => {
                if space == Space::Shared && !to_space {
                    self.share_generic();
                }
                let a = self.source(a, 64)?;
                Ok(Op::ConvertAddress { to_space, space, to: self.result(to, 64)?, a })
            }
            _ => self.warp_op(operation, operands),
        }
    }

    fn warp_op(&mut self, operation: Operation, operands: &[Operand<'t>]) -> Decoded<Op> {
        match (operation, operands) {
            (
                Operation::CopyAsync { least_bytes },
                [to, from, Operand::Integer(size @ (4 | 8 | 16)), rest @ ..],
            ) if *size >= least_bytes => {
                let size = *size as u8;
                let (to, from) =
                    (self.address(to, Space::Shared)?, self.address(from, Space::Global)?);
                let bytes = match rest {
                    [] => self.source(&Operand::Integer(u64::from(size)), 32)?,
                    [bytes] => self.source(bytes, 32)?,
                    _ => return Err(self.misfit()),
                };
                Ok(Op::CopyAsync { size, to, from, bytes })
            }
            (Operation::LoadMatrices { count, transposes }, [to, from]) => {
                let address = self.address(from, Space::Shared)?;
                let to = match to {
                    Operand::Vector(to) => self.fragment::<4>(to, count, true)?,
                    to if count == 1 => [self.result(to, 32)?, NONE, NONE, NONE],
                    _ => return Err(self.misfit()),
                };
                Ok(Op::LoadMatrices { count: count as u8, transposes, to, address })
            }
            (
                Operation::MultiplyMatrices { is_bfloat },
                [Operand::Vector(to), Operand::Vector(a), Operand::Vector(b), Operand::Vector(c)],
            ) => {
                let a = self.fragment::<4>(a, 4, false)?;
                let b = self.fragment::<2>(b, 2, false)?;
                let c = self.fragment::<4>(c, 4, false)?;
                let to = self.fragment::<4>(to, 4, true)?;
                let registers = Box::new(Fragments { to, a, b, c });
                Ok(Op::MultiplyMatrices { is_bfloat, registers })
            }
            (Operation::Shuffle(how), [to, a, b, c, members]) => {
                let (a, b) = (self.source(a, 32)?, self.source(b, 32)?);
                let (c, members) = (self.source(c, 32)?, self.source(members, 32)?);
                let (to, found) = match *to {
                    Operand::Pair(to, found) => (
                        self.register(to, File::Words, 32)?.register,
                        self.register(found, File::Predicates, 1)?.register,
                    ),
                    _ => (self.result(to, 32)?, NONE),
                };
                Ok(Op::Shuffle { how, to, found, a, b, c, members })
            }
            _ => Err(self.misfit()),
        }
    }

    fn fragment<const N: usize>(
        &mut self,
        of: &[Operand<'t>],
        count: usize,
        is_written: bool,
    ) -> Decoded<[Register; N]> {
        if of.len() != count {
            return Err(self.misfit());
        }
        let mut registers = [NONE; N];
        for (of, register) in of.iter().zip(&mut registers) {
            *register = if is_written { self.result(of, 32)? } else { self.source(of, 32)? };
        }
        Ok(registers)
    }

    fn load_parameter(
        &mut self,
        element: Type,
        count: usize,
        to: &Operand<'t>,
        (name, offset): (&str, i64),
    ) -> Decoded<Op> {
        let parameter = self.parameter(name);
        let parameter =
            parameter.ok_or_else(|| self.wrong(format!("there is no parameter {name}")))?;
        let bytes = (element.bytes() * count) as i64;
        if offset < 0 || offset + bytes > parameter.size as i64 {
            return Err(self.wrong(format!("beyond the {} bytes of {name}", parameter.size)));
        }
        let offset = parameter.offset as i64 + offset;
        if offset % bytes != 0 {
            return Err(self.wrong(format!("{name} is not aligned to {bytes} bytes there")));
        }
        let (to, to_bits) = self.results(element, count, to)?;
        Ok(Op::LoadParameter { offset: offset as u32, element, count: count as u8, to, to_bits })
    }

    /// Returns the registers that a load writes, and their bits.
    fn results(
        &mut self,
        element: Type,
        count: usize,
        to: &Operand<'t>,
    ) -> Decoded<([Register; 4], u8)> {
        let single = std::slice::from_ref(to);
        let all = match to {
            Operand::Vector(all) => all,
            _ => single,
        };
        if all.len() != count {
            return Err(self.misfit());
        }
        let (mut registers, mut bits) = ([NONE; 4], 0);
        for (to, register) in all.iter().zip(&mut registers) {
            if *to == Operand::Name("_") {
                continue;
            }
            let (place, found) = self.wide_result(to, element.bits)?;
            if element.is_float() && found != element.bits || bits != 0 && bits != found {
                return Err(self.misfit());
            }
            (*register, bits) = (place.register, found);
        }
        Ok((registers, bits.max(16)))
    }

    /// Returns the registers that a store reads, and their bits.
    fn stored(
        &mut self,
        element: Type,
        count: usize,
        from: &Operand<'t>,
    ) -> Decoded<([Register; 4], u8)> {
        let single = std::slice::from_ref(from);
        let all = match from {
            Operand::Vector(all) => all,
            _ => single,
        };
        if all.len() != count {
            return Err(self.misfit());
        }
        // Constants are as wide as the registers beside them.
        let mut bits = 0;
        for from in all {
            if let Operand::Name(name) = from
                && let Ok((_, found)) = self.any(name)
            {
                if found < element.bits.max(2) || bits != 0 && bits != found {
                    return Err(self.wrong(format!("{name} has {found} bits")));
                }
                bits = found;
            }
        }
        let bits = if bits == 0 { element.bits.max(16) } else { bits };
        let mut registers = [NONE; 4];
        for (from, register) in all.iter().zip(&mut registers) {
            *register = self.source(from, bits)?;
        }
        Ok((registers, bits))
    }
}
