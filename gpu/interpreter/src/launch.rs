//! Launches of an entry.

use crate::{
    block,
    code::Code,
    counts::{Counts, Executed},
    error::{Fault, FaultKind, PtxError},
    machine::Machine,
    memory::GlobalMemory,
    module::Entry,
    schedule::{Order, Schedule},
    shared::Shared,
    warp::Warp,
};

/// The most threads that a block can have.
const MOST_THREADS: u32 = 1024;

/// The most blocks that are simulated, one after the other.
const MOST_BLOCKS: u32 = 1 << 24;

/// The most shared memory of a block, in bytes: that of the largest GPUs.
const MOST_SHARED_BYTES: usize = 227 << 10;

/// What a launch passes.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// How many blocks there are, along one axis.
    pub blocks: u32,
    /// How many threads each has.
    pub threads: u32,
    /// What each gets of shared memory beside what the entry has.
    pub dynamic_shared_bytes: usize,
    /// The parameters one behind the other, without what alignment puts between them.
    pub parameters: &'a [u8],
    /// In which order everything happens.
    pub schedule: Schedule,
    /// The most instructions that all warps together may execute.
    pub most_instructions: Option<u64>,
}

impl Entry {
    /// Executes all blocks, one after the other.
    ///
    /// # Errors
    ///
    /// The launch does not fit the entry, or a thread does what it must not.  What was written until then stays.
    pub fn launch(
        &self,
        memory: &mut dyn GlobalMemory,
        launch: &Launch<'_>,
    ) -> Result<Counts, Fault> {
        let code = self.code().map_err(|error| self.of_text(error))?;
        self.check(code, launch).map_err(|what| self.fault(FaultKind::Launch, what))?;
        let shared_bytes = code.shared_bytes + launch.dynamic_shared_bytes;
        let mut machine = Machine {
            code,
            tables: self.tables(),
            memory,
            shared: Shared::new(shared_bytes, code.granule),
            parameters: self.lay_out(launch.parameters),
            sums: launch.schedule.sums,
            noise: launch.schedule.seed,
            counts: Counts::default(),
            executed: vec![Executed::default(); code.instructions.len()],
            budget: launch.most_instructions.unwrap_or(u64::MAX),
        };
        let mut warps = self.take_warps();
        let count = launch.threads.div_ceil(32);
        warps.extend((warps.len() as u32..count).map(|index| Warp::new(code, index)));
        let launched = &mut warps[..count as usize];
        launched.iter_mut().for_each(|warp| warp.launch(code, launch.blocks, launch.threads));
        let mut order = Order::new(launch.schedule.seed);
        for block in order.of(launch.blocks as usize) {
            let block = block as u32;
            machine.shared.begin();
            launched.iter_mut().for_each(|warp| warp.begin(code, block));
            block::run(&mut machine, launched, launch.schedule.divergence, &mut order)
                .map_err(|(stop, warp)| self.placed(code, block, *stop, warp))?;
        }
        self.leave_warps(warps);
        let mut counts = machine.counts;
        for (instruction, &executed) in code.instructions.iter().zip(&machine.executed) {
            counts.add(instruction.class, executed);
        }
        Ok(counts)
    }

    fn check(&self, code: &Code, launch: &Launch<'_>) -> Result<(), String> {
        let &Launch { blocks, threads, dynamic_shared_bytes, parameters, .. } = launch;
        let most = self.most_threads().unwrap_or(MOST_THREADS).min(MOST_THREADS);
        if blocks == 0 || threads == 0 || threads > most {
            return Err(format!("{blocks} blocks of {threads} threads, where {most} are the most"));
        }
        if blocks > MOST_BLOCKS {
            return Err(format!("{blocks} blocks, where {MOST_BLOCKS} are the most"));
        }
        let bytes: usize = self.parameters().iter().map(|parameter| parameter.size).sum();
        if parameters.len() != bytes {
            return Err(format!("{} bytes of parameters and not {bytes}", parameters.len()));
        }
        let shared = code.shared_bytes.saturating_add(dynamic_shared_bytes);
        if shared > MOST_SHARED_BYTES {
            return Err(format!("{shared} bytes of shared memory"));
        }
        Ok(())
    }

    /// Puts parameters where the entry has them.
    fn lay_out(&self, mut parameters: &[u8]) -> Vec<u8> {
        let mut laid_out = Vec::new();
        for parameter in self.parameters() {
            let (these, rest) = parameters.split_at(parameter.size);
            laid_out.resize(parameter.offset, 0);
            laid_out.extend(these);
            parameters = rest;
        }
        laid_out
    }

    fn fault(&self, kind: FaultKind, what: String) -> Fault {
        Fault { kind, line: self.line(), entry: self.name().into(), block: 0, thread: None, what }
    }

    fn of_text(&self, error: PtxError) -> Fault {
        Fault { line: error.line, ..self.fault(FaultKind::Text, error.what) }
    }

    fn placed(
        &self,
        code: &Code,
        block: u32,
        stop: crate::error::Stop,
        warp: Option<u32>,
    ) -> Fault {
        let line = stop.at.map_or(self.line(), |at| code.instructions[at].line as usize);
        let thread = stop.lane.zip(warp).map(|(lane, warp)| 32 * warp + lane);
        Fault { line, block, thread, ..self.fault(stop.kind, stop.what) }
    }
}
