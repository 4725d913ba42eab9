//! Machine code, as `nvdisasm -c` prints it: whether a barrier is reached within a region that threads of a warp have
//! to leave together, and have parted in.
//!
//! `BSSY B0, L` says that threads which part from here on meet again at `L`, and `BSYNC B0` waits for all of them
//! but those that left by `BREAK B0`.  A thread that comes to a barrier in between waits there for threads that
//! wait for it:
//!
//! ```text
//!         BSSY B0, L          open
//!     @P0 BRA elsewhere       threads part
//!         ...
//!         WARPSYNC.ALL        found: B0 is open, and threads have parted since
//!         BAR.SYNC 0x0
//!         ...
//!         BSYNC B0            the others wait here
//! L:
//! ```
//!
//! What lies in no region is not looked at: where threads part without one, the text that was assembled tells
//! ([`divergence`](crate::divergence)).
//!
//! All ways through the code are followed, with what is open on each.  An assembler may put a `BSSY` in front of a
//! barrier that it has nothing to do with; as long as no branch comes between, all threads are still together.

use std::{
    collections::{HashMap, HashSet},
    error, fmt,
    ops::Range,
};

/// A barrier, of a block or of a warp, that parted threads may reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parted {
    /// The kernel.
    pub entry: String,
    /// The line of the instruction in the text, from 1.
    pub line: usize,
    /// The instruction.
    pub instruction: String,
    /// The numbers of the regions that are open, as of `B0`.
    pub open: Vec<u32>,
}

/// What is wrong with a disassembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SassError {
    /// There is no kernel in it.
    Empty,
    /// A branch leads to a label that is not there.
    Label {
        /// The line of the branch, from 1.
        line: usize,
    },
    /// An instruction that is not followed: an indirect branch whose targets are not listed, or what moves or guards a region.
    Unknown {
        /// The line of the instruction, from 1.
        line: usize,
    },
    /// A barrier that no way leads to: the reader has overlooked a branch.
    Unreached {
        /// The line of the barrier, from 1.
        line: usize,
    },
}

impl fmt::Display for SassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "no kernel was found: is it the output of nvdisasm -c?"),
            Self::Label { line } => write!(f, "line {line}: the label of the branch is not there"),
            Self::Unknown { line } => write!(f, "line {line}: this instruction is not followed"),
            Self::Unreached { line } => write!(f, "line {line}: no way was found to this barrier"),
        }
    }
}

impl error::Error for SassError {}

/// Returns the barriers of all kernels of a disassembly that parted threads may reach.
///
/// # Errors
///
/// The text is none, or has what this cannot follow.
pub fn parted(text: &str) -> Result<Vec<Parted>, SassError> {
    let kernels = kernels(text);
    if kernels.is_empty() {
        return Err(SassError::Empty);
    }
    let mut found = Vec::new();
    for kernel in kernels {
        found.extend(kernel.parted()?);
    }
    Ok(found)
}

/// What a kernel's machine code contains, functions behind it included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The kernel.
    pub entry: String,
    /// Its instructions, without those that fill the end.
    pub instructions: usize,
    /// Those of tensor cores.
    pub tensor: usize,
    /// Calls.
    pub calls: usize,
}

/// Counts the instructions of all kernels of a disassembly.
///
/// # Errors
///
/// The text is none.
pub fn contents(text: &str) -> Result<Vec<Contents>, SassError> {
    let kernels = kernels(text);
    if kernels.is_empty() {
        return Err(SassError::Empty);
    }
    let of = |kernel: &Kernel<'_>| {
        let count = |head| kernel.instructions.iter().filter(|of| of.head() == head).count();
        Contents {
            entry: kernel.name.into(),
            instructions: kernel.instructions.len() - count("NOP"),
            tensor: count("HMMA"),
            calls: count("CALL"),
        }
    };
    Ok(kernels.iter().map(of).collect())
}

/// A kernel's instructions, with the functions behind it that the assembler made for it.
#[derive(Debug, Default)]
struct Kernel<'a> {
    name: &'a str,
    instructions: Vec<Instruction<'a>>,
    labels: HashMap<&'a str, usize>,
}

#[derive(Debug)]
struct Instruction<'a> {
    line: usize,
    /// The predicate with its `!`, of a thread or of the warp.
    guard: Option<&'a str>,
    /// The operation and its operands.
    text: &'a str,
}

