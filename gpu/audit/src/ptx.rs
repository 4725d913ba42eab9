//! PTX as text: entry points, their blocks, and what each instruction reads and writes.
//!
//! What the text says is read by [`adaloss_interpreter::text`]; here is what becomes of registers, and where control
//! goes.  It is what the compiler writes for the kernels, where everything is inlined.  An instruction that is not
//! known here, a call or an indirect branch, is an error: nothing is passed over.

use std::collections::{HashMap, HashSet};

pub use adaloss_interpreter::PtxError;
use adaloss_interpreter::text::{self, EntryText, Operand, Statement, Text, What};

/// The entry points of a text.
#[derive(Clone, Debug)]
pub struct Module {
    /// In the order of the text.
    pub entries: Vec<Entry>,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What is executed, cut where control comes or goes; the first one is entered first.
    pub blocks: Vec<Block>,
    /// The names of registers, by their numbers.
    pub registers: Vec<String>,
}

/// Instructions that are executed one after the other.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// At least one, but in a block that a label at the end of a kernel begins.
    pub instructions: Vec<Instruction>,
    /// The blocks that may come next; the number of all blocks stands for the end of the kernel.
    pub successors: Vec<usize>,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its line in the text, from 1.
    pub line: usize,
    /// The operation with its modifiers, as `bar.sync`.
    pub operation: String,
    /// The predicate that it is executed under, if any.
    pub guard: Option<usize>,
    /// The registers that it reads, that of an address included, the guard not.
    pub reads: Vec<usize>,
    /// The registers that it writes.
    pub writes: Vec<usize>,
}

impl Instruction {
    /// Returns the operation without modifiers, as `bar`.
    pub fn head(&self) -> &str {
        self.operation.split('.').next().unwrap_or_default()
    }

    /// Tells whether the operation has a modifier.
    pub fn has(&self, modifier: &str) -> bool {
        self.operation.split('.').skip(1).any(|of| of == modifier)
    }

    /// Tells whether threads have to execute it together: a barrier, or what a warp does.
    pub fn synchronises(&self) -> bool {
        matches!(self.head(), "bar" | "barrier") || self.has("sync")
    }
}

/// Operations that write their first operand.
const WRITING: &[&str] = &[
    "abs", "add", "addc", "and", "atom", "bfe", "bfi", "bfind", "brev", "clz", "cnot", "copysign",
    "cos", "cvt", "cvta", "div", "dp2a", "dp4a", "ex2", "fma", "fns", "isspacep", "ld", "ldmatrix",
    "ldu", "lg2", "lop3", "mad", "mad24", "madc", "match", "max", "min", "mma", "mov", "mul",
    "mul24", "neg", "not", "or", "popc", "prmt", "rcp", "redux", "rem", "rsqrt", "sad", "selp",
    "set", "setp", "shf", "shfl", "shl", "shr", "sin", "slct", "sqrt", "sub", "subc", "tanh",
    "testp", "vote", "xor",
];

/// What the ISA calls the register of carries.
const CARRY: &str = "CC.CF";

/// Operations that write no register.
const SILENT: &[&str] = &[
    "bar",
    "barrier",
    "bra",
    "cp",
    "exit",
    "fence",
    "membar",
    "nanosleep",
    "prefetch",
    "red",
    "ret",
    "st",
    "trap",
];

impl Module {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// It has something that is not known here, or ends within an entry.
    pub fn parse(text: &str) -> Result<Self, PtxError> {
        let entries = Text::parse(text)?.entries;
        let entries = entries.iter().map(Reader::read).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }
}

/// Where control goes from the end of a block.
#[derive(Debug, Default)]
struct Goes {
    /// The line of a branch, and its label.
    to: Option<(usize, String)>,
    /// The kernel may end here.
    ends: bool,
    /// The next block does not follow.
    leaves: bool,
}

