//! Ctrl-C and SIGTERM: whether anybody listens to them.
//!
//! Handlers that are taken away do not bring the system's own back. So one handler stays for good,
//! which does what the system's does for as long as nobody listens.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Both.
pub(crate) const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// All of the process that listen.
struct Registry {
    /// While it is set the signals end the process.
    nobody: Option<Arc<AtomicBool>>,
    listeners: usize,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    nobody: None,
    listeners: 0,
});

impl Registry {
    fn get() -> MutexGuard<'static, Registry> {
        REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first time with the handler that goes by it.
    fn nobody(&mut self) -> io::Result<Arc<AtomicBool>> {
        if let Some(nobody) = &self.nobody {
            return Ok(Arc::clone(nobody));
        }
        let nobody = Arc::new(AtomicBool::new(true));
        for signal in SIGNALS {
            flag::register_conditional_default(signal, Arc::clone(&nobody))?;
        }
        self.nobody = Some(Arc::clone(&nobody));
        Ok(nobody)
    }
}

/// While one exists, neither signal ends the process by itself.
#[derive(Debug)]
pub(crate) struct Listening<T> {
    /// What happens instead, until it is dropped.
    by: T,
}

impl<T> Listening<T> {
    /// Listens by what `register` makes. If that fails, it is as if nobody had asked.
    pub(crate) fn begin(register: impl FnOnce() -> io::Result<T>) -> io::Result<Self> {
        let mut registry = Registry::get();
        let nobody = registry.nobody()?;
        let by = register()?;
        registry.listeners += 1;
        nobody.store(false, Ordering::SeqCst);
        Ok(Listening { by })
    }

    pub(crate) fn by(&self) -> &T {
        &self.by
    }
}

impl<T> Drop for Listening<T> {
    /// `by` is dropped after this: no signal comes between that does nothing.
    fn drop(&mut self) {
        let mut registry = Registry::get();
        registry.listeners = registry.listeners.saturating_sub(1);
        if registry.listeners == 0
            && let Some(nobody) = &registry.nobody
        {
            nobody.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(unix)]
pub(crate) use told::Told;

#[cfg(unix)]
mod told {
    use std::io;
    use std::thread::{self, JoinHandle};

    use signal_hook::iterator::{Handle, Signals};

    use super::SIGNALS;

    /// A thread that is told of each signal: a handler may do very little itself.
    #[derive(Debug)]
    pub(crate) struct Told {
        handle: Handle,
        thread: Option<JoinHandle<()>>,
    }

    impl Told {
        pub(crate) fn begin(mut tell: impl FnMut(i32) + Send + 'static) -> io::Result<Self> {
            let mut signals = Signals::new(SIGNALS)?;
            let handle = signals.handle();
            let listen = move || {
                signals.forever().for_each(&mut tell);
                // One that came last is told too.
                signals.pending().for_each(tell);
            };
            let thread = thread::Builder::new().name("textbrewer-signals".to_owned());
            let thread = Some(thread.spawn(listen)?);
            Ok(Told { handle, thread })
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            self.handle.close();
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_not_swallowed_if_listening_fails() {
        let failed = Listening::<()>::begin(|| Err(io::Error::other("no thread")));
        assert!(failed.is_err());
        let registry = Registry::get();
        let nobody = registry.nobody.as_ref().unwrap();
        assert_eq!(nobody.load(Ordering::SeqCst), registry.listeners == 0);
    }
}