fn kernels(text: &str) -> Vec<Kernel<'_>> {
    let mut kernels: Vec<Kernel<'_>> = Vec::new();
    let mut is_code = false;
    for (line, of) in (1..).zip(text.lines()) {
        let of = of.trim();
        if let Some(name) = of.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
            kernels.push(Kernel { name, ..Kernel::default() });
            is_code = true;
        } else if of.starts_with(".section") {
            is_code = false;
        }
        let Some(kernel) = kernels.last_mut().filter(|_| is_code) else { continue };
        if let Some(label) = of.strip_suffix(':') {
            kernel.labels.insert(label, kernel.instructions.len());
        } else if let Some((_, rest)) = of.strip_prefix("/*").and_then(|rest| rest.split_once("*/"))
        {
            let text = rest.split(';').next().unwrap_or_default().trim();
            let (guard, text) = match text.strip_prefix('@') {
                Some(rest) => rest
                    .split_once(' ')
                    .map_or((None, rest), |(guard, rest)| (Some(guard), rest.trim())),
                None => (None, text),
            };
            if !text.is_empty() {
                kernel.instructions.push(Instruction { line, guard, text });
            }
        }
    }
    kernels
}

/// Where a way has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Way<'a> {
    next: usize,
    /// Regions that are open, a bit each.
    open: u16,
    /// Those of them in which threads may have parted.
    parted: u16,
    /// What is known since a `BREAK` was executed under it, and whether it holds.
    known: Option<(Condition<'a>, bool)>,
}

impl<'a> Instruction<'a> {
    fn operation(&self) -> &'a str {
        self.text.split(' ').next().unwrap_or_default()
    }

    fn head(&self) -> &'a str {
        self.operation().split('.').next().unwrap_or_default()
    }

    /// Returns the bit of the region that it opens or closes.
    fn region(&self) -> u16 {
        let digits = self.text.split_once(" B").map_or("", |(_, rest)| rest);
        let digits =
            digits.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().map_or(0, |number: u32| 1_u16.checked_shl(number).unwrap_or(0))
    }

    fn label(&self) -> Option<&'a str> {
        let (_, rest) = self.text.split_once("`(")?;
        rest.split(')').next()
    }

    /// Returns the labels that an indirect branch leads to, as `nvdisasm` lists them from the branch's table:
    /// `BRX R4 -0x23c0 (*"BRANCH_TARGETS .L_x_1,.L_x_2"*)`.
    fn targets(&self) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        let (_, rest) = self.text.split_once("BRANCH_TARGETS ")?;
        rest.split('"').next().map(|labels| labels.split(',').map(str::trim))
    }

    /// A predicate of a branch that stands among its operands, as in `BRA !P3, L`.
    fn condition(&self) -> Option<&'a str> {
        let (_, operands) = self.text.split_once(' ')?;
        let first = operands.split([',', ' ']).next()?;
        let is_predicate = first.trim_start_matches('!').trim_start_matches('U').starts_with('P');
        is_predicate.then_some(first)
    }

    /// Tells whether threads wait here for others of the block or of the warp.
    fn is_barrier(&self) -> bool {
        match self.head() {
            "BAR" => self.operation().contains("SYNC") || self.operation().contains("RED"),
            "WARPSYNC" => true,
            _ => false,
        }
    }

    /// Tells whether threads of a warp may execute it without the others, for its guard.
    fn is_for_some(&self) -> bool {
        self.guard.is_some_and(|guard| !guard.trim_start_matches('!').starts_with("UP"))
    }

    /// Tells whether control goes to a label and does not come back; calls within a kernel do not return either.
    fn jumps(&self) -> bool {
        let is_within = self.label().is_some_and(|label| label.starts_with(".L"));
        matches!(self.head(), "BRA" | "JMP") || self.head() == "CALL" && is_within
    }

    fn writes(&self, predicate: &str) -> bool {
        if self.head() == "R2P" {
            return true;
        }
        let predicate = predicate.trim_start_matches('!');
        let operands = self.text.split_once(' ').map_or("", |(_, operands)| operands);
        operands.split(',').take(2).any(|of| of.trim() == predicate)
    }
}

