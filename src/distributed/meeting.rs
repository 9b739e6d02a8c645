//! How processes find each other, and who tells all of them if they do not fit together.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::TchError;

use super::failure::brief;
use super::patient_store::{PatientStore, SHORT};
use super::{Rendezvous, error_file};
use crate::error::{Error, Result};
use crate::logging;
use crate::native::process_group::{Outcome, Store};

/// The store of a group, whose keys are those of this group alone.
#[derive(Debug)]
pub(super) struct Meeting {
    store: PatientStore,
    prefix: String,
    /// Its place in the order of arrival, from 1.
    place: i64,
    /// Whether the store ends with this process.
    pub(super) serves: bool,
}

/// How many groups this process has had, by address and rank. A store that outlives a group, as
/// that of torchrun does, still has its keys.
static GROUPS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

const MEETING: &str = "meeting the other processes";

impl Meeting {
    /// Opens the store, or connects to it, and waits until all processes are there. All are told
    /// if this process is not `able` to go on.
    pub(super) fn new(
        about: &Rendezvous,
        able: impl FnOnce() -> Result<Outcome<()>>,
    ) -> Result<Self> {
        let (meeting, address) = Self::come(about)?;
        meeting.meet(about, able()?)?;
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        *groups.entry(address).or_default() += 1;
        Ok(meeting)
    }

    /// Opens the store, or connects to it. Also returns the key in [`GROUPS`].
    fn come(about: &Rendezvous) -> Result<(Self, String)> {
        let (host, port) = about.checked_address()?;
        let serves = about.serves_store();
        let timeout = about.store_timeout();
        let store = PatientStore::open(host, port, serves, timeout).map_err(|error| {
            let reason = no_store((host, port), serves, timeout, &brief(&error));
            failed(about, reason)
        })?;
        let address = format!("{host}:{port}/{}", about.rank());
        let before = {
            let groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
            groups.get(&address).copied().unwrap_or_default()
        };
        let mut meeting = Meeting {
            store,
            prefix: format!("{}/{before}", about.prefix()),
            place: 0,
            serves,
        };
        let place = meeting.store.add(&meeting.key(CAME), 1);
        meeting.place = place.map_err(|error| lost(about, &error))?;
        Ok((meeting, address))
    }

