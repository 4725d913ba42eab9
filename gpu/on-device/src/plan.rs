//! How parts are run: in processes of this program's own, under NVIDIA's tools, or beside PyTorch.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use serde_json::json;

use crate::{
    Options,
    part::Part,
    peers,
    results::{PROBE_OF, Results},
    supervise::{CANNOT_RUN, Supervisor},
    tools,
};

/// What the processes of all parts have in common.
pub(crate) struct Plan<'a> {
    /// This program.
    program: PathBuf,
    /// What the driver has compiled, in the first part, for all others to find.
    cache: PathBuf,
    /// The file for the results.
    results: &'a Path,
    options: &'a Options,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        supervisor: &Supervisor<'_>,
        results: &'a Path,
        options: &'a Options,
    ) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot find this program")?;
        Ok(Self { program, cache: supervisor.folder.join("cache"), results, options })
    }

    /// Runs a part.
    pub(crate) fn run(&self, supervisor: &mut Supervisor<'_>, part: Part) -> anyhow::Result<()> {
        if let Some(why) = supervisor.is_over() {
            return supervisor.leave_out(&part.name(), why);
        }
        match part {
            Part::Memcheck | Part::Synccheck | Part::Racecheck => self.sanitize(supervisor, part),
            Part::Profile => self.profile(supervisor),
            Part::Peers => self.beside_torch(supervisor),
            _ => {
                supervisor.run(&part.name(), part.limits(self.options), |rows, skip| {
                    self.process(part, rows, skip)
                })?;
                if part == Part::Load {
                    identify(&mut supervisor.results);
                }
                supervisor.results.save()
            }
        }
    }

    /// Returns a process of this program that runs a part.
    fn process(&self, part: Part, rows: &Path, skip: usize) -> Command {
        let mut command = self.under(Command::new(&self.program), part, rows, skip);
        command.arg("--dies-with-parent");
        command
    }

    /// Lets a command, which ends in this program, run a part.
    fn under(&self, mut command: Command, part: Part, rows: &Path, skip: usize) -> Command {
        command.arg("part").arg(part.name()).arg(rows).arg(skip.to_string());
        command.args(["--elements", &self.options.elements().to_string()]);
        if self.options.trial {
            command.arg("--trial");
        }
        command.env("CUDA_CACHE_PATH", &self.cache);
        command
    }

    /// Runs every entry point under a tool of compute-sanitizer, which has the part's name.
    fn sanitize(&self, supervisor: &mut Supervisor<'_>, part: Part) -> anyhow::Result<()> {
        let (name, folder) = (part.name(), supervisor.folder);
        if !self.works(supervisor, part, "compute-sanitizer", &["--tool", &name])? {
            return Ok(());
        }
        let mut logs = Vec::new();
        supervisor.run(&name, part.limits(self.options), |rows, skip| {
            let log = folder.join(format!("{name}-{skip}.log"));
            let mut command = Command::new("compute-sanitizer");
            command
                .args(["--tool", &name, "--error-exitcode", "9", "--log-file"])
                .arg(&log)
                .arg(&self.program);
            logs.push(log);
            self.under(command, Part::Load, rows, skip)
        })?;
        let logs = logs.iter().map(|log| fs::read_to_string(log).unwrap_or_default());
        supervisor.results.add(&name, tools::sanitized(logs))
    }

    /// Lets ncu measure six kernels.
    fn profile(&self, supervisor: &mut Supervisor<'_>) -> anyhow::Result<()> {
        let (name, folder) = (Part::Profile.name(), supervisor.folder);
        if !self.works(
            supervisor,
            Part::Profile,
            "ncu",
            &["--clock-control", "none", "--set", "basic"],
        )? {
            return Ok(());
        }
        let mut logs = Vec::new();
        supervisor.run(&name, Part::Profile.limits(self.options), |rows, skip| {
            let log = folder.join(format!("{name}-{skip}.csv"));
            let mut command = Command::new("ncu");
            // The clocks stay what they are: they are not ours. What is narrowed first is an operand.
            command.args(["--clock-control", "none", "--launch-skip", "1", "--set", "full"]);
            command.args(["--csv", "--page", "raw", "--log-file"]);
            command.arg(&log).arg(&self.program);
            logs.push(log);
            self.under(command, Part::Kernels, rows, skip)
        })?;
        for log in logs {
            let row = match tools::profiled(&log) {
                Ok(kernels) => json!({ "row": "counters", "kernels": kernels }),
                Err(error) => json!({ "row": "counters", "error": format!("{error:#}") }),
            };
            supervisor.results.add(&name, row)?;
        }
        Ok(())
    }

    /// Lets PyTorch do what serves the same purposes, where it sees a GPU.
    fn beside_torch(&self, supervisor: &mut Supervisor<'_>) -> anyhow::Result<()> {
        let sees = ["-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"];
        let probe = |_: &Path, _| {
            let mut command = Command::new("python3");
            command.args(sees);
            command
        };
        if let Err(why) = self.probe(supervisor, Part::Peers, probe)? {
            let why = why.unwrap_or("PyTorch is missing, or sees no GPU");
            return supervisor.leave_out(&Part::Peers.name(), why);
        }
        let script = supervisor.folder.join("peers.py");
        fs::write(&script, peers::PROGRAM).context("cannot write the program for PyTorch")?;
        supervisor.run(&Part::Peers.name(), Part::Peers.limits(self.options), |rows, skip| {
            let mut command = Command::new("python3");
            command.arg(&script).arg(self.results).arg(rows).arg(skip.to_string());
            command
        })?;
        let ratios = peers::ratios(&supervisor.results);
        supervisor.results.set("ratios", ratios);
        supervisor.results.save()
    }

    /// Tries whether a tool works with this GPU, which takes a second or so; notes it where it does not.
    fn works(
        &self,
        supervisor: &mut Supervisor<'_>,
        part: Part,
        tool: &str,
        arguments: &[&str],
    ) -> anyhow::Result<bool> {
        let works = self.probe(supervisor, part, |rows, skip| {
            let mut command = Command::new(tool);
            command.args(arguments).arg(&self.program);
            self.under(command, Part::Probe, rows, skip)
        })?;
        let Err(why) = works else { return Ok(true) };
        let status = &supervisor.results.part(&probe_of(part))["status"];
        let is_missing = status.as_str().is_some_and(|status| status.starts_with(CANNOT_RUN));
        let what = if is_missing { "is not installed" } else { "does not work with this GPU" };
        supervisor.leave_out(&part.name(), why.unwrap_or(&format!("{tool} {what}")))?;
        Ok(false)
    }

    /// Runs what tries whether a part can be run; otherwise there may be a reason that has nothing to do with it.
    fn probe(
        &self,
        supervisor: &mut Supervisor<'_>,
        part: Part,
        command: impl FnMut(&Path, usize) -> Command,
    ) -> anyhow::Result<Result<(), Option<&'static str>>> {
        let name = probe_of(part);
        supervisor.run(&name, Part::Probe.limits(self.options), command)?;
        let works = supervisor.results.part(&name)["status"] == "done";
        Ok(if works { Ok(()) } else { Err(supervisor.is_over()) })
    }
}

/// Returns the name of what tries whether a part can be run.
fn probe_of(part: Part) -> String {
    format!("{PROBE_OF}{}", part.name())
}

/// Says at the top of the results what was measured.
fn identify(results: &mut Results) {
    if let Some(row) = results.row("load", "device").cloned() {
        for (name, key) in [
            ("device", "name"),
            ("driver", "driver"),
            ("capability", "capability"),
            ("cuda", "cuda"),
        ] {
            results.set(name, row[key].clone());
        }
    }
}

/// Returns a table of what each part came to.
pub(crate) fn summary(results: &Results) -> String {
    let mut table = format!("{:<22} {:>6} {:>9}  {}\n", "part", "rows", "seconds", "status");
    for of in results.parts() {
        let text = |key: &str| of[key].as_str().unwrap_or_default();
        let rows = of["rows"].as_array().map_or(0, Vec::len);
        let seconds = of["seconds"].as_f64().unwrap_or(0.0);
        table += &format!("{:<22} {rows:>6} {seconds:>9.1}  {}\n", text("part"), text("status"));
    }
    table
}
