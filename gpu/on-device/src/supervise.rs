//! Parts as processes of their own: each has its limits, and none can hide what another finds.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    results::{INTERRUPTED, NO_TIME, Results, fault},
    rows::Line,
};

/// How often a process is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a process may take to end that was killed: one that waits for a GPU may not end at all.
const DYING: Duration = Duration::from_secs(5);

/// How often a part is begun again behind a row that killed it.
const MOST_RESTARTS: usize = 20;

/// Lines of a process's output that are kept with a row that it did not survive.
const OUTPUT_LINES: usize = 12;

/// What the status of a part begins with whose program is not there.
pub(crate) const CANNOT_RUN: &str = "cannot run ";

/// What a part may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What comes before a process's first row, and each of the part's first rows that prepare the others.
    pub(crate) preparation: Duration,
    /// How many rows those are.
    pub(crate) preparing_rows: usize,
    /// Each row behind them.
    pub(crate) row: Duration,
    /// All of it.
    pub(crate) part: Duration,
}

impl Limits {
    /// Returns how long a process may say nothing that has begun so many rows, after others that were left out.
    fn of(&self, skip: usize, begun: usize) -> Duration {
        if begun == 0 || skip + begun <= self.preparing_rows { self.preparation } else { self.row }
    }
}

/// Runs parts, until it is told to end or the time is up.
pub(crate) struct Supervisor<'a> {
    pub(crate) results: Results,
    /// Where rows and outputs are kept while parts run.
    pub(crate) folder: &'a Path,
    /// When everything has to be over.
    pub(crate) until: Instant,
    /// Set when the program is told to end.
    pub(crate) interrupted: &'a AtomicBool,
}

/// How a process ended.
enum Ended {
    Exit(ExitStatus),
    /// A row took too long.
    Row(Duration),
    /// The part did.
    Part,
    Interrupted,
}

/// What a process wrote down before it ended.
#[derive(Default)]
struct Progress {
    /// Rows that were begun.
    begun: usize,
    /// The row that was begun and is not there.
    in_flight: Option<String>,
    /// The last row met an error, after which a process ends.
    has_failed: bool,
}

