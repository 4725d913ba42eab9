//! What a GPU's data sheet leaves room for, from what kernels execute: an estimate, and no measurement.
//!
//! A kernel takes at least as long as memory takes for the bytes that it has to read and write, and at least as long as
//! its instructions take to be issued, of which a multiprocessor begins four for a warp in each cycle.  Which of the
//! two is longer is what it is bound by.  Instructions are counted in PTX; one of PTX is taken for as many of the
//! machine's as the kernel has of both in all.  What is left out: dependencies, latencies, caches, what is fixed.
//!
//! ```
//! # use adaloss_audit::estimate::{Bound, Executed, Gpu};
//! // 64 instructions for an element of which 6 bytes are moved: two of a warp, 0.5 cycles of one multiprocessor.
//! let executed = Executed { entry: "adaloss_apply_f16".into(), per: "element".into(), instructions: 64.0 };
//! let gpu = Gpu { machine: "sm_90a", name: "H200", multiprocessors: 100, gigahertz: 1.0, gigabytes: 1000.0, teraflops: 100.0 };
//! let Some(Bound::Elements { memory_ps, issue_ps }) = gpu.bound(&executed, 1.0) else { panic!("elements") };
//! assert_eq!((memory_ps, issue_ps), (6.0, 5.0));
//! ```

use std::{error, fmt};

/// A GPU as its data sheet has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// What an assembler calls it.
    pub machine: &'static str,
    /// What its maker calls it.
    pub name: &'static str,
    /// How many multiprocessors it has.
    pub multiprocessors: u32,
    /// At how many cycles in a nanosecond its products reach their peak.
    pub gigahertz: f64,
    /// How many bytes its memory moves in a nanosecond.
    pub gigabytes: f64,
    /// How many operations in a picosecond its tensor cores do of binary16, not sparse, summed in f32.
    pub teraflops: f64,
}

impl Gpu {
    /// Those that there is machine code for: NVIDIA's data sheets of A100 80GB SXM, L4 and H200 SXM.  Cycles are those
    /// by which multiprocessors times operations in a cycle (2048, 1024, 4096) make the peak.
    pub const ALL: [Self; 3] = [
        Self::new("sm_80", "A100", 108, 1.41, 2039.0, 312.0),
        Self::new("sm_89", "L4", 58, 2.04, 300.0, 121.0),
        Self::new("sm_90a", "H200", 132, 1.83, 4800.0, 989.0),
    ];

    const fn new(
        machine: &'static str,
        name: &'static str,
        multiprocessors: u32,
        gigahertz: f64,
        gigabytes: f64,
        teraflops: f64,
    ) -> Self {
        Self { machine, name, multiprocessors, gigahertz, gigabytes, teraflops }
    }

    /// Returns the bound of a kernel whose instructions of PTX become so many of the machine's each, or None of one
    /// that is called once for a scaler.
    pub fn bound(&self, executed: &Executed, machine_per_ptx: f64) -> Option<Bound> {
        let per_ns = f64::from(self.multiprocessors) * ISSUED * self.gigahertz;
        let issued = executed.instructions * machine_per_ptx;
        match executed.per.as_str() {
            "element" => Some(Bound::Elements {
                memory_ps: 1000.0 * executed.bytes()? / self.gigabytes,
                issue_ps: 1000.0 * issued / 32.0 / per_ns,
            }),
            "32 terms of a warp" => Some(Bound::Products {
                teraflops: per_ns / issued * OPERATIONS / 1000.0,
                peak: self.teraflops,
            }),
            _ => None,
        }
    }
}

/// Instructions of warps that a multiprocessor begins in a cycle.
const ISSUED: f64 = 4.0;

/// Operations of 64 by 32 sums for 32 terms, which is what the table counts for.
const OPERATIONS: f64 = 2.0 * 64.0 * 32.0 * 32.0;

/// What a kernel executes.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed {
    /// The kernel.
    pub entry: String,
    /// What its instructions are for.
    pub per: String,
    /// Instructions of PTX: of a thread for an element, or of a warp for terms.
    pub instructions: f64,
}

