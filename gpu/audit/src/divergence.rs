//! Which instructions may be reached by some threads of a block only.
//!
//! A value is *divergent* where it may differ between the threads of a block.  It begins at what tells threads
//! apart (`%tid`, the results of atomic operations, local memory, fragments of matrices) and goes on through
//! everything that is computed of it.  A branch on a divergent predicate parts the threads until its ways
//! [meet](Flow::meeting): instructions in between are reached by some threads only, and what they write is
//! divergent, since it depends on which way was taken, or how often a loop was run.
//!
//! A register is followed from each write to the reads that it reaches: the compiler gives one register to values
//! that have nothing to do with one another.
//!
//! What is loaded from an address that all threads have in common is taken to be common, too: kernels write
//! nothing that other threads read during a launch, but for shared memory, where barriers stand between, which
//! the simulated grid tests.

use crate::{
    flow::{Flow, Set},
    ptx::{Entry, Instruction},
};

/// An instruction that threads have to execute together, and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Its line, from 1.
    pub line: usize,
    /// The operation, as `bar.sync`.
    pub operation: String,
    /// The lines of the branches that part threads there; its own line where it is executed under a predicate, or is another
    /// barrier for each thread.
    pub branches: Vec<usize>,
}

/// Registers of the machine that all threads of a block have in common.
const COMMON: [&str; 5] = ["%ntid", "%ctaid", "%nctaid", "%gridid", "%dynamic_smem_size"];

/// Returns the synchronising instructions of a kernel that some threads of a block may reach without the others.
pub fn partial(entry: &Entry) -> Vec<Partial> {
    let mut analysis = Analysis::new(entry);
    analysis.run();
    analysis.partial()
}

struct Analysis<'a> {
    entry: &'a Entry,
    flow: Flow,
    /// Registers that are never written: they tell threads apart, unless they are known to be common.
    given: Set,
    /// The divergent registers at the beginning of each block.
    divergent: Vec<Set>,
    /// For each block, the blocks whose branches part threads there.
    parted_by: Vec<Vec<usize>>,
}

impl<'a> Analysis<'a> {
    fn new(entry: &'a Entry) -> Self {
        let blocks = entry.blocks.len();
        let flow = Flow::new(entry.blocks.iter().map(|block| block.successors.clone()).collect());
        let mut given = Set::new(entry.registers.len());
        let is_common = |name: &str| COMMON.contains(&name.split('.').next().unwrap_or_default());
        for (register, name) in entry.registers.iter().enumerate() {
            if !is_common(name) {
                given.insert(register);
            }
        }
        for instruction in entry.blocks.iter().flat_map(|block| &block.instructions) {
            instruction.writes.iter().for_each(|&register| given.remove(register));
        }
        // The stack is each thread's own.
        for (register, name) in entry.registers.iter().enumerate() {
            if matches!(name.as_str(), "%SP" | "%SPL") {
                given.insert(register);
            }
        }
        let divergent = vec![Set::new(entry.registers.len()); blocks];
        Self { entry, flow, given, divergent, parted_by: vec![Vec::new(); blocks] }
    }

    /// Goes on until nothing new is found to be divergent.
    fn run(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for block in 0..self.entry.blocks.len() {
                let mut parts = false;
                // A branch is the last instruction of its block.
                let after = self.walk(block, |_, guarded, _| parts = guarded);
                for &to in &self.entry.blocks[block].successors {
                    changed |= self.divergent.get_mut(to).is_some_and(|of| of.unite(&after));
                }
                let parted = if parts && self.ends_in_branch(block) {
                    self.flow.parted(block)
                } else {
                    Vec::new()
                };
                for parted in parted {
                    if !self.parted_by[parted].contains(&block) {
                        self.parted_by[parted].push(block);
                        changed = true;
                    }
                }
            }
        }
    }

    fn ends_in_branch(&self, block: usize) -> bool {
        let last = self.entry.blocks[block].instructions.last();
        last.is_some_and(|last| matches!(last.head(), "bra" | "ret" | "exit" | "trap"))
    }

    /// Goes through a block and calls a function with each instruction, whether its guard and whether what it reads is
    /// divergent; returns the divergent registers at the end.
    fn walk(&self, block: usize, mut visit: impl FnMut(&Instruction, bool, bool)) -> Set {
        let mut divergent = self.divergent[block].clone();
        let is_parted = !self.parted_by[block].is_empty();
        for instruction in &self.entry.blocks[block].instructions {
            let is_divergent =
                |&register: &usize| divergent.holds(register) || self.given.holds(register);
            let guarded = instruction.guard.as_ref().is_some_and(is_divergent);
            let reads_divergent = instruction.reads.iter().any(is_divergent);
            visit(instruction, guarded, reads_divergent);
            let result = is_parted || guarded || tells_apart(instruction) || reads_divergent;
            for &register in &instruction.writes {
                if result {
                    divergent.insert(register);
                } else if instruction.guard.is_none() {
                    divergent.remove(register);
                }
            }
        }
        divergent
    }

    fn partial(&self) -> Vec<Partial> {
        let mut found = Vec::new();
        for block in 0..self.entry.blocks.len() {
            let branch =
                |&by: &usize| self.entry.blocks[by].instructions.last().map(|branch| branch.line);
            let parted_by: Vec<_> = self.parted_by[block].iter().filter_map(branch).collect();
            self.walk(block, |instruction, guarded, reads_divergent| {
                // A barrier whose number or count differs is another one for each thread.
                let differs =
                    guarded || reads_divergent && matches!(instruction.head(), "bar" | "barrier");
                if instruction.synchronises() && (differs || !parted_by.is_empty()) {
                    let mut branches = parted_by.clone();
                    branches.extend(differs.then_some(instruction.line));
                    branches.sort_unstable();
                    let Instruction { line, ref operation, .. } = *instruction;
                    found.push(Partial { line, operation: operation.clone(), branches });
                }
            });
        }
        found
    }
}

/// Tells whether the result of an instruction may differ between threads though its operands do not.
fn tells_apart(instruction: &Instruction) -> bool {
    match instruction.head() {
        "atom" | "ldmatrix" | "mma" | "match" => true,
        // Whether there was a lane to read from.
        "shfl" => instruction.writes.len() > 1,
        // They read a carry that is no register.
        "addc" | "subc" | "madc" => true,
        "cvta" => instruction.has("local"),
        // Somebody may write it meanwhile, or it is the thread's own.
        "ld" => ["local", "volatile", "relaxed", "acquire"].iter().any(|of| instruction.has(of)),
        _ => false,
    }
}
