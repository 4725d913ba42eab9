//! The examples in C and C++ are built and run: by each compiler there is, under its sanitizers, under valgrind, and
//! against the library as it is installed.  What is not on this machine is listed as ignored, with the reason.

mod machine;

use std::{path::Path, process::Command};

use libtest_mimic::{Arguments, Failed};
use machine::{Compiler, Machine, check, manifest, trial, which};

/// The digits.
fn data() -> std::path::PathBuf {
    manifest("../examples/datasets/data")
}

/// The examples in C and C++.
fn examples() -> std::path::PathBuf {
    manifest("../examples/c")
}

/// What a sanitizer finds ends the program.
const SANITIZERS: &[&str] =
    &["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];

const C: &str = "-std=c99";
const CPP: &str = "-std=c++17";

/// A program of the examples: its language and files.
struct Program {
    name: &'static str,
    standard: &'static str,
    files: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program { name: "misuse", standard: C, files: &["misuse.c"] },
    Program { name: "corridor", standard: CPP, files: &["corridor.cpp"] },
    Program { name: "device", standard: C, files: &["device.c"] },
    Program { name: "accumulate", standard: C, files: &["accumulate.c"] },
    Program { name: "ranks", standard: C, files: &["ranks.c"] },
    Program { name: "mlp", standard: C, files: &["mlp.c", "digits.c"] },
];

impl Program {
    /// Builds the program in a folder of its own; returns a command that runs it.
    fn build(&self, machine: &Machine, compiler: &Compiler, options: &[&str]) -> Command {
        let program = machine.folder(self.name);
        let mut command = Command::new(compiler.for_standard(self.standard));
        command.arg(self.standard).args(WARNINGS).args(options);
        command.arg("-I").arg(manifest("include"));
        command.args(self.files.iter().map(|file| examples().join(file)));
        command.arg(machine.library("libadaloss.a")).args(["-lm", "-lpthread", "-ldl", "-o"]);
        check(command.arg(&program));
        Command::new(program)
    }

    /// Runs the program to its end, or for a while where it is slow, and looks at what it says.
    fn run(&self, mut command: impl FnMut() -> Command, length: Length) -> Result<(), Failed> {
        if self.name == "device" && length == Length::Short {
            check(command().arg("mistakes"));
            return Ok(());
        }
        if self.name != "mlp" {
            check(&mut command());
            return Ok(());
        }
        let trainings = if length == Length::Short { SHORT } else { TRAININGS };
        for Training { encoding, method, epochs, expected } in trainings {
            let mut command = command();
            let said = check(command.arg(data()).args([encoding, method, epochs]));
            let (accuracy, promises) = figures(&said);
            if accuracy < *expected {
                return Err(format!("less than {expected} %: {said}").into());
            }
            // The method that promises does so at its first visits if at no other.
            if (promises > 0) != (*method == "measured") {
                return Err(format!("unexpected promises: {said}").into());
            }
        }
        Ok(())
    }
}

/// How much of its work a program does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Whole,
    Short,
}

/// What `mlp` is run with, and the accuracy to be expected of it in per cent.
struct Training {
    encoding: &'static str,
    method: &'static str,
    epochs: &'static str,
    expected: f64,
}

const fn training(
    encoding: &'static str,
    method: &'static str,
    epochs: &'static str,
    expected: f64,
) -> Training {
    Training { encoding, method, epochs, expected }
}

/// Once to the end, and every format and method for a while.
const TRAININGS: &[Training] = &[
    training("binary16", "measured", "20", 90.0),
    training("bfloat16", "measured", "2", 70.0),
    training("e5m2", "measured", "2", 70.0),
    training("e4m3", "measured", "2", 70.0),
    training("binary16", "paper", "2", 70.0),
    training("binary16", "backoff", "2", 70.0),
    training("binary16", "none", "2", 70.0),
];

/// Where it is slow, for one epoch.
const SHORT: &[Training] =
    &[training("binary16", "measured", "1", 40.0), training("e4m3", "paper", "1", 40.0)];