impl Kernel<'_> {
    fn parted(&self) -> Result<Vec<Parted>, SassError> {
        let mut seen = HashSet::new();
        let mut reached = vec![false; self.instructions.len()];
        let mut found = Vec::new();
        let mut ways = vec![Way { next: 0, open: 0, parted: 0, known: None }];
        while let Some(way) = ways.pop() {
            let Some(instruction) = self.instructions.get(way.next).filter(|_| seen.insert(way))
            else {
                continue;
            };
            reached[way.next] = true;
            let called = self.called(instruction)?;
            reached[called.clone()].fill(true);
            if instruction.is_barrier()
                || self.instructions[called].iter().any(Instruction::is_barrier)
            {
                let open = way.open & way.parted;
                if open != 0 || instruction.is_for_some() {
                    found.push(Parted {
                        entry: self.name.into(),
                        line: instruction.line,
                        instruction: instruction.text.into(),
                        open: (0..16).filter(|bit| open >> bit & 1 == 1).collect(),
                    });
                }
            }
            self.go_on(way, instruction, &mut ways)?;
        }
        found.sort_unstable();
        found.dedup();
        let overlooked =
            self.instructions.iter().zip(reached).find(|(of, reached)| of.is_barrier() && !reached);
        match overlooked {
            Some((&Instruction { line, .. }, _)) => Err(SassError::Unreached { line }),
            None => Ok(found),
        }
    }

    /// Returns the instructions of the function that one calls, if it does: those that the assembler has put behind a
    /// kernel, for divisions and for shuffles of parted threads, have no branch that matters here.
    fn called(&self, of: &Instruction<'_>) -> Result<Range<usize>, SassError> {
        if of.head() != "CALL" || of.jumps() {
            return Ok(0..0);
        }
        let begin = of.label().and_then(|label| self.labels.get(label));
        let begin = *begin.ok_or(SassError::Label { line: of.line })?;
        let returns = |of: &Instruction<'_>| of.head() == "RET" && of.guard.is_none();
        let length = self.instructions[begin..].iter().position(returns);
        let length = length.ok_or(SassError::Label { line: of.line })?;
        Ok(begin..begin + length)
    }

    /// Adds the ways that lead on.
    fn go_on<'a>(
        &'a self,
        way: Way<'a>,
        of: &Instruction<'a>,
        ways: &mut Vec<Way<'a>>,
    ) -> Result<(), SassError> {
        let on = Way { next: way.next + 1, ..way };
        match of.head() {
            "BRX" | "BRXU" => {
                let targets = of.targets().ok_or(SassError::Unknown { line: of.line })?;
                // Threads go where their own number says; only one of the warp leads all of them to one place.
                let parted = if of.head() == "BRX" { u16::MAX } else { way.parted };
                for label in targets {
                    let to = self.labels.get(label).ok_or(SassError::Label { line: of.line })?;
                    ways.push(Way { next: *to, parted, known: None, ..on });
                }
                if of.guard.is_some() {
                    ways.push(Way { parted: u16::MAX, known: None, ..on });
                }
            }
            "JMX" | "JMXU" | "BMOV" => return Err(SassError::Unknown { line: of.line }),
            "BSSY" | "BSYNC" if of.is_for_some() => {
                return Err(SassError::Unknown { line: of.line });
            }
            "BSSY" => ways.push(Way {
                open: way.open | of.region(),
                parted: way.parted & !of.region(),
                ..on
            }),
            "BSYNC" => ways.push(Way { open: way.open & !of.region(), ..on }),
            "BREAK" => {
                let broken = Way { open: way.open & !of.region(), ..on };
                let condition = [of.guard, of.condition()];
                if condition == [None; 2] {
                    ways.push(broken);
                    return Ok(());
                }
                // A thread leaves one region after the other under the same predicate.
                let leaves = follows(way.known, condition);
                if leaves != Some(false) {
                    ways.push(Way { known: Some((condition, true)), ..broken });
                }
                if leaves != Some(true) {
                    ways.push(Way { known: Some((condition, false)), ..on });
                }
            }
            "EXIT" | "RET" | "KILL" => {
                if of.guard.is_some() {
                    ways.push(Way { parted: u16::MAX, ..on });
                }
            }
            _ if of.jumps() => {
                let to = of.label().and_then(|label| self.labels.get(label));
                let to = *to.ok_or(SassError::Label { line: of.line })?;
                // A predicate of the warp parts no threads; DIV leads parted threads elsewhere.
                let conditions = [of.guard, of.condition()];
                let is_conditional =
                    conditions.iter().any(Option::is_some) || of.operation().contains(".DIV");
                let parts = conditions
                    .iter()
                    .flatten()
                    .any(|of| !of.trim_start_matches('!').starts_with("UP"));
                let parted = if parts { u16::MAX } else { way.parted };
                let taken = match follows(way.known, conditions) {
                    None if !is_conditional => Some(true),
                    known => known,
                };
                let known = if taken.is_some() && is_conditional { None } else { way.known };
                if taken != Some(false) {
                    ways.push(Way { next: to, parted, known, ..on });
                }
                if taken != Some(true) {
                    ways.push(Way { parted, known, ..on });
                }
            }
            _ => {
                let known = way.known.filter(|(known, _)| {
                    known.iter().flatten().all(|predicate| !of.writes(predicate))
                });
                ways.push(Way { known, ..on });
            }
        }
        Ok(())
    }
}

/// The predicate that guards an instruction and the one among its operands, with their `!`; both have to hold.
type Condition<'a> = [Option<&'a str>; 2];

/// Returns the predicate of a condition that has one only, without its `!` and with it.
fn single<'a>(condition: Condition<'a>) -> Option<(&'a str, &'a str)> {
    match condition {
        [Some(only), None] | [None, Some(only)] => Some((only.trim_start_matches('!'), only)),
        _ => None,
    }
}

/// Tells whether a condition holds, as far as it follows from one that is known to hold or not.
fn follows(known: Option<(Condition<'_>, bool)>, condition: Condition<'_>) -> Option<bool> {
    let (known, holds) = known?;
    match (single(known), single(condition)) {
        (Some((one, known)), Some((other, now))) if one == other => Some(holds == (known == now)),
        _ if known == condition && known != [None; 2] => Some(holds),
        _ => None,
    }
}
