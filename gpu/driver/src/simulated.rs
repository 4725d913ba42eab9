//! The way in for tests.

use std::{
    env, error,
    ffi::{CString, c_char},
    path::PathBuf,
};

use libloading::Library;

use crate::Executed;

/// The simulated driver, opened so that it is found in the place of `libcuda`.
#[derive(Debug)]
pub struct Simulated {
    library: Library,
}

impl Simulated {
    /// Opens the driver, for the whole process and before anything looks for `libcuda`.
    ///
    /// # Errors
    ///
    /// The library has not been built, or cannot be loaded.
    pub fn open() -> Result<Self, Box<dyn error::Error>> {
        // SAFETY: nothing runs when the library is loaded.
        let library = unsafe { Library::new(Self::path()?)? };
        Ok(Self { library })
    }

    /// Returns where the library is: beside the program that runs, as Cargo builds it for tests.
    /// `LD_PRELOAD` gives it to other programs.
    ///
    /// # Errors
    ///
    /// It has not been built.
    pub fn path() -> Result<PathBuf, Box<dyn error::Error>> {
        let program = env::current_exe()?;
        let name = libloading::library_filename("adaloss_driver");
        let folders = program.ancestors().skip(1).take(2);
        let places =
            folders.flat_map(|folder| [folder.join(&name), folder.join("deps").join(&name)]);
        places.into_iter().find(|path| path.exists()).ok_or_else(|| {
            format!("the simulated driver is not beside {}", program.display()).into()
        })
    }

    /// Returns how often the calling thread called a function of the driver.
    pub fn calls(&self, function: &str) -> u64 {
        type Calls = unsafe extern "C" fn(*const c_char) -> u64;
        let Ok(function) = CString::new(function) else { return 0 };
        // SAFETY: the library has a function of that name and type, which reads a text.
        unsafe {
            self.library.get::<Calls>(c"adaloss_driver_calls").map_or(0, |of| of(function.as_ptr()))
        }
    }

    /// Lets texts be executed in the plainest order from now on, in launches that the calling thread waits for, so that
    /// what they did can be compared.
    pub fn keep_order(&self) {
        // SAFETY: the library has a function of that name, without parameters.
        let set = unsafe { self.library.get::<extern "C" fn()>(c"adaloss_driver_set_orderly") };
        if let Ok(set) = set {
            set();
        }
    }

    /// Returns what the text of an entry did, in launches that the calling thread waited for since it last asked; None
    /// where there were none, or not of a device that executes text.
    pub fn take_executed(&self, entry: &str) -> Option<Executed> {
        type Take = unsafe extern "C" fn(*const c_char, *mut Executed) -> bool;
        let entry = CString::new(entry).ok()?;
        let mut executed = Executed::default();
        // SAFETY: the library has a function of that name and type, which reads a text and writes the counts.
        let found = unsafe {
            let take = self.library.get::<Take>(c"adaloss_driver_take_executed").ok()?;
            take(entry.as_ptr(), &raw mut executed)
        };
        found.then_some(executed)
    }

    /// Returns how many blocks the calling thread's last launch had.
    pub fn last_blocks(&self) -> u32 {
        type Blocks = unsafe extern "C" fn() -> u32;
        // SAFETY: the library has a function of that name and type.
        unsafe { self.library.get::<Blocks>(c"adaloss_driver_last_blocks").map_or(0, |of| of()) }
    }
}