/// Reads the accuracy and the promises that `mlp` prints.
fn figures(said: &str) -> (f64, u64) {
    let after = |mark: &str| said.split_once(mark).unwrap_or_else(|| panic!("{said}"));
    let accuracy = after(" % right").0.rsplit(' ').next().unwrap().parse().unwrap();
    let promises = after(" promises kept").0.rsplit(' ').next().unwrap().parse().unwrap();
    (accuracy, promises)
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();

    for family in ["gcc", "clang"] {
        for program in PROGRAMS {
            trials.push(trial(
                format!("{}_with_{family}_and_its_sanitizers", program.name),
                Compiler::find(family),
                |compiler| {
                    let machine = Machine::new();
                    let command = || program.build(&machine, &compiler, SANITIZERS);
                    let built = command().get_program().to_owned();
                    program.run(|| Command::new(&built), Length::Whole)
                },
            ));
        }
        trials.push(trial(
            format!("the_header_is_c_and_cpp_of_every_age_to_{family}"),
            Compiler::find(family),
            header_alone,
        ));
    }
    for program in PROGRAMS {
        let needed = Compiler::find("gcc").and_then(|gcc| Ok((gcc, which(&["valgrind"])?)));
        let name = format!("{}_under_valgrind", program.name);
        trials.push(trial(name, needed, |(gcc, valgrind)| {
            let machine = Machine::new();
            let built = program.build(&machine, &gcc, &["-g", "-O1"]);
            let command = || {
                let mut command = Command::new(&valgrind);
                command.args(["--quiet", "--error-exitcode=99", "--leak-check=full"]);
                command.args(["--show-leak-kinds=all", "--errors-for-leak-kinds=all"]);
                command.arg(built.get_program());
                command
            };
            program.run(command, Length::Short)
        }));
    }
    let pkg_config = Compiler::find("gcc").and_then(|gcc| Ok((gcc, which(&["pkg-config"])?)));
    trials.push(trial("installed_for_pkg_config", pkg_config, |(gcc, pkg_config)| {
        installed_for_pkg_config(&gcc, &pkg_config)
    }));
    trials
        .push(trial("installed_for_cmake", which(&["cmake"]), |cmake| installed_for_cmake(&cmake)));
    let wholly_static = Compiler::find("gcc").and_then(|gcc| {
        let pkg_config = which(&["pkg-config"])?;
        if gcc.links_libc_statically() { Ok((gcc, pkg_config)) } else { Err("needs libc.a".into()) }
    });
    trials.push(trial("installed_for_static_programs", wholly_static, |(gcc, pkg_config)| {
        installed_for_static_programs(&gcc, &pkg_config)
    }));

    libtest_mimic::run(&arguments, trials).exit();
}

/// Nothing but the header, in every standard, with every warning.
fn header_alone(compiler: Compiler) -> Result<(), Failed> {
    let machine = Machine::new();
    for (standard, file) in [
        ("-std=c99", "header.c"),
        ("-std=c11", "header.c"),
        ("-std=c17", "header.c"),
        ("-std=c++11", "header.cpp"),
        ("-std=c++17", "header.cpp"),
        ("-std=c++20", "header.cpp"),
    ] {
        let file = machine.folder(file);
        std::fs::write(&file, "#include <adaloss.h>\n").unwrap();
        let mut command = Command::new(compiler.for_standard(standard));
        command.arg(standard).args(WARNINGS).arg("-fsyntax-only");
        check(command.arg("-I").arg(manifest("include")).arg(file));
    }
    Ok(())
}

/// Installs the library that this test was built with.
fn install(machine: &Machine) -> std::path::PathBuf {
    let prefix = machine.folder("prefix");
    let built = machine.library("libadaloss.a");
    // Folders are named from where the caller is.
    let here = prefix.parent().unwrap();
    let mut command = Command::new(manifest("install.sh"));
    check(command.current_dir(here).arg("prefix").arg(built.parent().unwrap()));
    // What was installed may be moved.
    let moved = machine.folder("moved");
    std::fs::rename(prefix, &moved).unwrap();
    moved
}

fn installed_for_pkg_config(gcc: &Compiler, pkg_config: &Path) -> Result<(), Failed> {
    let machine = Machine::new();
    let prefix = install(&machine);
    for linking in [&["--cflags", "--libs"][..], &["--static", "--cflags", "--libs"]] {
        let mut command = Command::new(pkg_config);
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        let flags = check(command.args(linking).arg("adaloss"));
        let program = machine.folder("misuse");
        let mut command = Command::new(gcc.for_standard(C));
        command.arg(C).arg(examples().join("misuse.c")).args(flags.split_whitespace());
        check(command.arg("-o").arg(&program));
        check(Command::new(&program).env("LD_LIBRARY_PATH", prefix.join("lib")));
    }
    Ok(())
}

/// Without the shared library where it runs: the archive by its name, and no shared library at all.
fn installed_for_static_programs(gcc: &Compiler, pkg_config: &Path) -> Result<(), Failed> {
    let machine = Machine::new();
    let prefix = install(&machine);
    let ask = |question: &[&str]| {
        let mut command = Command::new(pkg_config);
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        check(command.args(question).arg("adaloss")).trim().to_owned()
    };
    let archive = format!(
        "{} {}/libadaloss.a -lpthread -ldl -lm",
        ask(&["--cflags"]),
        ask(&["--variable=libdir"]),
    );
    let whole = format!("-static {}", ask(&["--static", "--cflags", "--libs"]));
    for flags in [archive, whole] {
        let program = machine.folder("misuse");
        let mut command = Command::new(gcc.for_standard(C));
        command.arg(C).arg(examples().join("misuse.c")).args(flags.split_whitespace());
        check(command.arg("-o").arg(&program));
        check(Command::new(&program).env_remove("LD_LIBRARY_PATH"));
    }
    Ok(())
}

fn installed_for_cmake(cmake: &Path) -> Result<(), Failed> {
    let machine = Machine::new();
    let prefix = install(&machine);
    let build = machine.folder("build");
    let mut command = Command::new(cmake);
    command.arg("-S").arg(examples()).arg("-B").arg(&build);
    command.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    // Found by its version, too.
    check(&mut command);
    check(Command::new(cmake).arg("--build").arg(&build));
    check(&mut Command::new(build.join("corridor")));
    check(&mut Command::new(build.join("misuse")));
    check(&mut Command::new(build.join("accumulate")));
    check(&mut Command::new(build.join("ranks")));
    check(&mut Command::new(build.join("device")));
    check(Command::new(build.join("mlp")).arg(data()).args(["e5m2", "measured", "1"]));
    Ok(())
}
