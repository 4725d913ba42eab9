//! Interrupts: the first one ends the program where nothing is lost, the second one at once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};

/// The exit status of a program that was interrupted.
pub(crate) const STATUS: u8 = 130;

/// Whether the user, or the system, has asked the program to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

/// The error of what was ended so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    /// Begins to watch for interrupts and requests to terminate.
    pub(crate) fn watch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        #[cfg(unix)]
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // In this order: what is set already ends the program.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                STATUS.into(),
                Arc::clone(&flag),
            )
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .context("interrupts cannot be watched")?;
        }
        Ok(Self(flag))
    }

    /// Tells whether the program is to end.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Ends what is under way, if the program is to end.
    ///
    /// # Errors
    ///
    /// [`Interrupted`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_set() { Err(Interrupted.into()) } else { Ok(()) }
    }
}
