//! The boards print what the host prints: firmware is built and run in QEMU. What is not on this machine is listed as
//! ignored, with the reason.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use adaloss_firmware::POLICIES;
use adaloss_firmware_host::{record, trained, walk};
use libtest_mimic::{Arguments, Failed, Trial};

/// A board, as QEMU has it.
struct Board {
    name: &'static str,
    target: &'static str,
    emulator: &'static str,
    machine: &'static [&'static str],
    /// Where programs in C run, which take more stack.
    machine_for_c: &'static [&'static str],
    /// What it has the memory for.
    programs: &'static [&'static str],
}

const BOARDS: [Board; 3] = [
    Board {
        name: "Cortex-M4F",
        target: "thumbv7em-none-eabihf",
        emulator: "qemu-system-arm",
        machine: &["-machine", "mps2-an386"],
        machine_for_c: &["-machine", "mps2-an386"],
        programs: &["walk", "train", "conform"],
    },
    Board {
        name: "Cortex-M0",
        target: "thumbv6m-none-eabi",
        emulator: "qemu-system-arm",
        machine: &["-machine", "microbit"],
        machine_for_c: &["-machine", "lm3s6965evb", "-cpu", "cortex-m0"],
        programs: &["walk"],
    },
    Board {
        name: "rv32imac",
        target: "riscv32imac-unknown-none-elf",
        emulator: "qemu-system-riscv32",
        machine: &["-machine", "virt", "-bios", "none"],
        machine_for_c: &["-machine", "virt", "-bios", "none"],
        programs: &["walk", "train", "conform"],
    },
];

/// Steps that are recorded, of five tensors each.
const STEPS: u32 = 210;
/// As often as the program of the board does.
const EPOCHS: u32 = 10;
/// What ends a board that hangs.
const PATIENCE: Duration = Duration::from_secs(600);

impl Board {
    /// Builds the programs; returns the folder they are in, or why they cannot be built here.
    ///
    /// # Panics
    ///
    /// They do not compile.
    fn build(&self, of: &str, programs: &[&str]) -> Result<PathBuf, String> {
        let mut build = Command::new(package("../build.sh"));
        build.args([of, self.target]).args(programs.iter().flat_map(|name| ["--bin", name]));
        self.built_by(build)
    }

    /// Builds the programs in C, in the same way.
    fn build_c(&self) -> Result<PathBuf, String> {
        let mut build = Command::new(package("../c/build.sh"));
        build.arg(self.target);
        self.built_by(build)
    }

