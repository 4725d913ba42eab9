//! From the statements of an entry to instructions with numbered registers.

use std::collections::HashMap;

use crate::{
    code::{Address, Code, Decoded, File, Instruction, NONE, Op, Place, Register, Special},
    counts::Class,
    error::PtxError,
    memory::{LOCAL_FIRST, SHARED_FIRST},
    module::{Globals, Parameter},
    operation::Operation,
    registers::Registers,
    text::{self, Operand, Statement, Variable, What},
    types::{Space, Type},
};

/// The most local memory of a thread: the table "Technical Specifications per Compute Capability" of NVIDIA's CUDA
/// programming guide.
const MOST_LOCAL_BYTES: usize = 512 << 10;

/// Decodes the statements of an entry.
pub(crate) fn decode(
    parameters: &[Parameter],
    statements: &[Statement<'_>],
    globals: &Globals,
) -> Decoded<Code> {
    let mut decoder = Decoder {
        parameters,
        globals,
        line: 0,
        registers: Registers::default(),
        labels: HashMap::new(),
        branches: Vec::new(),
        code: Code::default(),
        local_bytes: 0,
        granule: 4,
        generic_granule: 4,
        shares_generic: false,
    };
    decoder.lay_out_shared(statements)?;
    // The entry's own names may be those of variables outside.
    decoder.registers.open();
    for Statement { line, what } in statements {
        decoder.line = *line;
        decoder.statement(what)?;
    }
    decoder.finish()
}

/// What is being decoded.
pub(crate) struct Decoder<'a, 't> {
    parameters: &'a [Parameter],
    globals: &'a Globals,
    line: u32,
    registers: Registers<'t>,
    labels: HashMap<&'t str, u32>,
    /// Instructions that branch, and where to.
    branches: Vec<(usize, &'t str)>,
    code: Code,
    local_bytes: usize,
    /// The least bytes that shared memory is accessed by, through its own addresses and through generic ones.
    granule: usize,
    generic_granule: usize,
    /// An address of shared memory becomes a generic one.
    shares_generic: bool,
}

impl<'t> Decoder<'_, 't> {
    pub(crate) fn wrong(&self, what: impl Into<String>) -> PtxError {
        PtxError::new(self.line, what)
    }

    /// Gives addresses to the variables in shared memory that the entry names.
    fn lay_out_shared(&mut self, statements: &[Statement<'t>]) -> Decoded<()> {
        let mut named = Vec::new();
        for Statement { what, .. } in statements {
            if let What::Instruction(instruction) = what {
                named.extend(instruction.operands.iter().filter_map(|operand| match operand {
                    Operand::Name(name) | Operand::Address(name, _) if !name.starts_with('%') => {
                        Some(*name)
                    }
                    _ => None,
                }));
            }
        }
        named.sort_unstable();
        named.dedup();
        let mut end = 0_usize;
        // What a launch asks for is behind all the others.
        for is_launched in [false, true] {
            for variable in &self.globals.shared {
                let Some(&name) = named.iter().find(|&&name| name == variable.name) else {
                    continue;
                };
                if variable.is_launched == is_launched {
                    end = end.next_multiple_of(variable.align);
                    let address = SHARED_FIRST + end as u64;
                    let named = self.registers.variable(name, Space::Shared, address);
                    named.map_err(|what| self.wrong(what))?;
                    end += variable.size;
                }
            }
        }
        self.code.shared_bytes = end;
        Ok(())
    }

    fn statement(&mut self, what: &What<'t>) -> Decoded<()> {
        match what {
            What::Label(name) => {
                let at = self.code.instructions.len() as u32;
                if self.labels.insert(name, at).is_some() {
                    return Err(self.wrong(format!("there is another label {name}")));
                }
            }
            What::Registers(element, names) => {
                for &(name, count) in names {
                    let declared = self.registers.declare(element, name, count);
                    declared.map_err(|what| self.wrong(what))?;
                }
            }
            What::Variable(variable) => self.variable(variable)?,
            What::Open => self.registers.open(),
            What::Close => self.registers.close(),
            What::Instruction(instruction) => self.instruction(instruction)?,
        }
        Ok(())
    }

    fn variable(&mut self, variable: &Variable<'t>) -> Decoded<()> {
        let &Variable { space, align, name, size, .. } = variable;
        if space != Space::Local {
            return Err(self.wrong(format!("the entry has shared memory of its own: {name}")));
        }
        let first = self.local_bytes.next_multiple_of(align);
        self.local_bytes = first + size;
        if self.local_bytes > MOST_LOCAL_BYTES {
            return Err(self.wrong(format!("{} bytes of local memory", self.local_bytes)));
        }
        let named = self.registers.variable(name, Space::Local, LOCAL_FIRST + first as u64);
        named.map_err(|what| self.wrong(what))
    }

    fn instruction(&mut self, instruction: &text::Instruction<'t>) -> Decoded<()> {
        let name = instruction.operation;
        let operation = Operation::named(name);
        let operation =
            operation.ok_or_else(|| self.wrong(format!("an unknown instruction: {name}")))?;
        let (mut guard, mut is_negated) = (NONE, false);
        if let Some((guarding, negated)) = instruction.guard {
            let place = self.register(guarding, File::Predicates, 1)?;
            (guard, is_negated) = (place.register, negated);
        }
        if guard != NONE && name.ends_with(".uni") {
            return Err(self.wrong(format!("{name} under a guard")));
        }
        let op = self.check_numbers(operation, &instruction.operands);
        let op = op.and_then(|()| self.op(operation, &instruction.operands));
        let op = op.map_err(|error| {
            let what = format!("{name}: {}", error.what);
            PtxError { what, ..error }
        })?;
        let first = self.code.reads.len() as u32;
        self.code.reads.extend(self.registers.take_reads());
        let reads = (first, self.code.reads.len() as u32);
        let (class, line, is_of_warp) = (class(operation), self.line, operation.is_of_warp());
        let decoded = Instruction { op, guard, is_negated, is_of_warp, class, line, reads };
        self.code.instructions.push(decoded);
        Ok(())
    }

    fn finish(mut self) -> Decoded<Code> {
        let instructions = &mut self.code.instructions;
        for (at, label) in self.branches {
            let line = instructions[at].line;
            let to = self.labels.get(label);
            let to = to.ok_or_else(|| PtxError::new(line, format!("there is no label {label}")))?;
            instructions[at].op = Op::Branch(*to);
        }
        // Who comes to the end returns.
        instructions.push(Instruction {
            op: Op::Return,
            guard: NONE,
            is_negated: false,
            is_of_warp: false,
            class: Class::Control,
            line: self.line,
            reads: (0, 0),
        });
        self.code.local_bytes = self.local_bytes;
        self.code.granule = match self.shares_generic {
            true => self.granule.min(self.generic_granule),
            false => self.granule,
        };
        self.registers.finish(&mut self.code);
        Ok(self.code)
    }

    /// Notes a branch from the next instruction.
    pub(crate) fn branch(&mut self, label: &'t str) -> Op {
        self.branches.push((self.code.instructions.len(), label));
        Op::Branch(0)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Notes by how many bytes a space is accessed.
    pub(crate) fn access(&mut self, space: Space, element: Type) {
        match space {
            Space::Shared => self.granule = self.granule.min(element.bytes()),
            Space::Generic => self.generic_granule = self.generic_granule.min(element.bytes()),
            _ => {}
        }
    }

    pub(crate) fn share_generic(&mut self) {
        self.shares_generic = true;
    }

    /// Returns a register that is read or written, of so many bits.
    pub(crate) fn register(&mut self, name: &str, file: File, bits: u8) -> Decoded<Place> {
        let (place, found) = self.any(name)?;
        if place.file != file || found != bits {
            return Err(self.wrong(format!("{name} has {found} bits and not {bits}")));
        }
        Ok(place)
    }

    /// Returns a register of any width, and the width.
    pub(crate) fn any(&self, name: &str) -> Decoded<(Place, u8)> {
        let found = self.registers.find(name);
        found.ok_or_else(|| self.wrong(format!("there is no register {name}")))
    }

    /// Returns what an operand of so many bits is read from: a register, or a constant's.
    pub(crate) fn source(&mut self, operand: &Operand<'t>, bits: u8) -> Decoded<Register> {
        let file = if bits == 64 { File::Longs } else { File::Words };
        let value = match *operand {
            Operand::Name(name) if self.registers.find(name).is_some() => {
                let place = self.register(name, file, bits)?;
                self.registers.read(place);
                return Ok(place.register);
            }
            Operand::Name(name) => match Special::named(name) {
                Some(special) if bits == 32 => return self.special(special),
                Some(_) => return Err(self.wrong(format!("{name} has 32 bits and not {bits}"))),
                None => self.address_of(name, bits)?,
            },
            Operand::Integer(value) => value,
            Operand::Single(value) if bits == 32 => u64::from(value),
            Operand::Double(value) if bits == 64 => value,
            _ => return Err(self.wrong(format!("not an operand of {bits} bits"))),
        };
        let constant = self.registers.constant(value, bits);
        constant.ok_or_else(|| self.wrong("too many registers"))
    }

    fn special(&mut self, special: Special) -> Decoded<Register> {
        let register = self.registers.special(special);
        register.ok_or_else(|| self.wrong("too many registers"))
    }

    /// Returns the address of a variable in its space.
    pub(crate) fn address_of(&self, name: &str, bits: u8) -> Decoded<u64> {
        let address = match self.registers.variable_named(name) {
            Some((_, address)) => Some(address),
            None => self.globals.tables.address(name),
        };
        let address = address.ok_or_else(|| self.wrong(format!("there is no {name}")))?;
        if bits < 64 && address >> bits != 0 {
            return Err(self.wrong(format!("the address of {name} has more than {bits} bits")));
        }
        Ok(address)
    }

    /// Returns a predicate that is read, or a constant's.
    pub(crate) fn predicate(&mut self, operand: &Operand<'t>) -> Decoded<Register> {
        match *operand {
            Operand::Name(name) => {
                let place = self.register(name, File::Predicates, 1)?;
                self.registers.read(place);
                Ok(place.register)
            }
            Operand::Integer(value) => {
                let constant = self.registers.truth(value != 0);
                constant.ok_or_else(|| self.wrong("too many registers"))
            }
            _ => Err(self.wrong("not a predicate")),
        }
    }

    /// Returns the register of what sums carry, which is read or written.
    pub(crate) fn condition(&mut self, is_read: bool) -> Decoded<Register> {
        let place = self.registers.condition();
        let place = place.ok_or_else(|| self.wrong("too many registers"))?;
        if is_read {
            self.registers.read(place);
        }
        Ok(place.register)
    }

    /// Returns a register of any width that is read.
    pub(crate) fn source_of_any(&mut self, operand: &Operand<'t>) -> Decoded<Option<(Place, u8)>> {
        let Operand::Name(name) = *operand else { return Ok(None) };
        if Special::named(name).is_some() {
            return Ok(None);
        }
        let (place, bits) = self.any(name)?;
        self.registers.read(place);
        Ok(Some((place, bits)))
    }

    /// Returns an address that is read.
    pub(crate) fn address(&mut self, operand: &Operand<'t>, space: Space) -> Decoded<Address> {
        let Operand::Address(name, offset) = *operand else {
            return Err(self.wrong("not an address"));
        };
        if let Some((place, bits)) = self.registers.find(name) {
            if bits < 32 || bits == 32 && !matches!(space, Space::Shared | Space::Local) {
                return Err(self.wrong(format!("{name} has too few bits for an address")));
            }
            self.registers.read(place);
            return Ok(Address { file: place.file, base: place.register, offset: offset as i32 });
        }
        let of = match self.registers.variable_named(name) {
            Some((of, _)) => of,
            None => Space::Global,
        };
        if of != space {
            return Err(self.wrong(format!("{name} is in another space")));
        }
        let address = self.address_of(name, 64)?.wrapping_add_signed(offset);
        let base = self.registers.constant(address, 64);
        let base = base.ok_or_else(|| self.wrong("too many registers"))?;
        Ok(Address { file: File::Longs, base, offset: 0 })
    }
}

/// Returns what an operation uses.
fn class(operation: Operation) -> Class {
    let float = |of: Type| match of.bits {
        32 => Class::Float32,
        _ => Class::Float64,
    };
    match operation {
        Operation::FloatBinary { element, .. }
        | Operation::FloatUnary { element, .. }
        | Operation::Fused { element, .. } => float(element),
        Operation::SetPredicate(compare, _) | Operation::Set(compare, _)
            if compare.element.is_float() =>
        {
            float(compare.element)
        }
        Operation::Convert(_)
        | Operation::WidenHalf
        | Operation::RoundPair(_)
        | Operation::WidenPair(_) => Class::Conversion,
        Operation::Move(_)
        | Operation::MovePredicate
        | Operation::Select(_)
        | Operation::Shuffle(_)
        | Operation::ConvertAddress { .. } => Class::Movement,
        Operation::Load { space, .. }
        | Operation::Store { space, .. }
        | Operation::Atomic { space, .. }
        | Operation::Reduce { space, .. } => Class::of(space),
        Operation::CopyAsync { .. } | Operation::LoadMatrices { .. } => Class::Shared,
        Operation::MultiplyMatrices { .. } => Class::Tensor,
        Operation::CommitGroup
        | Operation::WaitGroup
        | Operation::WaitAll
        | Operation::Barrier
        | Operation::WarpBarrier
        | Operation::Branch
        | Operation::Return
        | Operation::Trap => Class::Control,
        _ => Class::Integer,
    }
}