/// An entry that is being read.
struct Reader {
    entry: Entry,
    numbers: HashMap<String, usize>,
    labels: HashMap<String, usize>,
    /// Registers that were declared by their names, which need not begin with `%`.
    declared: HashSet<String>,
    /// Where each block goes.
    goes: Vec<Goes>,
}

impl Reader {
    fn read(entry: &EntryText<'_>) -> Result<Entry, PtxError> {
        let read = Entry { name: entry.name.into(), blocks: Vec::new(), registers: Vec::new() };
        let mut reader = Self {
            entry: read,
            numbers: HashMap::new(),
            labels: HashMap::new(),
            declared: HashSet::new(),
            goes: Vec::new(),
        };
        reader.begin_block();
        entry.statements.iter().try_for_each(|statement| reader.statement(statement))?;
        reader.finish()
    }

    fn begin_block(&mut self) {
        self.entry.blocks.push(Block::default());
        self.goes.push(Goes::default());
    }

    fn statement(&mut self, statement: &Statement<'_>) -> Result<(), PtxError> {
        match &statement.what {
            What::Label(label) => {
                if self.entry.blocks.last().is_some_and(|block| !block.instructions.is_empty()) {
                    self.begin_block();
                }
                let block = self.entry.blocks.len() - 1;
                self.labels.insert((*label).into(), block);
            }
            What::Registers(_, names) => {
                self.declared.extend(names.iter().map(|&(name, _)| name.to_owned()));
            }
            What::Instruction(instruction) => {
                self.instruction(statement.line as usize, instruction)?;
            }
            What::Variable(_) | What::Open | What::Close => {}
        }
        Ok(())
    }

