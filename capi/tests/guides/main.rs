//! What the guides show is copied out, compiled and run; and no block of code is in a document that no test has.
//! What is not on this machine is listed as ignored, with the reason.
//!
//! Blocks of Rust are documentation tests of a crate that includes the document. The table has all others.

mod blocks;
#[path = "../c/machine.rs"]
mod machine;

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use blocks::{By, Covered, faults, root, shown};
use libtest_mimic::{Arguments, Failed, Trial};
use machine::{Compiler, Machine, check, manifest, trial, which};

const LINKING: &str = "docs/linking.md";
const TORCH: &str = "examples/torch/README.md";
const TORCH_DOCS: &str = "examples/torch/docs/";
const PORTING: &str = "docs/porting.md";
const RANKS: &str = "docs/ranks.md";

const FOR_C: &str = "the_guide_for_c_and_cpp_as_it_stands";
const FOR_RANKS: &str = "the_guide_for_ranks_in_c_as_it_stands";
const README_FOR_C: &str = "the_readme_for_c_as_it_stands";
const FOR_RUST: &str = "the_guide_for_rust_as_it_stands";
const FOR_DEVICES: &str = "the_guide_for_devices_as_it_stands";

const fn covered(
    file: &'static str,
    heading: &'static str,
    language: &'static str,
    by: By,
) -> Covered {
    Covered { file, heading, language, by }
}

/// The first that fits counts.
const TABLE: &[Covered] = &[
    covered("README.md", "In your own runtime", "sh", By::Trial(README_FOR_C)),
    covered("README.md", "", "sh", By::Test("examples/train/tests/train/readme.rs")),
    covered(LINKING, "Install for C and C++", "sh", By::Trial(FOR_C)),
    covered(LINKING, "Install for C and C++", "cmake", By::Trial(FOR_C)),
    covered(LINKING, "In C", "c", By::Trial(FOR_C)),
    covered(LINKING, "A device of your own", "sh", By::Trial(FOR_C)),
    covered(LINKING, "In C++", "cpp", By::Trial(FOR_C)),
    covered(LINKING, "In C++", "sh", By::Trial(FOR_C)),
    covered(LINKING, "In Rust", "sh", By::Trial(FOR_RUST)),
    covered(LINKING, "In firmware, in Rust", "rs", By::Same("examples/firmware/first/src/main.rs")),
    covered(LINKING, "In firmware, in Rust", "sh", By::None(INSTALLS)),
    covered(LINKING, "In firmware, in C", "c", By::Same("examples/firmware/c/first.c")),
    covered(LINKING, "In firmware, in C", "sh", By::Test("examples/firmware/host/tests/boards.rs")),
    covered(RANKS, "Your engine, in C", "c", By::Trial(FOR_RANKS)),
    covered(RANKS, "Your engine, in C", "sh", By::Trial(FOR_RANKS)),
    covered(RANKS, "What it costs", "sh", By::Test("hal/threads/tests/threads/model.rs")),
    covered(RANKS, "Measured", "sh", By::None("./ci.sh mpi runs the program, more briefly")),
    covered(
        RANKS,
        "A whole program",
        "sh",
        By::None("./ci.sh mpi, and tests of the trainer, run the same commands on less"),
    ),
    covered(PORTING, "Bring a device", "sh", By::Trial(FOR_DEVICES)),
    covered(
        PORTING,
        "4. Run the suite",
        "rust",
        By::Same("examples/firmware/accelerator/tests/suite.rs"),
    ),
    covered(
        "docs/datasets.md",
        "Without any of them",
        "sh",
        By::Test("examples/train/tests/train/command_line.rs"),
    ),
    covered(
        "docs/experiments.md",
        "Published experiments",
        "sh",
        By::Test("examples/train/tests/train/readme.rs"),
    ),
    covered("fuzz/README.md", "Corpora", "sh", By::None(CORPORA)),
    covered("fuzz/README.md", "With libFuzzer", "sh", By::None(FUZZER)),
    covered("fuzz/README.md", "Your own device", "sh", By::None(FUZZER)),
    covered("fuzz/README.md", "Your own device", "rs", By::None(FUZZER)),
    covered(
        "gpu/README.md",
        "With Rust-CUDA",
        "rust",
        By::None("Rust-CUDA is not installed anywhere here"),
    ),
    covered("gpu/", "", "sh", By::None("they are what ./ci.sh test, ptx and rust_cuda run")),
    covered(
        "examples/firmware/README.md",
        "",
        "sh",
        By::None("they are what ./ci.sh firmware runs"),
    ),
    covered(
        "examples/candle/README.md",
        "",
        "sh",
        By::None("they are what ./ci.sh frameworks runs"),
    ),
    covered("examples/candle/README.md", "", "toml", By::None(DEPENDENCIES)),
    covered("examples/burn/README.md", "", "sh", By::None("they are what ./ci.sh frameworks runs")),
    covered("examples/burn/README.md", "", "toml", By::None(DEPENDENCIES)),
    covered(TORCH, "", "python", By::Test("examples/torch/tests/test_readme.py")),
    covered(
        TORCH,
        "Installing",
        "sh",
        By::None("./ci.sh torch builds the wheel and installs it where it is tried"),
    ),
    covered(TORCH_DOCS, "", "python", By::Test("examples/torch/tests/test_readme.py")),
    covered(TORCH_DOCS, "", "sh", By::None("they take minutes: who measures anew runs them")),
    covered(TORCH_DOCS, "", "diff", By::None("it is what changes in a program of the reader's")),
    covered(
        "docs/results/",
        "",
        "sh",
        By::None("they take minutes to hours: who measures anew runs them"),
    ),
];

