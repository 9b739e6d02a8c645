//! Requests to end a run: flags and Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::error::{Error, Result};

/// Where requests to end the run come from.
#[derive(Debug)]
pub(super) struct Stop {
    flags: Vec<Arc<AtomicBool>>,
    interrupts: Option<Interrupts>,
}

impl Stop {
    /// Watches these flags and, if asked to, Ctrl-C for as long as this lives.
    pub(super) fn new(flags: Vec<Arc<AtomicBool>>, handles_interrupts: bool) -> Result<Self> {
        let interrupts = match handles_interrupts {
            true => Some(Interrupts::begin()?),
            false => None,
        };
        Ok(Stop { flags, interrupts })
    }

    pub(super) fn is_requested(&self) -> bool {
        let interrupted = self.interrupts.as_ref().is_some_and(Interrupts::happened);
        interrupted || self.flags.iter().any(|flag| flag.load(Ordering::Relaxed))
    }
}

/// The exit status that shells expect of a process ended by Ctrl-C.
const STATUS: i32 = 130;

/// The handlers of the process, registered once: removing them would not restore the system's
/// own.
#[derive(Debug)]
struct Process {
    /// Set by the first Ctrl-C; while it is set, the next one ends the process.
    happened: Option<Arc<AtomicBool>>,
    /// The number of current runs that handle Ctrl-C.
    runs: u64,
}

static PROCESS: Mutex<Process> = Mutex::new(Process {
    happened: None,
    runs: 0,
});

/// While it exists, the first Ctrl-C is only noted and the second one ends the process.
#[derive(Debug)]
struct Interrupts {
    happened: Arc<AtomicBool>,
}

impl Interrupts {
    fn begin() -> Result<Self> {
        let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        let happened = match &process.happened {
            Some(happened) => Arc::clone(happened),
            None => {
                let happened = Arc::new(AtomicBool::new(false));
                let register = || {
                    // In this order, so that the first Ctrl-C still finds the flag unset.
                    flag::register_conditional_shutdown(SIGINT, STATUS, Arc::clone(&happened))?;
                    flag::register(SIGINT, Arc::clone(&happened))
                };
                register().map_err(|error| {
                    Error::config(
                        "handle_interrupts",
                        format!("Ctrl-C cannot be handled: {error}"),
                    )
                })?;
                process.happened = Some(Arc::clone(&happened));
                happened
            }
        };
        if process.runs == 0 {
            happened.store(false, Ordering::SeqCst);
        }
        process.runs += 1;
        Ok(Interrupts { happened })
    }

    fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        process.runs = process.runs.saturating_sub(1);
        if process.runs == 0 {
            // From now on Ctrl-C ends the process.
            self.happened.store(true, Ordering::SeqCst);
        }
    }
}
