//! Modules and their entries.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    code::Code,
    decode::decode,
    error::PtxError,
    memory::Tables,
    operation::Operation,
    reader::statements,
    text::{Text, What},
    types::Space,
    warp::Warp,
};

/// The most bytes of an entry's parameters: the ISA's section 5.1.6.1, from version 8.1 on.
const MOST_PARAMETER_BYTES: usize = 32_764;

/// The most bytes of a module's variables: far more than tables have.
const MOST_VARIABLE_BYTES: usize = 1 << 27;

/// A text that was read.
///
/// Its entries are decoded when they are launched for the first time.
#[derive(Clone, Debug)]
pub struct Module {
    target: String,
    entries: Vec<Entry>,
}

/// A parameter of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// Its bytes.
    pub size: usize,
}

/// A kernel that can be launched.
#[derive(Clone, Debug)]
pub struct Entry {
    name: String,
    line: u32,
    parameters: Vec<Parameter>,
    most_threads: Option<u32>,
    text: Arc<str>,
    /// The line of its opening brace, and the bytes of the text that follow.
    body: (u32, std::ops::Range<usize>),
    globals: Arc<Globals>,
    code: OnceLock<Result<Arc<Code>, PtxError>>,
    warps: Arc<Mutex<Vec<Warp>>>,
}

/// What all entries of a module have in common.
#[derive(Debug, Default)]
pub(crate) struct Globals {
    pub(crate) tables: Tables,
    pub(crate) shared: Vec<SharedVariable>,
}

/// A variable in shared memory.
#[derive(Debug)]
pub(crate) struct SharedVariable {
    pub(crate) name: String,
    pub(crate) align: usize,
    pub(crate) size: usize,
    pub(crate) is_launched: bool,
}

impl Module {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// It has something that is not known here, or ends too early.
    pub fn parse(text: &str) -> Result<Self, PtxError> {
        let whole: Arc<str> = text.into();
        let read = Text::parse(text)?;
        check_names(&read)?;
        let mut globals = Globals::default();
        for variable in &read.variables {
            if variable.space == Space::Global {
                let (align, size) = (variable.align, variable.size);
                globals.tables.add(variable.name, align, size, &variable.bytes);
            } else {
                globals.shared.push(SharedVariable {
                    name: variable.name.into(),
                    align: variable.align,
                    size: variable.size,
                    is_launched: variable.is_launched,
                });
            }
        }
        let globals = Arc::new(globals);
        let mut entries = Vec::new();
        for entry in read.entries {
            for statement in &entry.statements {
                if let What::Instruction(instruction) = &statement.what {
                    let name = instruction.operation;
                    Operation::named(name).ok_or_else(|| {
                        PtxError::new(statement.line, format!("an unknown instruction: {name}"))
                    })?;
                }
            }
            let mut end = 0_usize;
            let parameters = entry.parameters.iter().map(|parameter| {
                let offset = end.next_multiple_of(parameter.align);
                end = offset + parameter.size;
                Parameter { name: parameter.name.into(), offset, size: parameter.size }
            });
            entries.push(Entry {
                name: entry.name.into(),
                line: entry.line,
                parameters: parameters.collect(),
                most_threads: entry.most_threads,
                text: Arc::clone(&whole),
                body: entry.body,
                globals: Arc::clone(&globals),
                code: OnceLock::new(),
                warps: Arc::default(),
            });
        }
        Ok(Self { target: read.target.into(), entries })
    }

    /// Returns what the text is for, as `sm_90a`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns all entries, in the order of the text.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns an entry by its name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Decodes all entries at once.
    ///
    /// # Errors
    ///
    /// An instruction's operands do not fit it.
    pub fn decode(&self) -> Result<(), PtxError> {
        self.entries.iter().try_for_each(|entry| entry.code().map(drop))
    }
}

/// Refuses names that stand for two things, and more memory than there is.
fn check_names(text: &Text<'_>) -> Result<(), PtxError> {
    let mut names = HashSet::new();
    let variables = text.variables.iter().map(|of| (of.line, of.name));
    for (line, name) in variables.chain(text.entries.iter().map(|of| (of.line, of.name))) {
        if !names.insert(name) {
            return Err(PtxError::new(line, format!("there is another {name}")));
        }
    }
    let bytes: usize = text.variables.iter().map(|of| of.size).sum();
    if bytes > MOST_VARIABLE_BYTES {
        return Err(PtxError::new(1, format!("{bytes} bytes of variables")));
    }
    for entry in &text.entries {
        let mut names = HashSet::new();
        if let Some(of) = entry.parameters.iter().find(|of| !names.insert(of.name)) {
            return Err(PtxError::new(entry.line, format!("there is another {}", of.name)));
        }
        let bytes: usize = entry.parameters.iter().map(|of| of.size).sum();
        if bytes > MOST_PARAMETER_BYTES {
            return Err(PtxError::new(entry.line, format!("{bytes} bytes of parameters")));
        }
    }
    Ok(())
}

impl Entry {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its line, from 1.
    pub fn line(&self) -> usize {
        self.line as usize
    }

    /// Returns its parameters, in the order of the text.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns the most threads of a block, if the text says so.
    pub fn most_threads(&self) -> Option<u32> {
        self.most_threads
    }

    /// Returns the bytes of shared memory that a block has in front of what a launch asks for.
    ///
    /// # Errors
    ///
    /// An instruction's operands do not fit it.
    pub fn shared_bytes(&self) -> Result<usize, PtxError> {
        Ok(self.code()?.shared_bytes)
    }

    /// Returns its instructions, which it decodes when it is asked for the first time.
    pub(crate) fn code(&self) -> Result<&Arc<Code>, PtxError> {
        let code = self.code.get_or_init(|| {
            let (line, range) = &self.body;
            let statements = statements(&self.text[range.clone()], *line)?;
            decode(&self.parameters, &statements, &self.globals).map(Arc::new)
        });
        code.as_ref().map_err(Clone::clone)
    }

    /// Takes the warps of an earlier launch, by their numbers, if no other launch has them: memory for many registers
    /// costs as much as a short launch.
    pub(crate) fn take_warps(&self) -> Vec<Warp> {
        mem::take(&mut self.warps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps warps for a later launch.
    pub(crate) fn leave_warps(&self, warps: Vec<Warp>) {
        *self.warps.lock().unwrap_or_else(PoisonError::into_inner) = warps;
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.globals.tables
    }
}
