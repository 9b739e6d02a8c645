//! Requests to end a run: flags, Ctrl-C and SIGTERM.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use signal_hook::consts::SIGINT;
use signal_hook::{SigId, flag, low_level};

use crate::error::{Error, Result};
use crate::signals::{Listening, SIGNALS};

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

/// The exit status that shells expect of a process ended by Ctrl-C.
const STATUS: i32 = 130;

/// What the current runs of the process share: a signal is meant for all of them.
static CURRENT: Mutex<Weak<Listening<Noted>>> = Mutex::new(Weak::new());

/// While it exists, the first signal is only noted, and Ctrl-C after it ends the process. Not so a
/// second SIGTERM: who sends it may do so to the whole group and to each process, and has SIGKILL
/// for what does not end.
#[derive(Debug)]
struct Interrupts(Arc<Listening<Noted>>);

impl Interrupts {
    fn begin() -> Result<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(noted) = current.upgrade() {
            return Ok(Interrupts(noted));
        }
        let noted = Listening::begin(Noted::begin).map_err(|error| {
            Error::config(
                "handle_interrupts",
                format!("Ctrl-C and SIGTERM cannot be handled: {error}"),
            )
        })?;
        let noted = Arc::new(noted);
        *current = Arc::downgrade(&noted);
        Ok(Interrupts(noted))
    }

    fn happened(&self) -> bool {
        self.0.by().happened.load(Ordering::Relaxed)
    }
}

/// Handlers that note a signal, until this is dropped.
#[derive(Debug)]
struct Noted {
    happened: Arc<AtomicBool>,
    handlers: Vec<SigId>,
    #[cfg(unix)]
    _announced: crate::signals::Told,
}

impl Noted {
    fn begin() -> io::Result<Self> {
        let happened = Arc::new(AtomicBool::new(false));
        let mut noted = Noted {
            happened: Arc::clone(&happened),
            handlers: Vec::new(),
            #[cfg(unix)]
            _announced: announce::begin()?,
        };
        // In this order, so that the first signal still finds its flag unset.
        let ends = flag::register_conditional_shutdown(SIGINT, STATUS, Arc::clone(&happened))?;
        noted.handlers.push(ends);
        for signal in SIGNALS {
            let notes = flag::register(signal, Arc::clone(&happened))?;
            noted.handlers.push(notes);
        }
        Ok(noted)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            low_level::unregister(handler);
        }
    }
}

/// Tells a user who presses Ctrl-C what happens now: a step may take long.
#[cfg(unix)]
mod announce {
    use std::io::{self, Write};

    use signal_hook::consts::SIGINT;

    use crate::logging;
    use crate::signals::Told;

    /// Only the first signal is announced, and of several processes only the first one speaks:
    /// Ctrl-C reaches all of them, and who started them passes SIGTERM on besides.
    pub(super) fn begin() -> io::Result<Told> {
        let mut is_silent = logging::is_quiet();
        Told::begin(move |signal| {
            if !is_silent {
                // Where nobody listens there is nobody to tell.
                logging::suspend(|| drop(writeln!(io::stderr(), "\n{}", text(signal))));
            }
            is_silent = true;
        })
    }

    /// The step need not succeed: SIGTERM also comes when another process has failed.
    fn text(signal: i32) -> &'static str {
        match signal {
            SIGINT => {
                "Ctrl-C: the run saves a checkpoint after this step and stops. Press it again to \
                 end the process at once, without a checkpoint."
            }
            _ => "SIGTERM: the run stops after this step, with a checkpoint if the step succeeds.",
        }
    }
}