const INSTALLS: &str =
    "they install and download; ./ci.sh firmware builds the same program with the same options";
const DEPENDENCIES: &str = "a dependency of a program elsewhere: the paths are those of its reader";
const CORPORA: &str =
    "they change the tree; ./ci.sh test reads what they have packed, byte for byte";
const FUZZER: &str = "cargo-fuzz and a nightly compiler are needed; ./ci.sh fuzz and test compile and run the targets";

/// Documents whose examples are not whole programs yet.
const HIDDEN_IN: &[&str] = &["examples/candle/README.md", "examples/burn/README.md"];

fn main() {
    let arguments = Arguments::from_args();
    let c = || {
        let programs = ["cc", "c++", "pkg-config", "cmake", "bash"];
        programs.iter().try_for_each(|program| which(&[program]).map(drop))
    };
    let links_libc_statically = || {
        let gcc = Compiler::find("gcc")?;
        if gcc.links_libc_statically() { Ok(()) } else { Err("needs libc.a".to_owned()) }
    };
    let mpi = || c().and_then(|()| which(&["mpicc"])).and_then(|_| which(&["mpirun"])).map(drop);
    let cargo = || which(&["cargo"]).and_then(|_| which(&["bash"])).map(drop);
    let mut trials = vec![
        trial(FOR_C, c().and_then(|()| links_libc_statically()), |()| guide_for_c()),
        trial(FOR_RANKS, mpi(), |()| guide_for_ranks()),
        trial(README_FOR_C, c(), |()| readme_for_c()),
        trial(FOR_RUST, cargo(), |()| guide_for_rust()),
        trial(FOR_DEVICES, cargo(), |()| guide_for_devices()),
        trial("programs_of_the_guide_give_no_warning", Compiler::find("gcc"), |gcc| {
            no_warning(&gcc)
        }),
    ];
    let names: Vec<String> = trials.iter().map(|trial| trial.name().to_owned()).collect();
    trials.push(Trial::test("every_block_of_code_has_a_test", move || {
        let faults = faults(TABLE, HIDDEN_IN, &names);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

/// A home of a reader's, in which a copy of this repository is called `adaloss`.
struct Reader {
    machine: Machine,
    home: PathBuf,
}

impl Reader {
    /// One whose copy is this repository.
    fn of_all() -> Self {
        let reader = Self::without_copy();
        symlink(root("").canonicalize().unwrap(), reader.home.join("adaloss")).unwrap();
        reader
    }

    /// One whose copy has the library built already, the one that this test was built with.
    fn of_library() -> Self {
        let reader = Self::without_copy();
        let copy = reader.home.join("adaloss");
        fs::create_dir_all(copy.join("capi")).unwrap();
        symlink(root("examples").canonicalize().unwrap(), copy.join("examples")).unwrap();
        let library = reader.machine.library("libadaloss.a");
        let (real, built) = (manifest("install.sh"), library.parent().unwrap());
        let installs = copy.join("capi/install.sh");
        let script = format!("#!/bin/sh\nexec '{}' \"$1\" '{}'\n", real.display(), built.display());
        fs::write(&installs, script).unwrap();
        fs::set_permissions(&installs, fs::Permissions::from_mode(0o755)).unwrap();
        reader
    }

    fn without_copy() -> Self {
        let machine = Machine::new();
        let home = machine.folder("home");
        fs::create_dir(&home).unwrap();
        Self { machine, home }
    }

    /// Runs commands in a folder of the home, all of which have to succeed; returns what they printed.
    fn types(&self, folder: &str, commands: &str) -> String {
        check(&mut self.shell(folder, commands))
    }

    /// Runs commands of cargo's, with what this machine has downloaded; the browser of `cargo doc --open` does nothing.
    fn types_for_cargo(&self, folder: &str, commands: &str) -> String {
        let mut shell = self.shell(folder, commands);
        // The reader has no home yet in which cargo and rustup could be.
        for (variable, default) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            let given = env::var_os(variable).map(PathBuf::from);
            let real = given.or_else(|| env::home_dir().map(|home| home.join(default)));
            shell.envs(real.map(|real| (variable, real)));
        }
        shell.env("CARGO_TARGET_DIR", self.machine.folder("target"));
        check(shell.env("CARGO_NET_OFFLINE", "true").env("BROWSER", "true"))
    }

    fn shell(&self, folder: &str, commands: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", commands]).current_dir(self.home.join(folder));
        shell.env("HOME", &self.home).env_remove("LD_LIBRARY_PATH").env_remove("PKG_CONFIG_PATH");
        shell
    }

    fn writes(&self, path: &str, text: &str) {
        fs::write(self.home.join(path), text).unwrap();
    }
}

/// Every way to build the programs of the guide, each in a shell of its own, as readers choose one.
fn guide_for_c() -> Result<(), Failed> {
    let reader = Reader::of_library();
    let [program, in_cpp] = programs();
    let install = shown(LINKING, "Install for C and C++", "sh");
    let (install, ways) = install.split_first().expect("at least one");
    reader.types("", install);
    reader.writes("in-c/runtime.c", &program);
    reader.writes("in-c/runtime.cpp", &in_cpp);
    reader
        .writes("in-c/CMakeLists.txt", &shown(LINKING, "Install for C and C++", "cmake").concat());
    // The shell that installed has these as well.
    let exports: String = install.lines().filter(|line| line.starts_with("export ")).collect();
    for way in ways.iter().chain(&shown(LINKING, "In C++", "sh")) {
        for command in whole_commands(way) {
            as_the_guide_says(&reader.types("in-c", &format!("{exports}\n{command}")))?;
        }
    }
    for device in shown(LINKING, "A device of your own", "sh") {
        reader.types("in-c", &format!("{exports}\n{device}"));
    }
    Ok(())
}

/// The program of a rank: it gives no warning, takes its steps on four ranks, and says which cell of one differs.
fn guide_for_ranks() -> Result<(), Failed> {
    const WARNINGS: &str = "-Wall -Wextra -Wpedantic -Wconversion -Werror";
    // Containers and the machines of a CI have one user, and few cores.
    const OPEN_MPI: &str = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1";
    let reader = Reader::of_library();
    let install = shown(LINKING, "Install for C and C++", "sh").remove(0);
    reader.types("", &install);
    let exports: String = install.lines().filter(|line| line.starts_with("export ")).collect();
    let [program, run] =
        ["c", "sh"].map(|language| shown(RANKS, "Your engine, in C", language).remove(0));
    let runs = |program: &str, how: &str| {
        let how = how.replace("mpirun", "timeout 60 mpirun");
        reader.writes("in-c/ranks.c", program);
        reader.types("in-c", &format!("{exports}\n{OPEN_MPI}\n{how}"))
    };
    let looks = "mpicc -std=c99 -fsyntax-only $(pkg-config --cflags adaloss) ranks.c";
    runs(&program, &format!("{looks} {WARNINGS}"));
    let said = runs(&program, &run);
    for (step, verdict) in
        ["every gradient is finite", "the step has to be skipped"].iter().enumerate()
    {
        let is_it = |line: &&str| line.contains(&format!("step {step}: {verdict}"));
        if said.lines().filter(is_it).count() != 4 {
            return Err(format!("not the same four times: {said}").into());
        }
    }
    let step = "for (int step = 0; step < STEPS; step++) {";
    let flips =
        format!("{step}\n        if (rank == 3 && step == 2) {{ cells[1].scale_log2 ^= 1; }}");
    let said = runs(&program.replace(step, &flips), &format!("{} 2>&1 || true", run.trim()));
    if !said.contains("cell 1 differs") || said.contains("step 2") {
        return Err(format!("a bit that was flipped: {said}").into());
    }
    Ok(())
}

/// The commands of a block, each with the lines that it goes on in.
fn whole_commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", "");
    joined.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn readme_for_c() -> Result<(), Failed> {
    let reader = Reader::of_library();
    reader.writes("adaloss/runtime.c", &programs()[0]);
    let commands = shown("README.md", "In your own runtime", "sh").concat();
    as_the_guide_says(&reader.types("adaloss", &commands))
}

fn guide_for_rust() -> Result<(), Failed> {
    let reader = Reader::of_all();
    reader.types_for_cargo("", &shown(LINKING, "In Rust", "sh").concat());
    let program = shown(LINKING, "In Rust", "rust").remove(0);
    reader.writes("runtime/src/main.rs", &program);
    // The versions that this repository has been built with are on this machine.
    as_the_guide_says(&reader.types_for_cargo("runtime", "cp ../adaloss/Cargo.lock . && cargo run"))
}

fn guide_for_devices() -> Result<(), Failed> {
    let reader = Reader::of_all();
    reader.types_for_cargo("", &shown(PORTING, "Bring a device", "sh").concat());
    let added = fs::read_to_string(reader.home.join("my-device/Cargo.toml"))?;
    let documented = reader.machine.folder("target/doc/adaloss_hal/trait.HostHeap.html").is_file();
    let names = ["adaloss-core", "adaloss-hal", "adaloss-conformance", "adaloss-fuzz"];
    let is_added = names.iter().all(|name| added.contains(name));
    if is_added && documented {
        Ok(())
    } else {
        Err(format!("HostHeap is missing, or:\n{added}").into())
    }
}

/// The programs in C and in C++.
fn programs() -> [String; 2] {
    [("In C", "c"), ("In C++", "cpp")]
        .map(|(heading, language)| shown(LINKING, heading, language).remove(0))
}

fn no_warning(gcc: &Compiler) -> Result<(), Failed> {
    const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];
    let machine = Machine::new();
    for (text, (name, standard)) in
        programs().iter().zip([("runtime.c", "-std=c99"), ("runtime.cpp", "-std=c++11")])
    {
        let source = machine.folder(name);
        fs::write(&source, text)?;
        let mut command = Command::new(gcc.for_standard(standard));
        command.arg(standard).args(WARNINGS).arg("-fsyntax-only");
        check(command.arg("-I").arg(manifest("include")).arg::<&Path>(&source));
    }
    Ok(())
}

/// Whether a program of the guide prints what the guide says of it: scales, each some binades above the one before, and
/// that the optimizer may step.
fn as_the_guide_says(said: &str) -> Result<(), Failed> {
    let scales: Vec<i32> =
        said.lines().filter_map(|line| line.split_once("2^")?.1.parse().ok()).collect();
    let grows = |pair: &[i32]| (5..=7).contains(&(pair[1] - pair[0]));
    if scales.len() != 3 || !scales.windows(2).all(grows) || !said.contains("optimizer may step") {
        return Err(format!("not what the guide says: {said}").into());
    }
    Ok(())
}
