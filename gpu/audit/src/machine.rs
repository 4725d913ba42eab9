//! What machine code takes of a GPU: registers, memory, instructions; and how many blocks a multiprocessor runs.
//!
//! `ptxas -v` says the first, `nvdisasm -c` has the instructions, and the limits of GPUs are those of the table
//! "Technical Specifications per Compute Capability" of NVIDIA's CUDA programming guide.

use std::{error, fmt};

use crate::sass::{self, SassError};

/// The limits of a multiprocessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The name that an assembler knows it by.
    pub name: &'static str,
    /// The warps that it runs at a time.
    pub warps: u32,
    /// The blocks that it runs at a time.
    pub blocks: u32,
    /// Its shared memory in bytes.
    pub shared_bytes: u32,
}

impl Gpu {
    /// Those that are looked at: A100, L4 and RTX 40, H100 and H200, B200, RTX 50.
    pub const ALL: [Self; 5] = [
        Self::new("sm_80", 64, 32, 164),
        Self::new("sm_89", 48, 24, 100),
        Self::new("sm_90a", 64, 32, 228),
        Self::new("sm_100a", 64, 32, 228),
        Self::new("sm_120", 48, 24, 100),
    ];

    const fn new(name: &'static str, warps: u32, blocks: u32, shared_kib: u32) -> Self {
        Self { name, warps, blocks, shared_bytes: shared_kib << 10 }
    }
}

/// The registers of a multiprocessor, and how many a warp takes at a time.
const REGISTERS: u32 = 64 << 10;
const REGISTERS_AT_A_TIME: u32 = 256;

/// Shared memory is taken so many bytes at a time, and the system has the first KiB of each block's.
const SHARED_AT_A_TIME: u32 = 128;
const SHARED_OF_SYSTEM: u32 = 1 << 10;

/// What a kernel takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The kernel.
    pub entry: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of shared memory that it has without asking.
    pub shared_bytes: u32,
    /// Bytes of a thread's stack, those of `spilled_bytes` among them.
    pub stack_bytes: u32,
    /// Bytes of registers that are stored there for want of room.
    pub spilled_bytes: u32,
    /// Instructions, those of functions behind it among them, without what fills the end.
    pub instructions: usize,
    /// Instructions of tensor cores.
    pub tensor: usize,
    /// Calls of functions that the assembler has put behind it.
    pub calls: usize,
}

impl Taken {
    /// Returns how many blocks of so many threads a multiprocessor runs at a time, each with some more shared memory.
    ///
    /// ```
    /// # use adaloss_audit::machine::{Gpu, Taken};
    /// # let [a100, ..] = Gpu::ALL;
    /// let kernel = Taken {
    ///     entry: "kernel".into(), registers: 70, shared_bytes: 16 << 10,
    ///     stack_bytes: 0, spilled_bytes: 0, instructions: 100, tensor: 0, calls: 0,
    /// };
    /// // 70 registers of 32 threads are 2,240, for which a warp takes 2,304: 28 warps, three blocks of eight.
    /// assert_eq!(kernel.resident_blocks(&a100, 256, 0), 3);
    /// // Shared memory is for two.
    /// assert_eq!(kernel.resident_blocks(&a100, 256, 60 << 10), 2);
    /// ```
    pub fn resident_blocks(&self, gpu: &Gpu, threads: u32, dynamic_shared_bytes: u32) -> u32 {
        let warps = threads.div_ceil(32);
        let of_warp = (32 * self.registers).next_multiple_of(REGISTERS_AT_A_TIME);
        let by_registers = REGISTERS / of_warp.max(1) / warps;
        let shared = self.shared_bytes + dynamic_shared_bytes + SHARED_OF_SYSTEM;
        let by_shared = gpu.shared_bytes / shared.next_multiple_of(SHARED_AT_A_TIME);
        by_registers.min(by_shared).min(gpu.warps / warps).min(gpu.blocks)
    }
}

