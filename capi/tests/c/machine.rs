//! What is on this machine, and where things are: for the tests of the examples and for those of the guides.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

/// Names a file of the package.
pub(crate) fn manifest(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Finds the first of these programs that there is.
pub(crate) fn which(names: &[&str]) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = names
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|program| program.is_file());
    found.ok_or_else(|| format!("needs {}", names[0]))
}

/// Runs a command, which has to succeed; returns what it printed.
pub(crate) fn check(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{said}\n{complained}",
        output.status
    );
    said.into_owned()
}

/// A test that needs something of the machine: ignored, with the reason in its name, where that is missing.
pub(crate) fn trial<T: Send + 'static>(
    name: impl Into<String>,
    needed: Result<T, String>,
    test: impl FnOnce(T) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    match needed {
        Ok(needed) => Trial::test(name, || test(needed)),
        Err(missing) => {
            let name = format!("{} [{missing}]", name.into());
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

/// A compiler for C and the one for C++ that belongs to it.
#[derive(Debug)]
pub(crate) struct Compiler {
    c: PathBuf,
    cpp: PathBuf,
}

impl Compiler {
    /// Finds the compilers of a family, Debian's names with versions included.
    pub(crate) fn find(family: &str) -> Result<Self, String> {
        let named = |plain: &str| {
            let versions = (9..=22).rev().map(|version| format!("{plain}-{version}"));
            let names: Vec<_> = [plain.to_owned()].into_iter().chain(versions).collect();
            which(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let cpp = if family == "gcc" { "g++" } else { "clang++" };
        Ok(Self { c: named(family)?, cpp: named(cpp)? })
    }

    /// Whether programs can be made that need no shared library.
    pub(crate) fn links_libc_statically(&self) -> bool {
        let archive = check(Command::new(&self.c).arg("-print-file-name=libc.a"));
        Path::new(archive.trim()).is_absolute()
    }

    /// Returns the compiler of a standard's language.
    pub(crate) fn for_standard(&self, standard: &str) -> &OsStr {
        if standard.contains("++") { self.cpp.as_os_str() } else { self.c.as_os_str() }
    }
}

/// A folder for what is built, and the folder of the library that belongs to this test.
pub(crate) struct Machine {
    folder: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder for what is built") }
    }

    /// Names something in the folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names a library that cargo built for this test, beside it.
    pub(crate) fn library(&self, name: &str) -> PathBuf {
        let test = env::current_exe().expect("this test is a program");
        let library = test.parent().expect("it is in a folder").join(name);
        assert!(library.is_file(), "{} was built before this test", library.display());
        library
    }
}