    pub(super) fn store(&self) -> &Store {
        self.store.inner()
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    /// Whoever finds that something is wrong says so under a key that all of them wait for; so
    /// does the last to come if nothing is.
    fn meet(&self, about: &Rendezvous, able: Outcome<()>) -> Result<()> {
        let lost = |error| lost(about, &error);
        let wrong = match able {
            Ok(()) => self.look_around(about).map_err(lost)?,
            Err(error) => Some(format!(
                "process {} cannot connect: {}",
                about.rank(),
                brief(&error)
            )),
        };
        if let Some(wrong) = wrong {
            let first = self.store.set_first(&self.key(VERDICT), wrong.as_bytes());
            self.tell_all(self.expected(about));
            // One that comes when the others have gone on is alone with its error.
            let first = first.ok().filter(|first| first != GOOD.as_bytes());
            let first = first.map(|first| String::from_utf8_lossy(&first).into_owned());
            return Err(failed(about, first.unwrap_or(wrong)));
        }
        let verdict = self.verdict(about);
        let (verdict, expected) = match verdict {
            Ok(verdict) => (verdict, self.expected(about)),
            Err(error) => match self.missing(about) {
                Err(_) => return Err(lost(error)),
                // The last one has come, and is about to say so.
                Ok(None) => (self.store.get(&self.key(VERDICT), SHORT).map_err(lost)?, 0),
                Ok(Some(late)) => {
                    let verdict = self.store.set_first(&self.key(VERDICT), late.as_bytes());
                    (verdict.map_err(lost)?, 0)
                }
            },
        };
        if verdict == GOOD.as_bytes() {
            return Ok(());
        }
        self.tell_all(expected);
        Err(failed(about, String::from_utf8_lossy(&verdict)))
    }

    /// Waits for it, and says so when it takes longer than usual.
    fn verdict(&self, about: &Rendezvous) -> Outcome<Vec<u8>> {
        let (key, timeout) = (self.key(VERDICT), about.store_timeout());
        if timeout > PATIENCE {
            if let Ok(verdict) = self.store.get(&key, PATIENCE) {
                return Ok(verdict);
            }
            logging::warn(format_args!(
                "process {} of {} has waited {} s for the others, and goes on for {} s more",
                about.rank(),
                about.world_size(),
                PATIENCE.as_secs(),
                (timeout - PATIENCE).as_secs()
            ));
            return self.store.get(&key, timeout - PATIENCE);
        }
        self.store.get(&key, timeout)
    }

    /// The processes that may still come to a meeting where something is wrong.
    fn expected(&self, about: &Rendezvous) -> i64 {
        let largest = self.value(LARGEST).and_then(|text| text.parse().ok());
        largest.unwrap_or(about.world_size() as i64)
    }

    /// Says that this process is there, and returns what does not fit.
    fn look_around(&self, about: &Rendezvous) -> Outcome<Option<String>> {
        let (rank, size) = (about.rank(), about.world_size());
        if let Some(other) = self.differs("size", &size.to_string())? {
            let largest = size.max(other.parse().unwrap_or_default());
            let key = self.key(LARGEST);
            self.store.set(&key, largest.to_string().as_bytes())?;
            return Ok(Some(format!(
                "process {rank} counts {size} processes in all, another one {other}; give all of \
                 them the same number (WORLD_SIZE)"
            )));
        }
        if let Some(other) = self.differs("version", VERSION)? {
            return Ok(Some(format!(
                "process {rank} has version {VERSION} of textbrewer, another one {other}; start \
                 the same program everywhere"
            )));
        }
        if self.store.add(&self.key(&format!("rank/{rank}")), 1)? != 1 {
            return Ok(Some(format!(
                "there are two processes with rank {rank}; give each of the {size} a number of \
                 its own from 0 (RANK)"
            )));
        }
        if self.store.add(&self.key("fit"), 1)? == size as i64 {
            self.store.set_first(&self.key(VERDICT), GOOD.as_bytes())?;
        }
        Ok(None)
    }

    /// What the first process has there, if it is something else.
    fn differs(&self, what: &str, own: &str) -> Outcome<Option<String>> {
        let first = self.store.set_first(&self.key(what), own.as_bytes())?;
        let differs = first != own.as_bytes();
        Ok(differs.then(|| String::from_utf8_lossy(&first).into_owned()))
    }

    /// Names the processes that have not come, if there are any.
    fn missing(&self, about: &Rendezvous) -> Outcome<Option<String>> {
        let mut missing = Vec::new();
        // So many names are enough.
        const FEW: usize = 8;
        for rank in 0..about.world_size() {
            if missing.len() == FEW {
                missing.push("more".to_owned());
                break;
            }
            if !self.store.has(&self.key(&format!("rank/{rank}")))? {
                missing.push(rank.to_string());
            }
        }
        let which = match missing.as_slice() {
            [] => return Ok(None),
            [one] => format!("process {one}"),
            [all @ .., last] => format!("processes {} and {last}", all.join(", ")),
        };
        Ok(Some(format!(
            "{which} of {} did not come within {} s; look whether all were started, and what \
             they say",
            about.world_size(),
            about.store_timeout().as_secs_f64()
        )))
    }

    /// The text under a key, if there is one.
    fn value(&self, key: &str) -> Option<String> {
        let key = self.key(key);
        let there = self.store.has(&key).unwrap_or(false);
        let value = there.then(|| self.store.get(&key, SHORT).ok()).flatten()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Leaves a message for the others, unless there is one.
    pub(super) fn leave_message(&self, text: &str) {
        let _ = self.store.set_first(&self.key(FAILURE), text.as_bytes());
    }

    /// The message of another process, if there is one.
    pub(super) fn message(&self) -> Option<String> {
        self.value(FAILURE)
    }

    /// Says that this process knows what is wrong. Where the store ends with it, it waits a little
    /// until the others know it too: those that came, and those `expected` in all.
    pub(super) fn tell_all(&self, expected: i64) {
        let heard = |place: i64| self.key(&format!("heard/{place}"));
        let _ = self.store.set(&heard(self.place), b"yes");
        if !self.serves {
            return;
        }
        let end = Instant::now() + SHORT;
        let mut place = 1;
        let came = |known: i64| known.max(self.store.add(&self.key(CAME), 0).unwrap_or_default());
        let mut last = came(expected);
        while place <= last {
            let left = end.saturating_duration_since(Instant::now());
            // One of no time would have no end.
            if left < TICK || self.store.get(&heard(place), left).is_err() {
                return;
            }
            last = came(last);
            place += 1;
        }
    }
}

const CAME: &str = "came";
const LARGEST: &str = "largest size";

const VERDICT: &str = "verdict";
const FAILURE: &str = "failure";
const GOOD: &str = "all are here";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// After which one may want to know what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least that c10d waits for.
const TICK: Duration = Duration::from_millis(1);

/// What all processes know, so that each may tell torchrun.
fn failed(about: &Rendezvous, reason: impl Into<String>) -> Error {
    let error = error(about, reason);
    error_file::write(&error.to_string());
    error
}

fn lost(about: &Rendezvous, said: &TchError) -> Error {
    error(about, format!("lost process 0: {}", brief(said)))
}

fn error(about: &Rendezvous, reason: impl Into<String>) -> Error {
    Error::Distributed {
        rank: about.rank(),
        world_size: about.world_size(),
        operation: MEETING.to_owned(),
        reason: reason.into(),
    }
}

fn no_store((host, port): (&str, u16), serves: bool, timeout: Duration, said: &str) -> String {
    if serves && said.contains("EADDRINUSE") {
        return format!(
            "port {port} is in use on this machine; choose another MASTER_PORT, or end the \
             program that has it"
        );
    }
    if (host, port).to_socket_addrs().is_err() {
        return format!(
            "the name `{host}` is unknown on this machine; set MASTER_ADDR to the name or address \
             of the machine of process 0 ({said})"
        );
    }
    let after = timeout.as_secs_f64();
    if serves {
        return format!(
            "process 0 listens at port {port}, but not at {host}: nobody answers there within \
             {after} s; set MASTER_ADDR to the machine of process 0 ({said})"
        );
    }
    format!(
        "nobody answers at {host}:{port} within {after} s, or not as process 0 does; is that one \
         running, and are MASTER_ADDR and MASTER_PORT those of its machine? ({said})"
    )
}