impl Executed {
    /// Reads a table of what is executed: lines that begin with the entry, what it is per, and instructions.
    ///
    /// # Errors
    ///
    /// A line is none of those.
    pub fn table(text: &str) -> Result<Vec<Self>, TableError> {
        let row = |(line, text): (usize, &str)| {
            let mut columns = text.split(',');
            let mut next = || columns.next().ok_or(TableError { line });
            let (entry, per) = (next()?.into(), next()?.into());
            let instructions = next()?.parse().map_err(|_| TableError { line })?;
            Ok(Self { entry, per, instructions })
        };
        (1..).zip(text.lines()).skip(1).map(row).collect()
    }

    /// Returns the bytes that an element has to be read and written with.
    fn bytes(&self) -> Option<f64> {
        let name = self.entry.strip_prefix("adaloss_")?;
        // In f32 alone; what is written is read first.
        match name {
            "accumulate" | "softmax_cross_entropy" => return Some(8.0),
            "blend" => return Some(12.0),
            "square_norm" => return Some(4.0),
            "sgd_step" => return Some(20.0),
            "adamw_step" => return Some(28.0),
            _ => {}
        }
        let (kernel, format) = name.rsplit_once('_')?;
        let narrow = match format {
            "f32" => 4.0,
            "f16" | "bf16" => 2.0,
            "e5m2" | "e4m3" => 1.0,
            _ => return None,
        };
        Some(match kernel {
            "statistics" => narrow,
            "widen" | "narrow" | "apply" | "unscale" | "unscale_one" => narrow + 4.0,
            // Two parts.
            "add_parts" => narrow + 8.0,
            // In place.
            "relu" => 2.0 * narrow,
            // An output and a gradient in place, or two branches and their sum.
            "relu_input" | "propagate" => 3.0 * narrow,
            // A weight and its momentum, read and written.
            "sgd" => narrow + 16.0,
            _ => return None,
        })
    }
}

/// A line of a table that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError {
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: not an entry, what it is per, and its instructions", self.line)
    }
}

impl error::Error for TableError {}

/// What a kernel cannot be faster than.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Picoseconds for an element.
    Elements {
        /// That memory takes.
        memory_ps: f64,
        /// That the instructions take to be issued.
        issue_ps: f64,
    },
    /// Operations in a picosecond.
    Products {
        /// That the instructions leave room for.
        teraflops: f64,
        /// That tensor cores do.
        peak: f64,
    },
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Elements { memory_ps, issue_ps } => {
                let share = (100.0 * memory_ps / memory_ps.max(issue_ps)).round();
                write!(f, "{share} % of copy bandwidth")
            }
            Self::Products { teraflops, peak } => {
                let least = teraflops.min(peak);
                write!(f, "{least:.0} TFLOP/s, {:.0} % of the peak", 100.0 * least / peak)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_bound_by_its_instructions() {
        let [.., h200] = Gpu::ALL;
        let product = |instructions| Executed {
            entry: "adaloss_matmul_nn_f16".into(),
            per: "32 terms of a warp".into(),
            instructions,
        };
        let said = |instructions| h200.bound(&product(instructions), 1.0).map(|of| of.to_string());
        assert_eq!(said(345.0), Some("367 TFLOP/s, 37 % of the peak".into()));
        assert_eq!(said(100.0), Some("989 TFLOP/s, 100 % of the peak".into()));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert_eq!(
            Executed::table("entry,per,instructions\na,element,x"),
            Err(TableError { line: 2 })
        );
        assert_eq!(
            Executed::table("entry,per,instructions\na,element"),
            Err(TableError { line: 2 })
        );
        assert_eq!(Executed::table(""), Ok(vec![]));
        let odd = Executed { entry: "adaloss_close".into(), per: "call".into(), instructions: 0.0 };
        assert_eq!(Gpu::ALL[0].bound(&odd, 1.0), None);
    }
}
