//! What the boards share: reading and printing through the debugger that watches them, QEMU here.

#![no_std]

use core::fmt;

use semihosting::{fs, io, io::Write as _};

/// Prints whole lines: each is one stop of the processor.
#[derive(Debug, Default)]
pub struct Lines {
    line: heapless::String<512>,
}

impl fmt::Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            self.line.push_str(part).map_err(|_| fmt::Error)?;
            if part.ends_with('\n') {
                let mut out = io::stdout().map_err(|_| fmt::Error)?;
                out.write_all(self.line.as_bytes()).map_err(|_| fmt::Error)?;
                self.line.clear();
            }
        }
        Ok(())
    }
}

/// A file on the host.
#[derive(Debug)]
pub struct Input(fs::File);

impl Input {
    /// Opens a file by its name on the host.
    ///
    /// # Errors
    ///
    /// The host does not open it.
    pub fn open(name: &core::ffi::CStr) -> io::Result<Self> {
        fs::File::open(name).map(Self)
    }
}

impl embedded_io::ErrorType for Input {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Input {
    fn read(&mut self, to: &mut [u8]) -> Result<usize, Self::Error> {
        io::Read::read(&mut self.0, to).map_err(|_| embedded_io::ErrorKind::Other)
    }
}

/// Ends the program: with nothing said where all went well.
pub fn end<E: fmt::Display>(result: Result<(), E>) -> ! {
    if let Err(error) = result {
        semihosting::eprintln!("{error}");
        semihosting::process::exit(1);
    }
    semihosting::process::exit(0)
}
