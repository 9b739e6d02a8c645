//! The crate's own messages: through `log`, beside the progress bar, and never lost.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

use log::Level;

use super::suspend;

/// What the crate's messages are logged under; a few have a module of it.
const TARGET: &str = "textbrewer";

/// The variable that silences warnings which no logger takes.
const SWITCH: &str = "TEXTBREWER_WARNINGS";

/// The most different warnings that one place in the code writes to standard error.
const MOST: usize = 5;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, messages of this thread are of interest to those only who look for them.
#[derive(Debug)]
#[must_use = "messages are told again when it is dropped"]
pub(crate) struct Quiet {
    before: bool,
}

/// For a process that trains with others, of which one speaks for all: what it tells is logged at
/// level `debug`.
pub(crate) fn quiet() -> Quiet {
    Quiet {
        before: IS_QUIET.replace(true),
    }
}

/// Whether this thread's messages are told by another process.
#[cfg(unix)]
pub(crate) fn is_quiet() -> bool {
    IS_QUIET.get()
}

impl Drop for Quiet {
    fn drop(&mut self) {
        IS_QUIET.set(self.before);
    }
}

/// Warns of what goes on and is probably not meant.
///
/// It goes to the program's logger if that takes warnings of this crate, and otherwise to
/// standard error: whoever has no logger is to know too.
#[track_caller]
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    if !log(Level::Warn, TARGET, message)
        && !IS_QUIET.get()
        && is_on(std::env::var_os(SWITCH).as_deref())
        && let Some(line) = REPEATED.line(Location::caller(), message.to_string())
    {
        // An error has nowhere to go.
        suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
    }
}

/// Tells what a logger may be interested in.
pub(crate) fn info(message: fmt::Arguments<'_>) {
    log(Level::Info, TARGET, message);
}

/// Logs and says whether a logger took it. While the logger writes, no progress bar is in its way.
pub(crate) fn log(level: Level, target: &str, message: fmt::Arguments<'_>) -> bool {
    let level = match IS_QUIET.get() {
        true => level.max(Level::Debug),
        false => level,
    };
    let is_taken = log::log_enabled!(target: target, level);
    if is_taken {
        suspend(|| log::log!(target: target, level, "{message}"));
    }
    is_taken
}

fn is_on(switch: Option<&std::ffi::OsStr>) -> bool {
    switch.is_none_or(|value| value != "off" && value != "0")
}

/// What was written to standard error, by the place that it came from.
struct Repeated(Mutex<Option<Places>>);

/// Messages by file and line.
type Places = HashMap<(&'static str, u32), Vec<String>>;

static REPEATED: Repeated = Repeated(Mutex::new(None));

impl Repeated {
    /// The line to write, unless it was written before or its place has written enough.
    fn line(&self, place: &Location<'static>, message: String) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = all.get_or_insert_default();
        let written = written.entry((place.file(), place.line())).or_default();
        if written.len() == MOST || written.contains(&message) {
            return None;
        }
        let mut line = format!("textbrewer: warning: {message}");
        written.push(message);
        if written.len() == MOST {
            line.push_str(" (more of this kind are not shown without a logger)");
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::path::Path;

    #[test]
    fn a_warning_is_written_once_and_one_place_writes_five() {
        let repeated = Repeated(Mutex::new(None));
        let here = Location::caller();
        let line = |message: &str| repeated.line(here, message.to_owned());
        assert_eq!(line("a").as_deref(), Some("textbrewer: warning: a"));
        assert_eq!(line("a"), None);
        assert!(line("b").is_some() && line("c").is_some() && line("d").is_some());
        let last = line("e").unwrap();
        assert!(last.ends_with(" e (more of this kind are not shown without a logger)"));
        assert_eq!(line("f"), None);
        let elsewhere = repeated.line(elsewhere(), "f".to_owned());
        assert_eq!(elsewhere.as_deref(), Some("textbrewer: warning: f"));
    }

    fn elsewhere() -> &'static Location<'static> {
        Location::caller()
    }

    #[test]
    fn the_variable_switches_it_off() {
        assert!(is_on(None) && is_on(Some(OsStr::new("on"))));
        assert!(!is_on(Some(OsStr::new("off"))) && !is_on(Some(OsStr::new("0"))));
    }

    /// A warning of its own way would be lost without a logger, and cut by the bar with one.
    #[test]
    fn all_messages_of_the_crate_go_through_here() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension() == Some(OsStr::new("rs"))
                    && !path.parent().unwrap().ends_with("src/logging")
                {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for level in ["error", "warn", "info", "debug", "trace"] {
                        let call = format!("log::{level}!(");
                        assert!(!text.contains(&call), "{call} in {}", path.display());
                    }
                }
            }
        }
    }
}