    fn built_by(&self, mut build: Command) -> Result<PathBuf, String> {
        let output = build.output().map_err(|error| format!("build.sh: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(3) {
            return Err(said.trim().to_owned());
        }
        assert!(output.status.success(), "{}: {said}", self.name);
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    }

    /// Runs a program in a folder, where it finds its files; returns what it prints.
    fn run(&self, folder: &Path, program: &Path, argument: &str) -> Result<String, Failed> {
        self.run_on(self.machine, folder, program, argument)
    }

    fn run_on(
        &self,
        machine: &[&str],
        folder: &Path,
        program: &Path,
        argument: &str,
    ) -> Result<String, Failed> {
        let name = program.file_name().unwrap_or_default().display();
        let semihosting = format!("enable=on,target=native,arg={name},arg={argument}");
        let mut board = Command::new(self.emulator)
            .args(machine)
            .args(["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config"])
            .arg(semihosting)
            .arg("-kernel")
            .arg(program)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Both are read while it runs: a full pipe would stop it.
        let mut out = board.stdout.take().ok_or("piped")?;
        let mut error = board.stderr.take().ok_or("piped")?;
        let out = thread::spawn(move || std::io::read_to_string(&mut out));
        let error = thread::spawn(move || std::io::read_to_string(&mut error));
        let begin = Instant::now();
        let status = loop {
            match board.try_wait()? {
                Some(status) => break status,
                None if begin.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
                None => board.kill()?,
            }
        };
        let (out, error) = (out.join().unwrap()?, error.join().unwrap()?);
        if status.success() { Ok(out) } else { Err(format!("{status}: {error}\n{out}").into()) }
    }
}

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns an error that shows the first line in which a board differs.
fn same(board: &str, host: &str) -> Result<(), Failed> {
    for (nth, (board, host)) in board.lines().zip(host.lines()).enumerate() {
        if board != host {
            return Err(format!("line {}\n    board: {board}\n     host: {host}", nth + 1).into());
        }
    }
    if board == host { Ok(()) } else { Err("one prints more lines than the other".into()) }
}

/// Whether a program that is needed is on this machine.
fn has(program: &str) -> Result<(), String> {
    let output = Command::new(program).arg("--version").output();
    output.map(drop).map_err(|_| format!("there is no {program}"))
}

/// A test, ignored with the reason in its name where something is missing.
fn trial(
    name: String,
    needed: &Result<Arc<PathBuf>, String>,
    test: impl FnOnce(&Path) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    match needed {
        Ok(folder) => {
            let folder = Arc::clone(folder);
            Trial::test(name, move || test(&folder))
        }
        Err(reason) => Trial::test(format!("{name} ({reason})"), || Ok(())).with_ignored_flag(true),
    }
}

/// Whether this is what the first program prints.
fn is_first(said: &str) -> Result<(), Failed> {
    let lines: Vec<&str> = said.lines().collect();
    match lines[..] {
        [ref layers @ .., "the optimizer may step"]
            if layers.len() == 3 && layers.iter().all(|line| line.starts_with("layer ")) =>
        {
            Ok(())
        }
        _ => Err(said.into()),
    }
}

/// Types the commands of docs/linking.md for firmware in C, but for those that install programs and the one that builds
/// the library, which is in the folder `built`; returns what the board prints.
fn as_the_chapter_says(built: &Path) -> Result<String, Failed> {
    let chapter = std::fs::read_to_string(package("../../../docs/linking.md"))?;
    let chapter = chapter.split_once("\n## In firmware, in C\n").ok_or("a chapter")?.1;
    let commands = chapter.split("```sh\n").skip(2).filter_map(|rest| rest.split("```").next());
    let commands = commands.flat_map(str::lines).filter(|line| !line.starts_with("sudo "));
    let mut script = String::new();
    for line in commands {
        script.extend([line, "\n"]);
        if line.contains("&& cd first") {
            // What the chapter shows between these commands.
            script.extend(["cp '", &package("../c/first.c").display().to_string(), "' .\n"]);
        }
    }
    let home = tempfile::tempdir()?;
    let release = home.path().join("adaloss/target/thumbv7em-none-eabihf/release");
    std::fs::create_dir_all(&release)?;
    std::fs::copy(built.join("libadaloss.a"), release.join("libadaloss.a"))?;
    for folder in ["capi", "examples"] {
        let real = package("../../..").join(folder).canonicalize()?;
        std::os::unix::fs::symlink(real, home.path().join("adaloss").join(folder))?;
    }
    let mut shell = Command::new("timeout");
    shell.arg(PATIENCE.as_secs().to_string()).args(["bash", "-euc", &script]);
    let output = shell.current_dir(home.path().join("adaloss")).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said) } else { Err(format!("{said}\n{complained}").into()) }
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let here = tempfile::tempdir().expect("a folder for the record");
    let layers: Arc<Vec<u8>> = Arc::new(record(STEPS).expect("a record"));
    std::fs::write(here.path().join("record"), &*layers).expect("the record is written");
    for board in &BOARDS {
        let emulator = has(board.emulator);
        let in_rust = emulator.clone().and_then(|()| board.build("adaloss-board", board.programs));
        let in_c = emulator.and_then(|()| board.build_c());
        for (language, machine, built) in
            [("", board.machine, in_rust), (" in C", board.machine_for_c, in_c)]
        {
            let built = built.map(Arc::new);
            for policy in POLICIES {
                let (layers, here) = (Arc::clone(&layers), here.path().to_owned());
                let name = format!("{} walks with {policy}{language}", board.name);
                trials.push(trial(name, &built, move |folder| {
                    let host = walk(&layers, policy)?;
                    let visits = host.lines().filter(|line| line.contains(" elements")).count();
                    if visits < 1000 {
                        return Err(format!("{visits} layers are too few").into());
                    }
                    same(&board.run_on(machine, &here, &folder.join("walk"), policy)?, &host)
                }));
            }
            if board.programs.contains(&"conform") {
                let here = here.path().to_owned();
                let name = format!("{} conforms{language}", board.name);
                trials.push(trial(name, &built, move |folder| {
                    let said = board.run_on(machine, &here, &folder.join("conform"), "")?;
                    let agreed =
                        said.lines().filter(|line| line.contains(" operations agree")).count();
                    // Memory, and what an accelerator without products has.
                    if agreed == 2 { Ok(()) } else { Err(said.into()) }
                }));
            }
            if language.is_empty() && board.programs.contains(&"train") {
                let here = here.path().to_owned();
                trials.push(trial(format!("{} trains", board.name), &built, move |folder| {
                    let host = trained(EPOCHS)?;
                    same(&board.run(&here, &folder.join("train"), "")?, &host)
                }));
            }
        }
    }
    trials.push(Trial::test("the chapter has the first programs", || {
        let chapter = std::fs::read_to_string(package("../../../docs/linking.md"))?;
        for (language, program) in [("rs", "../first/src/main.rs"), ("c", "../c/first.c")] {
            let program = std::fs::read_to_string(package(program))?;
            if !chapter.contains(&format!("```{language}\n{program}```\n")) {
                return Err(format!("docs/linking.md shows another program in {language}").into());
            }
        }
        Ok(())
    }));
    let [board, small, _] = &BOARDS;
    let linked = has(board.emulator).and_then(|()| board.build_c());
    trials.push(trial(
        "the chapter's commands run the program in C".into(),
        &linked.map(Arc::new),
        |folder| is_first(&as_the_chapter_says(folder.parent().ok_or("it is in a folder")?)?),
    ));
    let emulator = has(board.emulator);
    let in_rust = emulator.clone().and_then(|()| board.build("adaloss-first", &[]));
    let in_c = emulator.clone().and_then(|()| board.build_c());
    // In 16 KiB of RAM, where a stack that grows too deep writes over what the program prints.
    let in_little = emulator.and_then(|()| small.build_c());
    for (name, board, built, program) in [
        ("the first program runs", board, in_rust, "adaloss-first"),
        ("the first program in C runs", board, in_c, "first"),
        ("the first program in C runs in little memory", small, in_little, "first"),
    ] {
        let here = here.path().to_owned();
        trials.push(trial(name.to_owned(), &built.map(Arc::new), move |folder| {
            is_first(&board.run(&here, &folder.join(program), "")?)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}
