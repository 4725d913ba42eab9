//! Many runs side by side, one on each core.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use adaloss_train::{
    console,
    data::Dataset,
    layer::Machine,
    results::{Results, RunReport},
    task::Task,
    trainer::{Measurements, Settings, Trainer},
};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;

use super::{
    interrupt::{Interrupt, Interrupted},
    machine::{DeviceName, Job, MOST_THREADS, dispatch},
    steps_bar,
    stored::Store,
};

/// One run to be done.
pub(super) struct Planned<'a> {
    pub(super) task: &'a Task,
    pub(super) dataset: &'a dyn Dataset,
    pub(super) settings: Settings,
}

impl Planned<'_> {
    fn name(&self) -> String {
        let Settings { format, method, seed, .. } = self.settings;
        format!("{} in {format} by {method}, seed {seed}", self.task.name)
    }

    fn steps(&self) -> u64 {
        self.task.schedule.steps(self.dataset)
    }
}

/// How runs are done.
pub(super) struct How<'a> {
    pub(super) measurements: Measurements,
    /// Runs at a time, if not one per core.
    pub(super) jobs: Option<usize>,
    /// Where runs are stored when they end.
    pub(super) store: Option<&'a Store>,
    /// Whether what is stored is done again.
    pub(super) again: bool,
}

/// What came of a plan.
pub(super) struct Done {
    /// In the order of the plan, from which those are missing that an interrupt has ended.
    pub(super) runs: Vec<RunReport>,
    /// How many of them were done before.
    pub(super) before: usize,
}

/// Runs on every core, one run each, and begins them in the order of the plan.
///
/// `ended` sees after each run which ones there are, at their places in the plan, and returns what is to be said of it.
///
/// # Errors
///
/// A run is impossible, which is found before any is begun; one failed; or an interrupt came before any had ended.
pub(super) fn run_all(
    plan: &[Planned<'_>],
    how: &How<'_>,
    mut ended: impl FnMut(&[Option<RunReport>]) -> Option<String> + Send,
) -> Result<Done> {
    ensure!(!plan.is_empty(), "no run is planned: give at least one task, method and seed");
    ensure!(
        how.jobs.is_none_or(|jobs| (1..=MOST_THREADS).contains(&jobs)),
        "runs at a time have to be 1 to {MOST_THREADS}"
    );
    // Everything is checked before anything is run.
    for Planned { task, dataset, settings } in plan {
        task.schedule.check(*dataset)?;
        settings.method.config(settings.format.0, settings.period)?;
    }
    let runner = Runner { plan, how, bar: bar(plan)?, interrupt: Interrupt::watch()? };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(how.jobs.unwrap_or(0)).build()?;
    let (next, before) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let has_failed = AtomicBool::new(false);
    let all = Mutex::new((vec![None; plan.len()], &mut ended));
    // One by one and in order: the first tables are complete first.
    let work = || -> Result<()> {
        while !has_failed.load(Relaxed) {
            let index = next.fetch_add(1, Relaxed);
            let Some(planned) = plan.get(index) else { break };
            let Some((run, was_before)) = runner.run(planned)? else { break };
            before.fetch_add(usize::from(was_before), Relaxed);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let (runs, ended) = &mut *all;
            runs[index] = Some(run);
            runner.say(planned, runs, index, was_before);
            if let Some(text) = ended(runs) {
                runner.bar.suspend(|| console::say(format_args!("{text}")));
            }
        }
        Ok(())
    };
    let worked = pool.broadcast(|_| {
        let worked = work();
        has_failed.fetch_or(worked.is_err(), Relaxed);
        worked
    });
    runner.bar.finish_and_clear();
    worked.into_iter().collect::<Result<()>>()?;
    let (runs, _) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let runs: Vec<_> = runs.into_iter().flatten().collect();
    if runs.is_empty() {
        return Err(Interrupted).context("no run has ended");
    }
    Ok(Done { runs, before: before.into_inner() })
}

fn bar(plan: &[Planned<'_>]) -> Result<ProgressBar> {
    let bar = steps_bar(plan.iter().map(Planned::steps).sum())?;
    bar.set_message(format!("{} runs", plan.len()));
    Ok(bar)
}

struct Runner<'a> {
    plan: &'a [Planned<'a>],
    how: &'a How<'a>,
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Runner<'_> {
    /// Does a run, or finds it done before, which the second value tells; returns none after an interrupt.
    fn run(&self, planned: &Planned<'_>) -> Result<Option<(RunReport, bool)>> {
        let &Planned { task, dataset, settings } = planned;
        let measurements = self.how.measurements;
        let key =
            self.how.store.map(|store| (store, store.key(task, dataset, settings, measurements)));
        let before = key.as_ref().filter(|_| !self.how.again);
        if let Some(run) = before.and_then(|(store, key)| store.get(key)) {
            self.bar.inc(planned.steps());
            return Ok(Some((run, true)));
        }
        if self.interrupt.is_set() {
            return Ok(None);
        }
        // Runs side by side have one thread each; a run is the same with any number.
        let job = WholeRun { planned, measurements, bar: &self.bar, interrupt: &self.interrupt };
        let run = match dispatch(DeviceName::Cpu, 1, &settings, job) {
            Err(error) if error.is::<Interrupted>() => return Ok(None),
            other => other.with_context(|| planned.name())?,
        };
        if let Some((store, key)) = &key {
            store.put(key, &run);
        }
        Ok(Some((run, false)))
    }

    /// Says that a run has ended, where no bar shows it.
    fn say(
        &self,
        planned: &Planned<'_>,
        runs: &[Option<RunReport>],
        index: usize,
        was_before: bool,
    ) {
        if let (true, Some(run)) = (self.bar.is_hidden(), &runs[index]) {
            console::note(format_args!(
                "{} of {}: {}: {:.1} %{}",
                runs.iter().flatten().count(),
                self.plan.len(),
                planned.name(),
                100.0 * run.metric,
                if was_before { ", done before" } else { "" },
            ));
        }
    }
}

struct WholeRun<'a> {
    planned: &'a Planned<'a>,
    measurements: Measurements,
    bar: &'a ProgressBar,
    interrupt: &'a Interrupt,
}

impl Job for WholeRun<'_> {
    type Output = RunReport;

    fn run<D, W, G>(self, device: D) -> Result<RunReport>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G> + Machine<W, f32> + Clone + Send + Sync,
    {
        let &Planned { task, dataset, settings } = self.planned;
        let trainer = Trainer::<D, W, G>::new(task, dataset, settings, device.clone())?;
        let mut shown = 0;
        let mut show = |done| {
            self.bar.inc(done - shown);
            shown = done;
        };
        let report = trainer.run(self.measurements, device, |done| {
            show(done);
            self.interrupt.check()
        })?;
        show(self.planned.steps());
        Ok(report)
    }
}

/// Returns what does not depend on the runs; the memory is the most so far.
pub(super) fn this_machine(jobs: Option<usize>) -> Results {
    Results {
        version: Results::VERSION,
        adaloss: env!("CARGO_PKG_VERSION").into(),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        command: command_line(),
        threads: jobs.unwrap_or_else(rayon::current_num_threads),
        peak_memory_bytes: peak_memory(),
        ..Results::default()
    }
}

/// Returns the arguments as far as they are text.
fn command_line() -> String {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    arguments.join(" ")
}

/// Returns the peak resident memory from Linux's process file system.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}