impl Supervisor<'_> {
    /// Tells whether there is no time for anything more, or nobody wants it.
    pub(crate) fn is_over(&self) -> Option<&'static str> {
        if self.interrupted.load(Relaxed) {
            Some(INTERRUPTED)
        } else if Instant::now() >= self.until {
            Some(NO_TIME)
        } else {
            None
        }
    }

    /// Notes that a part cannot be run here.
    pub(crate) fn leave_out(&mut self, part: &str, why: &str) -> anyhow::Result<()> {
        say(format_args!("{part}: not run: {why}"));
        self.results.open(part)?;
        self.results.close(part, &format!("not run: {why}"), 0.0)
    }

    /// Runs a part, again behind each row that it does not survive; `command` makes its process, from the file for
    /// its rows and the number of those to leave out.
    pub(crate) fn run(
        &mut self,
        part: &str,
        limits: Limits,
        mut command: impl FnMut(&Path, usize) -> Command,
    ) -> anyhow::Result<()> {
        self.results.open(part)?;
        let began = Instant::now();
        if let Some(why) = self.is_over() {
            return self.results.close(part, &format!("not run: {why}"), 0.0);
        }
        let until = self.until.min(began + limits.part);
        let mut skip = 0;
        let mut status = None;
        for attempt in 0..=MOST_RESTARTS {
            let rows = self.folder.join(format!("{part}-{attempt}.rows"));
            let output = self.folder.join(format!("{part}-{attempt}.txt"));
            let mut child = match spawn(command(&rows, skip), &output) {
                Ok(child) => child,
                Err(error) => {
                    status = Some(format!("{error:#}"));
                    break;
                }
            };
            let (ended, progress) = self.watch(part, &mut child, &rows, (limits, skip), until)?;
            skip += progress.begun;
            let why = match ended {
                Ended::Exit(exit) if exit.success() && progress.in_flight.is_none() => {
                    status = Some("done".to_owned());
                    break;
                }
                Ended::Exit(exit) => exit.to_string(),
                Ended::Row(took) => format!("killed after {:.0} s", took.as_secs_f64()),
                Ended::Part => format!("cut off after {:.0} s", began.elapsed().as_secs_f64()),
                Ended::Interrupted => "interrupted".into(),
            };
            if let Some(name) = progress.in_flight {
                say(format_args!("{part}: {name}: {why}"));
                self.results
                    .add(part, json!({ "row": name, "failed": why, "output": tail(&output) }))?;
            } else if progress.begun == 0 {
                let said = tail(&output);
                status = Some(format!("failed before its first row: {why}: {}", said.trim_end()));
            } else if !progress.has_failed {
                let output = tail(&output);
                let row =
                    json!({ "row": "the end of the process", "failed": why, "output": output });
                self.results.add(part, row)?;
            }
            match ended {
                Ended::Part | Ended::Interrupted => status = Some(why),
                _ if Instant::now() >= until => status = Some("cut off".into()),
                _ => {}
            }
            if status.is_some() {
                break;
            }
        }
        let status = status.unwrap_or_else(|| format!("given up after {MOST_RESTARTS} restarts"));
        if status != "done" {
            say(format_args!("{part}: {status}"));
        }
        self.results.close(part, &status, began.elapsed().as_secs_f64())
    }

    /// Waits for a process, and takes over its rows as they come.
    fn watch(
        &mut self,
        part: &str,
        child: &mut Process,
        rows: &Path,
        (limits, skip): (Limits, usize),
        until: Instant,
    ) -> anyhow::Result<(Ended, Progress)> {
        let mut reader = Reader::default();
        let mut progress = Progress::default();
        let mut last = Instant::now();
        loop {
            // In this order, so that what a process wrote last is not missed.
            let exit = child.0.try_wait().context("cannot look at a process")?;
            if self.take(part, reader.lines(rows)?, &mut progress)? {
                last = Instant::now();
            }
            let ended = if let Some(exit) = exit {
                return Ok((Ended::Exit(exit), progress));
            } else if self.interrupted.load(Relaxed) {
                Ended::Interrupted
            } else if Instant::now() >= until {
                Ended::Part
            } else if last.elapsed() >= limits.of(skip, progress.begun) {
                Ended::Row(last.elapsed())
            } else {
                thread::sleep(PAUSE);
                continue;
            };
            child.kill();
            // It may have come to the end of a row at the last moment.
            self.take(part, reader.lines(rows)?, &mut progress)?;
            return Ok((ended, progress));
        }
    }

    /// Takes over what a process wrote down; returns whether there was anything.
    fn take(
        &mut self,
        part: &str,
        lines: Vec<Line>,
        progress: &mut Progress,
    ) -> anyhow::Result<bool> {
        let is_any = !lines.is_empty();
        for line in lines {
            match line {
                Line::Begin(name) => {
                    progress.begun += 1;
                    progress.in_flight = Some(name);
                }
                Line::Row(row) => {
                    progress.in_flight = None;
                    progress.has_failed = row["error"].is_string();
                    say(format_args!("{part}: {}", summary(&row)));
                    self.results.add(part, row)?;
                }
            }
        }
        Ok(is_any)
    }
}

/// Says a line on standard error; nothing is lost if nobody reads it.
fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A process, which does not outlive its name here.
struct Process(Child);

impl Process {
    /// Kills it and its children, and waits for its end, but not for ever.
    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) =
            i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.kill();
        let until = Instant::now() + DYING;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Starts a process that takes its children along when it is killed.
fn spawn(mut command: Command, output: &Path) -> anyhow::Result<Process> {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let file =
        File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
    let both = file.try_clone().context("cannot share a file")?;
    command.stdin(Stdio::null()).stdout(file).stderr(both);
    let child = command.spawn();
    child.map(Process).with_context(|| format!("{CANNOT_RUN}{}", command.get_program().display()))
}

/// A file that grows.
#[derive(Default)]
struct Reader {
    read: u64,
    rest: String,
}

impl Reader {
    /// Returns the lines that have come; a file that is not there yet has none.
    fn lines(&mut self, path: &Path) -> anyhow::Result<Vec<Line>> {
        let Ok(mut file) = File::open(path) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.read)).context("cannot read rows")?;
        let mut bytes = Vec::new();
        self.read += file.read_to_end(&mut bytes).context("cannot read rows")? as u64;
        self.rest += &String::from_utf8_lossy(&bytes);
        let complete = self.rest.rfind('\n').map_or(0, |at| at + 1);
        let lines = self.rest[..complete].lines().filter_map(Line::parse).collect();
        self.rest.drain(..complete);
        Ok(lines)
    }
}

/// Returns the last lines of an output.
fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(OUTPUT_LINES)..].join("\n")
}

/// Says what a row has found, in a line.
fn summary(row: &Value) -> String {
    let name = row["row"].as_str().unwrap_or_default();
    if let Some((kind, what)) = fault(row) {
        return format!("{name}: {kind}: {what}");
    }
    match row["ms"].as_f64() {
        Some(ms) => format!("{name}: {ms:.4} ms"),
        None => name.into(),
    }
}
