//! Requests to end a run: flags, Ctrl-C and SIGTERM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// Where requests to end the run come from.
#[derive(Debug)]
pub(super) struct Stop {
    flags: Vec<Arc<AtomicBool>>,
    interrupts: Option<Interrupts>,
}

impl Stop {
    /// Watches these flags and, if asked to, Ctrl-C and SIGTERM for as long as this lives.
    pub(super) fn new(flags: Vec<Arc<AtomicBool>>, handles_interrupts: bool) -> Result<Self> {
        let interrupts = match handles_interrupts {
            true => Some(Interrupts::begin()?),
            false => None,
        };
        Ok(Stop { flags, interrupts })
    }

    /// Whether anything can ask the run to end.
    pub(super) fn is_possible(&self) -> bool {
        self.interrupts.is_some() || !self.flags.is_empty()
    }

    pub(super) fn is_requested(&self) -> bool {
        let interrupted = self.interrupts.as_ref().is_some_and(Interrupts::happened);
        interrupted || self.flags.iter().any(|flag| flag.load(Ordering::Relaxed))
    }
}

/// The exit status that shells expect of a process ended by a signal: 130 and 143.
fn status(signal: i32) -> i32 {
    128 + signal
}

/// The handlers of the process, registered once: removing them would not restore the system's
/// own.
#[derive(Debug)]
struct Process {
    flags: Option<Flags>,
    /// The number of current runs that handle signals.
    runs: u64,
}

/// What the handlers set and go by.
#[derive(Debug, Clone, Default)]
struct Flags {
    /// Set by the first signal; while it is set, Ctrl-C ends the process.
    happened: Arc<AtomicBool>,
    /// While it is set, so does SIGTERM. Not so the second one in a run: who sends it may do so
    /// to the whole group and to each process, and has SIGKILL for what does not end.
    idle: Arc<AtomicBool>,
}

static PROCESS: Mutex<Process> = Mutex::new(Process {
    flags: None,
    runs: 0,
});

/// While it exists, the first signal is only noted, and Ctrl-C after it ends the process.
#[derive(Debug)]
struct Interrupts {
    flags: Flags,
}

impl Interrupts {
    fn begin() -> Result<Self> {
        let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = match &process.flags {
            Some(flags) => flags.clone(),
            None => {
                let flags = Flags::default();
                flags.register().map_err(|error| {
                    Error::config(
                        "handle_interrupts",
                        format!("Ctrl-C and SIGTERM cannot be handled: {error}"),
                    )
                })?;
                process.flags = Some(flags.clone());
                flags
            }
        };
        if process.runs == 0 {
            flags.happened.store(false, Ordering::SeqCst);
            flags.idle.store(false, Ordering::SeqCst);
        }
        process.runs += 1;
        Ok(Interrupts { flags })
    }

    fn happened(&self) -> bool {
        self.flags.happened.load(Ordering::Relaxed)
    }
}

impl Flags {
    /// In this order, so that the first signal still finds its flag unset.
    fn register(&self) -> std::io::Result<()> {
        let Flags { happened, idle } = self;
        for (signal, ends_if) in [(SIGINT, happened), (SIGTERM, idle)] {
            flag::register_conditional_shutdown(signal, status(signal), Arc::clone(ends_if))?;
            flag::register(signal, Arc::clone(happened))?;
        }
        announce::begin()
    }
}

/// Tells a user who presses Ctrl-C what happens now: a step may take long.
#[cfg(unix)]
mod announce {
    use std::io::{self, Write};
    use std::thread;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    use crate::logging;

    /// Handlers may not write themselves, so a thread waits for the signals too.
    pub(super) fn begin() -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let say = move || {
            for signal in signals.forever() {
                // Where nobody listens there is nobody to tell.
                logging::suspend(|| drop(writeln!(io::stderr(), "\n{}", text(signal))));
            }
        };
        let thread = thread::Builder::new().name("textbrewer-signals".to_owned());
        thread.spawn(say).map(drop)
    }

    pub(super) fn text(signal: i32) -> &'static str {
        match signal {
            SIGINT => {
                "Ctrl-C: the run saves a checkpoint after this step and stops. Press it again to \
                 end the process at once, without a checkpoint."
            }
            _ => "SIGTERM: the run saves a checkpoint after this step and stops.",
        }
    }
}

#[cfg(not(unix))]
mod announce {
    pub(super) fn begin() -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        process.runs = process.runs.saturating_sub(1);
        if process.runs == 0 {
            // From now on both end the process.
            self.flags.happened.store(true, Ordering::SeqCst);
            self.flags.idle.store(true, Ordering::SeqCst);
        }
    }
}
