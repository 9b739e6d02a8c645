//! The store of a meeting, which is given up when it does not answer.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tch::TchError;

use crate::native::process_group::{Outcome, Store};

/// A store that is waited for so long, and no longer. c10d itself waits without an end for the answer
/// of a process that was stopped, or of a machine that is gone.
///
/// Each question is asked in a thread of its own, which is left behind where there is no answer. There
/// are few of them: at the start, and after an error.
#[derive(Debug)]
pub(super) struct PatientStore {
    store: Arc<Store>,
    /// Whether it once did not answer. It is not asked again.
    is_silent: Cell<bool>,
}

/// For what is there at once, if anybody is.
pub(super) const SHORT: Duration = Duration::from_secs(5);
/// What c10d may take longer than it is told to.
const MARGIN: Duration = Duration::from_secs(1);

impl PatientStore {
    /// Serves the store, or connects to it.
    pub(super) fn open(host: &str, port: u16, serves: bool, timeout: Duration) -> Outcome<Self> {
        let host = host.to_owned();
        let open = move || Store::new(&host, port, serves, timeout);
        let store = asked(timeout, open).unwrap_or_else(|| Err(silent()))?;
        Ok(PatientStore {
            store: Arc::new(store),
            is_silent: Cell::new(false),
        })
    }

    pub(super) fn inner(&self) -> &Store {
        &self.store
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) -> Outcome<()> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.ask(SHORT, move |store| store.set(&key, &value))
    }

    /// Sets the value unless there is one, and returns the one that is there then.
    pub(super) fn set_first(&self, key: &str, value: &[u8]) -> Outcome<Vec<u8>> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.ask(SHORT, move |store| store.set_first(&key, &value))
    }

    /// Adds to the number under this key, which is 0 before, and returns the sum.
    pub(super) fn add(&self, key: &str, number: i64) -> Outcome<i64> {
        let key = key.to_owned();
        self.ask(SHORT, move |store| store.add(&key, number))
    }

    pub(super) fn has(&self, key: &str) -> Outcome<bool> {
        let key = key.to_owned();
        self.ask(SHORT, move |store| store.has(&key))
    }

    /// Waits until there is a value.
    pub(super) fn get(&self, key: &str, timeout: Duration) -> Outcome<Vec<u8>> {
        let key = key.to_owned();
        self.ask(timeout, move |store| store.get(&key, timeout))
    }

    fn ask<T: Send + 'static>(
        &self,
        timeout: Duration,
        question: impl FnOnce(&Store) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        if self.is_silent.get() {
            return Err(silent());
        }
        let store = Arc::clone(&self.store);
        asked(timeout, move || question(&store)).unwrap_or_else(|| {
            self.is_silent.set(true);
            Err(silent())
        })
    }
}

/// The answer, unless it takes longer.
fn asked<T: Send + 'static>(
    timeout: Duration,
    question: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Option<Outcome<T>> {
    let (sender, receiver) = channel();
    let ask = move || drop(sender.send(question()));
    if let Err(error) = thread::Builder::new().spawn(ask) {
        return Some(Err(error.into()));
    }
    receiver.recv_timeout(timeout.saturating_add(MARGIN)).ok()
}

fn silent() -> TchError {
    TchError::Torch("process 0 does not answer".to_owned())
}