    fn instruction(&mut self, line: usize, of: &text::Instruction<'_>) -> Result<(), PtxError> {
        let wrong = |what: &str| PtxError { line, what: format!("{what}: {}", of.operation) };
        let head = of.operation.split('.').next().unwrap_or_default();
        let writes_one = WRITING.contains(&head);
        if !writes_one && !SILENT.contains(&head) {
            return Err(wrong("an unknown instruction"));
        }
        let guard = of.guard.map(|(guard, _)| self.number(guard));
        let (written, read) = of.operands.split_at(usize::from(writes_one).min(of.operands.len()));
        let (mut writes, mut reads) = (self.registers(written), self.registers(read));
        // What sums of several parts carry is in a register that has no name in the text.
        if matches!(head, "addc" | "subc" | "madc") {
            reads.push(self.number(CARRY));
        }
        if matches!(head, "add" | "addc" | "sub" | "subc" | "mad" | "madc")
            && of.operation.split('.').any(|part| part == "cc")
        {
            writes.push(self.number(CARRY));
        }
        let operation = of.operation.into();
        let instruction = Instruction { line, operation, guard, reads, writes };
        let block = self.entry.blocks.len() - 1;
        self.entry.blocks[block].instructions.push(instruction);
        match head {
            "bra" => {
                let Some(Operand::Name(label)) = of.operands.first() else {
                    return Err(wrong("a branch to nowhere"));
                };
                let to = Some((line, (*label).into()));
                self.goes[block] = Goes { to, ends: false, leaves: guard.is_none() };
                self.begin_block();
            }
            "ret" | "exit" | "trap" => {
                self.goes[block] = Goes { to: None, ends: true, leaves: guard.is_none() };
                self.begin_block();
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the registers in operands.
    fn registers(&mut self, operands: &[Operand<'_>]) -> Vec<usize> {
        let mut names = Vec::new();
        operands.iter().for_each(|operand| collect(operand, &mut names));
        names.retain(|name| name.starts_with('%') || self.declared.contains(*name));
        names.into_iter().map(|name| self.number(name)).collect()
    }

    fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let registers = &mut self.entry.registers;
        registers.push(name.into());
        let number = registers.len() - 1;
        self.numbers.insert(name.into(), number);
        number
    }

    /// Joins the blocks.
    fn finish(mut self) -> Result<Entry, PtxError> {
        let end = self.entry.blocks.len();
        for (block, Goes { to, ends, leaves }) in self.goes.into_iter().enumerate() {
            let successors = &mut self.entry.blocks[block].successors;
            if let Some((line, label)) = to {
                let to = self.labels.get(&label);
                let to = to
                    .ok_or_else(|| PtxError { line, what: format!("there is no label {label}") })?;
                successors.push(*to);
            }
            // Behind the last block is the end.
            if !leaves {
                successors.push(block + 1);
            }
            if ends {
                successors.push(end);
            }
        }
        Ok(self.entry)
    }
}

/// Adds the names in an operand.
fn collect<'t>(operand: &Operand<'t>, names: &mut Vec<&'t str>) {
    match operand {
        Operand::Name(name) | Operand::Not(name) | Operand::Address(name, _) => names.push(name),
        Operand::Pair(one, other) => names.extend([one, other]),
        Operand::Vector(parts) => parts.iter().for_each(|part| collect(part, names)),
        Operand::Integer(_) | Operand::Single(_) | Operand::Double(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
.visible .entry one(
\t.param .u64 one_param_0
)
.maxntid 256, 1, 1
{
\t.reg .b32 \t%r<4>;
\tmov.u32 \t%r1, %tid.x;
\t@!%p1 bra \t$L_2;
\t// begin inline asm
\t{ .reg .u64 %global; cvta.to.global.u64 %global, %rd1; cp.async.cg.shared.global [%r1], [%global], 16, %r2; }
\t// end inline asm
$L_2:
\tld.shared.v2.b32 \t{%r2, %r3}, [%r1+16];
\tshfl.sync.bfly.b32 %r4|%p2, %r2, 1, 0x1f, -1;
\tret;
}
";

    #[test]
    fn blocks_and_registers_are_read() {
        let module = Module::parse(TEXT).expect("PTX");
        let [entry] = &module.entries[..] else { panic!("one entry") };
        assert_eq!(entry.name, "one");
        let of: Vec<_> = entry.blocks.iter().map(|block| block.instructions.len()).collect();
        assert_eq!(of, [2, 2, 3, 0]);
        assert_eq!(entry.blocks[0].successors, [2, 1]);
        assert_eq!(entry.blocks[2].successors, [4]);
        let name =
            |of: &[usize]| of.iter().map(|&of| entry.registers[of].clone()).collect::<Vec<_>>();
        let load = &entry.blocks[2].instructions[0];
        assert_eq!(
            (name(&load.writes), name(&load.reads)),
            (vec!["%r2".into(), "%r3".into()], vec!["%r1".into()])
        );
        let shuffle = &entry.blocks[2].instructions[1];
        assert_eq!(
            (name(&shuffle.writes), shuffle.line),
            (vec!["%r4".to_owned(), "%p2".into()], 15)
        );
        assert!(shuffle.synchronises() && !load.synchronises());
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for (from, to, what) in [
            ("ret;", "call.uni f;", "an unknown instruction: call.uni"),
            ("ret;", "brx.idx %r1, $L;", "an unknown instruction: brx.idx"),
            ("bra \t$L_2", "bra \t$L_3", "there is no label $L_3"),
        ] {
            let error = Module::parse(&TEXT.replace(from, to)).expect_err("not known");
            assert_eq!(error.what, what);
        }
        let brace =
            TEXT.replace(".visible .entry one(", ".visible .entry none() {\n.visible .entry one(");
        assert_eq!(
            Module::parse(&brace).expect_err("a body").what,
            "an unknown directive: .visible"
        );
        let bodiless =
            TEXT.replace(".visible .entry one(", ".visible .entry none()\n.visible .entry one(");
        assert_eq!(
            Module::parse(&bodiless).expect_err("no body").what,
            "the entry none has no body"
        );
        let cut = TEXT.trim_end().trim_end_matches('}');
        assert_eq!(
            Module::parse(cut).expect_err("it has no end").what,
            "the entry one does not end"
        );
        let function = format!("{TEXT}.func f()\n");
        assert_eq!(Module::parse(&function).expect_err("a function").line, 18);
    }
}
