//! Audits compiled kernels: exits with 1 where threads may wait for one another for ever, or registers are spilled,
//! and with 2 where it cannot tell.

use std::{
    fmt, fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use adaloss_audit::{
    divergence,
    machine::{self, Gpu, Taken},
    ptx::{Entry, Module},
    sass,
};
use adaloss_kernels::tensor_cores;
use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Is a barrier, or what a warp does together, in reach of some threads of a block only?
    Ptx {
        /// PTX text.
        file: PathBuf,
    },
    /// Is a barrier reached within a region that threads have to leave together, and have parted in?
    Sass {
        /// A disassembly by nvdisasm -c.
        file: PathBuf,
    },
    /// What do kernels take of a GPU, and do they spill registers? Prints a line of CSV for each.
    Machine {
        /// A GPU as the assembler calls it, such as sm_90a.
        gpu: String,
        /// What ptxas -v said.
        log: PathBuf,
        /// A disassembly by nvdisasm -c.
        disassembly: PathBuf,
    },
    /// Counts the synchronising instructions of each kernel.
    Counts {
        /// PTX text.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("adaloss-audit: {error:#}");
        ExitCode::from(2)
    })
}

fn run() -> anyhow::Result<ExitCode> {
    const WAITS: &str = "threads may wait for one another for ever";
    const SPILLS: &str = "registers are spilled, or a stack is used";
    let (is_clean, name, what) = match Arguments::parse().command {
        Command::Ptx { file } => (ptx(&file)?, file, WAITS),
        Command::Sass { file } => (machine_code(&file)?, file, WAITS),
        Command::Machine { gpu, log, disassembly } => {
            (takes(&gpu, &log, &disassembly)?, disassembly, SPILLS)
        }
        Command::Counts { file } => {
            for entry in module(&file)?.entries {
                say(format_args!("{} {}", entry.name, counts(&entry)));
            }
            (true, file, "")
        }
    };
    if !is_clean {
        eprintln!("{}: {what}", name.display());
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says a line; whoever does not read it does not want it.
fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn read(file: &PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn module(file: &PathBuf) -> anyhow::Result<Module> {
    let module =
        Module::parse(&read(file)?).with_context(|| format!("cannot follow {}", file.display()))?;
    anyhow::ensure!(!module.entries.is_empty(), "{}: there is no kernel in it", file.display());
    Ok(module)
}

fn ptx(file: &PathBuf) -> anyhow::Result<bool> {
    let mut is_clean = true;
    for entry in module(file)?.entries {
        for divergence::Partial { line, operation, branches } in divergence::partial(&entry) {
            let branches: Vec<_> = branches.iter().map(ToString::to_string).collect();
            say(format_args!(
                "{}:{line}: {}: some threads of a block may reach {operation} without the others, by the branches in \
                 lines {}",
                file.display(),
                entry.name,
                branches.join(", ")
            ));
            is_clean = false;
        }
    }
    Ok(is_clean)
}

fn machine_code(file: &PathBuf) -> anyhow::Result<bool> {
    let parted =
        sass::parted(&read(file)?).with_context(|| format!("cannot follow {}", file.display()))?;
    for sass::Parted { entry, line, instruction, open } in &parted {
        let open: Vec<_> = open.iter().map(|number| format!("B{number}")).collect();
        say(format_args!(
            "{}:{line}: {entry}: {instruction} is reached by parted threads, while {} is open",
            file.display(),
            open.join(", ")
        ));
    }
    Ok(parted.is_empty())
}

/// Tells whether a kernel may have a stack: those of one thread, which looks things up there, and those
/// whose exponential, `libm`'s, writes a word there that nobody reads.
fn may_have_stack(entry: &str) -> bool {
    let kernel = entry.strip_prefix("adaloss_").unwrap_or(entry);
    let decides = ["advance", "describe", "close", "judge", "conclude"].contains(&kernel);
    decides || kernel == "softmax_cross_entropy" || kernel.starts_with("attend_")
}

fn takes(gpu: &str, log: &PathBuf, disassembly: &PathBuf) -> anyhow::Result<bool> {
    let known = Gpu::ALL.map(|gpu| gpu.name).join(", ");
    let gpu = Gpu::ALL.into_iter().find(|of| of.name == gpu);
    let gpu = gpu.with_context(|| format!("this GPU is not known, but {known}"))?;
    let all = machine::taken(&read(log)?, &read(disassembly)?);
    let all = all.with_context(|| format!("cannot read {}", disassembly.display()))?;
    let mut is_clean = true;
    for taken in &all {
        let Taken { entry, registers, shared_bytes, stack_bytes, .. } = taken;
        let Taken { spilled_bytes, instructions, tensor, calls, .. } = taken;
        let sums = ["adaloss_matmul", "adaloss_implicit"];
        let (threads, launched) = match sums.iter().any(|of| entry.starts_with(of)) {
            true => (tensor_cores::THREADS, 4 * tensor_cores::SHARED_WORDS as u32),
            false => (256, 0),
        };
        let shared = shared_bytes + launched;
        let resident = taken.resident_blocks(&gpu, threads, launched);
        say(format_args!(
            "{entry},{},{registers},{shared},{stack_bytes},{spilled_bytes},{resident},{instructions},{tensor},{calls}",
            gpu.name
        ));
        let may = may_have_stack(entry);
        if *spilled_bytes > 0 || *stack_bytes > 0 && !may {
            eprintln!(
                "{entry} on {}: {spilled_bytes} bytes are spilled, of {stack_bytes} of stack",
                gpu.name
            );
            is_clean = false;
        }
    }
    Ok(is_clean)
}

/// How often each synchronising operation stands in a kernel.
fn counts(entry: &Entry) -> String {
    let instructions = || entry.blocks.iter().flat_map(|block| &block.instructions);
    let kinds =
        [("barriers", "bar"), ("shuffles", "shfl"), ("matrices", "ldmatrix"), ("products", "mma")];
    let known =
        kinds.map(|(name, head)| (name, instructions().filter(|of| of.head() == head).count()));
    let all = instructions().filter(|of| of.synchronises()).count();
    let others = all - known.iter().map(|(_, count)| count).sum::<usize>();
    let mut text = known.map(|(name, count)| format!("{name}={count}")).join(" ");
    if others > 0 {
        text += &format!(" others={others}");
    }
    text
}
