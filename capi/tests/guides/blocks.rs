//! The fenced blocks of the documents, and which test each of them has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::machine::manifest;

/// A fenced block of a document.
pub(crate) struct Block {
    /// The document, from the root of the repository.
    pub(crate) file: String,
    /// The heading that it stands under.
    pub(crate) heading: String,
    /// The line that it begins at, from 1.
    pub(crate) line: usize,
    /// What stands behind the fence, such as `rust,no_run`.
    pub(crate) info: String,
    pub(crate) text: String,
}

impl Block {
    /// The language, without what rustdoc is told besides.
    pub(crate) fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or_default()
    }

    /// Whether rustdoc compiles it, where it reads the document.
    fn is_documentation_test(&self) -> bool {
        let mut words = self.info.split(',');
        words.next() == Some("rust") && words.all(|word| word != "ignore")
    }

    /// Whether it looks like code although it says that it is text.
    fn is_code_in_disguise(&self) -> bool {
        ["fn ", "#include", "use ", "cargo ", "cc "]
            .iter()
            .any(|code| self.text.lines().any(|line| line.trim_start().starts_with(code)))
    }

    fn place(&self) -> String {
        format!("{}:{} ({})", self.file, self.line, self.info)
    }
}

/// Names a file from the root of the repository.
pub(crate) fn root(path: impl AsRef<Path>) -> PathBuf {
    manifest("..").join(path)
}

/// Every file with this extension below a folder, from the root, but for what is built or hidden.
fn files(below: &Path, extension: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(root(below)).expect("a folder that can be read") {
        let name = entry.expect("an entry that can be read").file_name();
        let path = below.join(&name);
        if root(&path).is_dir() {
            let is_ours = !["target", "report", "corpus", "crashes", "artifacts"]
                .iter()
                .any(|other| name == *other);
            if is_ours && !name.to_string_lossy().starts_with('.') {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path.to_str().expect("names in UTF-8").to_owned());
        }
    }
}

/// Every fenced block of a document.
pub(crate) fn blocks_of(file: &str) -> Vec<Block> {
    let document = fs::read_to_string(root(file)).expect("a document");
    let (mut blocks, mut heading) = (Vec::new(), String::new());
    let mut lines = document.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim().to_owned();
        }
        let Some((indent, info)) = line.split_once("```") else { continue };
        if !indent.trim().is_empty() {
            continue;
        }
        let text = lines.by_ref().map(|(line, _)| line.strip_prefix(indent).unwrap_or(line));
        let text = text.take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        let info = info.trim().to_owned();
        blocks.push(Block {
            file: file.to_owned(),
            heading: heading.clone(),
            line: number,
            info,
            text,
        });
    }
    blocks
}

/// The blocks of a language that a document shows under a heading, in their order.
///
/// # Panics
///
/// There are none.
pub(crate) fn shown(file: &str, heading: &str, language: &str) -> Vec<String> {
    let all = blocks_of(file).into_iter();
    let shown: Vec<_> = all
        .filter(|block| block.heading == heading && block.language() == language)
        .map(|block| block.text)
        .collect();
    assert!(!shown.is_empty(), "{file} shows no {language} under \"{heading}\"");
    shown
}

/// Which test a block has.
pub(crate) enum By {
    /// This one of this program.
    Trial(&'static str),
    /// This file, from the root, which is tested and with which the block agrees to the letter.
    Same(&'static str),
    /// This test, from the root, which reads the document.
    Test(&'static str),
    /// None, for this reason.
    None(&'static str),
}

/// The test of the blocks of a language in a document, or in all below a folder, under a heading or under any.
pub(crate) struct Covered {
    pub(crate) file: &'static str,
    /// Empty for any.
    pub(crate) heading: &'static str,
    pub(crate) language: &'static str,
    pub(crate) by: By,
}

impl Covered {
    fn covers(&self, block: &Block) -> bool {
        let is_here = if self.file.ends_with('/') {
            block.file.starts_with(self.file)
        } else {
            block.file == self.file
        };
        let is_under = self.heading.is_empty() || block.heading == self.heading;
        is_here && is_under && block.language() == self.language
    }

    /// What is wrong with the claim that this block is tested.
    fn refute(&self, block: &Block, trials: &[String]) -> Option<String> {
        let wrong = match self.by {
            By::Trial(name) => {
                let is_there = trials.iter().any(|trial| trial.split(" [").next() == Some(name));
                (!is_there).then(|| format!("there is no test {name}"))
            }
            By::Same(path) => {
                let is_same = fs::read_to_string(root(path)).is_ok_and(|text| text == block.text);
                (!is_same).then(|| format!("it is not what {path} has: make both the same"))
            }
            By::Test(path) => {
                let name = Path::new(self.file).file_name().expect("a document").to_string_lossy();
                let reads = fs::read_to_string(root(path)).is_ok_and(|text| text.contains(&*name));
                (!reads).then(|| format!("{path} does not read it"))
            }
            By::None(reason) => reason.is_empty().then(|| "there is no reason".to_owned()),
        };
        wrong.map(|wrong| format!("{}: {wrong}", block.place()))
    }
}

/// The documents that some crate hands to rustdoc with `#[doc = include_str!(...)]`, from the root.
fn documentation_tests() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    files(Path::new(""), "rs", &mut sources);
    let mut documents = Vec::new();
    for source in &sources {
        let text = fs::read_to_string(root(source)).expect("a source");
        for line in text.lines() {
            let document = line.strip_prefix("#[doc = include_str!(\"");
            if let Some(document) = document.and_then(|rest| rest.strip_suffix("\")]")) {
                let folder = root(source).parent().expect("it is in a folder").to_owned();
                documents.push(fs::canonicalize(folder.join(document)).expect("a document"));
            }
        }
    }
    documents
}

/// What is wrong with the examples of the documents: what no test has, and what nobody can copy.
///
/// `hidden_in` names the documents whose lines of Rust may begin with `# `.
pub(crate) fn faults(table: &[Covered], hidden_in: &[&str], trials: &[String]) -> Vec<String> {
    let documentation_tests = documentation_tests();
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    files(Path::new(""), "md", &mut documents);
    documents.sort();
    let mut used = vec![false; table.len()];
    for block in documents.iter().flat_map(|file| blocks_of(file)) {
        let entry = table.iter().position(|entry| entry.covers(&block));
        if let Some(nth) = entry {
            used[nth] = true;
            faults.extend(table[nth].refute(&block, trials));
        } else if block.is_documentation_test() {
            let file = fs::canonicalize(root(&block.file)).expect("it was read");
            if !documentation_tests.contains(&file) {
                let how =
                    "include it with #[doc = include_str!(..)] in a crate that has what it uses";
                faults.push(format!("{}: no test compiles it: {how}", block.place()));
            }
        } else if !["", "text"].contains(&block.language()) || block.is_code_in_disguise() {
            let how = "say in capi/tests/guides/main.rs which test it has, or why it has none";
            faults.push(format!("{}: no test is known: {how}", block.place()));
        }
        let hides = block.text.lines().any(|line| line == "#" || line.starts_with("# "));
        if block.language() == "rust" && hides && !hidden_in.contains(&&*block.file) {
            faults.push(format!("{}: a page shows the lines that rustdoc hides", block.place()));
        }
    }
    for (entry, used) in table.iter().zip(used) {
        if !used {
            let Covered { file, heading, language, .. } = entry;
            faults.push(format!("{file} has no {language} under \"{heading}\" any more"));
        }
    }
    faults
}
