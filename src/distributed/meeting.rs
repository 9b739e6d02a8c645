//! How processes find each other, and who tells all of them if they do not fit together.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Rendezvous;
use super::failure::brief;
use crate::error::{Error, Result};
use crate::native::process_group::{Outcome, Store};

/// The store of a group, whose keys are those of this group alone.
#[derive(Debug)]
pub(super) struct Meeting {
    store: Store,
    prefix: String,
    /// Whether the store ends with this process.
    pub(super) serves: bool,
}

/// How many groups this process has had, by address and rank. A store that outlives a group, as
/// that of torchrun does, still has its keys.
static GROUPS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

const MEETING: &str = "meeting the other processes";

impl Meeting {
    /// Opens the store, or connects to it, and waits until all processes are there.
    pub(super) fn new(about: &Rendezvous) -> Result<Self> {
        let (host, port) = about.checked_address()?;
        let serves = about.serves_store();
        let timeout = about.store_timeout();
        let store = Store::new(host, port, serves, timeout).map_err(|error| {
            let reason = no_store((host, port), serves, timeout, &brief(&error));
            failed(about, reason)
        })?;
        let address = format!("{host}:{port}/{}", about.rank());
        let before = {
            let groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
            groups.get(&address).copied().unwrap_or_default()
        };
        let meeting = Meeting {
            store,
            prefix: format!("{}/{before}", about.prefix()),
            serves,
        };
        meeting.meet(about)?;
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        *groups.entry(address).or_default() += 1;
        Ok(meeting)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    /// Whoever finds that something is wrong says so under a key that all of them wait for; so
    /// does the last to come if nothing is.
    fn meet(&self, about: &Rendezvous) -> Result<()> {
        let lost = |error| failed(about, format!("lost process 0: {}", brief(&error)));
        let wrong = self.look_around(about).map_err(lost)?;
        if let Some(wrong) = wrong {
            let _ = self.store.set_first(&self.key(VERDICT), wrong.as_bytes());
            self.tell_all(about);
            return Err(failed(about, wrong));
        }
        let verdict = self.store.get(&self.key(VERDICT), about.store_timeout());
        let verdict = match verdict {
            Ok(verdict) => String::from_utf8_lossy(&verdict).into_owned(),
            Err(error) => {
                let late = self.missing(about).map_err(|_| lost(error))?;
                let verdict = self.store.set_first(&self.key(VERDICT), late.as_bytes());
                String::from_utf8_lossy(&verdict.map_err(lost)?).into_owned()
            }
        };
        if verdict == GOOD {
            return Ok(());
        }
        self.tell_all(about);
        Err(failed(about, verdict))
    }

    /// Says that this process is there, and returns what does not fit.
    fn look_around(&self, about: &Rendezvous) -> Outcome<Option<String>> {
        let (rank, size) = (about.rank(), about.world_size());
        for (what, own) in [
            ("processes in all", size.to_string()),
            ("for the version of this crate", VERSION.to_owned()),
        ] {
            let other = self.store.set_first(&self.key(what), own.as_bytes())?;
            let other = String::from_utf8_lossy(&other);
            if other != own {
                return Ok(Some(format!(
                    "process {rank} says {own} {what}, another one says {other}; start all of \
                     them in the same way (WORLD_SIZE)"
                )));
            }
        }
        if self.store.add(&self.key(&format!("rank/{rank}")), 1)? != 1 {
            return Ok(Some(format!(
                "there are two processes with rank {rank}; give each of the {size} a number of \
                 its own from 0 (RANK)"
            )));
        }
        if self.store.add(&self.key("came"), 1)? == size as i64 {
            self.store.set_first(&self.key(VERDICT), GOOD.as_bytes())?;
        }
        Ok(None)
    }

    fn missing(&self, about: &Rendezvous) -> Outcome<String> {
        let mut missing = Vec::new();
        for rank in 0..about.world_size() {
            if !self.store.has(&self.key(&format!("rank/{rank}")))? {
                missing.push(rank.to_string());
            }
        }
        Ok(format!(
            "of {} processes {} did not come within {} s; look whether they were started, and \
             what they say",
            about.world_size(),
            missing.join(", "),
            about.store_timeout().as_secs_f64()
        ))
    }

    /// Leaves a message for the others, unless there is one.
    pub(super) fn leave_message(&self, text: &str) {
        let _ = self.store.set_first(&self.key(FAILURE), text.as_bytes());
    }

    /// The message of another process, if there is one.
    pub(super) fn message(&self) -> Option<String> {
        let key = self.key(FAILURE);
        let there = self.store.has(&key).unwrap_or(false);
        let message = there.then(|| self.store.get(&key, SHORT).ok()).flatten()?;
        Some(String::from_utf8_lossy(&message).into_owned())
    }

    /// Where the store ends with this process, waits a little until the others have read it.
    pub(super) fn tell_all(&self, about: &Rendezvous) {
        let heard = |rank: usize| self.key(&format!("heard/{rank}"));
        let _ = self.store.set(&heard(about.rank()), b"yes");
        if !self.serves {
            return;
        }
        for rank in 0..about.world_size() {
            let came = self.store.has(&self.key(&format!("rank/{rank}")));
            if came.unwrap_or(false) && self.store.get(&heard(rank), SHORT).is_err() {
                return;
            }
        }
    }
}

const VERDICT: &str = "verdict";
const FAILURE: &str = "failure";
const GOOD: &str = "all are here";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// For what is there at once, if anybody is.
const SHORT: Duration = Duration::from_secs(5);

fn failed(about: &Rendezvous, reason: impl Into<String>) -> Error {
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
    if serves {
        return format!("the processes cannot meet at port {port}: {said}");
    }
    let after = timeout.as_secs_f64();
    format!(
        "nobody answers at {host}:{port} within {after} s; is process 0 running, and are \
         MASTER_ADDR and MASTER_PORT those of its machine? ({said})"
    )
}
