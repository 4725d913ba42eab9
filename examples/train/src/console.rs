//! What the program says on standard output.
//!
//! A reader that goes away, as `head` does, or a full disk behind a redirection, does not end the run:
//! files are written all the same, and the failure is an error at the end.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

/// Why nothing more is said, once something could not be.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Says a line, as `println!` does, unless standard output has failed before.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::console::say(format_args!($($text)*))
    };
}

/// Says a line; [`say!`](crate::say!) is shorter.
pub fn say(text: fmt::Arguments<'_>) {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.is_none() {
        let mut output = io::stdout().lock();
        *failed = writeln!(output, "{text}").and_then(|()| output.flush()).err();
    }
}

/// Prints a line on standard error; a failure to do so is ignored.
pub fn note(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns whether everything could be said.
///
/// # Errors
///
/// Standard output could not be written, for another reason than that its reader went away.
pub fn finish() -> Result<()> {
    match FAILED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written; files were written all the same")
        }
        _ => Ok(()),
    }
}
