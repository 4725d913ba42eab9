//! Modules: the entry points of a PTX text.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    driver::Device,
    kernel::{Kernel, Shape},
    memory::Memory,
    status::{Answer, Status},
    text::{self, Text},
};

/// An entry point and the sizes of its parameters in bytes, as PTX declares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    name: String,
    sizes: Vec<usize>,
}

/// A module that was loaded.
#[derive(Debug)]
pub(crate) struct Module {
    entries: Vec<Declared>,
    is_loaded: Arc<AtomicBool>,
    /// What is executed in the place of the kernels, where it is.
    text: Option<Arc<adaloss_interpreter::Module>>,
}

/// A kernel of a module.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) kernel: Kernel,
    /// What a launch may ask for of shared memory.
    pub(crate) most_shared_bytes: u32,
    /// Its module has not been unloaded: graphs do not keep it.
    pub(crate) is_loaded: Arc<AtomicBool>,
    /// What is executed in the kernel's place.
    text: Option<Text>,
}

impl Function {
    /// Runs it.
    ///
    /// # Safety
    ///
    /// The parameters are the kernel's, and what they name is what it asks for.
    pub(crate) unsafe fn launch(&self, shape: Shape, parameters: &[u8], memory: &Memory) -> Answer {
        if !self.is_loaded.load(Relaxed) {
            return Err(Status::LAUNCH_FAILED);
        }
        // SAFETY: the caller's promise; work is done one after the other.
        unsafe {
            match &self.text {
                Some(text) => text.launch(shape, parameters, memory),
                None => self.kernel.launch(shape.grid()?, parameters, memory),
            }
        }
    }
}

impl Module {
    /// Reads the entry points of a PTX text, for a device.
    pub(crate) fn load(text: &str, device: &Device) -> Answer<Self> {
        if text.starts_with("\x7fELF") {
            return Err(Status::NO_BINARY_FOR_GPU);
        }
        let target = text.lines().find_map(|line| line.strip_prefix(".target sm_"));
        let digits = target.ok_or(Status::INVALID_IMAGE)?.trim().trim_end_matches(',');
        // What ends in a letter is for one capability alone.
        let number = digits.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
        let asked: i32 = number.parse().map_err(|_| Status::INVALID_IMAGE)?;
        let found = 10 * device.capability.0 + device.capability.1;
        if asked > found || number.len() < digits.len() && asked != found {
            return Err(Status::INVALID_IMAGE);
        }
        let entries = text.split(".visible .entry ").skip(1);
        let entries = entries.map(declared).collect::<Option<Vec<_>>>();
        let text = device.runs_text.then(|| text::parse(text)).transpose()?;
        let is_loaded = Arc::new(AtomicBool::new(true));
        let entries = entries.ok_or(Status::INVALID_IMAGE)?;
        Ok(Self { entries, is_loaded, text })
    }

    /// Returns a kernel that has the parameters that are declared.
    pub(crate) fn function(&self, name: &str) -> Answer<Function> {
        let declared = self.entries.iter().find(|entry| entry.name == name);
        let declared = declared.ok_or(Status::NOT_FOUND)?;
        let kernel = Kernel::named(name).ok_or(Status::NOT_FOUND)?;
        if kernel.sizes != declared.sizes {
            return Err(Status::INVALID_IMAGE);
        }
        let most_shared_bytes = 48 << 10;
        let text = self.text.as_ref().map(|text| Text::of(text, name)).transpose()?;
        let is_loaded = Arc::clone(&self.is_loaded);
        Ok(Function { kernel, most_shared_bytes, is_loaded, text })
    }

    /// Unloads it: none of its kernels can run from now on.
    pub(crate) fn unload(self) {
        self.is_loaded.store(false, Relaxed);
    }
}

/// Reads an entry point from its name on.
fn declared(text: &str) -> Option<Declared> {
    let (name, rest) = text.split_once('(')?;
    let (parameters, _) = rest.split_once(')')?;
    let sizes = parameters.split(".param ").skip(1).map(size).collect::<Option<_>>()?;
    Some(Declared { name: name.trim().into(), sizes })
}

/// Returns the bytes of a parameter.
fn size(declaration: &str) -> Option<usize> {
    let mut words = declaration.trim().trim_end_matches(',').split_whitespace();
    let element = words.find(|word| word.starts_with('.') && *word != ".align")?;
    let bits = element.trim_start_matches(['.', 'u', 's', 'b', 'f']).parse::<usize>().ok()?;
    let count = match declaration.split_once('[') {
        Some((_, rest)) => rest.split_once(']')?.0.parse().ok()?,
        None => 1,
    };
    Some(count * bits / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::DEVICES;

    const TEXT: &str = "
.version 7.8
.target sm_90
.address_size 64

.visible .entry one(
\t.param .u64 one_param_0,
\t.param .u32 one_param_1,
\t.param .align 8 .b8 one_param_2[48]
)
{
\tret;
}
.visible .entry none()
{
";

    #[test]
    fn parameters_have_their_sizes() {
        let module = Module::load(TEXT, &DEVICES[0]).expect("PTX");
        let one = Declared { name: "one".into(), sizes: vec![8, 4, 48] };
        assert_eq!(module.entries, [one, Declared { name: "none".into(), sizes: vec![] }]);
        assert!(Module::load("ELF", &DEVICES[0]).is_err());
    }

    /// What is committed has the entry points that are written down, with their parameters.
    #[test]
    fn committed_ptx_has_the_kernels() {
        let texts = [include_str!("../../ptx/sm_80.ptx"), include_str!("../../ptx/sm_90a.ptx")];
        for text in texts {
            let module = Module::load(text, &DEVICES[0]).expect("PTX");
            let declared = module.entries.iter();
            assert!(declared.clone().all(|entry| module.function(&entry.name).is_ok()));
            let mut names: Vec<_> = declared.map(|entry| entry.name.as_str()).collect();
            names.sort_unstable();
            let mut written = Kernel::names();
            written.sort_unstable();
            assert_eq!(names, written);
        }
    }

    #[test]
    fn a_module_is_for_its_devices() {
        let later = Device { capability: (10, 0), ..DEVICES[0] };
        assert!(Module::load(TEXT, &DEVICES[1]).is_err());
        assert!(Module::load(TEXT, &later).is_ok());
        let for_one = TEXT.replace("sm_90", "sm_90a");
        assert!(Module::load(&for_one, &DEVICES[0]).is_ok());
        assert!(Module::load(&for_one, &later).is_err());
    }
}