/// What cannot be said of machine code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// The log does not say all of a kernel.
    Log {
        /// The line of the kernel's name, from 1.
        line: usize,
    },
    /// The log and the disassembly are of different kernels.
    Different {
        /// A kernel that is in one of them only.
        entry: String,
    },
    /// The disassembly cannot be read.
    Sass(SassError),
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { line } => write!(
                f,
                "line {line} of the log: stack, spills or registers of this kernel do not follow: is it of ptxas -v?"
            ),
            Self::Different { entry } => {
                write!(f, "{entry} is not in both the log and the disassembly")
            }
            Self::Sass(error) => error.fmt(f),
        }
    }
}

impl error::Error for MachineError {}

/// Returns what each kernel takes, by their names, from the log of `ptxas -v` and the text of `nvdisasm -c`.
///
/// # Errors
///
/// They are not what they are said to be, or not of the same kernels.
pub fn taken(log: &str, disassembly: &str) -> Result<Vec<Taken>, MachineError> {
    let mut all = logged(log)?;
    let contents = sass::contents(disassembly).map_err(MachineError::Sass)?;
    let different = |entry: &str| MachineError::Different { entry: entry.into() };
    if let Some(of) = contents.iter().find(|of| all.iter().all(|other| other.entry != of.entry)) {
        return Err(different(&of.entry));
    }
    for taken in &mut all {
        let of = contents.iter().find(|of| of.entry == taken.entry);
        let of = of.ok_or_else(|| different(&taken.entry))?;
        (taken.instructions, taken.tensor, taken.calls) = (of.instructions, of.tensor, of.calls);
    }
    all.sort_unstable_by(|one, other| one.entry.cmp(&other.entry));
    Ok(all)
}

fn logged(log: &str) -> Result<Vec<Taken>, MachineError> {
    let mut all = Vec::new();
    let mut lines = (1..).zip(log.lines());
    while let Some((line, text)) = lines.next() {
        let Some((_, rest)) = text.split_once("Compiling entry function '") else { continue };
        let entry = rest.split('\'').next().unwrap_or_default();
        // The properties of the entry, and what it uses, come before the next entry.
        let mut said = lines.by_ref().take(3).map(|(_, text)| text);
        let number = |text: &str, before: &str| {
            number_before(text, before).ok_or(MachineError::Log { line })
        };
        let properties = said.by_ref().nth(1).unwrap_or_default();
        let used = said.next().unwrap_or_default();
        all.push(Taken {
            entry: entry.into(),
            registers: number(used, " registers")?,
            shared_bytes: number_before(used, " bytes smem").unwrap_or(0),
            stack_bytes: number(properties, " bytes stack frame")?,
            spilled_bytes: number(properties, " bytes spill stores")?,
            instructions: 0,
            tensor: 0,
            calls: 0,
        });
    }
    Ok(all)
}

/// Returns the number in front of a text.
fn number_before(text: &str, before: &str) -> Option<u32> {
    let (number, _) = text.split_once(before)?;
    number.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "ptxas info    : 2010 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_120'
ptxas info    : Function properties for one
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 66 registers, used 1 barriers, 16384 bytes smem
ptxas info    : Compile time = 6.252 ms
";
    const CODE: &str = ".text.one:
        /*0000*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0010*/                   CALL.REL.NOINC `($one$div) ;
        /*0020*/                   EXIT ;
.L_x_1:
        /*0030*/                   BRA `(.L_x_1) ;
        /*0040*/                   NOP;
        /*0050*/                   NOP;
";

    #[test]
    fn what_a_kernel_takes() {
        let one = Taken {
            entry: "one".into(),
            registers: 66,
            shared_bytes: 16384,
            stack_bytes: 8,
            spilled_bytes: 4,
            instructions: 4,
            tensor: 1,
            calls: 1,
        };
        assert_eq!(taken(LOG, CODE), Ok(vec![one]));
    }

    #[test]
    fn what_is_no_log_of_it_is_refused() {
        let short = LOG.replace("8 bytes stack frame", "");
        assert_eq!(taken(&short, CODE), Err(MachineError::Log { line: 2 }));
        let other = || MachineError::Different { entry: "one".into() };
        assert_eq!(taken("", CODE), Err(other()));
        assert_eq!(taken(LOG, &CODE.replace("one:", "two:")).map_err(|of| of.to_string()), {
            Err("two is not in both the log and the disassembly".into())
        });
        assert_eq!(taken(LOG, ""), Err(MachineError::Sass(SassError::Empty)));
    }
}
